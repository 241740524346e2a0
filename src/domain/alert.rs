//! What is remembered of a queue that grows.

use crate::clock::Timestamp;
use crate::domain::name::Name;
use crate::domain::namespace::Version;

/// How far a queue has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It is worth remembering how fast it grows; nobody was told.
    Watched,
    /// It is above the alert threshold, and its owner was told, if it has a contact.
    Warning,
    /// It is above the delete threshold and is being deleted.
    Deleting,
}

/// A queue that is watched, warned of, or being deleted. The store keeps one a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// The queue's name, which is the key of its record.
    pub queue: String,
    /// The namespace that owns it.
    pub namespace: Name,
    /// How far it has gone.
    pub level: Level,
    /// Since when it is at this level.
    pub since: Timestamp,
    /// How many messages it had when it was last seen.
    pub messages: u64,
    /// When it was last seen.
    pub seen: Timestamp,
    /// Messages that it gained per hour between the last two times it was seen (negative where it shrank); `None`
    /// before there were two.
    pub growth: Option<i64>,
    /// When its owner was last told.
    pub told: Option<Timestamp>,
    /// The version at which the record was read, or a new one.
    pub version: Version,
}
