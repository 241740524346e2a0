//! Claiming: return a namespace's credentials.
//!
//! A claim of a known namespace reads the store, writes it if something changes, and never waits for the broker. Claims that are
//! under way at once share these reads and writes; see `renew`. Only a first claim waits, until its first password is in force. If the
//! store fails, the answer may come from memory; see `recall`.

use std::fmt;
use std::pin::pin;

use futures::future::{Either, select};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::counts::Source;
use super::renew::Renewed;
use super::settle::Looked;
use super::{Service, ServiceError};
use crate::clock::Timestamp;
use crate::domain::audit::{Audit, Deed};
use crate::domain::barred::Disabled;
use crate::domain::claim::{Claim, ClaimRequest, decide_claim};
use crate::domain::name::Name;
use crate::domain::namespace::Namespace;
use crate::domain::renewal::Renewal;
use crate::secret::Password;
use crate::store::Write;

/// What a claim returns.
#[derive(Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The namespace.
    pub name: Name,
    /// When it was created.
    pub created: Timestamp,
    /// From this time on, an expiry run may end it.
    pub expires: Timestamp,
    /// The connection string for an AMQP client. It logs in now, and until `reclaim_at`.
    pub connection_string: Zeroizing<String>,
    /// When to claim again.
    pub reclaim_at: Timestamp,
    /// When its password replaced another one; `None` for the namespace's first password.
    pub switched: Option<Timestamp>,
}

impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Claimed { name, created, expires, reclaim_at, .. } = self;
        write!(f, "Claimed({name}, created {created}, expires {expires}, reclaim at {reclaim_at})")
    }
}

/// How often a claim retries because another process wrote first. Each time, that other process has made progress.
const ATTEMPTS: usize = 20;

impl Service {
    /// Claims a namespace for a caller that has been authorised for it.
    ///
    /// # Errors
    /// [`ServiceError::CleaningUp`] while an expired namespace of this name is being removed, or was just marked as
    /// gone; [`ServiceError::Disabled`]; [`ServiceError::Revoking`] if its credentials were revoked a moment ago;
    /// [`ServiceError::TooManyNamespaces`] if it would be a new one; those of the store; those of the broker,
    /// which only a first claim needs. After any error, the next claim continues from there.
    pub async fn claim(&self, asked: &ClaimRequest) -> Result<Claimed, ServiceError> {
        let claimed = self.claim_somehow(asked).await;
        self.counts.claimed(&claimed);
        claimed.map(|(claimed, _)| claimed)
    }

    async fn claim_somehow(&self, asked: &ClaimRequest) -> Result<(Claimed, Source), ServiceError> {
        let began = self.clock.now();
        if let Some(claimed) = self.recall_while_failing(asked, began) {
            return Ok((claimed, Source::Memory));
        }
        let _asking = self.memory.ask_store()?;
        match self.claim_in_store(asked).await {
            Err(ServiceError::Store(error)) => {
                self.recall_after(error, asked, began).map(|claimed| (claimed, Source::Memory))
            }
            done => done,
        }
    }

    async fn claim_in_store(&self, asked: &ClaimRequest) -> Result<(Claimed, Source), ServiceError> {
        let until = Instant::now() + self.policy.first_claim_timeout;
        let _lock = self.locks.lock(&asked.name).await;
        let mut source = Source::Store;
        for _ in 0..ATTEMPTS {
            let now = self.now();
            let deadline = self.deadline(self.clock.now(), "a claim");
            let (namespace, switched, read) = match self.renew_known(asked, now).await? {
                Some(Renewed { namespace, switched }) => (namespace, switched, false),
                None => {
                    let Some((namespace, looked)) = self.prepare(asked, now, until).await? else { continue };
                    if namespace.rotation.active.is_none() {
                        source = Source::Broker;
                    }
                    let Some(namespace) = self.settle(namespace, looked, deadline, until).await? else { continue };
                    let switched = namespace.switched();
                    (namespace, switched, true)
                }
            };
            let Some(active) = &namespace.rotation.active else { continue };
            let reclaim_at = namespace.reclaim_at(now, self.policy.expiration_delay);
            if reclaim_at <= self.now() {
                // This process was suspended since it read the record, so the record is outdated.
                continue;
            }
            if read {
                self.remember(&namespace.name, Some(&namespace));
            }
            let claimed = Claimed {
                connection_string: self.connection_string(asked, active),
                reclaim_at,
                switched,
                created: namespace.created,
                expires: namespace.expires,
                name: namespace.name,
            };
            return Ok((claimed, source));
        }
        Err(ServiceError::Contended(asked.name.clone()))
    }

