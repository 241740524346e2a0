//! Delivering: what has to be told, taken from the store, with retries. A notice is removed once it is delivered, so a
//! process that dies in between delivers it again rather than never. One that nobody got is kept for a while, with why.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};

use super::counts::Delivery;
use super::outcome::{Outcome, Step};
use super::time::SharedClock;
use super::{Deadline, Service, ServiceError};
use crate::clock::Timestamp;
use crate::domain::notice::{Notice, Undelivered};
use crate::domain::recipients::REFUSED_FOR;
use crate::notify::{Notifier, NotifyError, digest};
use crate::store::{Accepted, Keep};

/// How many notices are taken at once.
const BATCH: u32 = 50;

/// How many batches one run takes at most.
const ROUNDS: usize = 100;

/// How many deliveries are under way at once.
const AT_ONCE: usize = 4;

/// How long one delivery may take; what takes longer has failed. A way to deliver that gives up by itself knows why.
const LONGEST_DELIVERY: Duration = Duration::from_secs(65);

/// How long the process that took a notice has it to itself. It begins no delivery after the first third of that, which is
/// longer than a batch takes: a process that stood still sends nothing that another one has sent meanwhile, even if that
/// one's clock is ahead.
const TAKEN: Duration = Duration::from_secs(45 * 60);

const _: () = assert!(LONGEST_DELIVERY.as_secs() * (BATCH as u64).div_ceil(AT_ONCE as u64) < TAKEN.as_secs() / 3);

/// After the first failure a notice waits this long, then twice as long each time, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(6 * 3600);

/// How long delivery is tried.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(7 * 86_400);

/// How long, and how many of each namespace, notices that nobody got are kept.
const UNDELIVERED_KEPT: Duration = Duration::from_secs(90 * 86_400);
const UNDELIVERED_MOST: u32 = 20;

/// The longest reason that is stored with a notice that nobody got, in code points.
const LONGEST_WHY: usize = 1000;

