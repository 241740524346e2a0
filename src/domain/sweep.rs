//! The sweep: makes the broker agree with the store, and guards it from queues that grow and connections that stay.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::account::AccountPolicy;
use crate::domain::action::{Action, Entry, Operation, Removal, Repair};
use crate::domain::guard::{GuardPolicy, Observations, Observed, Standing, observe};
use crate::domain::identity::Tag;
use crate::domain::inventory::{BrokerQueue, BrokerUser, Consumer, QueueKind, Right};
use crate::domain::ladder::{Act, Held, Stage};
use crate::domain::limits::{LimitsPolicy, plan_limits};
use crate::domain::name::{Name, Names, Slot};
use crate::domain::namespace::{Namespace, Version};
use crate::domain::notice::{Event, Trouble};
use crate::domain::owner::Groups;
use crate::domain::plan::{Brakes, Judged, Plan, Withheld};
use crate::domain::share::{Owner, place, shares_by_owner};
use crate::domain::snapshot::{self, Remains, Snapshot};
use crate::domain::usage::{Seen, plan_accounts};
use crate::domain::verdict::Kind;
use crate::domain::watched::Watched;
use crate::domain::words::moment;

/// How a sweep decides.
#[derive(Debug, Clone)]
pub struct SweepPolicy {
    /// How namespaces and users are named.
    pub names: Names,
    /// How queues are judged, and what is done then.
    pub guard: GuardPolicy,
    /// What RabbitMQ itself is to limit.
    pub limits: LimitsPolicy,
    /// When accounts end, and adopted users are retired.
    pub accounts: AccountPolicy,
    /// Where groups are told.
    pub groups: Groups,
    /// How long a connection may be open.
    pub connection_max_lifetime: Duration,
    /// How long the actions of a plan may take effect after the snapshot. A standby user's password is not repaired if a
    /// rotation may begin within that time, because the two would overwrite each other.
    pub margin: Duration,
    /// How much one run may remove.
    pub brakes: Brakes,
}

/// Plans a sweep. `tag` is that of this deployment.
pub fn plan_sweep(seen: &Snapshot, tag: &Tag, now: Timestamp, policy: &SweepPolicy) -> Plan {
    let namespaces: BTreeMap<_, _> = seen.namespaces.iter().map(|found| (&found.name, found)).collect();
    // What the guard notes of a queue is read by other processes, whose own clocks may differ.
    let shared = seen.shared.unwrap_or(now);
    let standing = |queue: &str, name: &Name| {
        let owner = namespaces.get(name).filter(|found| found.gone.is_none())?;
        let can_be_told =
            owner.told(&policy.groups).iter().any(|address| seen.recipients.refused(address, shared).is_none());
        let mute = seen.recipients.mute(queue, owner, shared);
        Some(Standing { can_be_told, mute, exemptions: &owner.exemptions })
    };
    let observed = observe(seen, standing, &policy.names, shared, &policy.guard);
    policy.brakes.hold(|withheld| {
        let namespaces = namespaces.clone();
        let plan = Plan { seen: seen.in_order.len() * Slot::BOTH.len(), ..Plan::default() };
        let (waiting, streams) = (BTreeMap::new(), BTreeMap::new());
        let mut sweep = Sweep { seen, tag, now, shared, policy, namespaces, withheld, plan, waiting, streams };
        sweep.repair();
        sweep.cut_off();
        plan_limits(&mut sweep.plan, seen, &policy.names, tag, &policy.limits);
        sweep.guard_queues(&observed);
        sweep.look_at_accounts();
        sweep.guard_connections();
        sweep.ration();
        sweep.report_streams();
        sweep.report_refusals(&observed);
        sweep.report_unknown();
        sweep.plan
    })
}

/// What follows from looks at queues alone, whoever owns them, where nothing is done and nobody is told: what is remembered of
/// them, and what would be done.
pub fn plan_observation(seen: &Snapshot, tag: &Tag, now: Timestamp, policy: &SweepPolicy) -> Plan {
    let observed = observe(seen, |_, _| Some(Standing::default()), &policy.names, now, &policy.guard);
    let (withheld, namespaces) = (Withheld::default(), BTreeMap::new());
    let (plan, waiting, streams) = (Plan::default(), BTreeMap::new(), BTreeMap::new());
    let (shared, withheld) = (now, &withheld);
    let mut sweep = Sweep { seen, tag, now, shared, policy, namespaces, withheld, plan, waiting, streams };
    sweep.guard_queues(&observed);
    sweep.plan
}

