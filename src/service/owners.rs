//! Owners and exemptions of a namespace. Each change is written over the version at which the record was read, with what the
//! audit trail has of it.

use super::{Service, ServiceError};
use crate::domain::audit::{Audit, By, Deed};
use crate::domain::exemption::{Exempted, MOST_EXEMPTIONS, check_pattern, terms};
use crate::domain::ladder::Exemption;
use crate::domain::name::Name;
use crate::domain::namespace::Namespace;
use crate::domain::notice::Notice;
use crate::domain::owner::{MOST_OWNERS, Owner};
use crate::store::{Change, Outline, Record, Summary, Write};

/// How often a change is tried again because another process wrote first.
const ATTEMPTS: usize = 20;

/// Who owns a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// Its owners, without the contact.
    pub owners: Vec<Owner>,
    /// The contact of its claims, which counts as one; empty for none.
    pub contact: String,
}

impl Service {
    /// Who owns the live namespace of this name.
    ///
    /// # Errors
    /// [`ServiceError::NoNamespace`], and those of the store.
    pub async fn owners(&self, name: &Name) -> Result<Owned, ServiceError> {
        let found = self.summary(name).await?.ok_or_else(|| ServiceError::NoNamespace(name.clone()))?;
        Ok(Owned { owners: found.owners, contact: found.contact })
    }

