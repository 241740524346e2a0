//! Accounts of people: made under a name of the configured form, with credentials that change when an owner asks for them. A
//! password is shown once, to who asked for it. The store has only the hash that RabbitMQ has.

use std::fmt;

use futures::{StreamExt, stream};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{Deadline, IN_FLIGHT, Service, ServiceError};
use crate::broker::BrokerError;
use crate::clock::Timestamp;
use crate::domain::account::{Account, Adopted, Schedule, Uses};
use crate::domain::audit::{Audit, By, Deed};
use crate::domain::barred::{Barred, Disabled};
use crate::domain::inventory::Inventory;
use crate::domain::name::{Name, Names};
use crate::domain::namespace::{Namespace, Version};
use crate::domain::owner::{MOST_OWNERS, Owner};
use crate::domain::rotation::{NEVER, Rotation};
use crate::domain::usage::decisive_users;
use crate::secret::{Password, PasswordHash};

/// How often a change is tried again because another process wrote first.
const ATTEMPTS: usize = 20;

/// Credentials of an account, which are shown once.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The account.
    pub name: Name,
    /// The user to log in as.
    pub user: String,
    /// Its password.
    pub password: Password,
    /// The connection string for an AMQP client.
    pub connection_string: Zeroizing<String>,
    /// When the account ends if nobody uses it.
    pub expires: Timestamp,
    /// Whether those before are refused from now on, where that was asked for: if not, then within minutes.
    pub old_ended: bool,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Credentials { name, user, expires, old_ended, .. } = self;
        write!(f, "Credentials({name}, {user}, expires {expires}, old ended {old_ended})")
    }
}

impl Service {
    /// The name of a namespace or an account.
    ///
    /// # Errors
    /// [`ServiceError::BadName`] where it is neither; those of the store.
    pub async fn name(&self, text: &str) -> Result<Name, ServiceError> {
        let bad = match self.policy.names.namespace(text) {
            Ok(name) => return Ok(name),
            Err(bad) => bad,
        };
        // Those that were adopted have names of any form.
        let Some(name) = Name::of_account(text) else { return Err(bad.into()) };
        self.memory.check_store()?;
        let found = self.store.namespace(&name).await?;
        if found.is_some_and(|found| found.account.is_some()) { Ok(name) } else { Err(bad.into()) }
    }

    /// The record of a live account.
    ///
    /// # Errors
    /// [`ServiceError::NoNamespace`]; [`ServiceError::NotSuch`] for a namespace that is none; those of the store.
    pub async fn account(&self, name: &Name) -> Result<Namespace, ServiceError> {
        self.memory.check_store()?;
        let found = self.store.namespace(name).await?.filter(|found| found.gone.is_none());
        let found = found.ok_or_else(|| ServiceError::NoNamespace(name.clone()))?;
        match found.account {
            Some(_) => Ok(found),
            None => Err(not_such(name, "is no account, but a namespace that programs claim")),
        }
    }

    /// Makes an account, with its first credentials. One that was made before and never had any, because its making was cut
    /// off, is made to its end.
    ///
    /// # Errors
    /// [`ServiceError::BadAccount`], [`ServiceError::Exists`], [`ServiceError::TooManyOwners`], those of the broker, and those of the
    /// store.
    pub async fn create_account(&self, text: &str, owners: &[Owner], by: &By) -> Result<Credentials, ServiceError> {
        let name = self.policy.accounts.name(text)?;
        let mut owners = owners.to_vec();
        owners.sort();
        owners.dedup();
        if owners.len() > MOST_OWNERS {
            return Err(ServiceError::TooManyOwners(MOST_OWNERS));
        }
        let _lock = self.locks.lock(&name).await;
        let fresh = Password::random();
        for _ in 0..ATTEMPTS {
            let deadline = self.deadline(self.clock.now(), "making an account");
            let found = self.store.namespace(&name).await?;
            let begun = match found {
                Some(found) if found.gone.is_none() => {
                    let same = found.is_on_demand() && found.adopted().is_none() && found.owners == owners;
                    if !same || found.rotation.handed_out().is_some() {
                        return Err(ServiceError::Exists(name));
                    }
                    self.require_open(&found).await?;
                    let rotation = self.begin_asked(&found, &fresh, self.shared_time().await?)?;
                    self.replace(Namespace { rotation, ..found }).await?
                }
                found => {
                    let namespace = self.new_account(&name, owners.clone(), found.as_ref()).await?;
                    let rotation = self.begin_asked(&namespace, &fresh, self.shared_time().await?)?;
                    let named: Vec<_> = owners.iter().map(Owner::to_string).collect();
                    let reason = format!("for {}", named.join(", "));
                    let audit = self.audit(by, Deed::MakeAccount, Some(&name), name.as_str(), &reason);
                    self.make(Namespace { rotation, ..namespace }, audit).await?
                }
            };
            if let Some(begun) = begun {
                let settled = self.put_in_force(begun, deadline).await?;
                return self.credentials(&settled, fresh, false);
            }
        }
        Err(ServiceError::Contended(name))
    }

