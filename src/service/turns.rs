//! Turns: claims of one namespace by one process wait for each other, because they read and write the same record. Of a
//! fleet that shares a namespace and comes back at once, all but one would otherwise lose the race for the record, again
//! and again, and each loss is work for the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use crate::domain::name::Name;

/// How long a claim waits for its turn. Then it goes on without, so that one which hangs does not hold up the others.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whose turn it is, for each namespace.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<Name, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits for the turn of a claim. It lasts until what this gives is dropped.
    pub async fn wait(&self, name: &Name) -> Option<OwnedMutexGuard<()>> {
        let turn = self.of(name);
        tokio::time::timeout(PATIENCE, turn.lock_owned()).await.ok()
    }

    fn of(&self, name: &Name) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(name).and_then(Weak::upgrade) {
            return turn;
        }
        if turns.len() == turns.capacity() {
            turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::default();
        turns.insert(name.clone(), Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_has_the_turn_until_it_is_done_and_namespaces_do_not_wait_for_each_other() {
        let (turns, [x, y]) = (Turns::default(), ["x", "y"].map(|name| Name::from_stored(name.into())));
        let first = turns.wait(&x).await;
        assert!(first.is_some() && turns.wait(&y).await.is_some());
        let mut second = std::pin::pin!(turns.wait(&x));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        assert!(second.await.is_some());
    }

    #[tokio::test]
    async fn who_waits_too_long_goes_on_without() {
        let (turns, x) = (Turns::default(), Name::from_stored("x".into()));
        let _hangs = turns.wait(&x).await;
        assert!(turns.wait(&x).await.is_none());
    }

    #[tokio::test]
    async fn namespaces_that_nobody_claims_are_forgotten() {
        let turns = Turns::default();
        for number in 0..10_000 {
            turns.wait(&Name::from_stored(number.to_string())).await;
        }
        assert!(turns.0.lock().unwrap().len() < 100);
    }
}
