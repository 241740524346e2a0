//! The rungs, one by one.

use super::*;
use crate::domain::history::{Counters, Look};
use crate::domain::verdict::{Criteria, verdict};

const THRESHOLDS: Thresholds = Thresholds { alert: 4000, delete: 8000, unacked_alert: 1000, unacked_limit: 4000 };

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// A queue that is looked at each two minutes.
struct Queue {
    now: Timestamp,
    history: Option<History>,
    watch: Option<Watch>,
    acknowledged: u64,
    exemption: Option<Exemption>,
    alarm: bool,
    can_be_told: bool,
    accepts: bool,
    muted: bool,
    policy: Policy,
}

impl Queue {
    fn new() -> Queue {
        Queue {
            now: Timestamp::from_millis(1_780_056_000_000),
            history: None,
            watch: None,
            acknowledged: 0,
            exemption: None,
            alarm: false,
            can_be_told: true,
            accepts: true,
            muted: false,
            policy: Policy::new(Measure::Delete, minutes(15), minutes(5), minutes(24 * 60), minutes(2)),
        }
    }

    /// Two minutes later it has so many messages, held by so many consumers that work.
    fn see(&mut self, total: u64, unacked: u64, consumers: u32) -> Step {
        self.now = self.now.plus(minutes(2));
        if consumers > 0 && unacked == 0 {
            self.acknowledged += 1000;
        }
        let counters = Some(Counters { acknowledged: self.acknowledged, ..Counters::default() });
        let look = Look { at: self.now, ready: total - unacked, unacked, total, consumers: Some(consumers), counters };
        match &mut self.history {
            None => self.history = Some(History::begin(look, 0)),
            Some(history) => _ = history.add(look, 0),
        }
        let (history, criteria) =
            (self.history.as_ref().unwrap(), Criteria::new(THRESHOLDS.alert, THRESHOLDS.unacked_alert, minutes(2)));
        let verdict = verdict(history, &criteria).unwrap();
        let situation = Situation {
            history,
            verdict: &verdict,
            settle: criteria.settle,
            silence: criteria.silence,
            thresholds: THRESHOLDS,
            exemption: self.exemption,
            watch: self.watch.as_ref(),
            alarm: self.alarm,
            can_be_told: self.can_be_told,
            muted: self.muted,
        };
        let step = ladder(&situation, self.now, &self.policy);
        self.watch.clone_from(&step.watch);
        if let Some(watch) = self.watch.as_mut().filter(|_| self.accepts) {
            watch.told.map(|told| watch.accept(told.at, self.now));
        }
        step
    }

    /// Looks until something is done, and says after how many minutes that is, and what.
    fn until_act(&mut self, total: u64, unacked: u64, consumers: u32) -> (u64, Act) {
        for look in 1..2000 {
            let act = self.see(total, unacked, consumers).act;
            if act != Act::Nothing {
                return (2 * look, act);
            }
        }
        (u64::MAX, Act::Nothing)
    }

    fn topic(&mut self, total: u64, unacked: u64, consumers: u32) -> (u64, Option<(Topic, Kind)>) {
        match self.until_act(total, unacked, consumers) {
            (after, Act::Tell(telling)) => (after, Some((telling.topic, telling.cause))),
            (after, _) => (after, None),
        }
    }
}

#[test]
fn a_queue_that_nobody_reads_is_told_of_and_removed_after_the_grace_time() {
    let mut queue = Queue::new();
    let (after, act) = queue.until_act(9000, 0, 0);
    let Act::Tell(telling) = act else { panic!("{act:?}") };
    assert_eq!((after, telling.topic, telling.cause), (8, Topic::Warning, Kind::NoConsumer));
    assert_eq!(telling.removal, Some(queue.now.plus(minutes(15))));
    assert_eq!(queue.see(9000, 0, 0).held, Some(Held::TooFewLooks));
    assert_eq!(queue.see(9000, 0, 0).held, Some(Held::Until(queue.now.plus(minutes(11)))));
    assert_eq!(queue.until_act(9000, 0, 0), (12, Act::Delete));
    // It is tried again until it is done.
    assert_eq!(queue.see(9000, 0, 0).act, Act::Delete);
}

