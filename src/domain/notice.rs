//! A message to the owner of a namespace: stored together with the change that it tells of, delivered afterwards; and the
//! events that messages tell of.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::ladder::{Measure, Topic};
use crate::domain::name::Name;
use crate::domain::verdict::Kind;

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
    /// Which queue it is about, if it is about one.
    pub about: Option<About>,
    /// What it says where one mail tells of many queues; `None` where it is always told alone.
    pub brief: Option<Brief>,
    /// The ids of the notices that this one tells of in their place. It is made when they are sent, and never stored.
    pub instead_of: Vec<String>,
}

/// What a mail that tells of many queues says of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brief {
    /// What became of the queue.
    pub matter: Matter,
    /// How many messages it had.
    pub messages: u64,
    /// When it may be removed at the earliest, as far as that is known.
    pub removal: Option<Timestamp>,
    /// The lines, as Markdown: the queue's name, then what is said of it.
    pub lines: Vec<String>,
}

/// What a mail that tells of many queues says of one, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matter {
    /// It was removed, or its messages were.
    Removed,
    /// It is in trouble, for that cause; [`Kind::Fine`] where it is merely large.
    Trouble(Kind),
    /// It is back to normal.
    Normal,
}

/// The queue that a message is about, and of which of its warnings it tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The queue's name.
    pub queue: String,
    /// When the queue of this name was first seen. All messages about it are one thread.
    pub first_seen: Timestamp,
    /// Which warning it is, if it is one; see [`Told::at`](crate::domain::ladder::Told::at).
    pub told: Option<Timestamp>,
}

/// A message that nobody got: it was refused for good, or tried for as long as any is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    /// The message, as often tried as it was.
    pub notice: Notice,
    /// When it was given up.
    pub given_up: Timestamp,
    /// Why. It holds no secret.
    pub why: String,
}

/// What is the matter with a queue, as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The queue's name.
    pub queue: String,
    /// Why it is told.
    pub topic: Topic,
    /// What is the matter; [`Kind::Fine`] where the queue is merely large.
    pub cause: Kind,
    /// The verdict in a sentence, without its full stop.
    pub verdict: String,
    /// How many messages it has.
    pub messages: u64,
    /// How many of them are held without having been acknowledged.
    pub unacked: u64,
    /// How many consumers it has, where that is known.
    pub consumers: Option<u32>,
    /// How many messages more an hour it has, as far as that is known.
    pub hourly: Option<i64>,
    /// Who holds its messages, where somebody does.
    pub holders: Vec<String>,
    /// When it reaches the limit at this pace, as a sentence goes on.
    pub forecast: Option<String>,
    /// When it may be removed at the earliest.
    pub removal: Option<Timestamp>,
    /// What is done then.
    pub measure: Measure,
    /// Above how many messages its owner is warned.
    pub alert_threshold: u64,
    /// Above how many messages it may be removed.
    pub delete_threshold: u64,
    /// That it may grow, how far, until when and why, as a sentence goes on after a colon; `None` where it may not.
    pub exempt: Option<String>,
    /// When it was seen so.
    pub at: Timestamp,
}

/// What happened to a namespace that its owner is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something is the matter with a queue, or still is, or is no more.
    QueueTrouble(Trouble),
    /// The connection that holds a queue's messages was closed.
    HoarderClosed {
        /// The queue's name.
        queue: String,
        /// The connection, with its user.
        connection: String,
        /// How many messages it held, at most.
        messages: u64,
        /// Whether its user may open no more, until somebody acts.
        kept_out: bool,
        /// When it was closed.
        at: Timestamp,
    },
    /// A queue had more messages than it may have, and they were deleted.
    QueueEmptied {
        /// The queue's name.
        queue: String,
        /// How many messages it had.
        messages: u64,
        /// Above how many messages it is emptied.
        delete_threshold: u64,
        /// When it was emptied.
        at: Timestamp,
    },
    /// A queue had more messages than it may have, and was deleted.
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
    /// A queue has more messages than it may have, and could not be removed.
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
    /// A namespace expires soon, and there are messages in its queues.
    NamespaceExpiring {
        /// When it expires.
        expires: Timestamp,
        /// Its queues that have messages, each with how many.
        queues: Vec<(String, u64)>,
        /// When it was seen so.
        at: Timestamp,
    },
    /// An account ends soon, because nobody uses it.
    AccountEnding {
        /// When it ends.
        expires: Timestamp,
        /// When it was last used.
        used: Timestamp,
        /// How long after its last use an account ends.
        lifetime: Duration,
        /// When it was seen so.
        at: Timestamp,
    },
    /// The user that an account was made of is in use, though its owner has moved on.
    AdoptedInUse {
        /// The user.
        user: String,
        /// From which addresses, and when last.
        addresses: Vec<(String, Timestamp)>,
        /// How long after its last use it is retired.
        retire_after: Duration,
        /// When it was seen so.
        at: Timestamp,
    },
    /// The user that an account was made of is deleted, because its owner has moved on and nobody uses it.
    AdoptedRetired {
        /// The user.
        user: String,
        /// When it was last used; `None` where that was never seen.
        used: Option<Timestamp>,
        /// When that was decided.
        at: Timestamp,
    },
    /// An owner asks that queues may grow, which administrators are told.
    ExemptionAsked {
        /// The queue, or a pattern of queues.
        queue: String,
        /// How far, and until when.
        terms: String,
        /// Why.
        reason: String,
        /// Who asks.
        by: String,
        /// When it was asked for.
        at: Timestamp,
    },
    /// It was granted or refused.
    ExemptionDecided {
        /// The queue, or a pattern of queues.
        queue: String,
        /// How far they may grow, and until when; `None` where it was refused.
        granted: Option<String>,
        /// Why.
        reason: String,
        /// Who decided.
        by: String,
        /// When it was decided.
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

impl Event {
    /// The queue that it is about, if it is about one.
    pub fn queue(&self) -> Option<&str> {
        match self {
            Event::QueueTrouble(Trouble { queue, .. })
            | Event::HoarderClosed { queue, .. }
            | Event::QueueEmptied { queue, .. }
            | Event::QueueDeleted { queue, .. }
            | Event::QueueDeletionFailed { queue, .. } => Some(queue),
            Event::ExemptionAsked { .. }
            | Event::ExemptionDecided { .. }
            | Event::NamespaceExpiring { .. }
            | Event::NamespaceExpired { .. }
            | Event::AccountEnding { .. }
            | Event::AdoptedInUse { .. }
            | Event::AdoptedRetired { .. } => None,
        }
    }
}
