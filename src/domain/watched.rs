//! A queue in trouble, as the store keeps it: one record a queue.

use crate::clock::Timestamp;
use crate::domain::ladder::Watch;
use crate::domain::name::Name;
use crate::domain::namespace::Version;

/// What is remembered of one queue in trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// The queue's name, which is the key of its record.
    pub queue: String,
    /// The namespace that owns it.
    pub namespace: Name,
    /// How many messages it had when this was written.
    pub messages: u64,
    /// What was told of it, and done.
    pub watch: Watch,
    /// Whether a run decided to remove it; what is only shown is not decided.
    pub decided: bool,
    /// When its owner was told that it can't be removed.
    pub failure_told: Option<Timestamp>,
    /// The version at which the record was read, or a new one.
    pub version: Version,
}
