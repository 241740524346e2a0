//! RabbitMQ, by its management API.
//!
//! Two promises make every call safe to repeat: putting is an upsert, and deleting what is absent succeeds. "Absent" is
//! said only by a node that has proved to be up, since one that boots answers 404 to everything for a moment.
//!
//! [`management`] is the client, `call` sends one request and says what its status means, `answer` reads the bodies.

mod answer;
mod call;
pub mod management;

use async_trait::async_trait;

use crate::domain::inventory::{BrokerConnection, BrokerPermissions, BrokerQueue, BrokerUser};
use crate::domain::name::Permissions;
use crate::secret::PasswordHash;

/// Why the broker did not do what it was asked. It never holds the management account's name or password, nor the hash
/// of a password.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It can't be reached, did not answer in time, is still starting, or answered 5xx. Whether the call took effect is
    /// unknown.
    #[error("RabbitMQ's management API is not available: {0}")]
    Unavailable(String),
    /// It refuses the management account: unknown, wrong password, or without a right that it needs.
    #[error("RabbitMQ refuses the management account: {0}")]
    Denied(String),
    /// It refuses this one request, and would again.
    #[error("RabbitMQ refused {0}")]
    Refused(String),
    /// It answered something that we can't read.
    #[error("RabbitMQ's answer can't be understood: {0}")]
    Garbled(String),
}

/// What putting a user found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The broker surely knew the user before, whose permissions are as they were.
    Known,
    /// The user was made, or may have been: the answer to a first attempt was lost. It may have no permissions.
    PerhapsNew,
}

/// What we ask of RabbitMQ. Every call has a time-out, and all objects are those of the one configured virtual host.
///
/// A list is no proof that what it lacks is gone: a node that boots may answer with a list that is empty or too short.
/// But no item is left out because *we* can't read it: a list with such an item is [`BrokerError::Garbled`] as a whole,
/// where each method doesn't say otherwise.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Makes the user, or gives it this password and the tag [`USER_TAG`](crate::domain::name::USER_TAG) alone.
    async fn put_user(&self, user: &str, hash: &PasswordHash) -> Result<Put, BrokerError>;

    /// Sets what the user may do in the virtual host. [`BrokerError::Refused`] where there is no such user.
    async fn put_permissions(&self, user: &str, permissions: &Permissions) -> Result<(), BrokerError>;

    /// Deletes the user; its connections are closed with it.
    async fn delete_user(&self, user: &str) -> Result<(), BrokerError>;

    /// Every user. A hash that can't be read, or is not one by salted SHA-256, is given as one that is not blocked and
    /// that no password fits, so that it equals none of ours; tags that can't be read are given as none.
    async fn users(&self) -> Result<Vec<BrokerUser>, BrokerError>;

    /// Every user's permissions in the virtual host.
    async fn permissions(&self) -> Result<Vec<BrokerPermissions>, BrokerError>;

    /// Every queue, with fresh totals (of quorum queues up to 5 s old). A stream's total is not told.
    async fn queues(&self) -> Result<Vec<BrokerQueue>, BrokerError>;

    /// One queue with a fresh total, as in [`Broker::queues`]; `None` where there is none of this name.
    async fn queue(&self, queue: &str) -> Result<Option<BrokerQueue>, BrokerError>;

    /// The connection that owns an exclusive queue, and whose it is; `None` where the broker does not say (it takes some
    /// seconds to know of a new queue or connection) or either is gone.
    async fn queue_owner(&self, queue: &str) -> Result<Option<BrokerConnection>, BrokerError>;

    /// The name of every exchange. The default exchange, with the empty name, is always one of them; an answer without
    /// it comes from a node that is not ready, and is [`BrokerError::Unavailable`].
    async fn exchanges(&self) -> Result<Vec<String>, BrokerError>;

    /// Every connection to the virtual host that the broker has statistics of: one opened in the last seconds may be
    /// missing. One without a name or a user is left out, and logged: it can't be closed, and absence proves nothing here.
    async fn connections(&self) -> Result<Vec<BrokerConnection>, BrokerError>;

    /// Deletes the queue and what is in it. [`BrokerError::Refused`] where it is exclusive to a connection.
    async fn delete_queue(&self, queue: &str) -> Result<(), BrokerError>;

    /// Deletes the exchange.
    async fn delete_exchange(&self, exchange: &str) -> Result<(), BrokerError>;

    /// Closes a connection that [`Broker::connections`] or [`Broker::queue_owner`] named; its client is shown `reason`, as
    /// far as it is ASCII and at most 200 bytes long. Until the broker has statistics of a connection, it answers that there
    /// is none, and this succeeds.
    async fn close_connection(&self, connection: &str, reason: &str) -> Result<(), BrokerError>;

    /// Closes every connection of one user, those that [`Broker::connections`] does not show yet too; to any virtual host.
    async fn close_connections_of(&self, user: &str, reason: &str) -> Result<(), BrokerError>;

    /// Asks whether the node is up, the account is good, and the virtual host is there and running.
    async fn ping(&self) -> Result<(), BrokerError>;
}
