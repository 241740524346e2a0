//! What came of the claims, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use taskcluster_pulse::clock::Timestamp;

use super::caller::Caller;
use super::phases::Phase;
use crate::report::table;

/// What a claim is answered.
#[derive(Clone)]
pub struct Answer {
    pub connection_string: String,
    pub reclaim_at: Timestamp,
}

/// One claim, with the attempts that followed where the first was in vain.
pub struct Claim {
    /// The phase in which it began.
    pub phase: usize,
    /// Who made it.
    pub caller: Caller,
    /// When it began, counted from the beginning of the run.
    pub at: Duration,
    /// Whether it was made because of a `reclaimAt`.
    pub is_due: bool,
    /// How long the first attempt took.
    pub took: Duration,
    /// Why the first attempt was in vain.
    pub refused: Option<String>,
    /// Whether there was certainly no database from its beginning to its end.
    pub remembered: bool,
    /// What it was answered at last.
    pub answer: Option<Answer>,
    /// Whether that logged in each time that it was tried; `None` where it could not be tried in time.
    pub works: Option<bool>,
}

/// What came of a run.
pub struct Tally {
    pub phases: &'static [Phase],
    pub minutes: u32,
    pub freeze: bool,
    pub rotation: Duration,
    /// The machine's load average before and after.
    pub load: [f64; 2],
    pub claims: Vec<Claim>,
}

/// Claims of one kind, counted.
struct Row {
    phase: &'static str,
    caller: Caller,
    claims: usize,
    due: usize,
    at_once: usize,
    answered: usize,
    remembered: usize,
    worked: usize,
    failed: usize,
    unknown: usize,
    /// The shares of claims that got a working credential, at the first attempt and at last. Those of which it is not
    /// known are left out.
    share_at_once: f64,
    share: f64,
    /// Seconds until the slowest answer to a first attempt, and until the slowest refusal.
    slowest_answer: f64,
    slowest_refusal: f64,
}

impl Row {
    fn of(phase: &'static str, caller: Caller, claims: &[&Claim]) -> Row {
        let count = |of: &dyn Fn(&Claim) -> bool| claims.iter().filter(|claim| of(claim)).count();
        let slowest = |refused: bool| {
            let took = claims.iter().filter(|claim| claim.refused.is_some() == refused).map(|claim| claim.took);
            took.max().unwrap_or_default().as_secs_f64()
        };
        let is_unknown = |claim: &Claim| claim.answer.is_some() && claim.works.is_none();
        let works = |claim: &Claim| claim.works == Some(true);
        let unknown = count(&is_unknown);
        // A claim that was answered at last, with what could not be tried, was in vain at first all the same.
        let unknown_at_once = count(&|claim| is_unknown(claim) && claim.refused.is_none());
        let share = |good: usize, unknown: usize| good as f64 / (claims.len() - unknown) as f64;
        Row {
            phase,
            caller,
            claims: claims.len(),
            due: count(&|claim| claim.is_due),
            at_once: count(&|claim| claim.refused.is_none()),
            answered: count(&|claim| claim.answer.is_some()),
            remembered: count(&|claim| claim.remembered),
            worked: count(&works),
            failed: count(&|claim| claim.works == Some(false)),
            unknown,
            share_at_once: share(count(&|claim| works(claim) && claim.refused.is_none()), unknown_at_once),
            share: share(count(&works), unknown),
            slowest_answer: slowest(false),
            slowest_refusal: slowest(true),
        }
    }

    fn cells(&self) -> Vec<String> {
        let caller = format!("{:?}", self.caller).to_lowercase();
        let counts = [self.claims, self.due, self.at_once, self.answered, self.remembered];
        let logins = [self.worked, self.failed, self.unknown];
        let share = |share: f64| if share.is_finite() { format!("{:.2} %", share * 100.0) } else { "-".to_owned() };
        let mut cells = vec![self.phase.to_owned(), caller];
        cells.extend(counts.into_iter().chain(logins).map(|count| count.to_string()));
        cells.extend([self.share_at_once, self.share].map(share));
        cells.extend([self.slowest_answer, self.slowest_refusal].map(|seconds| format!("{seconds:.2}")));
        cells
    }

