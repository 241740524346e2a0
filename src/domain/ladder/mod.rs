//! What is done about a queue in trouble, rung by rung: remember, tell, tell again, close the connection that hoards, remove;
//! and back to normal.
//!
//! Nobody is told twice of one trouble. A trouble that comes and goes is one: each time it comes back, a calm has to last
//! twice as long to end it. A queue is removed only by all of these: it was above the limit in each of several looks over a
//! time; it does not lose messages; a warning of this very incarnation was accepted at least the grace time ago; and nobody
//! exempted it.

mod outlook;
mod rules;
mod telling;
mod watch;

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::forecast::Forecast;
use crate::domain::history::History;
use crate::domain::verdict::{Kind, Verdict};

pub use outlook::{Outlook, outlook};
pub use rules::{ladder, still_deserved};
pub use watch::{Mail, Stage, Told, Watch};

/// How many messages are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// A queue with more is warned of, whatever the reason, unless it drains.
    pub alert: u64,
    /// A queue with more may be removed.
    pub delete: u64,
    /// A queue whose consumers hold more without acknowledging them is warned of.
    pub unacked_alert: u64,
    /// With more, the connection that holds them may be closed.
    pub unacked_limit: u64,
}

impl Thresholds {
    /// From so many messages on, a trouble that has a cause is told: a quarter of the alert threshold.
    pub fn trouble(&self) -> u64 {
        self.alert / 4
    }
}

/// A queue that may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exemption {
    /// Up to so many messages; `None` without a bound.
    pub up_to: Option<u64>,
    /// Until then; `None` without an end.
    pub until: Option<Timestamp>,
}

impl Exemption {
    /// Whether it holds now for a queue of so many messages.
    pub fn holds(&self, messages: u64, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until) && self.up_to.is_none_or(|most| messages <= most)
    }
}

/// What the guard may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Nothing: what it would do is shown.
    Observe,
    /// Send messages; what more it would do is shown.
    Warn,
    /// Close connections, and empty queues.
    Purge,
    /// Close connections, and delete queues.
    Delete,
}

/// How the guard decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What it may do.
    pub measure: Measure,
    /// How long after an accepted warning a queue may be removed.
    pub grace: Duration,
    /// The same while the broker is in memory or disk alarm, where that is shorter.
    pub alarm_grace: Duration,
    /// How often a trouble that lasts is told.
    pub reminder: Duration,
    /// How long before a queue is foretold to be above the limit it is warned of, at the latest.
    pub lead: Duration,
    /// A removal takes so many looks above the limit.
    pub looks: usize,
    /// And they are this long apart, the first from the last.
    pub over: Duration,
    /// How far looks are apart. An older one is not fresh.
    pub interval: Duration,
    /// Looks that are further apart don't follow each other. One may be missed.
    pub gap: Duration,
    /// A warning that is older than this is told once more before a queue is removed.
    pub stale: Duration,
    /// How long a trouble has to be gone to be over. See [`Watch::relapses`].
    pub calm: Duration,
    /// The same for a queue that was merely large: sizes swing.
    pub calm_size: Duration,
    /// For how long a trouble that is over is remembered.
    pub memory: Duration,
    /// How long after a connection that hoards was closed the next one is; twice as long after each.
    pub closing_pause: Duration,
    /// After so many, who hoards is kept out.
    pub closings: u32,
}

impl Policy {
    /// The policy for looks at intervals of `interval`, with the times that need no setting.
    pub fn new(
        measure: Measure,
        grace: Duration,
        alarm_grace: Duration,
        reminder: Duration,
        interval: Duration,
    ) -> Policy {
        const MINUTE: Duration = Duration::from_secs(60);
        Policy {
            measure,
            grace,
            alarm_grace,
            reminder,
            lead: grace * 2,
            looks: 3,
            over: 10 * MINUTE,
            interval,
            gap: interval * 5 / 2,
            stale: 360 * MINUTE,
            calm: 10 * MINUTE,
            calm_size: 60 * MINUTE,
            memory: 24 * 60 * MINUTE,
            closing_pause: 10 * MINUTE,
            closings: 3,
        }
    }

    /// How long after an accepted warning a queue may be removed.
    pub fn grace(&self, alarm: bool) -> Duration {
        if alarm { self.grace.min(self.alarm_grace) } else { self.grace }
    }

    /// `first`, doubled so often, but a day at most.
    fn doubled(&self, first: Duration, times: u32) -> Duration {
        first.saturating_mul(2u32.saturating_pow(times)).min(self.memory)
    }
}

/// A queue, and all that is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// What was seen of it.
    pub history: &'a History,
    /// What that says.
    pub verdict: &'a Verdict,
    /// How long a trouble has to last until it is judged; [`Criteria::settle`](crate::domain::verdict::Criteria::settle).
    pub settle: Duration,
    /// After so long without a look, what came before does not count.
    pub silence: Duration,
    /// How many messages are too many.
    pub thresholds: Thresholds,
    /// Whether it may grow.
    pub exemption: Option<Exemption>,
    /// What is remembered of it.
    pub watch: Option<&'a Watch>,
    /// Whether the broker is in memory or disk alarm.
    pub alarm: bool,
    /// Whether its owner can be told.
    pub can_be_told: bool,
    /// Whether its owner wants no reminders.
    pub muted: bool,
}

/// Why a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// A trouble began.
    Warning,
    /// It has another cause now.
    Change,
    /// It lasts.
    Reminder,
    /// The queue will be removed soon, and what was told of it is long ago.
    LastCall,
    /// It is over.
    Normal,
}

/// A message to send.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Telling {
    /// Why.
    pub topic: Topic,
    /// What is the matter; [`Kind::Fine`] where the queue is merely large.
    pub cause: Kind,
    /// When it reaches the limit at this pace.
    pub forecast: Option<Forecast>,
    /// When it may be removed at the earliest, as far as that is known.
    pub removal: Option<Timestamp>,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Act {
    /// Nothing.
    Nothing,
    /// Store a message to its owner, with the record; where nobody can be told, the record alone.
    Tell(Telling),
    /// Find the connection that holds the most unacknowledged messages, and close it. Never all of a user.
    CloseHoarder,
    /// Close it, and let its user open none until its owner or an administrator acts.
    KeepOut,
    /// Delete the messages, but not the queue.
    Purge,
    /// Delete the queue.
    Delete,
}

/// Why a queue above the limit is not removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It is exempted.
    Exempt,
    /// It was not above the limit for long enough, or there was a gap between looks.
    TooFewLooks,
    /// It loses messages.
    Draining,
    /// The connection that hoards is closed instead.
    Hoarder,
    /// No warning of it was accepted.
    NotWarned,
    /// Its owner has time until then.
    Until(Timestamp),
    /// The guard may not.
    NotAllowed,
}

/// What to do about a queue, and what to remember of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What to do.
    pub act: Act,
    /// It is shown only: the guard may not do it. It comes once.
    pub shown_only: bool,
    /// What to remember; `None` is nothing.
    pub watch: Option<Watch>,
    /// Why the queue is not removed, where it is above the limit.
    pub held: Option<Held>,
    /// Of several queues to remove, the one with the most comes first.
    pub urgency: u64,
}

#[cfg(test)]
mod tests;
