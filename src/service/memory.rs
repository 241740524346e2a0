//! Memory: a web process answers claims while the store fails.
//!
//! What a claim reads or writes is remembered, within bounds. A password that was active at any moment is good until some
//! time after its rotation was due, whatever other processes do from then on ([`Namespace::certain_until`]); until then, a
//! claim that the store keeps from being answered is answered with it. The answer shows what was last known to be stored.
//!
//! A program claims again just when that time is over, so a memory of answers alone would be outdated each time.
//! [`Service::keep_memory`] therefore asks the store every so often what others have changed. No claim waits for that, and
//! while the store fails, it finds out whether the store is back, with no more than a few claims that nothing is remembered for:
//! a store that hangs does not hang every claim.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::{Claimed, Deadline, Service, ServiceError};
use crate::clock::Timestamp;
use crate::domain::claim::ClaimRequest;
use crate::domain::name::Name;
use crate::domain::namespace::{Namespace, Version, promised_end};
use crate::domain::rotation::{Credentials, Rotation};
use crate::store::StoreError;

/// How often the store is asked what others have changed; more often where passwords live so short that they would be
/// outdated.
const REFRESH: Duration = Duration::from_secs(30);
const REFRESHES_PER_ROTATION: u32 = 8;

/// How many namespaces are asked for at once.
const BATCH: usize = 1000;

/// How soon the store is asked again while it fails.
const PROBE: Duration = Duration::from_secs(1);

/// How many claims ask the store at a time while it is away.
const HOPEFUL: usize = 4;

/// What is written to find out whether the store can be written to: a lease that is over at once.
const WRITTEN: &str = "find out whether the store can be written to";

/// The namespaces that were claimed here, and whether the store fails.
pub(super) struct Memory {
    known: Mutex<LruCache<Name, Known>>,
    failing: AtomicBool,
    /// Whether it fails because it can't be reached, or does not answer in time.
    away: AtomicBool,
    /// Told when the store begins to fail.
    failed: Notify,
    /// For claims that ask the store although it is away.
    hopeful: Semaphore,
}

struct Known {
    namespace: Namespace,
    active: Credentials,
    switched: Option<Timestamp>,
    until: Timestamp,
    /// Over at `until`, and no later where the clock is set back.
    good: Deadline,
}

impl Default for Memory {
    /// With nothing in it. Its bound is kept by [`Service::remember`], so that no room is taken before it is needed.
    fn default() -> Memory {
        let known = Mutex::new(LruCache::unbounded());
        Memory {
            known,
            failing: AtomicBool::new(false),
            away: AtomicBool::new(false),
            failed: Notify::new(),
            hopeful: Semaphore::new(HOPEFUL),
        }
    }
}

impl Memory {
    fn known(&self) -> MutexGuard<'_, LruCache<Name, Known>> {
        // Each change is one call, so that a panic leaves nothing half-done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn versions(&self) -> Vec<(Name, Version)> {
        self.known().iter().map(|(name, known)| (name.clone(), known.namespace.version)).collect()
    }

    /// Fails at once while the store is away: who lists namespaces must not wait for it in the place of who claims.
    pub(super) fn check_store(&self) -> Result<(), StoreError> {
        match self.away.load(Ordering::Relaxed) {
            true => Err(StoreError::Unavailable("it failed a moment ago".to_owned())),
            false => Ok(()),
        }
    }

    /// Lets a claim ask the store that can't be answered from memory. While the store is away, only a few may at a time: one
    /// of them may be the first to find it back, and the others must not take the place of those who can be answered.
    pub(super) fn ask_store(&self) -> Result<Option<SemaphorePermit<'_>>, StoreError> {
        self.check_store().map(|()| None).or_else(|away| self.hopeful.try_acquire().map(Some).map_err(|_| away))
    }

    /// Whether claims are answered from memory, as far as they can be.
    pub(super) fn store_is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Notes that a call to the store failed.
    fn store_fails(&self, error: &StoreError) {
        if let StoreError::Sealed(_) = error {
            // That is one record's trouble, and others are as well as ever.
            tracing::error!("a claim is answered from memory, if it can be: {error}");
            return;
        }
        self.away.store(matches!(error, StoreError::Unavailable(_)), Ordering::Relaxed);
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!("{error}; namespaces that were claimed before are answered from memory");
            self.failed.notify_one();
        }
    }

    /// Notes that something was written to the store.
    pub(super) fn store_works(&self) {
        if self.store_is_failing() && self.failing.swap(false, Ordering::Relaxed) {
            self.away.store(false, Ordering::Relaxed);
            tracing::info!("the store is back; claims are stored again");
        }
    }
}

