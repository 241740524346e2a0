//! What is shown of exchanges.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};

use super::listing::{ByNamespace, Listed};
use super::queues::{MOST_HOLDERS, sorted};
use super::shown::ExchangeView;
use super::{IN_FLIGHT, Service, ServiceError};
use crate::broker::{Broker, BrokerError};
use crate::clock::Timestamp;
use crate::domain::inventory::{BrokerExchange, Publisher};
use crate::domain::name::{Name, named_by_exchange};
use crate::domain::shown::contains;

/// How long whoever looks at many waits for a new listing.
const PATIENCE: Duration = Duration::from_secs(4);

/// Exchanges, with the namespaces that own them.
#[derive(Debug, Clone)]
pub struct Exchanges {
    /// The exchanges, by the namespaces in the order in which they were asked for.
    pub found: Vec<(Name, BrokerExchange)>,
    /// As of when they are, and why, where the broker does not answer.
    pub last: Option<(Timestamp, Arc<ServiceError>)>,
}

/// The exchanges of the virtual host, by the namespaces that own them if there are such, and in the order of their names.
async fn list_exchanges(broker: Arc<dyn Broker>) -> Result<ByNamespace<BrokerExchange>, BrokerError> {
    broker.ping().await?;
    let found = broker.exchange_details().await?.into_iter();
    Ok(sorted(found.filter_map(|one| Some((named_by_exchange(&one.name)?, one))), |one| &one.name))
}

impl Service {
    /// Exchanges of a live namespace in the order of their names, at most `limit`, of a listing that all callers share: those with `search` in their names, which come after the one named `after`.
    ///
    /// # Errors
    /// As for [`Service::list_queues`].
    pub async fn list_exchanges(
        &self,
        name: &Name,
        search: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<BrokerExchange>, ServiceError> {
        self.live(name).await?;
        let listed = self.exchanges.recent(|| list_exchanges(self.broker.clone())).await?;
        let deleted = self.exchanges.deleted_since(&listed);
        let fits = |one: &&BrokerExchange| {
            !deleted.contains(&one.name)
                && after.is_none_or(|after| one.name.as_str() > after)
                && search.is_none_or(|search| contains(&one.name, search))
        };
        Ok(listed.found.get(name).into_iter().flatten().filter(fits).take(limit).cloned().collect())
    }

    /// One exchange of a live namespace, with who publishes to it and what is bound to it.
    ///
    /// # Errors
    /// As for [`Service::queue`].
    pub async fn exchange(&self, name: &Name, exchange: &str) -> Result<ExchangeView, ServiceError> {
        let looked = self.look_at_exchange(name, exchange).await;
        match &looked {
            Ok(view) => self.note_exchange(exchange, Some(view)),
            Err(ServiceError::Missing(..) | ServiceError::NoNamespace(_)) => self.note_exchange(exchange, None),
            Err(_) => {}
        }
        looked
    }

    async fn look_at_exchange(&self, name: &Name, exchange: &str) -> Result<ExchangeView, ServiceError> {
        if named_by_exchange(exchange).as_ref() != Some(name) {
            return Err(ServiceError::Elsewhere(format!("exchange/{name}/")));
        }
        let missing = || ServiceError::Missing("exchange", exchange.to_owned());
        let all = self.list_exchanges(name, None, None, usize::MAX).await?;
        let found = all.into_iter().find(|one| one.name == exchange).ok_or_else(missing)?;
        let mut detail = self.broker.exchange_detail(exchange).await?.ok_or_else(missing)?;
        let exact = !detail.publishers.is_empty();
        if !exact {
            detail.publishers = self.publishers_of(name).await?;
        }
        detail.bound.sort();
        Ok(ExchangeView { exchange: found, detail, exact })
    }

    /// Who publishes to any exchange of a namespace: nobody else may. Of many connections, the first ones are asked.
    async fn publishers_of(&self, name: &Name) -> Result<Vec<Publisher>, ServiceError> {
        let asked = self.connections_of(name).await?.into_iter().take(MOST_HOLDERS).map(|connection| {
            let broker = self.broker.clone();
            async move { (broker.published_by(&connection.name).await.unwrap_or(0), connection) }
        });
        let all: Vec<_> = stream::iter(asked).buffered(IN_FLIGHT).collect().await;
        let published = all.into_iter().filter(|(messages, _)| *messages > 0).map(|(messages, of)| Publisher {
            connection: of.name,
            user: of.user,
            address: of.address,
            messages,
        });
        Ok(published.collect())
    }

    /// The exchanges of these namespaces, by the same listing, or as they were known last where the broker does not answer.
    ///
    /// # Errors
    /// Those of the broker's listing, where nothing was known yet.
    pub async fn exchanges_of(&self, names: &[Name]) -> Result<Exchanges, ServiceError> {
        let recent = self.exchanges.recent(|| list_exchanges(self.broker.clone()));
        let (listed, last) = match (tokio::time::timeout(PATIENCE, recent).await, self.exchanges.last()) {
            (Ok(Ok(listed)), _) => (listed, None),
            (Ok(Err(error)), Some(last)) => {
                let at = self.now().minus(last.age());
                (last, Some((at, Arc::new(error.into()))))
            }
            (Ok(Err(error)), None) => return Err(error.into()),
            (Err(_), Some(last)) => {
                let at = self.now().minus(last.age());
                (last, Some((at, Arc::new(ServiceError::TooSlow("listing exchanges")))))
            }
            (Err(_), None) => return Err(ServiceError::TooSlow("listing exchanges")),
        };
        let deleted = self.exchanges.deleted_since(&listed);
        let mut found = Vec::new();
        for name in names {
            let of = listed.found.get(name).into_iter().flatten().filter(|one| !deleted.contains(&one.name));
            found.extend(of.map(|one| (name.clone(), one.clone())));
        }
        Ok(Exchanges { found, last })
    }

    /// All exchanges, by the listing that all callers share.
    pub(super) async fn list_all_exchanges(&self) -> Result<Arc<Listed<BrokerExchange>>, ServiceError> {
        Ok(self.exchanges.recent(|| list_exchanges(self.broker.clone())).await?)
    }

    /// The exchanges of a namespace, likewise.
    pub(super) async fn exchanges_now(&self, name: &Name) -> Result<Vec<BrokerExchange>, ServiceError> {
        let listed = self.exchanges.fresh(|| list_exchanges(self.broker.clone())).await?;
        Ok(listed.found.get(name).cloned().unwrap_or_default())
    }
}
