//! What the broker holds, as far as we read it.

use crate::clock::Timestamp;
use crate::domain::name::Permissions;
use crate::secret::PasswordHash;

/// A user of the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUser {
    /// Its name.
    pub name: String,
    /// Its tags; ours have [`USER_TAG`](crate::domain::name::USER_TAG) alone.
    pub tags: Vec<String>,
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

/// A queue in our virtual host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerQueue {
    /// Its name.
    pub name: String,
    /// How many messages are in it, ready and unacknowledged; `None` where the broker doesn't say (never zero then).
    pub messages: Option<u64>,
    /// What it is made of.
    pub kind: QueueKind,
    /// Whether it belongs to one connection, with which it goes; it can't be deleted through the API.
    pub exclusive: bool,
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
}

/// What the broker holds in our virtual host at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// All users.
    pub users: Vec<BrokerUser>,
    /// All permissions.
    pub permissions: Vec<BrokerPermissions>,
    /// All queues.
    pub queues: Vec<BrokerQueue>,
    /// The names of all exchanges.
    pub exchanges: Vec<String>,
    /// All connections.
    pub connections: Vec<BrokerConnection>,
}