    /// The record of a new account, in place of a tombstone.
    async fn new_account(
        &self,
        name: &Name,
        owners: Vec<Owner>,
        tombstone: Option<&Namespace>,
    ) -> Result<Namespace, ServiceError> {
        let now = if tombstone.is_some() { self.shared_time().await? } else { self.now() };
        if let Some(found) = tombstone {
            self.require_open(found).await?;
        }
        if let Some(gone) = tombstone.and_then(|found| found.gone) {
            let until = gone.blocked_until(now, self.policy.claims().margin);
            if until > now {
                return Err(ServiceError::CleaningUp { name: name.clone(), until });
            }
        }
        Ok(Namespace {
            name: name.clone(),
            contact: String::new(),
            created: now,
            expires: now.plus(self.policy.accounts.lifetime),
            rotation: Rotation::none(),
            gone: None,
            warned: None,
            claimed_by: None,
            owners,
            exemptions: Vec::new(),
            requests: Vec::new(),
            barred: Barred::default(),
            account: Some(Account::new(now).into()),
            end_asked: None,
            matures: None,
            version: tombstone.map_or(Version::new_at(now), |found| found.version),
        })
    }

    /// Gives an account new credentials. Those before work until the next, or end at once with `end_old`: their connections are
    /// closed, too.
    ///
    /// # Errors
    /// [`ServiceError::NoNamespace`]; [`ServiceError::NotSuch`] where credentials are not given so; [`ServiceError::Disabled`];
    /// [`ServiceError::Revoking`]; [`ServiceError::Underway`]; those of the broker, and those of the store. After any error, those before are as they were, and whoever asks again gets
    /// others.
    pub async fn new_credentials(&self, name: &Name, end_old: bool, by: &By) -> Result<Credentials, ServiceError> {
        let _lock = self.locks.lock(name).await;
        let deadline = self.deadline(self.clock.now(), "new credentials");
        let (fresh, shared) = (Password::random(), self.shared_time().await?);
        let begun = self.change_account(name, |found, account| {
            if account.schedule == Schedule::Rotating {
                return Err(not_such(name, "has credentials that rotate: claim it"));
            }
            if account.adopted.as_ref().is_some_and(|adopted| adopted.moved.is_none()) {
                return Err(not_such(name, "was adopted, and nobody has moved on from its user yet: do that first"));
            }
            let now = self.now();
            let changed = Namespace {
                rotation: self.begin_asked(found, &fresh, shared)?,
                account: Some(account.used_at(now).into()),
                expires: self.put_off(found, account, now),
                matures: None,
                ..found.clone()
            };
            let reason = match end_old {
                true => "those before end at once",
                false => "those before work until the next",
            };
            Ok((changed, Some(self.audit(by, Deed::NewCredentials, Some(name), name.as_str(), reason))))
        });
        let settled = self.put_in_force(begun.await?, deadline).await?;
        let ended = end_old && self.end_old(&settled).await;
        self.credentials(&settled, fresh, ended)
    }

