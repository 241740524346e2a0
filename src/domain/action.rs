//! Actions: what a run may do. There are three kinds, by where they are done: a kind says in which order, and whoever applies
//! a kind matches each action of it, so that none is planned and never done.

use std::collections::BTreeSet;
use std::fmt;

use crate::domain::inventory::{Noted, OperatorPolicy, Right, UserLimit};
use crate::domain::name::{Name, Slot};
use crate::domain::namespace::Namespace;
use crate::domain::notice::Event;
use crate::domain::snapshot::Remains;
use crate::domain::watched::Watched;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write a record, which is all.
    Store(Entry),
    /// Do something at the broker, which needs no record of it first.
    Broker(Operation),
    /// Change a limit that the broker keeps by itself: before all others, and what is noted first.
    Limit(Limit),
    /// Store the intention with what is remembered of a queue, then do it at the broker, and tell when it shows that it is done.
    Remove(Watched, Removal),
}

/// What is written, and whom it tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// What is remembered of a queue; nobody is told.
    Remember(Watched),
    /// What is remembered of a queue; its owner is told.
    Tell(Watched, Box<Event>),
    /// Nothing is remembered of a queue any more, because nothing is the matter with it; its owner is told where it was told
    /// before.
    Forget(Watched, Option<Box<Event>>),
    /// The tombstone of a namespace that has expired. Its owner is told if it was warned before.
    Bury(Namespace, Option<Box<Event>>),
    /// At which served time the namespace ends, which nobody noted.
    Mature(Namespace),
    /// That the owner of the namespace is told of its coming end.
    WarnOfExpiry(Namespace, Box<Event>),
    /// A tombstone for a namespace of which the broker holds something and the store knows nothing.
    BuryOrphan(Namespace),
    /// The tombstone goes of a namespace of which the broker holds nothing any more.
    ForgetNamespace(Namespace),
    /// What was seen of an account, or follows from that. Its owners are told where they are to be.
    Account(Box<Namespace>, AccountStep, Option<Box<Event>>),
}

/// What is written of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountStep {
    /// Whether it is used.
    Seen,
    /// That its owners are told of its end.
    WarnOfEnd,
    /// That its owners are told who still uses the user that they have moved on from.
    TellOfUse,
    /// That this user is to be deleted.
    Retire,
}

/// What is done at the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Make one of a namespace's users as the store says.
    Repair(Name, Slot, Repair),
    /// The queue is not in the listing. If it is really gone, forget it, and tell its owner if we were removing it.
    LookFor(Watched),
    /// Close a connection.
    CloseConnection {
        /// Its name.
        connection: String,
        /// The user that logged in.
        user: String,
    },
    /// Delete what the broker holds of a namespace that is gone.
    Clean(Box<Namespace>, Remains),
    /// Have earlier credentials of a namespace refused, and close the connections that they made, as somebody asked for.
    CutOff(Box<Namespace>),
    /// Delete the user that an account was made of.
    Retire(Name),
}

/// What is wrong with a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// It is given the password and the tag that the store says, and its permissions.
    User,
    /// It is given its permissions.
    Permissions,
    /// These rights, which it should not have, are taken from it.
    Rights(Vec<Right>),
}

/// What is removed for the sake of a queue's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The queue.
    Delete {
        /// Whether an earlier run stored that it would delete the queue, and did not tell that it is gone.
        tried: bool,
    },
    /// Its messages.
    Purge,
    /// The connection that holds the most of its messages.
    CloseHoarder {
        /// Whether its user may open none until somebody acts.
        keep_out: bool,
    },
}

impl From<Entry> for Action {
    fn from(entry: Entry) -> Action {
        Action::Store(entry)
    }
}

/// What is changed of the limits that the broker keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit {
    /// Note at the broker which limits of users are ours.
    Note(Noted),
    /// Let a user have at most so many; `None` for any number.
    User {
        /// The namespace that it belongs to.
        name: Name,
        /// Which of its two users.
        slot: Slot,
        /// Of what.
        limit: UserLimit,
        /// How many.
        most: Option<u64>,
    },
    /// Set the operator policy that limits queues.
    Queues(OperatorPolicy),
    /// Remove the operator policy of this name, which is ours.
    NoQueues(String),
}

impl From<Operation> for Action {
    fn from(operation: Operation) -> Action {
        Action::Broker(operation)
    }
}

