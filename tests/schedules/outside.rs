//! The outside in memory: the store, the broker and the mailbox of a schedule, and what is wrong in how they are used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use taskcluster_pulse::broker::{Broker, BrokerError, Put};
use taskcluster_pulse::clock::Timestamp;
use taskcluster_pulse::domain::alert::Alert;
use taskcluster_pulse::domain::hold::Vitals;
use taskcluster_pulse::domain::inventory::{BrokerConnection, BrokerPermissions, BrokerQueue, BrokerUser, QueueKind};
use taskcluster_pulse::domain::name::{Name, Names, Permissions, USER_TAG};
use taskcluster_pulse::domain::namespace::{Namespace, Version};
use taskcluster_pulse::domain::notice::Notice;
use taskcluster_pulse::notify::{Delivered, Notifier, NotifyError};
use taskcluster_pulse::secret::{Password, PasswordHash};
use taskcluster_pulse::store::{Change, Digest, Record, Select, Sighting, Store, StoreError, Summary, Write};

use super::gate::Line;

pub const ALERT: u64 = 10;
pub const DELETE: u64 = 20;
/// How long after its date a namespace is taken.
pub const DELAY: Duration = Duration::from_secs(3600);
/// How old a connection may get.
pub const OLDEST_CONNECTION: Duration = Duration::from_secs(72 * 3600);
/// How far the clocks of two processes may be apart where namespaces expire.
pub const APART: Duration = Duration::from_secs(20);

/// How long the delivery of a notice is tried.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// How long the broker may take to answer, and for a list.
const PATIENCE: Duration = Duration::from_secs(3);
const LISTING: Duration = Duration::from_secs(30);

pub struct Queue {
    pub messages: u64,
    pub owner: Option<String>,
    /// When it last had more messages than may be.
    pub above: Option<Timestamp>,
}

/// Everything outside the service.
pub struct State {
    pub names: Names,
    pub namespaces: BTreeMap<Name, Namespace>,
    pub alerts: BTreeMap<String, Alert>,
    pub notices: BTreeMap<String, Notice>,
    leases: BTreeMap<String, (String, Timestamp)>,
    pub users: BTreeMap<String, BrokerUser>,
    pub permissions: BTreeMap<String, Permissions>,
    pub queues: BTreeMap<String, Queue>,
    pub exchanges: BTreeSet<String>,
    pub connections: BTreeMap<String, BrokerConnection>,
    /// What was ever to be told, in the order in which it was stored.
    pub told: Vec<Notice>,
    /// The ids of what was delivered.
    pub delivered: Vec<String>,
    /// Queues of live namespaces that were deleted for their size, with how much was told before, and queues that went
    /// otherwise.
    pub deleted: Vec<(String, usize)>,
    pub vanished: Vec<String>,
    /// Namespaces that were marked as gone.
    pub buried: Vec<Name>,
    /// What is wrong.
    pub faults: Vec<String>,
}

impl State {
    pub fn new(names: Names) -> State {
        let mut state = State {
            names,
            namespaces: BTreeMap::new(),
            alerts: BTreeMap::new(),
            notices: BTreeMap::new(),
            leases: BTreeMap::new(),
            users: BTreeMap::new(),
            permissions: BTreeMap::new(),
            queues: BTreeMap::new(),
            exchanges: BTreeSet::from([String::new()]),
            connections: BTreeMap::new(),
            told: Vec::new(),
            delivered: Vec::new(),
            deleted: Vec::new(),
            vanished: Vec::new(),
            buried: Vec::new(),
            faults: Vec::new(),
        };
        for foreign in FOREIGN {
            let user = BrokerUser { name: (*foreign).into(), tags: vec![], hash: PasswordHash::blocked() };
            state.users.insert((*foreign).into(), user);
            state.queues.insert((*foreign).into(), Queue { messages: DELETE + 1, owner: None, above: None });
            state.exchanges.insert((*foreign).into());
            let connected = Some(Timestamp::from_millis(0));
            let connection = BrokerConnection { name: (*foreign).into(), user: (*foreign).into(), connected };
            state.connections.insert((*foreign).into(), connection);
        }
        state
    }

