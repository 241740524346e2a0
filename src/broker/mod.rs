//! RabbitMQ, by its management API.
//!
//! Two promises make every call safe to repeat: putting is an upsert, and deleting what is absent succeeds.

use async_trait::async_trait;

use crate::domain::inventory::{BrokerConnection, BrokerPermissions, BrokerQueue, BrokerUser};
use crate::domain::name::Permissions;
use crate::secret::PasswordHash;

/// Why the broker did not do what it was asked. It never holds the management account's name or password.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It can't be reached, did not answer in time, or answered 5xx. Whether the call took effect is unknown.
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

/// What we ask of RabbitMQ. Every call has a time-out, and all objects are those of the one configured virtual host.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Makes the user, or gives it this password and the tag [`USER_TAG`](crate::domain::name::USER_TAG) alone.
    async fn put_user(&self, user: &str, hash: &PasswordHash) -> Result<(), BrokerError>;

    /// Sets what the user may do in the virtual host.
    async fn put_permissions(&self, user: &str, permissions: &Permissions) -> Result<(), BrokerError>;

    /// Deletes the user; its connections are closed with it.
    async fn delete_user(&self, user: &str) -> Result<(), BrokerError>;

    /// Every user.
    async fn users(&self) -> Result<Vec<BrokerUser>, BrokerError>;

    /// Every user's permissions in the virtual host.
    async fn permissions(&self) -> Result<Vec<BrokerPermissions>, BrokerError>;

    /// Every queue, with fresh totals.
    async fn queues(&self) -> Result<Vec<BrokerQueue>, BrokerError>;

    /// One queue with a fresh total; `None` where there is none of this name.
    async fn queue(&self, queue: &str) -> Result<Option<BrokerQueue>, BrokerError>;

    /// The connection that owns an exclusive queue, by name; `None` where the broker does not say (it takes some seconds
    /// to know of a new queue) or the queue is gone.
    async fn queue_owner(&self, queue: &str) -> Result<Option<String>, BrokerError>;

    /// The name of every exchange.
    async fn exchanges(&self) -> Result<Vec<String>, BrokerError>;

    /// Every connection to the virtual host.
    async fn connections(&self) -> Result<Vec<BrokerConnection>, BrokerError>;

    /// Every connection of one user, those that [`Broker::connections`] does not show yet too.
    async fn connections_of(&self, user: &str) -> Result<Vec<BrokerConnection>, BrokerError>;

    /// Deletes the queue and what is in it.
    async fn delete_queue(&self, queue: &str) -> Result<(), BrokerError>;

    /// Deletes the exchange.
    async fn delete_exchange(&self, exchange: &str) -> Result<(), BrokerError>;

    /// Closes the connection; its client is shown `reason`.
    async fn close_connection(&self, connection: &str, reason: &str) -> Result<(), BrokerError>;

    /// Asks whether the node is up and the account is good.
    async fn ping(&self) -> Result<(), BrokerError>;
}
