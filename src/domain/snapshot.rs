//! What a run looks at before it plans: the broker and the store, and what the broker holds of each namespace.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::domain::account::Uses;
use crate::domain::history::History;
use crate::domain::identity::Others;
use crate::domain::inventory::{Inventory, LimitsSeen, QueueDetail};
use crate::domain::name::{Name, Names};
use crate::domain::namespace::Namespace;
use crate::domain::recipients::Recipients;
use crate::domain::watched::Watched;

/// What a run looks at: the broker first, then the store, so that what the broker shows and the store doesn't know was
/// not just made.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// What the broker holds.
    pub inventory: Inventory,
    /// All namespaces in the store, tombstones too, but for those that are in order.
    pub namespaces: Vec<Namespace>,
    /// The live namespaces about which there is nothing to do: see [`Order`](crate::domain::order::Order).
    pub in_order: BTreeSet<Name>,
    /// What is remembered of queues in trouble.
    pub watches: Vec<Watched>,
    /// What was seen of queues before, by their names.
    pub histories: BTreeMap<String, History>,
    /// Closer looks at some of the queues, by their names.
    pub closer: BTreeMap<String, QueueDetail>,
    /// When the broker was asked for its list of queues, by the clock that all processes share; `None` where that is just now.
    pub looked: Option<Timestamp>,
    /// What time it is by that clock; `None` where there is one clock.
    pub shared: Option<Timestamp>,
    /// Whether the broker is in memory or disk alarm.
    pub alarm: bool,
    /// Who can't be told, and who wants no reminders.
    pub recipients: Recipients,
    /// The broker's limits; `None` where they were not looked at.
    pub limits: Option<LimitsSeen>,
    /// From where users are connected.
    pub uses: Uses,
    /// Users of others that stand under names of ours. They are not in the inventory any more.
    pub others: Others,
}

/// What the broker holds of one namespace, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remains {
    /// Its users.
    pub users: Vec<String>,
    /// Its users' connections.
    pub connections: Vec<String>,
    /// Its queues.
    pub queues: Vec<String>,
    /// Its exchanges.
    pub exchanges: Vec<String>,
    /// Those users that have connections. They are no further things.
    pub connected: BTreeSet<String>,
}

impl Remains {
    /// How many things that is.
    pub fn count(&self) -> usize {
        self.users.len() + self.connections.len() + self.queues.len() + self.exchanges.len()
    }

    /// Adds what is left of another namespace.
    pub fn extend(&mut self, more: &Remains) {
        let Remains { users, connections, queues, exchanges, connected } = more;
        self.users.extend_from_slice(users);
        self.connections.extend_from_slice(connections);
        self.queues.extend_from_slice(queues);
        self.exchanges.extend_from_slice(exchanges);
        self.connected.extend(connected.iter().cloned());
    }

    /// Whether any of them has this name.
    pub fn has(&self, name: &str) -> bool {
        let Remains { users, connections, queues, exchanges, .. } = self;
        [users, connections, queues, exchanges].into_iter().flatten().any(|thing| thing == name)
    }

    /// At most `most` of them: the users, who would make the others anew, and then what comes round from `place` on (any
    /// number). With another place in each run, what can't be removed keeps nothing else from it.
    pub(super) fn part(&self, most: usize, place: usize) -> Remains {
        let Remains { users, connections, queues, exchanges, connected } = self;
        let of_kind = |(kind, things): (usize, &'_ Vec<String>)| -> Vec<_> {
            things.iter().map(|thing| (kind, thing.clone())).collect()
        };
        let mut others: Vec<_> = [connections, queues, exchanges].into_iter().enumerate().flat_map(of_kind).collect();
        let begin = place % others.len().max(1);
        others.rotate_left(begin);
        let mut taken = [Vec::new(), Vec::new(), Vec::new()];
        for (kind, thing) in others.into_iter().take(most.saturating_sub(users.len())) {
            taken[kind].push(thing);
        }
        let ([connections, queues, exchanges], connected) = (taken, connected.clone());
        Remains { users: users.iter().take(most).cloned().collect(), connections, queues, exchanges, connected }
    }
}

/// One report of all the namespaces that are not in the store, and the names of the first of them: with the wrong database it
/// may be any number.
pub(super) fn report_unknown<'a>(unknown: impl Iterator<Item = (&'a Name, &'a Remains)>) -> Option<String> {
    const NAMED: usize = 5;
    let (names, counts): (Vec<_>, Vec<_>) = unknown.map(|(name, remains)| (name.as_str(), remains.count())).unzip();
    let (first, things) = (names.get(..NAMED).unwrap_or(&names).join(", "), counts.iter().sum::<usize>());
    let more = if names.len() > NAMED { ", ..." } else { "" };
    let count = names.len();
    (count > 0).then(|| {
        format!("the broker holds {things} things of namespaces that are not in the store ({count}): {first}{more}")
    })
}

/// What the broker holds of each namespace that is `wanted`, be it in the store or not.
pub(crate) fn remains(inventory: &Inventory, names: &Names, wanted: impl Fn(&Name) -> bool) -> BTreeMap<Name, Remains> {
    let mut found: BTreeMap<Name, Remains> = BTreeMap::new();
    for user in &inventory.users {
        if let Some((name, _)) = names.owner_of_user(&user.name).filter(|(name, _)| wanted(name)) {
            found.entry(name).or_default().users.push(user.name.clone());
        }
    }
    for connection in &inventory.connections {
        if let Some((name, _)) = names.owner_of_user(&connection.user).filter(|(name, _)| wanted(name)) {
            let found = found.entry(name).or_default();
            found.connections.push(connection.name.clone());
            found.connected.insert(connection.user.clone());
        }
    }
    for queue in &inventory.queues {
        if let Some(name) = names.owner_of_queue(&queue.name).filter(&wanted) {
            found.entry(name).or_default().queues.push(queue.name.clone());
        }
    }
    for exchange in &inventory.exchanges {
        if let Some(name) = names.owner_of_exchange(exchange).filter(&wanted) {
            found.entry(name).or_default().exchanges.push(exchange.clone());
        }
    }
    found
}

/// Takes what belongs to `unwanted` namespaces out of an inventory.
pub fn leave_out(inventory: &mut Inventory, names: &Names, unwanted: impl Fn(&Name) -> bool) {
    let kept = |owner: Option<Name>| owner.is_none_or(|name| !unwanted(&name));
    let of_user = |user: &str| names.owner_of_user(user).map(|(name, _)| name);
    inventory.users.retain(|user| kept(of_user(&user.name)));
    inventory.connections.retain(|connection| kept(of_user(&connection.user)));
    inventory.queues.retain(|queue| kept(names.owner_of_queue(&queue.name)));
    inventory.exchanges.retain(|exchange| kept(names.owner_of_exchange(exchange)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_the_first_of_a_part_and_each_other_thing_has_its_turn() {
        let all = Remains {
            users: vec!["1".into(), "2".into()],
            connections: vec!["c".into()],
            queues: vec!["q".into(), "r".into()],
            exchanges: vec!["x".into()],
            connected: ["1".to_owned()].into(),
        };
        assert_eq!(all.part(9, 4), all);
        assert_eq!((all.part(0, 1).count(), all.part(1, 1).users), (0, vec!["1".to_owned()]));
        let part = all.part(4, 3);
        assert_eq!((part.users, part.connections), (all.users.clone(), all.connections.clone()));
        assert_eq!((part.queues, part.exchanges), (vec![], all.exchanges.clone()));
        assert_eq!(all.part(9, 2).queues, ["r", "q"]);
    }
}
