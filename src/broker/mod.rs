//! RabbitMQ, by its management API.
//!
//! Reading and putting are safe to repeat. A deletion is not: by the time of the second one, another thing may have the
//! name. So it is sent once, and where its outcome is not known, all that follows is a look. Deleting what is absent succeeds.
//! "Absent" is said only by a node that has proved to be up, since one that boots answers 404 to everything for a moment.
//!
//! [`management`] is the client, `account` says where and as whom it calls, [`token`] how without a
//! password, `addresses` which node is
//! called, `call` sends one request and says what its
//! status means, `answer` reads the bodies, `nodes` what a node sees of its
//! cluster, `items` long lists, `metrics` reads those of the Prometheus plugin.

mod account;
mod addresses;
mod answer;
mod call;
mod items;
pub mod management;
mod metrics;
mod nodes;
pub mod token;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use crate::domain::inspection::{Published, Room};
use crate::domain::inventory::{
    Binding, BrokerConnection, BrokerExchange, BrokerPermissions, BrokerQueue, BrokerUser, ExchangeDetail, LimitsSeen,
    Noted, OperatorPolicy, QueueDetail, Right, UserLimit,
};
use crate::domain::name::Permissions;
use crate::domain::name_list::NameList;
use crate::domain::release::Release;
use crate::secret::PasswordHash;

/// Why the broker did not do what it was asked. It never holds the management account's name or password, nor the hash
/// of a password.
#[derive(Debug, Clone, thiserror::Error)]
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

/// Which permissions are asked for.
pub type Odd<'a> = &'a (dyn Fn(&BrokerPermissions) -> bool + Send + Sync);

/// Which users may do anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// The users that may do something in the virtual host, whatever.
    pub here: NameList,
    /// All rights in other virtual hosts, and all on topics.
    pub elsewhere: Vec<Right>,
}

/// What deleting found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It was there, and was deleted.
    Done,
    /// There is none of this name (any more). A list may show one all the same: in it, what is not UTF-8 in a name stands as
    /// another character, and a call can't say the name.
    Absent,
}

/// The limits that RabbitMQ keeps by itself.
#[async_trait]
pub trait Limiting: Send + Sync {
    /// All operator policies of the virtual host, the limits of all users, and what was noted under `name`.
    async fn limits(&self, name: &str) -> Result<LimitsSeen, BrokerError>;

    /// Notes under `name` which limits are ours, among the broker's global parameters. Without any value, the note is removed.
    async fn note_limits(&self, name: &str, noted: &Noted) -> Result<(), BrokerError>;

    /// Lets a user have at most so many connections or channels; `None` for any number. [`BrokerError::Refused`] where there is no
    /// such user.
    async fn limit_user(&self, user: &str, limit: UserLimit, most: Option<u64>) -> Result<(), BrokerError>;

    /// Sets an operator policy in the virtual host.
    async fn put_operator_policy(&self, policy: &OperatorPolicy) -> Result<(), BrokerError>;

    /// Removes the operator policy of this name, if there is one.
    async fn delete_operator_policy(&self, name: &str) -> Result<(), BrokerError>;
}

/// Looking at what is published, through queues that go by themselves.
#[async_trait]
pub trait Inspecting: Send + Sync {
    /// Makes a classic queue that has no more `room` than this.
    async fn make_inspection(&self, queue: &str, room: Room) -> Result<(), BrokerError>;

    /// Has a queue get messages of an exchange. `false` where there is no such exchange, or no such queue.
    async fn bind(&self, queue: &str, binding: &Binding) -> Result<bool, BrokerError>;

    /// Takes messages out of a queue, at most `most`, the oldest first, and of each at most `longest` bytes; `None` where there is no
    /// such queue (any more). Messages of an answer that is lost are lost.
    async fn take(&self, queue: &str, most: u32, longest: u32) -> Result<Option<Vec<Published>>, BrokerError>;

    /// The names of the first 500 queues that begin with this, which is plain text.
    async fn queues_named(&self, prefix: &str) -> Result<Vec<String>, BrokerError>;
}

