//! Sweeping and expiring: snapshot, plan, apply. The plans are pure functions in `domain`; here is what carries them out.
//!
//! What has to be told is stored in the same transaction as the change that it tells of. A queue's deletion is stored as
//! an intention first, and told only once the broker shows that the queue is gone.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt, stream};
use uuid::Uuid;

use super::outcome::{Outcome, Step};
use super::{Deadline, IN_FLIGHT, Service, ServiceError};
use crate::clock::Timestamp;
use crate::domain::expiry::{ExpiryPolicy, look_again, plan_expiry};
use crate::domain::hold::HoldPolicy;
use crate::domain::inventory::Inventory;
use crate::domain::name::{Name, Slot};
use crate::domain::namespace::Namespace;
use crate::domain::notice::{Event, Notice};
use crate::domain::plan::{Action, Plan, Planned};
use crate::domain::snapshot::{self, Snapshot};
use crate::domain::sweep::{SweepPolicy, plan_sweep};
use crate::notify::message;
use crate::secret::PasswordHash;
use crate::store::{Change, Record, Select, Write};

/// How long one process has a task to itself, from each look at the broker on. A process that dies holds the others up for
/// no longer; where a look and what follows from it take longer, another process at it does no harm.
const TASK_LEASE: Duration = Duration::from_secs(30);

/// How often one sweep looks again because its repairs took longer than what it saw may be trusted.
const SWEEP_ROUNDS: usize = 20;

/// How often one expiry run looks again at what its own removals left.
const EXPIRY_ROUNDS: usize = 3;

impl Service {
    /// Makes the broker agree with the store, and guards it. A dry run only plans.
    ///
    /// # Errors
    /// Those of the broker's listings and of the store; nothing is changed then. What fails for one thing is counted, and
    /// does not stop the rest.
    pub async fn sweep(&self, policy: &SweepPolicy, dry_run: bool) -> Result<Outcome, ServiceError> {
        let mut outcome = Outcome::of("monitor-rabbit");
        let turn = self.take_turn(&mut outcome, dry_run).await?;
        if outcome.held.is_none() {
            let worked = self.sweep_now(policy, &turn, &mut outcome).await;
            self.end_turn(turn, &mut outcome).await?;
            worked?;
        }
        Ok(outcome)
    }

    async fn sweep_now(&self, policy: &SweepPolicy, turn: &Turn, outcome: &mut Outcome) -> Result<(), ServiceError> {
        let mut left = 0;
        for round in 0..SWEEP_ROUNDS {
            left = self.sweep_once(policy, turn.holder.is_none(), round > 0, outcome).await?;
            if left == 0 || !self.keep_turn(turn, outcome.task).await? {
                break;
            }
        }
        if left > 0 {
            outcome.failed += left;
            outcome.report(&format!("there was no time for {left} repairs, which are left to the next run"));
        }
        Ok(())
    }

    /// One look at everything, and what follows from it, or `only_repairs` of that: what a run may remove, its first look has
    /// removed. How many repairs are left because there was no time for them.
    async fn sweep_once(
        &self,
        policy: &SweepPolicy,
        dry_run: bool,
        only_repairs: bool,
        outcome: &mut Outcome,
    ) -> Result<usize, ServiceError> {
        let mut inventory = self.inventory().await?;
        // Both count from before the store is read, so that no stand-still makes what was read there seem fresh.
        let now = self.clock.now();
        let deadline = self.deadline(now, "a sweep");
        let namespaces = self.namespaces(&mut inventory, outcome).await?;
        let alerts = self.store.alerts().await?;
        let seen = Snapshot { inventory, namespaces, alerts };
        let mut plan = plan_sweep(&seen, now, policy);
        if only_repairs {
            plan.actions.retain(|step| matches!(step.action, Action::RepairUser(..) | Action::RepairPermissions(..)));
        } else {
            outcome.note(&plan);
        }
        if dry_run {
            outcome.plan = Some(plan.actions.iter().chain(&plan.withheld).map(Step::from).collect());
            return Ok(0);
        }
        let delete_threshold = policy.delete_threshold;
        self.apply(plan, &seen, &Limits { deadline, delete_threshold }, outcome).await
    }