impl Service {
    /// At most `limit` of the notices that nobody got, the last one that was given up first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn undelivered(&self, limit: u32) -> Result<Vec<Undelivered>, ServiceError> {
        self.memory.check_store()?;
        Ok(self.store.undelivered(limit).await?)
    }

    /// Delivers what is due. Of many notices to one address, one mail tells. A dry run delivers nothing: it would have to take the
    /// notices to see them.
    ///
    /// # Errors
    /// Those of the store, and [`ServiceError::TooSlow`] after a stand-still; what was not delivered then is due again later.
    /// A delivery that fails is counted and tried again later.
    pub async fn deliver(&self, notifier: &dyn Notifier, dry_run: bool) -> Result<Outcome, ServiceError> {
        let started = Instant::now();
        let mut outcome = Outcome::of("deliver-notices");
        outcome.plan = dry_run.then(Vec::new);
        let mut run = Run { paced: 0, given_up: GivenUp::default(), outcome };
        for _ in 0..if dry_run { 0 } else { ROUNDS } {
            // The time of grace counts from what is noted here, by the clock that sweeps go by, too.
            let clock = self.shared_clock().await?;
            let now = self.now();
            let deadline = Deadline::after(TAKEN / 3, self.clock.now(), "a delivery");
            let taken = self.take_together(now).await?;
            if taken.is_empty() {
                break;
            }
            run.outcome.seen += taken.iter().map(Vec::len).sum::<usize>();
            self.send(taken, notifier, deadline, &clock, &mut run).await?;
        }
        let Run { paced, given_up, mut outcome } = run;
        if let GivenUp { count, first: Some(first) } = given_up {
            outcome.report(&format!("{count} messages were given up, and nobody got them; the first: {first}"));
        }
        if paced > 0 {
            outcome.report(&format!("{paced} messages wait, because too many went to their addresses lately"));
        }
        outcome.took = started.elapsed();
        Ok(outcome)
    }

    /// Takes what is due: the notices of each list are sent as one. Where an address has many, as many more of its are taken as
    /// one mail can tell of. That makes no more mails of them than there were notices before.
    async fn take_together(&self, now: Timestamp) -> Result<Vec<Vec<Notice>>, ServiceError> {
        let retry = now.plus(TAKEN);
        let mut addresses: BTreeMap<String, Vec<Notice>> = BTreeMap::new();
        for notice in self.store.take_notices(now, retry, BATCH).await? {
            addresses.entry(notice.to.clone()).or_default().push(notice);
        }
        for (address, notices) in &mut addresses {
            let count = notices.iter().filter(|notice| notice.brief.is_some()).count();
            if count >= digest::FEWEST {
                let room = u32::try_from(digest::MOST.saturating_sub(count)).unwrap_or(0);
                notices.extend(self.store.take_notices_to(address, now, retry, room).await?);
            }
        }
        Ok(addresses.into_values().flat_map(digest::together).collect())
    }

    async fn send(
        &self,
        taken: Vec<Vec<Notice>>,
        notifier: &dyn Notifier,
        deadline: Deadline,
        clock: &SharedClock,
        run: &mut Run,
    ) -> Result<(), ServiceError> {
        // After a failure nothing more is sent, but what was sent is noted as well as can be, lest it be sent again.
        let failed = OnceLock::new();
        let mut delivered = stream::iter(taken)
            .map(async |notices| {
                let stood_still = deadline.check(self.clock.now()).map_err(|error| failed.set(error)).is_err();
                if stood_still || failed.get().is_some() {
                    return None;
                }
                let late = |_| NotifyError::Temporary(format!("not done within {LONGEST_DELIVERY:?}"));
                let message = match notices.as_slice() {
                    [notice] => notice.clone(),
                    many => digest::digest(many)?,
                };
                let delivered = tokio::time::timeout(LONGEST_DELIVERY, notifier.deliver(&message)).await;
                Some((notices, delivered.map_err(late).flatten()))
            })
            .buffer_unordered(AT_ONCE);
        while let Some(ended) = delivered.next().await {
            let Some((notices, delivered)) = ended else { continue };
            if let Err(error) = self.settle_delivery(&notices, delivered, clock.latest(self.clock.uptime()), run).await
            {
                let _ = failed.set(error);
            }
        }
        drop(delivered);
        failed.into_inner().map_or(Ok(()), Err)
    }

    /// Notes what became, at `at` by the clock that sweeps go by, of the notices that were sent as one, of each the same.
    async fn settle_delivery(
        &self,
        notices: &[Notice],
        delivered: Result<(), NotifyError>,
        at: Timestamp,
        run: &mut Run,
    ) -> Result<(), ServiceError> {
        let now = self.now();
        let Some(address) = notices.first().map(|notice| notice.to.as_str()) else { return Ok(()) };
        let ids = |notices: &[&Notice]| notices.iter().map(|notice| notice.id.clone()).collect::<Vec<_>>();
        let all: Vec<&Notice> = notices.iter().collect();
        match delivered {
            Ok(()) => {
                notices.iter().for_each(|notice| run.outcome.done(&step(notice)));
                self.counts.delivered(Delivery::Accepted, notices.len());
                // From now on those that are warnings count as such.
                let accepted: Vec<_> = notices.iter().map(Accepted::from).collect();
                self.store.accept_notices(address, &accepted, at).await?;
            }
            // However long that goes on, it is neither lost nor a failure.
            Err(NotifyError::TooMany(wait)) => {
                run.paced += notices.len();
                self.counts.delivered(Delivery::Paced, notices.len());
                self.store.postpone_notices(&ids(&all), now.plus(wait)).await?;
            }
            Err(NotifyError::Temporary(why)) => {
                // By a calendar that is ahead, nothing is given up.
                let doubt = self.doubt().is_some();
                let (kept, old): (Vec<_>, Vec<_>) =
                    all.into_iter().partition(|notice| doubt || now.since(notice.created) < GIVEN_UP_AFTER);
                kept.iter().for_each(|notice| run.outcome.fail(&step(notice), &why));
                self.counts.delivered(Delivery::Failed, kept.len());
                // They stay together: the youngest has the shortest time to wait.
                if let Some(wait) = kept.iter().map(|notice| wait(notice, now)).min() {
                    self.store.postpone_notices(&ids(&kept), now.plus(wait)).await?;
                }
                self.give_up(&old, &NotifyError::Temporary(why), now, run).await?;
            }
            Err(error @ NotifyError::Permanent(_)) => {
                // First, so that whoever dies in between has not lost why nobody can be told.
                self.store.note_refusal(address, at, at.minus(REFUSED_FOR)).await?;
                self.give_up(&all, &error, now, run).await?;
            }
        }
        Ok(())
    }

    /// Puts notices among those that nobody got.
    async fn give_up(
        &self,
        notices: &[&Notice],
        error: &NotifyError,
        now: Timestamp,
        run: &mut Run,
    ) -> Result<(), ServiceError> {
        let why: String = error.to_string().chars().take(LONGEST_WHY).collect();
        for notice in notices {
            // It can't be told, so it is told here.
            let Notice { id, namespace, to, subject, text, .. } = notice;
            run.outcome.fail(&step(notice), error);
            self.counts.delivered(Delivery::GivenUp, 1);
            tracing::error!(r#type = "notice", %id, %namespace, %to, subject, "not delivered, and given up:\n{text}");
            run.given_up.add(|| format!("`{subject}` to {to} about {namespace}: {why}"));
            let keep = Keep { since: now.minus(UNDELIVERED_KEPT), most: UNDELIVERED_MOST };
            self.store.give_up_notice(id, now, &why, keep).await?;
        }
        Ok(())
    }
}

fn step(notice: &Notice) -> Step {
    let object = format!("{} about {}", notice.id, notice.namespace);
    Step { action: "deliver", object, reason: notice.subject.clone() }
}

/// How long a notice waits after a delivery that failed.
fn wait(notice: &Notice, now: Timestamp) -> Duration {
    let wait = FIRST_WAIT.saturating_mul(1 << notice.attempts.saturating_sub(1).min(20)).min(LONGEST_WAIT);
    // Some of the attempts may have been no more than looks whether its address has room.
    wait.min(FIRST_WAIT.max(now.since(notice.created)))
}

/// A run, as far as it has come.
struct Run {
    /// How many notices wait because of their address's pace.
    paced: usize,
    given_up: GivenUp,
    outcome: Outcome,
}

/// The notices that a run has given up.
#[derive(Default)]
struct GivenUp {
    count: usize,
    /// What became of the first of them.
    first: Option<String>,
}

impl GivenUp {
    fn add(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        self.first.get_or_insert_with(what);
    }
}
