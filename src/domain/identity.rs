//! Decides whether a user of the broker is ours. Users are global to a broker. Another deployment, or anybody else, may
//! have a user with a name that we use, so the name alone proves nothing. Therefore each deployment has a tag of its
//! own, which it gives to its users.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::inventory::{BrokerUser, Inventory};
use crate::domain::name::{Name, Names, Slot};
use crate::domain::namespace::Namespace;

/// The tag that version 1.0.0 gave to its users. Every deployment's tag begins with it. It means nothing to RabbitMQ.
pub const USER_TAG: &str = "taskcluster-pulse";

/// The tag of one deployment: `taskcluster-pulse-` and its id, as stored in its database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(String);

/// What the tags of a user say about who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It has the tag of this deployment.
    Ours,
    /// It has [`USER_TAG`] alone, as version 1.0.0 made it.
    Unnamed,
    /// Anything else.
    Foreign,
}

impl Tag {
    /// A tag from the store.
    pub fn from_stored(text: String) -> Tag {
        Tag(text)
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Who made a user with these tags. A user of ours stays ours if somebody gives it more tags.
    pub fn mark(&self, tags: &[String]) -> Mark {
        match tags {
            tags if tags.contains(&self.0) => Mark::Ours,
            [tag] if tag == USER_TAG => Mark::Unnamed,
            _ => Mark::Foreign,
        }
    }

    /// The tag of the deployment that made a user with these tags: another deployment, or one of version 1.0.0. `None`
    /// if this deployment made it, no deployment did, or the user has further tags.
    pub fn maker<'a>(&self, tags: &'a [String]) -> Option<&'a str> {
        let [tag] = tags else { return None };
        let rest = tag.strip_prefix(USER_TAG).filter(|_| *tag != self.0)?;
        (rest.is_empty() || rest.starts_with('-')).then_some(tag.as_str())
    }
}

/// Whether the store knows a user that version 1.0.0 tagged, by the record `namespace` that it holds under that name. A
/// new record proves nothing, unless the user has a password that nobody else can have.
pub fn is_known(namespace: &Namespace, slot: Slot, user: &BrokerUser) -> bool {
    let Namespace { rotation, gone, .. } = namespace;
    if gone.is_some() {
        // A tombstone of something that the store did not know never had a password in force.
        return !rotation.grace.is_zero();
    }
    let has_our_password =
        || rotation.password_of(slot).map_or(user.hash.is_blocked(), |password| user.hash.verifies(password));
    rotation.was_in_force() || namespace.came_back() || has_our_password()
}

/// Users that have names of ours and are somebody else's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Others {
    /// The users.
    pub users: BTreeSet<String>,
    /// The namespaces that they would belong to by their names.
    pub namespaces: BTreeSet<Name>,
    /// Those users that are in our way: their namespace is in the store, or they have permissions in our virtual host.
    pub in_our_way: BTreeSet<String>,
}

/// Removes from an inventory what is not ours: other people's users, their connections, and the queues and exchanges of
/// those namespaces in the store for which somebody else has a user. Returns those users.
pub fn leave_out_others(inventory: &mut Inventory, names: &Names, tag: &Tag, namespaces: &[Namespace]) -> Others {
    let namespaces: BTreeMap<_, _> = namespaces.iter().map(|found| (&found.name, found)).collect();
    let elsewhere: BTreeSet<_> = inventory.elsewhere.iter().map(|right| right.user.as_str()).collect();
    let here: BTreeSet<_> = inventory.permissions.iter().map(|granted| granted.user.as_str()).collect();
    let may = |user: &str| here.contains(user) || inventory.has_granted(user);
    let mut others = Others::default();
    for user in &inventory.users {
        let Some((name, slot)) = names.owner_of_user(&user.name) else { continue };
        let namespace = namespaces.get(&name);
        let ours = match tag.mark(&user.tags) {
            Mark::Ours => true,
            Mark::Unnamed => {
                !elsewhere.contains(user.name.as_str()) && namespace.is_some_and(|found| is_known(found, slot, user))
            }
            Mark::Foreign => false,
        };
        if !ours {
            if namespace.is_some() || may(&user.name) {
                others.in_our_way.insert(user.name.clone());
            }
            others.users.insert(user.name.clone());
            others.namespaces.insert(name);
        }
    }
    inventory.connections.retain(|connection| !others.users.contains(&connection.user));
    inventory.users.retain(|user| !others.users.contains(&user.name));
    let kept = |owner: Option<Name>| {
        owner.is_none_or(|name| !(others.namespaces.contains(&name) && namespaces.contains_key(&name)))
    };
    inventory.queues.retain(|queue| kept(names.owner_of_queue(&queue.name)));
    inventory.exchanges.retain(|exchange| kept(names.owner_of_exchange(exchange)));
    others
}

