//! What the broker has that no namespace in the store accounts for: things named as ours are, and users of others that could be
//! adopted. It is looked at, or deleted on demand, by a tombstone that expiry runs work off; see `adopt` for taking users over.

use std::collections::{BTreeMap, BTreeSet};

use super::ends::Ended;
use super::outcome::Outcome;
use super::{Service, ServiceError};
use crate::domain::adoption::{Wanted, plan_adoption};
use crate::domain::audit::{By, Deed};
use crate::domain::name::Name;
use crate::domain::snapshot::{Remains, remains};
use crate::domain::unknown::{EndUnknown, end_unknown};
use crate::domain::words::count;
use crate::store::{Change, Record, Select, Write};

/// Who removes what is left.
const REMOVED_BY: &str = "the next runs of expire-namespaces remove it";

/// What nobody accounts for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unknown {
    /// What is named as that of namespaces which are not in the store.
    pub things: BTreeMap<Name, Remains>,
    /// Of these somebody else has a user, so that nothing of them is deleted.
    pub theirs: BTreeSet<Name>,
    /// Users that an account can be made of.
    pub adoptable: Vec<String>,
    /// Other users that are not ours, with why they can't be adopted.
    pub others: Vec<(String, String)>,
    /// What was noticed on the way.
    pub reports: Vec<String>,
}

impl Service {
    /// What the broker has that nobody accounts for.
    ///
    /// # Errors
    /// [`ServiceError::TooSlow`] where others look at the same time; those of the broker's listings and of the store.
    pub async fn unknown(&self) -> Result<Unknown, ServiceError> {
        let turn = self.turn_to_look().await?;
        let mut outcome = Outcome::of("unknown");
        let accounts = self.accounts().await?;
        let names = self.policy.names.knowing(accounts);
        let mut inventory = self.inventory(None).await?;
        // All of them, to say why a user can't be adopted.
        inventory.permissions = self.broker.permissions().await?;
        let mut shown = inventory.clone();
        let mut stored = self.namespaces(&names, &mut shown, &mut outcome).await?;
        let others = self.leave_out_others(&names, &mut shown, &stored, &mut outcome).await?;
        let known: BTreeSet<_> = stored.iter().map(|found| found.name.clone()).collect();
        let things = remains(&shown, &names, |name| !known.contains(name));
        stored.extend(self.store.namespaces(Select::Sealed).await?);
        let foreign = inventory
            .users
            .iter()
            .filter(|user| names.owner_of_user(&user.name).is_none() && !names.is_adopted(&user.name));
        let wanted = |user: &crate::domain::inventory::BrokerUser| Wanted {
            user: user.name.clone(),
            owners: Vec::new(),
            unbounded: Vec::new(),
        };
        let wanted: Vec<_> = foreign.map(wanted).collect();
        let adoption = plan_adoption(&wanted, &inventory, &self.policy.names, &stored, self.now());
        drop(turn);
        Ok(Unknown {
            things,
            theirs: others.namespaces,
            adoptable: adoption.taken.into_iter().map(|account| account.name.to_string()).collect(),
            others: adoption.left,
            reports: outcome.reports,
        })
    }

    /// Has what the broker holds in the name of a namespace deleted that the store does not know, by the next expiry runs, with their
    /// brakes. [`Ended::Done`] where there is nothing left of it. Asking again does no harm.
    ///
    /// # Errors
    /// [`ServiceError::NotUnknown`]; [`ServiceError::Contended`] where another process wrote it at the same time, as a claim does;
    /// otherwise as for [`Service::unknown`].
    pub async fn end_unknown(&self, name: &Name, reason: &str, by: &By) -> Result<Ended, ServiceError> {
        self.memory.check_store()?;
        let _turn = self.turn_to_look().await?;
        let served = self.vitals().await?.0.heartbeat.map(|heartbeat| heartbeat.served);
        let look = self.look_at_broker().await?;
        let names = self.policy.names.knowing(look.accounts.clone());
        let seen = self.expiry_seen(look, &mut Outcome::of("unknown")).await?;
        let ended = end_unknown(name, &seen, &names, self.shared_time().await?, served)?;
        // Written over what was seen, or over nothing: whoever claims it meanwhile has it.
        let (tombstone, things) = match ended {
            EndUnknown::Underway(0) => return Ok(Ended::Done),
            EndUnknown::Underway(_) => return Ok(Ended::Pending(REMOVED_BY.to_owned())),
            EndUnknown::Write(tombstone, things) => (*tombstone, things),
        };
        let why = format!("{}; {reason}", count(things as u64, "thing", "things"));
        let audit = self.audit(by, Deed::EndUnknown, Some(name), name.as_str(), &why);
        let change = Change { record: Record::Namespace(tombstone), notices: Vec::new(), audits: vec![audit] };
        match self.write(&[change]).await?[..] {
            [Write::Done] => Ok(Ended::Pending(REMOVED_BY.to_owned())),
            _ => Err(ServiceError::Contended(name.clone())),
        }
    }
}
