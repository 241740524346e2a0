//! A listing of the broker that all who ask for one share: however many there are, the broker makes one at a time.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::time::Instant;

use crate::broker::BrokerError;
use crate::domain::name::Name;

/// How old a listing may be that is shown again.
const AGE: Duration = Duration::from_secs(5);
/// How long one may take. Whoever waits is told before their request is given up, and one that hangs holds up nobody for
/// longer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Things by the namespaces that own them.
pub(super) type ByNamespace<T> = HashMap<Name, Vec<T>>;

/// A listing, as it came.
pub(super) struct Listed<T> {
    begun: Instant,
    ended: Instant,
    /// What is listed.
    pub(super) found: ByNamespace<T>,
}

impl<T> Listed<T> {
    /// How long ago it came.
    pub(super) fn age(&self) -> Duration {
        self.ended.elapsed()
    }
}

type Answer<T> = Result<Arc<Listed<T>>, BrokerError>;

/// One that is under way, and when it began.
type Flight<T> = (Instant, Shared<BoxFuture<'static, Answer<T>>>);

struct State<T> {
    last: Option<Arc<Listed<T>>>,
    flight: Option<Flight<T>>,
    /// What was deleted, and when: an older listing has it still.
    deleted: HashMap<String, Instant>,
}

/// The last listing, and the one that is under way.
pub(super) struct Listing<T>(Arc<Mutex<State<T>>>);

impl<T> Default for Listing<T> {
    fn default() -> Listing<T> {
        Listing(Arc::new(Mutex::new(State { last: None, flight: None, deleted: HashMap::new() })))
    }
}

fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a flight, even if it panics.
struct Landing<T>(Arc<Mutex<State<T>>>);

impl<T> Drop for Landing<T> {
    fn drop(&mut self) {
        lock(&self.0).flight = None;
    }
}

impl<T: Send + Sync + 'static> Listing<T> {
    /// One that came at most 5 s ago, or one that is under way, or a new one by `list`.
    pub(super) async fn recent<F>(&self, list: impl FnOnce() -> F) -> Answer<T>
    where
        F: Future<Output = Result<ByNamespace<T>, BrokerError>> + Send + 'static,
    {
        let (_, answer) = {
            let mut state = lock(&self.0);
            if let Some(last) = state.last.as_ref().filter(|last| last.ended.elapsed() <= AGE) {
                return Ok(last.clone());
            }
            self.under_way(&mut state, list)
        };
        answer.await
    }

    /// The last one that came, however old it is.
    pub(super) fn last(&self) -> Option<Arc<Listed<T>>> {
        lock(&self.0).last.clone()
    }

    /// One that begins from now on.
    pub(super) async fn fresh<F>(&self, list: impl Fn() -> F) -> Answer<T>
    where
        F: Future<Output = Result<ByNamespace<T>, BrokerError>> + Send + 'static,
    {
        let asked = Instant::now();
        loop {
            let (begun, answer) = self.under_way(&mut lock(&self.0), &list);
            let answer = answer.await;
            if begun >= asked {
                return answer;
            }
        }
    }

    /// The flight, or a new one. It goes on even if nobody waits for it any more, so that whoever comes next finds what it brings.
    fn under_way<F>(&self, state: &mut State<T>, list: impl FnOnce() -> F) -> Flight<T>
    where
        F: Future<Output = Result<ByNamespace<T>, BrokerError>> + Send + 'static,
    {
        if let Some(flight) = &state.flight {
            return flight.clone();
        }
        let (begun, shared, list) = (Instant::now(), self.0.clone(), list());
        let task = tokio::spawn(async move {
            let _landing = Landing(shared.clone());
            let late = |_| Err(BrokerError::Unavailable(format!("no listing within {PATIENCE:?}")));
            let found = tokio::time::timeout(PATIENCE, list).await.unwrap_or_else(late)?;
            let listed = Arc::new(Listed { begun, ended: Instant::now(), found });
            let mut state = lock(&shared);
            state.deleted.retain(|_, at| *at >= begun);
            state.last = Some(listed.clone());
            Ok(listed)
        });
        let lost = |panic: tokio::task::JoinError| Err(BrokerError::Unavailable(panic.to_string()));
        let flight = (begun, async move { task.await.unwrap_or_else(lost) }.boxed().shared());
        state.flight = Some(flight.clone());
        flight
    }

    /// Notes that something was deleted: whoever did that is not shown it any more.
    pub(super) fn note_deleted(&self, name: &str) {
        lock(&self.0).deleted.insert(name.to_owned(), Instant::now());
    }

    /// What a listing has and was deleted since it was begun.
    pub(super) fn deleted_since(&self, listed: &Listed<T>) -> HashSet<String> {
        let state = lock(&self.0);
        state.deleted.iter().filter(|(_, at)| **at >= listed.begun).map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;

    use super::*;

    type Counted = Arc<AtomicUsize>;

    /// A listing that takes a second, and has the number of those before it.
    fn list(counted: &Counted) -> impl Future<Output = Result<ByNamespace<usize>, BrokerError>> + Send + use<> {
        let counted = counted.clone();
        async move {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(HashMap::from([(name(), vec![number])]))
        }
    }

    fn name() -> Name {
        Name::from_stored("taskcluster-x".to_owned())
    }

    fn number(answer: Answer<usize>) -> usize {
        answer.unwrap().found[&name()][0]
    }

    #[tokio::test(start_paused = true)]
    async fn fifty_callers_share_one_listing_that_is_at_most_five_seconds_old() {
        let (listing, counted) = (Listing::default(), Counted::default());
        let all = join_all((0..50).map(|_| listing.recent(|| list(&counted)))).await;
        assert!(all.into_iter().all(|answer| number(answer) == 0));
        tokio::time::advance(AGE).await;
        assert_eq!(number(listing.recent(|| list(&counted)).await), 0);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(number(listing.recent(|| list(&counted)).await), 1);
        assert_eq!(counted.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_must_be_fresh_begins_after_it_is_asked_for_and_is_shared_all_the_same() {
        let (listing, counted) = (Arc::new(Listing::default()), Counted::default());
        let (first, counter) = (listing.clone(), counted.clone());
        let first = tokio::spawn(async move { number(first.recent(|| list(&counter)).await) });
        tokio::time::sleep(Duration::from_millis(500)).await;
        let fresh = join_all((0..50).map(|_| listing.fresh(|| list(&counted)))).await;
        assert!(fresh.into_iter().all(|answer| number(answer) == 1));
        assert_eq!((first.await.unwrap(), counted.load(Ordering::SeqCst)), (0, 2));
        assert_eq!(number(listing.recent(|| list(&counted)).await), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_hangs_or_panics_or_that_nobody_waits_for_harms_no_later_one() {
        let (listing, counted) = (Listing::default(), Counted::default());
        let failing = async { Err(BrokerError::Unavailable("as the test wants it".to_owned())) };
        assert!(listing.recent(|| failing).await.is_err());
        let began = Instant::now();
        let hanging = listing.recent(std::future::pending).await.err().unwrap();
        assert!(hanging.to_string().contains("no listing within 15s"), "{hanging}");
        assert_eq!(began.elapsed(), PATIENCE);
        let panicking = async { panic!("as the test wants it") };
        assert!(listing.recent(|| panicking).await.is_err());
        let given_up = tokio::time::timeout(Duration::from_millis(10), listing.recent(|| list(&counted))).await;
        assert!(given_up.is_err());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(number(listing.recent(|| list(&counted)).await), 0, "it went on");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(number(listing.recent(|| list(&counted)).await), 1, "what it brought is not given for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_deleted_is_left_out_of_older_listings_alone() {
        let (listing, counted) = (Listing::default(), Counted::default());
        let listed = listing.recent(|| list(&counted)).await.unwrap();
        listing.note_deleted("a");
        assert!(listing.deleted_since(&listed).contains("a"));
        tokio::time::advance(Duration::from_secs(6)).await;
        let listed = listing.recent(|| list(&counted)).await.unwrap();
        assert!(listing.deleted_since(&listed).is_empty());
    }
}
