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
//! Each process remembers by itself, and asks [`Sightings`] what the others have seen. While the store does not answer, what a
//! process knows by itself has to do. A process remembers the last [`MOST`] requests. Where more of them come within half an hour, and the store does not
//! answer, the oldest could be made again. Nobody can bring that about without being authenticated.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::hawk::SKEW;
use super::refusal::Refusal;
use crate::clock::Timestamp;
use crate::service::{Digest, Sighting, Sightings};

/// For how long a request may be repeated. Taskcluster's client for Rust makes six attempts, with 6.2 s of pauses between
/// them, and waits for each reply for up to half a minute.
pub const RETRY_WINDOW: Duration = Duration::from_secs(240);

/// For how long a request is remembered. A header may be ahead of our clock by [`SKEW`], and is fresh for as long after that.
const LIFETIME: Duration = SKEW.saturating_mul(2);

/// How many requests a process remembers, of about 150 bytes each.
pub const MOST: usize = 100_000;

/// The requests that were seen.
#[derive(Default)]
pub(super) struct Replays {
    here: Mutex<Seen>,
    /// What all processes have seen.
    elsewhere: Option<Sightings>,
}

impl Replays {
    /// Those that all processes have seen.
    pub fn shared(sightings: Sightings) -> Replays {
        Replays { elsewhere: Some(sightings), ..Replays::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When this request was first seen, if it was seen before, and may be made again.
    pub async fn first_seen(&self, request: Digest, body: &[u8], now: Timestamp) -> Result<Option<Timestamp>, Refusal> {
        let sighting = Sighting { body: Sha256::digest(body).into(), seen: now };
        let forget = now.minus(LIFETIME);
        let here = self.seen().sight(request, sighting, forget);
        let known = match here {
            Some(first) => Some(first),
            None => {
                let elsewhere = match &self.elsewhere {
                    Some(sightings) => sightings.earlier(request, sighting, forget).await,
                    None => None,
                };
                // It is remembered here too.
                elsewhere.inspect(|first| self.seen().correct(request, *first))
            }
        };
        known.map_or(Ok(None), |first| judge(first, sighting).map(Some))
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
