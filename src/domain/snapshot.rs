//! What a run looks at before it plans: the broker and the store, and what the broker holds of each namespace.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::clock::Timestamp;
use crate::domain::alert::Alert;
use crate::domain::inventory::Inventory;
use crate::domain::name::{Name, Names};
use crate::domain::namespace::Namespace;

/// What a run looks at: the broker first, then the store, so that what the broker shows and the store doesn't know was
/// not just made.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// What the broker holds.
    pub inventory: Inventory,
    /// All namespaces in the store, tombstones too.
    pub namespaces: Vec<Namespace>,
    /// All alerts in the store.
    pub alerts: Vec<Alert>,
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
}

impl Remains {
    /// How many things that is.
    pub fn count(&self) -> usize {
        self.users.len() + self.connections.len() + self.queues.len() + self.exchanges.len()
    }

    /// At most `most` of them: the users, who would make the others anew, and then what comes round from `place` on (any
    /// number). With another place in each run, what can't be removed keeps nothing else from it.
    pub(super) fn part(&self, most: usize, place: usize) -> Remains {
        let Remains { users, connections, queues, exchanges } = self;
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
        let [connections, queues, exchanges] = taken;
        Remains { users: users.iter().take(most).cloned().collect(), connections, queues, exchanges }
    }
}

/// Where a run that begins `now` begins with the things of `owner`: as good as random, so that it is each place's turn some
/// day whatever the time between two runs.
pub(super) fn place(now: Timestamp, owner: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    (now, owner).hash(&mut hasher);
    // What is cut off does not matter.
    hasher.finish() as usize
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
            found.entry(name).or_default().connections.push(connection.name.clone());
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
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn users_are_the_first_of_a_part_and_each_other_thing_has_its_turn() {
        let all = Remains {
            users: vec!["1".into(), "2".into()],
            connections: vec!["c".into()],
            queues: vec!["q".into(), "r".into()],
            exchanges: vec!["x".into()],
        };
        assert_eq!(all.part(9, 4), all);
        assert_eq!((all.part(0, 1), all.part(1, 1).users), (Remains::default(), vec!["1".to_owned()]));
        let part = all.part(4, 3);
        assert_eq!((part.users, part.connections), (all.users.clone(), all.connections.clone()));
        assert_eq!((part.queues, part.exchanges), (vec![], all.exchanges.clone()));
        assert_eq!(all.part(9, 2).queues, ["r", "q"]);
    }

    #[test]
    fn runs_that_are_as_far_apart_as_can_be_thought_of_begin_everywhere() {
        for apart in [1, 60, 3600, 3617].map(Duration::from_secs) {
            let at = |run: u32| Timestamp::from_millis(1_700_000_000_000).plus(apart * run);
            let places: BTreeSet<_> = (0..200).map(|run| place(at(run), "taskcluster-x") % 20).collect();
            assert_eq!(places.len(), 20, "{apart:?}");
        }
    }
}
