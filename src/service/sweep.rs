//! Sweeping: what makes the broker agree with the store, and guards it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::time::Instant;

use super::apply::{Constraints, change};
use super::outcome::Outcome;
use super::shared::{Lease, plan_steps};
use super::{IN_FLIGHT, Service, ServiceError};
use crate::domain::account::Uses;
use crate::domain::action::{Action, Entry, Operation, Repair};
use crate::domain::guard::look_closer_at;
use crate::domain::history::History;
use crate::domain::inventory::{BrokerQueue, Inventory, LimitsSeen, QueueDetail};
use crate::domain::name::{Name, Names, Slot};
use crate::domain::namespace::Namespace;
use crate::domain::order::{Order, leave_out_users};
use crate::domain::plan::{Plan, Planned};
use crate::domain::snapshot::Snapshot;
use crate::domain::sweep::{SweepPolicy, plan_observation, plan_sweep};
use crate::domain::watched::Watched;
use crate::store::{Change, Record, Write};

/// How often one sweep looks again because its repairs took longer than what it saw may be trusted.
const SWEEP_ROUNDS: usize = 20;

/// How long a sweep takes for closer looks at queues. What was not looked at by then is judged by its totals.
const CLOSER: Duration = Duration::from_secs(10);

/// How often the sweeps of a process look at what exactly users may do.
const CLOSELY: Duration = Duration::from_secs(600);

/// What a sweep knows of queues beyond their totals.
#[derive(Default)]
struct Watching {
    watches: Vec<Watched>,
    histories: BTreeMap<String, History>,
    closer: BTreeMap<String, QueueDetail>,
    alarm: bool,
}

impl Service {
    /// Makes the broker agree with the store, and guards it. A dry run only plans.
    ///
    /// # Errors
    /// Those of the broker's listings and of the store; nothing is changed then. What fails for one thing is counted, and
    /// does not stop the rest.
    pub async fn sweep(&self, policy: &SweepPolicy, dry_run: bool) -> Result<Outcome, ServiceError> {
        let mut outcome = Outcome::of("monitor-rabbit");
        let lease = self.take_lease(&mut outcome, dry_run).await?;
        if outcome.held.is_none() {
            let worked = self.sweep_now(policy, &lease, &mut outcome).await;
            self.release_lease(lease, &mut outcome).await?;
            worked?;
        }
        Ok(outcome)
    }

