//! The rules that are run on the traces: ours, PulseGuardian's, and Burrow's.

use std::collections::VecDeque;
use std::time::Duration;

use taskcluster_pulse::clock::Timestamp;
use taskcluster_pulse::domain::history::{History, Look};
use taskcluster_pulse::domain::ladder::{
    Act, Exemption, Mail, Measure, Policy, Situation, Thresholds, Topic, Watch, ladder, still_deserved,
};
use taskcluster_pulse::domain::recipients::Recipients;
use taskcluster_pulse::domain::verdict::{Criteria, Evidence, Kind, verdict};

use super::truth::{ALERT, DELETE};
use super::world::World;

pub const GRACE: Duration = Duration::from_secs(900);
pub const ALARM_GRACE: Duration = Duration::from_secs(300);
pub const THRESHOLDS: Thresholds =
    Thresholds { alert: ALERT, delete: DELETE, unacked_alert: 1000, unacked_limit: 4000 };

pub fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

pub fn policy() -> Policy {
    Policy::new(Measure::Delete, GRACE, ALARM_GRACE, minutes(24 * 60), minutes(2))
}

/// What a rule did.
#[derive(Debug, Clone, PartialEq)]
pub enum Deed {
    /// It sent a message: why, and what it said to be the matter, if it did.
    Told(Topic, Option<Kind>),
    /// It took down a message that nobody can get.
    Noted(Topic, Option<Kind>),
    /// It closed the connection of who hoards.
    Closed { kept_out: bool },
    /// It removed the queue.
    Removed,
}

/// A rule that guards the queue of a world.
pub trait Rule {
    /// Looks, and decides.
    fn look(&mut self, world: &mut World, exemption: Option<Exemption>) -> Vec<Deed>;
    /// The messages that are accepted now.
    fn deliver(&mut self, world: &World) -> Vec<Deed>;
    /// What it thinks of the queue.
    fn opinion(&self) -> Option<(Kind, Evidence)> {
        None
    }
}

/// Ours.
#[derive(Default)]
pub struct Ours {
    /// As it is stored.
    history: Option<Vec<u8>>,
    watch: Option<Watch>,
    outbox: VecDeque<(Timestamp, Deed)>,
    recipients: Recipients,
    opinion: Option<(Kind, Evidence)>,
}

const OWNER: &str = "owner@example.com";

impl Rule for Ours {
    fn look(&mut self, world: &mut World, exemption: Option<Exemption>) -> Vec<Deed> {
        let now = world.now();
        let Some(look) = world.look() else {
            // What is not in the list is asked for.
            if !world.exists {
                (self.history, self.watch) = (None, None);
            }
            return Vec::new();
        };
        let stored = self.history.as_deref().map(|bytes| History::from_bytes(bytes).expect("what was stored"));
        let history = match stored {
            None if look.total == 0 => return Vec::new(),
            None => History::begin(look, world.fingerprint),
            Some(mut history) => {
                history.add(look, world.fingerprint);
                history
            }
        };
        let criteria = Criteria::new(ALERT, THRESHOLDS.unacked_alert, minutes(2));
        let verdict = verdict(&history, &criteria).unwrap();
        self.opinion = Some((verdict.kind, verdict.evidence));
        let situation = Situation {
            history: &history,
            verdict: &verdict,
            settle: criteria.settle,
            silence: criteria.silence,
            thresholds: THRESHOLDS,
            exemption,
            watch: self.watch.as_ref(),
            alarm: world.alarm,
            can_be_told: world.can_be_told && self.recipients.refused(OWNER, now).is_none(),
            muted: false,
        };
        let step = ladder(&situation, now, &policy());
        let told = |watch: Option<&Watch>| watch.and_then(|watch| watch.told);
        let (before, after) = (told(self.watch.as_ref()), told(step.watch.as_ref()));
        // Its contact went while the message was under way.
        let stays = before.zip(after).filter(|(before, after)| {
            before.at == after.at && before.mail == Mail::Waiting && after.mail == Mail::Nobody
        });
        let mut deeds: Vec<_> =
            stays.map(|(_, told)| Deed::Noted(Topic::Warning, Some(told.cause))).into_iter().collect();
        self.watch = step.watch;
        let dropped = self.watch.is_none() && history.may_be_dropped(now);
        self.history = (!dropped).then(|| history.to_bytes());
        match step.act {
            Act::Nothing => {}
            Act::Tell(telling) => match after.map(|told| told.mail) {
                Some(Mail::Nobody) => deeds.push(Deed::Noted(telling.topic, Some(telling.cause))),
                _ => self.outbox.push_back((now, Deed::Told(telling.topic, Some(telling.cause)))),
            },
            Act::CloseHoarder | Act::KeepOut => {
                let kept_out = step.act == Act::KeepOut;
                world.close_hoarder(kept_out);
                deeds.push(Deed::Closed { kept_out });
            }
            Act::Purge | Act::Delete => {
                let fresh = Look { total: world.total(), ..look };
                let deserved = still_deserved(&fresh, THRESHOLDS, exemption, now);
                deeds.extend(deserved.then_some(Deed::Removed));
            }
        }
        deeds
    }

