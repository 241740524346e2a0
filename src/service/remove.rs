//! Removing: queues that grew too large, and what is left of a namespace that is gone. "Already gone" is success, one bad
//! thing does not stop the rest, and what could not be removed is tried again in the next run.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};

use super::maintain::notice;
use super::{Deadline, IN_FLIGHT, Service, ServiceError};
use crate::broker::BrokerError;
use crate::clock::{Clock, Timestamp};
use crate::domain::alert::{Alert, Level};
use crate::domain::inventory::BrokerQueue;
use crate::domain::namespace::{Gone, Namespace};
use crate::domain::notice::Event;
use crate::domain::snapshot::Remains;
use crate::store::{Change, Record, Write};

/// How often, and after how long, we look whether a queue is gone whose connection was closed.
const LOOKS: usize = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// How long one process has a tombstone to itself while it cleans up. It begins no removal in the second half of that.
const CLEANING_LEASE: Duration = Duration::from_secs(120);

/// How long after a queue was looked at it may be deleted for its size.
const FRESH: Duration = Duration::from_secs(15);

impl Service {
    /// Forgets a queue that is really gone, and tells of it if we were deleting it.
    pub(super) async fn look_for(
        &self,
        alert: &Alert,
        owner: Option<&Namespace>,
        delete_threshold: u64,
    ) -> Result<bool, ServiceError> {
        if self.broker.queue(&alert.queue).await?.is_some() {
            return Ok(false);
        }
        let deleted = (alert.level == Level::Deleting).then(|| self.deleted(alert, delete_threshold));
        Ok(self.forget(alert, deleted.as_ref(), owner).await? && deleted.is_some())
    }

    /// Deletes a queue if it still has too many messages. `alert` is the intention, as it was before it was stored; `tried`
    /// says whether an earlier run had the same.
    pub(super) async fn delete_queue(
        &self,
        alert: &Alert,
        tried: bool,
        owner: Option<&Namespace>,
        delete_threshold: u64,
    ) -> Result<bool, ServiceError> {
        let stored = Alert { version: alert.version.next(), ..alert.clone() };
        let deadline = Deadline::after(FRESH, self.clock.now(), "a queue's deletion");
        let removed = match self.broker.queue(&alert.queue).await? {
            Some(queue) if queue.messages.is_none_or(|messages| messages <= delete_threshold) => return Ok(false),
            Some(_) => {
                let reason = "the queue has too many messages and is deleted";
                let is_new = |found: &BrokerQueue| found.messages.is_some_and(|messages| messages <= delete_threshold);
                self.remove_queue(&alert.queue, reason, deadline, is_new).await
            }
            None if tried => Ok(()),
            // Somebody else deleted it; if that was a sweep, it has told.
            None => {
                self.forget(&stored, None, owner).await?;
                return Ok(false);
            }
        };
        if let Err(error) = removed {
            self.tell_of_failure(stored, owner, &error).await?;
            return Err(error);
        }
        self.forget(&stored, Some(&self.deleted(alert, delete_threshold)), owner).await
    }

    /// Tells the owner that its queue can't be deleted, unless that was told since it is to be; the log has each attempt. A
    /// stand-still of ours is no trouble of the queue.
    async fn tell_of_failure(
        &self,
        alert: Alert,
        owner: Option<&Namespace>,
        error: &ServiceError,
    ) -> Result<(), ServiceError> {
        if alert.told.is_some_and(|told| told >= alert.since) || matches!(error, ServiceError::TooSlow(_)) {
            return Ok(());
        }
        let (queue, messages, at) = (alert.queue.clone(), alert.messages, self.clock.now());
        let event = Event::QueueDeletionFailed { queue, messages, why: error.to_string(), at };
        let Some(notice) = notice(owner, &event, at) else { return Ok(()) };
        // By the clock of another process it may have been later when the deletion began.
        let record = Record::Alert(Alert { told: Some(at.max(alert.since)), ..alert });
        if self.store.write(&[Change { record, notices: vec![notice] }]).await?.contains(&Write::Lost) {
            tracing::debug!("another process is at the same queue; whoever fails to delete it next tells of that");
        }
        Ok(())
    }

    fn deleted(&self, alert: &Alert, delete_threshold: u64) -> Event {
        let (queue, messages, at) = (alert.queue.clone(), alert.messages, self.clock.now());
        Event::QueueDeleted { queue, messages, delete_threshold, at }
    }

    /// Removes the alert and tells of it. `false` where another process changed it, which tells what became of the queue.
    async fn forget(
        &self,
        alert: &Alert,
        event: Option<&Event>,
        owner: Option<&Namespace>,
    ) -> Result<bool, ServiceError> {
        let told = event.and_then(|event| notice(owner, event, self.clock.now()));
        let record = Record::RemoveAlert(alert.queue.clone(), alert.version);
        let written = self.store.write(&[Change { record, notices: told.into_iter().collect() }]).await?;
        Ok(written == [Write::Done])
    }

