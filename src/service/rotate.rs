//! Rotating: every namespace whose switch is due gets its next password.
//!
//! Any number of processes may rotate at once. The one that stores a pending password first has the namespace to itself
//! until the settle budget is over; after that, whoever comes by finishes with the same password.

use std::time::Instant;

use futures::{StreamExt, stream};

use super::outcome::{Outcome, Step};
use super::{IN_FLIGHT, Service, ServiceError};
use crate::broker::BrokerError;
use crate::clock::Timestamp;
use crate::domain::hold::HoldPolicy;
use crate::domain::namespace::Namespace;
use crate::domain::rotation::Pending;
use crate::secret::Password;
use crate::store::{Change, Record, Select, Write};

/// How many namespaces are read, begun and promoted at once.
const BATCH: u32 = 500;

/// How many batches one run takes at most; what is left is due in the next run still.
const ROUNDS: usize = 1000;

impl Service {
    /// Rotates what is due, unless that has to wait: see [`hold`](crate::domain::hold). A dry run only says what is due, and
    /// whether it would wait.
    ///
    /// # Errors
    /// Those of the store. What fails at the broker is counted and tried again in the next run.
    pub async fn rotate(&self, dry_run: bool) -> Result<Outcome, ServiceError> {
        let started = Instant::now();
        let mut outcome = Outcome::of("rotate-namespaces");
        if dry_run {
            let due = self.due(self.clock.now(), u32::MAX).await?;
            outcome.seen = due.len();
            outcome.plan = Some(due.iter().map(step).collect());
            self.is_held(&mut outcome, HoldPolicy::rotating).await?;
        } else {
            for _ in 0..ROUNDS {
                if !self.rotate_batch(&mut outcome).await? {
                    break;
                }
            }
        }
        outcome.took = started.elapsed();
        Ok(outcome)
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Namespace>, ServiceError> {
        let abandoned = now.minus(self.policy.settle_budget);
        Ok(self.store.namespaces(Select::Due { now, abandoned, limit }).await?)
    }

    /// Takes one batch through all three steps. `false` where there was none, where it has to wait, or where the broker did
    /// nothing for any, so that going on would only begin what can't be finished.
    async fn rotate_batch(&self, outcome: &mut Outcome) -> Result<bool, ServiceError> {
        let now = self.clock.now();
        let deadline = self.deadline(now, "a rotation");
        if self.is_held(outcome, HoldPolicy::rotating).await?.0 {
            return Ok(false);
        }
        let due = self.due(now, BATCH).await?;
        if due.is_empty() {
            return Ok(false);
        }
        outcome.seen += due.len();
        let taken_over: Vec<bool> = due.iter().map(|namespace| namespace.rotation.pending.is_some()).collect();
        let begun = self.replace_all(due.into_iter().map(|namespace| begin(namespace, now)).collect()).await?;
        let begun = begun.into_iter().zip(taken_over);
        let told: Vec<_> = stream::iter(begun.filter_map(|(begun, taken_over)| Some((begun.ok()?, taken_over))))
            .map(|(namespace, taken_over)| async move {
                let told = self.tell_broker(&namespace, taken_over, deadline).await;
                (namespace, told)
            })
            .buffer_unordered(IN_FLIGHT)
            .collect()
            .await;
        let mut broker_is_up = false;
        let mut ready = Vec::new();
        for (namespace, told) in told {
            match told {
                Ok(()) => {
                    broker_is_up = true;
                    ready.push(namespace);
                }
                Err(error) => {
                    broker_is_up |= matches!(error, ServiceError::Broker(BrokerError::Refused(_)));
                    outcome.fail(&step(&namespace), &error);
                }
            }
        }
        self.promote_all(ready, outcome).await?;
        Ok(broker_is_up)
    }

    /// Promotes in one write; those whose record a claim wrote meanwhile, one by one.
    async fn promote_all(&self, ready: Vec<Namespace>, outcome: &mut Outcome) -> Result<(), ServiceError> {
        let now = self.clock.now();
        let every = self.policy.rotation_interval;
        let promoted =
            ready.iter().map(|n| Namespace { rotation: n.rotation.settle(now, every), ..n.clone() }).collect();
        let written = self.replace_all(promoted).await?;
        for (namespace, written) in ready.into_iter().zip(written) {
            let step = step(&namespace);
            let settled = match written {
                Ok(_) => Ok(true),
                Err(Lost) => self.promote(namespace).await.map(|promoted| promoted.is_some()),
            };
            match settled {
                Ok(true) => outcome.done(&step),
                Ok(false) => {}
                Err(error) => outcome.fail(&step, &error),
            }
        }
        Ok(())
    }

    /// Writes all records, each over the version that it carries, and gives them back as they are stored.
    async fn replace_all(&self, namespaces: Vec<Namespace>) -> Result<Vec<Result<Namespace, Lost>>, ServiceError> {
        let change =
            |namespace: &Namespace| Change { record: Record::Namespace(namespace.clone()), notices: Vec::new() };
        let written = self.store.write(&namespaces.iter().map(change).collect::<Vec<_>>()).await?;
        let as_stored = |(namespace, write): (Namespace, Write)| match write {
            Write::Done => Ok(Namespace { version: namespace.version.next(), ..namespace }),
            Write::Lost => Err(Lost),
        };
        Ok(namespaces.into_iter().zip(written).map(as_stored).collect())
    }
}

/// Another process wrote first.
struct Lost;

/// Chooses the next password; or takes over one that another process left pending, and says so, so that no third process
/// takes it over too.
fn begin(namespace: Namespace, now: Timestamp) -> Namespace {
    let mut rotation = namespace.rotation.begin(Password::random(), now);
    rotation.pending = rotation.pending.map(|pending| Pending { since: now, ..pending });
    Namespace { rotation, ..namespace }
}

fn step(namespace: &Namespace) -> Step {
    let due = namespace.rotation.due;
    Step { action: "rotate", object: namespace.name.to_string(), reason: format!("its password is due since {due}") }
}