    fn to_json(&self) -> Value {
        json!({
            "phase": self.phase, "caller": format!("{:?}", self.caller).to_lowercase(), "claims": self.claims,
            "atReclaimAt": self.due, "answeredAtOnce": self.at_once, "answered": self.answered,
            "fromMemory": self.remembered, "worked": self.worked, "failed": self.failed, "unknown": self.unknown,
            "shareAtOnce": self.share_at_once, "share": self.share,
            "slowestAnswer": self.slowest_answer, "slowestRefusal": self.slowest_refusal,
        })
    }
}

/// Why first attempts were in vain, or what was answered did not work.
struct Failure<'a> {
    phase: &'static str,
    caller: Caller,
    why: &'a str,
    count: usize,
    first: Duration,
    last: Duration,
}

const HEADINGS: [&str; 14] = [
    "phase",
    "clients",
    "claims",
    "at reclaimAt",
    "answered at once",
    "with retries",
    "from memory",
    "worked",
    "failed",
    "unknown",
    "good at once",
    "with retries",
    "slowest s",
    "refusal s",
];

impl Tally {
    /// A row for each phase and kind of client, and those of the whole run.
    fn rows(&self) -> Vec<Row> {
        let row = |name, phase: Option<usize>, caller| {
            let is_meant = |claim: &&Claim| claim.caller == caller && phase.is_none_or(|phase| phase == claim.phase);
            Row::of(name, caller, &self.claims.iter().filter(is_meant).collect::<Vec<_>>())
        };
        let phases = self.phases.iter().enumerate().map(|(number, (name, ..))| (*name, Some(number)));
        let all = phases.chain([("in all", None)]);
        all.flat_map(|(name, phase)| Caller::BOTH.map(|caller| row(name, phase, caller))).collect()
    }

    fn failures(&self) -> Vec<Failure<'_>> {
        let mut found: BTreeMap<_, Failure<'_>> = BTreeMap::new();
        for claim in &self.claims {
            let failed = (claim.works == Some(false)).then_some("what was answered did not log in");
            for why in claim.refused.as_deref().into_iter().chain(failed) {
                let failure = found.entry((claim.phase, claim.caller, why)).or_insert(Failure {
                    phase: self.phases[claim.phase].0,
                    caller: claim.caller,
                    why,
                    count: 0,
                    first: claim.at,
                    last: claim.at,
                });
                failure.count += 1;
                failure.first = failure.first.min(claim.at);
                failure.last = failure.last.max(claim.at);
            }
        }
        found.into_values().collect()
    }

    /// `{minutes, freeze, rotationMinutes, loadAverage: [before, after], rows, failures}`. Times are in seconds, shares from
    /// 0 to 1, and null where nothing was claimed.
    pub fn to_json(&self) -> Value {
        let failure = |failure: &Failure<'_>| {
            json!({
                "phase": failure.phase, "caller": format!("{:?}", failure.caller).to_lowercase(), "why": failure.why,
                "count": failure.count, "first": failure.first.as_secs_f64(), "last": failure.last.as_secs_f64(),
            })
        };
        json!({
            "minutes": self.minutes, "freeze": self.freeze, "rotationMinutes": self.rotation.as_secs() / 60,
            "loadAverage": self.load, "rows": self.rows().iter().map(Row::to_json).collect::<Value>(),
            "failures": self.failures().iter().map(failure).collect::<Value>(),
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headings = HEADINGS.map(str::to_owned).to_vec();
        let rows: Vec<_> = std::iter::once(headings).chain(self.rows().iter().map(Row::cells)).collect();
        f.write_str(&table(&rows, &[0, 1]))?;
        for Failure { phase, caller, why, count, first, last } in self.failures() {
            let caller = format!("{caller:?}").to_lowercase();
            writeln!(f, "{phase}, {caller}: {count} times from {first:.0?} to {last:.0?}: {why}")?;
        }
        let [before, after] = self.load;
        let how = if self.freeze { "frozen" } else { "killed" };
        let rotation = self.rotation.as_secs() / 60;
        write!(
            f,
            "{} minutes, {how}, rotation every {rotation} minutes, load average {before} to {after}",
            self.minutes
        )
    }
}
