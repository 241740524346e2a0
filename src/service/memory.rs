//! What a web process remembers of the namespaces that were claimed, and whether the store fails.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::deadline::Deadline;
use crate::clock::Timestamp;
use crate::domain::name::Name;
use crate::domain::namespace::{Namespace, Version};
use crate::domain::rotation::{Login, Rotation};
use crate::domain::share::{Owner, level};
use crate::store::StoreError;

/// We forget namespaces once there are more than allowed by one part in this many, because forgetting looks at all of
/// them.
pub(super) const SLACK: usize = 16;

/// How many claims may ask the store at a time while it is away.
const HOPEFUL: usize = 4;

/// The namespaces that were claimed here, and whether the store fails.
pub(super) struct Memory {
    known: Mutex<LruCache<Name, Known>>,
    failing: AtomicBool,
    /// Whether it fails because it can't be reached or does not answer in time, so that it can't be read either.
    pub(super) away: AtomicBool,
    /// Whether it is away or can't be written to, so that most claims would ask it in vain.
    unusable: AtomicBool,
    /// Notified when the store begins to fail.
    pub(super) failed: Notify,
    /// For claims that ask the store although it is away.
    hopeful: Semaphore,
}

pub(super) struct Known {
    pub(super) namespace: Namespace,
    pub(super) active: Login,
    pub(super) switched: Option<Timestamp>,
    /// Whether no other password is on its way to the broker.
    pub(super) settled: bool,
    pub(super) until: Timestamp,
    /// Ends at `until`, even if the clock is set back.
    pub(super) good: Deadline,
}

impl Default for Memory {
    /// An empty memory. `remember` and [`make_room`] keep its limit, so it takes no memory before it needs
    /// it.
    fn default() -> Memory {
        let known = Mutex::new(LruCache::unbounded());
        Memory {
            known,
            failing: AtomicBool::new(false),
            away: AtomicBool::new(false),
            unusable: AtomicBool::new(false),
            failed: Notify::new(),
            hopeful: Semaphore::new(HOPEFUL),
        }
    }
}

impl Memory {
    pub(super) fn known(&self) -> MutexGuard<'_, LruCache<Name, Known>> {
        // Each change is one call, so that a panic leaves nothing half-done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A namespace as it is remembered, with its active password, and when that took the place of another one; `None` where it is not
    /// known, or more than that password belongs to it.
    pub(super) fn settled(&self, name: &Name) -> Option<(Namespace, Option<Timestamp>)> {
        let mut known = self.known();
        let known = known.get(name).filter(|known| known.settled && !known.namespace.is_on_demand())?;
        let rotation = Rotation { active: Some(known.active.clone()), ..known.namespace.rotation.clone() };
        Some((Namespace { rotation, ..known.namespace.clone() }, known.switched))
    }

    pub(super) fn versions(&self) -> Vec<(Name, Version)> {
        self.known().iter().map(|(name, known)| (name.clone(), known.namespace.version)).collect()
    }

    /// Fails at once while the store is away, so that callers that list namespaces don't wait for it in place of
    /// claims.
    pub(super) fn check_store(&self) -> Result<(), StoreError> {
        match self.away.load(Ordering::Relaxed) {
            true => Err(StoreError::Unavailable("it failed a moment ago".to_owned())),
            false => Ok(()),
        }
    }

    /// Lets a claim ask the store if we can't answer it from memory. While the store is away or can't be written to,
    /// only a few may ask at a time. One of them may find it back first, and the others must not take the place of
    /// claims that we can answer.
    pub(super) fn ask_store(&self) -> Result<Option<SemaphorePermit<'_>>, StoreError> {
        if !self.unusable.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let many = |_| StoreError::Unavailable("it failed a moment ago".to_owned());
        self.hopeful.try_acquire().map(Some).map_err(many)
    }

    /// Whether we answer claims from memory, as far as we can.
    pub(super) fn store_is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Notes that a call to the store failed.
    pub(super) fn store_fails(&self, error: &StoreError) {
        if let StoreError::Sealed(_) = error {
            // Only this record is affected; all others still work.
            tracing::error!("a claim is answered from memory, if it can be: {error}");
            return;
        }
        let (away, unwritable) =
            (matches!(error, StoreError::Unavailable(_)), matches!(error, StoreError::Unwritable(_)));
        if !unwritable {
            self.away.store(away, Ordering::Relaxed);
        }
        self.unusable.store(away || unwritable, Ordering::Relaxed);
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!("{error}; namespaces that were claimed before are answered from memory");
            self.failed.notify_one();
        }
    }

    /// Notes that something was written to the store.
    pub(super) fn store_works(&self) {
        if self.store_is_failing() && self.failing.swap(false, Ordering::Relaxed) {
            self.away.store(false, Ordering::Relaxed);
            self.unusable.store(false, Ordering::Relaxed);
            tracing::info!("the store is back; claims are stored again");
        }
    }
}

