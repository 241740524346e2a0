//! A message to the owner of a namespace: stored together with the change that it tells of, delivered afterwards.

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