    /// Ends namespaces that have expired, unless that has to wait as rotation has. A dry run only plans.
    ///
    /// # Errors
    /// As for [`Service::sweep`].
    pub async fn expire(&self, policy: &ExpiryPolicy, dry_run: bool) -> Result<Outcome, ServiceError> {
        let mut outcome = Outcome::of("expire-namespaces");
        let turn = self.take_turn(&mut outcome, dry_run).await?;
        if outcome.held.is_none() {
            let worked = self.expire_now(policy, &turn, &mut outcome).await;
            self.end_turn(turn, &mut outcome).await?;
            worked?;
        }
        Ok(outcome)
    }

    async fn expire_now(&self, policy: &ExpiryPolicy, turn: &Turn, outcome: &mut Outcome) -> Result<(), ServiceError> {
        let (mut policy, dry_run) = (policy.clone(), turn.holder.is_none());
        for _ in 0..EXPIRY_ROUNDS {
            // Who can't claim can't move its namespace's date.
            let (held, now) = self.is_held(outcome, HoldPolicy::expiring).await?;
            if held && !dry_run {
                return Ok(());
            }
            let mut inventory = self.inventory().await?;
            let namespaces = self.namespaces(&mut inventory, outcome).await?;
            let seen = Snapshot { inventory, namespaces, alerts: Vec::new() };
            let mut plan = plan_expiry(&seen, now, &policy);
            if plan.actions.iter().any(|step| matches!(step.action, Action::ForgetNamespace(_))) {
                look_again(&mut plan, &self.inventory().await?, &policy.names);
            }
            // What one round removes is taken from what the whole run may.
            policy.brakes.most = policy.brakes.allowed(plan.seen).saturating_sub(plan.removals());
            outcome.note(&plan);
            if dry_run {
                outcome.plan = Some(plan.actions.iter().chain(&plan.withheld).map(Step::from).collect());
                return Ok(());
            }
            let again = plan.actions.iter().any(|step| matches!(step.action, Action::Bury(..) | Action::Clean(..)));
            let failed = outcome.failed;
            let deadline = self.deadline(self.clock.now(), "an expiry");
            bury_at(&mut plan, self.shared_time().await?);
            self.apply(plan, &seen, &Limits { deadline, delete_threshold: u64::MAX }, outcome).await?;
            let done = !again || outcome.failed > failed || policy.brakes.most == 0;
            if done || !self.keep_turn(turn, outcome.task).await? {
                break;
            }
        }
        Ok(())
    }

    /// Takes the sole right to a task, or notes that another process has it. A dry run changes nothing, and needs none.
    async fn take_turn(&self, outcome: &mut Outcome, dry_run: bool) -> Result<Turn, ServiceError> {
        let turn = Turn { started: Instant::now(), holder: (!dry_run).then(|| Uuid::new_v4().to_string()) };
        if !self.keep_turn(&turn, outcome.task).await? {
            outcome.held = Some("another process is at it".to_owned());
        }
        Ok(turn)
    }

    /// Keeps the sole right to a task for one more look. `false` where another process has it.
    async fn keep_turn(&self, turn: &Turn, task: &str) -> Result<bool, ServiceError> {
        let Some(holder) = &turn.holder else { return Ok(true) };
        let now = self.shared_time().await?;
        Ok(self.store.lease(task, holder, now, now.plus(TASK_LEASE)).await?)
    }

    async fn end_turn(&self, turn: Turn, outcome: &mut Outcome) -> Result<(), ServiceError> {
        if let Some(holder) = &turn.holder {
            self.store.release(outcome.task, holder).await?;
        }
        outcome.took = turn.started.elapsed();
        Ok(())
    }