impl Service {
    /// Keeps the memory up to date; it never ends. Each process that answers claims needs it once.
    pub async fn keep_memory(&self) {
        let every = REFRESH.min(self.policy.rotation_interval / REFRESHES_PER_ROTATION);
        loop {
            match self.refresh_memory().await {
                Ok(()) => drop(tokio::time::timeout(every, self.memory.failed.notified()).await),
                Err(_) => tokio::time::sleep(PROBE).await,
            }
        }
    }

    /// Learns what other processes have changed, and whether the store works. Until it does so again, claims that can be
    /// answered from memory don't ask a store that failed.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn refresh_memory(&self) -> Result<(), ServiceError> {
        self.refresh().await.inspect_err(|error| self.memory.store_fails(error))?;
        self.memory.away.store(false, Ordering::Relaxed);
        if self.memory.store_is_failing() {
            // A store that can be read may be read-only, or full.
            let now = self.clock.now();
            self.store.lease(WRITTEN, "whoever asks", now, now).await?;
            self.memory.store_works();
        }
        Ok(())
    }

    async fn refresh(&self) -> Result<(), StoreError> {
        let known = self.memory.versions();
        if known.is_empty() {
            return self.store.ping().await;
        }
        for batch in known.chunks(BATCH) {
            for (name, found) in self.store.changed(batch).await? {
                self.update(&name, found.as_ref());
            }
        }
        Ok(())
    }

    /// Remembers a record as a claim has found or left it, and forgets what was not claimed for longest where there is no
    /// more room. Forgets what there is nothing good of to remember.
    pub(super) fn remember(&self, name: &Name, stored: Option<&Namespace>) {
        let mut known = self.memory.known();
        // Also makes it the last to be forgotten.
        let version = known.get(name).map(|known| known.namespace.version);
        if version.is_some() && version == stored.map(|stored| stored.version) {
            return;
        }
        match stored.and_then(|stored| self.certain(stored)) {
            Some(fresh) => drop(known.put(name.clone(), fresh)),
            None => drop(known.pop(name)),
        }
        if known.len() > self.policy.remembered {
            known.pop_lru();
        }
    }

    /// Puts what others have stored in the place of what is remembered, which ages as before.
    fn update(&self, name: &Name, stored: Option<&Namespace>) {
        let mut known = self.memory.known();
        match (stored.and_then(|stored| self.certain(stored)), known.peek_mut(name)) {
            (Some(fresh), Some(known)) => *known = fresh,
            (None, Some(_)) => drop(known.pop(name)),
            (_, None) => {}
        }
    }

    /// What is good of a record, and until when; `None` where it has no active password or is a tombstone.
    fn certain(&self, stored: &Namespace) -> Option<Known> {
        let (active, until) = stored.rotation.active.clone().zip(stored.certain_until(self.policy.expiration_delay))?;
        // No more secrets than are needed.
        let switched = stored.rotation.switched();
        let rotation = Rotation { active: None, previous: None, pending: None, ..stored.rotation };
        let now = self.clock.now();
        let good = Deadline::after(until.since(now), now, "a claim");
        Some(Known { namespace: Namespace { rotation, ..stored.clone() }, active, switched, until, good })
    }

    /// The answer to a claim from memory alone, if the store fails and the answer is certain to be good.
    pub(super) fn recall_while_failing(&self, asked: &ClaimRequest) -> Option<Claimed> {
        if self.memory.store_is_failing() { self.recall(asked) } else { None }
    }

    /// The answer to a claim which the store has failed, if one is certain to be good.
    ///
    /// # Errors
    /// Else, that of the store.
    pub(super) fn recall_after(&self, error: StoreError, asked: &ClaimRequest) -> Result<Claimed, ServiceError> {
        self.memory.store_fails(&error);
        self.recall(asked).ok_or(ServiceError::Store(error))
    }

    /// Whether an earlier end that was asked for is stored, nobody knows. So nothing is promised beyond it.
    fn recall(&self, asked: &ClaimRequest) -> Option<Claimed> {
        let mut known = self.memory.known();
        let (name, now) = (&asked.name, self.clock.now());
        let Known { namespace, active, switched, until, good } = known.get(name)?;
        good.check(now).ok()?;
        let end = asked.expires.and_then(|expires| promised_end(expires, self.policy.expiration_delay, now));
        Some(Claimed {
            name: namespace.name.clone(),
            created: namespace.created,
            expires: namespace.expires,
            connection_string: self.connection_string(name, active),
            reclaim_at: end.map_or(*until, |end| end.min(*until)),
            switched: *switched,
        })
    }
}
