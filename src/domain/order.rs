//! Which namespaces are in order, so that a sweep has nothing to do about them, and need not keep their records. Of a large
//! deployment these are nearly all.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::history::History;
use crate::domain::identity::Tag;
use crate::domain::inventory::{BrokerUser, Inventory, LimitsSeen, QueueKind};
use crate::domain::name::{Name, Names, Slot};
use crate::domain::namespace::Namespace;
use crate::domain::sweep::wrong;
use crate::domain::watched::Watched;

/// What says of a namespace whether it is in order.
pub struct Order<'a> {
    names: &'a Names,
    tag: &'a Tag,
    inventory: &'a Inventory,
    /// All users, sorted by their names.
    users: Vec<&'a BrokerUser>,
    /// The users that may do something else than they should, or that have limits.
    odd: BTreeSet<&'a str>,
    /// The namespaces whose queues or connections have to be looked at.
    busy: BTreeSet<Name>,
}

impl<'a> Order<'a> {
    /// From what was seen of the broker, and what is remembered of queues.
    pub fn new(
        inventory: &'a Inventory,
        (watches, histories): (&[Watched], &BTreeMap<String, History>),
        limits: Option<&'a LimitsSeen>,
        names: &'a Names,
        tag: &'a Tag,
    ) -> Order<'a> {
        let mut users: Vec<_> = inventory.users.iter().collect();
        users.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let limited = limits.into_iter().flat_map(|limits| limits.users.keys().map(String::as_str));
        let elsewhere = inventory.elsewhere.iter().map(|right| right.user.as_str());
        let odd =
            inventory.permissions.iter().map(|found| found.user.as_str()).chain(elsewhere).chain(limited).collect();
        let mut busy: BTreeSet<_> = watches.iter().map(|watched| watched.namespace.clone()).collect();
        busy.extend(histories.keys().filter_map(|queue| names.owner_of_queue(queue)));
        let filled =
            inventory.queues.iter().filter(|queue| queue.messages != Some(0) || queue.kind == QueueKind::Stream);
        busy.extend(filled.filter_map(|queue| names.owner_of_queue(&queue.name)));
        let connected = inventory.connections.iter().filter_map(|found| names.owner_of_user(&found.user));
        busy.extend(connected.map(|(name, _)| name));
        Order { names, tag, inventory, users, odd, busy }
    }

    /// Whether a sweep has nothing to do about this namespace, and tells nobody of it.
    pub fn has(&self, namespace: &Namespace) -> bool {
        let Namespace { name, rotation, gone, account, barred, .. } = namespace;
        let is_plain = gone.is_none() && account.is_none() && barred.disabled.is_none() && barred.revoked.is_none();
        is_plain
            && rotation.active.is_some()
            && !self.busy.contains(name)
            && Slot::BOTH.iter().all(|slot| self.has_user(namespace, *slot))
    }

    fn has_user(&self, namespace: &Namespace, slot: Slot) -> bool {
        let name = self.names.user(&namespace.name, slot);
        let found = self.users.binary_search_by(|user| user.name.as_str().cmp(&name)).ok();
        let user = found.map(|at| self.users[at]);
        let may = || self.inventory.has_granted(&name) || namespace.rotation.password_of(slot).is_none();
        wrong(user, namespace, slot, self.tag).is_none() && !self.odd.contains(name.as_str()) && may()
    }
}

