//! What the API does where more is asked of it than it can do: it says so at once, and stays up.
//!
//! * At most [`Limits::requests`] requests are answered at a time. Past that, the answer is 503 with `Retry-After`, before
//!   the body is read. Taskcluster's clients then try again by themselves, up to five times within seven seconds. They take
//!   429 for final, so that it is never given here. There are many places, because to wait in one is worth more to a client
//!   than to spend its attempts, and costs some kilobytes.
//! * Of those, `AT_WORK` are worked at, the others wait for their turn in the order in which they came. If all were worked at,
//!   each would take so long that its caller gives it up, and the work would be for nothing. One that takes longer than
//!   `BRISK` waits for somebody else, and makes way for the next; a wait of more than `LONGEST_WAIT` ends with 503.
//! * One client has at most half of these places, and makes at most [`Limits::client_rate`] requests a second, of which it
//!   may save up `SAVED`: a fleet that shares a client comes back all at once. Temporary credentials count for the client
//!   that issued them, and requests without credentials for their address.
//! * Bodies in memory take at most [`Limits::bodies`] bytes, those of up to `SMALL` bytes not counted: those of requests
//!   until they are answered, and those of replies until they are written, so that who does not read them takes no more.
//! * An address from which many requests failed to be authenticated shares a few places with all others of that kind until
//!   its requests are authenticated. That takes our own clients no time, and those that the auth service has to be asked
//!   about get on in turns; so a proxy's good callers get through beside its bad ones.
//!
//! A place is taken once the body is there, so that slow senders take none; their connections are limited elsewhere.
//! Monitoring needs no place, and has a share of its own; see `pace`. Of the heartbeat one is made at a time for all
//! who ask.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::telemetry::metrics::{Counter, Registry, Table};

/// How much a client may save up of its rate.
pub const SAVED: Duration = Duration::from_secs(10);
/// Which bodies are not counted, in bytes. A claim's is much smaller.
pub const SMALL: usize = 4 * 1024;
/// How many requests are worked at.
const AT_WORK: usize = 64;
/// How long one of them counts as such.
const BRISK: Duration = Duration::from_secs(1);
/// How long a request waits for its turn. Taskcluster's clients wait half a minute for an answer.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How many requests that list everything are worked at. Each takes as long as many claims, which wait for the same store.
const LISTING: usize = 2;
/// Which part of all places is for addresses that fail.
const SUSPECTS: usize = 16;
/// How many requests may wait for the auth service at a time only to be shown more than anybody is.
const LOOKING_UP: usize = 32;
/// How often a second an address may fail to be authenticated; it may save up [`SAVED`] of that.
const FAILURES: u32 = 10;

/// How much the API does at a time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many requests are answered at a time.
    pub requests: usize,
    /// How many requests one client makes a second, after a while.
    pub client_rate: u32,
    /// How many bytes large bodies take together.
    pub bodies: usize,
    /// How many answers a second that take no place are given, to all who want more of them than their connection has of its
    /// own.
    pub spare_rate: u32,
}

impl Default for Limits {
    /// 8,192 requests, 500 a second by each client, 64 MiB, 1,000 a second that take no place.
    fn default() -> Limits {
        Limits { requests: 8192, client_rate: 500, bodies: 64 << 20, spare_rate: 1000 }
    }
}

/// The service can't do what is asked of it now. The text is for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overload {
    /// What there is too much of.
    pub message: String,
    /// After how many seconds to try again.
    pub retry_after: u64,
}

impl Overload {
    /// Taskcluster's name for this kind of error.
    pub const CODE: &'static str = "ServiceUnavailable";

    fn new(message: impl Into<String>, retry_after: u64) -> Overload {
        Overload { message: message.into(), retry_after }
    }
}

/// Lets requests in, or sends them away.
pub(in crate::web) struct Gate {
    limits: Limits,
    places: Arc<Semaphore>,
    at_work: Arc<Semaphore>,
    suspects: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    looking_up: Arc<Semaphore>,
    listing: Arc<Semaphore>,
    clients: Arc<Mutex<Clients>>,
    failures: Mutex<Rates<IpAddr>>,
    refused: Table<Limit, Counter>,
}

/// What there is too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::web) enum Limit {
    /// Requests that are answered at a time.
    Requests,
    /// Those of one client.
    Client,
    /// Requests of one client in a time.
    Rate,
    /// Requests from addresses that fail to be authenticated.
    Suspects,
    /// Memory for bodies.
    Bodies,
    /// Connections.
    Connections,
}