struct Sweep<'a> {
    seen: &'a Snapshot,
    tag: &'a Tag,
    /// What time it is for clients of the broker.
    now: Timestamp,
    /// What time it is by the clock that all processes share.
    shared: Timestamp,
    policy: &'a SweepPolicy,
    namespaces: BTreeMap<&'a Name, &'a Namespace>,
    withheld: &'a Withheld,
    plan: Plan,
    /// What may be removed without a decision, as far as there is room for it.
    waiting: BTreeMap<(Owner, Kinds), Vec<(Action, String)>>,
    /// Of each owner, one of the large streams, what is said of it, and how many there are.
    streams: BTreeMap<Owner, (String, usize)>,
}

/// What may be removed without a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kinds {
    /// Queues that an earlier run decided to delete.
    Queues,
    /// Connections that are too old, or of a namespace that is gone.
    Connections,
}

impl Sweep<'_> {
    /// Makes the broker's users agree with the store.
    fn repair(&mut self) {
        let inventory = &self.seen.inventory;
        let users: BTreeMap<_, _> = inventory.users.iter().map(|user| (user.name.as_str(), user)).collect();
        let granted: BTreeMap<_, _> = inventory.permissions.iter().map(|p| (p.user.as_str(), &p.permissions)).collect();
        let mut elsewhere: BTreeMap<_, Vec<Right>> = BTreeMap::new();
        for right in &inventory.elsewhere {
            elsewhere.entry(right.user.as_str()).or_default().push(right.clone());
        }
        let has_users = |found: &&Namespace| {
            let nobody_gets_in =
                found.barred.disabled.is_some() || found.is_on_demand() && found.barred.revoked.is_some();
            found.rotation.active.is_some() || nobody_gets_in && !found.barred.is_pending()
        };
        let live = self.seen.namespaces.iter().filter(|found| found.gone.is_none()).filter(has_users);
        for (namespace, slot) in live.flat_map(|found| Slot::BOTH.map(|slot| (found, slot))) {
            self.plan.seen += 1;
            let name = self.policy.names.user(&namespace.name, slot);
            if self.seen.others.users.contains(&name) {
                continue;
            }
            let user = users.get(name.as_str()).copied();
            let allowed = match granted.get(name.as_str()) {
                Some(granted) => **granted == self.policy.names.permissions(&namespace.name),
                None if inventory.has_granted(&name) => true,
                // Who never had a password gets permissions with the first.
                None => namespace.rotation.password_of(slot).is_none(),
            };
            let repair = |repair| Operation::Repair(namespace.name.clone(), slot, repair);
            if let Some(rights) = elsewhere.remove(name.as_str()).filter(|_| user.is_some()) {
                let reason = "it has rights on topics or on other virtual hosts";
                self.plan.push(repair(Repair::Rights(rights)), reason);
            }
            match wrong(user, namespace, slot, self.tag).filter(|_| self.may_repair(namespace, slot)) {
                Some(wrong) => self.plan.push(repair(Repair::User), wrong),
                // These are the same whoever writes them. A switch takes it that who has a password has permissions.
                None if user.is_some() && !allowed => {
                    self.plan.push(repair(Repair::Permissions), "the permissions are not ours");
                }
                None => {}
            }
        }
    }

    /// Carries out what is stored of revocations, once no earlier password can come back.
    fn cut_off(&mut self) {
        let is_due = |found: &&Namespace| {
            found.gone.is_none() && found.barred.is_pending() && found.barred.shut_until(self.shared).is_none()
        };
        for namespace in self.seen.namespaces.iter().filter(is_due) {
            self.plan.push(Operation::CutOff(Box::new(namespace.clone())), "its credentials are to be revoked");
        }
    }

    /// The active user is not written by anybody else before the switch after next. The standby user is written by the next
    /// switch, which leaves it right.
    fn may_repair(&self, namespace: &Namespace, slot: Slot) -> bool {
        let rotation = &namespace.rotation;
        let is_active = rotation.active.as_ref().is_some_and(|active| active.slot == slot);
        // Nobody rotates what is disabled.
        is_active
            || namespace.barred.disabled.is_some()
            || (rotation.pending.is_none() && rotation.due > self.now.plus(self.policy.margin))
    }

    fn guard_queues(&mut self, observed: &Observations<'_>) {
        let mut unlisted: BTreeMap<_, _> =
            self.seen.watches.iter().map(|known| (known.queue.as_str(), known)).collect();
        for queue in &self.seen.inventory.queues {
            unlisted.remove(queue.name.as_str());
            let Some(owner) = self.policy.names.owner_of_queue(&queue.name) else { continue };
            self.plan.seen += 1;
            let live = self.namespaces.get(&owner).is_some_and(|found| found.gone.is_none());
            if live && queue.kind == QueueKind::Stream {
                self.note_stream(queue, &owner);
            }
        }
        for observed in &observed.queues {
            self.guard_queue(observed);
        }
        for watched in unlisted.into_values() {
            self.plan.push(Operation::LookFor(watched.clone()), "it is not in the broker's listing");
        }
        self.plan.histories.clone_from(&observed.histories);
    }

    fn note_stream(&mut self, queue: &BrokerQueue, owner: &Name) {
        if let Some(messages) = queue.messages.filter(|messages| *messages > self.policy.guard.thresholds.delete) {
            let name = &queue.name;
            let report = || (format!("stream {name} has {messages} messages; it keeps them by design"), 0);
            self.streams.entry(self.owner(owner)).or_insert_with(report).1 += 1;
        }
    }

    /// Plans the step that is due for a queue.
    fn guard_queue(&mut self, observed: &Observed<'_>) {
        let Observed { queue, owner, verdict, known, step, .. } = observed;
        let (messages, sentence) = (verdict.look.total, verdict.sentence(self.shared));
        if verdict.kind != Kind::Fine || step.held.is_some() || step.shown_only {
            self.plan.verdicts.push(judged(observed, &sentence, self.shared));
        }
        let Some(watch) = &step.watch else {
            if let Some(known) = known {
                let event = self.event(observed, &sentence).map(Box::new);
                let reason = "nothing is the matter with it any more";
                self.plan.push(Entry::Forget((*known).clone(), event), reason);
            }
            return;
        };
        let watched = Watched {
            queue: queue.name.clone(),
            namespace: owner.clone(),
            messages,
            watch: watch.clone(),
            decided: false,
            failure_told: known.and_then(|known| known.failure_told),
            version: known.map_or(Version::new_at(self.shared), |known| known.version),
        };
        let tried = known.is_some_and(|known| known.decided && known.watch.stage == Stage::Removing);
        let above =
            format!("it has {messages} messages, more than {}; {sentence}", self.policy.guard.thresholds.delete);
        match step.act {
            Act::Purge | Act::Delete if !step.shown_only => {
                let whose = self.owner(owner);
                if !tried && self.withheld.has(&whose) {
                    return;
                }
                let watched = Watched { decided: true, ..watched };
                let removal = if step.act == Act::Purge { Removal::Purge } else { Removal::Delete { tried } };
                let action = Action::Remove(watched, removal);
                match tried {
                    true => self.waiting.entry((whose, Kinds::Queues)).or_default().push((action, above)),
                    false => self.plan.decide(whose, action, above),
                }
            }
            Act::CloseHoarder | Act::KeepOut if !step.shown_only => {
                let keep_out = step.act == Act::KeepOut;
                self.plan.push(Action::Remove(watched, Removal::CloseHoarder { keep_out }), sentence);
            }
            Act::Tell(_) if !step.shown_only => match self.event(observed, &sentence) {
                Some(event) => self.plan.push(Entry::Tell(watched, Box::new(event)), sentence),
                None => self.plan.push(Entry::Remember(watched), sentence),
            },
            _ => {
                let same = known.is_some_and(|known| known.watch == watched.watch);
                if !same {
                    self.plan.push(Entry::Remember(watched), sentence);
                }
            }
        }
    }

    /// What its owner is told of a queue, if anything.
    fn event(&self, observed: &Observed<'_>, sentence: &str) -> Option<Event> {
        let Observed { queue, verdict, step, exempted, .. } = observed;
        let Act::Tell(telling) = step.act else { return None };
        let GuardPolicy { thresholds, ladder, .. } = &self.policy.guard;
        let (names, look) = (&self.policy.names, verdict.look);
        let details = self.seen.closer.get(&queue.name).map(|closer| closer.details.as_slice()).unwrap_or_default();
        let ours = |consumer: &&Consumer| names.owner_of_user(&consumer.user).is_some();
        let holders = match telling.cause {
            Kind::Hoarding => details.iter().filter(ours).take(HOLDERS).map(holder).collect(),
            _ => Vec::new(),
        };
        // A float that is too large becomes the largest integer.
        let hourly = verdict.course.trend.map(|trend| trend.hourly.round() as i64);
        Some(Event::QueueTrouble(Trouble {
            queue: queue.name.clone(),
            topic: telling.topic,
            cause: telling.cause,
            verdict: sentence.to_owned(),
            messages: look.total,
            unacked: look.unacked,
            consumers: verdict.consumers,
            hourly,
            holders,
            forecast: telling.forecast.map(|forecast| forecast.sentence(self.shared)),
            removal: telling.removal,
            measure: ladder.measure,
            alert_threshold: thresholds.alert,
            delete_threshold: exempted.map_or(thresholds.delete, |exempted| exempted.limit(thresholds.delete)),
            exempt: exempted
                .filter(|one| one.exemption.holds(look.total, self.shared))
                .map(|one| one.sentence(self.shared)),
            at: self.shared,
        }))
    }

    /// Whose a namespace is.
    fn owner(&self, name: &Name) -> Owner {
        self.namespaces.get(name).map_or_else(|| Owner::Namespace(name.clone()), |found| found.owner())
    }

    /// Plans what follows from whether accounts are used.
    fn look_at_accounts(&mut self) {
        let Sweep { seen: Snapshot { namespaces, uses, .. }, withheld, policy, shared: now, .. } = *self;
        let SweepPolicy { names, groups, accounts: policy, .. } = policy;
        plan_accounts(&mut self.plan, namespaces, Seen { uses, names, now, policy, groups, withheld });
    }

    /// Finds connections that are too old or whose namespace is gone; the oldest first.
    fn guard_connections(&mut self) {
        let mut closing = Vec::new();
        for connection in &self.seen.inventory.connections {
            let Some((owner, _)) = self.policy.names.owner_of_user(&connection.user) else { continue };
            self.plan.seen += 1;
            let Some(namespace) = self.namespaces.get(&owner) else { continue };
            let oldest = self.now.minus(self.policy.connection_max_lifetime);
            let reason = if namespace.gone.is_some_and(|gone| gone.since <= self.shared) {
                "the namespace has ended"
            } else if connection.connected.zip(namespace.barred.revoked).is_some_and(|(at, revoked)| at < revoked.from)
            {
                "its credentials were revoked; connect again with a fresh claim"
            } else if connection.connected.is_some_and(|at| at < oldest) && !namespace.is_on_demand() {
                "the connection is older than allowed; connect again with a fresh claim"
            } else {
                continue;
            };
            closing.push((connection, namespace.owner(), reason));
        }
        closing.sort_by_key(|(connection, ..)| connection.connected);
        for (connection, owner, reason) in closing {
            let (connection, user) = (connection.name.clone(), connection.user.clone());
            let closing = (Action::Broker(Operation::CloseConnection { connection, user }), reason.to_owned());
            self.waiting.entry((owner, Kinds::Connections)).or_default().push(closing);
        }
    }

    /// Plans as much of what needs no decision as one run may do, of each owner its share. Of the queues it begins with
    /// another one each time, so that those that can't be deleted keep nothing from the others.
    fn ration(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let wants = waiting.iter().map(|(key, waiting)| (key.clone(), waiting.len())).collect();
        let shares = shares_by_owner(&wants, self.policy.brakes.room(&self.plan), self.now);
        let (mut queues_left, mut connections_left) = (0, 0);
        for (key, mut waiting) in waiting {
            let share = shares.get(&key).copied().unwrap_or_default();
            let left = match key.1 {
                Kinds::Queues => {
                    let begin = place(self.now, &key.0) % waiting.len().max(1);
                    waiting.rotate_left(begin);
                    &mut queues_left
                }
                Kinds::Connections => &mut connections_left,
            };
            *left += waiting.len().saturating_sub(share);
            waiting.into_iter().take(share).for_each(|(action, reason)| self.plan.push(action, reason));
        }
        for (left, what) in
            [(connections_left, "connections that are to be closed"), (queues_left, "queues that are to be deleted")]
        {
            if left > 0 {
                self.plan.reports.push(format!("{left} {what} are left to the next runs"));
            }
        }
    }

    /// One report for each owner of streams that are large.
    fn report_streams(&mut self) {
        for (owner, (report, count)) in std::mem::take(&mut self.streams) {
            let more = if count > 1 { format!("; so do {} more of {owner}", count - 1) } else { String::new() };
            self.plan.reports.push(report + &more);
        }
    }

    /// One report of all the owners of queues in trouble all of whose addresses refuse our mail.
    fn report_refusals(&mut self, observed: &Observations<'_>) {
        let (recipients, shared) = (&self.seen.recipients, self.shared);
        let troubles = observed.queues.iter().filter(|queue| queue.step.watch.is_some());
        let told =
            troubles.filter_map(|queue| self.namespaces.get(&queue.owner)).map(|owner| owner.told(&self.policy.groups));
        let refused = |told: &Vec<String>| told.iter().all(|address| recipients.refused(address, shared).is_some());
        // Each queue counts once, at the first of its addresses.
        let firsts: Vec<_> = told.filter(refused).filter_map(|told| told.into_iter().next()).collect();
        self.plan.reports.extend(recipients.report(firsts.iter().map(String::as_str), shared));
    }

    /// Names what looks like ours and belongs to no namespace in the store.
    fn report_unknown(&mut self) {
        let unknown = |name: &Name| !self.namespaces.contains_key(name) && !self.seen.in_order.contains(name);
        let remains = snapshot::remains(&self.seen.inventory, &self.policy.names, unknown);
        self.plan.reports.extend(snapshot::report_unknown(remains.iter()));
        let unknown = |of: fn(&Remains) -> &Vec<String>| remains.values().map(|remains| of(remains).len()).sum();
        let inventory = &self.seen.inventory;
        self.plan.figures.extend([
            ("unknown users", unknown(|remains| &remains.users)),
            ("unknown queues", unknown(|remains| &remains.queues)),
            ("unknown exchanges", unknown(|remains| &remains.exchanges)),
            ("listed users", inventory.users.len()),
            ("listed queues", inventory.queues.len()),
            ("listed exchanges", inventory.exchanges.len()),
            ("listed connections", inventory.connections.len()),
        ]);
    }
}