#[test]
fn the_grace_time_begins_when_a_warning_is_accepted() {
    let mut queue = Queue { accepts: false, ..Queue::new() };
    assert_eq!(queue.until_act(9000, 0, 0).0, 8);
    for _ in 0..60 {
        let step = queue.see(9000, 0, 0);
        assert_eq!(step.act, Act::Nothing);
        assert!(matches!(step.held, Some(Held::NotWarned | Held::TooFewLooks)), "{step:?}");
    }
    queue.accepts = true;
    assert_eq!(queue.until_act(9000, 0, 0), (18, Act::Delete));
}

#[test]
fn where_nobody_can_be_told_it_is_recorded_as_long_and_told_once_somebody_can() {
    let mut queue = Queue { can_be_told: false, ..Queue::new() };
    assert_eq!(queue.until_act(9000, 0, 0).0, 8);
    assert_eq!(queue.until_act(9000, 0, 0), (16, Act::Delete));
    let mut queue = Queue { can_be_told: false, ..Queue::new() };
    assert_eq!(queue.until_act(9000, 0, 0).0, 8);
    queue.can_be_told = true;
    assert_eq!(queue.topic(9000, 0, 0), (2, Some((Topic::Warning, Kind::NoConsumer))));
    assert_eq!(queue.until_act(9000, 0, 0), (16, Act::Delete));
}

#[test]
fn an_alarm_shortens_the_grace_time_and_skips_no_warning() {
    let mut queue = Queue { alarm: true, ..Queue::new() };
    assert_eq!(queue.until_act(9000, 0, 0).0, 8);
    assert_eq!(queue.until_act(9000, 0, 0), (6, Act::Delete));
    let mut queue = Queue { alarm: true, accepts: false, muted: true, ..Queue::new() };
    assert_eq!(queue.until_act(9000, 0, 0).0, 8);
    assert_eq!(queue.until_act(9000, 0, 0).0, 24 * 60, "a message that was lost is sent again");
}

#[test]
fn what_may_grow_is_left_alone_up_to_its_bound_and_to_its_end() {
    let exemption = Exemption { up_to: Some(10_000), until: None };
    let mut queue = Queue { exemption: Some(exemption), ..Queue::new() };
    assert_eq!(queue.until_act(9000, 0, 0).1, Act::Nothing);
    assert_eq!(queue.see(9000, 0, 0).held, Some(Held::Exempt));
    assert_eq!(queue.topic(10_001, 0, 0).1, Some((Topic::Warning, Kind::NoConsumer)));
    assert_eq!(queue.until_act(10_001, 0, 0).1, Act::Delete);
    let mut queue = Queue::new();
    queue.exemption = Some(Exemption { up_to: None, until: Some(queue.now.plus(minutes(100))) });
    assert_eq!(queue.until_act(9000, 0, 0).0, 100);
}

#[test]
fn another_cause_is_told_at_once_where_it_is_worse_and_otherwise_after_a_while() {
    let mut queue = Queue::new();
    assert_eq!(queue.topic(5000, 0, 1).1, Some((Topic::Warning, Kind::Fine)));
    assert_eq!(queue.topic(5000, 0, 0), (8, Some((Topic::Change, Kind::NoConsumer))));
    // A consumer comes and does nothing.
    assert_eq!(queue.topic(5000, 10, 1), (10, Some((Topic::Change, Kind::Stopped))));
    // It goes again.
    assert_eq!(queue.topic(5000, 0, 0), (20, Some((Topic::Change, Kind::NoConsumer))));
}

#[test]
fn a_trouble_that_lasts_is_told_once_a_day_unless_muted() {
    let mut queue = Queue::new();
    assert_eq!(queue.topic(5000, 0, 0).0, 8);
    assert_eq!(queue.topic(5000, 0, 0), (24 * 60, Some((Topic::Reminder, Kind::NoConsumer))));
    queue.muted = true;
    assert_eq!(queue.until_act(5000, 0, 0).1, Act::Nothing);
}

#[test]
fn a_trouble_that_is_over_is_told_once_and_one_that_comes_back_has_to_stay_away_for_longer() {
    let mut queue = Queue::new();
    let mut calms = Vec::new();
    for _ in 0..4 {
        assert_eq!(queue.topic(2000, 0, 0).1, Some((Topic::Warning, Kind::NoConsumer)));
        let (after, told) = queue.topic(100, 0, 1);
        assert_eq!(told, Some((Topic::Normal, Kind::NoConsumer)));
        calms.push(after);
    }
    assert_eq!(calms, [12, 22, 42, 82]);
    // After a day nothing is known of it.
    for _ in 0..24 * 30 {
        queue.see(100, 0, 1);
    }
    assert_eq!(queue.watch, None);
}

