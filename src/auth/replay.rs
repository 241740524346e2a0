//! Requests that were made before. Whoever comes by a signed request, in the log of a proxy say, must not be able to make
//! it again.
//!
//! The rule, for requests that are authenticated by a Hawk header:
//!
//! * The header of a request is remembered for half an hour from the first time that it is verified. It may be a quarter of an
//!   hour ahead of our clock then, and counts as fresh for a quarter of an hour after its time.
//! * The same request again, with the same body, is answered for [`RETRY_WINDOW`] after the first one, because
//!   Taskcluster's client for Rust repeats a request as it is where the reply got lost. A claim is answered so only with the
//!   password that the first one could have got: where another has taken its place meanwhile, it is refused. What it sets,
//!   `expires` and `contact`, it sets again. So a repetition gives nobody anything that the first request did not give.
//! * With another body it is refused, although the signature may not cover the body. Later it is refused in any case.
//!
//! All other clients of Taskcluster sign each attempt anew. Bewits are meant to be used many times, and are not remembered.
//!
//! Each process remembers by itself, and asks the store what the others have seen. While the store does not answer, what a
//! process knows by itself has to do; after a failure it isn't asked for [`PAUSE`], so that nobody waits for it in vain. A
//! process remembers the last [`MOST`] requests. Where more of them come within half an hour, and the store does not
//! answer, the oldest could be made again. Nobody can bring that about without being authenticated.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout};

use super::Refusal;
use super::hawk::SKEW;
use crate::clock::Timestamp;
use crate::store::{Digest, Sighting, Store, StoreError};

/// For how long a request may be repeated. Taskcluster's client for Rust makes six attempts, with 6.2 s of pauses between
/// them, and waits for each reply for up to half a minute.
pub const RETRY_WINDOW: Duration = Duration::from_secs(240);

/// For how long a request is remembered. A header may be ahead of our clock by [`SKEW`], and is fresh for as long after that.
const LIFETIME: Duration = SKEW.saturating_mul(2);

/// How many requests a process remembers, of about 150 bytes each.
pub const MOST: usize = 100_000;

/// For how long the store is not asked after it failed; then one request tries whether it is back.
pub const PAUSE: Duration = Duration::from_secs(5);

/// How long a request waits for the store. What it noted there counts all the same if it takes longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The requests that were seen.
#[derive(Default)]
pub(super) struct Replays {
    here: Mutex<Seen>,
    store: Option<Arc<dyn Store>>,
    /// Until when the store isn't asked, where it failed.
    paused: Mutex<Option<Instant>>,
}

impl Replays {
    /// Those that all processes on `store` have seen.
    pub fn shared(store: Arc<dyn Store>) -> Replays {
        Replays { store: Some(store), ..Replays::default() }
    }

    /// When this request was first seen, if it was seen before, and may be made again.
    pub async fn first_seen(&self, request: Digest, body: &[u8], now: Timestamp) -> Result<Option<Timestamp>, Refusal> {
        let sighting = Sighting { body: Sha256::digest(body).into(), seen: now };
        let forget = now.minus(LIFETIME);
        let here = self.here.lock().unwrap_or_else(PoisonError::into_inner).sight(request, sighting, forget);
        let known = match here {
            Some(first) => Some(first),
            None => self.seen_elsewhere(request, sighting, forget).await,
        };
        known.map_or(Ok(None), |first| judge(first, sighting).map(Some))
    }

    fn paused(&self) -> MutexGuard<'_, Option<Instant>> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether to ask the store. After a pause one request does; the others go on without until it has an answer.
    fn may_ask(&self) -> bool {
        let (mut paused, now) = (self.paused(), Instant::now());
        match *paused {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                *paused = Some(now + PAUSE);
                true
            }
        }
    }

    /// The first sighting by another process, which is remembered here too.
    async fn seen_elsewhere(&self, request: Digest, sighting: Sighting, forget: Timestamp) -> Option<Sighting> {
        let store = self.store.as_ref()?;
        if !self.may_ask() {
            return None;
        }
        // In a task of its own, so that it is done to its end even if the caller hangs up.
        let store = store.clone();
        let asked = tokio::spawn(async move { store.sight(&request, sighting, forget).await });
        let answer = match timeout(PATIENCE, asked).await {
            Ok(answer) => answer.unwrap_or_else(|panic| Err(StoreError::Failed(panic.to_string()))),
            Err(_) => Err(StoreError::Unavailable(format!("no answer within {PATIENCE:?}"))),
        };
        *self.paused() = answer.is_err().then(|| Instant::now() + PAUSE);
        match answer {
            Ok(first) if first == sighting => None,
            Ok(first) => {
                self.here.lock().unwrap_or_else(PoisonError::into_inner).correct(request, first);
                Some(first)
            }
            Err(error) => {
                tracing::warn!("it can't be told whether requests were made before elsewhere: {error}");
                None
            }
        }
    }
}

