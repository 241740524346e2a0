//! Ends on demand: a namespace is released, its credentials are revoked, or it is disabled and enabled.
//!
//! What is asked for is stored first, with what the audit trail has of it. Then it is carried out; where that fails, as while the
//! broker is down, the next sweep, claim or expiry run does it, and the answer says so. Asking again does no harm.

use std::time::Duration;

use super::accounts::not_such;
use super::{Deadline, Service, ServiceError};
use crate::broker::BrokerError;
use crate::clock::Timestamp;
use crate::domain::audit::{By, Deed};
use crate::domain::barred::Disabled;
use crate::domain::ends::{disable, enable, give_back, release, revoke};
use crate::domain::name::{Name, Slot};
use crate::domain::namespace::Namespace;
use crate::secret::Password;
use crate::store::{Change, Record, Summary, Write};

/// How often a change is tried again because another process wrote first.
const ATTEMPTS: usize = 20;

/// How long whoever asks waits for the broker, before all of it is left to others.
const PATIENCE: Duration = Duration::from_secs(8);

/// What is in the way where a password may come back that was read before.
const WRITING: &str = "another process may be giving its users earlier passwords";

/// What whoever is cut off by the end of its namespace is told.
const RELEASED: &str = "the namespace has ended";

/// How far what was asked for is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// RabbitMQ refuses the earlier credentials, and has no connection that they made. After `enable`: it can be claimed.
    Done,
    /// It is stored, and will be carried out; with what is in the way for now.
    Pending(String),
}

/// A change of a record that was asked for.
struct Asked {
    /// The record before.
    found: Namespace,
    /// The record as it is stored now; `None` where there was nothing to change.
    changed: Option<Namespace>,
    /// How long that may be acted on.
    deadline: Deadline,
}

impl Service {
    /// Ends a namespace now. Its users go at once; expiry runs remove its queues and exchanges.
    ///
    /// # Errors
    /// [`ServiceError::NoNamespace`]; [`ServiceError::NotSuch`] for an account as long as the user that it was made of is there; and those
    /// of the store.
    pub async fn release(&self, name: &Name, reason: &str, by: &By) -> Result<Ended, ServiceError> {
        let reserved = self.policy.settle_budget * 2;
        let change =
            |found: &Namespace, now: Timestamp| found.gone.is_none().then(|| release(found, now, now.plus(reserved)));
        let Asked { found, changed, deadline } = self.change_now(name, Deed::Release, reason, by, change).await?;
        self.remember(name, None);
        let Some(tombstone) = changed else {
            return Ok(self.within_patience(self.has_no_users(&found)).await);
        };
        let removed = self.within_patience(self.remove_users(&tombstone, deadline)).await;
        if removed == Ended::Done {
            let now = self.shared_time().await?;
            // Where another process wrote it meanwhile, it is that one's.
            self.replace(give_back(&tombstone, &found, now)).await?;
            if found.barred.quiet_from(now) > now {
                return Ok(Ended::Pending(WRITING.to_owned()));
            }
        }
        Ok(removed)
    }

    /// Replaces the passwords of both users of a namespace, and closes their connections.
    ///
    /// # Errors
    /// As for [`Service::release`].
    pub async fn revoke(&self, name: &Name, reason: &str, by: &By) -> Result<Ended, ServiceError> {
        let change = |found: &Namespace, now| match found.gone {
            None => revoke(found, Password::random(), now, self.policy.settle_budget),
            Some(_) => None,
        };
        let asked = self.change_now(name, Deed::Revoke, reason, by, change).await?;
        if asked.found.gone.is_some() {
            return Err(ServiceError::NoNamespace(name.clone()));
        }
        self.carry_out(asked).await
    }

    /// Revokes the credentials of a namespace, and lets nobody claim it.
    ///
    /// # Errors
    /// As for [`Service::release`].
    pub async fn disable(&self, name: &Name, reason: &str, by: &By) -> Result<Ended, ServiceError> {
        let change = |found: &Namespace, now| {
            let disabled = Disabled { since: now, by: by.actor.to_string(), reason: reason.to_owned() };
            disable(found, disabled, now, self.policy.settle_budget)
        };
        let asked = self.change_now(name, Deed::Disable, reason, by, change).await?;
        self.carry_out(asked).await
    }

    /// Lets a namespace be claimed again that was disabled.
    ///
    /// # Errors
    /// As for [`Service::release`].
    pub async fn enable(&self, name: &Name, reason: &str, by: &By) -> Result<Ended, ServiceError> {
        let change =
            |found: &Namespace, now| enable(found, Password::random(), now, |expires| self.matures(expires, now));
        let Asked { changed, .. } = self.change_now(name, Deed::Enable, reason, by, change).await?;
        let Some(enabled) = changed else { return Ok(Ended::Done) };
        let shut = enabled.barred.shut_until(self.shared_time().await?);
        Ok(shut.map_or(Ended::Done, |until| Ended::Pending(format!("it can be claimed from {until} on"))))
    }

