//! Adopting users of the broker that somebody else made. Nothing is written to the broker.

use std::time::Instant;

use super::outcome::{Outcome, Step};
use super::{Service, ServiceError};
use crate::domain::adoption::{Adoption, Wanted, plan_adoption};
use crate::domain::audit::{By, Deed};
use crate::domain::inventory::Inventory;
use crate::domain::namespace::Namespace;
use crate::domain::owner::Owner;
use crate::store::{Change, PulseGuardian, Record, Select, Write};

/// So many accounts are written at once.
const BATCH: usize = 500;

impl Service {
    /// Makes accounts of users that somebody else made, and leaves these as they are. What can't be taken is reported with its
    /// reason. Those that were adopted before are left as they are, too, so that it may be repeated.
    ///
    /// # Errors
    /// Those of the broker's listings and of the store; nothing is changed then.
    pub async fn adopt(&self, wanted: &[Wanted], dry_run: bool, by: &By) -> Result<Outcome, ServiceError> {
        let started = Instant::now();
        let mut outcome = Outcome::of("adopt");
        // A node that is starting answers with lists that are too short.
        self.broker.ping().await?;
        let broker = &self.broker;
        let (users, permissions, elsewhere) =
            tokio::try_join!(broker.users(), broker.permissions(), broker.rights_elsewhere(None))?;
        let inventory = Inventory { users, permissions, elsewhere, ..Inventory::default() };
        let mut stored = self.store.namespaces(Select::All).await?;
        stored.extend(self.store.namespaces(Select::Sealed).await?);
        let Adoption { taken, known, left } =
            plan_adoption(wanted, &inventory, &self.policy.names, &stored, self.now());
        outcome.seen = wanted.len();
        if known > 0 {
            outcome.mention(format!("{known} were adopted before, and are left as they are"));
        }
        left.iter().for_each(|(what, why)| outcome.mention(format!("{what} is left: {why}")));
        let steps: Vec<_> = taken.iter().map(step).collect();
        if dry_run {
            outcome.plan = Some(steps);
        } else {
            let change = |(account, step): (&Namespace, &Step)| {
                let name = &account.name;
                let audit = self.audit(by, Deed::Adopt, Some(name), name.as_str(), &step.reason);
                Change { record: Record::Namespace(account.clone()), notices: Vec::new(), audits: vec![audit] }
            };
            let changes: Vec<_> = taken.iter().zip(&steps).map(change).collect();
            for (changes, steps) in changes.chunks(BATCH).zip(steps.chunks(BATCH)) {
                for (step, written) in steps.iter().zip(self.write(changes).await?) {
                    match written {
                        Write::Done => outcome.done(step),
                        Write::Lost => outcome.fail(step, &"another process wrote it at the same time"),
                    }
                }
            }
        }
        outcome.took = started.elapsed();
        Ok(outcome)
    }
}

fn step(account: &Namespace) -> Step {
    let owners: Vec<_> = account.owners.iter().map(Owner::to_string).collect();
    let owned = if owners.is_empty() { "nobody".to_owned() } else { owners.join(", ") };
    let exempt = match account.exemptions.len() {
        0 => String::new(),
        1 => "; 1 queue may grow".to_owned(),
        many => format!("; {many} queues may grow"),
    };
    Step { action: "adopt", object: account.name.to_string(), reason: format!("owned by {owned}{exempt}") }
}

/// What is to be adopted of a PulseGuardian database, and what of it can't be, or is to be known.
pub fn wanted_of(guardian: &PulseGuardian) -> (Vec<Wanted>, Vec<String>) {
    let mut notes = Vec::new();
    let mut wanted = Vec::new();
    for account in &guardian.accounts {
        let mut owners = Vec::new();
        for owner in &account.owners {
            match Owner::parse(owner) {
                Ok(owner) => owners.push(owner),
                Err(why) => notes.push(format!("an owner of {} is left: {why}", account.user)),
            }
        }
        if owners.is_empty() {
            notes.push(format!("{} has no owner, so that nobody is told of its troubles", account.user));
        }
        wanted.push(Wanted { user: account.user.clone(), owners, unbounded: account.unbounded.clone() });
    }
    for queue in &guardian.stray {
        notes.push(format!("{queue} is unbounded in PulseGuardian, and belongs to none of its accounts: it is left"));
    }
    if !guardian.administrators.is_empty() {
        let administrators = guardian.administrators.join(", ");
        notes.push(format!("PulseGuardian's administrators are {administrators}: they get no rights by this"));
    }
    (wanted, notes)
}
