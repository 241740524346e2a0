//! Carrying out a plan, each kind of action in its way.
//!
//! What has to be told is stored in the same transaction as the change that it tells of. A queue's removal is stored as
//! an intention first, and told only once the broker shows that it is done.

use std::collections::HashMap;

use futures::{FutureExt, StreamExt, stream};

use super::outcome::{Outcome, Step};
use super::shared::notices;
use super::{Deadline, IN_FLIGHT, Service, ServiceError};
use crate::clock::Timestamp;
use crate::domain::action::{AccountStep, Action, Entry, Operation, Removal, Repair};
use crate::domain::audit::{Audit, By, Deed};
use crate::domain::ladder::{Thresholds, Topic};
use crate::domain::name::{Name, Slot};
use crate::domain::namespace::Namespace;
use crate::domain::notice::Event;
use crate::domain::owner::Groups;
use crate::domain::plan::{Plan, Planned};
use crate::domain::snapshot::Snapshot;
use crate::domain::watched::Watched;
use crate::secret::PasswordHash;
use crate::store::{Change, Record, Write};

/// What holds for all actions of one plan.
pub(super) struct Constraints {
    pub(super) deadline: Deadline,
    pub(super) thresholds: Thresholds,
}

/// The namespaces that a run saw.
pub(super) type Namespaces<'a> = HashMap<&'a Name, &'a Namespace>;

impl Service {
    /// Carries out a plan: what has to be stored in one write, then what has to be done at the broker. How many repairs were
    /// left because there was no time for them.
    pub(super) async fn apply(
        &self,
        plan: Plan,
        seen: &Snapshot,
        constraints: &Constraints,
        outcome: &mut Outcome,
    ) -> Result<usize, ServiceError> {
        let now = self.now();
        let namespaces: Namespaces = seen.namespaces.iter().map(|found| (&found.name, found)).collect();
        let (mut stored, mut tasks): (Vec<(Change, Planned)>, Vec<Planned>) = (Vec::new(), Vec::new());
        for planned in plan.actions {
            match &planned.action {
                Action::Store(entry) => {
                    let audits = self.audit_of(entry, &planned.reason).into_iter().collect();
                    stored.push((Change { audits, ..change(entry, &namespaces, &self.policy.groups, now) }, planned));
                }
                Action::Remove(intention, _) => {
                    let record = Record::Watch(intention.clone());
                    stored.push((Change { record, notices: Vec::new(), audits: Vec::new() }, planned));
                }
                Action::Broker(_) => tasks.push(planned),
                // Done before.
                Action::Limit(_) => {}
            }
        }
        let (changes, planned): (Vec<_>, Vec<_>) = stored.into_iter().unzip();
        constraints.deadline.check(self.clock.now())?;
        for (planned, written) in planned.into_iter().zip(self.write(&changes).await?) {
            match (written, &planned.action) {
                (Write::Lost, action) => tracing::debug!("{action} was changed by another process"),
                (Write::Done, Action::Store(Entry::Remember(_) | Entry::Forget(_, None))) => {}
                (Write::Done, Action::Store(Entry::Account(_, AccountStep::Seen, _))) => {}
                (Write::Done, Action::Store(_)) => outcome.done(&Step::from(&planned)),
                (Write::Done, Action::Remove(..) | Action::Broker(_) | Action::Limit(_)) => tasks.push(planned),
            }
        }
        let is_cleaning = |planned: &Planned| matches!(planned.action, Action::Broker(Operation::Clean(..)));
        let (cleaning, tasks): (Vec<_>, Vec<_>) = tasks.into_iter().partition(is_cleaning);
        self.clean_up(cleaning, outcome).await;
        let namespaces = &namespaces;
        let mut done = stream::iter(tasks)
            .map(|planned| {
                async move {
                    let done = match &planned.action {
                        Action::Broker(operation) => {
                            self.operate(operation, &planned.reason, namespaces, constraints).await
                        }
                        Action::Remove(watched, removal) => {
                            let owner = namespaces.get(&watched.namespace).copied();
                            self.remove(watched, *removal, owner, &planned.reason, constraints.thresholds).await
                        }
                        // It was stored, which is all.
                        Action::Store(_) | Action::Limit(_) => Ok(false),
                    };
                    (planned, done)
                }
                .boxed()
            })
            .buffer_unordered(IN_FLIGHT);
        let mut left = 0;
        while let Some((planned, done)) = done.next().await {
            match done {
                Ok(true) => outcome.done(&Step::from(&planned)),
                Ok(false) => {}
                Err(error @ ServiceError::ForeignUser { .. }) => outcome.report(&error.to_string()),
                Err(ServiceError::TooSlow(_)) if is_user_repair(&planned.action) => left += 1,
                Err(error) => outcome.fail(&Step::from(&planned), &error),
            }
        }
        Ok(left)
    }

    /// What the audit trail has of an entry, if it has something.
    fn audit_of(&self, entry: &Entry, reason: &str) -> Option<Audit> {
        let (task, deed, name, object) = match entry {
            Entry::Tell(watched, event) if warns(event) => {
                ("monitor-rabbit", Deed::Warn, &watched.namespace, watched.queue.as_str())
            }
            Entry::Bury(gone, _) | Entry::BuryOrphan(gone) => {
                ("expire-namespaces", Deed::Expire, &gone.name, gone.name.as_str())
            }
            Entry::Account(of, AccountStep::Retire, _) => ("monitor-rabbit", Deed::Retire, &of.name, of.name.as_str()),
            _ => return None,
        };
        Some(self.audit(&By::task(task), deed, Some(name), object, reason))
    }

