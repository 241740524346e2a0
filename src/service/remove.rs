//! Removing queues that grew too large. "Already gone" is success, if what says so is not a 404 for something that the broker
//! lists, and what could not be removed is tried again in the next run. Nothing is deleted twice without a look in between.

use std::time::Duration;

use super::shared::notices;
use super::{Deadline, Service, ServiceError};
use crate::broker::{BrokerError, Deleted};
use crate::domain::audit::{By, Deed};
use crate::domain::exemption::{Exempted, exemption_of};
use crate::domain::history::Look;
use crate::domain::inventory::{BrokerQueue, QueueKind};
use crate::domain::ladder::{Stage, Thresholds, Watch, still_deserved};
use crate::domain::name::named_by_queue;
use crate::domain::namespace::Namespace;
use crate::domain::notice::Event;
use crate::domain::snapshot::Remains;
use crate::domain::watched::Watched;
use crate::store::{Change, Record, Write};

/// How often, and after how long, we look whether a queue is gone whose connection was closed.
const LOOKS: usize = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// How long after a queue was looked at it may be deleted for its size.
const FRESH: Duration = Duration::from_secs(15);

impl Service {
    /// Forgets a queue that is really gone, and tells of it if we were removing it.
    pub(super) async fn look_for(
        &self,
        watched: &Watched,
        owner: Option<&Namespace>,
        thresholds: Thresholds,
    ) -> Result<bool, ServiceError> {
        if self.broker.queue(&watched.queue).await?.is_some() {
            return Ok(false);
        }
        let removing = watched.decided && watched.watch.stage == Stage::Removing;
        let deleted = removing.then(|| self.deleted(watched, watched.messages, thresholds));
        // The list that lacks it may have been too short.
        if deleted.is_some() && !self.listed(&queue_alone(&watched.queue)).await?.is_empty() {
            return Ok(false);
        }
        let why = "it had too many messages when its removal began, and is gone";
        Ok(self.forget(watched, deleted.as_ref().map(|event| (event, why)), owner).await? && deleted.is_some())
    }

    /// Deletes a queue if it still has too many messages. `watched` holds the intention, as it was before it was stored; `tried`
    /// says whether an earlier run had the same.
    pub(super) async fn delete_queue(
        &self,
        watched: &Watched,
        tried: bool,
        owner: Option<&Namespace>,
        thresholds: Thresholds,
        why: &str,
    ) -> Result<bool, ServiceError> {
        let stored = Watched { version: watched.version.next(), ..watched.clone() };
        let fresh = self.fresh();
        let removed = match self.broker.queue(&watched.queue).await? {
            Some(found) => self.remove_large(&found, watched, owner, fresh, thresholds).await,
            None => match self.listed(&queue_alone(&watched.queue)).await?.pop() {
                None => Ok(Removed::Before),
                Some(queue) => Err(ServiceError::StillListed(queue)),
            },
        };
        let messages = match removed {
            Ok(Removed::Small | Removed::Later) => return Ok(false),
            Ok(Removed::Now { messages }) => messages,
            Ok(Removed::Before) if tried => watched.messages,
            // Somebody else deleted it; if that was a sweep, it has told.
            Ok(Removed::Before) => {
                self.forget(&stored, None, owner).await?;
                return Ok(false);
            }
            Err(error) => {
                self.tell_of_failure(stored, owner, &error).await?;
                return Err(error);
            }
        };
        let deleted = self.deleted(watched, messages, thresholds);
        self.forget(&stored, Some((&deleted, why)), owner).await
    }

    /// Deletes the messages of a queue if it still has too many, and the queue alone is left as it was.
    pub(super) async fn purge_queue(
        &self,
        watched: &Watched,
        owner: Option<&Namespace>,
        thresholds: Thresholds,
        why: &str,
    ) -> Result<bool, ServiceError> {
        let stored = Watched { version: watched.version.next(), ..watched.clone() };
        let fresh = self.fresh();
        let Some(found) = self.broker.queue(&watched.queue).await? else { return Ok(false) };
        let exemptions = self.exemptions_now(watched).await?;
        let Some(messages) = self.deserves(&found, watched, thresholds, &exemptions) else { return Ok(false) };
        fresh.check(self.clock.now())?;
        if let Err(error) = self.broker.purge_queue(&watched.queue).await {
            let error = error.into();
            self.tell_of_failure(stored, owner, &error).await?;
            return Err(error);
        }
        let (queue, at) = (watched.queue.clone(), self.now());
        let event = Event::QueueEmptied { queue, messages, delete_threshold: thresholds.delete, at };
        self.forget(&stored, Some((&event, why)), owner).await
    }

