//! The sweep: makes the broker agree with the store, and guards it from queues that grow and connections that stay.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::alert::{Alert, Level};
use crate::domain::inventory::{BrokerQueue, BrokerUser, QueueKind};
use crate::domain::name::{Name, Names, Slot, USER_TAG};
use crate::domain::namespace::{Namespace, Version};
use crate::domain::notice::Event;
use crate::domain::plan::{Action, Brakes, Plan};
use crate::domain::snapshot::{self, Snapshot};

/// How a sweep decides.
#[derive(Debug, Clone)]
pub struct SweepPolicy {
    /// How namespaces and users are named.
    pub names: Names,
    /// A queue with more messages is warned of.
    pub alert_threshold: u64,
    /// A queue with more messages is deleted.
    pub delete_threshold: u64,
    /// How long a connection may be open.
    pub connection_max_lifetime: Duration,
    /// How long after an owner was told of a queue it is told again.
    pub reminder: Duration,
    /// How long the actions of a plan may take effect after the snapshot. A standby user's password is not repaired if a
    /// rotation may begin within that time, because the two would overwrite each other.
    pub margin: Duration,
    /// How much one run may remove.
    pub brakes: Brakes,
}

/// Plans a sweep.
pub fn plan_sweep(seen: &Snapshot, now: Timestamp, policy: &SweepPolicy) -> Plan {
    policy.brakes.hold(|may_remove| {
        let namespaces: BTreeMap<_, _> = seen.namespaces.iter().map(|found| (&found.name, found)).collect();
        let mut sweep = Sweep { seen, now, policy, namespaces, may_remove, plan: Plan::default() };
        sweep.repair();
        sweep.guard_queues();
        sweep.guard_connections();
        sweep.report_unknown();
        sweep.plan
    })
}

struct Sweep<'a> {
    seen: &'a Snapshot,
    now: Timestamp,
    policy: &'a SweepPolicy,
    namespaces: BTreeMap<&'a Name, &'a Namespace>,
    may_remove: bool,
    plan: Plan,
}

