//! What others do at the broker meanwhile: clients, and whoever breaks it.

use taskcluster_pulse::domain::inventory::BrokerConnection;
use taskcluster_pulse::domain::name::{Name, Permissions};
use taskcluster_pulse::secret::Password;

use super::schedule::{Broken, Schedule};
use super::state::{DELETE, Queue};
use super::step::Step;

/// A queue that looks like ours, of a namespace that nobody claimed.
const LOST: &str = "queue/taskcluster-lost/x";

impl Schedule {
    /// Somebody else does something at the broker.
    pub fn meddle(&mut self, step: &Step) {
        let state = self.state.clone();
        let state = &mut *state.lock().unwrap();
        match step {
            Step::Fill { queue, messages, exclusive } => {
                let Some(owner) = state.names.owner_of_queue(queue) else { return };
                if !state.broker.queues.contains_key(queue) && !state.has_clients(&owner) {
                    return;
                }
                let of = |user: &str| state.names.owner_of_user(user).map(|(name, _)| name);
                let mut theirs = state.broker.connections.values().filter(|c| of(&c.user).as_ref() == Some(&owner));
                let exclusive_to = theirs.next().filter(|_| *exclusive).map(|c| c.name.clone());
                let now = self.time.now();
                let declared = Queue { messages: 0, owner: exclusive_to, above: state.large.get(queue).copied() };
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
                    state.broker.connections.insert(name.clone(), BrokerConnection { name, user, connected });
                }
            }
            Step::Lost => {
                let queue = Queue { messages: DELETE + 1, owner: None, above: None };
                state.broker.queues.insert(LOST.to_owned(), queue);
            }
            Step::Wipe => {
                state.wipe();
                self.is_broken();
            }
            Step::Tamper(user) => {
                if let Some(found) = state.broker.users.get_mut(user) {
                    found.hash = Password::random().hash();
                    let permissions = Permissions { configure: ".*".into(), write: ".*".into(), read: ".*".into() };
                    state.broker.permissions.insert(user.clone(), permissions);
                    self.is_broken();
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
