//! Locks: claims of one namespace by one process wait for each other, because they read and write the same record. Of a
//! fleet that shares a namespace and comes back at once, all but one would otherwise lose the race for the record, again
//! and again, and each loss is work for the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use crate::domain::name::Name;

/// How long a claim waits for its lock. Then it goes on without, so that one which hangs does not hold up the others.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// A lock for each namespace that is being claimed.
#[derive(Default)]
pub(super) struct Locks(Mutex<HashMap<Name, Weak<tokio::sync::Mutex<()>>>>);

impl Locks {
    /// Waits for the lock of a namespace. It is held until what this gives is dropped.
    pub async fn lock(&self, name: &Name) -> Option<OwnedMutexGuard<()>> {
        let lock = self.of(name);
        tokio::time::timeout(LOCK_TIMEOUT, lock.lock_owned()).await.ok()
    }

    fn of(&self, name: &Name) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        if locks.len() == locks.capacity() {
            locks.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::default();
        locks.insert(name.clone(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_has_the_turn_until_it_is_done_and_namespaces_do_not_wait_for_each_other() {
        let (locks, [x, y]) = (Locks::default(), ["x", "y"].map(|name| Name::from_stored(name.into())));
        let first = locks.lock(&x).await;
        assert!(first.is_some() && locks.lock(&y).await.is_some());
        let mut second = std::pin::pin!(locks.lock(&x));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        assert!(second.await.is_some());
    }

    #[tokio::test]
    async fn who_waits_too_long_goes_on_without() {
        let (locks, x) = (Locks::default(), Name::from_stored("x".into()));
        let _hangs = locks.lock(&x).await;
        assert!(locks.lock(&x).await.is_none());
    }

    #[tokio::test]
    async fn namespaces_that_nobody_claims_are_forgotten() {
        let locks = Locks::default();
        for number in 0..10_000 {
            locks.lock(&Name::from_stored(number.to_string())).await;
        }
        assert!(locks.0.lock().unwrap().len() < 100);
    }
}
