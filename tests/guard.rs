//! What the guard does about queues, on traces of what people report, beside what other rules do on the same.
//!
//! `UPDATE_GOLDEN=1 cargo test --test suite guard` rewrites the tables of `tests/golden/guard-traces.md` and `docs/guard.md`.

mod properties;
mod rules;
mod score;
mod table;
mod traces;
mod truth;
mod world;

use std::path::Path;

use rules::{Burrow, Ours, PulseGuardian, burrow_means};
use score::{PLAIN, Run, Variant, run};
use taskcluster_pulse::domain::verdict::Kind;

fn means(said: Kind, causes: &[Kind]) -> bool {
    causes.contains(&said)
}

fn ours(trace: &traces::Trace, variant: Variant) -> Run {
    run(trace, &mut Ours::default(), means, variant)
}

/// What went wrong in a run, in words.
fn faults(run: &Run) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(removal) = run.removal.filter(|removal| removal.wrong || !removal.warned) {
        faults.push(format!("{removal:?}"));
    }
    if run.missed {
        faults.push("it was not removed".to_owned());
    }
    faults.extend(run.late.iter().map(|trouble| format!("late: {trouble:?}")));
    faults.extend(run.surplus.iter().map(|deed| format!("surplus: {deed:?}")));
    faults
}

/// Compares with the file, or writes it where the environment says so.
fn golden(file: &str, made: impl Fn(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let made = made(&written);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &made).unwrap();
        return;
    }
    assert!(written == made, "{file}: run `UPDATE_GOLDEN=1 cargo test --test suite guard` and look at the difference");
}

#[test]
fn on_each_trace_everything_is_told_in_time_and_nothing_is_removed_but_what_deserves_it() {
    let all: Vec<_> = traces::traces()
        .into_iter()
        .map(|trace| {
            let ours = ours(&trace, PLAIN);
            let pulse_guardian = run(&trace, &mut PulseGuardian::default(), means, PLAIN);
            let burrow = run(&trace, &mut Burrow::default(), burrow_means, PLAIN);
            (trace, [ours, pulse_guardian, burrow])
        })
        .collect();
    let wrong: Vec<_> = all
        .iter()
        .map(|(trace, runs)| (trace.name, faults(&runs[0])))
        .filter(|(_, faults)| !faults.is_empty())
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");

    let tables = table::tables(&all);
    golden("tests/golden/guard-traces.md", |_| tables.clone());
    golden("docs/guard.md", |page| {
        const MARKS: [&str; 2] =
            ["<!-- The tables are written by tests/guard.rs. -->\n", "<!-- End of the tables. -->"];
        let (before, rest) = page.split_once(MARKS[0]).expect("a mark");
        let (_, after) = rest.split_once(MARKS[1]).expect("a mark");
        format!("{before}{}\n{tables}\n{}{after}", MARKS[0], MARKS[1])
    });
}

#[test]
fn chance_and_missed_looks_change_nothing_that_matters() {
    const DAY: usize = 24 * 60;
    let mut wrong = Vec::new();
    for trace in traces::traces().iter().filter(|trace| trace.minutes <= DAY / 2) {
        for (seed, even, missed) in [(2, true, 0), (3, false, 9)] {
            let run = ours(trace, Variant { seed, even, missed });
            let faults = faults(&run);
            if !faults.is_empty() {
                wrong.push(format!("{} {seed}: {faults:?} {:?}", trace.name, run.deeds));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
