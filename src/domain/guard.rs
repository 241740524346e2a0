//! What was seen of queues, judged: from totals and closer looks to a verdict and a step for each queue that matters.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::exemption::{Exempted, exemption_of};
use crate::domain::history::{History, Look};
use crate::domain::inventory::{BrokerQueue, QueueKind};
use crate::domain::ladder::{self, Situation, Step, Thresholds, ladder};
use crate::domain::name::{Name, Names};
use crate::domain::recipients::Mute;
use crate::domain::snapshot::Snapshot;
use crate::domain::verdict::{Criteria, Verdict, verdict};
use crate::domain::watched::Watched;

/// After so long without a look, what was seen of a queue that nobody was told of is dropped.
const UNSEEN: Duration = Duration::from_secs(3 * 3600);
/// From so many unacknowledged messages on a queue gets a closer look.
const HELD: u64 = 100;
/// So many queues get one in each sweep at most.
pub const CLOSER_LOOKS: usize = 200;

/// How the guard decides.
#[derive(Debug, Clone)]
pub struct GuardPolicy {
    /// How many messages are too many.
    pub thresholds: Thresholds,
    /// How a queue is judged.
    pub criteria: Criteria,
    /// What is done then, and when.
    pub ladder: ladder::Policy,
}

impl GuardPolicy {
    /// The policy for these thresholds. A grace time of less than 15 minutes shortens all times within which a trouble is
    /// judged and a removal is considered, in proportion.
    pub fn new(thresholds: Thresholds, ladder: ladder::Policy) -> GuardPolicy {
        const USUAL: Duration = Duration::from_secs(15 * 60);
        let criteria = Criteria::new(thresholds.alert, thresholds.unacked_alert, ladder.interval);
        let shorter = |time: Duration| match ladder.grace < USUAL {
            true => time.mul_f64(ladder.grace.as_secs_f64() / USUAL.as_secs_f64()),
            false => time,
        };
        GuardPolicy {
            thresholds,
            criteria: Criteria { settle: shorter(criteria.settle), ..criteria },
            ladder: ladder::Policy {
                over: shorter(ladder.over),
                calm: shorter(ladder.calm),
                calm_size: shorter(ladder.calm_size),
                closing_pause: shorter(ladder.closing_pause),
                ..ladder
            },
        }
    }
}

/// A change of what is kept of a queue: its history, or that there is none.
pub type HistoryChange = (String, Option<History>);

/// A queue that matters.
#[derive(Debug, Clone)]
pub struct Observed<'a> {
    /// The queue.
    pub queue: &'a BrokerQueue,
    /// The namespace that owns it.
    pub owner: Name,
    /// What its history says.
    pub verdict: Verdict,
    /// What is remembered of it.
    pub known: Option<&'a Watched>,
    /// Whether it may grow.
    pub exempted: Option<&'a Exempted>,
    /// Whether no reminders of it are sent, and until when.
    pub mute: Option<Mute>,
    /// What is to be done.
    pub step: Step,
}

/// What the guard has to know of the namespace that owns a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing<'a> {
    /// Whether somebody can be told of its troubles: there is an address that does not refuse our mail for good.
    pub can_be_told: bool,
    /// Whether no reminders of the queue are sent.
    pub mute: Option<Mute>,
    /// Which of its queues may grow.
    pub exemptions: &'a [Exempted],
}

/// All queues that matter, the one with the most messages first, and what is to be kept of them.
#[derive(Debug, Clone, Default)]
pub struct Observations<'a> {
    /// The queues.
    pub queues: Vec<Observed<'a>>,
    /// What is to be kept.
    pub histories: Vec<HistoryChange>,
}

