//! Looking whether the broker lists what it says is gone. In a list, what is not UTF-8 in a name stands as another character, and
//! whoever calls for a thing by that name is answered 404, though it is there.

use std::collections::HashSet;
use std::time::Duration;

use super::{Service, ServiceError};
use crate::domain::snapshot::Remains;

/// How often, and how long apart, we look whether a list shows what a 404 says is gone: the list of connections may lag.
const LISTINGS: usize = 2;
const BETWEEN_LISTINGS: Duration = Duration::from_secs(1);

impl Service {
    /// Which of the things that a 404 says are gone the broker lists all the same.
    pub(super) async fn listed(&self, gone: &Remains) -> Result<Vec<String>, ServiceError> {
        let (broker, Remains { users, connections, queues, exchanges, .. }) = (&self.broker, gone);
        let mut left = Vec::new();
        for look in 0..if gone.count() > 0 { LISTINGS } else { 0 } {
            if look > 0 {
                tokio::time::sleep(BETWEEN_LISTINGS).await;
            }
            // A node that is starting lists too little.
            broker.ping().await?;
            left.clear();
            if !users.is_empty() {
                left.extend(among(users, broker.users().await?.into_iter().map(|user| user.name)));
            }
            if !connections.is_empty() {
                left.extend(among(connections, broker.connections().await?.into_iter().map(|found| found.name)));
            }
            if !queues.is_empty() {
                left.extend(among(queues, broker.queues().await?.into_iter().map(|queue| queue.name)));
            }
            if !exchanges.is_empty() {
                left.extend(among(exchanges, broker.exchanges().await?.into_iter()));
            }
            if left.is_empty() {
                break;
            }
        }
        Ok(left)
    }
}

/// Those of `gone` that are `listed`.
fn among(gone: &[String], listed: impl Iterator<Item = String>) -> impl Iterator<Item = String> {
    let listed: HashSet<String> = listed.collect();
    gone.iter().filter(move |name| listed.contains(*name)).cloned()
}
