//! Settling: put a pending password in force. First creation, rotation and crash recovery all use this code.
//!
//! 1. A process has stored the password as pending. We don't return it yet.
//! 2. We tell the broker.
//! 3. We write the record with the password promoted, unless another process did that first.
//!
//! If a process dies between two steps, it leaves a pending password behind. The process that finds it takes the same
//! steps with the same password.

use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use super::{Deadline, Service, ServiceError};
use crate::broker::{BrokerError, Put};
use crate::domain::name::{Name, Slot};
use crate::domain::namespace::Namespace;
use crate::secret::PasswordHash;

/// How often we retry a promotion because a claim wrote the record meanwhile.
const ATTEMPTS: usize = 20;

/// What a look at both users has shown that a first claim is going to make, and the place that it has at the broker.
pub(super) struct Looked<'a> {
    /// What is in the way.
    seen: Result<(), ServiceError>,
    place: Option<SemaphorePermit<'a>>,
}

impl Service {
    /// Settles the pending password if none is active yet. If one is active, a claim returns that one and leaves the
    /// rest to the rotation. `None` if the record is no longer the one that was read. Where the users were `looked` at already, they
    /// are not looked at again.
    ///
    /// A broker that hangs must not make the caller hang, so the waiting has an end, which is `until`. And however many first claims come at
    /// once, no more of them are at the broker than it can do: those are soon done, where all of them at once would all be
    /// too late. What is cut off here is finished with the same password by the next claim, or by the rotation.
    pub(super) async fn settle(
        &self,
        namespace: Namespace,
        looked: Option<Looked<'_>>,
        deadline: Deadline,
        until: Instant,
    ) -> Result<Option<Namespace>, ServiceError> {
        if namespace.rotation.active.is_some() {
            return Ok(Some(namespace));
        }
        let told = tokio::time::timeout_at(until, async {
            let Looked { seen, place: _place } = match looked {
                Some(looked) => looked,
                None => self.look_first(&namespace).await,
            };
            seen?;
            self.make_both(&namespace, deadline).await
        });
        let late = |_| BrokerError::Unavailable("it did not make the users of a new namespace in time".to_owned());
        match told.await.map_err(late)? {
            Ok(()) => self.promote(namespace).await,
            Err(error) => {
                // Whoever goes on with what another one began says so in the record.
                let sole = namespace.barred.writing_until.is_none();
                self.refuse(&namespace, sole, &error).await?;
                Err(error)
            }
        }
    }

    /// Looks at the users that a first claim is going to make, once it has a place at the broker, which it keeps.
    pub(super) async fn look_first(&self, namespace: &Namespace) -> Looked<'_> {
        // The semaphore is never closed.
        let place = self.first_claims.acquire().await.ok();
        Looked { seen: self.look_at_both(namespace).await, place }
    }

    /// Step 2: gives the pending password to the broker. If no password is active, this makes both users. The user also
    /// gets its permissions if it had no password before, if the broker did not know it, or if the password was
    /// `taken_over`: the process that told the broker before may have made the user and done no more.
    ///
    /// Looks at the users first: [`ServiceError::ForeignUser`] if somebody else has one of that name.
    pub(super) async fn tell_broker(
        &self,
        namespace: &Namespace,
        taken_over: bool,
        deadline: Deadline,
    ) -> Result<(), ServiceError> {
        if namespace.rotation.active.is_none() {
            self.look_at_both(namespace).await?;
            return self.make_both(namespace, deadline).await;
        }
        let Some(pending) = &namespace.rotation.pending else { return Ok(()) };
        let slot = pending.login.slot;
        let hash = pending.login.password.hash();
        self.look_surely(namespace, slot).await?;
        deadline.check(self.clock.now())?;
        let user = self.policy.names.user(&namespace.name, slot);
        let first = namespace.rotation.previous.is_none();
        let put = self.broker.put_user(&user, &hash, self.tag().await?.as_str()).await?;
        if put == Put::PerhapsNew || first || taken_over {
            deadline.check(self.clock.now())?;
            self.broker.put_permissions(&user, &self.policy.names.permissions(&namespace.name)).await?;
        }
        Ok(())
    }

    /// Makes both users of a namespace that has no active password yet. They were looked at just before.
    async fn make_both(&self, namespace: &Namespace, deadline: Deadline) -> Result<(), ServiceError> {
        let Some(pending) = &namespace.rotation.pending else { return Ok(()) };
        let (slot, hash) = (pending.login.slot, pending.login.password.hash());
        deadline.check(self.clock.now())?;
        let (made, standby) =
            tokio::join!(self.make_user(&namespace.name, slot, &hash), self.make_standby(namespace, slot.other()));
        made.and(standby)
    }

    /// Makes the first standby user. Without a password it needs no permissions. It gets them with its first password,
    /// so a first claim is quicker.
    async fn make_standby(&self, namespace: &Namespace, slot: Slot) -> Result<(), ServiceError> {
        if let Some(password) = namespace.rotation.password_of(slot) {
            return self.make_user(&namespace.name, slot, &password.hash()).await;
        }
        let user = self.policy.names.user(&namespace.name, slot);
        self.broker.put_user(&user, &PasswordHash::blocked(), self.tag().await?.as_str()).await?;
        Ok(())
    }

    /// Makes one user with its permissions. The caller has looked at the user before.
    pub(super) async fn make_user(&self, name: &Name, slot: Slot, hash: &PasswordHash) -> Result<(), ServiceError> {
        let user = self.policy.names.user(name, slot);
        self.broker.put_user(&user, hash, self.tag().await?.as_str()).await?;
        Ok(self.broker.put_permissions(&user, &self.policy.names.permissions(name)).await?)
    }

    /// Step 3: promotes the pending password, which the broker now has. `None` if it is no longer pending, because
    /// another process promoted it, or the namespace was revived with another one.
    pub(super) async fn promote(&self, mut namespace: Namespace) -> Result<Option<Namespace>, ServiceError> {
        let told = namespace.rotation.pending.clone();
        for _ in 0..ATTEMPTS {
            // Read the time after the broker answered: from that moment on the former standby password is dead, and the
            // next switch must keep its distance from it.
            let rotation = namespace.settled(self.now(), self.policy.rotation_interval);
            let name = namespace.name.clone();
            if let Some(promoted) = self.replace(Namespace { rotation, ..namespace }).await? {
                return Ok(Some(promoted));
            }
            match self.store.namespace(&name).await? {
                Some(found) if told.is_some() && found.rotation.pending == told && found.gone.is_none() => {
                    namespace = found;
                }
                _ => return Ok(None),
            }
        }
        Err(ServiceError::Contended(namespace.name))
    }
}
