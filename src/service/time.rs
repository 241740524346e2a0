//! What a process knows of the time, and what is wrong with its clock.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::{Clock, Timestamp};
use crate::domain::calendar::{Calendar, Reading};

/// A clock that is further from the store's than can be borne.
pub(super) struct WrongClock {
    pub(super) ours: Timestamp,
    pub(super) theirs: Timestamp,
    pub(super) by: Duration,
    pub(super) borne: Duration,
}

impl fmt::Display for WrongClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WrongClock { ours, theirs, by, borne } = self;
        write!(
            f,
            "this host's clock shows {ours} and the database's {theirs}: they are {by:?} apart or more, where {borne:?} are \
             borne; set the wrong one right"
        )
    }
}

/// What a process knows of the time.
pub(super) struct Time {
    pub(super) calendar: Calendar,
    /// The served time when the store was last asked, and the uptime then.
    pub(super) served: Option<(Duration, Duration)>,
    /// When that was told which the store last told of this host's calendar.
    pub(super) learned: Option<Timestamp>,
    /// The uptime at its last beat; `None` where it had no heartbeat since.
    pub(super) beaten: Option<Duration>,
    /// When it was last logged that its clock is wrong.
    pub(super) reported: Option<Instant>,
}

impl Time {
    /// Of a process that has just begun.
    pub(super) fn new(clock: &dyn Clock) -> Mutex<Time> {
        let calendar = Calendar::new(reading(clock));
        Mutex::new(Time { calendar, served: None, learned: None, beaten: None, reported: None })
    }
}

/// The store's clock, which all processes share, as it was read once. It goes on with this host's uptime: however far
/// calendars are apart, what one process notes is neither early nor late for another.
pub(super) struct SharedClock {
    /// What the store told.
    pub(super) at: Timestamp,
    /// The uptime before it was asked.
    pub(super) before: Duration,
    /// The uptime when its answer was there.
    pub(super) after: Duration,
}

impl SharedClock {
    /// What time it is at the earliest.
    pub(super) fn earliest(&self, uptime: Duration) -> Timestamp {
        self.at.plus(uptime.saturating_sub(self.after))
    }

    /// What time it is at the latest.
    pub(super) fn latest(&self, uptime: Duration) -> Timestamp {
        self.at.plus(uptime.saturating_sub(self.before))
    }
}

/// What this host's clocks show.
pub(super) fn reading(clock: &dyn Clock) -> Reading {
    Reading { now: clock.now(), uptime: clock.uptime() }
}