/// What we ask of RabbitMQ. Every call has a time-out, and all objects are those of the one configured virtual host.
///
/// What deletes or closes is sent once. Where it is [`BrokerError::Unavailable`], it may have been carried out, or be yet, and
/// what has the name now may be another thing: look before you delete again.
///
/// A list is no proof that what it lacks is gone: a node that boots may answer with a list that is empty or too short.
/// But no item is left out because *we* can't read it: a list with such an item is [`BrokerError::Garbled`] as a whole,
/// where each method doesn't say otherwise.
#[async_trait]
pub trait Broker: Limiting + Inspecting {
    /// One user, as in [`Broker::users`]; `None` where there is none of this name. A node that is starting may say so of any:
    /// who must be sure asks [`Broker::ping`], and then again.
    async fn user(&self, user: &str) -> Result<Option<BrokerUser>, BrokerError>;

    /// Makes the user, or gives it this password and this tag alone.
    async fn put_user(&self, user: &str, hash: &PasswordHash, tag: &str) -> Result<Put, BrokerError>;

    /// Sets what the user may do in the virtual host. [`BrokerError::Refused`] where there is no such user.
    async fn put_permissions(&self, user: &str, permissions: &Permissions) -> Result<(), BrokerError>;

    /// Deletes the user; its connections are closed with it.
    async fn delete_user(&self, user: &str) -> Result<Deleted, BrokerError>;

    /// Deletes these users by one call, which is sent once; their connections are closed with them. After an error it is unknown
    /// which of them are deleted, and each is to be looked at. Where one of them is not there, RabbitMQ 3 deletes those before it
    /// and answers [`BrokerError::Refused`].
    async fn delete_users(&self, users: &[String]) -> Result<(), BrokerError>;

    /// Every user. A hash that can't be read, or is not one by salted SHA-256, is given as one that is not blocked and
    /// that no password fits, so that it equals none of ours; tags that can't be read are given as none.
    async fn users(&self) -> Result<Vec<BrokerUser>, BrokerError>;

    /// Every user's permissions in the virtual host.
    async fn permissions(&self) -> Result<Vec<BrokerPermissions>, BrokerError> {
        self.odd_permissions(&|_| true).await
    }