    /// Live namespaces that nobody owns, as [`Service::list`] gives all of them.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn unowned(&self, after: Option<&str>, limit: u32) -> Result<Vec<Summary>, ServiceError> {
        self.memory.check_store()?;
        Ok(self.store.unowned(after, limit).await?)
    }

    /// The exemptions of all live namespaces, in the order of their names.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn all_exemptions(&self) -> Result<Vec<(Name, Exempted)>, ServiceError> {
        self.memory.check_store()?;
        let all = self.store.outlines().await?.into_iter();
        let of = |outline: Outline| {
            let name = outline.summary.name;
            outline.exemptions.into_iter().map(move |one| (name.clone(), one))
        };
        Ok(all.flat_map(of).collect())
    }

    /// Puts `owners` in the place of those of a namespace. With `force` it may be left without any.
    ///
    /// # Errors
    /// [`ServiceError::NoNamespace`]; [`ServiceError::LastOwner`], where nobody would be left; [`ServiceError::TooManyOwners`];
    /// those of the store.
    pub async fn set_owners(
        &self,
        name: &Name,
        owners: Vec<Owner>,
        force: bool,
        by: &By,
    ) -> Result<Owned, ServiceError> {
        self.change_owners(name, |_| owners.clone(), force, by).await
    }

    /// The same, with what `change` makes of the present owners.
    ///
    /// # Errors
    /// As for [`Service::set_owners`].
    pub async fn change_owners(
        &self,
        name: &Name,
        change: impl Fn(&[Owner]) -> Vec<Owner>,
        force: bool,
        by: &By,
    ) -> Result<Owned, ServiceError> {
        let changed = self.change_namespace(name, |found| {
            let mut owners = change(&found.owners);
            owners.sort();
            owners.dedup();
            if owners.len() > MOST_OWNERS {
                return Err(ServiceError::TooManyOwners(MOST_OWNERS));
            }
            if found.owners == owners {
                return Ok(None);
            }
            let changed = Namespace { owners: owners.clone(), ..found.clone() };
            if changed.managers().is_empty() && !found.managers().is_empty() && !force {
                return Err(ServiceError::LastOwner(name.clone()));
            }
            let reason = format!("from {} to {}", list(&found.owners), list(&owners));
            Ok(Some((changed, self.audit(by, Deed::SetOwners, Some(name), name.as_str(), &reason), Vec::new())))
        });
        let Namespace { owners, contact, .. } = changed.await?;
        Ok(Owned { owners, contact })
    }

    /// The exemptions of a live namespace, with those that are over.
    ///
    /// # Errors
    /// [`ServiceError::NoNamespace`], and those of the store.
    pub async fn exemptions(&self, name: &Name) -> Result<Vec<Exempted>, ServiceError> {
        self.memory.check_store()?;
        let found = self.store.namespace(name).await?.filter(|found| found.gone.is_none());
        Ok(found.ok_or_else(|| ServiceError::NoNamespace(name.clone()))?.exemptions)
    }

    /// Lets the queues that `queue` matches grow. One with the same pattern is replaced.
    ///
    /// # Errors
    /// [`ServiceError::NoNamespace`], a pattern that is none, [`ServiceError::TooManyExemptions`], and those of the store.
    pub async fn exempt(
        &self,
        name: &Name,
        queue: &str,
        exemption: Exemption,
        reason: &str,
        by: &By,
    ) -> Result<Exempted, ServiceError> {
        check_pattern(queue, name)?;
        let now = self.now();
        let exempted = Exempted {
            queue: queue.to_owned(),
            exemption,
            reason: reason.to_owned(),
            by: by.actor.to_string(),
            since: now,
        };
        self.change_namespace(name, |found| {
            let mut exemptions = found.exemptions.clone();
            exemptions.retain(|one| one.queue != queue);
            if exemptions.len() >= MOST_EXEMPTIONS {
                return Err(ServiceError::TooManyExemptions(MOST_EXEMPTIONS));
            }
            exemptions.push(exempted.clone());
            let why = format!("{}: {reason}", terms(exemption, now));
            let audit = self.audit(by, Deed::Exempt, Some(name), queue, &why);
            // Where it was asked for, it is granted by this.
            let (requests, notices) = self.decided(found, queue, Some(exemption), (reason, by));
            Ok(Some((Namespace { exemptions, requests, ..found.clone() }, audit, notices)))
        })
        .await?;
        Ok(exempted)
    }

    /// Ends the exemption with this pattern. `false` where there is none.
    ///
    /// # Errors
    /// [`ServiceError::NoNamespace`], and those of the store.
    pub async fn end_exemption(&self, name: &Name, queue: &str, by: &By) -> Result<bool, ServiceError> {
        let mut ended = false;
        self.change_namespace(name, |found| {
            let Some(at) = found.exemptions.iter().position(|one| one.queue == queue) else {
                return Ok(None);
            };
            ended = true;
            let mut exemptions = found.exemptions.clone();
            let was = exemptions.remove(at);
            let why = format!("it was {} by {}: {}", terms(was.exemption, self.now()), was.by, was.reason);
            let audit = self.audit(by, Deed::EndExemption, Some(name), queue, &why);
            Ok(Some((Namespace { exemptions, ..found.clone() }, audit, Vec::new())))
        })
        .await?;
        Ok(ended)
    }

    /// Changes the record of a live namespace as `decide` says, which is asked again where another process wrote first, with what
    /// the trail has of it and what is told of it. The record, as it is stored then.
    pub(super) async fn change_namespace(
        &self,
        name: &Name,
        mut decide: impl FnMut(&Namespace) -> Result<Option<(Namespace, Audit, Vec<Notice>)>, ServiceError>,
    ) -> Result<Namespace, ServiceError> {
        self.memory.check_store()?;
        for _ in 0..ATTEMPTS {
            let found = self.store.namespace(name).await?.filter(|found| found.gone.is_none());
            let found = found.ok_or_else(|| ServiceError::NoNamespace(name.clone()))?;
            let Some((changed, audit, notices)) = decide(&found)? else { return Ok(found) };
            let record = Record::Namespace(changed.clone());
            if self.write(&[Change { record, notices, audits: vec![audit] }]).await? == [Write::Done] {
                return Ok(changed);
            }
        }
        Err(ServiceError::Contended(name.clone()))
    }
}

fn list(owners: &[Owner]) -> String {
    let owners: Vec<_> = owners.iter().map(Owner::to_string).collect();
    if owners.is_empty() { "nobody".to_owned() } else { owners.join(", ") }
}
