//! Everything outside the service, in memory, and what is wrong in how it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use taskcluster_pulse::clock::Timestamp;
use taskcluster_pulse::domain::alert::Alert;
use taskcluster_pulse::domain::inventory::{BrokerConnection, BrokerUser};
use taskcluster_pulse::domain::name::{Name, Names, Permissions};
use taskcluster_pulse::domain::namespace::{Namespace, Version};
use taskcluster_pulse::domain::notice::Notice;
use taskcluster_pulse::secret::{Password, PasswordHash};
use taskcluster_pulse::store::{Change, Record};

pub const ALERT: u64 = 10;
pub const DELETE: u64 = 20;
/// How long after its date a namespace is taken.
pub const DELAY: Duration = Duration::from_secs(3600);
/// How old a connection may get.
pub const OLDEST_CONNECTION: Duration = Duration::from_secs(72 * 3600);
/// How long after an owner was told of a queue it is told again.
pub const REMINDER: Duration = Duration::from_secs(86_400);
/// How far the clocks of two processes may be apart where namespaces expire.
pub const APART: Duration = Duration::from_secs(20);

/// How long the delivery of a notice is tried.
pub const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// How long after it was taken a notice may be sent.
const TAKEN: Duration = Duration::from_secs(20 * 60);

#[derive(Clone)]
pub struct Queue {
    pub messages: u64,
    pub owner: Option<String>,
    /// When it last had more messages than may be.
    pub above: Option<Timestamp>,
}

/// What the broker holds.
#[derive(Clone, Default)]
pub struct Held {
    pub users: BTreeMap<String, BrokerUser>,
    pub permissions: BTreeMap<String, Permissions>,
    pub queues: BTreeMap<String, Queue>,
    pub exchanges: BTreeSet<String>,
    pub connections: BTreeMap<String, BrokerConnection>,
}

/// What the store holds of namespaces and alerts.
#[derive(Clone, Default)]
pub struct Records {
    pub namespaces: BTreeMap<Name, Namespace>,
    pub alerts: BTreeMap<String, Alert>,
}

/// Everything outside the service.
pub struct State {
    pub names: Names,
    pub store: Records,
    /// In the order in which they were stored.
    pub notices: Vec<Notice>,
    pub leases: BTreeMap<String, (String, Timestamp)>,
    pub broker: Held,
    /// What the broker held before time last moved, and when that was.
    pub earlier: (Held, Timestamp),
    /// Whether what the store does not know may be marked as gone.
    pub orphans: bool,
    /// When the owner of a queue was last warned of it, for as long as there is a record of that.
    pub warned: BTreeMap<String, Timestamp>,
    /// What the broker is told later, by operation, and what an operation saw of the store at first, where such faults
    /// are planted.
    pub deferred: Vec<(usize, BrokerUser)>,
    pub first_seen: BTreeMap<usize, Records>,
    /// When queues that were deleted for their size last had more messages than may be. Whoever looked at one then may
    /// delete its successor, too.
    pub large: BTreeMap<String, Timestamp>,
    /// Whether one sweep began while another one may have been at work still.
    pub overlap: bool,
    /// Whether the store ever knew a live namespace.
    pub lived: bool,
    /// What was ever to be told, in the order in which it was stored.
    pub told: Vec<Notice>,
    /// The ids of what was delivered.
    pub delivered: Vec<String>,
    /// The ids of what was taken from the store after it was delivered.
    pub removed: Vec<String>,
    /// When an operation took a notice that was not removed then.
    pub taken: BTreeMap<(usize, String), Timestamp>,
    /// Queues of live namespaces that were deleted for their size, with how much was told before, and queues that went
    /// otherwise.
    pub deleted: Vec<(String, usize)>,
    pub vanished: Vec<String>,
    /// Namespaces that were marked as gone.
    pub buried: Vec<Name>,
    /// Operations that were given a list which was not as it should have been.
    pub misled: BTreeSet<usize>,
    /// Whether an operation had an answer to the last that it asked the store.
    pub heard: BTreeMap<usize, bool>,
    /// What is wrong.
    pub faults: Vec<String>,
}