    /// `false` where there turned out to be nothing to do, as for all that follow.
    async fn operate(
        &self,
        operation: &Operation,
        reason: &str,
        namespaces: &Namespaces<'_>,
        constraints: &Constraints,
    ) -> Result<bool, ServiceError> {
        match operation {
            Operation::Repair(name, slot, repair) => match namespaces.get(name) {
                Some(namespace) => self.repair(namespace, *slot, repair, constraints.deadline).await,
                None => Ok(false),
            },
            Operation::LookFor(watched) => {
                self.look_for(watched, namespaces.get(&watched.namespace).copied(), constraints.thresholds).await
            }
            Operation::CloseConnection { connection, user } => {
                let of = self.policy.names.parts_of_user(user);
                let of = of.and_then(|(name, slot)| Some((*namespaces.get(&name)?, slot)));
                let Some((namespace, slot)) = of else { return Ok(false) };
                // A list may be too short, and then it may be a foreign user that is missing there.
                self.look(namespace, slot).await?;
                self.close(connection, reason).await?;
                let task = By::task("monitor-rabbit");
                self.note(&[self.audit(&task, Deed::CloseConnection, Some(&namespace.name), connection, reason)])
                    .await?;
                Ok(true)
            }
            Operation::Retire(name) => self.finish_retiring(name).await,
            // Many are done together.
            Operation::Clean(..) => Ok(false),
            Operation::CutOff(namespace) => self.cut_off_in_turn(namespace, constraints.deadline).await,
        }
    }

    async fn remove(
        &self,
        watched: &Watched,
        removal: Removal,
        owner: Option<&Namespace>,
        reason: &str,
        thresholds: Thresholds,
    ) -> Result<bool, ServiceError> {
        match (removal, owner) {
            (Removal::Delete { tried }, _) => self.delete_queue(watched, tried, owner, thresholds, reason).await,
            (Removal::Purge, _) => self.purge_queue(watched, owner, thresholds, reason).await,
            (Removal::CloseHoarder { keep_out }, Some(owner)) => {
                self.close_hoarder(watched, owner, keep_out, reason).await
            }
            (Removal::CloseHoarder { .. }, None) => Ok(false),
        }
    }

    async fn repair(
        &self,
        namespace: &Namespace,
        slot: Slot,
        repair: &Repair,
        deadline: Deadline,
    ) -> Result<bool, ServiceError> {
        match repair {
            Repair::User => {
                let password = namespace.rotation.password_of(slot);
                let hash = password.map_or_else(PasswordHash::blocked, |password| password.hash());
                deadline.check(self.clock.now())?;
                // The node was seen to be up when its lists were read.
                self.look(namespace, slot).await?;
                deadline.check(self.clock.now())?;
                self.make_user(&namespace.name, slot, &hash).await?;
            }
            Repair::Permissions => {
                let Some(user) = self.look(namespace, slot).await? else { return Ok(false) };
                let permissions = self.policy.names.permissions(&namespace.name);
                self.broker.put_permissions(&user.name, &permissions).await?;
            }
            Repair::Rights(rights) => {
                if self.look(namespace, slot).await?.is_none() {
                    return Ok(false);
                }
                for right in rights {
                    self.broker.revoke(right).await?;
                }
            }
        }
        Ok(true)
    }
}

/// Whether an event tells of a trouble of a queue, and not of its end.
fn warns(event: &Event) -> bool {
    matches!(event, Event::QueueTrouble(trouble) if trouble.topic != Topic::Normal)
}

/// Whether the store may have another password for that user by now, so that the next look has to say what it is given.
fn is_user_repair(action: &Action) -> bool {
    matches!(action, Action::Broker(Operation::Repair(_, _, Repair::User)))
}

/// What an entry writes, with what it tells the owners of `namespaces`, groups at their addresses.
pub(super) fn change(entry: &Entry, namespaces: &Namespaces<'_>, groups: &Groups, now: Timestamp) -> Change {
    let of_queue = |watched: &Watched, event: &Event| {
        notices(namespaces.get(&watched.namespace).copied(), event, Some(&watched.watch), groups, now)
    };
    let of_namespace = |namespace: &Namespace, event: &Event| {
        notices(namespaces.get(&namespace.name).copied(), event, None, groups, now)
    };
    let (record, notices) = match entry {
        Entry::Remember(watched) => (Record::Watch(watched.clone()), Vec::new()),
        Entry::Tell(watched, event) => (Record::Watch(watched.clone()), of_queue(watched, event)),
        Entry::Forget(watched, event) => {
            let told = event.as_ref().map(|event| of_queue(watched, event)).unwrap_or_default();
            (Record::RemoveWatch(watched.queue.clone(), watched.version), told)
        }
        Entry::Bury(namespace, event) => {
            let told = event.as_ref().map(|event| of_namespace(namespace, event)).unwrap_or_default();
            (Record::Namespace(namespace.clone()), told)
        }
        Entry::WarnOfExpiry(namespace, event) => (Record::Namespace(namespace.clone()), of_namespace(namespace, event)),
        Entry::Mature(namespace) | Entry::BuryOrphan(namespace) => (Record::Namespace(namespace.clone()), Vec::new()),
        Entry::Account(namespace, _, event) => {
            let told = event.as_ref().map(|event| of_namespace(namespace, event)).unwrap_or_default();
            (Record::Namespace((**namespace).clone()), told)
        }
        Entry::ForgetNamespace(tombstone) => {
            (Record::RemoveNamespace(tombstone.name.clone(), tombstone.version), Vec::new())
        }
    };
    Change { record, notices, audits: Vec::new() }
}