/// What is counted of refusals.
fn refusals() -> Table<Limit, Counter> {
    let limits = [
        (Limit::Requests, "requests"),
        (Limit::Client, "client"),
        (Limit::Rate, "rate"),
        (Limit::Suspects, "suspects"),
        (Limit::Bodies, "bodies"),
        (Limit::Connections, "connections"),
    ];
    Table::new(limits.map(|(limit, word)| (limit, vec![("limit", word.into())])), Counter::default)
}

/// The place of a request, which is free again when this is dropped.
pub(in crate::web) struct Place {
    _place: OwnedSemaphorePermit,
    /// Dropped with the place, which tells that the work is over.
    work: Option<oneshot::Sender<()>>,
    suspect: Option<OwnedSemaphorePermit>,
    share: Option<Share>,
    listing: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// Gives up the turn: from here on it is others that are worked for.
    pub fn rest(&mut self) {
        self.work = None;
    }
}

impl Gate {
    pub fn new(limits: Limits) -> Gate {
        let permits = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Gate {
            limits,
            places: permits(limits.requests),
            at_work: permits(AT_WORK),
            suspects: permits((limits.requests / SUSPECTS).max(1)),
            bodies: permits(limits.bodies),
            looking_up: permits(LOOKING_UP),
            listing: permits(LISTING),
            clients: Arc::new(Mutex::new(Clients { rates: Rates::new(limits.client_rate), running: HashMap::new() })),
            failures: Mutex::new(Rates::new(FAILURES)),
            refused: refusals(),
        }
    }

    /// Gives what is counted of refusals to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Requests that were answered 503 because of a limit";
        registry.register("pulse_requests_refused", help, self.refused.clone());
    }

    /// Counts a request that is refused for this reason.
    pub fn count(&self, limit: Limit) {
        self.refused.count(&limit);
    }

    fn refuse(&self, limit: Limit, overload: Overload) -> Overload {
        self.count(limit);
        overload
    }

    /// Whether a request that comes now has a chance. To be asked before its body is read.
    pub fn look(&self) -> Result<(), Overload> {
        if self.places.available_permits() == 0 { Err(self.refuse(Limit::Requests, full())) } else { Ok(()) }
    }

    /// Room for a body: of a request, which grows as it is read, or of a reply.
    pub fn body(&self) -> BodyRoom {
        BodyRoom { bodies: self.bodies.clone(), held: None, refused: self.refused.clone() }
    }

    /// A place for a request from there, whose sender is not known yet.
    pub fn enter(&self, address: IpAddr) -> Result<Place, Overload> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| self.refuse(Limit::Requests, full()))?;
        let failing = lock(&self.failures).is_spent(&network(address), Instant::now());
        let suspect = match failing {
            true => Some(
                self.suspects.clone().try_acquire_owned().map_err(|_| self.refuse(Limit::Suspects, suspicious()))?,
            ),
            false => None,
        };
        Ok(Place { _place: place, work: None, suspect, share: None, listing: None })
    }

    /// Waits until the request may list everything. It has its turn with others that list, and makes way for all else.
    pub async fn list(&self, place: &mut Place) -> Result<(), Overload> {
        place.rest();
        let Ok(Ok(listing)) = tokio::time::timeout(LONGEST_WAIT, self.listing.clone().acquire_owned()).await else {
            return Err(self.refuse(Limit::Requests, full()));
        };
        place.listing = Some(listing);
        Ok(())
    }

    /// Waits until the request may be worked at.
    pub async fn turn(&self, place: &mut Place) -> Result<(), Overload> {
        let Ok(Ok(turn)) = tokio::time::timeout(LONGEST_WAIT, self.at_work.clone().acquire_owned()).await else {
            return Err(self.refuse(Limit::Requests, full()));
        };
        let (work, over) = oneshot::channel();
        place.work = Some(work);
        tokio::spawn(async move {
            let _ = tokio::time::timeout(BRISK, over).await;
            drop(turn);
        });
        Ok(())
    }

    /// A share of what the auth service is asked, for who could do without; none, where it is asked much already.
    pub fn look_up(&self) -> Option<OwnedSemaphorePermit> {
        self.looking_up.clone().try_acquire_owned().ok()
    }

    /// A request from there could not be authenticated.
    pub fn failed(&self, address: IpAddr) {
        let _ = lock(&self.failures).spend(network(address), Instant::now());
    }

    /// Lets the request go on as one of this client, or of this address where it needs none.
    pub fn admit(&self, place: &mut Place, client: Option<&str>, address: IpAddr) -> Result<(), Overload> {
        place.suspect = None;
        let key = client.map_or_else(|| Key::Address(network(address)), |client| Key::Client(client.to_owned()));
        let (mut clients, most) = (lock(&self.clients), (self.limits.requests / 2).max(1));
        let running = clients.running.get(&key).copied().unwrap_or_default();
        if running >= most {
            let message = format!("{key} has {running} requests under way, which is the most. Try again.");
            return Err(self.refuse(Limit::Client, Overload::new(message, 1)));
        }
        clients.rates.spend(key.clone(), Instant::now()).map_err(|wait| {
            let rate = self.limits.client_rate;
            let message = format!("{key} makes more than {rate} requests a second. Try again, and more slowly.");
            self.refuse(Limit::Rate, Overload::new(message, wait.as_secs().saturating_add(1)))
        })?;
        clients.running.insert(key.clone(), running + 1);
        place.share = Some(Share { key, clients: self.clients.clone() });
        Ok(())
    }
}

