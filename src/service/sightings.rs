//! Which signed requests were made before, by what all processes on one store have seen.
//!
//! After a failure the store isn't asked for [`PAUSE`], and then no request waits for its answer until it has given one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::together::{Made, Together, each};
use crate::clock::Timestamp;
use crate::store::{Digest, Sighting, Store, StoreError};

/// For how long the store is not asked after it failed; then one request tries whether it is back.
const PAUSE: Duration = Duration::from_secs(5);

/// How long a request waits for the store. What it noted there counts all the same if it takes longer.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How often old sightings are forgotten while requests come, and how many by one call, so that none of those waits for long.
const FORGET_EVERY: Duration = Duration::from_secs(1);
const FORGET: u32 = 500;

/// The sightings of signed requests that all processes on one store share.
pub struct Sightings {
    store: Arc<dyn Store>,
    /// Until when the store isn't asked, where it failed.
    paused: Arc<Mutex<Option<Instant>>>,
    together: Together<(Digest, Sighting), Made<Sighting>>,
    /// When old ones were last forgotten.
    forgot: Mutex<Option<Instant>>,
}

impl Sightings {
    /// Those in this store.
    pub fn new(store: Arc<dyn Store>) -> Sightings {
        Sightings { store, paused: Arc::default(), together: Together::default(), forgot: Mutex::default() }
    }

    /// Remembers that a request was seen, and gives the first sighting of it where that is another one, as far as the store can
    /// tell. Those from `forget` or earlier are forgotten by and by, beside the requests.
    pub async fn earlier(&self, request: Digest, sighting: Sighting, forget: Timestamp) -> Option<Sighting> {
        let now = Instant::now();
        let asking = asking(&mut lock(&self.paused), now);
        if asking == Asking::No {
            return None;
        }
        if asking == Asking::Try {
            let (store, paused) = (self.store.clone(), self.paused.clone());
            tokio::spawn(async move {
                let answers = store.sight(&[(request, sighting)]).await.is_ok();
                *lock(&paused) = (!answers).then(|| Instant::now() + PAUSE);
            });
            return None;
        }
        self.forget(forget, now);
        let answer = match timeout(LONGEST_WAIT, self.sight((request, sighting))).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::Unavailable(format!("no answer within {LONGEST_WAIT:?}"))),
        };
        *lock(&self.paused) = answer.is_err().then(|| Instant::now() + PAUSE);
        match answer {
            Ok(first) => (first != sighting).then_some(first),
            Err(error) => {
                tracing::warn!("it can't be told whether requests were made before elsewhere: {error}");
                None
            }
        }
    }

    /// Stores a sighting together with others, in a task of their own, so that it is done to its end even if a caller hangs up.
    async fn sight(&self, seen: (Digest, Sighting)) -> Result<Sighting, StoreError> {
        let store = |seen: Vec<(Digest, Sighting)>| async move {
            let (store, count) = (self.store.clone(), seen.len());
            let stored = tokio::spawn(async move { store.sight(&seen).await }).await;
            each(stored.unwrap_or_else(|panic| Err(StoreError::Failed(panic.to_string()))), count)
        };
        match self.together.ask(seen, store).await {
            Made::Answer(first) => first,
            Made::Apart => Ok(self.store.sight(&[seen]).await?.first().copied().unwrap_or(seen.1)),
        }
    }

    /// Forgets the sightings from `before` or earlier, now and then, in a task of its own.
    fn forget(&self, before: Timestamp, now: Instant) {
        let mut forgot = lock(&self.forgot);
        if forgot.is_some_and(|last| now < last + FORGET_EVERY) {
            return;
        }
        *forgot = Some(now);
        let store = self.store.clone();
        tokio::spawn(async move {
            // After a failure the next one tries again.
            while store.forget_sightings(before, FORGET).await.is_ok_and(|forgotten| forgotten == FORGET as usize) {}
        });
    }
}

/// How a request asks the store what other processes have seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asking {
    /// And waits for the answer.
    Wait,
    /// And does not wait for it: it failed before.
    Try,
    /// Not at all.
    No,
}

/// How to ask the store now. After a pause one request does; it and all others go on without until there is an answer.
fn asking(paused: &mut Option<Instant>, now: Instant) -> Asking {
    match *paused {
        None => Asking::Wait,
        Some(until) if now < until => Asking::No,
        Some(_) => {
            *paused = Some(now + PAUSE);
            Asking::Try
        }
    }
}

fn lock(paused: &Mutex<Option<Instant>>) -> MutexGuard<'_, Option<Instant>> {
    paused.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failure_one_request_at_a_time_tries_the_store() {
        let (mut paused, now) = (None, Instant::now());
        assert_eq!([asking(&mut paused, now), asking(&mut paused, now)], [Asking::Wait; 2]);
        paused = Some(now + PAUSE);
        assert_eq!(asking(&mut paused, now), Asking::No);
        assert_eq!(asking(&mut paused, now + PAUSE), Asking::Try);
        assert_eq!(asking(&mut paused, now + PAUSE), Asking::No, "others go on without");
    }
}
