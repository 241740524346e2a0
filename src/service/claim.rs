//! Claiming: hand out a namespace's credentials.
//!
//! A claim of a known namespace reads the store, writes it where something changes, and never waits for the broker. Only
//! the first claim does, until its first password is in force. Where the store fails, the answer may come from memory; see
//! `memory`.

use std::fmt;

use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{Service, ServiceError};
use crate::clock::Timestamp;
use crate::domain::claim::{Claim, ClaimRequest, decide_claim};
use crate::domain::name::Name;
use crate::domain::namespace::Namespace;
use crate::secret::Password;
use crate::store::{Change, Record, Write};

/// What a claim returns.
#[derive(Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The namespace.
    pub name: Name,
    /// Since when it exists.
    pub created: Timestamp,
    /// From when on the next expiry run may take it.
    pub expires: Timestamp,
    /// What an AMQP client connects with. It logs in now, and until `reclaim_at`.
    pub connection_string: Zeroizing<String>,
    /// When to claim again.
    pub reclaim_at: Timestamp,
    /// When its password took the place of another one; `None` for the namespace's first.
    pub switched: Option<Timestamp>,
}

impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Claimed { name, created, expires, reclaim_at, .. } = self;
        write!(f, "Claimed({name}, created {created}, expires {expires}, reclaim at {reclaim_at})")
    }
}

/// How often a claim decides anew because another process wrote first. Each time, that other process has got on.
const ATTEMPTS: usize = 20;

impl Service {
    /// Claims a namespace for the caller, who has been authorised for it.
    ///
    /// # Errors
    /// [`ServiceError::CleaningUp`] while an expired namespace of this name is being removed, or was just marked as gone; those of the store; those
    /// of the broker, which is needed by a first claim only. Whatever the error, the next claim goes on from there.
    pub async fn claim(&self, asked: &ClaimRequest) -> Result<Claimed, ServiceError> {
        if let Some(claimed) = self.recall_while_failing(asked) {
            return Ok(claimed);
        }
        let _turn = self.memory.ask_store()?;
        match self.claim_in_store(asked).await {
            Err(ServiceError::Store(error)) => self.recall_after(error, asked),
            done => done,
        }
    }

    async fn claim_in_store(&self, asked: &ClaimRequest) -> Result<Claimed, ServiceError> {
        let patience = Instant::now() + self.policy.first_claim_timeout;
        let _turn = self.turns.wait(&asked.name).await;
        for _ in 0..ATTEMPTS {
            let now = self.clock.now();
            let deadline = self.deadline(now, "a claim");
            let Some(namespace) = self.prepare(asked, now).await? else { continue };
            let Some(namespace) = self.settle(namespace, deadline, patience).await? else { continue };
            let Some(active) = &namespace.rotation.active else { continue };
            let reclaim_at = namespace.reclaim_at(now, self.policy.expiration_delay);
            if reclaim_at <= self.clock.now() {
                // This process stood still since it read the record, which is outdated.
                continue;
            }
            self.remember(&namespace.name, Some(&namespace));
            return Ok(Claimed {
                connection_string: self.connection_string(&namespace.name, active),
                reclaim_at,
                switched: namespace.rotation.switched(),
                created: namespace.created,
                expires: namespace.expires,
                name: namespace.name,
            });
        }
        Err(ServiceError::Contended(asked.name.clone()))
    }

    /// Makes the record what the claim asks for; `None` where another process wrote first.
    async fn prepare(&self, asked: &ClaimRequest, now: Timestamp) -> Result<Option<Namespace>, ServiceError> {
        let found = self.store.namespace(&asked.name).await?;
        self.remember(&asked.name, found.as_ref());
        let is_gone = found.as_ref().is_some_and(|found| found.gone.is_some());
        let now = if is_gone { self.shared_time().await? } else { now };
        match decide_claim(found.as_ref(), asked, now, self.policy.settle_budget, Password::random) {
            Claim::Keep => Ok(found),
            Claim::Wait(until) => Err(ServiceError::CleaningUp { name: asked.name.clone(), until }),
            Claim::Create(namespace) | Claim::Change(namespace) => self.replace(namespace).await,
        }
    }

    /// Writes the record over the version that it carries, and gives it back as it is stored; `None` where another
    /// process wrote first.
    pub(super) async fn replace(&self, namespace: Namespace) -> Result<Option<Namespace>, ServiceError> {
        let change = Change { record: Record::Namespace(namespace.clone()), notices: Vec::new() };
        let written = self.store.write(&[change]).await?;
        self.memory.store_works();
        match written.first() {
            Some(Write::Done) => Ok(Some(Namespace { version: namespace.version.next(), ..namespace })),
            _ => Ok(None),
        }
    }
}
