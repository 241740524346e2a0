//! The queues and exchanges of a namespace, as those who may see it are shown them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt as _, stream};

use super::listing::{ByNamespace, Listed};
use super::shown::QueueView;
use super::{IN_FLIGHT, Service, ServiceError};
use crate::broker::{Broker, BrokerError};
use crate::clock::Timestamp;
use crate::domain::inventory::{Binding, BrokerConnection, BrokerQueue, Consumer, QueueDetail};
use crate::domain::name::{Name, Slot, named_by_queue};
use crate::domain::namespace::Namespace;
use crate::domain::shown::{QueueFilter, ShownQueue};
use crate::domain::watched::Watched;

/// Of so many consumers at most it is asked what they hold.
pub(super) const MOST_HOLDERS: usize = 20;

/// The queues of the virtual host, by the namespaces that own them if there are such, and in the order of their names.
pub(super) async fn list_queues(broker: Arc<dyn Broker>) -> Result<ByNamespace<BrokerQueue>, BrokerError> {
    // A node that is starting lists too little.
    broker.ping().await?;
    let found = broker.queues().await?.into_iter();
    Ok(sorted(found.filter_map(|queue| Some((named_by_queue(&queue.name)?, queue))), |queue| &queue.name))
}

/// What is listed, by the namespaces that own it, and in the order of its names.
pub(super) fn sorted<T>(found: impl Iterator<Item = (Name, T)>, name: impl Fn(&T) -> &String) -> ByNamespace<T> {
    let mut all: ByNamespace<T> = HashMap::new();
    found.for_each(|(owner, one)| all.entry(owner).or_default().push(one));
    all.values_mut().for_each(|of| of.sort_by(|a, b| name(a).cmp(name(b))));
    all
}

impl Service {
    /// Queues of a live namespace in the order of their names, at most `limit`. They are those of a listing that all callers share,
    /// which came at most 5 s ago.
    ///
    /// # Errors
    /// [`ServiceError::NoNamespace`], and those of the store and of the broker's listing.
    pub async fn list_queues(
        &self,
        name: &Name,
        filter: &QueueFilter,
        limit: usize,
    ) -> Result<Vec<ShownQueue>, ServiceError> {
        let owner = self.live(name).await?;
        let listed = self.queues.recent(|| list_queues(self.broker.clone())).await?;
        let deleted = self.queues.deleted_since(&listed);
        let mut found = queues_of(&listed, name, &deleted).filter(|queue| filter.fits(queue)).cloned();
        if filter.state.is_none() {
            return self.shown(&owner, found.take(limit).collect()).await;
        }
        let mut all = self.shown(&owner, found.by_ref().collect()).await?;
        all.retain(|shown| filter.fits_state(shown));
        all.truncate(limit);
        Ok(all)
    }

    /// All that is shown of one queue of a live namespace.
    ///
    /// # Errors
    /// [`ServiceError::NoNamespace`], [`ServiceError::Elsewhere`], [`ServiceError::Missing`], and those of the store and of the
    /// broker.
    pub async fn queue(&self, name: &Name, queue: &str) -> Result<QueueView, ServiceError> {
        self.check_queue(name, queue)?;
        let owner = self.live(name).await?;
        let missing = || ServiceError::Missing("queue", queue.to_owned());
        let found = self.broker.queue(queue).await?.ok_or_else(missing)?;
        let (detail, bindings) = self.details_of(queue).await?;
        self.view_of(&owner, found, detail, bindings).await
    }

    /// The same, with counts that are some seconds old where RabbitMQ keeps statistics: it answers sooner then, and old releases tell
    /// fresh ones of one queue only by a list.
    ///
    /// # Errors
    /// As for [`Service::queue`].
    pub async fn queue_lately(&self, name: &Name, queue: &str) -> Result<QueueView, ServiceError> {
        let looked = self.look_lately(name, queue).await;
        match &looked {
            Ok(view) => self.note_queue(queue, Some(view)),
            Err(ServiceError::Missing(..) | ServiceError::NoNamespace(_)) => self.note_queue(queue, None),
            Err(_) => {}
        }
        looked
    }

    async fn look_lately(&self, name: &Name, queue: &str) -> Result<QueueView, ServiceError> {
        self.check_queue(name, queue)?;
        let owner = self.live(name).await?;
        let (mut detail, bindings) = self.details_of(queue).await?;
        match detail.lately.take() {
            Some(found) => self.view_of(&owner, found, detail, bindings).await,
            None => self.queue(name, queue).await,
        }
    }

    async fn details_of(&self, queue: &str) -> Result<(QueueDetail, Vec<Binding>), ServiceError> {
        let missing = || ServiceError::Missing("queue", queue.to_owned());
        let (detail, bindings) = tokio::try_join!(self.broker.queue_detail(queue), self.broker.bindings(queue))?;
        Ok((detail.ok_or_else(missing)?, bindings.ok_or_else(missing)?))
    }

