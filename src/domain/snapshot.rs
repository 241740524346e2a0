//! What a run looks at before it plans: the broker and the store, and what the broker holds of each namespace.

use std::collections::BTreeMap;

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

    /// The first `most` of them, in the order in which they are removed.
    pub(super) fn first(&self, most: usize) -> Remains {
        let mut left = most;
        let mut first = |things: &[String]| {
            let taken = &things[..left.min(things.len())];
            left -= taken.len();
            taken.to_vec()
        };
        Remains {
            users: first(&self.users),
            connections: first(&self.connections),
            queues: first(&self.queues),
            exchanges: first(&self.exchanges),
        }
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
    use super::*;

    #[test]
    fn a_part_of_what_remains_is_taken_in_the_order_of_removal() {
        let all = Remains {
            users: vec!["1".into(), "2".into()],
            queues: vec!["a".into(), "b".into()],
            exchanges: vec!["x".into()],
            ..Remains::default()
        };
        assert_eq!(all.first(9), all);
        let part = all.first(3);
        assert_eq!((part.users.len(), part.queues.len(), part.count()), (2, 1, 3));
        assert_eq!(all.first(0), Remains::default());
    }
}
