//! What others do at the broker meanwhile: clients, and whoever breaks it.

use taskcluster_pulse::clock::Timestamp;
use taskcluster_pulse::domain::barred::Barred;
use taskcluster_pulse::domain::identity::USER_TAG;
use taskcluster_pulse::domain::inventory::{BrokerConnection, BrokerUser};
use taskcluster_pulse::domain::name::{Name, Permissions};
use taskcluster_pulse::domain::namespace::{Namespace, Version};
use taskcluster_pulse::domain::rotation::Rotation;
use taskcluster_pulse::secret::{Password, PasswordHash};

use super::schedule::{BEGIN, Broken, HOUR, Schedule};
use super::state::{ADOPTED, DELETE, Queue, TAG};
use super::step::Step;

/// A queue that looks like ours, of a namespace that nobody claimed.
const LOST: &str = "queue/taskcluster-lost/x";

/// How many namespaces a client has that has many: more than one run may end of one client's.
const CROWD: usize = 5;

/// One of many namespaces of one client.
fn crowded(name: Name, expires: i64, now: Timestamp) -> Namespace {
    Namespace {
        name,
        contact: String::new(),
        created: now,
        expires: Timestamp::from_millis(BEGIN + expires),
        rotation: Rotation::first(Password::random(), now).settle(now, HOUR),
        gone: None,
        warned: None,
        claimed_by: Some("crowd".to_owned()),
        owners: Vec::new(),
        exemptions: Vec::new(),
        requests: Vec::new(),
        barred: Barred::default(),
        account: None,
        end_asked: None,
        matures: None,
        version: Version(1),
    }
}

impl Schedule {
    /// Somebody else does something at the broker.
    pub fn meddle(&mut self, step: &Step) {
        let state = self.state.clone();
        let (state, now) = (&mut *state.lock().unwrap(), self.time.now());
        match step {
            Step::Fill { queue, messages, exclusive } => {
                let Some(owner) = state.names.owner_of_queue(queue) else { return };
                if !state.broker.queues.contains_key(queue) && !state.has_clients(&owner) {
                    return;
                }
                let of = |user: &str| state.names.owner_of_user(user).map(|(name, _)| name);
                let mut theirs = state.broker.connections.values().filter(|c| of(&c.user).as_ref() == Some(&owner));
                let exclusive_to = theirs.next().filter(|_| *exclusive).map(|c| c.name.clone());
                state.births += 1;
                let born = state.births;
                let declared = Queue { messages: 0, owner: exclusive_to, above: state.large.get(queue).copied(), born };
                let found = state.broker.queues.entry(queue.clone()).or_insert(declared);
                if *messages > DELETE || found.messages > DELETE {
                    found.above = Some(now);
                }
                found.messages = *messages;
            }
            Step::Drop(queue) => {
                if let Some((name, dropped)) = state.broker.queues.remove_entry(queue) {
                    // Whoever looked at it may delete its successor.
                    state.large.extend(dropped.above.map(|at| (name.clone(), at)));
                    state.vanished.push(name);
                }
            }
            Step::Declare(exchange) => {
                let owner = state.names.owner_of_exchange(exchange);
                let declared = owner.is_some_and(|owner| state.has_clients(&owner)).then(|| exchange.clone());
                state.broker.exchanges.extend(declared);
            }
            Step::Connect(name) => {
                let name = Name::from_stored(name.clone());
                let works = |user: &str, password: &Password| state.lets_in(user, password, None).is_some();
                let mut handed = self.handed.iter().rev().filter(|handed| handed.name == name);
                if let Some(handed) = handed.find(|handed| works(&handed.user, &handed.password)) {
                    let (name, user) = (format!("connection {}", self.steps.len()), handed.user.clone());
                    let connected = Some(self.time.now());
                    state.broker.connections.insert(
                        name.clone(),
                        BrokerConnection { name, user, connected, address: "10.0.0.9".into(), program: String::new() },
                    );
                }
            }
            Step::Abandon => {
                state.abandoned = true;
                state.broker.connections.remove(ADOPTED);
            }
            // Those who could declare it anew are cut off before it is removed.
            Step::Lost if state.store.namespaces.keys().any(|name| LOST.contains(name.as_str())) => {}
            Step::Lost => {
                let queue = Queue { messages: DELETE + 1, owner: None, above: None, born: 0 };
                state.broker.queues.insert(LOST.to_owned(), queue);
            }
            Step::Crowd(expires) => {
                for number in 0..CROWD {
                    let name = Name::from_stored(format!("taskcluster-crowd-{number}"));
                    state.store.namespaces.entry(name.clone()).or_insert_with(|| crowded(name, *expires, now));
                }
                state.lived = true;
                // Its users are not there yet.
                self.is_broken();
            }
            Step::Wipe => {
                state.wipe();
                self.is_broken();
            }
            Step::Tamper(user) => {
                if let Some(found) = state.broker.users.get_mut(user).filter(|_| !state.intruders.contains_key(user)) {
                    found.hash = Password::random().hash();
                    let permissions = Permissions { configure: ".*".into(), write: ".*".into(), read: ".*".into() };
                    state.broker.permissions.insert(user.clone(), permissions);
                    self.is_broken();
                }
            }
            Step::Intrude(user) => {
                state.intrude(user, self.time.now());
                self.is_broken();
            }
            Step::Leave(user) if state.intruders.contains_key(user) => {
                state.remove_user(user);
                self.is_broken();
            }
            Step::Untag(user) => {
                let owner = state.names.owner_of_user(user);
                let stored = owner.and_then(|(name, slot)| Some((state.store.namespaces.get(&name)?, slot)));
                let Some((namespace, slot)) = stored.filter(|(found, _)| found.rotation.active.is_some()) else {
                    return;
                };
                let good = |hash: &PasswordHash| match namespace.rotation.password_of(slot) {
                    Some(password) => hash.verifies(password),
                    None => hash.is_blocked(),
                };
                let ours = |found: &&mut BrokerUser| *found.tags == [TAG] && good(&found.hash);
                if let Some(found) = state.broker.users.get_mut(user).filter(ours) {
                    found.tags = [USER_TAG.to_owned()].into();
                }
            }
            _ => {}
        }
    }

    fn is_broken(&mut self) {
        let repaired_by = self.running.is_empty().then_some(self.next);
        self.broken = Some(Broken { before: self.next, repaired_by });
    }
}