    async fn sweep_now(&self, policy: &SweepPolicy, lease: &Lease, outcome: &mut Outcome) -> Result<(), ServiceError> {
        let mut left = 0;
        for round in 0..SWEEP_ROUNDS {
            left = self.sweep_once(policy, lease.holder.is_none(), round > 0, outcome).await?;
            if left == 0 || !self.renew_lease(lease, outcome.task).await? {
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
        // Asked before anything is seen: a stand-still makes it seem older, never fresher.
        let clock = self.shared_clock().await?;
        let looked = Some(clock.at);
        let accounts = self.accounts().await?;
        let policy = &SweepPolicy { names: policy.names.knowing(accounts.clone()), ..policy.clone() };
        let names = self.policy.names.knowing(accounts);
        let closely = self.is_to_look_closely();
        let mut inventory = self.inventory(closely.then_some(&names)).await?;
        if closely {
            self.note_close_look();
        }
        let watching = match only_repairs {
            true => Watching::default(),
            false => self.watching(&inventory, policy, outcome).await?,
        };
        let limits = match only_repairs {
            true => None,
            false => self.limits_seen(outcome).await?,
        };
        // Both count from before the store is read, so that no stand-still makes what was read there seem fresh.
        let now = self.now();
        let deadline = self.deadline(self.clock.now(), "a sweep");
        let known = self.known(&names, &mut inventory, (&watching, limits.as_ref()), policy, outcome).await?;
        let (namespaces, in_order) = known;
        let uses = match only_repairs {
            true => Uses::new(),
            false => self.uses(&names, &inventory, &namespaces, now).await,
        };
        let others = self.leave_out_others(&names, &mut inventory, &namespaces, outcome).await?;
        if !dry_run {
            self.note_others(&others).await?;
        }
        let Watching { watches, histories, closer, alarm } = watching;
        let shared = Some(clock.earliest(self.clock.uptime()));
        let recipients = self.store.recipients().await?;
        let seen = Snapshot {
            inventory,
            namespaces,
            in_order,
            watches,
            histories,
            closer,
            looked,
            shared,
            alarm,
            recipients,
            limits,
            uses,
            others,
        };
        let mut plan = plan_sweep(&seen, self.tag().await?, now, policy);
        if only_repairs {
            plan.actions.retain(|step| matches!(step.action, Action::Broker(Operation::Repair(..))));
        } else {
            outcome.note(&plan);
            outcome.show(&plan, dry_run);
        }
        if let Some(doubt) = self.doubt() {
            leave_to_the_right_time(&mut plan, &seen);
            outcome.report(&format!("connections and standby users are left alone, because {doubt}"));
        }
        if dry_run {
            outcome.plan = Some(plan_steps(&plan));
            return Ok(0);
        }
        let histories = std::mem::take(&mut plan.histories);
        if !only_repairs && let Err(error) = self.store.write_histories(&histories).await {
            outcome.report(&format!("what was seen of queues could not be stored: {error}"));
        }
        let thresholds = policy.guard.thresholds;
        self.apply_limits(&mut plan, &seen.namespaces, deadline, outcome).await?;
        let left = self.announce_repairs(&mut plan, &seen.namespaces).await?;
        Ok(left + self.apply(plan, &seen, &Constraints { deadline, thresholds }, outcome).await?)
    }

    /// The namespaces in the store, and the names of those that are in order, of which nothing else is kept: neither their records,
    /// nor their users in the inventory.
    async fn known(
        &self,
        names: &Names,
        inventory: &mut Inventory,
        (watching, limits): (&Watching, Option<&LimitsSeen>),
        policy: &SweepPolicy,
        outcome: &mut Outcome,
    ) -> Result<(Vec<Namespace>, BTreeSet<Name>), ServiceError> {
        let tag = self.tag().await?;
        let mut in_order = BTreeSet::new();
        let namespaces = {
            let order = Order::new(inventory, (&watching.watches, &watching.histories), limits, names, tag);
            let unlimited = policy.limits.users.is_empty();
            let mut wanted = |found: &Namespace| {
                let is_wanted = !unlimited || !order.has(found);
                if !is_wanted {
                    in_order.insert(found.name.clone());
                }
                is_wanted
            };
            self.store.namespaces_where(&mut wanted).await?
        };
        leave_out_users(inventory, names, &in_order);
        let known: HashSet<_> = namespaces.iter().map(|found| &found.name).collect();
        let is_known = |name: &Name| known.contains(name) || in_order.contains(name);
        self.leave_out_sealed(names, inventory, is_known, outcome).await?;
        Ok((namespaces, in_order))
    }

    /// Whether it is time to read what users may do. That takes RabbitMQ several times as long as to tell that they may do something.
    fn is_to_look_closely(&self) -> bool {
        let last = self.looked_closely.lock().ok().and_then(|last| *last);
        last.is_none_or(|last| self.clock.uptime().saturating_sub(last) >= CLOSELY)
    }

    fn note_close_look(&self) {
        if let Ok(mut last) = self.looked_closely.lock() {
            *last = Some(self.clock.uptime());
        }
    }

    /// What is remembered of queues, what was seen of them before, and closer looks at those that matter. What can't be seen is
    /// unknown, and stops nothing.
    async fn watching(
        &self,
        inventory: &Inventory,
        policy: &SweepPolicy,
        outcome: &mut Outcome,
    ) -> Result<Watching, ServiceError> {
        let (watches, histories) = (self.store.watches().await?, self.store.histories().await?);
        let chosen = look_closer_at(&inventory.queues, &watches, &policy.names, policy.guard.thresholds);
        let until = Instant::now() + CLOSER;
        let names: BTreeSet<_> = chosen.iter().cloned().collect();
        let scraped = tokio::time::timeout_at(until, self.broker.queue_details(&names)).await;
        let mut closer = scraped.ok().flatten().unwrap_or_default();
        // Who holds messages is told of one queue alone.
        let held = inventory.queues.iter().filter(|queue| mostly_held(queue)).map(|queue| queue.name.as_str());
        let held: BTreeSet<_> = held.collect();
        let left = chosen.into_iter().filter(|queue| !closer.contains_key(queue) || held.contains(queue.as_str()));
        let looks = stream::iter(left.collect::<Vec<_>>()).map(|queue| async move {
            let found = tokio::time::timeout_at(until, self.broker.queue_detail(&queue)).await;
            match found {
                Ok(Ok(Some(detail))) => Some((queue, detail)),
                Ok(Ok(None)) => None,
                Ok(Err(error)) => {
                    tracing::debug!("no closer look at {queue}: {error}");
                    None
                }
                Err(_) => None,
            }
        });
        closer.extend(looks.buffer_unordered(IN_FLIGHT).filter_map(std::future::ready).collect::<Vec<_>>().await);
        let blank = |detail: &QueueDetail| detail.consumers.is_none() && detail.counters.is_none();
        if !closer.is_empty() && closer.values().all(blank) && !self.broker.keeps_statistics().await.unwrap_or(true) {
            outcome.report("RabbitMQ keeps no statistics, so queues are judged by their numbers of messages alone");
        }
        let alarm = self.broker.alarm().await.unwrap_or_else(|error| {
            tracing::debug!("whether the broker is in alarm is not known: {error}");
            false
        });
        Ok(Watching { watches, histories, closer, alarm })
    }

    /// Runs the guard alone on all queues that are named as ours are, and does nothing but remember what it saw, in a database of
    /// its own. It needs the rights of the tag `monitoring` only.
    ///
    /// # Errors
    /// [`ServiceError::NotAlone`] where the database is that of a service; those of the broker's list and of the store.
    pub async fn observe(&self, policy: &SweepPolicy, dry_run: bool) -> Result<Outcome, ServiceError> {
        let started = std::time::Instant::now();
        let mut outcome = Outcome::of("guard");
        if !self.store.summaries(None, 1).await?.is_empty() {
            return Err(ServiceError::NotAlone);
        }
        self.broker.ping().await?;
        let clock = self.shared_clock().await?;
        let looked = Some(clock.at);
        let inventory = Inventory { queues: self.broker.queues().await?, ..Inventory::default() };
        let Watching { watches, histories, closer, alarm } = self.watching(&inventory, policy, &mut outcome).await?;
        let shared = clock.earliest(self.clock.uptime());
        let seen = Snapshot { inventory, watches, histories, closer, looked, alarm, ..Snapshot::default() };
        let mut plan = plan_observation(&seen, self.tag().await?, shared, policy);
        outcome.note(&plan);
        outcome.seen = plan.seen;
        outcome.show(&plan, true);
        if dry_run {
            outcome.plan = Some(plan_steps(&plan));
        } else {
            self.store.write_histories(&std::mem::take(&mut plan.histories)).await?;
            // It knows no owners, so nobody is told.
            let (nobody, now) = (HashMap::new(), self.now());
            let changes = plan.actions.iter().filter_map(|step| match &step.action {
                Action::Store(entry) => Some(change(entry, &nobody, &self.policy.groups, now)),
                Action::Broker(_) | Action::Limit(_) | Action::Remove(..) => None,
            });
            self.store.write(&changes.collect::<Vec<_>>()).await?;
        }
        outcome.took = started.elapsed();
        Ok(outcome)
    }

    /// Notes of namespaces whose users are to be repaired that this is under way, so that nobody hands out other passwords until it is
    /// done; and puts off the end of those that may end before: whoever claims them again then must not have its passwords overwritten.
    /// How many repairs are left because another process wrote first.
    async fn announce_repairs(&self, plan: &mut Plan, found: &[Namespace]) -> Result<usize, ServiceError> {
        let to_repair: HashSet<_> = plan.actions.iter().filter_map(repaired).cloned().collect();
        if to_repair.is_empty() {
            return Ok(0);
        }
        let until = self.shared_time().await?.plus(self.policy.settle_budget);
        let soon = until.minus(self.policy.expiration_delay);
        let announced = |found: &Namespace| {
            let (ends, barred) = (found.expires < soon, found.barred.with_writer(until));
            let expires = if ends { soon } else { found.expires };
            let end_asked = if ends { found.ends_as_asked().then_some(soon) } else { found.end_asked };
            let record = Record::Namespace(Namespace { expires, end_asked, barred, ..found.clone() });
            Change { record, notices: Vec::new(), audits: Vec::new() }
        };
        let repaired_here: Vec<_> = found.iter().filter(|found| to_repair.contains(&found.name)).collect();
        let changes: Vec<_> = repaired_here.iter().map(|found| announced(found)).collect();
        let written = self.store.write(&changes).await?;
        let lost = repaired_here.iter().zip(written).filter(|(_, written)| *written == Write::Lost);
        let lost: HashSet<_> = lost.map(|(found, _)| &found.name).collect();
        let before = plan.actions.len();
        plan.actions.retain(|step| repaired(step).is_none_or(|name| !lost.contains(name)));
        Ok(before - plan.actions.len())
    }
}

/// Whether most of a queue's messages are held without having been acknowledged.
fn mostly_held(queue: &BrokerQueue) -> bool {
    queue.unacked.is_some_and(|unacked| unacked > 0 && unacked >= queue.messages.unwrap_or(0) / 2)
}

/// Whose user a step repairs, if it does.
fn repaired(step: &Planned) -> Option<&Name> {
    match &step.action {
        Action::Broker(Operation::Repair(name, _, Repair::User)) => Some(name),
        _ => None,
    }
}

/// Leaves out of a sweep what depends on what time it is: a connection may be too old only by a calendar that is ahead, and
/// whoever takes the next switch for far away writes over the password that comes with it.
fn leave_to_the_right_time(plan: &mut Plan, seen: &Snapshot) {
    let is_active = |name: &Name, slot: Slot| {
        let found = seen.namespaces.iter().find(|found| found.name == *name);
        found.and_then(|found| found.rotation.active.as_ref()).is_some_and(|active| active.slot == slot)
    };
    plan.actions.retain(|step| match &step.action {
        Action::Limit(_) => true,
        Action::Broker(operation) => match operation {
            Operation::CloseConnection { .. } => false,
            Operation::Repair(name, slot, Repair::User) => is_active(name, *slot),
            Operation::Repair(_, _, Repair::Permissions | Repair::Rights(_)) => true,
            Operation::LookFor(_) | Operation::Clean(..) | Operation::CutOff(_) | Operation::Retire(_) => true,
        },
        Action::Store(Entry::Account(..)) => false,
        Action::Store(_) | Action::Remove(..) => true,
    });
}
