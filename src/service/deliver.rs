//! Delivering: what has to be told, taken from the store, with retries. A notice is removed once it is delivered, so a
//! process that dies in between delivers it again rather than never.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};

use super::outcome::{Outcome, Step};
use super::{Deadline, Service, ServiceError};
use crate::domain::notice::Notice;
use crate::notify::{Notifier, NotifyError};

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
const PATIENCE: Duration = Duration::from_secs(7 * 86_400);

impl Service {
    /// Delivers what is due. A dry run delivers nothing: it would have to take the notices to see them.
    ///
    /// # Errors
    /// Those of the store, and [`ServiceError::TooSlow`] after a stand-still; what was not delivered then is due again later.
    /// A delivery that fails is counted and tried again later.
    pub async fn deliver(&self, notifier: &dyn Notifier, dry_run: bool) -> Result<Outcome, ServiceError> {
        let started = Instant::now();
        let mut outcome = Outcome::of("deliver-notices");
        outcome.plan = dry_run.then(Vec::new);
        let mut paced = 0;
        for _ in 0..if dry_run { 0 } else { ROUNDS } {
            let now = self.clock.now();
            let deadline = Deadline::after(TAKEN / 3, now, "a delivery");
            let taken = self.store.take_notices(now, now.plus(TAKEN), BATCH).await?;
            if taken.is_empty() {
                break;
            }
            outcome.seen += taken.len();
            // After a failure nothing more is sent, but what was sent is noted as well as can be, lest it be sent again.
            let failed = OnceLock::new();
            let mut delivered = stream::iter(taken)
                .map(async |notice| {
                    let stood_still = deadline.check(self.clock.now()).map_err(|error| failed.set(error)).is_err();
                    if stood_still || failed.get().is_some() {
                        return None;
                    }
                    let late = |_| NotifyError::Temporary(format!("not done within {LONGEST_DELIVERY:?}"));
                    let delivered = tokio::time::timeout(LONGEST_DELIVERY, notifier.deliver(&notice)).await;
                    Some((notice, delivered.map_err(late).flatten()))
                })
                .buffer_unordered(AT_ONCE);
            while let Some(ended) = delivered.next().await {
                let Some((notice, delivered)) = ended else { continue };
                paced += usize::from(matches!(delivered, Err(NotifyError::TooMany(_))));
                if let Err(error) = self.settle_delivery(&notice, delivered.map(drop), &mut outcome).await {
                    let _ = failed.set(error);
                }
            }
            drop(delivered);
            if let Some(error) = failed.into_inner() {
                return Err(error);
            }
        }
        if paced > 0 {
            outcome.report(&format!("{paced} messages wait, because too many went to their addresses lately"));
        }
        outcome.took = started.elapsed();
        Ok(outcome)
    }

    async fn settle_delivery(
        &self,
        notice: &Notice,
        delivered: Result<(), NotifyError>,
        outcome: &mut Outcome,
    ) -> Result<(), ServiceError> {
        let object = format!("{} about {}", notice.id, notice.namespace);
        let step = Step { action: "deliver", object, reason: notice.subject.clone() };
        let now = self.clock.now();
        match delivered {
            Ok(()) => outcome.done(&step),
            // However long that goes on, it is neither lost nor a failure.
            Err(NotifyError::TooMany(wait)) => {
                return Ok(self.store.postpone_notice(&notice.id, now.plus(wait)).await?);
            }
            Err(NotifyError::Temporary(why)) if now.since(notice.created) < PATIENCE => {
                outcome.fail(&step, &why);
                let wait = FIRST_WAIT.saturating_mul(1 << notice.attempts.saturating_sub(1).min(20)).min(LONGEST_WAIT);
                // Some of the attempts may have been no more than looks whether its address has room.
                let wait = wait.min(FIRST_WAIT.max(now.since(notice.created)));
                return Ok(self.store.postpone_notice(&notice.id, now.plus(wait)).await?);
            }
            Err(error) => {
                // It can't be told, so it is told here.
                outcome.fail(&step, &error);
                tracing::error!(r#type = "notice", subject = notice.subject, "not delivered:\n{}", notice.text);
            }
        }
        Ok(self.store.remove_notice(&notice.id).await?)
    }
}
