//! Limits that the broker keeps by itself: one operator policy for all queues that are named as those of namespaces are, and
//! how many connections and channels the users of namespaces may have.
//!
//! Never one policy for each namespace: with some hundreds of them, each change of one takes RabbitMQ seconds. A policy is ours by
//! its name, the tag of this deployment. A limit of a user is ours if the user is and the limit is one that we noted at the broker
//! before we set it: so what somebody set by hand stays when ours goes. Nobody may connect as a user that was *kept out*
//! because it hoards, whose limit is zero; that is never written over here.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::action::{Action, Limit};
use crate::domain::identity::Tag;
use crate::domain::inventory::{LimitsSeen, Noted, OperatorPolicy, UserLimit, Values};
use crate::domain::name::{Names, Slot};
use crate::domain::namespace::Namespace;
use crate::domain::plan::Plan;
use crate::domain::snapshot::Snapshot;

/// How this deployment wants it. The default limits nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitsPolicy {
    /// What the operator policy sets, by RabbitMQ's names. Empty for none.
    pub queues: BTreeMap<&'static str, u64>,
    /// How many of each every user of a namespace may have; zero is for keeping out alone.
    pub users: BTreeMap<UserLimit, u64>,
    /// Namespaces that none of it holds for.
    pub exceptions: BTreeSet<String>,
}

impl LimitsPolicy {
    /// The operator policy for all queues of namespaces but those of the exceptions.
    fn operator_policy(&self, names: &Names, tag: &Tag) -> Option<OperatorPolicy> {
        (!self.queues.is_empty()).then(|| OperatorPolicy {
            name: tag.as_str().to_owned(),
            pattern: names.queues_but_of(&self.exceptions),
            apply_to: "queues".to_owned(),
            priority: 0,
            definition: self.queues.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect(),
        })
    }
}

/// Adds to `plan` what makes the broker's limits what they should be.
pub(super) fn plan_limits(plan: &mut Plan, seen: &Snapshot, names: &Names, tag: &Tag, policy: &LimitsPolicy) {
    let Some(limits) = &seen.limits else { return };
    limit_users(plan, seen, limits, names, policy);
    let found = limits.policies.iter().find(|found| found.name == tag.as_str());
    match (policy.operator_policy(names, tag), found) {
        (Some(wanted), found) if found != Some(&wanted) => {
            let told: Vec<_> = wanted.definition.iter().map(|(key, value)| format!("{key} {value}")).collect();
            let why = if found.is_some() { "RabbitMQ has it otherwise" } else { "RabbitMQ does not have it" };
            let reason = format!("{}: {why}", told.join(", "));
            plan.push(Action::Limit(Limit::Queues(wanted)), reason);
        }
        (None, Some(found)) => {
            plan.push(Action::Limit(Limit::NoQueues(found.name.clone())), "no limit of queues is set any more");
        }
        _ => {}
    }
}

fn limit_users(plan: &mut Plan, seen: &Snapshot, limits: &LimitsSeen, names: &Names, policy: &LimitsPolicy) {
    let users: BTreeSet<_> = seen.inventory.users.iter().map(|user| user.name.as_str()).collect();
    let own = |found: &Namespace| found.account.as_ref().is_none_or(|account| account.users().own);
    let live = seen.namespaces.iter().filter(|found| found.gone.is_none() && own(found));
    let (mut steps, mut values) = (Vec::new(), limits.noted.values.clone());
    // Of a namespace that is exempt, nothing of ours is there, or not any more. So it stays until we set something.
    let mut spared = limits.noted.spared.clone();
    spared.extend(policy.exceptions.iter().filter(|name| !has_ours(limits, names, name)).cloned());
    for (namespace, slot) in live.flat_map(|found| Slot::BOTH.map(|slot| (found, slot))) {
        let (user, name) = (names.user(&namespace.name, slot), namespace.name.as_str());
        if !users.contains(user.as_str()) {
            continue;
        }
        for limit in UserLimit::ALL {
            let found = limits.users.get(&user).and_then(|of| of.get(&limit)).copied();
            let exempt = policy.exceptions.contains(name);
            let wanted = policy.users.get(&limit).copied().filter(|_| !exempt);
            let ours = found.is_some_and(|found| limits.noted.is_ours(name, limit, found));
            let kept_out = limit == UserLimit::Connections && found == Some(0);
            if found == wanted || kept_out || (wanted.is_none() && !ours) {
                continue;
            }
            let has = found.map_or("none".to_owned(), |found| found.to_string());
            let reason = match wanted {
                Some(most) => format!("{limit} is to be {most}, and it has {has}"),
                None => format!("{limit} is not to be limited any more, and it has {has}"),
            };
            values.entry(limit).or_default().extend(wanted);
            if wanted.is_some() {
                spared.remove(name);
            }
            let action = Action::Limit(Limit::User { name: namespace.name.clone(), slot, limit, most: wanted });
            steps.push((action, reason));
        }
    }
    values.retain(|_, values| !values.is_empty());
    if steps.is_empty() {
        values = still_there(limits, names, policy);
    }
    let spared = if values.is_empty() { BTreeSet::new() } else { spared };
    let noted = Noted { values, spared };
    if noted != limits.noted {
        plan.push(Action::Limit(Limit::Note(noted)), "so that it is known later which limits are ours");
    }
    steps.into_iter().for_each(|(action, reason)| plan.push(action, reason));
}

/// Whether a user of this namespace has a limit that is ours.
fn has_ours(limits: &LimitsSeen, names: &Names, namespace: &str) -> bool {
    let of_it = limits
        .users
        .iter()
        .filter(|(user, _)| names.owner_of_user(user).is_some_and(|(name, _)| name.as_str() == namespace));
    of_it.flat_map(|(_, of)| of).any(|(limit, value)| limits.noted.is_ours(namespace, *limit, *value))
}

/// Of what was noted, what is set now, and what some user of ours has yet that was not spared.
fn still_there(limits: &LimitsSeen, names: &Names, policy: &LimitsPolicy) -> Values {
    let mut left = Values::new();
    for (limit, values) in &limits.noted.values {
        let of_ours = limits.users.iter().filter(|(user, _)| {
            names.owner_of_user(user).is_some_and(|(name, _)| !limits.noted.spared.contains(name.as_str()))
        });
        let there: BTreeSet<_> = of_ours.filter_map(|(_, of)| of.get(limit).copied()).collect();
        let set = policy.users.get(limit);
        let kept = values.iter().copied().filter(|value| there.contains(value) || set == Some(value));
        let kept: BTreeSet<_> = kept.collect();
        if !kept.is_empty() {
            left.insert(*limit, kept);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_a_namespace_that_was_spared_is_not_ours_whatever_its_value() {
        let values = Values::from([(UserLimit::Channels, [7].into())]);
        let noted = Noted { values, spared: ["taskcluster-large".to_owned()].into() };
        assert!(noted.is_ours("taskcluster-a", UserLimit::Channels, 7));
        assert!(!noted.is_ours("taskcluster-a", UserLimit::Channels, 8));
        assert!(!noted.is_ours("taskcluster-a", UserLimit::Connections, 7));
        assert!(!noted.is_ours("taskcluster-large", UserLimit::Channels, 7));
    }
}
