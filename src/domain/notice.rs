//! A message to the owner of a namespace: stored together with the change that it tells of, delivered afterwards; and the
//! events that messages tell of.

use crate::clock::Timestamp;
use crate::domain::name::Name;

/// A message, worded when the thing happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Names this message for ever: a UUID.
    pub id: String,
    /// The namespace it is about.
    pub namespace: Name,
    /// The e-mail address it goes to.
    pub to: String,
    /// One line.
    pub subject: String,
    /// The text, as Markdown that reads well as plain text too.
    pub text: String,
    /// When the thing happened.
    pub created: Timestamp,
    /// How often its delivery was tried.
    pub attempts: u32,
    /// When its delivery may be tried next.
    pub due: Timestamp,
}

/// What happened to a namespace that its owner is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A queue went above the alert threshold.
    QueueGrowing {
        /// The queue's name.
        queue: String,
        /// How many messages it has.
        messages: u64,
        /// Above how many messages its owner is warned.
        alert_threshold: u64,
        /// Above how many messages it is deleted.
        delete_threshold: u64,
        /// Messages that it gains per hour (negative where it shrinks); `None` while that is unknown.
        growth: Option<i64>,
        /// When it will be deleted at that pace; `None` where that is unknown, or never.
        deleted_at: Option<Timestamp>,
        /// When it was seen so.
        at: Timestamp,
    },
    /// A queue is above the alert threshold still: the reminder of [`Event::QueueGrowing`].
    QueueStillGrowing {
        /// The queue's name.
        queue: String,
        /// How many messages it has.
        messages: u64,
        /// Above how many messages its owner is warned.
        alert_threshold: u64,
        /// Above how many messages it is deleted.
        delete_threshold: u64,
        /// Messages that it gains per hour (negative where it shrinks); `None` while that is unknown.
        growth: Option<i64>,
        /// When it will be deleted at that pace; `None` where that is unknown, or never.
        deleted_at: Option<Timestamp>,
        /// Since when it is above the alert threshold.
        since: Timestamp,
        /// When it was seen so.
        at: Timestamp,
    },
    /// A queue went above the delete threshold, and is deleted.
    QueueDeleted {
        /// The queue's name.
        queue: String,
        /// How many messages it had.
        messages: u64,
        /// Above how many messages it is deleted.
        delete_threshold: u64,
        /// When it was deleted.
        at: Timestamp,
    },
    /// A queue is above the delete threshold, and could not be deleted.
    QueueDeletionFailed {
        /// The queue's name.
        queue: String,
        /// How many messages it has.
        messages: u64,
        /// What could not be removed, and why. It holds no secret.
        why: String,
        /// When it was tried.
        at: Timestamp,
    },
    /// A queue whose owner was warned is below the alert threshold again.
    QueueNormal {
        /// The queue's name.
        queue: String,
        /// How many messages it has.
        messages: u64,
        /// Above how many messages its owner is warned.
        alert_threshold: u64,
        /// When it was seen so.
        at: Timestamp,
    },
    /// A namespace expires soon, and there are messages in its queues.
    NamespaceExpiring {
        /// When it expires.
        expires: Timestamp,
        /// Its queues that have messages, each with how many.
        queues: Vec<(String, u64)>,
        /// When it was seen so.
        at: Timestamp,
    },
    /// A namespace whose owner was warned has expired, and what belongs to it is being removed.
    NamespaceExpired {
        /// When it expired.
        expires: Timestamp,
        /// When it was marked as gone.
        at: Timestamp,
    },
}