    async fn view_of(
        &self,
        owner: &Namespace,
        found: BrokerQueue,
        detail: QueueDetail,
        mut bindings: Vec<Binding>,
    ) -> Result<QueueView, ServiceError> {
        let queue = found.name.clone();
        bindings.sort();
        let (mut watched, histories) = self.store.seen_of(std::slice::from_ref(&queue)).await?;
        let history = histories.get(&queue).filter(|seen| seen.incarnation().fingerprint == found.fingerprint);
        let fine = history.and_then(|history| history.looks().next()).map(|oldest| oldest.at);
        let lows = history.iter().flat_map(|history| history.lows()).filter(|low| fine.is_none_or(|at| low.at < at));
        let looks = lows.chain(history.iter().flat_map(|history| history.looks())).copied().collect();
        let (criteria, now) = (&self.policy.criteria, self.now());
        let shown = ShownQueue::of(found, history, watched.pop(), &owner.exemptions, criteria, now);
        let history = history.cloned();
        let requested = owner.requests.iter().find(|of| of.queue == queue).cloned();
        let (consumers, readers, traits) = (detail.consumers, detail.details, detail.traits);
        Ok(QueueView { shown, consumers, readers, traits, bindings, looks, history, requested })
    }

    /// How many messages the channel of each of these consumers holds without having acknowledged them, in their order, as far as
    /// the broker tells; of many, of the first ones.
    pub async fn held_by(&self, readers: &[Consumer]) -> Vec<Option<u64>> {
        let asked: Vec<_> = readers.iter().take(MOST_HOLDERS).map(|reader| reader.channel.clone()).collect();
        let asked = asked.into_iter().map(|channel| {
            let broker = self.broker.clone();
            async move { broker.channel_unacked(&channel).await.ok().flatten() }
        });
        let mut held: Vec<_> = stream::iter(asked).buffered(IN_FLIGHT).collect().await;
        held.resize(readers.len(), None);
        held
    }

    /// The queues of a namespace by a listing that begins now.
    pub(super) async fn queues_now(&self, name: &Name) -> Result<Vec<BrokerQueue>, ServiceError> {
        let listed = self.queues.fresh(|| list_queues(self.broker.clone())).await?;
        Ok(listed.found.get(name).cloned().unwrap_or_default())
    }

    /// The record of a live namespace, for who may see into it.
    ///
    /// # Errors
    /// [`ServiceError::NoNamespace`], and those of the store.
    pub async fn live_namespace(&self, name: &Name) -> Result<Namespace, ServiceError> {
        self.live(name).await
    }

    /// Who is connected as one of the users of a namespace, by a call for each of them.
    ///
    /// # Errors
    /// [`ServiceError::NoNamespace`], and those of the store and of the broker.
    pub async fn connections_of(&self, name: &Name) -> Result<Vec<BrokerConnection>, ServiceError> {
        let found = self.live(name).await?;
        let own = Slot::BOTH.map(|slot| self.policy.names.user(name, slot));
        let adopted = found.adopted().map(|_| name.to_string());
        let users: Vec<_> = own.into_iter().chain(adopted).collect();
        let asked = users.iter().map(|user| self.broker.connections_of(user));
        let all = futures::future::try_join_all(asked).await?;
        Ok(all.into_iter().flatten().collect())
    }

    /// The same, with what their programs call themselves and since when they are connected, as far as the broker tells; of many, of
    /// the first ones.
    ///
    /// # Errors
    /// As for [`Service::connections_of`].
    pub async fn connected(&self, name: &Name) -> Result<Vec<BrokerConnection>, ServiceError> {
        let mut all = self.connections_of(name).await?;
        let asked = all.iter().take(MOST_HOLDERS).map(|of| of.name.clone()).map(|connection| {
            let broker = self.broker.clone();
            async move { broker.connection(&connection).await.ok().flatten() }
        });
        let asked: Vec<_> = asked.collect();
        let told: Vec<_> = stream::iter(asked).buffered(IN_FLIGHT).collect().await;
        for (of, told) in all.iter_mut().zip(told) {
            if let Some(told) = told {
                *of = told;
            }
        }
        Ok(all)
    }

    /// The record of a live namespace.
    pub(super) async fn live(&self, name: &Name) -> Result<Namespace, ServiceError> {
        self.memory.check_store()?;
        let found = self.store.namespace(name).await?.filter(|found| found.gone.is_none());
        found.ok_or_else(|| ServiceError::NoNamespace(name.clone()))
    }

    /// Checks that a queue is one of the namespace, by its name.
    pub(super) fn check_queue(&self, name: &Name, queue: &str) -> Result<(), ServiceError> {
        match named_by_queue(queue).as_ref() == Some(name) {
            true => Ok(()),
            false => Err(ServiceError::Elsewhere(format!("queue/{name}/"))),
        }
    }

    /// What is shown of these queues.
    async fn shown(&self, owner: &Namespace, queues: Vec<BrokerQueue>) -> Result<Vec<ShownQueue>, ServiceError> {
        let names: Vec<_> = queues.iter().map(|queue| queue.name.clone()).collect();
        let (watches, histories) = self.store.seen_of(&names).await?;
        let mut watches: HashMap<String, Watched> =
            watches.into_iter().map(|known| (known.queue.clone(), known)).collect();
        let (criteria, now): (_, Timestamp) = (&self.policy.criteria, self.now());
        let shown = |queue: BrokerQueue| {
            let (history, watched) = (histories.get(&queue.name), watches.remove(&queue.name));
            ShownQueue::of(queue, history, watched, &owner.exemptions, criteria, now)
        };
        Ok(queues.into_iter().map(shown).collect())
    }
}

/// The queues of a namespace in a listing, without those that were deleted meanwhile.
fn queues_of<'a>(
    listed: &'a Listed<BrokerQueue>,
    name: &Name,
    deleted: &'a HashSet<String>,
) -> impl Iterator<Item = &'a BrokerQueue> {
    listed.found.get(name).into_iter().flatten().filter(|queue| !deleted.contains(&queue.name))
}