/// Whether what was seen `first` may be seen `again`.
fn judge(first: Sighting, again: Sighting) -> Result<Timestamp, Refusal> {
    if first.body != again.body {
        return Err(Refusal::Rewritten { first: first.seen });
    }
    if again.seen.since(first.seen) > RETRY_WINDOW {
        return Err(Refusal::Replayed { first: first.seen });
    }
    Ok(first.seen)
}

/// What one process has seen, and in which order.
#[derive(Default)]
struct Seen {
    first: HashMap<Digest, Sighting>,
    order: VecDeque<Digest>,
}

impl Seen {
    /// The first sighting of a request; `None` where it is this one.
    fn sight(&mut self, request: Digest, sighting: Sighting, forget: Timestamp) -> Option<Sighting> {
        let first = self.first.get(&request).copied().filter(|first| first.seen > forget);
        if first.is_some() {
            return first;
        }
        while self.order.front().is_some_and(|oldest| self.is_over(oldest, forget)) {
            self.order.pop_front().and_then(|oldest| self.first.remove(&oldest));
        }
        if self.first.insert(request, sighting).is_none() {
            self.order.push_back(request);
        }
        None
    }

    /// Whether the oldest one is forgotten, because of its age, or because of its place.
    fn is_over(&self, oldest: &Digest, forget: Timestamp) -> bool {
        self.order.len() >= MOST || self.first.get(oldest).is_none_or(|first| first.seen <= forget)
    }

    /// Puts an earlier sighting in the place of ours.
    fn correct(&mut self, request: Digest, first: Sighting) {
        self.first.entry(request).and_modify(|known| *known = first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn request(number: u64) -> Digest {
        Sha256::digest(number.to_be_bytes()).into()
    }

    async fn see(replays: &Replays, number: u64, body: &str, seconds: i64) -> Result<Option<Timestamp>, Refusal> {
        replays.first_seen(request(number), body.as_bytes(), at(seconds)).await
    }

    #[tokio::test]
    async fn a_request_may_be_repeated_for_some_minutes_and_no_longer() {
        let replays = Replays::default();
        assert_eq!(see(&replays, 1, "{}", 0).await, Ok(None));
        assert_eq!(see(&replays, 1, "{}", 0).await, Ok(Some(at(0))));
        assert_eq!(see(&replays, 1, "{}", 240).await, Ok(Some(at(0))));
        assert_eq!(see(&replays, 1, "{}", 241).await, Err(Refusal::Replayed { first: at(0) }));
        assert_eq!(see(&replays, 2, "{}", 241).await, Ok(None));
        let end = i64::try_from(LIFETIME.as_secs()).unwrap() - 1;
        assert_eq!(see(&replays, 1, "{}", end).await, Err(Refusal::Replayed { first: at(0) }), "while it is fresh");
    }

    #[tokio::test]
    async fn a_request_is_never_repeated_with_another_body() {
        let replays = Replays::default();
        assert_eq!(see(&replays, 1, "{}", 0).await, Ok(None));
        assert_eq!(see(&replays, 1, "{ }", 1).await, Err(Refusal::Rewritten { first: at(0) }));
        assert_eq!(see(&replays, 1, "{}", 2).await, Ok(Some(at(0))), "the first body still counts");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_one_request_at_a_time_tries_the_store() {
        let replays = Replays::default();
        assert!(replays.may_ask() && replays.may_ask());
        *replays.paused() = Some(Instant::now() + PAUSE);
        assert!(!replays.may_ask());
        tokio::time::advance(PAUSE).await;
        assert!(replays.may_ask());
        assert!(!replays.may_ask(), "others go on without");
    }

    #[tokio::test]
    async fn what_is_old_is_forgotten_and_what_is_too_much_too() {
        let replays = Replays::default();
        for number in 0..=MOST as u64 {
            assert_eq!(see(&replays, number, "", 0).await, Ok(None));
        }
        let kept = |replays: &Replays| {
            let seen = replays.here.lock().unwrap();
            (seen.first.len(), seen.order.len())
        };
        assert_eq!(kept(&replays), (MOST, MOST));
        assert_eq!(see(&replays, 1, "", 1).await, Ok(Some(at(0))));
        assert_eq!(see(&replays, 0, "", 1).await, Ok(None), "the oldest has gone");
        assert_eq!(see(&replays, 0, "", i64::try_from(LIFETIME.as_secs()).unwrap() + 1).await, Ok(None));
        assert_eq!(kept(&replays), (1, 1));
    }
}