    /// The hash by which a client gets in; `None` where it does not. One by which it got in before is `known`.
    pub fn lets_in(&self, user: &str, password: &Password, known: Option<&PasswordHash>) -> Option<PasswordHash> {
        let found = &self.users.get(user).filter(|_| self.permissions.contains_key(user))?.hash;
        (Some(found) == known || found.verifies(password)).then(|| found.clone())
    }

    /// Whether a client of this namespace may be at work.
    pub fn has_clients(&self, name: &Name) -> bool {
        self.users.values().any(|user| {
            !user.hash.is_blocked() && self.names.owner_of_user(&user.name).is_some_and(|(owner, _)| owner == *name)
        })
    }

    /// What the broker holds of a namespace, by name.
    pub fn remains(&self, name: &Name) -> Vec<String> {
        let owner = |user: &str| self.names.owner_of_user(user).map(|(owner, _)| owner);
        let users = self.users.keys().filter(|user| owner(user).as_ref() == Some(name));
        let queues = self.queues.keys().filter(|queue| self.names.owner_of_queue(queue).as_ref() == Some(name));
        let exchanges = self.exchanges.iter().filter(|e| self.names.owner_of_exchange(e).as_ref() == Some(name));
        let connections = self.connections.values().filter(|c| owner(&c.user).as_ref() == Some(name));
        users.chain(queues).chain(exchanges).chain(connections.map(|c| &c.name)).cloned().collect()
    }

    /// Loses what is ours at the broker.
    pub fn wipe(&mut self) {
        let foreign = |name: &String| name.is_empty() || FOREIGN.contains(&name.as_str());
        self.vanished.extend(self.queues.keys().filter(|name| !foreign(name)).cloned());
        self.users.retain(|name, _| foreign(name));
        self.permissions.clear();
        self.queues.retain(|name, _| foreign(name));
        self.exchanges.retain(foreign);
        self.connections.retain(|name, _| foreign(name));
    }

    fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    fn require_gone(&mut self, owner: Option<Name>, what: &str, now: Timestamp) {
        match owner.map(|owner| self.namespaces.get(&owner)) {
            None => self.fault(format!("{what} was removed, which is not ours")),
            Some(Some(found)) if found.gone.is_some_and(|gone| gone.since <= now.plus(APART)) => {}
            Some(_) => self.fault(format!("{what} was removed, whose namespace is not gone")),
        }
    }

    fn remove_queue(&mut self, name: &str, now: Timestamp) {
        let Some(queue) = self.queues.remove(name) else { return };
        let Some(owner) = self.names.owner_of_queue(name) else {
            return self.fault(format!("the queue {name} was removed, which is not ours"));
        };
        let found = self.namespaces.get(&owner);
        if found.and_then(|found| found.gone).is_some_and(|gone| gone.since <= now.plus(APART)) {
            self.vanished.push(name.to_owned());
        } else if queue.above.is_some_and(|at| now.since(at) < Duration::from_secs(20)) {
            self.deleted.push((name.to_owned(), self.told.len()));
        } else {
            self.fault(format!("the queue {name} was removed, whose namespace is not gone and which is not too large"));
        }
    }

    fn close(&mut self, name: &str, now: Timestamp) {
        let Some(connection) = self.connections.remove(name) else { return };
        let owner = self.names.owner_of_user(&connection.user).map(|(owner, _)| owner);
        let old = connection.connected.is_some_and(|at| at.plus(OLDEST_CONNECTION) < now.plus(APART));
        let queues = self.queues.iter().filter(|(_, queue)| queue.owner.as_deref() == Some(name));
        let queues: Vec<String> = queues.map(|(name, _)| name.clone()).collect();
        if owner.is_none() {
            self.fault(format!("the connection {name} was closed, which is not ours"));
        }
        let mut cause = old;
        for queue in queues {
            let above = self.queues.remove(&queue).and_then(|queue| queue.above);
            if !old && above.is_some_and(|at| now.since(at) < Duration::from_secs(20)) {
                cause = true;
                self.deleted.push((queue, self.told.len()));
            } else {
                self.vanished.push(queue);
            }
        }
        if !cause {
            self.require_gone(owner, &format!("the connection {name}"), now);
        }
    }