    /// The live namespaces that are disabled, in the order of their names.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn disabled(&self) -> Result<Vec<Summary>, ServiceError> {
        self.memory.check_store()?;
        let all = self.store.outlines().await?.into_iter();
        Ok(all.filter(|outline| outline.disabled).map(|outline| outline.summary).collect())
    }

    /// Carries out what is stored of a revocation, as far as that goes now.
    async fn carry_out(&self, Asked { found, changed, deadline }: Asked) -> Result<Ended, ServiceError> {
        self.remember(&found.name, changed.as_ref().or(Some(&found)));
        let work = async {
            match changed {
                _ if found.gone.is_some() => self.has_no_users(&found).await,
                Some(changed) => self.cut_off(changed, deadline).await,
                None if found.barred.is_pending() => self.cut_off_in_turn(&found, deadline).await,
                None => Ok(true),
            }
        };
        Ok(self.within_patience(work).await)
    }

    /// What comes of work at the broker, which is given up where that takes too long.
    async fn within_patience(&self, work: impl Future<Output = Result<bool, ServiceError>>) -> Ended {
        let late = || BrokerError::Unavailable("it did not do it in time".to_owned());
        let done = tokio::time::timeout(PATIENCE, work).await;
        match done.unwrap_or_else(|_| Err(late().into())) {
            Ok(true) => Ended::Done,
            Ok(false) => Ended::Pending(WRITING.to_owned()),
            Err(error) => {
                tracing::warn!("what was asked for is stored, and is carried out later: {error}");
                Ended::Pending(match error {
                    ServiceError::Broker(BrokerError::Unavailable(_)) => "RabbitMQ does not answer".to_owned(),
                    ServiceError::ForeignUser { .. } => error.to_string(),
                    _ => "it failed for now".to_owned(),
                })
            }
        }
    }

    /// Deletes the users of a namespace that was released, whose connections are closed with them.
    async fn remove_users(&self, tombstone: &Namespace, deadline: Deadline) -> Result<bool, ServiceError> {
        for slot in Slot::BOTH {
            if let Some(user) = self.look_surely(tombstone, slot).await? {
                deadline.check(self.clock.now())?;
                // They would be closed all the same, but not told why.
                let told = self.broker.close_connections_of(&user.name, RELEASED).await;
                deadline.check(self.clock.now())?;
                self.broker.delete_user(&user.name).await?;
                told?;
            }
        }
        Ok(true)
    }

    /// Whether the users of a namespace that is gone are so, too, and nobody makes them anew.
    async fn has_no_users(&self, tombstone: &Namespace) -> Result<bool, ServiceError> {
        let (one, two) = tokio::join!(self.look_surely(tombstone, Slot::One), self.look_surely(tombstone, Slot::Two));
        let now = self.shared_time().await?;
        let cleaning = tombstone.gone.and_then(|gone| gone.cleaning(now)).is_some_and(|until| until > now);
        let quiet = !cleaning && tombstone.barred.quiet_from(now) <= now;
        Ok(one?.is_none() && two?.is_none() && quiet)
    }

    /// Changes the record of a namespace, be it gone, as `change` says by the time that all processes share, and notes that in the audit
    /// trail. `change` is asked again where another process wrote first.
    async fn change_now(
        &self,
        name: &Name,
        deed: Deed,
        reason: &str,
        by: &By,
        change: impl Fn(&Namespace, Timestamp) -> Option<Namespace>,
    ) -> Result<Asked, ServiceError> {
        self.memory.check_store()?;
        for _ in 0..ATTEMPTS {
            let deadline = self.deadline(self.clock.now(), "an end on demand");
            let now = self.shared_time().await?;
            let found = self.store.namespace(name).await?.ok_or_else(|| ServiceError::NoNamespace(name.clone()))?;
            if found.gone.is_none() && found.adopted().is_some() {
                return Err(not_such(
                    name,
                    "was made of a user of somebody else: move on from that user and retire it first",
                ));
            }
            let Some(changed) = change(&found, now) else { return Ok(Asked { found, changed: None, deadline }) };
            deadline.check(self.clock.now())?;
            let audits = vec![self.audit(by, deed, Some(name), name.as_str(), reason)];
            let record = Record::Namespace(changed.clone());
            if self.write(&[Change { record, notices: Vec::new(), audits }]).await? == [Write::Done] {
                let changed = Some(Namespace { version: changed.version.next(), ..changed });
                return Ok(Asked { found, changed, deadline });
            }
        }
        Err(ServiceError::Contended(name.clone()))
    }
}
