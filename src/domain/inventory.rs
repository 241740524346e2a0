//! What the broker holds, as far as we read it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::domain::history::Counters;
use crate::domain::name::Permissions;
use crate::domain::name_list::NameList;
use crate::secret::PasswordHash;

/// A user of the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUser {
    /// Its name.
    pub name: String,
    /// Its tags; ours have that of this deployment alone. Most users share them.
    pub tags: Arc<[String]>,
    /// The hash of its password.
    pub hash: PasswordHash,
}

/// What a user may do in our virtual host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerPermissions {
    /// The user's name.
    pub user: String,
    /// What it may do.
    pub permissions: Permissions,
}

/// A right that no user of ours should have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// The user's name.
    pub user: String,
    /// The virtual host that it holds in: another one than ours, but for topics.
    pub vhost: String,
    /// Whether it is one on the routing keys of topic exchanges.
    pub topic: bool,
}

/// What a queue is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueKind {
    /// A classic queue.
    Classic,
    /// A quorum queue.
    Quorum,
    /// A stream: a log that keeps its messages by design, read or not.
    Stream,
    /// A kind that we don't know.
    Other,
}

impl QueueKind {
    /// The kind in a word.
    pub fn word(self) -> &'static str {
        match self {
            QueueKind::Classic => "classic",
            QueueKind::Quorum => "quorum",
            QueueKind::Stream => "stream",
            QueueKind::Other => "other",
        }
    }
}

/// A queue in our virtual host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerQueue {
    /// Its name.
    pub name: String,
    /// How many messages are in it, ready and unacknowledged; `None` where the broker doesn't say (never zero then).
    pub messages: Option<u64>,
    /// How many of them a consumer holds and did not acknowledge; `None` likewise.
    pub unacked: Option<u64>,
    /// A hash of its kind and arguments, by which it is told from another queue of the same name.
    pub fingerprint: u64,
    /// What it is made of.
    pub kind: QueueKind,
    /// Whether it belongs to one connection, with which it goes; it can't be deleted through the API.
    pub exclusive: bool,
}

/// An exchange in our virtual host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerExchange {
    /// Its name.
    pub name: String,
    /// What it is made of, in RabbitMQ's words: `topic`, `fanout`, `direct`, `headers`, or what a plugin adds.
    pub kind: String,
    /// Whether it outlives a restart of the broker.
    pub durable: bool,
    /// Whether it goes with the last that is bound to it.
    pub auto_delete: bool,
    /// Whether only other exchanges can publish to it.
    pub internal: bool,
}

/// What a queue gets: messages of an exchange with routing keys that fit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// The name of the exchange.
    pub exchange: String,
    /// The routing key, in which words may stand for others where the exchange is a `topic`.
    pub routing_key: String,
}

/// What a closer look at one queue shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueDetail {
    /// How many consumers it has; `None` where the broker doesn't say.
    pub consumers: Option<u32>,
    /// What the broker counts of it since it was declared; `None` where statistics are off.
    pub counters: Option<Counters>,
    /// Its consumers, as far as they are told.
    pub details: Vec<Consumer>,
    /// What it was declared with, and what policies do to it: names, and values as RabbitMQ writes them.
    pub traits: Vec<(String, String)>,
    /// The queue with totals that are some seconds old; `None` where the broker has none of it yet, or keeps no statistics.
    pub lately: Option<BrokerQueue>,
}

/// What a closer look at one exchange shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExchangeDetail {
    /// How many messages were published to it, as far as the broker counts.
    pub published: Option<u64>,
    /// The channels that published to it lately. RabbitMQ tells of them only where it keeps detailed rates.
    pub publishers: Vec<Publisher>,
    /// What gets messages of it.
    pub bound: Vec<Bound>,
}

/// Who publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publisher {
    /// The name of its connection.
    pub connection: String,
    /// The user that logged in.
    pub user: String,
    /// Where it connected from.
    pub address: String,
    /// How many messages it has published: to one exchange, or where that is not told, to any.
    pub messages: u64,
}

/// What gets messages of an exchange.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bound {
    /// `queue` or `exchange`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// By which routing key.
    pub routing_key: String,
}

/// A consumer of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// The name of its channel.
    pub channel: String,
    /// The name of its connection, by which it is closed.
    pub connection: String,
    /// The user that logged in.
    pub user: String,
    /// Where it connected from.
    pub address: String,
    /// How many messages it gets at once at most; zero is without limit.
    pub prefetch: u64,
}

/// An open connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerConnection {
    /// Its name, by which it is closed.
    pub name: String,
    /// The user that logged in.
    pub user: String,
    /// When it was opened; `None` where the broker doesn't say.
    pub connected: Option<Timestamp>,
    /// The address that it comes from; empty where the broker doesn't say.
    pub address: String,
    /// What the program behind it calls itself; empty where it doesn't say, and where that was not asked for.
    pub program: String,
}

/// What the broker holds in our virtual host at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// All users.
    pub users: Vec<BrokerUser>,
    /// What users may do, where that was read: all of it, or what is not as it should be.
    pub permissions: Vec<BrokerPermissions>,
    /// The users that may do something, where it was not read what; or of which it was, and is as it should be. Sorted.
    pub granted: NameList,
    /// All rights on other virtual hosts, and all on topics.
    pub elsewhere: Vec<Right>,
    /// All queues.
    pub queues: Vec<BrokerQueue>,
    /// The names of all exchanges.
    pub exchanges: Vec<String>,
    /// All connections.
    pub connections: Vec<BrokerConnection>,
}

impl Inventory {
    /// Whether a user is among the `granted`, which are sorted.
    pub fn has_granted(&self, user: &str) -> bool {
        self.granted.has(user)
    }
}

/// What is limited of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UserLimit {
    /// How many connections it may have open.
    Connections,
    /// How many channels, in all of them together.
    Channels,
}

impl UserLimit {
    /// Both.
    pub const ALL: [UserLimit; 2] = [UserLimit::Connections, UserLimit::Channels];

    /// As RabbitMQ calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            UserLimit::Connections => "max-connections",
            UserLimit::Channels => "max-channels",
        }
    }
}

impl fmt::Display for UserLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An operator policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorPolicy {
    /// Its name.
    pub name: String,
    /// The regular expression of the names of queues that it holds for.
    pub pattern: String,
    /// The kinds of queues that it holds for; ours holds for `queues`, which are all.
    pub apply_to: String,
    /// Of several that fit a queue, the one with the highest priority holds; ours has 0.
    pub priority: i64,
    /// What it sets, by RabbitMQ's names. What is no whole number is given as the largest one, which is none of ours.
    pub definition: BTreeMap<String, u64>,
}

/// Values of limits, for each kind of them.
pub type Values = BTreeMap<UserLimit, BTreeSet<u64>>;

/// What limits the broker has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitsSeen {
    /// All operator policies of the virtual host.
    pub policies: Vec<OperatorPolicy>,
    /// The limits of users that have any.
    pub users: BTreeMap<String, BTreeMap<UserLimit, u64>>,
    /// What we noted of those that are ours.
    pub noted: Noted,
}

/// Which limits of users are ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Noted {
    /// The values that we set.
    pub values: Values,
    /// The namespaces for whose users we set none: they were exempt all the time, or what we had set is gone.
    pub spared: BTreeSet<String>,
}

impl Noted {
    /// Whether this limit of a user of this namespace is ours.
    pub fn is_ours(&self, namespace: &str, limit: UserLimit, value: u64) -> bool {
        !self.spared.contains(namespace) && self.values.get(&limit).is_some_and(|noted| noted.contains(&value))
    }
}
