//! What is remembered of a queue in trouble: what was told of it, and what was done.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::history::Incarnation;
use crate::domain::verdict::Kind;

/// How far a queue has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing is wrong with it now. What was wrong lately is remembered, so that a relapse is known for one.
    Watched,
    /// Its trouble was told.
    Warned,
    /// It is being removed.
    Removing,
}

/// What became of the message that tells of a trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mail {
    /// There is nobody to send it to: it stands in the console alone.
    Nobody,
    /// It is stored, and was not accepted yet.
    Waiting,
    /// The notifier took it, then.
    Accepted(Timestamp),
}

/// The last that was told of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// When it was stored. It names the message: see [`Watch::accept`].
    pub at: Timestamp,
    /// What was said to be the matter.
    pub cause: Kind,
    /// How many messages the queue had.
    pub messages: u64,
    /// What became of it.
    pub mail: Mail,
}

/// What is remembered of a queue in trouble. The store keeps one a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Which queue of this name it is of.
    pub incarnation: Incarnation,
    /// How far it has gone.
    pub stage: Stage,
    /// Since when it is at this stage.
    pub since: Timestamp,
    /// The last that was told of the present trouble.
    pub told: Option<Told>,
    /// When it was last told of at all.
    pub last_told: Option<Timestamp>,
    /// From when on the grace time counts: when the first warning was accepted or, where nobody can be told, stored. `None`
    /// before that, and after the queue became small again.
    pub warned: Option<Timestamp>,
    /// Since when nothing is wrong with it.
    pub quiet: Option<Timestamp>,
    /// How often a trouble came back within a day. With each, a calm has to last twice as long to count as one.
    pub relapses: u32,
    /// How often something else was told of the same trouble. With each, the next has to wait for twice as long.
    pub changes: u32,
    /// How often a connection that hoards was closed.
    pub closings: u32,
    /// When that was done last.
    pub closed: Option<Timestamp>,
    /// Who hoards is kept out until somebody acts.
    pub kept_out: bool,
}

impl Watch {
    /// The record of a queue of which nothing was told.
    pub fn new(incarnation: Incarnation, now: Timestamp) -> Watch {
        Watch {
            incarnation,
            stage: Stage::Watched,
            since: now,
            told: None,
            last_told: None,
            warned: None,
            quiet: None,
            relapses: 0,
            changes: 0,
            closings: 0,
            closed: None,
            kept_out: false,
        }
    }

    /// Takes down that the notifier accepted the message that was stored at `stored`. Whether that is the last one that was
    /// told; an older one changes nothing, because the warning that it was may have been withdrawn.
    pub fn accept(&mut self, stored: Timestamp, accepted: Timestamp) -> bool {
        let Some(told) = self.told.as_mut().filter(|told| told.at == stored && told.mail == Mail::Waiting) else {
            return false;
        };
        told.mail = Mail::Accepted(accepted);
        // No message is accepted before it was stored, whatever a clock says.
        self.warned = self.warned.or(Some(accepted.max(stored)));
        true
    }

    /// Goes to another stage.
    pub(super) fn enter(&mut self, stage: Stage, now: Timestamp) {
        if self.stage != stage {
            (self.stage, self.since) = (stage, now);
        }
    }

    /// Begins anew with another queue of the same name. What was told of the old one is no warning of this one.
    pub(super) fn declared_anew(&self, incarnation: Incarnation, now: Timestamp) -> Watch {
        let Watch { last_told, relapses, changes, closings, closed, kept_out, .. } = *self;
        Watch { last_told, relapses, changes, closings, closed, kept_out, ..Watch::new(incarnation, now) }
    }

    /// Whether nothing in it is worth keeping: the last trouble is over for `memory`.
    pub(super) fn is_over(&self, memory: Duration, now: Timestamp) -> bool {
        let last = self.last_told.map_or(self.since, |told| told.max(self.since));
        self.told.is_none() && !self.kept_out && (self.last_told.is_none() || now.since(last) >= memory)
    }
}