/// Takes out of an inventory the users of namespaces that are in order.
pub fn leave_out_users(inventory: &mut Inventory, names: &Names, in_order: &BTreeSet<Name>) {
    let kept = |user: &str| names.owner_of_user(user).is_none_or(|(name, _)| !in_order.contains(&name));
    inventory.users.retain(|user| kept(&user.name));
    inventory.granted.retain(kept);
    inventory.users.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::barred::{Barred, Revoked};
    use crate::domain::inventory::{BrokerConnection, BrokerPermissions, BrokerQueue, Right, UserLimit};
    use crate::domain::name_list::NameList;
    use crate::domain::namespace::{Gone, Version};
    use crate::domain::rotation::{Login, Rotation};
    use crate::secret::{Password, PasswordHash};

    const TAG: &str = "taskcluster-pulse-a";

    fn namespace() -> Namespace {
        let at = Timestamp::from_millis(0);
        let active = Some(Login { slot: Slot::One, password: Password::from_stored("p".into()) });
        Namespace {
            name: Name::from_stored("taskcluster-x".into()),
            contact: String::new(),
            created: at,
            expires: at,
            rotation: Rotation { active, previous: None, pending: None, due: at, grace: Duration::from_secs(1) },
            gone: None,
            warned: None,
            claimed_by: None,
            owners: Vec::new(),
            exemptions: Vec::new(),
            requests: Vec::new(),
            barred: Barred::default(),
            account: None,
            end_asked: None,
            matures: None,
            version: Version::new_at(at),
        }
    }

    fn user(name: &str, hash: PasswordHash) -> BrokerUser {
        BrokerUser { name: name.to_owned(), tags: [TAG.to_owned()].into(), hash }
    }

    fn inventory() -> Inventory {
        let hash = Password::from_stored("p".into()).hash();
        let users = vec![user("taskcluster-x-2", PasswordHash::blocked()), user("taskcluster-x-1", hash)];
        let queue = BrokerQueue {
            name: "queue/taskcluster-x/q".into(),
            messages: Some(0),
            unacked: Some(0),
            fingerprint: 0,
            kind: QueueKind::Classic,
            exclusive: false,
        };
        let granted = ["taskcluster-x-1"].into_iter().collect();
        Inventory { users, granted, queues: vec![queue], ..Inventory::default() }
    }

    fn is_in_order(inventory: &Inventory, limits: Option<&LimitsSeen>, found: &Namespace) -> bool {
        let (names, tag) = (Names::new("taskcluster-", ""), Tag::from_stored(TAG.into()));
        Order::new(inventory, (&[], &BTreeMap::new()), limits, &names, &tag).has(found)
    }

    #[test]
    fn a_namespace_is_in_order_whose_users_are_as_they_should_be_and_whose_queues_are_empty() {
        assert!(is_in_order(&inventory(), None, &namespace()));
        let no_limits = LimitsSeen::default();
        assert!(is_in_order(&inventory(), Some(&no_limits), &namespace()));
    }

    #[test]
    fn whatever_a_sweep_may_have_to_do_something_about_is_not_in_order() {
        let right = || Right { user: "taskcluster-x-1".into(), vhost: "other".into(), topic: false };
        let nothing = || Names::new("", "").permissions(&namespace().name);
        let spoil: [fn(&mut Inventory); 8] = [
            |found| _ = found.users.pop(),
            |found| found.users[1].hash = PasswordHash::blocked(),
            |found| found.users[0].tags = [].into(),
            |found| found.granted = NameList::default(),
            |found| found.queues[0].messages = Some(1),
            |found| found.queues[0].messages = None,
            |found| found.queues[0].kind = QueueKind::Stream,
            |found| {
                let user = "taskcluster-x-2".to_owned();
                found.connections = vec![BrokerConnection {
                    name: "c".into(),
                    user,
                    connected: None,
                    address: "".into(),
                    program: "".into(),
                }];
            },
        ];
        for (number, spoil) in spoil.into_iter().enumerate() {
            let mut found = inventory();
            spoil(&mut found);
            assert!(!is_in_order(&found, None, &namespace()), "{number}");
        }
        let elsewhere = Inventory { elsewhere: vec![right()], ..inventory() };
        let odd = BrokerPermissions { user: "taskcluster-x-1".into(), permissions: nothing() };
        let odd = Inventory { permissions: vec![odd], ..inventory() };
        assert!(!is_in_order(&elsewhere, None, &namespace()) && !is_in_order(&odd, None, &namespace()));
        let users = [("taskcluster-x-2".to_owned(), [(UserLimit::Channels, 1)].into())].into();
        let limits = LimitsSeen { users, ..LimitsSeen::default() };
        assert!(!is_in_order(&inventory(), Some(&limits), &namespace()));
        let at = Timestamp::from_millis(0);
        let spoil: [fn(&mut Namespace, Timestamp); 3] = [
            |found, at| found.gone = Some(Gone { since: at, cleaning_until: None }),
            |found, at| found.barred.revoked = Some(Revoked { from: at, done: true }),
            |found, _| found.rotation.active = None,
        ];
        for (number, spoil) in spoil.into_iter().enumerate() {
            let mut found = namespace();
            spoil(&mut found, at);
            assert!(!is_in_order(&inventory(), None, &found), "{number}");
        }
    }

    #[test]
    fn users_of_what_is_in_order_are_left_out_and_no_others() {
        let (mut found, names) = (inventory(), Names::new("taskcluster-", ""));
        found.users.push(user("taskcluster-y-1", PasswordHash::blocked()));
        leave_out_users(&mut found, &names, &[namespace().name].into());
        assert_eq!(found.users.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), ["taskcluster-y-1"]);
        assert!(found.granted.is_empty() && found.queues.len() == 1);
    }
}