fn full() -> Overload {
    Overload::new("The service has too many requests to answer at the moment. Try again.", 1)
}

fn suspicious() -> Overload {
    let message =
        "Too many requests from this address could not be authenticated. Check the credentials, and try again.";
    Overload::new(message, 5)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whose requests are counted together: an address of IPv6 stands for its network, which is what one customer has.
pub(in crate::web) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

/// The room that one body takes.
pub(in crate::web) struct BodyRoom {
    bodies: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
    refused: Table<Limit, Counter>,
}

impl BodyRoom {
    /// Has room for so many bytes, no more and no less.
    pub fn fit(&mut self, bytes: usize) -> Result<(), Overload> {
        let needed = if bytes <= SMALL { 0 } else { bytes };
        if let Some(held) = &mut self.held {
            drop(held.split(held.num_permits().saturating_sub(needed)));
        }
        self.grow(bytes)
    }

    /// Makes room for a body of so many bytes.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Overload> {
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = if bytes <= SMALL { 0 } else { bytes.saturating_sub(held) };
        if missing == 0 {
            return Ok(());
        }
        let more =
            u32::try_from(missing).ok().and_then(|missing| self.bodies.clone().try_acquire_many_owned(missing).ok());
        let message = "The service has too many large requests and replies at the moment. Try again.";
        let more = more.ok_or_else(|| {
            self.refused.count(&Limit::Bodies);
            Overload::new(message, 1)
        })?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Client(String),
    Address(IpAddr),
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Client(client) => write!(f, "Client ID {client}"),
            Key::Address(address) => write!(f, "The address {address}"),
        }
    }
}

/// What clients take.
struct Clients {
    rates: Rates<Key>,
    /// How many requests of each are under way; nobody stands in it with none.
    running: HashMap<Key, usize>,
}

/// A client's request that is under way.
struct Share {
    key: Key,
    clients: Arc<Mutex<Clients>>,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut clients = lock(&self.clients);
        match clients.running.get_mut(&self.key) {
            Some(running) if *running > 1 => *running -= 1,
            _ => drop(clients.running.remove(&self.key)),
        }
    }
}

/// How fast each of many may go.
struct Rates<K> {
    /// How long one step takes.
    step: Duration,
    /// Until when each has used up its rate. Who is not in it, or in it with a time that is past, has all of it.
    spent: HashMap<K, Instant>,
    /// With how many entries those are forgotten that say nothing.
    prune_at: usize,
}

impl<K: Eq + Hash> Rates<K> {
    fn new(per_second: u32) -> Rates<K> {
        Rates { step: Duration::from_secs(1) / per_second.max(1), spent: HashMap::new(), prune_at: 1024 }
    }

    /// Takes one step, or tells in how long one can be taken.
    fn spend(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        if self.spent.len() >= self.prune_at {
            self.spent.retain(|_, until| *until > now);
            self.prune_at = 1024.max(2 * self.spent.len());
        }
        let until = self.spent.entry(key).or_insert(now);
        let next = (*until).max(now) + self.step;
        let wait = next.saturating_duration_since(now).saturating_sub(SAVED);
        if wait.is_zero() {
            *until = next;
            return Ok(());
        }
        Err(wait)
    }

