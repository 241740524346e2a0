//! Who is kept from logging in to a namespace on demand: what its record holds of that.

use std::time::Duration;

use crate::clock::Timestamp;

/// What a namespace's record holds of revocations and of being disabled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Barred {
    /// Set while nobody may claim it.
    pub disabled: Option<Box<Disabled>>,
    /// The last revocation of its credentials.
    pub revoked: Option<Revoked>,
    /// Until when a process that read an earlier version of the record may give its users the passwords from there. It is noted
    /// before such a process begins, unless that is the one that stored the password.
    pub writing_until: Option<Timestamp>,
}

/// Why nobody may claim a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disabled {
    /// Since when.
    pub since: Timestamp,
    /// Who disabled it, as the audit trail has it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A revocation: whoever logged in before is cut off, and no earlier credentials log in any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// From when on nobody puts an earlier password in force any more. New credentials are handed out from then on, and connections from
    /// before are closed whenever they are seen.
    pub from: Timestamp,
    /// Whether RabbitMQ was seen to refuse the earlier credentials, and their connections were closed.
    pub done: bool,
}

/// What is noted for later than this was noted by a clock that was ahead, and does not count.
const LONGEST: Duration = Duration::from_secs(3600);

impl Barred {
    /// From when on no process puts a password in force that it read of the record before `now`.
    pub fn quiet_from(&self, now: Timestamp) -> Timestamp {
        self.writing_until.filter(|until| *until <= now.plus(LONGEST)).map_or(now, |until| until.max(now))
    }

    /// Until when no password is put in force; `None` where that is past.
    pub fn shut_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.revoked.map(|revoked| revoked.from).filter(|from| *from > now && *from <= now.plus(LONGEST))
    }

    /// The same, noting that somebody gives its users what it has read until `until`.
    pub fn with_writer(&self, until: Timestamp) -> Barred {
        Barred { writing_until: Some(self.quiet_from(until)), ..self.clone() }
    }

    /// Whether a revocation is stored that RabbitMQ does not show yet.
    pub fn is_pending(&self) -> bool {
        self.revoked.is_some_and(|revoked| !revoked.done)
    }
}
