//! Telling the owner of a namespace what happened to it.
//!
//! * [`message`]: from an event to the words; [`digest`]: one mail that tells of many queues; [`html`]: from the words to an
//!   e-mail's HTML. `advice` and `text` are what they share. All of them are pure.
//! * The ways to deliver: [`taskcluster`] (its notify service), [`smtp`], and [`log`].
//! * [`paced`]: no more to one address than it can bear; `refusal`: whether what a mail server refuses is the address.

mod accounts;
mod advice;
pub mod digest;
mod exemptions;
pub mod html;
pub mod log;
pub mod message;
pub mod paced;
mod refusal;
pub mod smtp;
pub mod taskcluster;
mod text;

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::notice::Notice;

/// Why a message was not delivered. It never holds credentials.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The address itself is what is wrong: it is none, nobody has it, or the service was told to send nothing to it. Give the
    /// message up.
    #[error("refused for good: {0}")]
    Permanent(String),
    /// Anything else, such as a service that is down or refuses us, a mailbox that is full, or a message that was accepted
    /// and not sent. An operator or the owner can mend that: try again later.
    #[error("not delivered: {0}")]
    Temporary(String),
    /// Nothing was tried, because too many went to its address lately: try again after so long.
    #[error("there were too many messages to this address, and it has to wait for {0:?}")]
    TooMany(Duration),
}

/// A way to deliver messages. Each step of a delivery has a time-out. A message whose delivery was interrupted or reported
/// as [`NotifyError::Temporary`] may have been delivered.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Delivers one message: it is on its way once this succeeds.
    async fn deliver(&self, notice: &Notice) -> Result<(), NotifyError>;
}
