//! Memory: a web process answers claims while the store fails.
//!
//! We remember what claims read and write, within a limit that clients share. An active password works until some time
//! after its rotation was due, whatever other processes do ([`Namespace::certain_until`]). If the store can't answer a
//! claim, we answer with that password until then. The answer shows what we last knew to be stored.
//!
//! A program claims again just when that time is over, so a memory of answers alone would always be outdated. Therefore
//! [`Service::keep_memory`] regularly asks the store what others have changed. No claim waits for that. While the store
//! fails, `keep_memory` checks whether it is back, and whether the broker still has what is remembered; and only a few claims that we can't answer from memory may ask the
//! store as well. So a store that hangs does not make every claim hang.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::deadline::Deadline;
use super::memory::{Known, SLACK, make_room};
use super::{Claimed, Service, ServiceError};
use crate::clock::Timestamp;
use crate::domain::claim::ClaimRequest;
use crate::domain::name::Name;
use crate::domain::namespace::{Namespace, held_expires, promised_end};
use crate::domain::rotation::{Login, Rotation};
use crate::store::StoreError;

/// How often we ask the store what others have changed. More often if passwords live so short that the memory would be
/// outdated.
const REFRESH: Duration = Duration::from_secs(30);
const REFRESHES_PER_ROTATION: u32 = 8;

/// How many namespaces we ask for at once.
const BATCH: usize = 1000;

/// How soon we ask the store again while it fails.
const PROBE: Duration = Duration::from_secs(1);

/// How long a look at the broker may take while the store fails.
const CHECK: Duration = Duration::from_secs(5);

/// Written to find out whether the store can be written to: a lease that ends at once.
const WRITTEN: &str = "find out whether the store can be written to";

impl Service {
    /// Keeps the memory up to date, and never ends. Each process that answers claims needs one.
    pub async fn keep_memory(&self) {
        let every = REFRESH.min(self.policy.rotation_interval / REFRESHES_PER_ROTATION);
        let mut checked: Option<Instant> = None;
        loop {
            match self.refresh_memory().await {
                Ok(()) => {
                    checked = None;
                    drop(tokio::time::timeout(every, self.memory.failed.notified()).await);
                }
                Err(_) => {
                    if checked.is_none_or(|checked| checked.elapsed() >= every) {
                        checked = Some(Instant::now());
                        drop(tokio::time::timeout(CHECK, self.check_memory()).await);
                    }
                    tokio::time::sleep(PROBE).await;
                }
            }
        }
    }

    /// Forgets passwords that the broker does not have any more. Somebody may have revoked them just before the store failed, or
    /// at a process that still reaches it. What the broker lacks altogether is kept: it is rebuilt from the store.
    pub async fn check_memory(&self) {
        let users = match self.broker.users().await {
            Ok(users) => users,
            Err(error) => return tracing::debug!("whether remembered passwords are good is not known: {error}"),
        };
        let users: HashMap<_, _> = users.into_iter().map(|user| (user.name, user.hash)).collect();
        let is_refused = |name: &Name, Login { slot, password }: &Login| {
            users.get(&self.policy.names.user(name, *slot)).is_some_and(|hash| !hash.verifies(password))
        };
        let mut known = self.memory.known();
        let refused: Vec<_> = known
            .iter()
            .filter(|(name, known)| is_refused(name, &known.active))
            .map(|(name, _)| name.clone())
            .collect();
        for name in refused {
            known.pop(&name);
        }
    }