/// Which queues get a closer look: those with many messages, or many unacknowledged ones, and those that are remembered. Of too
/// many, those with the most.
pub fn look_closer_at(
    queues: &[BrokerQueue],
    watches: &[Watched],
    names: &Names,
    thresholds: Thresholds,
) -> Vec<String> {
    let known: BTreeMap<_, _> = watches.iter().map(|known| (known.queue.as_str(), known)).collect();
    let weight = |queue: &BrokerQueue| queue.messages.unwrap_or(0).max(queue.unacked.unwrap_or(0));
    let matters = |queue: &&BrokerQueue| {
        let large = queue.messages.is_some_and(|messages| messages >= thresholds.trouble().max(1));
        let held = queue.unacked.is_some_and(|unacked| unacked >= HELD);
        let watched = known.contains_key(queue.name.as_str());
        queue.kind != QueueKind::Stream && (large || held || watched) && names.owner_of_queue(&queue.name).is_some()
    };
    let mut chosen: Vec<_> = queues.iter().filter(matters).collect();
    chosen.sort_by_key(|queue| (std::cmp::Reverse(weight(queue)), queue.name.as_str()));
    chosen.into_iter().take(CLOSER_LOOKS).map(|queue| queue.name.clone()).collect()
}

/// Adds what was seen to the histories, and judges the queues of which `standing` says something, by their name and the
/// namespace that owns them; it says nothing of those that are none of ours, or gone. A queue whose number of messages is unknown was not looked at; one that
/// stays empty has no history.
pub fn observe<'a>(
    seen: &'a Snapshot,
    standing: impl Fn(&str, &Name) -> Option<Standing<'a>>,
    names: &Names,
    now: Timestamp,
    policy: &GuardPolicy,
) -> Observations<'a> {
    let watches: BTreeMap<_, _> = seen.watches.iter().map(|known| (known.queue.as_str(), known)).collect();
    let mut found = Observations::default();
    for queue in &seen.inventory.queues {
        let Some(owner) = names.owner_of_queue(&queue.name) else { continue };
        let Some(Standing { can_be_told, mute, exemptions }) = standing(&queue.name, &owner) else { continue };
        let known = watches.get(queue.name.as_str()).copied();
        let Some(look) = look(queue, seen, now).filter(|_| queue.kind != QueueKind::Stream) else { continue };
        let history = match seen.histories.get(&queue.name) {
            Some(history) => {
                let mut history = history.clone();
                history.add(look, queue.fingerprint);
                history
            }
            None if look.total == 0 && known.is_none() => continue,
            None => History::begin(look, queue.fingerprint),
        };
        let Some(verdict) = verdict(&history, &policy.criteria) else { continue };
        let exempted = exemption_of(exemptions, &queue.name, now);
        let step = ladder(
            &Situation {
                history: &history,
                verdict: &verdict,
                settle: policy.criteria.settle,
                silence: policy.criteria.silence,
                thresholds: policy.thresholds,
                exemption: exempted.map(|exempted| exempted.exemption),
                watch: known.map(|known| &known.watch),
                alarm: seen.alarm,
                can_be_told,
                muted: mute.is_some(),
            },
            now,
            &policy.ladder,
        );
        let needed = step.watch.is_some() || !history.may_be_dropped(now);
        found.histories.push((queue.name.clone(), needed.then_some(history)));
        found.queues.push(Observed { queue, owner, verdict, known, exempted, mute, step });
    }
    found.queues.sort_by_key(|observed| std::cmp::Reverse(observed.step.urgency));
    let looked: std::collections::BTreeSet<_> = found.histories.iter().map(|(queue, _)| queue.clone()).collect();
    let unseen = seen.histories.iter().filter(|(queue, history)| {
        let old = history.last().is_none_or(|last| now.since(last.at) > UNSEEN);
        old && !looked.contains(*queue) && !watches.contains_key(queue.as_str())
    });
    found.histories.extend(unseen.map(|(queue, _)| (queue.clone(), None)));
    found
}

fn look(queue: &BrokerQueue, seen: &Snapshot, now: Timestamp) -> Option<Look> {
    let total = queue.messages?;
    let unacked = queue.unacked.unwrap_or(0).min(total);
    let closer = seen.closer.get(&queue.name);
    Some(Look {
        at: seen.looked.unwrap_or(now).min(now),
        ready: total - unacked,
        unacked,
        total,
        consumers: closer.and_then(|closer| closer.consumers),
        counters: closer.and_then(|closer| closer.counters),
    })
}
