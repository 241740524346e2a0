//! Deleting queues because somebody asked for it, one or many.

use std::collections::{HashMap, HashSet};

use futures::{FutureExt, StreamExt, stream};

use super::demand::{Wish, had};
use super::{Deadline, IN_FLIGHT, Service, ServiceError};
use crate::broker::{BrokerError, Deleted};
use crate::domain::audit::Deed;
use crate::domain::exemption::{check_pattern, matches};
use crate::domain::inventory::{BrokerConnection, BrokerQueue};
use crate::domain::name::Name;
use crate::domain::namespace::Namespace;
use crate::domain::watched::Watched;
use crate::store::{Change, Record, StoreError};

/// How many queues one request deletes.
pub const MOST_QUEUES: usize = 1000;
/// So many are looked at, and then deleted: looks must not be old by then.
const AT_ONCE: usize = 50;

/// Which queues are to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Those of these names.
    Named(Vec<String>),
    /// Those that match, where each `*` stands for any characters, or none.
    Matching(String),
}

/// What became of a queue.
#[derive(Debug)]
pub enum Outcome {
    /// It was deleted.
    Deleted(BrokerQueue),
    /// It would be.
    WouldBeDeleted(BrokerQueue),
    /// There was none.
    Absent,
    /// It is still there, or nobody knows.
    Failed(ServiceError),
}

/// What became of many queues.
#[derive(Debug)]
pub struct Outcomes {
    /// Each, in the order of their names.
    pub of: Vec<(String, Outcome)>,
    /// How many more match.
    pub left: usize,
}

/// What is known of many exclusive queues: which connection owns each; `None` where the broker does not say.
type Owners = HashMap<String, Option<BrokerConnection>>;

impl Service {
    /// Deletes a queue, and gives it as it was before.
    ///
    /// # Errors
    /// As for [`Service::delete_queues`], and what went wrong with the queue.
    pub async fn delete_one_queue(
        &self,
        name: &Name,
        queue: &str,
        wish: Wish<'_>,
    ) -> Result<BrokerQueue, ServiceError> {
        let outcomes = self.delete_queues(name, &Which::Named(vec![queue.to_owned()]), false, wish).await?;
        match outcomes.of.into_iter().next().map(|(_, outcome)| outcome) {
            Some(Outcome::Deleted(found) | Outcome::WouldBeDeleted(found)) => Ok(found),
            Some(Outcome::Failed(error)) => Err(error),
            Some(Outcome::Absent) | None => Err(ServiceError::Missing("queue", queue.to_owned())),
        }
    }

    /// Deletes queues of a live namespace, at most [`MOST_QUEUES`]; a dry run only says which.
    ///
    /// # Errors
    /// [`ServiceError::NoNamespace`], [`ServiceError::Elsewhere`] or a pattern that is none, [`ServiceError::ForeignUser`], and those
    /// of the store and of the broker's listing; nothing is deleted then. What fails for one queue is said of it, and does not
    /// stop the rest.
    pub async fn delete_queues(
        &self,
        name: &Name,
        which: &Which,
        dry_run: bool,
        wish: Wish<'_>,
    ) -> Result<Outcomes, ServiceError> {
        match which {
            Which::Named(queues) => queues.iter().try_for_each(|queue| self.check_queue(name, queue))?,
            Which::Matching(pattern) => check_pattern(pattern, name)?,
        }
        let owner = self.live(name).await?;
        self.look_at_own(&owner).await?;
        let mut names = match which {
            Which::Named(queues) => queues.clone(),
            Which::Matching(pattern) => {
                let all = self.queues_now(name).await?.into_iter().map(|queue| queue.name);
                all.filter(|queue| matches(pattern, queue)).collect()
            }
        };
        names.sort();
        names.dedup();
        let left = names.len().saturating_sub(MOST_QUEUES);
        names.truncate(MOST_QUEUES);
        let going: HashSet<_> = names.iter().map(String::as_str).collect();
        let (mut owners, mut of) = (None, Vec::with_capacity(names.len()));
        for chunk in names.chunks(AT_ONCE) {
            let fresh = self.fresh();
            let mut looked = self.look_at_queues(chunk).await;
            self.spare_others(&owner, &going, &mut looked, &mut owners).await;
            if !dry_run {
                looked = match self.delete_seen(&owner, looked, fresh, wish).await {
                    Err(error) if of.is_empty() => return Err(error),
                    // What went before is told.
                    Err(error) => not_begun(chunk, &error),
                    Ok(done) => done,
                };
            }
            of.extend(looked);
        }
        self.look_for_absent(name, &mut of).await;
        Ok(Outcomes { of, left })
    }