    /// Whether no step can be taken now.
    fn is_spent(&self, key: &K, now: Instant) -> bool {
        self.spent.get(key).is_some_and(|until| *until + self.step > now + SAVED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn gate(requests: usize, client_rate: u32) -> Gate {
        Gate::new(Limits { requests, client_rate, bodies: 100_000, ..Limits::default() })
    }

    fn admitted(gate: &Gate, client: &str) -> Result<Place, Overload> {
        let mut place = gate.enter(HERE)?;
        gate.admit(&mut place, Some(client), HERE)?;
        Ok(place)
    }

    #[test]
    fn one_client_gets_half_of_the_places_and_all_clients_get_all() {
        let gate = gate(4, 1000);
        let mut held = vec![admitted(&gate, "a").unwrap(), admitted(&gate, "a").unwrap()];
        let refused = admitted(&gate, "a").map(|_| ()).unwrap_err();
        assert_eq!(refused.retry_after, 1);
        assert!(refused.message.starts_with("Client ID a has 2 requests under way"), "{}", refused.message);
        held.extend([admitted(&gate, "b").unwrap(), admitted(&gate, "c").unwrap()]);
        assert!(gate.look().is_err() && gate.enter(HERE).is_err());
        held.clear();
        assert!(admitted(&gate, "a").is_ok() && lock(&gate.clients).running.is_empty());
    }

    #[tokio::test]
    async fn requests_wait_for_their_turn_and_one_that_takes_long_makes_way() {
        let gate = gate(2 * AT_WORK, 1000);
        let mut places: Vec<_> = (0..=AT_WORK).map(|_| gate.enter(HERE).unwrap()).collect();
        let mut last = places.pop().unwrap();
        for place in &mut places {
            gate.turn(place).await.unwrap();
        }
        {
            let mut turn = std::pin::pin!(gate.turn(&mut last));
            assert!(futures::poll!(&mut turn).is_pending());
            places.pop();
            tokio::time::timeout(BRISK / 2, turn).await.expect("a turn that is over is free again").unwrap();
        }
        let mut another = gate.enter(HERE).unwrap();
        gate.turn(&mut another).await.expect("those that take long make way");
        assert_eq!(places.len(), AT_WORK - 1);
    }

    #[tokio::test]
    async fn a_few_requests_list_at_a_time_and_the_others_take_no_turns() {
        let gate = gate(2 * AT_WORK, 1000);
        let mut listing: Vec<_> = (0..LISTING).map(|_| gate.enter(HERE).unwrap()).collect();
        for place in &mut listing {
            gate.list(place).await.unwrap();
        }
        let mut next = gate.enter(HERE).unwrap();
        gate.turn(&mut next).await.unwrap();
        let mut waiting = Box::pin(gate.list(&mut next));
        assert!(futures::poll!(&mut waiting).is_pending());
        tokio::time::timeout(BRISK / 2, async {
            while gate.at_work.available_permits() < AT_WORK {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("its turn is given up");
        listing.pop();
        waiting.await.unwrap();
    }

    #[test]
    fn a_client_saves_up_its_rate_for_a_while() {
        let mut rates = Rates::new(2);
        let now = Instant::now();
        for _ in 0..20 {
            assert_eq!(rates.spend("a", now), Ok(()));
        }
        assert!(rates.is_spent(&"a", now) && !rates.is_spent(&"b", now));
        assert_eq!(rates.spend("a", now), Err(Duration::from_millis(500)));
        assert_eq!(rates.spend("b", now), Ok(()));
        assert_eq!(rates.spend("a", now + Duration::from_millis(500)), Ok(()));
        assert!(rates.spend("a", now + Duration::from_millis(501)).is_err());
    }

    #[test]
    fn those_who_have_saved_up_all_are_forgotten() {
        let (mut rates, now) = (Rates::new(1000), Instant::now());
        for client in 0..100_000_u64 {
            rates.spend(client, now + Duration::from_millis(client)).unwrap();
        }
        assert!(rates.spent.len() <= 1024, "{}", rates.spent.len());
    }

    #[test]
    fn an_address_that_fails_keeps_a_few_places() {
        let gate = gate(32, 1000);
        let (v6, neighbour): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        for _ in 0..FAILURES * 11 {
            gate.failed(v6);
        }
        let mut held = [gate.enter(v6).unwrap(), gate.enter(neighbour).unwrap()];
        assert_eq!(gate.enter(v6).map(|_| ()).unwrap_err(), suspicious());
        assert!(gate.enter(HERE).is_ok());
        gate.admit(&mut held[0], Some("good"), v6).unwrap();
        assert!(gate.enter(v6).is_ok(), "who is authenticated is no suspect");
    }

    #[test]
    fn large_bodies_share_what_there_is_and_small_ones_always_fit() {
        let gate = gate(4, 1000);
        let (mut one, mut other) = (gate.body(), gate.body());
        one.grow(50_000).unwrap();
        one.grow(90_000).unwrap();
        other.grow(SMALL).unwrap();
        assert!(other.grow(20_000).is_err());
        drop(one);
        other.grow(20_000).unwrap();
    }
}
