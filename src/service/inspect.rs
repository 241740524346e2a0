//! Inspections: what is published to exchanges, as people see it, through a queue that goes by itself. Nothing of one is kept here, so
//! that any process can go on with it: its queue is known by who asks and by its id.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Service, ServiceError};
use crate::clock::Timestamp;
use crate::domain::audit::{By, Deed};
use crate::domain::inspection::{BATCH, LONGEST, PREFIX, Published, ROOM, check, is_full, queue};
use crate::domain::inventory::Binding;
use crate::domain::name::named_by_exchange;

/// How often one looks who waits for messages.
const EVERY: Duration = Duration::from_millis(500);

/// Messages that were published since the ones before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// When they were taken.
    pub at: Timestamp,
    /// The messages, the oldest first.
    pub messages: Vec<Published>,
    /// Whether some were left out, because they come faster than they are taken.
    pub left_out: bool,
    /// Whether more wait.
    pub more: bool,
}

impl Service {
    /// Begins to look at what is published to these exchanges under these routing keys, in which words may stand for others where an
    /// exchange is a `topic`. `who` tells who looks from all others. The id by which [`Service::inspected`] goes on.
    ///
    /// # Errors
    /// [`ServiceError::NoInspection`]; [`ServiceError::Missing`] for an exchange that is not there; [`ServiceError::TooManyInspections`]; those of the
    /// store and of the broker.
    pub async fn inspect(&self, who: &str, wanted: &[Binding], by: &By) -> Result<String, ServiceError> {
        check(wanted)?;
        self.memory.check_store()?;
        let person = hash(who);
        // One after the other, so that each counts those before.
        let _turn = self.inspections.lock().await;
        self.broker.ping().await?;
        if let Some(own) = is_full(&self.broker.queues_named(PREFIX).await?, &person) {
            return Err(ServiceError::TooManyInspections { own });
        }
        let looks = wanted.iter().map(|of| {
            let reason = format!("what is published to it, by the routing key {:?}", of.routing_key);
            self.audit(by, Deed::Inspect, named_by_exchange(&of.exchange).as_ref(), of.exchange.as_str(), &reason)
        });
        let looks: Vec<_> = looks.collect();
        let id = Uuid::new_v4().simple().to_string();
        let Some(name) = queue(&person, &id) else { return Err(ServiceError::TooSlow("making an id")) };
        self.broker.make_inspection(&name, ROOM).await?;
        let bound = async {
            for binding in wanted {
                if !self.broker.bind(&name, binding).await? {
                    return Err(ServiceError::Missing("exchange", binding.exchange.clone()));
                }
            }
            self.note(&looks).await
        };
        if let Err(error) = bound.await {
            // It would go by itself.
            let _ = self.broker.delete_queue(&name).await;
            return Err(error);
        }
        Ok(id)
    }

    /// The same for a while, or until there are `most` messages: these, the oldest first, and whether some were left out.
    ///
    /// # Errors
    /// As for [`Service::inspect`].
    pub async fn inspect_for(
        &self,
        who: &str,
        wanted: &[Binding],
        (long, most): (Duration, usize),
        by: &By,
    ) -> Result<(Vec<(Timestamp, Published)>, bool), ServiceError> {
        let over = Instant::now() + long;
        let id = self.inspect(who, wanted, by).await?;
        let looked = async {
            let (mut found, mut left_out) = (Vec::new(), false);
            loop {
                let pause = if Instant::now() >= over { None } else { Some(over.min(Instant::now() + EVERY)) };
                let Some(batch) = self.inspected(who, &id).await? else { return Ok((found, true)) };
                left_out |= batch.left_out;
                found.extend(batch.messages.into_iter().map(|one| (batch.at, one)));
                match pause {
                    _ if found.len() >= most => return Ok((found, left_out)),
                    // What has come by its end is told.
                    _ if batch.more => {}
                    Some(pause) => tokio::time::sleep_until(pause).await,
                    None => return Ok((found, left_out)),
                }
            }
        };
        let looked: Result<_, ServiceError> = looked.await;
        // It would go by itself.
        let ended = self.end_inspection(who, &id).await;
        if let Err(error) = ended {
            tracing::debug!("an inspection is left to end by itself: {error}");
        }
        let (mut found, left_out) = looked?;
        found.truncate(most);
        Ok((found, left_out))
    }

    /// What was published since the last look; `None` where it has ended, because nobody looked for a minute.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn inspected(&self, who: &str, id: &str) -> Result<Option<Batch>, ServiceError> {
        let Some(name) = queue(&hash(who), id) else { return Ok(None) };
        let Some(messages) = self.broker.take(&name, BATCH, LONGEST).await? else { return Ok(None) };
        let left = messages.last().map_or(0, |last| last.left);
        let waited = left + messages.len() as u64;
        Ok(Some(Batch { at: self.now(), left_out: waited >= u64::from(ROOM.messages), more: left > 0, messages }))
    }

    /// Ends an inspection. It does so by itself soon after nobody looks any more.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn end_inspection(&self, who: &str, id: &str) -> Result<(), ServiceError> {
        if let Some(name) = queue(&hash(who), id) {
            self.broker.delete_queue(&name).await?;
        }
        Ok(())
    }

    /// The names of exchanges that everybody may read, in order, of the listing that all share.
    ///
    /// # Errors
    /// Those of the broker's listing.
    pub async fn readable_exchanges(&self) -> Result<Vec<String>, ServiceError> {
        let listed = self.list_all_exchanges().await?;
        let deleted = self.exchanges.deleted_since(&listed);
        let names = listed.found.values().flatten().map(|one| one.name.clone());
        let mut names: Vec<_> = names.filter(|name| !deleted.contains(name)).collect();
        names.sort();
        Ok(names)
    }
}

/// What stands for whoever looks in the name of a queue.
fn hash(who: &str) -> String {
    let digest = Sha256::digest(who.as_bytes());
    digest.iter().take(8).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}