    /// Writes one record over the version that it carries.
    fn write(&mut self, change: &Change, now: Timestamp) -> bool {
        let stored = |found: Option<Version>, version: Version| match found {
            None => version.is_new(),
            Some(found) => !version.is_new() && found == version,
        };
        let done = match &change.record {
            Record::Namespace(namespace) => {
                let found = self.namespaces.get(&namespace.name);
                let done = stored(found.map(|found| found.version), namespace.version);
                let early = namespace.gone.is_some()
                    && found.is_some_and(|found| found.gone.is_none() && found.expires.plus(DELAY) > now.plus(APART));
                if done && early {
                    self.fault(format!("{} was buried before its time", namespace.name));
                }
                if done && namespace.gone.is_some() {
                    self.buried.push(namespace.name.clone());
                }
                if done {
                    let written = Namespace { version: namespace.version.next(), ..namespace.clone() };
                    self.namespaces.insert(namespace.name.clone(), written);
                }
                done
            }
            Record::RemoveNamespace(name, version) => {
                let done = self.namespaces.get(name).is_some_and(|found| found.version == *version);
                if done {
                    self.namespaces.remove(name);
                    let remains = self.remains(name);
                    if !remains.is_empty() {
                        self.fault(format!("{name} was forgotten while the broker holds {remains:?}"));
                    }
                }
                done
            }
            Record::Alert(alert) => {
                let done = stored(self.alerts.get(&alert.queue).map(|found| found.version), alert.version);
                if done {
                    let written = Alert { version: alert.version.next(), ..alert.clone() };
                    self.alerts.insert(alert.queue.clone(), written);
                }
                done
            }
            Record::RemoveAlert(queue, version) => {
                let done = self.alerts.get(queue).is_some_and(|found| found.version == *version);
                if done {
                    self.alerts.remove(queue);
                }
                done
            }
        };
        for notice in change.notices.iter().filter(|_| done) {
            self.told.push(notice.clone());
            self.notices.insert(notice.id.clone(), notice.clone());
        }
        done
    }
}

/// Names of users, queues, exchanges and connections that are not ours.
pub const FOREIGN: &[&str] =
    &["guest", "taskcluster-a", "queue/other/x", "queue/taskcluster-a", "exchange/taskcluster-a", "taskcluster-a-3"];

/// How one operation reaches the outside.
#[derive(Clone)]
pub struct Outside {
    pub state: Arc<Mutex<State>>,
    pub line: Line,
}

impl Outside {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn store<T>(&self, call: &'static str, apply: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        let done = self.line.call(call, None, || apply(&mut self.state())).await;
        done.map_err(|call| StoreError::Unavailable(call.to_owned()))
    }

    async fn broker<T>(
        &self,
        call: &'static str,
        patience: Duration,
        apply: impl FnOnce(&mut State, Timestamp) -> T,
    ) -> Result<T, BrokerError> {
        let done = self.line.call(call, Some(patience), || apply(&mut self.state(), self.line.time.now())).await;
        done.map_err(|call| BrokerError::Unavailable(call.to_owned()))
    }
}

fn summary(found: &Namespace) -> Summary {
    Summary { name: found.name.clone(), contact: found.contact.clone(), created: found.created, expires: found.expires }
}

#[async_trait]
impl Store for Outside {
    async fn namespace(&self, name: &Name) -> Result<Option<Namespace>, StoreError> {
        self.store("read a namespace", |state| state.namespaces.get(name).cloned()).await
    }

    async fn summaries(&self, _: Option<&str>, _: u32) -> Result<Vec<Summary>, StoreError> {
        self.store("list namespaces", |state| {
            state.namespaces.values().filter(|n| n.gone.is_none()).map(summary).collect()
        })
        .await
    }

    async fn summary(&self, name: &Name) -> Result<Option<Summary>, StoreError> {
        self.store("show a namespace", |state| {
            state.namespaces.get(name).filter(|found| found.gone.is_none()).map(summary)
        })
        .await
    }

    async fn namespaces(&self, select: Select) -> Result<Vec<Namespace>, StoreError> {
        self.store("read namespaces", |state| {
            let wanted = |found: &&Namespace| match select {
                Select::All => true,
                // Nothing is sealed here.
                Select::Sealed => false,
                Select::Due { now, abandoned, .. } => {
                    let since = found.rotation.pending.as_ref().map(|pending| pending.since);
                    found.gone.is_none() && since.map_or(found.rotation.due <= now, |since| since <= abandoned)
                }
            };
            state.namespaces.values().filter(wanted).cloned().collect()
        })
        .await
    }