    /// What the broker holds; to be read before the store is.
    async fn inventory(&self) -> Result<Inventory, ServiceError> {
        let broker = &self.broker;
        // A node that is starting answers with lists that are too short. One whose virtual host runs has recovered it.
        broker.ping().await?;
        let (users, permissions, queues, exchanges, connections) = tokio::try_join!(
            broker.users(),
            broker.permissions(),
            broker.queues(),
            broker.exchanges(),
            broker.connections()
        )?;
        Ok(Inventory { users, permissions, queues, exchanges, connections })
    }

    /// All namespaces that can be opened. What the broker holds of the others is taken out of the inventory, so that nobody
    /// believes that the store doesn't know it.
    async fn namespaces(
        &self,
        inventory: &mut Inventory,
        outcome: &mut Outcome,
    ) -> Result<Vec<Namespace>, ServiceError> {
        let (names, namespaces) = (&self.policy.names, self.store.namespaces(Select::All).await?);
        let known: HashSet<_> = namespaces.iter().map(|namespace| &namespace.name).collect();
        if !snapshot::remains(inventory, names, |name| !known.contains(name)).is_empty() {
            let sealed = self.store.namespaces(Select::Sealed).await?;
            let sealed: BTreeSet<_> = sealed.into_iter().map(|namespace| namespace.name).collect();
            if let Some(first) = sealed.first() {
                let count = sealed.len();
                outcome.report(&format!(
                    "{count} namespaces can't be opened with the key ring, {first} first: what the broker holds of them is left \
                     alone"
                ));
                snapshot::leave_out(inventory, names, |name| sealed.contains(name));
            }
        }
        Ok(namespaces)
    }

