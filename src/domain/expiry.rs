//! Expiry: a namespace past its date becomes a tombstone, what belongs to it is removed, then the tombstone goes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::inventory::Inventory;
use crate::domain::name::{Name, Names};
use crate::domain::namespace::{Gone, Namespace, Version};
use crate::domain::notice::Event;
use crate::domain::plan::{Action, Brakes, Plan};
use crate::domain::rotation::Rotation;
use crate::domain::snapshot::{Remains, Snapshot, place, remains, report_unknown};

/// How an expiry run decides.
#[derive(Debug, Clone)]
pub struct ExpiryPolicy {
    /// How namespaces and users are named.
    pub names: Names,
    /// How long after its date a namespace is taken.
    pub delay: Duration,
    /// How long before its date its owner is warned, if there are messages in its queues.
    pub warning: Duration,
    /// Whether what belongs to no namespace in the store is removed, and how long after it was first seen; `None` to leave
    /// it alone.
    pub orphans_after: Option<Duration>,
    /// How long somebody who read a record before it became a tombstone may act on that. So long it is kept at least,
    /// because users may be made meanwhile.
    pub margin: Duration,
    /// How much one run may remove.
    pub brakes: Brakes,
}

/// Plans an expiry run. `now` is a time before `seen` was seen.
pub fn plan_expiry(seen: &Snapshot, now: Timestamp, policy: &ExpiryPolicy) -> Plan {
    policy.brakes.hold(|may_remove| {
        let remains = remains(&seen.inventory, &policy.names, |_| true);
        let filled = filled_queues(&seen.inventory, &policy.names);
        let held: usize = remains.values().map(Remains::count).sum();
        let mut plan = Plan { seen: seen.namespaces.len() + held, ..Plan::default() };
        for namespace in seen.namespaces.iter().filter(|namespace| namespace.gone.is_none()) {
            plan_live(&mut plan, namespace, filled.get(&namespace.name), now, policy, may_remove);
        }
        plan_orphans(&mut plan, seen, &remains, now, policy, may_remove);
        if may_remove {
            plan_gone(&mut plan, seen, &remains, now, policy);
        }
        plan
    })
}

/// Forgets no namespace of which a second look at the broker shows something: a list may have been too short.
pub fn look_again(plan: &mut Plan, inventory: &Inventory, names: &Names) {
    let remains = remains(inventory, names, |_| true);
    let is_left =
        |action: &Action| matches!(action, Action::ForgetNamespace(found) if remains.contains_key(&found.name));
    plan.actions.retain(|step| !is_left(&step.action));
}

fn plan_live(
    plan: &mut Plan,
    namespace: &Namespace,
    filled: Option<&Vec<(String, u64)>>,
    now: Timestamp,
    policy: &ExpiryPolicy,
    may_remove: bool,
) {
    let expires = namespace.expires;
    if expires.plus(policy.delay) <= now {
        if may_remove {
            let event = was_warned(namespace, policy).then_some(Event::NamespaceExpired { expires, at: now });
            plan.push(Action::Bury(bury(namespace, now), event), format!("it expired at {expires}"));
        }
        return;
    }
    if expires > now.plus(policy.warning) || was_warned(namespace, policy) || namespace.contact.is_empty() {
        return;
    }
    if let Some(queues) = filled {
        let warned = Namespace { warned: Some(expires), ..namespace.clone() };
        let event = Event::NamespaceExpiring { expires, queues: queues.clone(), at: now };
        plan.push(Action::WarnOfExpiry(warned, event), format!("it expires at {expires} and has messages"));
    }
}

/// Whether its owner was told that the namespace ends, now or a little earlier. One who claims again and again for a short
/// time moves the end each time, and is not told each time.
fn was_warned(namespace: &Namespace, policy: &ExpiryPolicy) -> bool {
    namespace.warned.is_some_and(|end| end.plus(policy.warning) > namespace.expires)
}

