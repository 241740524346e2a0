//! Telling the owner of a namespace what happened to it.
//!
//! * [`message`]: from an event to the words, and [`html`]: from the words to an e-mail's HTML; both pure.
//! * The ways to deliver: [`taskcluster`] (its notify service), [`smtp`], and [`log`].

pub mod html;
pub mod log;
pub mod message;
pub mod smtp;
pub mod taskcluster;

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::notice::Notice;

/// What became of a message that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// It is on its way.
    Sent,
    /// It was accepted and not sent: its twin was sent before, or others sent too many to its address. Delivering it again
    /// would not change that.
    Withheld,
}

/// Why a message was not delivered. It never holds credentials.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The address can't or won't take it, and would not take it later: drop the message, and log that.
    #[error("refused for good: {0}")]
    Permanent(String),
    /// Anything else, such as a service that is down or an account of ours that is refused: try again later.
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
    /// Delivers one message.
    async fn deliver(&self, notice: &Notice) -> Result<Delivered, NotifyError>;
}