    /// Looks at each of these queues now.
    async fn look_at_queues(&self, names: &[String]) -> Vec<(String, Outcome)> {
        let look = |queue: String| {
            async move {
                let outcome = match self.broker.queue(&queue).await {
                    Ok(Some(found)) => Outcome::WouldBeDeleted(found),
                    Ok(None) => Outcome::Absent,
                    Err(error) => Outcome::Failed(error.into()),
                };
                (queue, outcome)
            }
            .boxed()
        };
        let looks: Vec<_> = names.iter().cloned().map(look).collect();
        stream::iter(looks).buffered(IN_FLIGHT).collect().await
    }

    /// Keeps exclusive queues with whose connections others would go that are not empty, and were not asked for.
    async fn spare_others(
        &self,
        owner: &Namespace,
        going: &HashSet<&str>,
        looked: &mut [(String, Outcome)],
        owners: &mut Option<Owners>,
    ) {
        let exclusive = |outcome: &Outcome| matches!(outcome, Outcome::WouldBeDeleted(found) if found.exclusive);
        for (queue, outcome) in looked.iter_mut().filter(|(_, outcome)| exclusive(outcome)) {
            match self.spared_by(owner, going, queue, owners).await {
                Ok(None) => {}
                Ok(Some(other)) => {
                    let why = format!("with its connection, {other} would go, too, which is not empty: name both");
                    *outcome = Outcome::Failed(ServiceError::Kept(queue.clone(), why));
                }
                Err(error) => *outcome = Outcome::Failed(error),
            }
        }
    }

    async fn spared_by(
        &self,
        owner: &Namespace,
        going: &HashSet<&str>,
        queue: &str,
        owners: &mut Option<Owners>,
    ) -> Result<Option<String>, ServiceError> {
        let others = match owners {
            Some(known) => known,
            None => owners.insert(self.owners_of_others(owner, going).await?),
        };
        if others.is_empty() {
            return Ok(None);
        }
        let Some(own) = self.broker.queue_owner(queue).await? else { return Ok(None) };
        // One whose owner is not known may be the same's.
        let same = |of: &Option<BrokerConnection>| of.as_ref().is_none_or(|of| of.name == own.name);
        Ok(others.iter().filter(|(_, of)| same(of)).map(|(other, _)| other.clone()).min())
    }

    /// Who owns the exclusive queues of the namespace that are not empty, and are not going.
    async fn owners_of_others(&self, owner: &Namespace, going: &HashSet<&str>) -> Result<Owners, ServiceError> {
        let stays =
            |queue: &BrokerQueue| queue.exclusive && queue.messages != Some(0) && !going.contains(queue.name.as_str());
        let others = self.queues_now(&owner.name).await?.into_iter().filter(stays);
        let asked = others.map(|queue| {
            async move { self.broker.queue_owner(&queue.name).await.map(|of| (queue.name.clone(), of)) }.boxed()
        });
        let found: Vec<_> = stream::iter(asked).buffer_unordered(IN_FLIGHT).collect().await;
        Ok(found.into_iter().collect::<Result<_, _>>()?)
    }

