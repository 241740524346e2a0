//! What was seen of a queue: a sample of each look, fine for some hours, and one of each three hours for two weeks.
//!
//! A look that was missed leaves a gap, never a zero. Where a counter of the broker falls, the broker or the queue was
//! restarted: what was counted before does not compare with what comes after, so a new *window* begins. A queue that was
//! declared anew is another queue of the same name, an *incarnation* of its own, and nothing of the old one is kept.
//!
//! Only a queue that is not empty has a history; see [`History::may_be_dropped`].

mod bytes;

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Timestamp;

pub use bytes::MAX_BYTES;

/// How long each look is kept.
const FINE: Duration = Duration::from_secs(3 * 3600);
/// How many looks are kept at most.
const FINE_SAMPLES: usize = 90;
/// Where the looks that are kept go back nearly as far as any is kept, the oldest one is dropped for a new one.
const NEARLY: Duration = Duration::from_secs(300);
/// The length of the stretches of which one sample each is kept, in milliseconds.
const STRETCH: i64 = 3 * 3_600_000;
/// How many stretches are kept: two weeks.
const STRETCHES: usize = 14 * 8;
/// A look this much older than the last one is a clock that was set back: what was seen by the wrong clock is dropped.
const SET_BACK: Duration = Duration::from_secs(300);
/// What is empty for this long needs no history.
const EMPTY: Duration = Duration::from_secs(1800);

/// The largest number of messages that is told from a larger one.
const MOST_MESSAGES: u64 = (1 << 35) - 1;
/// The largest number of consumers, likewise.
const MOST_CONSUMERS: u32 = (1 << 21) - 1;
/// The largest count of events, likewise.
const MOST_EVENTS: u64 = (1 << 49) - 1;

/// What the broker counts of a queue since it was declared or, where statistics were lost, since then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that are done with: acknowledged, delivered without waiting for that, or fetched without.
    pub acknowledged: u64,
    /// Messages that were handed out.
    pub delivered: u64,
    /// Messages that were handed out once more.
    pub redelivered: u64,
}

/// What one look at a queue shows. A queue whose number of messages is unknown was not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// When.
    pub at: Timestamp,
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Messages that a consumer has and did not acknowledge.
    pub unacked: u64,
    /// Both, as the broker adds them up.
    pub total: u64,
    /// How many consumers there are; `None` where the look was too cheap to show it.
    pub consumers: Option<u32>,
    /// What the broker counts; `None` likewise, and where its statistics are off.
    pub counters: Option<Counters>,
}

/// A look, and whether it compares with the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// What was seen.
    pub look: Look,
    /// A new window begins here.
    pub begins: bool,
}

/// Tells a queue from an earlier one of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnation {
    /// When it was first seen with messages.
    pub first_seen: Timestamp,
    /// A hash of its kind and arguments, by which an incarnation that differs in them is known.
    pub fingerprint: u64,
}

/// What a look adds to a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// One more sample.
    More,
    /// Nothing: it is no newer than the last one.
    Nothing,
    /// The first sample of a new window: the broker counts anew.
    Window,
    /// The first sample of another queue of this name.
    Incarnation,
}

/// What was seen of one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    incarnation: Incarnation,
    fine: VecDeque<Sample>,
    /// The sample with the fewest messages of each stretch, without consumers and counters: what the queue came down to.
    coarse: VecDeque<Sample>,
}

impl History {
    /// The history of a queue that is seen for the first time.
    pub fn begin(look: Look, fingerprint: u64) -> History {
        let look = bounded(look);
        let incarnation = Incarnation { first_seen: look.at, fingerprint };
        let mut history = History { incarnation, fine: VecDeque::new(), coarse: VecDeque::new() };
        history.push(Sample { look, begins: true });
        history
    }

    /// Adds a look. One that is older than the last one by little (two processes looked) is left out.
    pub fn add(&mut self, look: Look, fingerprint: u64) -> Added {
        let look = bounded(look);
        let Some(last) = self.last().copied() else {
            *self = History::begin(look, fingerprint);
            return Added::Incarnation;
        };
        if look.at <= last.at && last.at.since(look.at) <= SET_BACK {
            return Added::Nothing;
        }
        // After a clock was set back, the queue may be the same, but when it was first seen is no longer known.
        if look.at <= last.at || fingerprint != self.incarnation.fingerprint {
            *self = History::begin(look, fingerprint);
            return Added::Incarnation;
        }
        match self.restarted(&look) {
            Added::Incarnation => {
                *self = History::begin(look, fingerprint);
                Added::Incarnation
            }
            added => {
                self.push(Sample { look, begins: added == Added::Window });
                added
            }
        }
    }