/// The report on users of others that are in our way.
pub fn report_others<'a>(users: impl Iterator<Item = &'a String>) -> Option<String> {
    const NAMED: usize = 20;
    let users: Vec<_> = users.map(String::as_str).collect();
    let (first, count) = (users.get(..NAMED).unwrap_or(&users).join(", "), users.len());
    let more = if count > NAMED { ", ..." } else { "" };
    (count > 0).then(|| {
        format!(
            "RabbitMQ's users under names of ours that are not tagged as ours are left alone ({count}): {first}{more}; if \
             they were made by a former deployment, see `take-over-users`"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::barred::Barred;
    use crate::domain::inventory::{BrokerConnection, BrokerPermissions, BrokerQueue, QueueKind, Right};
    use crate::domain::name::Permissions;
    use crate::domain::name_list::NameList;
    use crate::domain::namespace::{Gone, Version};
    use crate::domain::rotation::Rotation;
    use crate::secret::{Password, PasswordHash};

    fn tag() -> Tag {
        Tag::from_stored("taskcluster-pulse-a".into())
    }

    fn tags(tags: &[&str]) -> Vec<String> {
        tags.iter().map(|tag| (*tag).to_owned()).collect()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn new(password: &Password) -> Namespace {
        Namespace {
            name: Name::from_stored("taskcluster-x".into()),
            contact: String::new(),
            created: at(10),
            expires: at(100),
            rotation: Rotation::first(password.clone(), at(10)),
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
            version: Version(10_001),
        }
    }

    fn user(name: &str, with: &[&str], hash: PasswordHash) -> BrokerUser {
        BrokerUser { name: name.to_owned(), tags: tags(with).into(), hash }
    }

    #[test]
    fn a_user_is_ours_by_our_tag_whatever_else_it_has() {
        for (with, mark) in [
            (&["taskcluster-pulse-a"][..], Mark::Ours),
            (&["administrator", "taskcluster-pulse-a"], Mark::Ours),
            (&["taskcluster-pulse"], Mark::Unnamed),
            (&["taskcluster-pulse", "monitoring"], Mark::Foreign),
            (&["taskcluster-pulse-b"], Mark::Foreign),
            (&["taskcluster-pulse-ab"], Mark::Foreign),
            (&["administrator"], Mark::Foreign),
            (&[], Mark::Foreign),
        ] {
            assert_eq!(tag().mark(&tags(with)), mark, "{with:?}");
        }
    }

    #[test]
    fn only_a_user_of_a_deployment_alone_can_be_taken_over() {
        let maker = |with: &[&str]| tag().maker(&tags(with)).map(str::to_owned);
        assert_eq!(maker(&["taskcluster-pulse"]), Some("taskcluster-pulse".into()));
        assert_eq!(maker(&["taskcluster-pulse-b"]), Some("taskcluster-pulse-b".into()));
        for not in [&["taskcluster-pulse-a"][..], &["taskcluster-pulses"], &["taskcluster-pulse-b", "monitoring"], &[]]
        {
            assert_eq!(maker(not), None, "{not:?}");
        }
    }

    #[test]
    fn what_version_1_made_is_known_by_its_record_or_by_our_password() {
        let password = Password::random();
        let (ours, theirs) = (user("u", &[], password.hash()), user("u", &[], Password::random().hash()));
        let blocked = user("u", &[], PasswordHash::blocked());
        let new = new(&password);
        assert!(is_known(&new, Slot::One, &ours) && is_known(&new, Slot::Two, &blocked));
        assert!(!is_known(&new, Slot::One, &theirs) && !is_known(&new, Slot::Two, &theirs));
        let rotation = new.rotation.settle(at(10), Duration::from_secs(60));
        assert!(is_known(&Namespace { rotation, ..new.clone() }, Slot::One, &theirs), "it was claimed before");
        assert!(
            is_known(&Namespace { version: Version(5_007), ..new.clone() }, Slot::One, &theirs),
            "in its former life"
        );
        let buried = |rotation: Rotation| {
            let rotation = Rotation { active: None, previous: None, pending: None, ..rotation };
            Namespace { gone: Some(Gone { since: at(20), cleaning_until: None }), rotation, ..new.clone() }
        };
        assert!(is_known(&buried(new.rotation.settle(at(10), Duration::from_secs(60))), Slot::One, &theirs));
        assert!(!is_known(&buried(new.rotation.clone()), Slot::One, &theirs), "it never had a password in force");
    }

    #[test]
    fn what_is_somebody_elses_is_left_out_with_what_may_be_theirs() {
        let password = Password::random();
        let named = |name: &str| Namespace { name: Name::from_stored(name.into()), ..new(&password) };
        let settled = |name: &str| {
            let rotation = named(name).rotation.settle(at(10), Duration::from_secs(60));
            Namespace { rotation, ..named(name) }
        };
        let may = || Permissions { configure: String::new(), write: String::new(), read: String::new() };
        let users = [
            ("taskcluster-a-1", &["taskcluster-pulse-a"][..]),
            ("taskcluster-a-2", &["taskcluster-pulse"]),
            ("taskcluster-b-1", &["taskcluster-pulse-a"]),
            ("taskcluster-b-2", &["administrator"]),
            ("taskcluster-c-1", &["taskcluster-pulse"]),
            ("taskcluster-d-1", &["taskcluster-pulse-b"]),
            ("taskcluster-e-1", &["taskcluster-pulse-b"]),
            ("guest", &["administrator"]),
        ];
        let queue = |name: &str| BrokerQueue {
            unacked: None,
            fingerprint: 0,
            name: format!("queue/taskcluster-{name}/q"),
            messages: Some(1),
            kind: QueueKind::Classic,
            exclusive: false,
        };
        let connection = |user: &str| BrokerConnection {
            name: user.into(),
            user: user.into(),
            connected: None,
            address: String::new(),
            program: String::new(),
        };
        let right = Right { user: "taskcluster-c-1".into(), vhost: "/other".into(), topic: false };
        let mut seen = Inventory {
            users: users.iter().map(|(name, with)| user(name, with, PasswordHash::blocked())).collect(),
            granted: NameList::default(),
            permissions: vec![BrokerPermissions { user: "taskcluster-e-1".into(), permissions: may() }],
            elsewhere: vec![right],
            queues: ["a", "b", "e"].map(queue).into(),
            exchanges: Vec::new(),
            connections: ["taskcluster-a-1", "taskcluster-b-2", "taskcluster-z-1"].map(connection).into(),
        };
        let namespaces = ["taskcluster-a", "taskcluster-b", "taskcluster-c"].map(settled);
        let others = leave_out_others(&mut seen, &Names::new("taskcluster-", ""), &tag(), &namespaces);
        let in_our_way: Vec<_> = others.in_our_way.iter().map(String::as_str).collect();
        assert_eq!(in_our_way, ["taskcluster-b-2", "taskcluster-c-1", "taskcluster-e-1"]);
        assert!(others.users.contains("taskcluster-d-1") && others.users.len() == 4);
        let left: Vec<_> = seen.users.iter().map(|user| user.name.as_str()).collect();
        assert_eq!(left, ["taskcluster-a-1", "taskcluster-a-2", "taskcluster-b-1", "guest"]);
        let queues: Vec<_> = seen.queues.iter().map(|queue| queue.name.as_str()).collect();
        assert_eq!(queues, ["queue/taskcluster-a/q", "queue/taskcluster-e/q"]);
        assert_eq!(seen.connections, ["taskcluster-a-1", "taskcluster-z-1"].map(connection));
    }
}
