//! Emptying and deleting queues and exchanges because somebody asked for it. What is to go is looked at right before; the audit
//! trail has it before it is done, so that nothing is done which could not be recorded, and has it once more if it failed.

use super::{Service, ServiceError};
use crate::broker::{BrokerError, Deleted};
use crate::domain::audit::{Audit, By, Deed};
use crate::domain::inventory::{BrokerExchange, BrokerQueue, QueueKind};
use crate::domain::name::{Name, named_by_exchange};
use crate::domain::words::count;

/// Why, and by whom.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// Who asked for it.
    pub by: &'a By,
    /// Why, in their words.
    pub reason: Option<&'a str>,
}

impl Service {
    /// Deletes the messages of a queue that nobody holds, and gives the queue as it was before.
    ///
    /// # Errors
    /// As for [`Service::queue`]; [`ServiceError::Kept`] for what can't be emptied; [`ServiceError::ForeignUser`].
    pub async fn empty_queue(&self, name: &Name, queue: &str, wish: Wish<'_>) -> Result<BrokerQueue, ServiceError> {
        self.check_queue(name, queue)?;
        let owner = self.live(name).await?;
        self.look_at_own(&owner).await?;
        let fresh = self.fresh();
        let missing = || ServiceError::Missing("queue", queue.to_owned());
        let found = self.broker.queue(queue).await?.ok_or_else(missing)?;
        let kept = match (found.kind, found.exclusive) {
            (QueueKind::Stream, _) => Some("a stream can't be emptied"),
            (_, true) => Some("it belongs to one connection, and RabbitMQ lets nobody else empty it"),
            _ => None,
        };
        if let Some(why) = kept {
            return Err(ServiceError::Kept(queue.to_owned(), why.to_owned()));
        }
        let audit = self.record(wish, Deed::EmptyQueue, name, queue, &had(&found));
        self.note(&[audit]).await?;
        let emptied = async {
            fresh.check(self.clock.now())?;
            if self.broker.purge_queue(queue).await? == Deleted::Absent && self.broker.queue(queue).await?.is_some() {
                return Err(BrokerError::Unavailable("404 for a queue that is there".to_owned()).into());
            }
            Ok(())
        };
        self.noting_failure(wish, Deed::EmptyQueue, name, queue, emptied.await).await?;
        Ok(found)
    }

    /// Deletes an exchange.
    ///
    /// # Errors
    /// As for [`Service::delete_one_queue`].
    pub async fn delete_exchange(&self, name: &Name, exchange: &str, wish: Wish<'_>) -> Result<(), ServiceError> {
        if named_by_exchange(exchange).as_ref() != Some(name) {
            return Err(ServiceError::Elsewhere(format!("exchange/{name}/")));
        }
        let owner = self.live(name).await?;
        self.look_at_own(&owner).await?;
        let fresh = self.fresh();
        let listed = |all: Vec<_>| all.into_iter().find(|one: &BrokerExchange| one.name == exchange);
        let found = listed(self.exchanges_now(name).await?);
        let found = found.ok_or_else(|| ServiceError::Missing("exchange", exchange.to_owned()))?;
        let audit =
            self.record(wish, Deed::DeleteExchange, name, exchange, &format!("it was a {} exchange", found.kind));
        self.note(&[audit]).await?;
        let deleted = async {
            fresh.check(self.clock.now())?;
            if self.broker.delete_exchange(exchange).await? == Deleted::Absent
                && listed(self.exchanges_now(name).await?).is_some()
            {
                return Err(ServiceError::StillListed(exchange.to_owned()));
            }
            Ok(())
        };
        self.noting_failure(wish, Deed::DeleteExchange, name, exchange, deleted.await).await?;
        self.exchanges.note_deleted(exchange);
        self.note_exchange(exchange, None);
        Ok(())
    }

    pub(super) fn record(
        &self,
        Wish { by, reason }: Wish<'_>,
        deed: Deed,
        name: &Name,
        object: &str,
        what: &str,
    ) -> Audit {
        let why = reason.unwrap_or("on demand");
        self.audit(by, deed, Some(name), object, &format!("{what}; {why}"))
    }

    pub(super) fn failure(&self, wish: Wish<'_>, deed: Deed, name: &Name, object: &str, error: &ServiceError) -> Audit {
        self.record(wish, deed, name, object, &format!("it was not done: {error}"))
    }

    async fn noting_failure(
        &self,
        wish: Wish<'_>,
        deed: Deed,
        name: &Name,
        object: &str,
        done: Result<(), ServiceError>,
    ) -> Result<(), ServiceError> {
        let Err(error) = done else { return Ok(()) };
        self.note(&[self.failure(wish, deed, name, object, &error)]).await?;
        Err(error)
    }

    /// Stores records of the trail, and logs them.
    pub(super) async fn note(&self, audits: &[Audit]) -> Result<(), ServiceError> {
        if !audits.is_empty() {
            self.store.note(audits).await?;
            audits.iter().for_each(|audit| self.log(audit));
        }
        Ok(())
    }
}

/// What is lost with a queue.
pub(super) fn had(queue: &BrokerQueue) -> String {
    match queue.messages {
        Some(messages) => format!("it had {}", count(messages, "message", "messages")),
        None => "how many messages it had is not known".to_owned(),
    }
}