    /// Those of them that are `odd`; no others are kept in memory.
    async fn odd_permissions(&self, odd: Odd<'_>) -> Result<Vec<BrokerPermissions>, BrokerError>;

    /// Which users may do anything, and where. RabbitMQ tells that much more quickly than what they may do.
    async fn rights(&self) -> Result<Rights, BrokerError>;

    /// What every user, or this one, may do in other virtual hosts, and on topics in any.
    async fn rights_elsewhere(&self, user: Option<&str>) -> Result<Vec<Right>, BrokerError>;

    /// Takes a right away.
    async fn revoke(&self, right: &Right) -> Result<(), BrokerError>;

    /// Every queue, with fresh totals (of quorum queues up to 5 s old). A stream's total is not told.
    async fn queues(&self) -> Result<Vec<BrokerQueue>, BrokerError>;

    /// One queue with a fresh total, as in [`Broker::queues`]; `None` where there is none of this name.
    async fn queue(&self, queue: &str) -> Result<Option<BrokerQueue>, BrokerError>;

    /// A closer look at one queue: its consumers, and what the broker counts of it, both some seconds old; `None` where there is
    /// none of this name.
    async fn queue_detail(&self, queue: &str) -> Result<Option<QueueDetail>, BrokerError>;

    /// Closer looks at these queues by one call, as in [`Broker::queue_detail`], but for who consumes; one that nothing is known of is
    /// left out. `None` where that is not configured, or fails, which is logged once: then they are to be looked at one by one.
    async fn queue_details(&self, queues: &BTreeSet<String>) -> Option<BTreeMap<String, QueueDetail>>;

    /// Whether the broker keeps statistics, without which closer looks show nothing.
    async fn keeps_statistics(&self) -> Result<bool, BrokerError>;

    /// What the management account that is in use lacks, in sentences.
    async fn lacks(&self) -> Result<Vec<String>, BrokerError> {
        Ok(Vec::new())
    }

    /// Which release it is.
    async fn release(&self) -> Result<Release, BrokerError>;

    /// How many messages a channel holds without having acknowledged them; `None` where the broker doesn't say.
    async fn channel_unacked(&self, channel: &str) -> Result<Option<u64>, BrokerError>;

    /// Whether any node is in memory or disk alarm.
    async fn alarm(&self) -> Result<bool, BrokerError>;

    /// Deletes the messages of a queue that nobody holds. [`BrokerError::Refused`] where it is exclusive to a connection.
    async fn purge_queue(&self, queue: &str) -> Result<Deleted, BrokerError>;

    /// The connection that owns an exclusive queue, and whose it is; `None` where the broker does not say (it takes some
    /// seconds to know of a new queue or connection) or either is gone.
    async fn queue_owner(&self, queue: &str) -> Result<Option<BrokerConnection>, BrokerError>;

    /// The name of every exchange. The default exchange, with the empty name, is always one of them; an answer without
    /// it comes from a node that is not ready, and is [`BrokerError::Unavailable`].
    async fn exchanges(&self) -> Result<Vec<String>, BrokerError>;

    /// Every exchange, as in [`Broker::exchanges`], with what it is made of.
    async fn exchange_details(&self) -> Result<Vec<BrokerExchange>, BrokerError>;

    /// A closer look at one exchange: who published to it lately, some seconds old, and what is bound to it; `None` where there is
    /// none of this name.
    async fn exchange_detail(&self, exchange: &str) -> Result<Option<ExchangeDetail>, BrokerError>;

    /// How many messages the channels of a connection have published, to any exchange, some seconds ago; zero where it is gone.
    async fn published_by(&self, connection: &str) -> Result<u64, BrokerError>;

    /// What is bound to a queue, but for the default exchange, to which each is; `None` where there is none of this name.
    async fn bindings(&self, queue: &str) -> Result<Option<Vec<Binding>>, BrokerError>;

    /// Every connection to the virtual host that the broker has statistics of: one opened in the last seconds may be
    /// missing. One without a name or a user is left out, and logged: it can't be closed, and absence proves nothing here.
    async fn connections(&self) -> Result<Vec<BrokerConnection>, BrokerError>;

    /// Every connection of one user, those that [`Broker::connections`] does not show yet too; to any virtual host.
    async fn connections_of(&self, user: &str) -> Result<Vec<BrokerConnection>, BrokerError>;

    /// One connection, with what its program calls itself; `None` where there is none of this name, or no statistics of it yet.
    async fn connection(&self, name: &str) -> Result<Option<BrokerConnection>, BrokerError>;

    /// Deletes the queue and what is in it. [`BrokerError::Refused`] where it is exclusive to a connection, or has a line break in its
    /// name, for which RabbitMQ would delete another one.
    async fn delete_queue(&self, queue: &str) -> Result<Deleted, BrokerError>;

    /// Deletes the exchange. [`BrokerError::Refused`] where it has a line break in its name, likewise.
    async fn delete_exchange(&self, exchange: &str) -> Result<Deleted, BrokerError>;

    /// Closes a connection that [`Broker::connections`] or [`Broker::queue_owner`] named; its client is shown `reason`, as
    /// far as it is ASCII and at most 200 bytes long. Until the broker has statistics of a connection, it answers that there
    /// is none: [`Deleted::Absent`].
    async fn close_connection(&self, connection: &str, reason: &str) -> Result<Deleted, BrokerError>;

    /// Closes every connection of one user, those that [`Broker::connections`] does not show yet too; to any virtual host.
    async fn close_connections_of(&self, user: &str, reason: &str) -> Result<Deleted, BrokerError>;

    /// Asks whether the node is up, the account is good, and the virtual host is there and running.
    async fn ping(&self) -> Result<(), BrokerError>;
}