    /// Deletes what was seen.
    async fn delete_seen(
        &self,
        owner: &Namespace,
        looked: Vec<(String, Outcome)>,
        fresh: Deadline,
        wish: Wish<'_>,
    ) -> Result<Vec<(String, Outcome)>, ServiceError> {
        let record = |(queue, outcome): &(String, Outcome)| match outcome {
            Outcome::WouldBeDeleted(found) => {
                Some(self.record(wish, Deed::DeleteQueue, &owner.name, queue, &had(found)))
            }
            _ => None,
        };
        let records: Vec<_> = looked.iter().filter_map(record).collect();
        self.note(&records).await?;
        let begun: HashSet<_> = records.into_iter().map(|record| record.object).collect();
        let deletions = looked.into_iter().map(|(queue, outcome)| {
            async move {
                let outcome = match outcome {
                    Outcome::WouldBeDeleted(found) => self.delete_found(owner, found, fresh, wish).await,
                    other => other,
                };
                (queue, outcome)
            }
            .boxed()
        });
        let done: Vec<_> = stream::iter(deletions).buffered(IN_FLIGHT).collect().await;
        let failure = |(queue, outcome): &(String, Outcome)| match outcome {
            Outcome::Failed(error) if begun.contains(queue) => {
                Some(self.failure(wish, Deed::DeleteQueue, &owner.name, queue, error))
            }
            _ => None,
        };
        let failures: Vec<_> = done.iter().filter_map(failure).collect();
        let deleted =
            |(queue, outcome): &(String, Outcome)| matches!(outcome, Outcome::Deleted(_)).then(|| queue.clone());
        let deleted: Vec<_> = done.iter().filter_map(deleted).collect();
        deleted.iter().for_each(|queue| {
            self.queues.note_deleted(queue);
            self.note_queue(queue, None);
        });
        // They are gone, whatever the store says now; what it remembers of them goes with the next sweep.
        if let Err(error) = async { self.note(&failures).await.and(self.forget_queues(&deleted).await) }.await {
            tracing::warn!("queues were deleted, and the store could not be told: {error}");
        }
        Ok(done)
    }

    /// Deletes a queue that was `found` just now.
    async fn delete_found(&self, owner: &Namespace, found: BrokerQueue, fresh: Deadline, wish: Wish<'_>) -> Outcome {
        let reason = format!("the queue is deleted because {} asked for it", wish.by.actor);
        // Whoever is back with another one has fewer messages in it.
        let is_new = |now: &BrokerQueue| now.fingerprint != found.fingerprint || now.messages < found.messages;
        let removed = match self.remove_queue(&found.name, Some(owner), &reason, fresh, is_new).await {
            Err(ServiceError::Broker(unknown @ BrokerError::Unavailable(_))) => {
                match self.broker.queue(&found.name).await {
                    Ok(None) => Ok(Deleted::Done),
                    _ => Err(unknown.into()),
                }
            }
            removed => removed,
        };
        match removed {
            Ok(_) => Outcome::Deleted(found),
            Err(error) => Outcome::Failed(error),
        }
    }

    /// Of what a 404 says is not there, the broker may list some all the same.
    async fn look_for_absent(&self, name: &Name, of: &mut [(String, Outcome)]) {
        if !of.iter().any(|(_, outcome)| matches!(outcome, Outcome::Absent)) {
            return;
        }
        let listed = match self.queues_now(name).await {
            Ok(listed) => listed.into_iter().map(|queue| queue.name).collect::<HashSet<_>>(),
            Err(error) => return tracing::debug!("whether absent queues are listed is not known: {error}"),
        };
        for (queue, outcome) in of.iter_mut().filter(|(_, outcome)| matches!(outcome, Outcome::Absent)) {
            if listed.contains(queue.as_str()) {
                *outcome = Outcome::Failed(ServiceError::StillListed(queue.clone()));
            }
        }
    }

    /// Forgets what is remembered of queues that were deleted: nobody is told of their troubles any more.
    async fn forget_queues(&self, queues: &[String]) -> Result<(), ServiceError> {
        let (watches, histories) = self.store.seen_of(queues).await?;
        let forget = |known: Watched| Change {
            record: Record::RemoveWatch(known.queue, known.version),
            notices: Vec::new(),
            audits: Vec::new(),
        };
        // One that another process changes meanwhile is forgotten by the next sweep.
        self.store.write(&watches.into_iter().map(forget).collect::<Vec<_>>()).await?;
        let histories: Vec<_> = histories.into_keys().map(|queue| (queue, None)).collect();
        Ok(self.store.write_histories(&histories).await?)
    }
}

/// What became of queues where the trail could not have it.
fn not_begun(queues: &[String], error: &ServiceError) -> Vec<(String, Outcome)> {
    let failed = |queue: &String| (queue.clone(), Outcome::Failed(StoreError::Unavailable(error.to_string()).into()));
    queues.iter().map(failed).collect()
}
