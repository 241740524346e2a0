//! What was known last of a queue, an exchange or a namespace that somebody looks at, for the time when the store or the broker does not
//! answer: what this process has shown of it, or what the pictures have that all share who look.

use super::shown::{ExchangeView, QueueView};
use super::{Service, ServiceError};
use crate::broker::BrokerError;
use crate::clock::Timestamp;
use crate::domain::inventory::ExchangeDetail;
use crate::domain::name::Name;
use crate::store::{Outline, StoreError};

/// One with more bindings or looks is not remembered as it was shown.
const LARGE: usize = 2000;

/// What was known of something a while ago.
#[derive(Debug, Clone, PartialEq)]
pub struct LastKnown<T> {
    /// When that was.
    pub at: Timestamp,
    /// What was known.
    pub view: T,
    /// Whether that is all that is shown of it, and not only what a list has.
    pub whole: bool,
}

impl ServiceError {
    /// Whether the store or the broker is away, so that what was known last is shown in place of nothing.
    pub fn is_outage(&self) -> bool {
        match self {
            ServiceError::Store(StoreError::Unavailable(_) | StoreError::Unwritable(_)) => true,
            ServiceError::Broker(error) => !matches!(error, BrokerError::Refused(_)),
            ServiceError::TooSlow(_) => true,
            _ => false,
        }
    }
}

impl Service {
    /// Notes what is shown of a queue; `None` where it is not there.
    pub(super) fn note_queue(&self, name: &str, view: Option<&QueueView>) {
        let small = view.filter(|view| view.bindings.len().max(view.looks.len()) <= LARGE);
        self.shown_queues.note(name, self.now(), small);
    }

    /// The same of an exchange.
    pub(super) fn note_exchange(&self, name: &str, view: Option<&ExchangeView>) {
        let small = view.filter(|view| view.detail.bound.len().max(view.detail.publishers.len()) <= LARGE);
        self.shown_exchanges.note(name, self.now(), small);
    }

    /// A live namespace as it was known last, and when that was. `text` is its name.
    pub fn last_known_namespace(&self, text: &str) -> Option<(Timestamp, Outline)> {
        let last = self.overviews.lock().last.clone()?;
        let found = last.namespaces.get(&Name::from_stored(text.to_owned()))?;
        Some((last.at, found.outline.clone()))
    }

    /// A queue of a namespace as it was known last.
    pub fn last_known_queue(&self, name: &Name, queue: &str) -> Option<LastKnown<QueueView>> {
        let shown = self.shown_queues.of(queue).map(|(at, view)| LastKnown { at, view, whole: true });
        shown.or_else(|| {
            let last = self.overviews.lock().last.clone()?;
            let found = last.namespaces.get(name)?.queues.iter().find(|listed| listed.shown.queue.name == queue)?;
            let view = QueueView {
                consumers: found.shown.verdict.as_ref().and_then(|verdict| verdict.consumers),
                shown: found.shown.clone(),
                readers: Vec::new(),
                bindings: Vec::new(),
                traits: Vec::new(),
                looks: Vec::new(),
                history: None,
                requested: None,
            };
            Some(LastKnown { at: last.at, view, whole: false })
        })
    }

    /// An exchange of a namespace as it was known last.
    pub fn last_known_exchange(&self, name: &Name, exchange: &str) -> Option<LastKnown<ExchangeView>> {
        let shown = self.shown_exchanges.of(exchange).map(|(at, view)| LastKnown { at, view, whole: true });
        shown.or_else(|| {
            let last = self.exchanges.last()?;
            let found = last.found.get(name)?.iter().find(|one| one.name == exchange)?.clone();
            let (published, publishers, bound) = Default::default();
            let detail = ExchangeDetail { published, publishers, bound };
            let view = ExchangeView { exchange: found, detail, exact: true };
            Some(LastKnown { at: self.now().minus(last.age()), view, whole: false })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_what_passes() {
        let broker = |error: BrokerError| ServiceError::from(error).is_outage();
        assert!(broker(BrokerError::Unavailable(String::new())) && broker(BrokerError::Denied(String::new())));
        assert!(!broker(BrokerError::Refused(String::new())));
        assert!(ServiceError::from(StoreError::Unavailable(String::new())).is_outage());
        assert!(!ServiceError::Missing("queue", String::new()).is_outage());
    }
}
