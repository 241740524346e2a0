//! Settling: put a pending password in force. The one path of first creation, rotation and recovery from a crash.
//!
//! 1. Somebody stored the password as pending. It is not handed out yet.
//! 2. The broker is told.
//! 3. The record is written with the password promoted, unless somebody else did that first.
//!
//! A process that dies between any two steps leaves a pending password behind, and whoever finds it takes the same steps
//! with the same password.

use tokio::time::Instant;

use super::{Deadline, Service, ServiceError};
use crate::broker::{BrokerError, Put};
use crate::domain::name::{Name, Slot};
use crate::domain::namespace::Namespace;
use crate::secret::PasswordHash;

/// How often a promotion is tried anew because a claim wrote the record meanwhile.
const ATTEMPTS: usize = 20;

impl Service {
    /// Settles what is pending where nothing is active yet; a claim of a namespace with an active password returns that
    /// one and leaves the rest to the rotation. `None` where the record is no longer the one that was read.
    ///
    /// A broker that hangs must not make the caller hang, so the waiting has an end, which is `patience`. And however many first claims come at
    /// once, no more of them are at the broker than it can do: those are soon done, where all of them at once would all be
    /// too late. What is cut off here is finished with the same password by the next claim, or by the rotation.
    pub(super) async fn settle(
        &self,
        namespace: Namespace,
        deadline: Deadline,
        patience: Instant,
    ) -> Result<Option<Namespace>, ServiceError> {
        if namespace.rotation.active.is_some() {
            return Ok(Some(namespace));
        }
        let told = tokio::time::timeout_at(patience, async {
            let _turn = self.first_claims.acquire().await;
            self.tell_broker(&namespace, true, deadline).await
        });
        let late = |_| BrokerError::Unavailable("it did not make the users of a new namespace in time".to_owned());
        told.await.map_err(late)??;
        self.promote(namespace).await
    }

    /// Step 2: gives the pending password to the broker. Where nothing is active, this makes both users. The user gets its
    /// permissions too where the broker turns out not to have known it, or where the password was `taken_over`: whoever
    /// told the broker of it before may have made the user and got no further.
    pub(super) async fn tell_broker(
        &self,
        namespace: &Namespace,
        taken_over: bool,
        deadline: Deadline,
    ) -> Result<(), ServiceError> {
        let Some(pending) = &namespace.rotation.pending else { return Ok(()) };
        let slot = pending.credentials.slot;
        let hash = pending.credentials.password.hash();
        deadline.check(self.clock.now())?;
        if namespace.rotation.active.is_none() {
            let standby = namespace.rotation.password_of(slot.other());
            let standby = standby.map_or_else(PasswordHash::blocked, |password| password.hash());
            let standby = self.make_user(&namespace.name, slot.other(), &standby);
            let (made, standby) = tokio::join!(self.make_user(&namespace.name, slot, &hash), standby);
            made?;
            standby?;
            return Ok(());
        }
        let user = self.policy.names.user(&namespace.name, slot);
        if self.broker.put_user(&user, &hash).await? == Put::PerhapsNew || taken_over {
            self.broker.put_permissions(&user, &self.policy.names.permissions(&namespace.name)).await?;
        }
        Ok(())
    }

    /// Makes one user, with its permissions.
    pub(super) async fn make_user(&self, name: &Name, slot: Slot, hash: &PasswordHash) -> Result<(), BrokerError> {
        let user = self.policy.names.user(name, slot);
        self.broker.put_user(&user, hash).await?;
        self.broker.put_permissions(&user, &self.policy.names.permissions(name)).await
    }

    /// Step 3: promotes the pending password that the broker now has. `None` where it is no longer pending, because
    /// somebody else promoted it or the namespace was revived with another one.
    pub(super) async fn promote(&self, mut namespace: Namespace) -> Result<Option<Namespace>, ServiceError> {
        let told = namespace.rotation.pending.clone();
        for _ in 0..ATTEMPTS {
            // Read after the broker answered: from that moment on the former standby password is dead, and the next
            // switch has to keep its distance from it.
            let rotation = namespace.rotation.settle(self.clock.now(), self.policy.rotation_interval);
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