impl State {
    pub fn new(names: Names, orphans: bool) -> State {
        let mut broker = Held { exchanges: BTreeSet::from([String::new()]), ..Held::default() };
        for foreign in FOREIGN.iter().map(|name| (*name).to_owned()) {
            let user = BrokerUser { name: foreign.clone(), tags: vec![], hash: PasswordHash::blocked() };
            broker.users.insert(foreign.clone(), user);
            broker.queues.insert(foreign.clone(), Queue { messages: DELETE + 1, owner: None, above: None });
            broker.exchanges.insert(foreign.clone());
            let connected = Some(Timestamp::from_millis(0));
            let connection = BrokerConnection { name: foreign.clone(), user: foreign.clone(), connected };
            broker.connections.insert(foreign, connection);
        }
        State {
            names,
            orphans,
            broker,
            earlier: (Held::default(), Timestamp::from_millis(0)),
            warned: BTreeMap::new(),
            deferred: Vec::new(),
            first_seen: BTreeMap::new(),
            large: BTreeMap::new(),
            overlap: false,
            lived: false,
            store: Records::default(),
            notices: Vec::new(),
            leases: BTreeMap::new(),
            told: Vec::new(),
            delivered: Vec::new(),
            removed: Vec::new(),
            taken: BTreeMap::new(),
            deleted: Vec::new(),
            vanished: Vec::new(),
            buried: Vec::new(),
            misled: BTreeSet::new(),
            heard: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    /// The hash by which a client gets in; `None` where it does not. One by which it got in before is `known`.
    pub fn lets_in(&self, user: &str, password: &Password, known: Option<&PasswordHash>) -> Option<PasswordHash> {
        let found = &self.broker.users.get(user).filter(|_| self.broker.permissions.contains_key(user))?.hash;
        (Some(found) == known || found.verifies(password)).then(|| found.clone())
    }

    /// Whether a client of this namespace may be at work.
    pub fn has_clients(&self, name: &Name) -> bool {
        self.broker.users.values().any(|user| {
            !user.hash.is_blocked() && self.names.owner_of_user(&user.name).is_some_and(|(owner, _)| owner == *name)
        })
    }

    /// What the broker holds of a namespace, by name.
    pub fn remains(&self, name: &Name) -> Vec<String> {
        let owner = |user: &str| self.names.owner_of_user(user).map(|(owner, _)| owner);
        let users = self.broker.users.keys().filter(|user| owner(user).as_ref() == Some(name));
        let queues = self.broker.queues.keys().filter(|queue| self.names.owner_of_queue(queue).as_ref() == Some(name));
        let exchanges = self.broker.exchanges.iter().filter(|e| self.names.owner_of_exchange(e).as_ref() == Some(name));
        let connections = self.broker.connections.values().filter(|c| owner(&c.user).as_ref() == Some(name));
        users.chain(queues).chain(exchanges).chain(connections.map(|c| &c.name)).cloned().collect()
    }

    /// Loses what is ours at the broker.
    pub fn wipe(&mut self) {
        let foreign = |name: &String| name.is_empty() || FOREIGN.contains(&name.as_str());
        self.vanished.extend(self.broker.queues.keys().filter(|name| !foreign(name)).cloned());
        self.broker.users.retain(|name, _| foreign(name));
        self.broker.permissions.clear();
        self.broker.queues.retain(|name, _| foreign(name));
        self.broker.exchanges.retain(foreign);
        self.broker.connections.retain(|name, _| foreign(name));
    }

    pub fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    pub fn require_gone(&mut self, owner: Option<Name>, what: &str, now: Timestamp) {
        match owner.map(|owner| self.store.namespaces.get(&owner)) {
            None => self.fault(format!("{what} was removed, which is not ours")),
            Some(Some(found)) if found.gone.is_some_and(|gone| gone.since <= now.plus(APART)) => {}
            Some(_) => self.fault(format!("{what} was removed, whose namespace is not gone")),
        }
    }

    pub fn remove_queue(&mut self, name: &str, now: Timestamp) {
        let Some(queue) = self.broker.queues.remove(name) else { return };
        let Some(owner) = self.names.owner_of_queue(name) else {
            return self.fault(format!("the queue {name} was removed, which is not ours"));
        };
        let found = self.store.namespaces.get(&owner);
        if found.and_then(|found| found.gone).is_some_and(|gone| gone.since <= now.plus(APART)) {
            self.vanished.push(name.to_owned());
        } else if found.is_some() && queue.above.is_some_and(|at| now.since(at) < Duration::from_secs(20)) {
            self.deleted.push((name.to_owned(), self.told.len()));
            self.large.extend(queue.above.map(|at| (name.to_owned(), at)));
        } else {
            self.fault(format!("the queue {name} was removed, whose namespace is not gone and which is not too large"));
        }
    }

    pub fn close(&mut self, name: &str, now: Timestamp) {
        let Some(connection) = self.broker.connections.remove(name) else { return };
        let owner = self.names.owner_of_user(&connection.user).map(|(owner, _)| owner);
        let old = connection.connected.is_some_and(|at| at.plus(OLDEST_CONNECTION) < now.plus(APART));
        let queues = self.broker.queues.iter().filter(|(_, queue)| queue.owner.as_deref() == Some(name));
        let queues: Vec<String> = queues.map(|(name, _)| name.clone()).collect();
        if owner.is_none() {
            self.fault(format!("the connection {name} was closed, which is not ours"));
        }
        // One from before its namespace was revived: whoever still saw it gone may close it.
        let before = |found: &Namespace| connection.connected.is_some_and(|at| at < found.created);
        let revived = owner.as_ref().and_then(|owner| self.store.namespaces.get(owner)).is_some_and(before);
        let mut cause = old || revived;
        for queue in queues {
            let above = self.broker.queues.remove(&queue).and_then(|queue| queue.above);
            if !old && above.is_some_and(|at| now.since(at) < Duration::from_secs(20)) {
                cause = true;
                self.large.extend(above.map(|at| (queue.clone(), at)));
                self.deleted.push((queue, self.told.len()));
            } else {
                self.vanished.push(queue);
            }
        }
        if !cause {
            self.require_gone(owner, &format!("the connection {name}"), now);
        }
    }

    pub fn close_all_of(&mut self, user: &str, now: Timestamp) {
        let theirs = self.broker.connections.values().filter(|c| c.user == user);
        let theirs: Vec<_> = theirs.map(|c| c.name.clone()).collect();
        theirs.iter().for_each(|name| self.close(name, now));
    }

    /// Notes that somebody got a mail from this operation.
    pub fn deliver(&mut self, op: usize, id: &str, now: Timestamp) {
        if !self.told.iter().any(|notice| notice.id == id) {
            self.fault("a mail tells of something that was not stored");
        }
        // Whoever stood still after sending removes it when another one has taken it to send it, too; but that one is quick.
        let taken = self.taken.get(&(op, id.to_owned())).filter(|at| now.since(**at) < TAKEN);
        if self.removed.iter().any(|removed| removed == id) && taken.is_none() {
            self.fault("a mail was sent again");
        }
        self.delivered.push(id.to_owned());
    }

    /// Writes one record over the version that it carries; where it is `forced`, over any.
    pub fn write(&mut self, change: &Change, forced: bool, now: Timestamp) -> bool {
        let stored = |found: Option<Version>, version: Version| match found {
            None => version.is_new(),
            Some(found) => forced || (!version.is_new() && found == version),
        };
        let done = match &change.record {
            Record::Namespace(namespace) => {
                let found = self.store.namespaces.get(&namespace.name);
                let before = found.map(|found| found.version);
                let done = stored(before, namespace.version);
                let unknown = found.is_none() && namespace.gone.is_some();
                let early = namespace.gone.is_some()
                    && found.is_some_and(|found| found.gone.is_none() && found.expires.plus(DELAY) > now.plus(APART));
                if done && early {
                    self.fault(format!("{} was buried before its time", namespace.name));
                }
                if done && unknown && !(self.orphans && self.lived) {
                    self.fault(format!("{} is to be removed because the store does not know it", namespace.name));
                }
                self.lived |= done && namespace.gone.is_none();
                if done && namespace.gone.is_some() {
                    self.buried.push(namespace.name.clone());
                }
                if done {
                    let version = before.unwrap_or(namespace.version).next();
                    let written = Namespace { version, ..namespace.clone() };
                    self.store.namespaces.insert(namespace.name.clone(), written);
                }
                done
            }
            Record::RemoveNamespace(name, version) => {
                let done = self.store.namespaces.get(name).is_some_and(|found| found.version == *version);
                if done {
                    self.store.namespaces.remove(name);
                    let remains = self.remains(name);
                    if !remains.is_empty() {
                        self.fault(format!("{name} was forgotten while the broker holds {remains:?}"));
                    }
                }
                done
            }
            Record::Alert(alert) => {
                let done = stored(self.store.alerts.get(&alert.queue).map(|found| found.version), alert.version);
                if done {
                    let version = self.store.alerts.get(&alert.queue).map_or(alert.version, |found| found.version);
                    let written = Alert { version: version.next(), ..alert.clone() };
                    self.store.alerts.insert(alert.queue.clone(), written);
                }
                done
            }
            Record::RemoveAlert(queue, version) => {
                let done = self.store.alerts.get(queue).is_some_and(|found| found.version == *version);
                if done {
                    self.store.alerts.remove(queue);
                    self.warned.remove(queue);
                }
                done
            }
        };
        for notice in change.notices.iter().filter(|_| done) {
            if let Record::Alert(alert) = &change.record
                && notice.subject.contains(" and is deleted above ")
                && let Some(before) = self.warned.insert(alert.queue.clone(), now)
                && now.since(before) < REMINDER / 2
            {
                self.fault(format!("told again: {}", notice.subject));
            }
            self.told.push(notice.clone());
            self.notices.push(notice.clone());
        }
        done
    }
}

/// Names of users, queues, exchanges and connections that are not ours.
pub const FOREIGN: &[&str] = &[
    "guest",
    "taskcluster-a",
    "queue/other/x",
    "queue/taskcluster-a",
    "exchange/taskcluster-a",
    "taskcluster-a-3",
    "other-1",
];