impl Action {
    /// How many things at the broker it removes, or marks for removal.
    pub fn removals(&self) -> usize {
        match self {
            Action::Store(entry) => match entry {
                Entry::Bury(..) | Entry::BuryOrphan(_) => 1,
                Entry::Remember(_) | Entry::Tell(..) | Entry::Forget(..) => 0,
                Entry::Mature(_) | Entry::WarnOfExpiry(..) | Entry::ForgetNamespace(_) => 0,
                Entry::Account(_, AccountStep::Retire, _) => 1,
                Entry::Account(..) => 0,
            },
            Action::Broker(operation) => match operation {
                Operation::Repair(..) | Operation::LookFor(_) | Operation::CutOff(_) => 0,
                Operation::CloseConnection { .. } => 1,
                // It was counted when that was decided.
                Operation::Retire(_) => 0,
                Operation::Clean(_, remains) => remains.count(),
            },
            Action::Limit(_) => 0,
            Action::Remove(..) => 1,
        }
    }

    /// The verb, for tables and logs.
    pub fn verb(&self) -> &'static str {
        match self {
            Action::Store(entry) => match entry {
                Entry::Remember(_) => "remember",
                Entry::Tell(..) => "warn of queue",
                Entry::Forget(..) => "queue is normal",
                Entry::Bury(..) => "expire namespace",
                Entry::Mature(_) => "put off the end of namespace",
                Entry::WarnOfExpiry(..) => "warn of expiry",
                Entry::BuryOrphan(_) => "expire unknown namespace",
                Entry::ForgetNamespace(_) => "forget namespace",
                Entry::Account(_, step, _) => match step {
                    AccountStep::Seen => "note the use of account",
                    AccountStep::WarnOfEnd => "warn of the end of account",
                    AccountStep::TellOfUse => "tell who uses the user",
                    AccountStep::Retire => "retire the user",
                },
            },
            Action::Broker(operation) => match operation {
                Operation::Repair(_, _, Repair::User) => "repair user",
                Operation::Repair(_, _, Repair::Permissions) => "repair permissions",
                Operation::Repair(_, _, Repair::Rights(_)) => "revoke rights",
                Operation::LookFor(_) => "look for queue",
                Operation::CloseConnection { .. } => "close connection",
                Operation::Clean(..) => "clean up",
                Operation::CutOff(_) => "revoke credentials",
                Operation::Retire(_) => "delete the retired user",
            },
            Action::Limit(limit) => match limit {
                Limit::Note(_) => "note limits",
                Limit::User { most: Some(_), .. } => "limit user",
                Limit::User { most: None, .. } => "end the limit of user",
                Limit::Queues(_) => "limit queues",
                Limit::NoQueues(_) => "end the limit of queues",
            },
            Action::Remove(_, removal) => match removal {
                Removal::Delete { .. } => "delete queue",
                Removal::Purge => "purge queue",
                Removal::CloseHoarder { keep_out: false } => "close the connection that hoards",
                Removal::CloseHoarder { keep_out: true } => "keep out who hoards",
            },
        }
    }
}

impl fmt::Display for Action {
    /// What the action is done to.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Store(Entry::Remember(watched) | Entry::Tell(watched, _) | Entry::Forget(watched, _))
            | Action::Broker(Operation::LookFor(watched))
            | Action::Remove(watched, _) => f.write_str(&watched.queue),
            Action::Store(
                Entry::Bury(namespace, _)
                | Entry::Mature(namespace)
                | Entry::WarnOfExpiry(namespace, _)
                | Entry::BuryOrphan(namespace)
                | Entry::ForgetNamespace(namespace),
            ) => write!(f, "{}", namespace.name),
            Action::Broker(Operation::CutOff(namespace)) => write!(f, "{}", namespace.name),
            Action::Store(Entry::Account(namespace, ..)) => write!(f, "{}", namespace.name),
            Action::Broker(Operation::Retire(name)) => write!(f, "{name}"),
            Action::Broker(Operation::Repair(name, slot, _)) => write!(f, "{name}-{}", slot.number()),
            Action::Limit(Limit::User { name, slot, .. }) => write!(f, "{name}-{}", slot.number()),
            Action::Limit(Limit::Note(Noted { values, .. })) => {
                let of = |(limit, values): (&UserLimit, &BTreeSet<u64>)| {
                    let values: Vec<_> = values.iter().map(u64::to_string).collect();
                    format!("{limit} {}", values.join(", "))
                };
                let told: Vec<_> = values.iter().map(of).collect();
                f.write_str(if told.is_empty() { "none".to_owned() } else { told.join("; ") }.as_str())
            }
            Action::Limit(Limit::Queues(policy)) => write!(f, "{} by policy {}", policy.pattern, policy.name),
            Action::Limit(Limit::NoQueues(name)) => write!(f, "policy {name}"),
            Action::Broker(Operation::CloseConnection { connection, user }) => write!(f, "{connection} of {user}"),
            Action::Broker(Operation::Clean(namespace, remains)) => {
                let Remains { users, connections, queues, exchanges, .. } = remains;
                let (u, c, q, e) = (users.len(), connections.len(), queues.len(), exchanges.len());
                write!(f, "{} (users {u}, connections {c}, queues {q}, exchanges {e})", namespace.name)
            }
        }
    }
}
