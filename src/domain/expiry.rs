//! Expiry: a namespace past its date becomes a tombstone, what belongs to it is removed, then the tombstone goes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::action::{Action, Entry, Operation};
use crate::domain::inventory::Inventory;
use crate::domain::name::{Name, Names};
use crate::domain::namespace::{Gone, Namespace};
use crate::domain::notice::Event;
use crate::domain::owner::Groups;
use crate::domain::plan::{Brakes, Plan, Withheld};
use crate::domain::rotation::Rotation;
use crate::domain::share::{Owner, place, shares_by_owner};
use crate::domain::snapshot::{Remains, Snapshot, remains, report_unknown};
use crate::domain::unknown::tombstone;

/// How an expiry run decides.
#[derive(Debug, Clone)]
pub struct ExpiryPolicy {
    /// How namespaces and users are named.
    pub names: Names,
    /// Where groups are told.
    pub groups: Groups,
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
    /// For how long programs must have been able to claim before a namespace ends of which nobody noted for how long it was to
    /// live: within that time each comes by that holds a credential.
    pub reclaim: Duration,
    /// How much one run may remove.
    pub brakes: Brakes,
}

/// Plans an expiry run. `now` is a time before `seen` was seen, and `served` the [served time](crate::domain::hold) then, if
/// there is one: what does not come back needs both to believe that its time has come.
pub fn plan_expiry(seen: &Snapshot, now: Timestamp, served: Option<Duration>, policy: &ExpiryPolicy) -> Plan {
    policy.brakes.hold(|withheld| {
        let remains = remains(&seen.inventory, &policy.names, |_| true);
        let filled = filled_queues(&seen.inventory, &policy.names);
        let held: usize = remains.values().map(Remains::count).sum();
        let mut plan = Plan { seen: seen.namespaces.len() + held, ..Plan::default() };
        let moment = Moment { now, served };
        for namespace in seen.namespaces.iter().filter(|namespace| namespace.gone.is_none()) {
            plan_live(&mut plan, namespace, filled.get(&namespace.name), moment, policy, withheld);
        }
        report_early(&mut plan, seen, moment, policy);
        plan_orphans(&mut plan, seen, &remains, moment, policy, withheld);
        // A store that ends too much at once may be the wrong one, and wrong about what is gone too.
        if !withheld.all {
            plan_gone(&mut plan, seen, &remains, moment, policy);
        }
        plan
    })
}

/// When a run takes place: by the calendar, and by the served time.
#[derive(Clone, Copy)]
struct Moment {
    now: Timestamp,
    served: Option<Duration>,
}

impl Moment {
    /// Whether the served time agrees that the life of a namespace is over; `None` where nobody noted when that is.
    fn is_over(self, namespace: &Namespace) -> Option<bool> {
        let Some(served) = self.served else { return Some(true) };
        namespace.matures.map(|matures| matures <= served)
    }
}

/// Says how many namespaces are past their date and not at their end. After an outage that is as it should be. That it is all
/// of them tells of a calendar that is ahead.
fn report_early(plan: &mut Plan, seen: &Snapshot, now: Moment, policy: &ExpiryPolicy) {
    let is_early = |found: &&Namespace| has_ended(found, now.now, policy) && now.is_over(found) == Some(false);
    let early = seen.namespaces.iter().filter(is_early).count();
    if early > 0 {
        plan.reports.push(format!(
            "{early} namespaces are past their date, and are kept until programs were able to claim for as long as each of \
             them was to live"
        ));
    }
}

/// Forgets no namespace of which a second look at the broker shows something: a list may have been too short.
pub fn look_again(plan: &mut Plan, inventory: &Inventory, names: &Names) {
    let remains = remains(inventory, names, |_| true);
    let is_left = |action: &Action| matches!(action, Action::Store(Entry::ForgetNamespace(found)) if remains.contains_key(&found.name));
    plan.actions.retain(|step| !is_left(&step.action));
}

fn plan_live(
    plan: &mut Plan,
    namespace: &Namespace,
    filled: Option<&Vec<(String, u64)>>,
    moment: Moment,
    policy: &ExpiryPolicy,
    withheld: &Withheld,
) {
    let (expires, Moment { now, served }) = (namespace.expires, moment);
    if namespace.barred.disabled.is_some() {
        // Nobody can put off its end.
        return;
    }
    if has_ended(namespace, now, policy) {
        let owner = namespace.owner();
        match moment.is_over(namespace) {
            Some(true) if !namespace.ends_as_asked() && !withheld.has(&owner) => {
                plan.decide(owner, bury(namespace, now, policy), format!("it expired at {expires}"));
            }
            Some(_) => {}
            None => {
                let matures = served.map(|served| served.saturating_add(policy.reclaim));
                let reason = format!("it expired at {expires}, and nobody noted for how long it was to live");
                plan.push(Entry::Mature(Namespace { matures, ..namespace.clone() }), reason);
            }
        }
        return;
    }
    // Of the end of an account its owners are told by the sweep, and earlier.
    if namespace.is_on_demand()
        || expires > now.plus(policy.warning)
        || was_warned(namespace, policy)
        || namespace.told(&policy.groups).is_empty()
    {
        return;
    }
    if let Some(queues) = filled {
        let warned = Namespace { warned: Some(expires), ..namespace.clone() };
        let event = Event::NamespaceExpiring { expires, queues: queues.clone(), at: now };
        plan.push(Entry::WarnOfExpiry(warned, Box::new(event)), format!("it expires at {expires} and has messages"));
    }
}