/// The tombstone of a namespace: its passwords go at once.
fn bury(namespace: &Namespace, now: Timestamp) -> Namespace {
    let rotation = Rotation { active: None, previous: None, pending: None, ..namespace.rotation.clone() };
    Namespace { gone: Some(Gone { since: now, cleaning_until: None }), rotation, ..namespace.clone() }
}

/// Works off the tombstones, as far as one run may. It begins with another one each time, so that one of which nothing can be
/// removed does not use up for ever what the others need.
fn plan_gone(
    plan: &mut Plan,
    seen: &Snapshot,
    remains: &BTreeMap<Name, Remains>,
    now: Timestamp,
    policy: &ExpiryPolicy,
) {
    let mut allowed = policy.brakes.allowed(plan.seen).saturating_sub(plan.removals());
    let mut left = 0;
    let of_turn = |found: &Gone| found.since <= now && found.cleaning_until.is_none_or(|until| until <= now);
    let tombstones = seen.namespaces.iter().filter_map(|found| Some((found, found.gone.filter(of_turn)?.since)));
    let mut tombstones: Vec<_> = tombstones.collect();
    let begin = place(now, "") % tombstones.len().max(1);
    tombstones.rotate_left(begin);
    for (tombstone, since) in tombstones {
        match remains.get(&tombstone.name) {
            Some(remains) => {
                let part = remains.part(allowed, place(now, tombstone.name.as_str()));
                allowed -= part.count();
                left += remains.count() - part.count();
                if part.count() > 0 {
                    plan.push(Action::Clean(tombstone.clone(), part), format!("it is gone since {since}"));
                }
            }
            None if since.plus(policy.margin) <= now => {
                plan.push(Action::ForgetNamespace(tombstone.clone()), "the broker holds nothing of it any more");
            }
            None => {}
        }
    }
    if left > 0 {
        plan.reports.push(format!("{left} things of namespaces that are gone are left to the next runs"));
    }
}

/// Where the operator asked for it, what belongs to no namespace in the store gets a tombstone that counts after the grace
/// time; a claim revives it. A store without a live namespace proves nothing about what is unknown to it.
fn plan_orphans(
    plan: &mut Plan,
    seen: &Snapshot,
    remains: &BTreeMap<Name, Remains>,
    now: Timestamp,
    policy: &ExpiryPolicy,
    may_remove: bool,
) {
    let known: BTreeSet<_> = seen.namespaces.iter().map(|namespace| &namespace.name).collect();
    let unknown: Vec<_> = remains.iter().filter(|(name, _)| !known.contains(name)).collect();
    if unknown.is_empty() {
        return;
    }
    if seen.namespaces.iter().all(|namespace| namespace.gone.is_some()) {
        let count = unknown.len();
        plan.reports.push(format!(
            "the broker holds things of {count} namespaces, and the store knows no live one: is it the right store? \
             Nothing of them is removed"
        ));
        return;
    }
    let Some(grace) = policy.orphans_after.filter(|_| may_remove) else {
        plan.reports.extend(report_unknown(unknown.into_iter()));
        return;
    };
    for (name, _) in unknown {
        let since = now.plus(grace);
        let tombstone = Namespace {
            name: name.clone(),
            contact: String::new(),
            created: now,
            expires: now,
            rotation: Rotation { active: None, previous: None, pending: None, due: now, grace: Duration::ZERO },
            gone: Some(Gone { since, cleaning_until: None }),
            warned: None,
            version: Version::new_at(now),
        };
        let reason = format!("the store does not know it; it is cleaned up from {since} on unless it is claimed");
        plan.push(Action::BuryOrphan(tombstone), reason);
    }
}

/// The queues of each namespace that are known to have messages, and how many.
fn filled_queues(inventory: &Inventory, names: &Names) -> BTreeMap<Name, Vec<(String, u64)>> {
    let mut found: BTreeMap<Name, Vec<_>> = BTreeMap::new();
    for queue in &inventory.queues {
        let Some(messages) = queue.messages.filter(|messages| *messages > 0) else { continue };
        if let Some(name) = names.owner_of_queue(&queue.name) {
            found.entry(name).or_default().push((queue.name.clone(), messages));
        }
    }
    found
}
