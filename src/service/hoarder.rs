//! Closing the one connection that holds a queue's messages.

use std::collections::BTreeMap;

use super::shared::notices;
use super::{Service, ServiceError};
use crate::domain::audit::{By, Deed};
use crate::domain::inventory::{Consumer, UserLimit};
use crate::domain::namespace::Namespace;
use crate::domain::notice::Event;
use crate::domain::watched::Watched;
use crate::domain::words::count;
use crate::store::{Change, Record};

/// So many channels are asked how much they hold.
const CHANNELS: usize = 50;

impl Service {
    /// Closes the connection that holds the most of a queue's messages, if it is one of the namespace's own, and with `keep_out`
    /// lets its user open no more; that an adopted user always may, because nothing is written to one. `false` where there is
    /// none: it is gone, or the broker does not tell. Nobody else's connection is touched.
    pub(super) async fn close_hoarder(
        &self,
        watched: &Watched,
        owner: &Namespace,
        keep_out: bool,
        why: &str,
    ) -> Result<bool, ServiceError> {
        let fresh = self.fresh();
        let Some(detail) = self.broker.queue_detail(&watched.queue).await? else { return Ok(false) };
        // One of its two users, or the one that was adopted.
        let slot_of = |consumer: &Consumer| {
            if owner.adopted().is_some() && consumer.user == owner.name.as_str() {
                return Some(None);
            }
            let found = self.policy.names.parts_of_user(&consumer.user);
            found.filter(|(name, _)| *name == owner.name).map(|(_, slot)| Some(slot))
        };
        let own = detail.details.into_iter().filter_map(|consumer| Some((slot_of(&consumer)?, consumer)));
        let mut held: BTreeMap<String, (u64, _, Consumer)> = BTreeMap::new();
        let mut asked = std::collections::BTreeSet::new();
        for (slot, consumer) in own.take(CHANNELS) {
            // A channel's messages may be of several queues: it holds at most so many of this one.
            let messages = match asked.insert(consumer.channel.clone()) {
                true => self.broker.channel_unacked(&consumer.channel).await?.unwrap_or(0),
                false => 0,
            };
            held.entry(consumer.connection.clone()).or_insert((0, slot, consumer)).0 += messages;
        }
        let most = held.into_values().max_by_key(|(messages, ..)| *messages).filter(|(messages, ..)| *messages > 0);
        let Some((messages, slot, consumer)) = most else { return Ok(false) };
        let is_there = match slot {
            Some(slot) => self.look(owner, slot).await?.is_some(),
            None => self.is_as_adopted(&consumer.user).await?,
        };
        if !is_there {
            return Ok(false);
        }
        let keep_out = keep_out && slot.is_some();
        fresh.check(self.clock.now())?;
        if keep_out {
            self.broker.limit_user(&consumer.user, UserLimit::Connections, Some(0)).await?;
        }
        let reason =
            format!("it holds {} of {} unacknowledged: {why}", count(messages, "message", "messages"), watched.queue);
        self.close(&consumer.connection, &reason).await?;
        let (queue, at) = (watched.queue.clone(), self.now());
        let connection = format!("{} of {}", consumer.connection, consumer.user);
        let audited = connection.clone();
        let event = Event::HoarderClosed { queue, connection, messages, kept_out: keep_out, at };
        let stored = Watched { version: watched.version.next(), ..watched.clone() };
        let notices = notices(Some(owner), &event, Some(&stored.watch), &self.policy.groups, at);
        let deed = if keep_out { Deed::KeepOut } else { Deed::CloseConnection };
        let audit = self.audit(&By::task("monitor-rabbit"), deed, Some(&owner.name), &audited, &reason);
        self.write(&[Change { record: Record::Watch(stored), notices, audits: vec![audit] }]).await?;
        Ok(true)
    }

    /// Lets the users of a namespace connect again that were kept out. How many queues that was about.
    ///
    /// # Errors
    /// Those of the store and of the broker.
    pub async fn let_in(&self, owner: &Namespace, by: &By) -> Result<usize, ServiceError> {
        for slot in crate::domain::name::Slot::BOTH {
            if self.look(owner, slot).await?.is_some() {
                let user = self.policy.names.user(&owner.name, slot);
                self.broker.limit_user(&user, UserLimit::Connections, None).await?;
            }
        }
        let kept_out: Vec<_> = self
            .store
            .watches()
            .await?
            .into_iter()
            .filter(|watched| watched.namespace == owner.name && watched.watch.kept_out)
            .collect();
        let changes: Vec<_> = kept_out
            .into_iter()
            .map(|mut watched| {
                (watched.watch.kept_out, watched.watch.closings) = (false, 0);
                let audit =
                    self.audit(by, Deed::LetIn, Some(&owner.name), &watched.queue, "its users may connect again");
                Change { record: Record::Watch(watched), notices: Vec::new(), audits: vec![audit] }
            })
            .collect();
        self.write(&changes).await?;
        Ok(changes.len())
    }
}