    async fn changed(&self, known: &[(Name, Version)]) -> Result<Vec<(Name, Option<Namespace>)>, StoreError> {
        self.store("read what changed", |state| {
            let found = known.iter().map(|(name, version)| (name, version, state.namespaces.get(name)));
            let changed = found.filter(|(_, version, found)| found.map(|found| found.version) != Some(**version));
            changed.map(|(name, _, found)| (name.clone(), found.cloned())).collect()
        })
        .await
    }

    async fn alerts(&self) -> Result<Vec<Alert>, StoreError> {
        self.store("read alerts", |state| state.alerts.values().cloned().collect()).await
    }

    async fn write(&self, changes: &[Change]) -> Result<Vec<Write>, StoreError> {
        self.store("write", |state| {
            let now = self.line.time.now();
            let write = |change| if state.write(change, now) { Write::Done } else { Write::Lost };
            changes.iter().map(write).collect()
        })
        .await
    }

    async fn take_notices(&self, now: Timestamp, retry: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError> {
        self.store("take notices", |state| {
            let due = state.notices.values_mut().filter(|notice| notice.due <= now).take(limit as usize);
            due.map(|notice| {
                notice.due = retry;
                notice.attempts += 1;
                notice.clone()
            })
            .collect()
        })
        .await
    }

    async fn postpone_notice(&self, id: &str, retry: Timestamp) -> Result<(), StoreError> {
        self.store("postpone a notice", |state| {
            if let Some(notice) = state.notices.get_mut(id) {
                notice.due = retry;
            }
        })
        .await
    }

    async fn remove_notice(&self, id: &str) -> Result<(), StoreError> {
        self.store("remove a notice", |state| {
            let known = state.notices.get(id).is_some_and(|notice| self.line.time.now().since(notice.created) < WEEK);
            if known && !state.delivered.iter().any(|delivered| delivered == id) {
                state.fault("a notice was removed that nobody got");
            }
            state.notices.remove(id);
        })
        .await
    }

    async fn lease(&self, task: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        self.store("lease", |state| {
            let taken = state.leases.get(task).is_some_and(|(by, until)| by != holder && *until > now);
            if !taken {
                state.leases.insert(task.to_owned(), (holder.to_owned(), until));
            }
            !taken
        })
        .await
    }

    async fn release(&self, task: &str, holder: &str) -> Result<(), StoreError> {
        self.store("release", |state| {
            if state.leases.get(task).is_some_and(|(by, _)| by == holder) {
                state.leases.remove(task);
            }
        })
        .await
    }

    async fn beat(&self, _: Timestamp, _: Duration) -> Result<Timestamp, StoreError> {
        Ok(self.line.time.now())
    }

    async fn vitals(&self, _: Timestamp) -> Result<Vitals, StoreError> {
        Ok(Vitals { now: self.line.time.now(), heartbeat: None })
    }

    async fn sight(&self, _: &Digest, sighting: Sighting, _: Timestamp) -> Result<Sighting, StoreError> {
        Ok(sighting)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl Broker for Outside {
    async fn put_user(&self, user: &str, hash: &PasswordHash) -> Result<Put, BrokerError> {
        self.broker("put a user", PATIENCE, |state, _| {
            let put = BrokerUser { name: user.to_owned(), tags: vec![USER_TAG.to_owned()], hash: hash.clone() };
            if state.users.insert(user.to_owned(), put).is_some() { Put::Known } else { Put::PerhapsNew }
        })
        .await
    }

    async fn put_permissions(&self, user: &str, permissions: &Permissions) -> Result<(), BrokerError> {
        self.broker("put permissions", PATIENCE, |state, _| {
            if !state.users.contains_key(user) {
                return Err(BrokerError::Refused("no such user".into()));
            }
            state.permissions.insert(user.to_owned(), permissions.clone());
            Ok(())
        })
        .await?
    }

    async fn delete_user(&self, user: &str) -> Result<(), BrokerError> {
        self.broker("delete a user", PATIENCE, |state, now| {
            if state.users.remove(user).is_some() {
                let owner = state.names.owner_of_user(user).map(|(owner, _)| owner);
                state.require_gone(owner, &format!("the user {user}"), now);
            }
            state.permissions.remove(user);
            let theirs: Vec<_> =
                state.connections.values().filter(|c| c.user == user).map(|c| c.name.clone()).collect();
            theirs.iter().for_each(|name| state.close(name, now));
        })
        .await
    }

    async fn users(&self) -> Result<Vec<BrokerUser>, BrokerError> {
        self.broker("list users", LISTING, |state, _| state.users.values().cloned().collect()).await
    }

    async fn permissions(&self) -> Result<Vec<BrokerPermissions>, BrokerError> {
        self.broker("list permissions", LISTING, |state, _| {
            let given = |(user, permissions): (&String, &Permissions)| BrokerPermissions {
                user: user.clone(),
                permissions: permissions.clone(),
            };
            state.permissions.iter().map(given).collect()
        })
        .await
    }

    async fn queues(&self) -> Result<Vec<BrokerQueue>, BrokerError> {
        self.broker("list queues", LISTING, |state, _| state.queues.iter().map(seen).collect()).await
    }

    async fn queue(&self, queue: &str) -> Result<Option<BrokerQueue>, BrokerError> {
        self.broker("look at a queue", PATIENCE, |state, _| state.queues.get_key_value(queue).map(seen)).await
    }

    async fn queue_owner(&self, queue: &str) -> Result<Option<String>, BrokerError> {
        self.broker("ask for a queue's owner", PATIENCE, |state, _| {
            state.queues.get(queue).and_then(|found| found.owner.clone())
        })
        .await
    }

    async fn exchanges(&self) -> Result<Vec<String>, BrokerError> {
        self.broker("list exchanges", LISTING, |state, _| state.exchanges.iter().cloned().collect()).await
    }

    async fn connections(&self) -> Result<Vec<BrokerConnection>, BrokerError> {
        self.broker("list connections", LISTING, |state, _| state.connections.values().cloned().collect()).await
    }

    async fn connections_of(&self, user: &str) -> Result<Vec<BrokerConnection>, BrokerError> {
        self.broker("list a user's connections", PATIENCE, |state, _| {
            state.connections.values().filter(|c| c.user == user).cloned().collect()
        })
        .await
    }

    async fn delete_queue(&self, queue: &str) -> Result<(), BrokerError> {
        self.broker("delete a queue", PATIENCE, |state, now| {
            if state.queues.get(queue).is_some_and(|found| found.owner.is_some()) {
                return Err(BrokerError::Refused("it is exclusive".into()));
            }
            state.remove_queue(queue, now);
            Ok(())
        })
        .await?
    }

    async fn delete_exchange(&self, exchange: &str) -> Result<(), BrokerError> {
        self.broker("delete an exchange", PATIENCE, |state, now| {
            if state.exchanges.remove(exchange) {
                state.require_gone(state.names.owner_of_exchange(exchange), &format!("the exchange {exchange}"), now);
            }
        })
        .await
    }

    async fn close_connection(&self, connection: &str, _: &str) -> Result<(), BrokerError> {
        self.broker("close a connection", PATIENCE, |state, now| state.close(connection, now)).await
    }

    async fn close_connections_of(&self, user: &str, _: &str) -> Result<(), BrokerError> {
        self.broker("close a user's connections", PATIENCE, |state, now| {
            let theirs: Vec<_> =
                state.connections.values().filter(|c| c.user == user).map(|c| c.name.clone()).collect();
            theirs.iter().for_each(|name| state.close(name, now));
        })
        .await
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.broker("ping", PATIENCE, |_, _| ()).await
    }
}

fn seen((name, queue): (&String, &Queue)) -> BrokerQueue {
    let (messages, exclusive) = (Some(queue.messages), queue.owner.is_some());
    BrokerQueue { name: name.clone(), messages, kind: QueueKind::Classic, exclusive }
}

#[async_trait]
impl Notifier for Outside {
    async fn deliver(&self, notice: &Notice) -> Result<Delivered, NotifyError> {
        let sent = self.line.call("send a mail", None, || self.state().delivered.push(notice.id.clone())).await;
        sent.map(|()| Delivered::Sent).map_err(|call| NotifyError::Temporary(call.to_owned()))
    }
}