    /// Changes the record to what the claim asks for, and looks at the users that it is going to make; `None` if another process
    /// wrote first.
    async fn prepare(
        &self,
        asked: &ClaimRequest,
        now: Timestamp,
        until: Instant,
    ) -> Result<Option<(Namespace, Option<Looked<'_>>)>, ServiceError> {
        let alone = |changed: Option<Namespace>| changed.map(|namespace| (namespace, None));
        let found = self.look_up(&asked.name).await?;
        if found.as_ref().is_some_and(|found| found.gone.is_none() && found.is_on_demand()) {
            return Err(ServiceError::OnDemand(asked.name.clone()));
        }
        self.remember(&asked.name, found.as_ref());
        let is_gone = found.as_ref().is_some_and(|found| found.gone.is_some());
        let shared = is_gone || found.as_ref().is_some_and(Namespace::is_beginning);
        let now = if shared { self.shared_time().await? } else { now };
        let ends = |expires| self.matures(expires, now);
        match decide_claim(found.as_ref(), asked, now, self.policy.claims(), Password::random, ends) {
            Claim::Keep => Ok(alone(found)),
            Claim::Wait(until) => Err(ServiceError::CleaningUp { name: asked.name.clone(), until }),
            Claim::Shut(until) => Err(ServiceError::Revoking { name: asked.name.clone(), until }),
            Claim::Refuse(Disabled { since, reason, .. }) => {
                Err(ServiceError::Disabled { name: asked.name.clone(), since, reason })
            }
            Claim::Change(namespace) if !is_gone => {
                if let Some(renewal) = found.as_ref().and_then(|found| Renewal::between(found, &namespace)) {
                    let written = self.renew(&renewal).await?;
                    return Ok((written == Write::Done).then(|| (renewal.applied_to(&namespace), None)));
                }
                let before = found.map_or_else(String::new, |found| found.contact);
                let changed = (namespace.contact != before).then(|| {
                    let name =
                        |contact: &str| if contact.is_empty() { "nobody".to_owned() } else { contact.to_owned() };
                    let reason = format!("from {} to {}", name(&before), name(&namespace.contact));
                    self.audit(&asked.by, Deed::SetContact, Some(&asked.name), asked.name.as_str(), &reason)
                });
                Ok(alone(self.replace_noting(namespace, changed).await?))
            }
            Claim::Create(namespace) | Claim::Change(namespace) => {
                let reason = if is_gone { "claimed anew after it was gone" } else { "the first claim" };
                let audit = self.audit(&asked.by, Deed::Claim, Some(&asked.name), asked.name.as_str(), reason);
                self.make_looking(namespace, audit, until).await
            }
        }
    }

    /// Stores a namespace while its users are looked at. Neither needs the other one; but no user is made before both are done.
    async fn make_looking(
        &self,
        namespace: Namespace,
        audit: Audit,
        until: Instant,
    ) -> Result<Option<(Namespace, Option<Looked<'_>>)>, ServiceError> {
        let begun = namespace.clone();
        let (make, look) = (pin!(self.make(namespace, audit)), pin!(timeout_at(until, self.look_first(&begun))));
        Ok(match select(make, look).await {
            Either::Left((made, look)) => match made? {
                Some(made) => Some((made, look.await.ok())),
                None => None,
            },
            Either::Right((looked, make)) => make.await?.map(|made| (made, looked.ok())),
        })
    }
}
