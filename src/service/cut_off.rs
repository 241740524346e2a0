//! Cutting off: has the broker refuse earlier credentials of a namespace, and closes the connections that they made.
//!
//! What is to be done is in the record (see [`ends`](crate::domain::ends)), so that whoever finds it goes on: who asked for it, a claim,
//! or the next sweep. It is done once the broker shows the new passwords, or that nobody gets in, and a moment later has no
//! connection that was made before.

use std::time::Duration;

use super::{Deadline, Service, ServiceError};
use crate::domain::barred::{Barred, Revoked};
use crate::domain::name::Slot;
use crate::domain::namespace::Namespace;
use crate::secret::PasswordHash;

/// How often the record is written again because another process wrote first.
const ATTEMPTS: usize = 20;

/// How long after each other connections are closed, at most and as a part of the time that there is: where passwords change every few
/// seconds, that is short. Who has just logged in is shown only when its connection is open.
const PAUSES: [(Duration, u32); 3] =
    [(Duration::ZERO, 1), (Duration::from_millis(250), 12), (Duration::from_millis(750), 4)];

/// What whoever is cut off is told.
const REASON: &str = "its credentials were revoked; connect again with a fresh claim";

impl Service {
    /// Goes on with a revocation that another process stored. `false` where another one is at it, or where it is to wait.
    pub(super) async fn cut_off_in_turn(
        &self,
        namespace: &Namespace,
        deadline: Deadline,
    ) -> Result<bool, ServiceError> {
        let until = self.shared_time().await?.plus(self.policy.settle_budget);
        let barred = namespace.barred.with_writer(until);
        match self.replace(Namespace { barred, ..namespace.clone() }).await? {
            Some(namespace) => self.cut_off(namespace, deadline).await,
            None => Ok(false),
        }
    }

    /// Carries out the revocation of a record that was read before the `deadline` began. `false` where it is not done yet, because an
    /// earlier password may come back.
    ///
    /// # Errors
    /// Those of the broker and of the store. It is still in the record then.
    pub(super) async fn cut_off(&self, namespace: Namespace, deadline: Deadline) -> Result<bool, ServiceError> {
        if namespace.rotation.active.is_some() {
            // A claim has put the new password in force.
        } else if namespace.rotation.pending.is_some() {
            self.tell_broker(&namespace, true, deadline).await?;
        } else {
            self.block_both(&namespace, deadline).await?;
        }
        for slot in Slot::BOTH {
            self.require_refusal(&namespace, slot).await?;
        }
        for (most, part) in PAUSES {
            tokio::time::sleep(most.min(self.policy.settle_budget / part)).await;
            for slot in Slot::BOTH {
                deadline.check(self.clock.now())?;
                if let Some(user) = self.look(&namespace, slot).await? {
                    deadline.check(self.clock.now())?;
                    self.broker.close_connections_of(&user.name, REASON).await?;
                }
            }
        }
        if namespace.barred.shut_until(self.shared_time().await?).is_some() {
            return Ok(false);
        }
        self.finish(namespace).await
    }

    /// Lets neither user log in.
    async fn block_both(&self, namespace: &Namespace, deadline: Deadline) -> Result<(), ServiceError> {
        for slot in Slot::BOTH {
            self.look_surely(namespace, slot).await?;
            deadline.check(self.clock.now())?;
            let user = self.policy.names.user(&namespace.name, slot);
            self.broker.put_user(&user, &PasswordHash::blocked(), self.tag().await?.as_str()).await?;
        }
        Ok(())
    }

    /// Fails unless the broker shows that a user has the password of the record, or none.
    async fn require_refusal(&self, namespace: &Namespace, slot: Slot) -> Result<(), ServiceError> {
        let right = self.look(namespace, slot).await?.is_some_and(|user| match namespace.rotation.password_of(slot) {
            Some(password) => user.hash.verifies(password),
            None => user.hash.is_blocked(),
        });
        match right {
            true => Ok(()),
            false => Err(ServiceError::NotRefused(self.policy.names.user(&namespace.name, slot))),
        }
    }

    /// Stores that a revocation is carried out, and puts its new password in force. `false` where the record has another one by now.
    async fn finish(&self, told: Namespace) -> Result<bool, ServiceError> {
        let mut found = told.clone();
        for _ in 0..ATTEMPTS {
            let Some(revoked) = found.barred.revoked else { return Ok(false) };
            if revoked.done {
                return Ok(true);
            }
            let barred = Barred { revoked: Some(Revoked { done: true, ..revoked }), ..found.barred.clone() };
            let rotation = match found.rotation.active {
                Some(_) => found.rotation.clone(),
                None => found.rotation.settle(self.now(), self.policy.rotation_interval),
            };
            let name = found.name.clone();
            if let Some(done) = self.replace(Namespace { barred, rotation, ..found }).await? {
                self.remember(&done.name, Some(&done));
                return Ok(true);
            }
            match self.store.namespace(&name).await? {
                Some(again) if again.gone.is_none() && is_the_same(&told, &again) => found = again,
                _ => return Ok(false),
            }
        }
        Err(ServiceError::Contended(told.name))
    }
}

/// Whether a record that was read again is about the same revocation: with what was pending still pending, or in force.
fn is_the_same(told: &Namespace, again: &Namespace) -> bool {
    let of = |found: &Namespace| (found.barred.revoked.map(|revoked| revoked.from), found.barred.disabled.clone());
    let (before, now) = (&told.rotation, &again.rotation);
    let in_force = before.pending.as_ref().is_some_and(|pending| now.active.as_ref() == Some(&pending.login));
    of(told) == of(again) && (before.pending == now.pending && before.active == now.active || in_force)
}
