//! Whose a user is, looked at right before it is written or deleted: somebody else may have made one under a name of ours
//! at any time. What is not ours is refused, told, and left alone.

use std::collections::BTreeSet;
use std::time::Duration;

use super::outcome::Outcome;
use super::{Service, ServiceError};
use crate::domain::identity::{Mark, Others, Tag, is_known, leave_out_others, report_others};
use crate::domain::inventory::{BrokerUser, Inventory};
use crate::domain::name::{Names, Slot};
use crate::domain::namespace::Namespace;
use crate::store::{Change, Record, StoreError};

/// How many users of others are kept for the heartbeat, and how many of them it names.
const KEPT: usize = 100;
const NAMED: u32 = 20;

impl Service {
    /// The tag of this deployment. The store is asked once, and nobody waits for the answer that another one gets.
    pub(super) async fn tag(&self) -> Result<&Tag, StoreError> {
        if let Some(tag) = self.tag.get() {
            return Ok(tag);
        }
        let tag = self.store.tag().await?;
        Ok(self.tag.get_or_init(|| tag))
    }

    /// The user in `slot`, as it is now; `None` where there is none.
    ///
    /// # Errors
    /// [`ServiceError::ForeignUser`] where it is not ours.
    pub(super) async fn look(&self, namespace: &Namespace, slot: Slot) -> Result<Option<BrokerUser>, ServiceError> {
        let name = self.policy.names.user(&namespace.name, slot);
        let tag = self.tag().await?;
        let Some(user) = self.broker.user(&name).await? else { return Ok(None) };
        let ours = match tag.mark(&user.tags) {
            Mark::Ours => true,
            Mark::Unnamed => {
                is_known(namespace, slot, &user) && self.broker.rights_elsewhere(Some(&name)).await?.is_empty()
            }
            Mark::Foreign => false,
        };
        if ours { Ok(Some(user)) } else { Err(ServiceError::ForeignUser { user: name, alone: true }) }
    }

    /// The same, and none is said to be there only by a node that was seen to be up before.
    pub(super) async fn look_surely(
        &self,
        namespace: &Namespace,
        slot: Slot,
    ) -> Result<Option<BrokerUser>, ServiceError> {
        if let Some(user) = self.look(namespace, slot).await? {
            return Ok(Some(user));
        }
        self.broker.ping().await?;
        self.look(namespace, slot).await
    }

    /// Looks at both users of a namespace that has no active password yet. A first claim is to be quick: of a user that is not
    /// there, it takes the word even of a node that is just starting.
    pub(super) async fn look_at_both(&self, namespace: &Namespace) -> Result<(), ServiceError> {
        let (one, two) = tokio::join!(self.look(namespace, Slot::One), self.look(namespace, Slot::Two));
        match (one, two) {
            (Err(ServiceError::ForeignUser { user, .. }), other)
            | (other, Err(ServiceError::ForeignUser { user, .. })) => {
                // Of one that could not be looked at nobody knows.
                let alone = matches!(other, Ok(None) | Err(ServiceError::ForeignUser { .. }));
                Err(ServiceError::ForeignUser { user, alone })
            }
            (one, two) => one.and(two).map(drop),
        }
    }

    /// Looks at the users of a live namespace. One that has none of its own yet, because somebody else's was adopted for it, is what
    /// its record says.
    pub(super) async fn look_at_own(&self, namespace: &Namespace) -> Result<(), ServiceError> {
        match namespace.account.as_ref().is_none_or(|account| account.users().own) {
            true => self.look_at_both(namespace).await,
            false => Ok(()),
        }
    }

    /// Tells that a user of somebody else stands where one of ours should. Of a namespace that was never handed out and has
    /// no user at the broker, the record goes, so that nothing half made is left; but only where it is the `sole` one that is at it,
    /// since another one may be making the users just now. Not so what came back from the dead: there may be queues left
    /// of it, which are to go with it.
    pub(super) async fn refuse(
        &self,
        namespace: &Namespace,
        sole: bool,
        error: &ServiceError,
    ) -> Result<(), ServiceError> {
        let ServiceError::ForeignUser { user, alone } = error else { return Ok(()) };
        tracing::error!(r#type = "monitor.foreignUser", user, "{error}");
        self.store.note_foreign_users(std::slice::from_ref(user), &[]).await?;
        let half_made = !namespace.rotation.was_in_force() && namespace.adopted().is_none();
        if *alone && sole && half_made && !namespace.came_back() {
            let record = Record::RemoveNamespace(namespace.name.clone(), namespace.version);
            // Where another process wrote it meanwhile, it is that one's.
            self.store.write(&[Change { record, notices: Vec::new(), audits: Vec::new() }]).await?;
            self.remember(&namespace.name, None);
        }
        Ok(())
    }

    /// Takes what is not ours out of an inventory, and reports what of that is in our way.
    pub(super) async fn leave_out_others(
        &self,
        names: &Names,
        inventory: &mut Inventory,
        namespaces: &[Namespace],
        outcome: &mut Outcome,
    ) -> Result<Others, ServiceError> {
        let others = leave_out_others(inventory, names, self.tag().await?, namespaces);
        if let Some(report) = report_others(others.in_our_way.iter()) {
            outcome.report(&report);
        }
        Ok(others)
    }

    /// Keeps for the heartbeat which users of others are in our way; those that a claim met stay for as long as they are there.
    pub(super) async fn note_others(&self, others: &Others) -> Result<(), ServiceError> {
        let noted: BTreeSet<_> = self.store.foreign_users(KEPT as u32).await?.into_iter().collect();
        let new: Vec<_> = others.in_our_way.difference(&noted).take(KEPT - noted.len().min(KEPT)).cloned().collect();
        let gone: Vec<_> = noted.difference(&others.users).cloned().collect();
        if !new.is_empty() || !gone.is_empty() {
            self.store.note_foreign_users(&new, &gone).await?;
        }
        Ok(())
    }

    /// What an operator should look at, though it is no outage, in sentences: users of others that stand where ours should (nothing
    /// where the store does not tell within `patience`), and what bites with this release of RabbitMQ.
    pub async fn warnings(&self, patience: Duration) -> [(&'static str, Vec<String>); 2] {
        let told = tokio::time::timeout(patience, self.store.foreign_users(NAMED)).await;
        let users = report_others(told.ok().and_then(Result::ok).unwrap_or_default().iter());
        [("users", users.into_iter().collect()), ("rabbitmq", self.release_warnings())]
    }
}
