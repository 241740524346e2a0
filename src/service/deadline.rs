//! A stretch of work that must be over before what it read is too old.

use std::time::Duration;

use tokio::time::Instant;

use super::error::ServiceError;
use crate::clock::Timestamp;

/// A stretch of work that must not act on what it read once that is too old. It counts by the monotonic clock, which
/// nobody sets back, and by the calendar, which goes on while the machine is suspended; whichever is over first counts.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    pub(super) on: Timestamp,
    pub(super) work: &'static str,
}

impl Deadline {
    /// Begins `budget` before its end; to be made before what the work acts on is read.
    pub(super) fn after(budget: Duration, now: Timestamp, work: &'static str) -> Deadline {
        Deadline { at: Instant::now() + budget, on: now.plus(budget), work }
    }

    /// Fails once the time is over; to be asked before each step that can't be taken back.
    pub(super) fn check(self, now: Timestamp) -> Result<(), ServiceError> {
        if Instant::now() < self.at && now < self.on { Ok(()) } else { Err(ServiceError::TooSlow(self.work)) }
    }
}