    /// Lets the owner of an adopted user move on: to credentials on demand, which are given, or to such that programs claim.
    /// The user stays as it is until it is retired.
    ///
    /// # Errors
    /// As for [`Service::new_credentials`].
    pub async fn move_on(&self, name: &Name, schedule: Schedule, by: &By) -> Result<Option<Credentials>, ServiceError> {
        let _lock = self.locks.lock(name).await;
        let deadline = self.deadline(self.clock.now(), "moving on");
        let unmoved = |account: &Account| match &account.adopted {
            None => Err(not_such(name, "is not an adopted user any more")),
            Some(Adopted { moved: Some(_), .. }) => Err(not_such(name, "has moved on already")),
            Some(adopted) => Ok(adopted.clone()),
        };
        let moved = |found: &Namespace, account: &Account, adopted, rotation| {
            let adopted = Some(Adopted { moved: Some(self.now()), ..adopted });
            let account = Account { schedule, adopted, ..account.used_at(self.now()) };
            let reason = format!("to credentials that are {}; its user stays until it is retired", schedule.word());
            let audit = self.audit(by, Deed::MoveOn, Some(name), name.as_str(), &reason);
            (Namespace { account: Some(account.into()), rotation, ..found.clone() }, Some(audit))
        };
        if schedule == Schedule::Rotating {
            // Nobody is told that it may be claimed where it can't be.
            self.look_at_both(&self.account(name).await?).await?;
            let first = Password::random();
            self.change_account(name, |found, account| {
                let adopted = unmoved(account)?;
                Ok(moved(found, account, adopted, Rotation::first(first.clone(), self.clock.now())))
            })
            .await?;
            return Ok(None);
        }
        let (fresh, shared) = (Password::random(), self.shared_time().await?);
        let begun = self.change_account(name, |found, account| {
            unmoved(account)?;
            Ok((Namespace { rotation: self.begin_asked(found, &fresh, shared)?, ..found.clone() }, None))
        });
        let settled = self.put_in_force(begun.await?, deadline).await?;
        let active = settled.rotation.active.clone();
        let done = self.change_account(name, |found, account| {
            if found.rotation.active != active {
                return Err(ServiceError::Underway(name.clone()));
            }
            let adopted = unmoved(account)?;
            Ok(moved(found, account, adopted, found.rotation.clone()))
        });
        self.credentials(&done.await?, fresh, false).map(Some)
    }

    /// Fails where nobody gets credentials: where it is disabled, or a revocation is not carried out yet.
    async fn require_open(&self, found: &Namespace) -> Result<(), ServiceError> {
        let (name, barred) = (found.name.clone(), &found.barred);
        if let Some(Disabled { since, reason, .. }) = barred.disabled.as_deref().cloned() {
            return Err(ServiceError::Disabled { name, since, reason });
        }
        if barred.revoked.is_none() {
            return Ok(());
        }
        let now = self.shared_time().await?;
        match barred.shut_until(now).or_else(|| barred.is_pending().then_some(now)) {
            Some(until) => Err(ServiceError::Revoking { name, until }),
            None => Ok(()),
        }
    }

    /// When an account ends that was used at `now`. One whose user of somebody else is there has no end.
    fn put_off(&self, found: &Namespace, account: &Account, now: Timestamp) -> Timestamp {
        match account.adopted {
            Some(_) => found.expires,
            None => found
                .expires
                .min(NEVER.minus(self.policy.accounts.lifetime))
                .max(now.plus(self.policy.accounts.lifetime)),
        }
    }

    /// The rotation of an account with `fresh` on its way, by its hash. One that another call has on its way is left to that: `now`
    /// is a time by the clock that all processes share, because the two would overwrite each other.
    fn begin_asked(&self, found: &Namespace, fresh: &Password, now: Timestamp) -> Result<Rotation, ServiceError> {
        let is_underway = found.rotation.pending.as_ref().is_some_and(|pending| {
            let ahead = pending.since > now.plus(self.policy.settle_budget * 2);
            !ahead && pending.since.plus(self.policy.settle_budget) > now
        });
        if is_underway {
            return Err(ServiceError::Underway(found.name.clone()));
        }
        let kept = Password::behind(&fresh.hash()).unwrap_or_else(|| fresh.clone());
        Ok(found.rotation.without_pending().begin(kept, now))
    }