    /// Whether the broker counts anew, and if so, whether that is because the queue is another one. The messages of a queue
    /// outlive a restart of the broker, and don't get many more by it; one that was declared anew begins without any.
    fn restarted(&self, look: &Look) -> Added {
        let Some(now) = look.counters else { return Added::More };
        let mut fewest = look.total;
        for Sample { look: before, .. } in self.window(Duration::MAX) {
            let Some(counted) = before.counters else {
                fewest = fewest.min(before.total);
                continue;
            };
            let fell = now.acknowledged < counted.acknowledged
                || now.delivered < counted.delivered
                || now.redelivered < counted.redelivered;
            return match fell {
                false => Added::More,
                true if fewest < before.total.div_ceil(2) || look.total > before.total / 2 * 3 => Added::Incarnation,
                true => Added::Window,
            };
        }
        Added::More
    }

    fn push(&mut self, sample: Sample) {
        let at = sample.look.at;
        self.fine.push_back(sample);
        while self.fine.front().is_some_and(|old| at.since(old.look.at) > FINE) {
            self.fine.pop_front();
        }
        if self.fine.len() > FINE_SAMPLES {
            self.thin(at);
        }
        let coarse = Sample { look: Look { consumers: None, counters: None, ..sample.look }, begins: false };
        match self.coarse.back_mut().filter(|last| stretch(last.look.at) == stretch(at)) {
            Some(last) if last.look.total < coarse.look.total => {}
            Some(last) => *last = coarse,
            None => self.coarse.push_back(coarse),
        }
        let oldest = stretch(at) - STRETCHES as i64;
        while self.coarse.front().is_some_and(|old| stretch(old.look.at) <= oldest) {
            self.coarse.pop_front();
        }
    }

    /// Makes room for one look: looks that follow each other quickly must not push out all that is older. Of the older half, the
    /// one with the nearest neighbours goes.
    fn thin(&mut self, now: Timestamp) {
        if self.fine.front().is_some_and(|oldest| now.since(oldest.look.at) + NEARLY >= FINE) {
            self.fine.pop_front();
            return;
        }
        let apart = |index: &usize| self.fine[index + 1].look.at.since(self.fine[index - 1].look.at);
        let Some(index) = (1..self.fine.len() / 2).min_by_key(apart) else { return };
        if let Some(gone) = self.fine.remove(index) {
            self.fine[index].begins |= gone.begins;
        }
    }

    /// Which queue it is of.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The last look.
    pub fn last(&self) -> Option<&Look> {
        self.fine.back().map(|sample| &sample.look)
    }

    /// All looks that are kept, the oldest first.
    pub fn looks(&self) -> impl DoubleEndedIterator<Item = &Look> {
        self.fine.iter().map(|sample| &sample.look)
    }

    /// The look with the fewest messages of each stretch of three hours in the last two weeks, the oldest first.
    pub fn lows(&self) -> impl DoubleEndedIterator<Item = &Look> {
        self.coarse.iter().map(|sample| &sample.look)
    }

    /// The samples that compare with the last one, the newest first: to where the window begins, or to a silence longer than
    /// `silence`.
    pub fn window(&self, silence: Duration) -> impl Iterator<Item = &Sample> {
        let mut newer: Option<&Sample> = None;
        self.fine.iter().rev().take_while(move |sample| {
            let compares = newer.is_none_or(|newer| !newer.begins && newer.look.at.since(sample.look.at) <= silence);
            newer = Some(sample);
            compares
        })
    }

    /// Since when each look was so, and how many looks that are, without a gap longer than `gap` between two of them; `None`
    /// where the last look was not.
    pub fn run(&self, gap: Duration, so: impl Fn(&Look) -> bool) -> Option<(Timestamp, usize)> {
        let run = self.window(gap).take_while(|sample| so(&sample.look));
        run.fold(None, |run, sample| Some((sample.look.at, run.map_or(1, |(_, looks)| looks + 1))))
    }

    /// Whether it holds nothing that is needed: each look of the last half hour showed an empty queue. What is remembered of
    /// warnings is not in here, and has to be gone before.
    pub fn may_be_dropped(&self, now: Timestamp) -> bool {
        let empty = self.looks().rev().take_while(|look| look.total == 0).last();
        empty.is_some_and(|since| now.since(since.at) >= EMPTY)
    }
}

fn stretch(at: Timestamp) -> i64 {
    at.millis().div_euclid(STRETCH)
}

