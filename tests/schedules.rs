//! Random schedules of the real service: several processes claim, rotate, sweep, expire and deliver at once, on a store and
//! a broker in memory, while calls fail, hang or lie, processes crash or stand still between any two calls, clocks are
//! apart and are set, the rotation interval is changed, and the broker loses everything. After each step, what the service
//! promises is checked.
//!
//! `PULSE_TEST_SCHEDULES` is how many schedules are run, `PULSE_TEST_SEED` which one is the first. One that fails is shrunk
//! and printed; put into a file in `schedules/replays`, it is run with every test from then on. `script/soak` runs millions.
//!
//! Each planted fault has to be found by the schedule that is kept for it in `schedules/planted`, or else by a search.
//! `PULSE_TEST_SEARCHES` is how often each is searched for whatever is kept, `PULSE_TEST_PLANT` the only one that is, and with
//! `PULSE_TEST_KEEP` what a search finds is kept.

#[path = "schedules/checks.rs"]
mod checks;
#[path = "schedules/choose.rs"]
mod choose;
#[path = "schedules/cuts.rs"]
mod cuts;
#[path = "schedules/gate.rs"]
mod gate;
#[path = "schedules/meddling.rs"]
mod meddling;
#[path = "schedules/outside.rs"]
mod outside;
#[path = "schedules/planted.rs"]
mod planted;
#[path = "schedules/schedule.rs"]
mod schedule;
#[path = "schedules/shrink.rs"]
mod shrink;
#[path = "schedules/state.rs"]
mod state;
#[path = "schedules/step.rs"]
mod step;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use planted::Plant;
use schedule::Schedule;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// Runs the schedule of a seed; one that fails comes back shrunk, as a replay and as what happens in it.
fn run(seed: u64, plant: Option<Plant>) -> Result<(), String> {
    let (failed, ran) = choose::run(seed, plant);
    let Err(fault) = ran else { return Ok(()) };
    let (steps, shrunk) = shrink::shrink(&failed.setup, &failed.steps, plant);
    let mut again = Schedule::new(failed.setup.clone(), plant);
    again.trace = Some(Vec::new());
    // It is known to fail; what counts is the trace.
    let _ = again.replay(&steps);
    let (replay, trace) = (step::write(&failed.setup, &steps), again.trace.unwrap_or_default().join("\n"));
    Err(format!("{trace}\n\n{replay}\nPULSE_TEST_SEED={seed}: {fault}\nshrunk: {shrunk}"))
}

#[test]
fn every_promise_is_kept_under_random_schedules() {
    let first = number("PULSE_TEST_SEED", rand::random::<u32>().into());
    for seed in first..first + number("PULSE_TEST_SCHEDULES", 1000) {
        if let Err(fault) = run(seed, None) {
            panic!("{fault}");
        }
    }
}

#[test]
fn every_replay_is_kept() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schedules/replays");
    let mut broken = Vec::new();
    for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        let (setup, steps) = step::read(&std::fs::read_to_string(&file).unwrap());
        if let Some(fault) = shrink::fault(&setup, &steps, None) {
            broken.push(format!("{}: {fault}", file.file_name().unwrap().display()));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// How many schedules a planted fault may take. Most take a hundred, some ten thousand.
const MOST: u64 = 100_000;

/// How many schedules it takes to find a planted fault, the one that fails included; and what is found, as a replay too.
fn search(plant: Plant, first: u64) -> (u64, String, String) {
    let find = |n| {
        let (failed, ran) = choose::run(first + n, Some(plant));
        // What fails without it is another fault.
        let fault = ran.err().and_then(|_| shrink::fault_of(&failed.setup, &failed.steps, Some(plant)))?;
        Some((n + 1, fault, failed))
    };
    let found = (0..MOST).find_map(find);
    let (count, fault, failed) =
        found.unwrap_or_else(|| panic!("{plant:?} was not found in {MOST} schedules from PULSE_TEST_SEED={first} on"));
    (count, fault, step::write(&failed.setup, &failed.steps))
}

/// The schedule that is kept for a planted fault: it fails with the fault, and with it alone.
fn kept(plant: Plant) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schedules/planted")).join(format!("{plant:?}.jsonl"))
}

/// What the schedule that is kept for a planted fault finds, if it still does.
fn found_by_kept(plant: Plant) -> Option<String> {
    let (setup, steps) = step::read(&std::fs::read_to_string(kept(plant)).ok()?);
    shrink::fault_of(&setup, &steps, Some(plant))
}

/// Searches for a planted fault, and keeps the schedule that finds it where that is wanted.
fn find(plant: Plant, first: u64, searches: u64) {
    let mut found: Vec<_> = (0..searches).map(|n| search(plant, first + n * MOST)).collect();
    found.sort();
    let (median, fault, replay) = &found[found.len() / 2];
    println!("{plant:?}: found in {median} schedules: {fault}");
    if std::env::var_os("PULSE_TEST_KEEP").is_some() {
        let (setup, steps) = step::read(replay);
        let (steps, _) = shrink::shrink(&setup, &steps, Some(plant));
        std::fs::write(kept(plant), step::write(&setup, &steps)).unwrap();
    }
}

#[test]
fn each_planted_fault_is_found() {
    let first = number("PULSE_TEST_SEED", rand::random::<u32>().into());
    let only = std::env::var("PULSE_TEST_PLANT").ok();
    let searches = number("PULSE_TEST_SEARCHES", 0);
    let wanted = |plant: &Plant| only.as_ref().is_none_or(|only| format!("{plant:?}") == *only);
    let plants = Mutex::new(Plant::ALL.into_iter().filter(wanted));
    let find_all = || {
        while let Some(plant) = { plants.lock().unwrap().next() } {
            match (searches == 0).then(|| found_by_kept(plant)).flatten() {
                Some(fault) => println!("{plant:?}: found by the schedule that is kept for it: {fault}"),
                None => find(plant, first, searches.max(1)),
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(find_all))));
}
