//! The heartbeat of the API, and how far this process' clock is from the store's.

use std::fmt;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use super::outcome::Outcome;
use super::{Service, ServiceError};
use crate::clock::Timestamp;
use crate::domain::hold::{Going, HoldPolicy, Vitals, skew};
use crate::store::StoreError;

/// How often a wrong clock is told of at most.
const REPORTED: Duration = Duration::from_secs(60);

/// A clock that is further from the store's than can be borne.
pub(super) struct WrongClock {
    ours: Timestamp,
    theirs: Timestamp,
    by: Duration,
    borne: Duration,
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

impl Service {
    /// Notes in the store that this process can serve claims.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn beat(&self) -> Result<(), ServiceError> {
        let asked = self.clock.now();
        let theirs = self.store.beat(asked, self.policy.hold.silence).await?;
        self.compare_clocks(asked, theirs);
        Ok(())
    }

    /// What the store tells of the time, and what is wrong with our clock.
    pub(super) async fn vitals(&self) -> Result<(Vitals, Option<WrongClock>), StoreError> {
        let asked = self.clock.now();
        let vitals = self.store.vitals(asked).await?;
        Ok((vitals, self.compare_clocks(asked, vitals.now)))
    }

    /// What is wrong with our clock, where the store answered with its time to what was `asked` then. It is logged, but not
    /// each time.
    fn compare_clocks(&self, asked: Timestamp, theirs: Timestamp) -> Option<WrongClock> {
        let ours = self.clock.now();
        let (by, borne) = (skew([asked, ours], theirs), self.policy.hold.skew);
        let wrong = (by > borne).then_some(WrongClock { ours, theirs, by, borne })?;
        let mut reported = self.clock_reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.is_none_or(|reported| reported.elapsed() >= REPORTED) {
            *reported = Some(Instant::now());
            tracing::error!(r#type = "monitor.clock", "{wrong}");
        }
        Some(wrong)
    }

    /// What time it is by the store's clock, which all processes share. The times of tombstones are of this clock, so that no
    /// claim revives what another process is removing, however far their clocks are apart.
    pub(super) async fn shared_time(&self) -> Result<Timestamp, StoreError> {
        Ok(self.vitals().await?.0.now)
    }

    /// Whether a run has to wait, by that rule, and the time by the store's clock; it is noted why. While rotation waits, nothing is
    /// finished either that another process began: the broker may not have been told yet, and telling it would overwrite a
    /// password that clients still use. The active password is handed out meanwhile. What a first claim began is finished
    /// by claims.
    pub(super) async fn is_held(
        &self,
        outcome: &mut Outcome,
        going: fn(&HoldPolicy, Vitals) -> Going,
    ) -> Result<(bool, Timestamp), StoreError> {
        let (vitals, wrong_clock) = self.vitals().await?;
        outcome.held = match (wrong_clock, going(&self.policy.hold, vitals)) {
            (Some(wrong), _) => Some(wrong.to_string()),
            (None, Going::Held(why)) => Some(why),
            (None, Going::Despite(warning)) => {
                outcome.report(&warning);
                None
            }
            (None, Going::Free) => None,
        };
        Ok((outcome.held.is_some(), vitals.now))
    }
}