/// What is wrong with a user, but for its permissions.
pub(super) fn wrong(user: Option<&BrokerUser>, namespace: &Namespace, slot: Slot, tag: &Tag) -> Option<&'static str> {
    let Some(user) = user else { return Some("the user is missing") };
    let good = match namespace.rotation.password_of(slot) {
        Some(password) => user.hash.verifies(password),
        None => user.hash.is_blocked(),
    };
    if !good {
        Some("the password is not ours")
    } else {
        (*user.tags != [tag.as_str()]).then_some("the tags are not ours")
    }
}

/// So many of those who hold messages are named.
const HOLDERS: usize = 5;

/// A consumer, as its owner knows it.
fn holder(consumer: &Consumer) -> String {
    let Consumer { channel, user, address, prefetch, .. } = consumer;
    let limit = match prefetch {
        0 => "without a prefetch limit".to_owned(),
        some => format!("prefetch {some}"),
    };
    let from = if address.is_empty() { channel } else { address };
    format!("{from} of {user}, {limit}")
}

/// What is shown of a queue.
fn judged(observed: &Observed<'_>, sentence: &str, now: Timestamp) -> Judged {
    let Observed { queue, verdict, step, mute, .. } = observed;
    let would = match step.act {
        _ if !step.shown_only => None,
        Act::Nothing => None,
        Act::Tell(_) => Some("would be told"),
        Act::CloseHoarder => Some("the connection that hoards would be closed"),
        Act::KeepOut => Some("who hoards would be kept out"),
        Act::Purge => Some("would be purged"),
        Act::Delete => Some("would be deleted"),
    };
    let held = step.held.map(|held| match held {
        Held::Exempt => "not removed: it is exempted".to_owned(),
        Held::TooFewLooks => "not removed: it was not above the limit for long enough".to_owned(),
        Held::Draining => "not removed: it loses messages".to_owned(),
        Held::Hoarder => "not removed: the connection that hoards is closed instead".to_owned(),
        Held::NotWarned => "not removed: no warning of it was accepted".to_owned(),
        Held::Until(until) => format!("not removed before {}", moment(until, now)),
        Held::NotAllowed => "not removed: the guard may not".to_owned(),
    });
    Judged {
        queue: queue.name.clone(),
        state: verdict.kind.word(),
        verdict: sentence.to_owned(),
        messages: verdict.look.total,
        would,
        held,
        muted: mute.map(|mute| match mute.until {
            Some(until) => format!("reminders are muted until {}", moment(until, now)),
            None => "reminders are muted".to_owned(),
        }),
    }
}