impl Sweep<'_> {
    /// Makes the broker's users agree with the store.
    fn repair(&mut self) {
        let inventory = &self.seen.inventory;
        let users: BTreeMap<_, _> = inventory.users.iter().map(|user| (user.name.as_str(), user)).collect();
        let granted: BTreeMap<_, _> = inventory.permissions.iter().map(|p| (p.user.as_str(), &p.permissions)).collect();
        let live = self.seen.namespaces.iter().filter(|found| found.gone.is_none() && found.rotation.active.is_some());
        for (namespace, slot) in live.flat_map(|found| Slot::BOTH.map(|slot| (found, slot))) {
            self.plan.seen += 1;
            let name = self.policy.names.user(&namespace.name, slot);
            let user = users.get(name.as_str()).copied();
            let allowed = granted.get(name.as_str()) == Some(&&self.policy.names.permissions(&namespace.name));
            match wrong(user, namespace, slot).filter(|_| self.may_repair(namespace, slot)) {
                Some(wrong) => self.plan.push(Action::RepairUser(namespace.name.clone(), slot), wrong),
                // These are the same whoever writes them. A switch takes it that who has a password has permissions.
                None if user.is_some() && !allowed => {
                    let action = Action::RepairPermissions(namespace.name.clone(), slot);
                    self.plan.push(action, "the permissions are not ours");
                }
                None => {}
            }
        }
    }

    /// The active user is not written by anybody else before the switch after next. The standby user is written by the next
    /// switch, which leaves it right.
    fn may_repair(&self, namespace: &Namespace, slot: Slot) -> bool {
        let rotation = &namespace.rotation;
        let is_active = rotation.active.as_ref().is_some_and(|active| active.slot == slot);
        is_active || (rotation.pending.is_none() && rotation.due > self.now.plus(self.policy.margin))
    }

    fn guard_queues(&mut self) {
        let alerts: BTreeMap<_, _> = self.seen.alerts.iter().map(|alert| (alert.queue.as_str(), alert)).collect();
        let mut unlisted: BTreeSet<_> = alerts.keys().copied().collect();
        for queue in &self.seen.inventory.queues {
            let Some(owner) = self.policy.names.owner_of_queue(&queue.name) else { continue };
            self.plan.seen += 1;
            unlisted.remove(queue.name.as_str());
            let alert = alerts.get(queue.name.as_str()).copied();
            let live = self.namespaces.get(&owner).is_some_and(|found| found.gone.is_none());
            match queue.messages {
                // Unknown is unknown: neither many nor few.
                Some(messages) if live => self.guard_queue(queue, owner, messages, alert),
                _ => {}
            }
        }
        for alert in self.seen.alerts.iter().filter(|alert| unlisted.contains(alert.queue.as_str())) {
            self.plan.push(Action::LookFor(alert.clone()), "it is not in the broker's listing");
        }
    }

    fn guard_queue(&mut self, queue: &BrokerQueue, owner: Name, messages: u64, known: Option<&Alert>) {
        let SweepPolicy { alert_threshold, delete_threshold, .. } = *self.policy;
        if queue.kind == QueueKind::Stream {
            if messages > delete_threshold {
                let name = &queue.name;
                self.plan.reports.push(format!("stream {name} has {messages} messages; it keeps them by design"));
            }
            return;
        }
        let level = if messages > delete_threshold && self.may_remove {
            Level::Deleting
        } else if messages > alert_threshold {
            Level::Warning
        } else {
            Level::Watched
        };
        let alert = self.next_alert(&queue.name, owner, level, messages, known);
        let above = |threshold| format!("it has {messages} messages, more than {threshold}");
        match level {
            Level::Deleting => {
                let tried = known.is_some_and(|known| known.level == Level::Deleting);
                self.plan.push(Action::DeleteQueue { alert, tried }, above(delete_threshold));
            }
            Level::Warning => match self.warning(&alert, known) {
                Some(event) => {
                    let alert = Alert { told: Some(self.now), ..alert };
                    self.plan.push(Action::Tell(alert, event), above(alert_threshold));
                }
                None => self.plan.push(Action::Remember(alert), "its owner was told, or nobody is to be"),
            },
            Level::Watched => self.watch(alert, known),
        }
    }

    /// A queue below the alert threshold: it is remembered from half of it on, to know how fast it grows once it is above.
    fn watch(&mut self, alert: Alert, known: Option<&Alert>) {
        let SweepPolicy { alert_threshold, .. } = *self.policy;
        if let Some(known) = known.filter(|known| known.level > Level::Watched) {
            // A queue that was to be deleted may have been, and declared anew before anybody was told.
            let event = (known.told.is_some() || known.level == Level::Deleting).then(|| Event::QueueNormal {
                queue: alert.queue.clone(),
                messages: alert.messages,
                alert_threshold,
                at: self.now,
            });
            let reason = format!("it has {} messages, no more than {alert_threshold}", alert.messages);
            self.plan.push(Action::Forget(known.clone(), event), reason);
        } else if alert.messages > alert_threshold / 2 {
            self.plan.push(Action::Remember(alert), "it may grow on");
        } else if let Some(known) = known {
            self.plan.push(Action::Forget(known.clone(), None), "it has few messages");
        }
    }

    fn next_alert(&self, queue: &str, owner: Name, level: Level, messages: u64, known: Option<&Alert>) -> Alert {
        Alert {
            queue: queue.to_owned(),
            namespace: owner,
            level,
            since: known.filter(|known| known.level == level).map_or(self.now, |known| known.since),
            messages,
            seen: self.now,
            growth: known.and_then(|known| growth(known, messages, self.now)),
            told: known.and_then(|known| known.told),
            version: known.map_or(Version::new_at(self.now), |known| known.version),
        }
    }

    /// What the owner of a queue above the alert threshold is told now, if anything. One without a contact is told once there
    /// is one.
    fn warning(&self, alert: &Alert, known: Option<&Alert>) -> Option<Event> {
        self.namespaces.get(&alert.namespace).filter(|owner| !owner.contact.is_empty())?;
        let SweepPolicy { alert_threshold, delete_threshold, reminder, .. } = *self.policy;
        let Alert { queue, messages, growth, .. } = alert.clone();
        let deleted_at = growth.and_then(|growth| reached(delete_threshold, messages, growth, self.now));
        let at = self.now;
        match known.filter(|known| known.level >= Level::Warning).and_then(|known| known.told) {
            None => {
                Some(Event::QueueGrowing { queue, messages, alert_threshold, delete_threshold, growth, deleted_at, at })
            }
            Some(told) if told.plus(reminder) <= self.now => Some(Event::QueueStillGrowing {
                queue,
                messages,
                alert_threshold,
                delete_threshold,
                growth,
                deleted_at,
                since: alert.since,
                at,
            }),
            Some(_) => None,
        }
    }

    /// Closes connections that are too old or whose namespace is gone; the oldest first, as many as one run may.
    fn guard_connections(&mut self) {
        let mut closing = Vec::new();
        for connection in &self.seen.inventory.connections {
            let Some((owner, _)) = self.policy.names.owner_of_user(&connection.user) else { continue };
            self.plan.seen += 1;
            let Some(namespace) = self.namespaces.get(&owner) else { continue };
            let oldest = self.now.minus(self.policy.connection_max_lifetime);
            let reason = if namespace.gone.is_some_and(|gone| gone.since <= self.now) {
                "the namespace has expired"
            } else if connection.connected.is_some_and(|at| at < oldest) {
                "the connection is older than allowed; connect again with a fresh claim"
            } else {
                continue;
            };
            closing.push((connection, reason));
        }
        closing.sort_by_key(|(connection, _)| connection.connected);
        let allowed = self.policy.brakes.allowed(self.plan.seen).saturating_sub(self.plan.removals());
        let allowed = if self.may_remove { allowed } else { 0 };
        if closing.len() > allowed {
            let left = closing.len() - allowed;
            self.plan.reports.push(format!("{left} connections that are to be closed are left to the next runs"));
        }
        for (connection, reason) in closing.into_iter().take(allowed) {
            let (connection, user) = (connection.name.clone(), connection.user.clone());
            self.plan.push(Action::CloseConnection { connection, user }, reason);
        }
    }

    /// Names what looks like ours and belongs to no namespace in the store.
    fn report_unknown(&mut self) {
        let unknown = |name: &Name| !self.namespaces.contains_key(name);
        let remains = snapshot::remains(&self.seen.inventory, &self.policy.names, unknown);
        self.plan.reports.extend(snapshot::report_unknown(remains.iter()));
    }
}

