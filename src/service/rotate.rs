//! Rotating: give each namespace whose switch is due its next password.
//!
//! Any number of processes may rotate at once. The one that stores a pending password first has the namespace to itself
//! until the settle budget is over. After that, any process finishes with the same password.

use std::time::Instant;

use futures::{StreamExt, stream};
use tokio::sync::watch;

use super::outcome::{Outcome, Step};
use super::records::Lost;
use super::{Deadline, IN_FLIGHT, Service, ServiceError};
use crate::broker::BrokerError;
use crate::clock::Timestamp;
use crate::domain::hold::HoldPolicy;
use crate::domain::namespace::Namespace;
use crate::domain::rotation::Pending;
use crate::secret::Password;
use crate::store::Select;

/// How many namespaces we read, begin and promote at once.
const BATCH: u32 = 250;

/// How many batches one run takes at most. What is left is still due in the next run.
const ROUNDS: usize = 2000;

impl Service {
    /// Rotates the namespaces that are due, unless rotation has to wait: see [`hold`](crate::domain::hold). A dry run
    /// only says what is due, and whether it would wait.
    ///
    /// # Errors
    /// Those of the store. If a call to the broker fails, the run counts it, and the next run retries.
    pub async fn rotate(&self, dry_run: bool) -> Result<Outcome, ServiceError> {
        let started = Instant::now();
        let mut outcome = Outcome::of("rotate-namespaces");
        if dry_run {
            let due = self.due(self.clock.now(), u32::MAX).await?;
            outcome.seen = due.len();
            outcome.plan = Some(due.iter().map(step).collect());
            self.is_held(&mut outcome, HoldPolicy::rotating).await?;
        } else {
            self.rotate_all(&mut outcome).await?;
        }
        outcome.took = started.elapsed();
        Ok(outcome)
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Namespace>, ServiceError> {
        let abandoned = now.minus(self.policy.settle_budget);
        Ok(self.store.namespaces(Select::Due { now, abandoned, limit }).await?)
    }

    /// Rotates what is due, batch by batch: while the broker is told of one, the next is begun and the one before is promoted, so
    /// that it never waits for the store. No next one is begun before a call to the broker worked: that would only begin what
    /// can't be finished.
    async fn rotate_all(&self, outcome: &mut Outcome) -> Result<(), ServiceError> {
        let mut next = self.begin_batch(outcome).await?;
        let mut told = Vec::new();
        for _ in 0..ROUNDS {
            let Some(batch) = next.take() else { break };
            let (works, worked) = watch::channel(false);
            let (tell, begin) = (self.tell_all(batch, works), async {
                let mut worked = worked;
                let works = worked.wait_for(|worked| *worked).await.is_ok();
                if works { self.begin_batch(outcome).await } else { Ok(None) }
            });
            let (promoted, now_told, begun) = tokio::join!(self.promote_all(std::mem::take(&mut told)), tell, begin);
            note_promoted(promoted?, outcome);
            told = self.note_told(now_told, outcome).await;
            match begun {
                Ok(begun) => next = begun,
                Err(error) => {
                    note_promoted(self.promote_all(told).await?, outcome);
                    return Err(error);
                }
            }
        }
        note_promoted(self.promote_all(told).await?, outcome);
        Ok(())
    }

    /// Stores the next passwords of those that are due; `None` where nothing is, or rotation has to wait.
    async fn begin_batch(&self, outcome: &mut Outcome) -> Result<Option<Batch>, ServiceError> {
        let now = self.clock.now();
        let deadline = self.deadline(now, "a rotation");
        let (held, vitals) = self.is_held(outcome, HoldPolicy::rotating).await?;
        if held {
            return Ok(None);
        }
        let due = self.due(now, BATCH).await?;
        if due.is_empty() {
            return Ok(None);
        }
        outcome.seen += due.len();
        let (asked, due): (Vec<_>, Vec<_>) = due.into_iter().partition(Namespace::is_on_demand);
        self.give_up_asked(asked).await?;
        // By the clock that all processes share.
        let until = vitals.now.plus(self.policy.settle_budget);
        let before = due.iter().map(|namespace| {
            let sole = namespace.barred.writing_until.is_none_or(|until| until <= vitals.now);
            (namespace.rotation.pending.is_some(), sole)
        });
        let before: Vec<(bool, bool)> = before.collect();
        let begun = self.replace_all(due.into_iter().map(|namespace| begin(namespace, now, until)).collect()).await?;
        let begun = begun
            .into_iter()
            .zip(before)
            .filter_map(|(begun, (taken_over, sole))| Some(Begun { namespace: begun.ok()?, taken_over, sole }));
        Ok(Some(Batch { begun: begun.collect(), deadline }))
    }

    /// Tells the broker of the passwords of a batch, and `works` as soon as it shows that it is up.
    async fn tell_all(&self, batch: Batch, works: watch::Sender<bool>) -> Vec<(Begun, Result<(), ServiceError>)> {
        let (Batch { begun, deadline }, works) = (batch, &works);
        let told = stream::iter(begun).map(|begun| async move {
            let told = self.tell_broker(&begun.namespace, begun.taken_over, deadline).await;
            if told.as_ref().map_or_else(shows_that_it_is_up, |()| true) {
                works.send_if_modified(|worked| !std::mem::replace(worked, true));
            }
            (begun, told)
        });
        told.buffer_unordered(IN_FLIGHT).collect().await
    }

    /// Those that the broker was told of, once what went wrong with the others is noted.
    async fn note_told(&self, told: Vec<(Begun, Result<(), ServiceError>)>, outcome: &mut Outcome) -> Vec<Namespace> {
        let mut ready = Vec::new();
        for (Begun { namespace, sole, .. }, told) in told {
            let Err(error) = told else {
                ready.push(namespace);
                continue;
            };
            if matches!(error, ServiceError::ForeignUser { .. }) {
                outcome.report(&error.to_string());
                if let Err(error) = self.refuse(&namespace, sole, &error).await {
                    outcome.report(&error.to_string());
                }
            }
            self.counts.rotated(false);
            outcome.fail(&step(&namespace), &error);
        }
        ready
    }

    /// Forgets passwords of accounts that a process died with before it put them in force: nobody was shown them, and whoever
    /// asked asks again. So the ones that people have stay good.
    async fn give_up_asked(&self, asked: Vec<Namespace>) -> Result<(), ServiceError> {
        if !asked.is_empty() {
            let given_up = |found: Namespace| Namespace { rotation: found.rotation.without_pending(), ..found };
            self.replace_all(asked.into_iter().map(given_up).collect()).await?;
        }
        Ok(())
    }

    /// Promotes all in one write. If a claim wrote a record meanwhile, promotes that one alone. What became of each.
    async fn promote_all(&self, told: Vec<Namespace>) -> Result<Vec<(Step, Result<bool, ServiceError>)>, ServiceError> {
        if told.is_empty() {
            return Ok(Vec::new());
        }
        // The time after the broker answered; see `promote`.
        let (now, every) = (self.now(), self.policy.rotation_interval);
        let promoted = told.iter().map(|n| Namespace { rotation: n.settled(now, every), ..n.clone() }).collect();
        let written = self.replace_all(promoted).await?;
        let mut settled = Vec::with_capacity(told.len());
        for (namespace, written) in told.into_iter().zip(written) {
            let step = step(&namespace);
            let promoted = match written {
                Ok(_) => Ok(true),
                Err(Lost) => self.promote(namespace).await.map(|promoted| promoted.is_some()),
            };
            match &promoted {
                Ok(true) => self.counts.rotated(true),
                Ok(false) => {}
                Err(_) => self.counts.rotated(false),
            }
            settled.push((step, promoted));
        }
        Ok(settled)
    }
}

/// Some namespaces that are rotated together.
struct Batch {
    begun: Vec<Begun>,
    /// How long what was read of them may be acted on.
    deadline: Deadline,
}

/// One whose next password is stored.
struct Begun {
    namespace: Namespace,
    /// Whether another process began it.
    taken_over: bool,
    /// Whether nobody else may be giving its users passwords.
    sole: bool,
}

fn note_promoted(promoted: Vec<(Step, Result<bool, ServiceError>)>, outcome: &mut Outcome) {
    for (step, promoted) in promoted {
        match promoted {
            Ok(true) => outcome.done(&step),
            Ok(false) => {}
            Err(error) => outcome.fail(&step, &error),
        }
    }
}

/// Whether the broker did answer, though not as we wished.
fn shows_that_it_is_up(error: &ServiceError) -> bool {
    matches!(error, ServiceError::ForeignUser { .. } | ServiceError::Broker(BrokerError::Refused(_)))
}

/// Chooses the next password; or takes over one that another process left pending, and says so, so that no third process
/// takes it over too. That it gives users their passwords `until` then is noted where a claim may do so, too.
fn begin(namespace: Namespace, now: Timestamp, until: Timestamp) -> Namespace {
    let barred = if namespace.is_beginning() { namespace.barred.with_writer(until) } else { namespace.barred.clone() };
    let mut rotation = namespace.rotation.begin(Password::random(), now);
    rotation.pending = rotation.pending.map(|pending| Pending { since: now, ..pending });
    Namespace { rotation, barred, ..namespace }
}

fn step(namespace: &Namespace) -> Step {
    let due = namespace.rotation.due;
    Step { action: "rotate", object: namespace.name.to_string(), reason: format!("its password is due since {due}") }
}
