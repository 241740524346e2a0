//! The heartbeat of the API, and whether this process' clock is right: by the store's, by the host's uptime, and by its clients.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::outcome::Outcome;
use super::time::{SharedClock, Time, WrongClock, reading};
use super::{Deadline, Service, ServiceError};
use crate::clock::Timestamp;
use crate::domain::calendar::{CalendarPolicy, Doubt};
use crate::domain::hold::{Beat, Going, HoldPolicy, Right, Vitals, skew};
use crate::store::StoreError;

/// How long the store may take to tell the time.
const ASKED: Duration = Duration::from_secs(5);

/// How often it is asked.
const ASKINGS: usize = 3;

/// How often a wrong clock is told of at most.
const REPORTED: Duration = Duration::from_secs(60);

impl Service {
    fn time(&self) -> MutexGuard<'_, Time> {
        // Whatever a panic left of it, the next look makes good.
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn calendar_policy(&self) -> CalendarPolicy {
        let HoldPolicy { longest, skew, .. } = self.policy.hold;
        CalendarPolicy { borne: skew, reclaim: self.policy.rotation_interval * 3 / 2, longest }
    }

    /// Notes in the store that this process can serve claims, unless its clock is doubted: then it could be that it refuses
    /// who has a right one.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn beat(&self) -> Result<(), ServiceError> {
        // What the store knows of our clock is to be read before it is written over.
        if self.vitals().await?.1.is_some() {
            self.time().beaten = None;
            return Ok(());
        }
        let (asked, uptime) = (self.clock.now(), self.clock.uptime());
        let (beaten, right) = {
            let time = self.time();
            (time.beaten, time.calendar.right())
        };
        let elapsed = beaten.map_or(Duration::ZERO, |beaten| uptime.saturating_sub(beaten));
        let boot = self.clock.boot().map(|boot| (boot.to_owned(), right));
        self.store.beat(&Beat { now: asked, gap: self.policy.hold.silence, elapsed, boot }).await?;
        self.time().beaten = Some(uptime);
        Ok(())
    }

    /// Learns of a request that this client has correctly signed: whether its time `agrees` with our clock, or it was refused for
    /// its time alone.
    pub fn hear(&self, client: &str, agrees: bool) {
        let (at, policy) = (reading(&*self.clock), self.calendar_policy());
        self.time().calendar.hear(client, agrees, at, &policy);
    }

    /// What time it is, as far as can be told: what is promised of a password holds by the clocks of its clients, too.
    pub(super) fn now(&self) -> Timestamp {
        let (at, policy) = (reading(&*self.clock), self.calendar_policy());
        self.time().calendar.now(at, &policy)
    }

    /// Why our clock is not to be believed, as far as we know without asking the store. It is logged, but not each time.
    pub(super) fn doubt(&self) -> Option<Doubt> {
        let (at, policy) = (reading(&*self.clock), self.calendar_policy());
        let doubt = self.time().calendar.doubt(at, &policy)?;
        self.report_clock(&doubt);
        Some(doubt)
    }

    /// At which served time the life of a namespace is over that is to expire then, as far as that is known.
    pub(super) fn matures(&self, expires: Timestamp, now: Timestamp) -> Option<Duration> {
        let lives = expires.plus(self.policy.expiration_delay).since(now);
        // By a clock that is ahead it has less time left than it has.
        let least = if self.doubt().is_some() { self.calendar_policy().reclaim } else { Duration::ZERO };
        let (served, asked) = self.time().served?;
        // It may have grown since, by no more than the time that went by.
        let grown = self.clock.uptime().saturating_sub(asked);
        Some(served.saturating_add(grown).saturating_add(lives.max(least)))
    }

    /// Learns from the store for how long programs could claim, so that the first claims can note when a namespace's life is
    /// over. A store that does not answer within `patience` holds nobody up.
    pub async fn learn_time(&self, patience: Duration) {
        if !matches!(tokio::time::timeout(patience, self.vitals()).await, Ok(Ok(_))) {
            tracing::debug!("the store did not tell the time; the next heartbeat asks again");
        }
    }

    /// What the store tells of the time, and what is wrong with our clock.
    pub(super) async fn vitals(&self) -> Result<(Vitals, Option<Doubt>), StoreError> {
        // The uptime before the answer, so that what was served meanwhile counts as grown.
        let (asked, uptime) = (self.now(), self.clock.uptime());
        let vitals = self.store.vitals(asked, self.clock.boot()).await?;
        let mut time = self.time();
        // Where there was no beat yet, nothing was served.
        time.served = Some((vitals.heartbeat.map_or(Duration::ZERO, |heartbeat| heartbeat.served), uptime));
        // What is still the same was perhaps given up here for good reason.
        if let Some(Right { ahead, told }) = vitals.right.filter(|right| time.learned != Some(right.told)) {
            time.calendar.learn(ahead);
            time.learned = Some(told);
        }
        drop(time);
        Ok((vitals, self.doubt().or_else(|| self.compare_clocks(asked, vitals.now))))
    }

    /// What is wrong with our clock, where the store answered with its time to what was `asked` then.
    fn compare_clocks(&self, asked: Timestamp, theirs: Timestamp) -> Option<Doubt> {
        let ours = self.clock.now();
        // The store read its clock somewhere between the two moments.
        let middle = (asked.millis() + ours.millis()) / 2;
        self.counts.clock((middle - theirs.millis()) as f64 / 1000.0);
        let (by, borne) = (skew([asked, ours], theirs), self.policy.hold.skew);
        let wrong = (by > borne).then_some(WrongClock { ours, theirs, by, borne })?;
        let doubt = Doubt(wrong.to_string());
        self.report_clock(&doubt);
        Some(doubt)
    }

    fn report_clock(&self, doubt: &Doubt) {
        let mut time = self.time();
        if time.reported.is_none_or(|reported| reported.elapsed() >= REPORTED) {
            time.reported = Some(Instant::now());
            tracing::error!(r#type = "monitor.clock", "{doubt}");
        }
    }

    /// What time it is by the store's clock, which all processes share. The times of tombstones are of this clock, so that no
    /// claim revives what another process is removing, however far their clocks are apart.
    pub(super) async fn shared_time(&self) -> Result<Timestamp, StoreError> {
        Ok(self.vitals().await?.0.now)
    }

    /// The store's clock, to be read often. An answer that took long says little, and is asked for again.
    pub(super) async fn shared_clock(&self) -> Result<SharedClock, ServiceError> {
        let mut tries = 0;
        loop {
            let deadline = Deadline::after(ASKED, self.clock.now(), "asking the store for the time");
            let before = self.clock.uptime();
            let at = self.shared_time().await?;
            let after = self.clock.uptime();
            tries += 1;
            match deadline.check(self.clock.now()) {
                Ok(()) => return Ok(SharedClock { at, before, after }),
                Err(error) if tries == ASKINGS => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Whether a run has to wait, by that rule, and what the store tells of the time; it is noted why. While rotation waits, nothing is
    /// finished either that another process began: the broker may not have been told yet, and telling it would overwrite a
    /// password that clients still use. The active password is handed out meanwhile. What a first claim began is finished
    /// by claims.
    pub(super) async fn is_held(
        &self,
        outcome: &mut Outcome,
        going: fn(&HoldPolicy, Vitals) -> Going,
    ) -> Result<(bool, Vitals), StoreError> {
        let (vitals, doubt) = self.vitals().await?;
        let held = match (doubt, going(&self.policy.hold, vitals)) {
            (Some(Doubt(why)), _) | (None, Going::Held(why)) => Some(why),
            (None, Going::Despite(warning)) => {
                outcome.report(&warning);
                None
            }
            (None, Going::Free) => None,
        };
        let is_held = held.is_some();
        // A later look of a run takes nothing back of what an earlier one was refused.
        outcome.held = held.or(outcome.held.take());
        Ok((is_held, vitals))
    }
}