    /// Carries out a plan: what has to be stored in one write, then what has to be done at the broker. How many repairs were
    /// left because there was no time for them.
    async fn apply(
        &self,
        plan: Plan,
        seen: &Snapshot,
        limits: &Limits,
        outcome: &mut Outcome,
    ) -> Result<usize, ServiceError> {
        let now = self.clock.now();
        let namespaces: HashMap<_, _> = seen.namespaces.iter().map(|found| (&found.name, found)).collect();
        let (mut stored, mut tasks): (Vec<(Change, Planned)>, Vec<Planned>) = (Vec::new(), Vec::new());
        for planned in plan.actions {
            match self.change(&planned.action, &namespaces, now) {
                Some(change) => stored.push((change, planned)),
                None => tasks.push(planned),
            }
        }
        let (changes, planned): (Vec<_>, Vec<_>) = stored.into_iter().unzip();
        limits.deadline.check(self.clock.now())?;
        for (planned, written) in planned.into_iter().zip(self.store.write(&changes).await?) {
            match (written, &planned.action) {
                (Write::Lost, _) => tracing::debug!("{} was changed by another process", planned.action),
                (Write::Done, Action::DeleteQueue { .. }) => tasks.push(planned),
                (Write::Done, Action::Remember(_) | Action::Forget(_, None)) => {}
                (Write::Done, _) => outcome.done(&Step::from(&planned)),
            }
        }
        let namespaces = &namespaces;
        let mut done = stream::iter(tasks)
            .map(|planned| {
                async move {
                    let done = self.carry_out(&planned, namespaces, limits).await;
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
                Err(ServiceError::TooSlow(_)) if matches!(planned.action, Action::RepairUser(..)) => left += 1,
                Err(error) => outcome.fail(&Step::from(&planned), &error),
            }
        }
        Ok(left)
    }

    /// What is stored for an action: all of it, or, for a removal at the broker, the intention.
    fn change(&self, action: &Action, namespaces: &HashMap<&Name, &Namespace>, now: Timestamp) -> Option<Change> {
        let (record, event) = match action {
            Action::Remember(alert) => (Record::Alert(alert.clone()), None),
            Action::Tell(alert, event) => (Record::Alert(alert.clone()), Some((&alert.namespace, event))),
            Action::Forget(alert, event) => {
                let record = Record::RemoveAlert(alert.queue.clone(), alert.version);
                (record, event.as_ref().map(|event| (&alert.namespace, event)))
            }
            Action::DeleteQueue { alert, .. } => (Record::Alert(alert.clone()), None),
            Action::Bury(namespace, event) => {
                (Record::Namespace(namespace.clone()), event.as_ref().map(|event| (&namespace.name, event)))
            }
            Action::WarnOfExpiry(namespace, event) => {
                (Record::Namespace(namespace.clone()), Some((&namespace.name, event)))
            }
            Action::BuryOrphan(tombstone) => (Record::Namespace(tombstone.clone()), None),
            Action::ForgetNamespace(tombstone) => {
                (Record::RemoveNamespace(tombstone.name.clone(), tombstone.version), None)
            }
            Action::RepairUser(..)
            | Action::RepairPermissions(..)
            | Action::LookFor(_)
            | Action::CloseConnection { .. }
            | Action::Clean(..) => return None,
        };
        let told = event.and_then(|(name, event)| notice(namespaces.get(name).copied(), event, now));
        Some(Change { record, notices: told.into_iter().collect() })
    }

    /// Does at the broker what has to be done there. `false` where there turned out to be nothing to do.
    async fn carry_out(
        &self,
        planned: &Planned,
        namespaces: &HashMap<&Name, &Namespace>,
        limits: &Limits,
    ) -> Result<bool, ServiceError> {
        match &planned.action {
            Action::RepairUser(name, slot) => match namespaces.get(name) {
                Some(namespace) => self.repair_user(namespace, *slot, limits.deadline).await,
                None => Ok(false),
            },
            Action::RepairPermissions(name, slot) => {
                let user = self.policy.names.user(name, *slot);
                self.broker.put_permissions(&user, &self.policy.names.permissions(name)).await?;
                Ok(true)
            }
            Action::LookFor(alert) => {
                self.look_for(alert, namespaces.get(&alert.namespace).copied(), limits.delete_threshold).await
            }
            Action::DeleteQueue { alert, tried } => {
                let owner = namespaces.get(&alert.namespace).copied();
                self.delete_queue(alert, *tried, owner, limits.delete_threshold).await
            }
            Action::CloseConnection { connection, .. } => {
                self.broker.close_connection(connection, &planned.reason).await?;
                Ok(true)
            }
            Action::Clean(tombstone, remains) => self.clean(tombstone, remains, &planned.reason).await,
            _ => Ok(false),
        }
    }

    async fn repair_user(&self, namespace: &Namespace, slot: Slot, deadline: Deadline) -> Result<bool, ServiceError> {
        let hash = namespace.rotation.password_of(slot).map_or_else(PasswordHash::blocked, |password| password.hash());
        deadline.check(self.clock.now())?;
        self.make_user(&namespace.name, slot, &hash).await?;
        Ok(true)
    }
}

/// Has the namespaces that `plan` buries count as gone from `now` on. The plan was made with an earlier time, and whoever read
/// a record before it is buried may act on that for a while from now on.
fn bury_at(plan: &mut Plan, now: Timestamp) {
    for step in &mut plan.actions {
        if let Action::Bury(Namespace { gone: Some(gone), .. }, _) = &mut step.action {
            gone.since = now;
        }
    }
}

/// A run that has its task to itself.
struct Turn {
    started: Instant,
    /// `None` for a dry run.
    holder: Option<String>,
}

/// What holds for all actions of one plan.
struct Limits {
    deadline: Deadline,
    delete_threshold: u64,
}

/// The message to a namespace's contact, if it has one.
pub(super) fn notice(namespace: Option<&Namespace>, event: &Event, now: Timestamp) -> Option<Notice> {
    let namespace = namespace.filter(|namespace| !namespace.contact.is_empty())?;
    Some(message::notice(&namespace.name, &namespace.contact, event, Uuid::new_v4().to_string(), now))
}
