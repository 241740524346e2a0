//! All that is shown of one queue and of one exchange.

use crate::domain::exemption::Requested;
use crate::domain::history::{History, Look};
use crate::domain::inventory::{Binding, BrokerExchange, Consumer, ExchangeDetail};
use crate::domain::shown::ShownQueue;

/// All that is shown of one queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueView {
    /// What a list has of it, with fresh counts.
    pub shown: ShownQueue,
    /// How many consumers it has, some seconds ago; `None` where the broker doesn't say.
    pub consumers: Option<u32>,
    /// Who they are, as far as that is told.
    pub readers: Vec<Consumer>,
    /// What is bound to it, in order.
    pub bindings: Vec<Binding>,
    /// What it was declared with, and what policies do to it.
    pub traits: Vec<(String, String)>,
    /// What the guard saw of it, the oldest first.
    pub looks: Vec<Look>,
    /// The same, as it is judged.
    pub history: Option<History>,
    /// What an owner has asked for it.
    pub requested: Option<Requested>,
}

/// All that is shown of one exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeView {
    /// What a list has of it.
    pub exchange: BrokerExchange,
    /// Who publishes, and what is bound to it.
    pub detail: ExchangeDetail,
    /// Whether the broker tells that they publish to this very exchange; else they do so to some of the namespace.
    pub exact: bool,
}