    /// How many messages a queue has, if it is the one that was judged, and they still are too many by this look alone.
    fn deserves(
        &self,
        found: &BrokerQueue,
        watched: &Watched,
        thresholds: Thresholds,
        exemptions: &[Exempted],
    ) -> Option<u64> {
        let now = self.now();
        let same = found.fingerprint == watched.watch.incarnation.fingerprint && found.kind != QueueKind::Stream;
        let total = found.messages.filter(|_| same)?;
        let look = Look { at: now, ready: total, unacked: 0, total, consumers: None, counters: None };
        let exempted = exemption_of(exemptions, &found.name, now).map(|exempted| exempted.exemption);
        still_deserved(&look, thresholds, exempted, now).then_some(total)
    }

    /// The exemptions of a queue's namespace, as they stand now: one may have been granted since the sweep read them.
    async fn exemptions_now(&self, watched: &Watched) -> Result<Vec<Exempted>, ServiceError> {
        let found = self.store.namespace(&watched.namespace).await?;
        Ok(found.map(|found| found.exemptions).unwrap_or_default())
    }

    /// Removes a queue that was `found` if that was not too long ago, and if it has too many messages. Where it is unknown
    /// whether it was deleted, it is looked at again: by now another queue may have its name.
    async fn remove_large(
        &self,
        found: &BrokerQueue,
        watched: &Watched,
        owner: Option<&Namespace>,
        fresh: Deadline,
        thresholds: Thresholds,
    ) -> Result<Removed, ServiceError> {
        let reason = "the queue has too many messages and is deleted";
        let exemptions = &self.exemptions_now(watched).await?;
        let too_many = move |found: &BrokerQueue| self.deserves(found, watched, thresholds, exemptions);
        let is_new = move |found: &BrokerQueue| too_many(found).is_none();
        let Some(messages) = too_many(found) else { return Ok(Removed::Small) };
        if found.exclusive
            && let Some(other) = self.spared_beside(&found.name, thresholds).await?
        {
            tracing::info!("{} waits: with its connection, {other} would go, too, whose time has not come", found.name);
            return Ok(Removed::Later);
        }
        match self.remove_queue(&found.name, owner, reason, fresh, is_new).await {
            Err(ServiceError::Broker(BrokerError::Unavailable(why))) => {
                tracing::debug!("a deletion's outcome is unknown: {why}")
            }
            removed => return removed.map(|_| Removed::Now { messages }),
        }
        let fresh = self.fresh();
        let Some(found) = self.broker.queue(&found.name).await? else { return Ok(Removed::Now { messages }) };
        // The next sweep tells that there are few messages, be they read or be it another queue.
        let Some(messages) = too_many(&found) else { return Ok(Removed::Small) };
        self.remove_queue(&found.name, owner, reason, fresh, is_new).await?;
        Ok(Removed::Now { messages })
    }

