//! Expiring: what ends namespaces whose date has come.

use std::collections::HashSet;
use std::time::Duration;

use super::apply::Constraints;
use super::outcome::Outcome;
use super::shared::{Lease, plan_steps};
use super::{Service, ServiceError};
use crate::clock::Timestamp;
use crate::domain::action::{Action, Entry, Operation};
use crate::domain::expiry::{ExpiryPolicy, look_again, plan_expiry};
use crate::domain::hold::{HoldPolicy, Vitals};
use crate::domain::identity::{Others, leave_out_others};
use crate::domain::inventory::Inventory;
use crate::domain::ladder::Thresholds;
use crate::domain::name::Accounts;
use crate::domain::namespace::{Gone, Namespace};
use crate::domain::plan::Plan;
use crate::domain::snapshot::Snapshot;

/// How often one expiry run looks again at what its own removals left.
const EXPIRY_ROUNDS: usize = 3;

/// No queue is removed for its size.
const NONE: Thresholds =
    Thresholds { alert: u64::MAX, delete: u64::MAX, unacked_alert: u64::MAX, unacked_limit: u64::MAX };

impl Service {
    /// Ends namespaces that have expired, unless that has to wait as rotation has. A dry run only plans.
    ///
    /// # Errors
    /// As for [`Service::sweep`].
    pub async fn expire(&self, policy: &ExpiryPolicy, dry_run: bool) -> Result<Outcome, ServiceError> {
        let mut outcome = Outcome::of("expire-namespaces");
        let lease = self.take_lease(&mut outcome, dry_run).await?;
        if outcome.held.is_none() {
            let worked = self.expire_now(policy, &lease, &mut outcome).await;
            if lease.holder.is_some() {
                self.forget_audits(&mut outcome).await;
            }
            self.release_lease(lease, &mut outcome).await?;
            worked?;
        }
        Ok(outcome)
    }

    async fn expire_now(
        &self,
        policy: &ExpiryPolicy,
        lease: &Lease,
        outcome: &mut Outcome,
    ) -> Result<(), ServiceError> {
        let (mut policy, dry_run) = (policy.clone(), lease.holder.is_none());
        let mut looked: Option<Look> = None;
        for round in 0..EXPIRY_ROUNDS {
            // Who can't claim can't move its namespace's date.
            let (held, Vitals { now, heartbeat, .. }) = self.is_held(outcome, HoldPolicy::expiring).await?;
            let served = heartbeat.map(|heartbeat| heartbeat.served);
            if held && !dry_run {
                return Ok(());
            }
            let look = match looked.take() {
                Some(look) => look,
                None => self.look_at_broker().await?,
            };
            let accounts = look.accounts.clone();
            policy.names = policy.names.knowing(accounts.clone());
            let seen = self.expiry_seen(look, outcome).await?;
            let mut plan = plan_expiry(&seen, now, served, &policy);
            if plan.actions.iter().any(|step| matches!(step.action, Action::Store(Entry::ForgetNamespace(_)))) {
                let mut again = self.inventory(None).await?;
                leave_out_others(&mut again, &policy.names, self.tag().await?, &seen.namespaces);
                look_again(&mut plan, &again, &policy.names);
            }
            // What one round removes is taken from what the whole run may.
            policy.brakes.most = policy.brakes.allowed(plan.seen).saturating_sub(plan.removals());
            if round > 0 {
                // What the first look was refused has been told, and less is allowed from then on.
                plan.refused.clear();
            }
            outcome.note(&plan);
            if dry_run {
                outcome.plan = Some(plan_steps(&plan));
                return Ok(());
            }
            let buries = plan.actions.iter().any(|step| matches!(step.action, Action::Store(Entry::Bury(..))));
            let cleans = plan.actions.iter().any(|step| matches!(step.action, Action::Broker(Operation::Clean(..))));
            let failed = outcome.failed;
            let deadline = self.deadline(self.clock.now(), "an expiry");
            // Somebody may have been refused meanwhile, whose clock is right.
            let (held, Vitals { now, .. }) = self.is_held(outcome, HoldPolicy::expiring).await?;
            if held {
                return Ok(());
            }
            bury_at(&mut plan, now, &seen.namespaces, policy.margin);
            self.apply(plan, &seen, &Constraints { deadline, thresholds: NONE }, outcome).await?;
            let done = !(buries || cleans) || outcome.failed > failed || policy.brakes.most == 0;
            if !cleans {
                // Nothing was removed yet. What was buried is cleaned up by this look, and a later one shows what that left.
                let Snapshot { inventory, others, .. } = seen;
                looked = Some(Look { accounts, inventory, others });
            }
            if done || !self.renew_lease(lease, outcome.task).await? {
                break;
            }
        }
        Ok(())
    }

    /// What the broker has, for what may end by that.
    pub(super) async fn look_at_broker(&self) -> Result<Look, ServiceError> {
        let accounts = self.accounts().await?;
        Ok(Look { accounts, inventory: self.inventory(None).await?, others: Others::default() })
    }

    /// What a look shows, next to the store, which is read after it.
    pub(super) async fn expiry_seen(&self, look: Look, outcome: &mut Outcome) -> Result<Snapshot, ServiceError> {
        let Look { accounts, mut inventory, others: known } = look;
        let names = self.policy.names.knowing(accounts);
        let namespaces = self.namespaces(&names, &mut inventory, outcome).await?;
        let mut others = self.leave_out_others(&names, &mut inventory, &namespaces, outcome).await?;
        others.users.extend(known.users);
        others.namespaces.extend(known.namespaces);
        others.in_our_way.extend(known.in_our_way);
        Ok(Snapshot { inventory, namespaces, others, ..Snapshot::default() })
    }
}

/// What was seen of the broker.
pub(super) struct Look {
    /// The accounts that were known before.
    pub(super) accounts: Accounts,
    inventory: Inventory,
    /// What was taken out of the inventory already.
    others: Others,
}

/// Has the namespaces that `plan` buries count as gone from `now` on, because the plan was made with an earlier time. Whoever is
/// just putting a password of one in force may go on with that for the `margin`; so long nobody may revive it.
fn bury_at(plan: &mut Plan, now: Timestamp, found: &[Namespace], margin: Duration) {
    let is_switching = |found: &&Namespace| found.rotation.pending.is_some();
    let switching: HashSet<_> = found.iter().filter(is_switching).map(|found| &found.name).collect();
    for step in &mut plan.actions {
        if let Action::Store(Entry::Bury(Namespace { name, gone: Some(gone), .. }, _)) = &mut step.action {
            let cleaning_until = switching.contains(name).then(|| now.plus(margin));
            *gone = Gone { since: now, cleaning_until };
        }
    }
}