/// What is stored: whole seconds, and numbers that have a bounded length.
fn bounded(look: Look) -> Look {
    let Look { at, ready, unacked, total, consumers, counters } = look;
    Look {
        at: Timestamp::from_millis(at.millis() - at.millis().rem_euclid(1000)),
        ready: ready.min(MOST_MESSAGES),
        unacked: unacked.min(MOST_MESSAGES),
        total: total.min(MOST_MESSAGES),
        consumers: consumers.map(|consumers| consumers.min(MOST_CONSUMERS)),
        counters: counters.map(|counters| Counters {
            acknowledged: counters.acknowledged.min(MOST_EVENTS),
            delivered: counters.delivered.min(MOST_EVENTS),
            redelivered: counters.redelivered.min(MOST_EVENTS),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(minute: i64, total: u64, acknowledged: Option<u64>) -> Look {
        let counters = acknowledged.map(|acknowledged| Counters { acknowledged, ..Counters::default() });
        let at = Timestamp::from_millis(minute * 60_000);
        Look { at, ready: total, unacked: 0, total, consumers: Some(1), counters }
    }

    fn seen(looks: &[(i64, u64, Option<u64>)]) -> (History, Added) {
        let mut looks = looks.iter().map(|(minute, total, acked)| look(*minute, *total, *acked));
        let mut history = History::begin(looks.next().unwrap(), 7);
        let added = looks.map(|look| history.add(look, 7)).last();
        (history, added.unwrap_or(Added::Incarnation))
    }

    #[test]
    fn a_counter_that_falls_begins_a_window_and_with_the_messages_gone_an_incarnation() {
        let (history, added) = seen(&[(0, 900, Some(50)), (2, 950, Some(60)), (4, 940, Some(3))]);
        assert_eq!((added, history.window(Duration::MAX).count()), (Added::Window, 1));
        assert_eq!(history.incarnation().first_seen, Timestamp::from_millis(0));
        let (history, added) = seen(&[(0, 900, Some(50)), (2, 950, Some(60)), (4, 8, Some(3))]);
        assert_eq!((added, history.looks().count()), (Added::Incarnation, 1));
        assert_eq!(history.incarnation().first_seen, look(4, 0, None).at);
        let (_, added) = seen(&[(0, 900, Some(50)), (2, 950, Some(60)), (4, 6000, Some(3))]);
        assert_eq!(added, Added::Incarnation, "filled anew between two looks");
        // The broker counts late after it dropped the messages, or a queue was declared anew.
        let (_, added) = seen(&[(0, 900, Some(50)), (2, 0, None), (4, 700, None), (6, 800, Some(3))]);
        assert_eq!(added, Added::Incarnation);
        let (_, added) = seen(&[(0, 900, Some(50)), (2, 900, None), (4, 700, None), (6, 800, Some(3))]);
        assert_eq!(added, Added::Window);
    }

    #[test]
    fn a_queue_with_other_arguments_is_another_one() {
        let (mut history, _) = seen(&[(0, 900, None), (2, 950, None)]);
        assert_eq!(history.add(look(4, 950, None), 8), Added::Incarnation);
        assert_eq!((history.looks().count(), history.incarnation().fingerprint), (1, 8));
    }

    #[test]
    fn a_missed_look_is_a_gap() {
        let (history, _) = seen(&[(0, 900, None), (2, 900, None), (8, 900, None), (10, 900, None)]);
        let above = |limit| move |look: &Look| look.total > limit;
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        assert_eq!(history.run(minutes(3), above(800)), Some((look(8, 0, None).at, 2)));
        assert_eq!(history.run(minutes(7), above(800)), Some((look(0, 0, None).at, 4)));
        assert_eq!(history.run(minutes(7), above(900)), None);
        assert_eq!(history.window(minutes(3)).count(), 2);
    }

    #[test]
    fn looks_of_two_processes_at_once_and_clocks_that_are_set_back_do_no_harm() {
        let (mut history, _) = seen(&[(0, 900, None), (10, 950, None)]);
        assert_eq!(history.add(look(9, 1, None), 7), Added::Nothing);
        assert_eq!(history.add(look(10, 1, None), 7), Added::Nothing);
        assert_eq!(history.add(look(3, 1, None), 7), Added::Incarnation);
        assert_eq!(history.looks().count(), 1);
    }

    #[test]
    fn fine_samples_are_kept_for_hours_and_the_lowest_of_each_stretch_for_two_weeks() {
        let mut history = History::begin(look(0, 5, None), 7);
        for minute in 1..30 * 24 * 60 {
            history.add(look(minute, 1000 + u64::try_from(minute % 60).unwrap(), Some(0)), 7);
        }
        assert_eq!(history.fine.len(), FINE_SAMPLES);
        assert_eq!(history.coarse.len(), STRETCHES);
        assert!(history.lows().all(|low| low.total == 1000), "{:?}", history.coarse);
        // Looks that follow each other quickly don't push out what is older.
        let (mut quick, oldest) = (History::begin(look(0, 5, None), 7), look(0, 5, None).at);
        for second in 1..3600 {
            let at = oldest.plus(Duration::from_secs(second));
            quick.add(Look { at, ..look(0, 5, None) }, 7);
        }
        assert_eq!(quick.looks().next().unwrap().at, oldest);
        assert_eq!(quick.fine.len(), FINE_SAMPLES);
        assert!(quick.looks().rev().take(40).is_sorted_by(|a, b| a.at.since(b.at) <= Duration::from_secs(1)));
    }

    #[test]
    fn a_queue_that_stays_empty_needs_no_history() {
        let (history, _) = seen(&[(0, 900, None), (2, 0, None), (20, 0, None)]);
        assert!(!history.may_be_dropped(look(31, 0, None).at));
        assert!(history.may_be_dropped(look(32, 0, None).at));
        let (history, _) = seen(&[(0, 0, None), (2, 1, None)]);
        assert!(!history.may_be_dropped(look(99, 0, None).at));
    }
}