    /// Another queue above the limit that would go with an exclusive one, because one connection owns both, and that is not to
    /// be removed itself: nobody was warned of it long enough ago.
    async fn spared_beside(&self, queue: &str, thresholds: Thresholds) -> Result<Option<String>, ServiceError> {
        let beside = |other: &BrokerQueue| {
            other.exclusive
                && other.name != queue
                && other.messages.is_some_and(|messages| messages > thresholds.delete)
                && named_by_queue(&other.name) == named_by_queue(queue)
        };
        let others: Vec<_> = self.broker.queues().await?.into_iter().filter(beside).collect();
        if others.is_empty() {
            return Ok(None);
        }
        let Some(owner) = self.broker.queue_owner(queue).await? else { return Ok(None) };
        let watches = self.store.watches().await?;
        for BrokerQueue { name, fingerprint, .. } in others {
            let due = watches.iter().any(|known| {
                let Watch { stage, incarnation, .. } = known.watch;
                known.queue == name && stage == Stage::Removing && incarnation.fingerprint == fingerprint
            });
            // One whose owner is not known yet may be another's, and may not.
            if due {
                continue;
            }
            let of = self.broker.queue_owner(&name).await?;
            if of.is_none_or(|of| of.name == owner.name) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// How long what is seen of a queue from now on may be acted on.
    pub(super) fn fresh(&self) -> Deadline {
        Deadline::after(FRESH, self.clock.now(), "a queue's deletion")
    }

    /// Closes a connection.
    pub(super) async fn close(&self, connection: &str, reason: &str) -> Result<(), ServiceError> {
        if self.broker.close_connection(connection, reason).await? == Deleted::Done {
            return Ok(());
        }
        let gone = Remains { connections: vec![connection.to_owned()], ..Remains::default() };
        match self.listed(&gone).await?.pop() {
            None => Ok(()),
            Some(connection) => Err(ServiceError::StillListed(connection)),
        }
    }

    /// Tells the owner that its queue can't be removed, unless that was told since it is to be; the log has each attempt. A
    /// stand-still of ours is no trouble of the queue.
    async fn tell_of_failure(
        &self,
        watched: Watched,
        owner: Option<&Namespace>,
        error: &ServiceError,
    ) -> Result<(), ServiceError> {
        let known = watched.failure_told.is_some_and(|told| told >= watched.watch.since);
        if known || matches!(error, ServiceError::TooSlow(_)) {
            return Ok(());
        }
        let (queue, messages, at) = (watched.queue.clone(), watched.messages, self.now());
        let event = Event::QueueDeletionFailed { queue, messages, why: error.to_string(), at };
        let notices = notices(owner, &event, Some(&watched.watch), &self.policy.groups, at);
        if notices.is_empty() {
            return Ok(());
        }
        // By the clock of another process it may have been later when the deletion began.
        let record = Record::Watch(Watched { failure_told: Some(at.max(watched.watch.since)), ..watched });
        if self.write(&[Change { record, notices, audits: Vec::new() }]).await?.contains(&Write::Lost) {
            tracing::debug!("another process is at the same queue; whoever fails to delete it next tells of that");
        }
        Ok(())
    }

    fn deleted(&self, watched: &Watched, messages: u64, thresholds: Thresholds) -> Event {
        let (queue, at) = (watched.queue.clone(), self.now());
        Event::QueueDeleted { queue, messages, delete_threshold: thresholds.delete, at }
    }

    /// Forgets what is remembered of a queue, and what was seen of it, and tells of what was `done` and why. `false` where another process changed
    /// the record, which tells what became of the queue.
    async fn forget(
        &self,
        watched: &Watched,
        done: Option<(&Event, &str)>,
        owner: Option<&Namespace>,
    ) -> Result<bool, ServiceError> {
        let told = done.map(|(event, _)| notices(owner, event, Some(&watched.watch), &self.policy.groups, self.now()));
        let audit = done.map(|(event, why)| {
            let deed = if matches!(event, Event::QueueEmptied { .. }) { Deed::EmptyQueue } else { Deed::DeleteQueue };
            self.audit(&By::task("monitor-rabbit"), deed, Some(&watched.namespace), &watched.queue, why)
        });
        let record = Record::RemoveWatch(watched.queue.clone(), watched.version);
        let (notices, audits) = (told.unwrap_or_default(), audit.into_iter().collect());
        let written = self.write(&[Change { record, notices, audits }]).await?;
        if written != [Write::Done] {
            return Ok(false);
        }
        self.store.write_histories(&[(watched.queue.clone(), None)]).await?;
        Ok(true)
    }

    /// Removes a queue. An exclusive one can't be deleted through the API: the connection that owns it is closed, with which
    /// it goes, if it is one of the namespace's own. The client may be back at once with a queue of the same name; `is_new`
    /// says whether one is that. Nothing is done after the deadline: whoever stood still may have seen another queue than
    /// there is now.
    pub(super) async fn remove_queue(
        &self,
        queue: &str,
        owner: Option<&Namespace>,
        reason: &str,
        deadline: Deadline,
        is_new: impl Fn(&BrokerQueue) -> bool + Send,
    ) -> Result<Deleted, ServiceError> {
        deadline.check(self.clock.now())?;
        let refused = match self.broker.delete_queue(queue).await {
            Err(refused @ BrokerError::Refused(_)) => refused,
            done => return Ok(done?),
        };
        match self.broker.queue(queue).await? {
            None => return Ok(Deleted::Absent),
            Some(found) if !found.exclusive => return Err(refused.into()),
            Some(_) => {}
        }
        let why = match self.broker.queue_owner(queue).await? {
            None => "RabbitMQ does not tell which connection owns it",
            Some(connection) => {
                let of = self.policy.names.parts_of_user(&connection.user);
                let of = owner.zip(of).filter(|(owner, (name, _))| *name == owner.name);
                let Some((owner, (_, slot))) = of else { return Err(refused.into()) };
                if self.look(owner, slot).await?.is_none() {
                    return Err(refused.into());
                }
                deadline.check(self.clock.now())?;
                self.broker.close_connection(&connection.name, reason).await?;
                "after the connection that owned it was closed, it is still there, or there again"
            }
        };
        for _ in 0..LOOKS {
            if self.broker.queue(queue).await?.is_none_or(|found| is_new(&found)) {
                return Ok(Deleted::Done);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(ServiceError::StillThere { queue: queue.to_owned(), why })
    }
}

/// What became of a queue that was to be deleted for its size.
enum Removed {
    /// It is not there any more.
    Now {
        /// How many messages it had when it was last seen.
        messages: u64,
    },
    /// It was not there.
    Before,
    /// What is there has not too many messages.
    Small,
    /// It can't go without another one whose time has not come.
    Later,
}

fn queue_alone(queue: &str) -> Remains {
    Remains { queues: vec![queue.to_owned()], ..Remains::default() }
}
