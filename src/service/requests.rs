//! Requests for exemptions: an owner asks that queues may grow, and an administrator grants or refuses it. Each side is told of what
//! the other one did, in the transaction of the change.

use uuid::Uuid;

use super::shared::notices;
use super::{Service, ServiceError};
use crate::clock::Timestamp;
use crate::domain::audit::{By, Deed};
use crate::domain::exemption::{MOST_REQUESTS, Requested, check_pattern, terms};
use crate::domain::ladder::Exemption;
use crate::domain::name::Name;
use crate::domain::namespace::Namespace;
use crate::domain::notice::{Event, Notice};
use crate::notify::message;

impl Service {
    /// Asks that the queues that `queue` matches may grow. A request with the same pattern is replaced. `address` is where who asks
    /// is told, beside the owners.
    ///
    /// # Errors
    /// [`ServiceError::NoNamespace`], a pattern that is none, [`ServiceError::TooManyRequests`], and those of the store.
    pub async fn ask_exemption(
        &self,
        name: &Name,
        queue: &str,
        exemption: Exemption,
        reason: &str,
        address: Option<&str>,
        by: &By,
    ) -> Result<Requested, ServiceError> {
        check_pattern(queue, name)?;
        let requested = Requested {
            queue: queue.to_owned(),
            exemption,
            reason: reason.to_owned(),
            by: by.actor.to_string(),
            address: address.map(str::to_owned),
            since: self.now(),
        };
        self.change_namespace(name, |found| {
            let mut requests = found.requests.clone();
            requests.retain(|one| one.queue != queue);
            if requests.len() >= MOST_REQUESTS {
                return Err(ServiceError::TooManyRequests(MOST_REQUESTS));
            }
            requests.push(requested.clone());
            let terms = terms(exemption, requested.since);
            let audit = self.audit(by, Deed::AskExemption, Some(name), queue, &format!("{terms}: {reason}"));
            let notices = self.asked(name, &requested, terms);
            Ok(Some((Namespace { requests, ..found.clone() }, audit, notices)))
        })
        .await?;
        Ok(requested)
    }

    /// Refuses a request. `false` where there is none with this pattern. To grant one is to [exempt](Service::exempt) the same.
    ///
    /// # Errors
    /// [`ServiceError::NoNamespace`], and those of the store.
    pub async fn refuse_exemption(
        &self,
        name: &Name,
        queue: &str,
        reason: &str,
        by: &By,
    ) -> Result<bool, ServiceError> {
        let mut refused = false;
        self.change_namespace(name, |found| {
            let Some(asked) = found.requests.iter().find(|one| one.queue == queue) else { return Ok(None) };
            refused = true;
            let why = format!("{} asked for it: {}; refused: {reason}", asked.by, asked.reason);
            let audit = self.audit(by, Deed::RefuseExemption, Some(name), queue, &why);
            let (requests, notices) = self.decided(found, queue, None, (reason, by));
            Ok(Some((Namespace { requests, ..found.clone() }, audit, notices)))
        })
        .await?;
        Ok(refused)
    }

    /// The requests for a live namespace, in the order in which they were made.
    ///
    /// # Errors
    /// [`ServiceError::NoNamespace`], and those of the store.
    pub async fn requests(&self, name: &Name) -> Result<Vec<Requested>, ServiceError> {
        Ok(self.live(name).await?.requests)
    }

    /// All requests, with the namespaces that they are for, the oldest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn all_requests(&self) -> Result<Vec<(Name, Requested)>, ServiceError> {
        self.memory.check_store()?;
        let all = self.store.outlines().await?.into_iter();
        let of = |outline: crate::store::Outline| {
            let name = outline.summary.name;
            outline.requests.into_iter().map(move |request| (name.clone(), request))
        };
        let mut all: Vec<_> = all.flat_map(of).collect();
        all.sort_by_key(|(_, request)| request.since);
        Ok(all)
    }

    /// What tells the administrators of a request.
    fn asked(&self, name: &Name, of: &Requested, terms: String) -> Vec<Notice> {
        let Requested { queue, reason, by, since: at, .. } = of.clone();
        let event = Event::ExemptionAsked { queue, terms, reason, by, at };
        let mut told: Vec<&str> =
            self.policy.administrators.iter().filter_map(|owner| owner.told_at(&self.policy.groups)).collect();
        told.sort_unstable();
        told.dedup();
        told.into_iter().map(|to| message::notice(name, to, &event, Uuid::new_v4().to_string(), at)).collect()
    }

    /// The requests that are left once one was decided, and what tells of that; nothing where there was none.
    pub(super) fn decided(
        &self,
        found: &Namespace,
        queue: &str,
        granted: Option<Exemption>,
        (reason, by): (&str, &By),
    ) -> (Vec<Requested>, Vec<Notice>) {
        let mut requests = found.requests.clone();
        let Some(at) = requests.iter().position(|one| one.queue == queue) else { return (requests, Vec::new()) };
        let asked = requests.remove(at);
        let now: Timestamp = self.now();
        let event = Event::ExemptionDecided {
            queue: queue.to_owned(),
            granted: granted.map(|exemption| terms(exemption, now)),
            reason: reason.to_owned(),
            by: by.actor.to_string(),
            at: now,
        };
        let mut told = notices(Some(found), &event, None, &self.policy.groups, now);
        let asks = asked.address.filter(|own| !told.iter().any(|notice| notice.to.eq_ignore_ascii_case(own)));
        told.extend(asks.map(|to| message::notice(&found.name, &to, &event, Uuid::new_v4().to_string(), now)));
        (requests, told)
    }
}