#[test]
fn a_warning_of_a_queue_that_became_small_since_is_none() {
    let mut queue = Queue::new();
    assert_eq!(queue.topic(9000, 0, 0).0, 8);
    queue.see(100, 0, 1);
    assert_eq!(queue.watch.as_ref().unwrap().warned, None);
    assert_eq!(queue.topic(9000, 0, 0).1, Some((Topic::LastCall, Kind::NoConsumer)));
    assert_eq!(queue.until_act(9000, 0, 0), (16, Act::Delete));
}

#[test]
fn a_warning_that_is_long_ago_is_told_once_more_before_a_removal() {
    let mut queue = Queue::new();
    assert_eq!(queue.topic(5000, 0, 0).0, 8);
    for _ in 0..200 {
        assert_eq!(queue.see(5000, 0, 0).act, Act::Nothing);
    }
    assert_eq!(queue.topic(9000, 0, 0).1, Some((Topic::LastCall, Kind::NoConsumer)));
    assert_eq!(queue.until_act(9000, 0, 0), (16, Act::Delete));
}

#[test]
fn who_hoards_is_closed_with_growing_pauses_and_then_kept_out() {
    let mut queue = Queue::new();
    assert_eq!(queue.topic(9000, 9000, 1).1, Some((Topic::Warning, Kind::Hoarding)));
    assert_eq!(queue.until_act(9000, 9000, 1), (16, Act::CloseHoarder));
    assert_eq!(queue.until_act(9000, 9000, 1), (10, Act::CloseHoarder));
    assert_eq!(queue.until_act(9000, 9000, 1), (20, Act::CloseHoarder));
    assert_eq!(queue.see(9000, 9000, 1).held, Some(Held::Hoarder));
    assert_eq!(queue.until_act(9000, 9000, 1), (38, Act::KeepOut));
    // What is left is removed after one more warning.
    assert_eq!(queue.topic(9000, 0, 0), (8, Some((Topic::Change, Kind::NoConsumer))));
    assert_eq!(queue.until_act(9000, 0, 0).1, Act::Delete);
}

#[test]
fn a_guard_that_only_observes_shows_each_thing_once() {
    let mut queue = Queue::new();
    queue.policy.measure = Measure::Observe;
    for (total, unacked, consumers) in [(9000, 0, 0), (9000, 9000, 1)] {
        let mut shown = Vec::new();
        for _ in 0..300 {
            let step = queue.see(total, unacked, consumers);
            assert!(step.act == Act::Nothing || step.shown_only);
            shown.extend(Some(step.act).filter(|act| !matches!(act, Act::Nothing | Act::Tell(_))));
        }
        assert_eq!(shown, [if unacked == 0 { Act::Delete } else { Act::CloseHoarder }]);
    }
}

#[test]
fn without_a_fresh_look_nothing_is_done() {
    let mut queue = Queue::new();
    assert_eq!(queue.topic(9000, 0, 0).0, 8);
    let history = queue.history.as_ref().unwrap();
    let verdict = verdict(history, &Criteria::new(4000, 1000, minutes(2))).unwrap();
    let situation = Situation {
        history,
        verdict: &verdict,
        settle: minutes(5),
        silence: minutes(15),
        thresholds: THRESHOLDS,
        exemption: None,
        watch: queue.watch.as_ref(),
        alarm: false,
        can_be_told: true,
        muted: false,
    };
    let step = ladder(&situation, queue.now.plus(minutes(60)), &queue.policy);
    assert_eq!((step.act, step.watch), (Act::Nothing, queue.watch.clone()));
}

#[test]
fn an_acceptance_of_an_older_message_changes_nothing() {
    let mut queue = Queue { accepts: false, ..Queue::new() };
    assert_eq!(queue.topic(9000, 0, 0).0, 8);
    let mut watch = queue.watch.unwrap();
    let stored = watch.told.unwrap().at;
    assert!(!watch.accept(stored.minus(minutes(1)), queue.now));
    assert_eq!(watch.warned, None);
    assert!(watch.accept(stored, stored.minus(minutes(9))), "by a clock that is late");
    assert_eq!(watch.warned, Some(stored));
    assert!(!watch.accept(stored, queue.now), "a second time");
}