    /// Has the broker take the pending password, and makes it the active one.
    async fn put_in_force(&self, begun: Namespace, deadline: Deadline) -> Result<Namespace, ServiceError> {
        let until = Instant::now() + self.policy.first_claim_timeout;
        let told = tokio::time::timeout_at(until, self.tell_broker(&begun, true, deadline)).await;
        let late = |_| BrokerError::Unavailable("it did not take a new password in time".to_owned());
        if let Err(error) = told.map_err(late)? {
            self.refuse(&begun, begun.barred.writing_until.is_none(), &error).await?;
            return Err(error);
        }
        let name = begun.name.clone();
        self.promote(begun).await?.ok_or(ServiceError::Contended(name))
    }

    fn credentials(&self, of: &Namespace, password: Password, old_ended: bool) -> Result<Credentials, ServiceError> {
        let name = of.name.clone();
        let Some(active) = &of.rotation.active else { return Err(ServiceError::Contended(name)) };
        let user = self.policy.names.user(&name, active.slot);
        let connection_string = self.policy.connection.connection_string(&user, &password, &name, None);
        Ok(Credentials { name, user, password, connection_string, expires: of.expires, old_ended })
    }

    /// Ends the credentials before the active ones, and closes their connections. `false` where the broker did not do it: then a
    /// sweep does.
    async fn end_old(&self, settled: &Namespace) -> bool {
        let ended = async {
            let Some(old) = settled.rotation.previous.clone() else { return Ok(()) };
            let ended = self.change_account(&settled.name, |found, _| {
                if found.rotation.previous.as_ref() != Some(&old) {
                    return Err(ServiceError::Underway(found.name.clone()));
                }
                let rotation = Rotation { previous: None, ..found.rotation.clone() };
                Ok((Namespace { rotation, ..found.clone() }, None))
            });
            let ended = ended.await?;
            let Some(user) = self.look_surely(&ended, old.slot).await? else { return Ok(()) };
            self.broker.put_user(&user.name, &PasswordHash::blocked(), self.tag().await?.as_str()).await?;
            self.broker.close_connections_of(&user.name, "its owner has asked for other credentials").await?;
            Ok::<_, ServiceError>(())
        };
        let ended = ended.await;
        if let Err(error) = &ended {
            tracing::warn!(namespace = %settled.name, "former credentials could not be ended yet: {error}");
        }
        ended.is_ok()
    }

    /// Changes the record of a live account as `decide` says, which is asked again where another process wrote first. The
    /// record, as it is stored then.
    pub(super) async fn change_account(
        &self,
        name: &Name,
        decide: impl Fn(&Namespace, &Account) -> Result<(Namespace, Option<Audit>), ServiceError>,
    ) -> Result<Namespace, ServiceError> {
        for _ in 0..ATTEMPTS {
            let found = self.account(name).await?;
            let Some(account) = &found.account else { continue };
            self.require_open(&found).await?;
            let (changed, audit) = decide(&found, account)?;
            if let Some(stored) = self.replace_noting(changed, audit).await? {
                return Ok(stored);
            }
        }
        Err(ServiceError::Contended(name.clone()))
    }

    /// From where users are connected. Of those that decide about something and that the list does not show, the broker is
    /// asked one by one, since without statistics it lists none. One that it does not tell of counts as used.
    pub(super) async fn uses(
        &self,
        names: &Names,
        inventory: &Inventory,
        namespaces: &[Namespace],
        now: Timestamp,
    ) -> Uses {
        let mut uses = Uses::new();
        for connection in &inventory.connections {
            uses.entry(connection.user.clone()).or_default().insert(connection.address.clone());
        }
        let asked = decisive_users(namespaces, names, now).into_iter().filter(|user| !uses.contains_key(user));
        let asked: Vec<_> = asked.collect();
        let looks = stream::iter(asked).map(|user| async move {
            let found = self.broker.connections_of(&user).await;
            (user, found)
        });
        let found: Vec<_> = looks.buffer_unordered(IN_FLIGHT).collect().await;
        for (user, found) in found {
            match found {
                Ok(found) if found.is_empty() => {}
                Ok(found) => uses.entry(user).or_default().extend(found.into_iter().map(|of| of.address)),
                Err(error) => {
                    tracing::debug!("whether {user} is in use is not known: {error}");
                    uses.entry(user).or_default().insert(String::new());
                }
            }
        }
        uses
    }
}

pub(super) fn not_such(name: &Name, why: &'static str) -> ServiceError {
    ServiceError::NotSuch { name: name.clone(), why }
}
