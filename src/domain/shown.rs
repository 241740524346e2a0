//! What is shown of a queue to those who may see it, and which of many are asked for.

use crate::clock::Timestamp;
use crate::domain::exemption::{Exempted, exemption_of};
use crate::domain::history::History;
use crate::domain::inventory::BrokerQueue;
use crate::domain::verdict::{Criteria, Kind, Verdict, verdict};
use crate::domain::watched::Watched;

/// A queue, and what the guard knows of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ShownQueue {
    /// The queue, as the broker tells of it.
    pub queue: BrokerQueue,
    /// What the guard's looks say of it; `None` where it did not look, or at another queue of this name.
    pub verdict: Option<Verdict>,
    /// What is remembered of its troubles, likewise.
    pub watched: Option<Watched>,
    /// Whether it may grow.
    pub exempted: Option<Exempted>,
}

/// The state of a queue that was not judged.
const UNKNOWN: &str = "unknown";

impl ShownQueue {
    /// What is shown of `queue`. What is known of an earlier queue of the same name says nothing of this one.
    pub fn of(
        queue: BrokerQueue,
        history: Option<&History>,
        watched: Option<Watched>,
        exemptions: &[Exempted],
        criteria: &Criteria,
        now: Timestamp,
    ) -> ShownQueue {
        let history = history.filter(|history| history.incarnation().fingerprint == queue.fingerprint);
        let watched = watched.filter(|watched| watched.watch.incarnation.fingerprint == queue.fingerprint);
        let exempted = exemption_of(exemptions, &queue.name, now).cloned();
        ShownQueue { verdict: history.and_then(|history| verdict(history, criteria)), watched, exempted, queue }
    }

    /// What is the matter with it, in a word: a [`Kind::word`], or `unknown`. One that is empty and was never seen otherwise is
    /// fine.
    pub fn state(&self) -> &'static str {
        match &self.verdict {
            Some(verdict) => verdict.kind.word(),
            None if self.queue.messages == Some(0) => Kind::Fine.word(),
            None => UNKNOWN,
        }
    }
}

/// Whether a word is a state of queues.
pub fn is_state(word: &str) -> bool {
    word == UNKNOWN || Kind::from_word(word).is_some()
}

/// Which queues of a namespace are asked for. What is `None` does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueFilter {
    /// With so many messages or more.
    pub min_messages: Option<u64>,
    /// In this state.
    pub state: Option<String>,
    /// With this in their names after the namespace, in large or small letters.
    pub search: Option<String>,
    /// Those that come after the queue of this name.
    pub after: Option<String>,
}

impl QueueFilter {
    /// Whether a queue fits, as far as the broker tells.
    pub fn fits(&self, queue: &BrokerQueue) -> bool {
        self.min_messages.is_none_or(|least| queue.messages.is_some_and(|messages| messages >= least))
            && self.search.as_ref().is_none_or(|search| contains(&queue.name, search))
            && self.after.as_ref().is_none_or(|after| queue.name > *after)
    }

    /// Whether a queue fits whose state is known.
    pub fn fits_state(&self, shown: &ShownQueue) -> bool {
        self.state.as_ref().is_none_or(|state| state == shown.state())
    }
}

/// Whether `search` is in the name of a queue or an exchange, after the namespace that all have in theirs, whatever the case of either.
pub fn contains(name: &str, search: &str) -> bool {
    let own = name.splitn(3, '/').nth(2).unwrap_or_default();
    own.to_lowercase().contains(&search.to_lowercase())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::history::{Incarnation, Look};
    use crate::domain::inventory::QueueKind;
    use crate::domain::ladder::Watch;
    use crate::domain::name::Name;
    use crate::domain::namespace::Version;

    fn queue(messages: Option<u64>) -> BrokerQueue {
        let (name, kind) = ("queue/taskcluster-x/Jobs ü".to_owned(), QueueKind::Classic);
        BrokerQueue { name, messages, unacked: None, fingerprint: 7, kind, exclusive: false }
    }

    fn shown(messages: Option<u64>, fingerprint: u64) -> ShownQueue {
        let at = |minute: i64| Timestamp::from_millis(minute * 60_000);
        let look =
            |minute| Look { at: at(minute), ready: 900, unacked: 0, total: 900, consumers: Some(0), counters: None };
        let mut history = History::begin(look(0), fingerprint);
        (1..10).for_each(|minute| _ = history.add(look(minute), fingerprint));
        let watched = Watched {
            queue: queue(messages).name,
            namespace: Name::from_stored("taskcluster-x".to_owned()),
            messages: 900,
            watch: Watch::new(Incarnation { first_seen: at(0), fingerprint }, at(0)),
            decided: false,
            failure_told: None,
            version: Version(1),
        };
        let criteria = Criteria::new(100, 100, Duration::from_secs(60));
        ShownQueue::of(queue(messages), Some(&history), Some(watched), &[], &criteria, at(10))
    }

    #[test]
    fn a_queue_is_judged_by_looks_at_itself_alone() {
        let of_itself = shown(Some(900), 7);
        assert_eq!((of_itself.state(), of_itself.watched.is_some()), ("no consumer", true));
        let of_another = shown(Some(900), 8);
        assert_eq!((of_another.state(), of_another.watched, of_another.verdict), ("unknown", None, None));
        assert_eq!((shown(Some(0), 8).state(), shown(None, 8).state()), ("fine", "unknown"));
        assert!(is_state("no consumer") && is_state("unknown") && !is_state("") && !is_state("No consumer"));
    }

    #[test]
    fn a_filter_takes_what_fits_in_everything_that_it_asks_for() {
        let text = |text: &str| Some(text.to_owned());
        let fits = |filter: &QueueFilter, messages| filter.fits(&queue(messages));
        let all = QueueFilter::default();
        assert!(fits(&all, None) && all.fits_state(&shown(None, 8)));
        let large = QueueFilter { min_messages: Some(5), ..all.clone() };
        assert!(fits(&large, Some(5)) && !fits(&large, Some(4)) && !fits(&large, None));
        let found = QueueFilter { search: text("jobs Ü"), ..all.clone() };
        let others = ["jobsü", "taskcluster", "/"].map(|other| QueueFilter { search: text(other), ..all.clone() });
        assert!(fits(&found, None) && others.iter().all(|other| !fits(other, None)));
        let rest = |after: &str| QueueFilter { after: text(after), ..QueueFilter::default() };
        assert!(fits(&rest("queue/taskcluster-x/Jobs "), None) && !fits(&rest("queue/taskcluster-x/Jobs ü"), None));
        let troubled = QueueFilter { state: text("no consumer"), ..all };
        assert!(troubled.fits_state(&shown(Some(900), 7)) && !troubled.fits_state(&shown(Some(900), 8)));
    }
}