    /// Reads what other processes have changed, and finds out whether the store works. Until it works again, claims
    /// that we can answer from memory don't ask it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn refresh_memory(&self) -> Result<(), ServiceError> {
        self.refresh().await.inspect_err(|error| self.memory.store_fails(error))?;
        self.memory.away.store(false, Ordering::Relaxed);
        if self.memory.store_is_failing() {
            // A store that can be read may still be read-only or full.
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

    /// Remembers a record as a claim has found or left it. Forgets the record if no password in it is certain to work.
    /// Forgets others if there are too many.
    pub(super) fn remember(&self, name: &Name, stored: Option<&Namespace>) {
        let mut known = self.memory.known();
        // This also makes it the last to be forgotten.
        let version = known.get(name).map(|known| known.namespace.version);
        if version.is_some() && version == stored.map(|stored| stored.version) {
            return;
        }
        match stored.and_then(|stored| self.certain(stored)) {
            Some(fresh) => drop(known.put(name.clone(), fresh)),
            None => drop(known.pop(name)),
        }
        let most = self.policy.remembered;
        if known.len() > most + most / SLACK {
            make_room(&mut known, most);
        }
    }

    /// Remembers that a claim has moved the end of a namespace over what was remembered of it, with its active password, which took the
    /// place of another one when it `switched`.
    pub(super) fn remember_renewed(&self, stored: &Namespace, switched: Option<Timestamp>) {
        let fresh = self.certain(stored);
        let mut known = self.memory.known();
        let Some(known) = known.get_mut(&stored.name) else { return };
        if let Some(fresh) = fresh.filter(|_| known.namespace.version < stored.version) {
            *known = Known { switched, ..fresh };
        }
    }

    /// Replaces what we remember with what others have stored, without making it look used.
    fn update(&self, name: &Name, stored: Option<&Namespace>) {
        let mut known = self.memory.known();
        match (stored.and_then(|stored| self.certain(stored)), known.peek_mut(name)) {
            (Some(fresh), Some(known)) => *known = fresh,
            (None, Some(_)) => drop(known.pop(name)),
            (_, None) => {}
        }
    }

    /// The part of a record that is certain, and until when. `None` if it has no active password or is a tombstone.
    fn certain(&self, stored: &Namespace) -> Option<Known> {
        let (active, until) = stored.rotation.active.clone().zip(stored.certain_until(self.policy.expiration_delay))?;
        // Keep no more secrets than needed.
        let (switched, settled) = (stored.switched(), stored.rotation.pending.is_none());
        let rotation = Rotation { active: None, previous: None, pending: None, ..stored.rotation };
        let now = self.now();
        let good = Deadline::after(until.since(now), now, "a claim");
        Some(Known { namespace: Namespace { rotation, ..stored.clone() }, active, switched, settled, until, good })
    }

    /// The answer to a claim from memory alone, if the store fails and the answer is certain to work.
    pub(super) fn recall_while_failing(&self, asked: &ClaimRequest, began: Timestamp) -> Option<Claimed> {
        if self.memory.store_is_failing() { self.recall(asked, began) } else { None }
    }

    /// The answer to a claim after the store failed, if one is certain to work.
    ///
    /// # Errors
    /// The store's error, if there is none.
    pub(super) fn recall_after(
        &self,
        error: StoreError,
        asked: &ClaimRequest,
        began: Timestamp,
    ) -> Result<Claimed, ServiceError> {
        self.memory.store_fails(&error);
        self.recall(asked, began).ok_or(ServiceError::Store(error))
    }

    /// Nobody knows whether the store has the earlier end that the claim asks for. So we promise nothing beyond that
    /// end, as the store would have it since the claim `began`.
    fn recall(&self, asked: &ClaimRequest, began: Timestamp) -> Option<Claimed> {
        let mut known = self.memory.known();
        let (name, now) = (&asked.name, self.now());
        let Known { namespace, active, switched, until, good, .. } = known.get(name)?;
        good.check(now).ok()?;
        let delay = self.policy.expiration_delay;
        let end = asked.expires.map(|expires| promised_end(held_expires(expires, began, delay), delay));
        let reclaim_at = end.map_or(*until, |end| end.min(*until));
        if reclaim_at <= now {
            return None;
        }
        Some(Claimed {
            name: namespace.name.clone(),
            created: namespace.created,
            expires: namespace.expires,
            connection_string: self.connection_string(asked, active),
            reclaim_at,
            switched: *switched,
        })
    }
}