    fn deliver(&mut self, world: &World) -> Vec<Deed> {
        if !world.mail_up || self.outbox.is_empty() {
            return Vec::new();
        }
        if world.refuses {
            self.outbox.clear();
            self.recipients.refusals.insert(OWNER.to_owned(), world.now());
            return Vec::new();
        }
        self.recipients.refusals.clear();
        let accepted = self.outbox.drain(..).map(|(stored, deed)| {
            if let Some(watch) = &mut self.watch {
                watch.accept(stored, world.now());
            }
            deed
        });
        accepted.collect()
    }

    fn opinion(&self) -> Option<(Kind, Evidence)> {
        self.opinion
    }
}

/// PulseGuardian's: a message above one size at one look, and the end above another one.
#[derive(Default)]
pub struct PulseGuardian {
    warned: bool,
    outbox: Vec<Deed>,
}

impl Rule for PulseGuardian {
    fn look(&mut self, world: &mut World, _: Option<Exemption>) -> Vec<Deed> {
        let Some(look) = world.look() else { return Vec::new() };
        if look.total > DELETE {
            return vec![Deed::Removed];
        }
        if look.total > ALERT && !self.warned {
            self.warned = true;
            self.outbox.push(Deed::Told(Topic::Warning, None));
        } else if look.total <= ALERT && self.warned {
            self.warned = false;
            self.outbox.push(Deed::Told(Topic::Normal, None));
        }
        Vec::new()
    }

    fn deliver(&mut self, world: &World) -> Vec<Deed> {
        if world.mail_up && world.can_be_told && !world.refuses { std::mem::take(&mut self.outbox) } else { Vec::new() }
    }
}

/// Burrow's, as it is written: an acknowledgement is a commit, and consumers commit at each look, as Kafka's do. It removes
/// nothing. A message is sent when the status changes.
#[derive(Default)]
pub struct Burrow {
    /// When, up to where, and how much was left.
    commits: VecDeque<(Timestamp, u64, u64)>,
    /// The lags of the latest looks.
    lags: VecDeque<u64>,
    status: Option<Kind>,
    outbox: Vec<Deed>,
}

impl Burrow {
    const INTERVALS: usize = 10;

    fn judge(&self, now: Timestamp) -> Option<Kind> {
        let (Some(first), Some(last)) = (self.commits.front(), self.commits.back()) else { return None };
        if self.commits.len() < Burrow::INTERVALS || self.lags.back() == Some(&0) {
            return None;
        }
        let commits: Vec<_> = self.commits.iter().collect();
        let caught_up = self.lags.contains(&0);
        if !caught_up && now.since(last.0) > last.0.since(first.0) {
            return Some(Kind::Stopped);
        }
        let rewound = commits.windows(2).position(|two| two[1].1 < two[0].1);
        if rewound.is_some_and(|at| commits[at + 1..].iter().all(|later| later.1 < commits[at].1)) {
            return Some(Kind::Looping);
        }
        if commits.iter().any(|commit| commit.2 == 0) {
            return None;
        }
        if first.1 == last.1 {
            return Some(Kind::Stalled);
        }
        commits.windows(2).all(|two| two[1].2 >= two[0].2).then_some(Kind::Slow)
    }
}

impl Rule for Burrow {
    fn look(&mut self, world: &mut World, _: Option<Exemption>) -> Vec<Deed> {
        let Some(look) = world.look() else { return Vec::new() };
        if !world.groups.is_empty() && world.statistics {
            self.commits.push_back((look.at, world.counters.acknowledged, look.total));
        }
        self.lags.push_back(look.total);
        let ring = |len: usize| len > Burrow::INTERVALS;
        if ring(self.commits.len()) {
            self.commits.pop_front();
        }
        if ring(self.lags.len()) {
            self.lags.pop_front();
        }
        let status = self.judge(look.at);
        if status != self.status {
            let topic = if status.is_some() { Topic::Warning } else { Topic::Normal };
            self.outbox.push(Deed::Told(topic, status));
            self.status = status;
        }
        Vec::new()
    }

    fn deliver(&mut self, world: &World) -> Vec<Deed> {
        if world.mail_up && world.can_be_told && !world.refuses { std::mem::take(&mut self.outbox) } else { Vec::new() }
    }
}

/// Whether what Burrow says is the matter is one of these. It has one word for all who stopped.
pub fn burrow_means(said: Kind, causes: &[Kind]) -> bool {
    let stopped = [Kind::NoConsumer, Kind::Stopped, Kind::Stalled, Kind::Hoarding];
    match said {
        Kind::Stopped | Kind::Stalled => causes.iter().any(|cause| stopped.contains(cause)),
        said => causes.contains(&said),
    }
}