/// Whether its owner was told that the namespace ends, now or a little earlier. One who claims again and again for a short
/// time moves the end each time, and is not told each time.
fn was_warned(namespace: &Namespace, policy: &ExpiryPolicy) -> bool {
    let account = namespace.account.as_ref().is_some_and(|account| account.warned.is_some());
    account || namespace.warned.is_some_and(|end| end.plus(policy.warning) > namespace.expires)
}

fn has_ended(namespace: &Namespace, now: Timestamp, policy: &ExpiryPolicy) -> bool {
    namespace.gone.is_none() && may_end(namespace, &policy.groups) && namespace.expires.plus(policy.delay) <= now
}

/// Whether a namespace may end at all: no account does whose user of somebody else is there yet, or whose owners can be told
/// and were not.
fn may_end(namespace: &Namespace, groups: &Groups) -> bool {
    let Some(account) = &namespace.account else { return true };
    let told = account.warned.is_some() || namespace.ends_as_asked() || namespace.told(groups).is_empty();
    account.adopted.is_none() && (told || !namespace.is_on_demand())
}

/// Makes a namespace a tombstone: its passwords go at once. Its owner is told if it was warned before.
fn bury(namespace: &Namespace, now: Timestamp, policy: &ExpiryPolicy) -> Entry {
    let expires = namespace.expires;
    let event = was_warned(namespace, policy).then_some(Event::NamespaceExpired { expires, at: now });
    let rotation = Rotation { active: None, previous: None, pending: None, ..namespace.rotation.clone() };
    let gone = Some(Gone { since: now, cleaning_until: None });
    Entry::Bury(Namespace { gone, rotation, ..namespace.clone() }, event.map(Box::new))
}

/// Ends what was asked to end, and works off the tombstones, as far as one run may: of each owner its share, and of each of
/// its namespaces a share of that. Where not all get a part it is others each time, so that one of which nothing can be
/// removed does not use up for ever what the others need.
fn plan_gone(
    plan: &mut Plan,
    seen: &Snapshot,
    remains: &BTreeMap<Name, Remains>,
    moment: Moment,
    policy: &ExpiryPolicy,
) {
    let now = moment.now;
    let of_turn = |found: &Gone| found.since <= now && found.cleaning(now).is_none_or(|until| until <= now);
    let mut wants = BTreeMap::new();
    // What an earlier version buried has nothing noted.
    for namespace in seen.namespaces.iter().filter(|found| moment.is_over(found) != Some(false)) {
        let key = || (namespace.owner(), &namespace.name);
        let ends =
            has_ended(namespace, now, policy) && namespace.ends_as_asked() && namespace.barred.disabled.is_none();
        if ends && moment.is_over(namespace).is_some() {
            wants.insert(key(), 1);
        } else if let Some(gone) = namespace.gone.filter(of_turn) {
            if let Some(remains) = remains.get(&namespace.name) {
                wants.insert(key(), remains.count());
            } else if seen.others.namespaces.contains(&namespace.name) {
                // What else there is of it may be theirs.
            } else if gone.since.plus(policy.margin) <= now && namespace.barred.disabled.is_none() {
                plan.push(Entry::ForgetNamespace(namespace.clone()), "the broker holds nothing of it any more");
            }
        }
    }
    let shares = shares_by_owner(&wants, policy.brakes.room(plan), now);
    let shares: BTreeMap<_, _> = shares.into_iter().map(|((_, name), share)| (name, share)).collect();
    let mut left = wants.values().sum::<usize>();
    for namespace in &seen.namespaces {
        let Some(share) = shares.get(&namespace.name).copied().filter(|share| *share > 0) else { continue };
        left -= share;
        match (namespace.gone, remains.get(&namespace.name)) {
            (Some(gone), Some(remains)) => {
                let part = remains.part(share, place(now, &namespace.name));
                plan.push(
                    Operation::Clean(Box::new(namespace.clone()), part),
                    format!("it is gone since {}", gone.since),
                );
            }
            _ => {
                let reason = format!("it expired at {}, as a claim of it asked for", namespace.expires);
                plan.push(bury(namespace, now, policy), reason);
            }
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
    Moment { now, served }: Moment,
    policy: &ExpiryPolicy,
    withheld: &Withheld,
) {
    let known: BTreeSet<_> = seen.namespaces.iter().map(|namespace| &namespace.name).collect();
    let unknown: Vec<_> = remains.iter().filter(|(name, _)| !known.contains(name)).collect();
    // Where somebody else has a user, the rest may be theirs, too.
    let theirs = &seen.others.namespaces;
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
    let Some(grace) = policy.orphans_after.filter(|_| !withheld.has(&Owner::Nobody)) else {
        plan.reports.extend(report_unknown(unknown.into_iter()));
        return;
    };
    plan.reports.extend(report_unknown(unknown.iter().copied().filter(|(name, _)| theirs.contains(name))));
    for (name, _) in unknown.into_iter().filter(|(name, _)| !theirs.contains(name)) {
        let since = now.plus(grace);
        let tombstone = tombstone(name, now, served, grace);
        let reason = format!("the store does not know it; it is cleaned up from {since} on unless it is claimed");
        plan.decide(Owner::Nobody, Entry::BuryOrphan(tombstone), reason);
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