/// Keeps at most `most` namespaces, and gives each owner its share: an owner with many namespaces takes nothing from
/// one with few. Forgets the namespaces of each owner that were not claimed for longest.
pub(super) fn make_room(known: &mut LruCache<Name, Known>, most: usize) {
    let mut counts: HashMap<Owner, usize> = HashMap::new();
    for (_, known) in known.iter() {
        *counts.entry(known.namespace.owner()).or_default() += 1;
    }
    let (level, rest) = level(counts.values().copied(), most);
    let above: usize = counts.values().filter(|count| **count > level).count();
    // This many owners keep one less than the others above the level.
    let mut lesser = above.saturating_sub(rest);
    let mut forgotten = Vec::new();
    for (name, known) in known.iter().rev() {
        let Some(count) = counts.get_mut(&known.namespace.owner()) else { continue };
        if *count > level.saturating_add(1) || (*count > level && lesser > 0) {
            lesser -= usize::from(*count == level.saturating_add(1));
            *count -= 1;
            forgotten.push(name.clone());
        }
    }
    for name in forgotten {
        known.pop(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::barred::Barred;
    use crate::domain::name::Slot;
    use crate::secret::Password;

    fn remembered(
        claims: impl IntoIterator<Item = (Option<&'static str>, usize)>,
        most: usize,
    ) -> LruCache<Name, Known> {
        let at = Timestamp::from_millis(0);
        let mut known = LruCache::unbounded();
        for (client, number) in claims {
            let name = Name::from_stored(format!("{}-{number}", client.unwrap_or("unknown")));
            let rotation = Rotation { pending: None, ..Rotation::first(Password::random(), at) };
            let namespace = Namespace {
                name: name.clone(),
                contact: String::new(),
                created: at,
                expires: at,
                rotation,
                gone: None,
                warned: None,
                claimed_by: client.map(str::to_owned),
                owners: Vec::new(),
                exemptions: Vec::new(),
                requests: Vec::new(),
                barred: Barred::default(),
                account: None,
                end_asked: None,
                matures: None,
                version: Version(1),
            };
            let active = Login { slot: Slot::One, password: Password::random() };
            let good = Deadline { at: tokio::time::Instant::now(), on: at, work: "a test" };
            known.put(name, Known { namespace, active, switched: None, settled: true, until: at, good });
            if known.len() > most + most / SLACK {
                make_room(&mut known, most);
            }
        }
        known
    }

    fn names(known: &LruCache<Name, Known>) -> Vec<&str> {
        let mut names: Vec<_> = known.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_client_with_many_namespaces_takes_nothing_from_one_with_few() {
        let few = [(Some("b"), 0), (Some("b"), 1), (None, 0)];
        let known = remembered(few.into_iter().chain((0..1000).map(|n| (Some("a"), n))), 8);
        assert_eq!(names(&known), ["a-995", "a-996", "a-997", "a-998", "a-999", "b-0", "b-1", "unknown-0"]);
        let known = remembered((0..1000).map(|n| (Some("a"), n)).chain(few), 8);
        assert_eq!(names(&known), ["a-995", "a-996", "a-997", "a-998", "a-999", "b-0", "b-1", "unknown-0"]);
    }

    #[test]
    fn one_client_alone_has_all_the_room_and_several_share_it() {
        let alone = remembered((0..1000).map(|n| (Some("a"), n)), 320).len();
        assert!((320..=340).contains(&alone), "{alone}");
        let known = remembered((0..300).map(|n| ([Some("a"), Some("b"), Some("c")][n % 3], n)), 10);
        assert_eq!(known.len(), 10);
        for client in ["a", "b", "c"] {
            let count = names(&known).iter().filter(|name| name.starts_with(client)).count();
            assert!((3..=4).contains(&count), "{client}: {count}");
        }
    }

    #[test]
    fn with_more_clients_than_room_those_that_claimed_last_are_remembered() {
        let known = remembered((0..100).map(|n| (None, n)), 3);
        assert_eq!(names(&known), ["unknown-97", "unknown-98", "unknown-99"]);
    }
}