/// What is wrong with a user, but for its permissions.
fn wrong(user: Option<&BrokerUser>, namespace: &Namespace, slot: Slot) -> Option<&'static str> {
    let Some(user) = user else { return Some("the user is missing") };
    let good = match namespace.rotation.password_of(slot) {
        Some(password) => user.hash.verifies(password),
        None => user.hash.is_blocked(),
    };
    if !good { Some("the password is not ours") } else { (user.tags != [USER_TAG]).then_some("the tags are not ours") }
}

/// Messages gained per hour since the queue was last seen; what was known before where that was less than a second ago.
fn growth(known: &Alert, messages: u64, now: Timestamp) -> Option<i64> {
    let elapsed = i128::try_from(now.since(known.seen).as_millis()).ok().filter(|elapsed| *elapsed >= 1000);
    let Some(elapsed) = elapsed else { return known.growth };
    let gained = i128::from(messages) - i128::from(known.messages);
    i64::try_from(gained * 3_600_000 / elapsed).ok()
}

/// When a queue of `messages` has more than `threshold` if it gains `growth` an hour.
fn reached(threshold: u64, messages: u64, growth: i64, now: Timestamp) -> Option<Timestamp> {
    let growth = u64::try_from(growth).ok().filter(|growth| *growth > 0)?;
    let missing = u128::from(threshold.saturating_sub(messages) + 1);
    let millis = missing * 3_600_000 / u128::from(growth);
    Some(now.plus(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))))
}
