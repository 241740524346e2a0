//! Random schedules of the real service: several processes claim, rotate, sweep, expire and deliver at once, on a store and
//! a broker in memory, while calls fail before or after they take effect, processes crash or stand still between any two
//! calls, clocks are apart, the rotation interval is changed, and the broker loses everything. After each step, what the
//! service promises is checked.
//!
//! `PULSE_TEST_SCHEDULES` is how many schedules are run, `PULSE_TEST_SEED` which one is the first. A schedule that fails
//! prints its seed and what happened in it; with that seed it happens again.

#[path = "schedules/gate.rs"]
mod gate;
#[path = "schedules/outside.rs"]
mod outside;
#[path = "schedules/schedule.rs"]
mod schedule;

use schedule::Schedule;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn every_promise_is_kept_under_random_schedules() {
    // Time-outs can be made only within a runtime; none of them ends here.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let _within = runtime.enter();
    let first = number("PULSE_TEST_SEED", rand::random::<u32>().into());
    let last = first + number("PULSE_TEST_SCHEDULES", 3000);
    for seed in first..last {
        let mut schedule = Schedule::new(seed);
        if let Err(fault) = schedule.run() {
            panic!("{}\nPULSE_TEST_SEED={seed}: {fault}", schedule.trace.join("\n"));
        }
    }
}