    /// Removes a queue. An exclusive one can't be deleted through the API: the connection that owns it is closed, with which
    /// it goes, if it is one of the namespace's own. The client may be back at once with a queue of the same name; `is_new`
    /// says whether one is that. Nothing is done after the deadline: whoever stood still may have seen another queue than
    /// there is now.
    async fn remove_queue(
        &self,
        queue: &str,
        reason: &str,
        deadline: Deadline,
        is_new: impl Fn(&BrokerQueue) -> bool + Send,
    ) -> Result<(), ServiceError> {
        deadline.check(self.clock.now())?;
        let refused = match self.broker.delete_queue(queue).await {
            Err(refused @ BrokerError::Refused(_)) => refused,
            done => return Ok(done?),
        };
        match self.broker.queue(queue).await? {
            None => return Ok(()),
            Some(found) if !found.exclusive => return Err(refused.into()),
            Some(_) => {}
        }
        let why = match self.broker.queue_owner(queue).await? {
            None => "RabbitMQ does not tell which connection owns it",
            Some(connection) => {
                let names = &self.policy.names;
                if names.owner_of_user(&connection.user).map(|(owner, _)| owner) != names.owner_of_queue(queue) {
                    return Err(refused.into());
                }
                deadline.check(self.clock.now())?;
                self.broker.close_connection(&connection.name, reason).await?;
                "after the connection that owned it was closed, it is still there, or there again"
            }
        };
        for _ in 0..LOOKS {
            if self.broker.queue(queue).await?.is_none_or(|found| is_new(&found)) {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(ServiceError::StillThere { queue: queue.to_owned(), why })
    }

    /// Deletes what is left of a namespace that is gone. `false` where it was revived, or another process is at it. It is
    /// reserved for that time, which begins only here: nothing is removed by a reservation that others no longer heed.
    pub(super) async fn clean(
        &self,
        tombstone: &Namespace,
        remains: &Remains,
        reason: &str,
    ) -> Result<bool, ServiceError> {
        let deadline = Deadline::after(CLEANING_LEASE / 2, self.clock.now(), "a clean-up");
        let reserved = reserve(tombstone, Some(self.shared_time().await?.plus(CLEANING_LEASE)));
        let Some(tombstone) = self.replace(reserved).await? else { return Ok(false) };
        let Remains { users, connections, queues, exchanges } = remains;
        // Users first: without them nobody makes anew what is being removed. Their connections would be closed with them;
        // closed before, they are told why.
        let gone = each(users, deadline, &*self.clock, |user| {
            async move {
                let told = self.broker.close_connections_of(user, reason).await;
                deadline.check(self.clock.now())?;
                self.broker.delete_user(user).await?;
                Ok(told?)
            }
            .boxed()
        });
        let mut failures = gone.await;
        // The others at once, so that nothing waits for what hangs.
        let closed = each(connections, deadline, &*self.clock, |connection| {
            async move { Ok(self.broker.close_connection(connection, reason).await?) }.boxed()
        });
        let removed =
            each(queues, deadline, &*self.clock, |queue| self.remove_queue(queue, reason, deadline, |_| false).boxed());
        let deleted = each(exchanges, deadline, &*self.clock, |exchange| {
            async move { Ok(self.broker.delete_exchange(exchange).await?) }.boxed()
        });
        let (closed, removed, deleted) = futures::join!(closed, removed, deleted);
        failures.extend(closed.into_iter().chain(removed).chain(deleted));
        let failed = failures.len();
        self.replace(reserve(&tombstone, None)).await?;
        match failures.into_iter().next() {
            Some(first) => Err(ServiceError::Partly { failed, of: remains.count(), first: Box::new(first) }),
            None => Ok(true),
        }
    }
}

/// The tombstone, to be left to one process until then.
fn reserve(tombstone: &Namespace, cleaning_until: Option<Timestamp>) -> Namespace {
    let gone = tombstone.gone.map(|gone| Gone { cleaning_until, ..gone });
    Namespace { gone, ..tombstone.clone() }
}

/// Removes many things, some at a time and none after the deadline, and gives back what went wrong.
async fn each<'a>(
    things: &'a [String],
    deadline: Deadline,
    clock: &'a dyn Clock,
    remove: impl Fn(&'a str) -> BoxFuture<'a, Result<(), ServiceError>>,
) -> Vec<ServiceError> {
    let mut removals = Vec::with_capacity(things.len());
    for thing in things {
        let removed = remove(thing);
        removals.push(async move {
            deadline.check(clock.now())?;
            removed.await
        });
    }
    let mut removed = stream::iter(removals).buffer_unordered(IN_FLIGHT);
    let mut failures = Vec::new();
    while let Some(removed) = removed.next().await {
        failures.extend(removed.err());
    }
    failures
}
