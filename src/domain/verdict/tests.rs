//! Each kind by a history that a person would give it.

use proptest::prelude::*;

use super::*;
use crate::domain::history::{Counters, History};

const CRITERIA: fn() -> Criteria = || Criteria::new(4000, 1000, Duration::from_secs(120));

fn at(minute: u64) -> Timestamp {
    // 12:00 UTC.
    Timestamp::from_millis(1_780_056_000_000).plus(Duration::from_secs(60 * minute))
}

/// A look at an even minute.
#[derive(Debug, Clone, Copy)]
struct Seen {
    total: u64,
    unacked: u64,
    consumers: Option<u32>,
    counters: Option<[u64; 2]>,
}

fn seen(total: u64, unacked: u64, consumers: u32, acknowledged: u64, redelivered: u64) -> Seen {
    Seen { total, unacked, consumers: Some(consumers), counters: Some([acknowledged, redelivered]) }
}

fn totals(total: u64, unacked: u64) -> Seen {
    Seen { total, unacked, consumers: None, counters: None }
}

fn history(looks: impl IntoIterator<Item = Seen>) -> (History, Timestamp) {
    let mut history: Option<History> = None;
    let mut now = at(0);
    for (n, Seen { total, unacked, consumers, counters }) in (0..).zip(looks) {
        now = at(2 * n);
        let counters = counters.map(|[acknowledged, redelivered]| Counters { acknowledged, delivered: 0, redelivered });
        let look = Look { at: now, ready: total - unacked, unacked, total, consumers, counters };
        match &mut history {
            None => history = Some(History::begin(look, 0)),
            Some(history) => _ = history.add(look, 0),
        }
    }
    (history.unwrap(), now)
}

fn judged(looks: impl IntoIterator<Item = Seen>) -> (Kind, String) {
    let (history, now) = history(looks);
    let verdict = verdict(&history, &CRITERIA()).unwrap();
    (verdict.kind, verdict.sentence(now))
}

#[test]
fn a_small_queue_is_fine_whatever_it_does() {
    assert_eq!(judged([seen(500, 0, 0, 5, 0); 30]).0, Kind::Fine);
    assert_eq!(judged((0..9).map(|n| seen(50 * n, 0, 0, 0, 900 * n))).0, Kind::Fine);
}

#[test]
fn no_consumer_is_said_after_some_looks_and_since_when() {
    let worked = (0..5).map(|n| seen(900, 10, 2, 100 * n, 0));
    let gone = (0..9).map(|n| seen(900 + 20 * n, 0, 0, 400, 0));
    assert_eq!(judged(worked.clone().chain(gone.clone().take(3))).0, Kind::Fine);
    let (kind, sentence) = judged(worked.clone().chain(gone.clone().take(4)));
    assert_eq!((kind, sentence.as_str()), (Kind::NoConsumer, "no consumer since 12:10 UTC"));
    let back = [seen(1080, 40, 1, 400, 0)];
    assert_eq!(judged(worked.chain(gone).chain(back)).0, Kind::Slow);
    let (_, sentence) = judged([seen(900, 0, 0, 0, 0); 9]);
    assert_eq!(sentence, "no consumer since 12:00 UTC or longer");
}

#[test]
fn a_queue_that_is_fetched_from_has_no_consumer_and_is_read() {
    assert_eq!(judged((0..9).map(|n| seen(2000, 0, 0, 30 * n, 0))).0, Kind::Fine);
    // Where that isn't counted, its size tells.
    let counted = |look: Seen| Seen { counters: None, ..look };
    assert_eq!(judged((0..9).map(|n| counted(seen(3000 - 50 * n, 0, 0, 0, 0)))).0, Kind::Draining);
    assert_eq!(judged((0..9).map(|n| counted(seen(3000 + n, 0, 0, 0, 0)))).0, Kind::NoConsumer);
}

#[test]
fn messages_that_expire_are_not_read() {
    let (history, _) = history((0..9).map(|n| seen(9000 - 100 * n, 0, 0, 7, 0)));
    let verdict = verdict(&history, &CRITERIA()).unwrap();
    assert_eq!((verdict.kind, verdict.falls()), (Kind::NoConsumer, true));
}

#[test]
fn consumers_that_stop_are_told_from_those_that_never_began() {
    let worked = (0..6).map(|n| seen(900, 10, 3, 100 * n, 0));
    let (kind, sentence) = judged(worked.chain((0..5).map(|n| seen(900 + 9 * n, 10, 3, 500, 0))));
    assert_eq!((kind, sentence.as_str()), (Kind::Stopped, "its 3 consumers acknowledged nothing since 12:10 UTC"));
    let (kind, sentence) = judged((0..5).map(|n| seen(900 + 9 * n, 10, 1, 0, 0)));
    assert_eq!(kind, Kind::Stalled);
    assert_eq!(sentence, "its one consumer never acknowledged anything since 12:00 UTC or longer");
    // Who came a moment ago is given time.
    let late = [seen(9000, 0, 0, 0, 0); 9].into_iter().chain([seen(9000, 10, 1, 0, 0); 3]);
    assert_eq!(judged(late).0, Kind::Fine);
}

#[test]
fn who_pauses_now_and_then_has_not_stopped() {
    // An acknowledgement each 20 minutes, twelve minutes ago.
    let slow = (0..46).map(|n| seen(1500, 4, 4, 4 * (n / 10), 0));
    assert_eq!(judged(slow).0, Kind::Fine);
}

#[test]
fn consumers_that_come_and_go_and_do_nothing_have_stopped() {
    let worked = (0..6).map(|n| seen(900, 10, 1, 100 * n, 0));
    assert_eq!(judged(worked.chain((0..6).map(|n| seen(900, 0, n as u32 % 2, 500, 0)))).0, Kind::Stopped);
}

#[test]
fn a_burst_that_is_read_drains() {
    let burst = (0..6).map(|n| seen(20_000 - 600 * n, 50, 4, 600 * n, 0));
    let (kind, sentence) = judged(burst);
    assert_eq!((kind, sentence.as_str()), (Kind::Draining, "draining: 17,000 messages, losing 300 a minute"));
}

#[test]
fn a_queue_that_grows_although_it_is_read_is_slow() {
    let (kind, sentence) = judged((0..9).map(|n| seen(1000 + 100 * n, 50, 4, 600 * n, 0)));
    assert_eq!(kind, Kind::Slow);
    assert_eq!(sentence, "1,800 messages, gaining 50 a minute: more are published than are acknowledged");
}

#[test]
fn messages_that_are_delivered_again_and_again_are_a_loop() {
    let (kind, sentence) = judged((0..6).map(|n| seen(1500 + n, 20, 1, 2 * n, 40 * n)));
    assert_eq!(kind, Kind::Looping);
    assert_eq!(
        sentence,
        "200 messages were delivered again in the last 10 minutes, and 10 acknowledged: its consumer fails on them"
    );
    // Of three messages it fails on one, and falls behind.
    let fails = |growth: u64| judged((0..9).map(|n| seen(1500 + growth * n, 1, 1, 24 * n, 12 * n))).0;
    assert_eq!((fails(100), fails(0)), (Kind::Looping, Kind::Fine));
    let poison = |n: u64| seen(1500, 1, 1, 9, 30 * n);
    assert_ne!(judged((0..3).map(poison)).0, Kind::Looping);
    // A consumer that went and came back has its messages delivered again once.
    let once = (0..6).map(|n| seen(1500, 500, 1, 20 * n, if n > 2 { 500 } else { 0 }));
    assert_ne!(judged(once).0, Kind::Looping);
}

#[test]
fn one_consumer_that_holds_everything_hoards() {
    let (kind, sentence) = judged((0..5).map(|n| seen(41_000 + 50 * n, 41_000 + 50 * n, 1, 0, 0)));
    assert_eq!(
        (kind, sentence.as_str()),
        (Kind::Hoarding, "one consumer holds 41,200 messages without acknowledging any")
    );
    // Others that work don't hide it, and it may work a little itself.
    let (kind, sentence) = judged((0..5).map(|n| seen(41_000, 40_900, 3, 200 * n, 0)));
    assert_eq!(kind, Kind::Hoarding);
    assert_eq!(sentence, "3 consumers hold 40,900 messages, and acknowledged 800 in the last 8 minutes");
    // Many messages in many quick hands are none.
    assert_eq!(judged((0..9).map(|n| seen(2100, 2000, 4, 1200 * n, 0))).0, Kind::Fine);
}

#[test]
fn without_statistics_the_numbers_of_messages_are_judged() {
    let (kind, sentence) = judged((0..5).map(|n| totals(1000 + 30 * n, 0)));
    assert_eq!(kind, Kind::Stopped);
    assert_eq!(sentence, "nothing was taken from it since 12:00 UTC or longer; its consumers are not known");
    assert_eq!(judged((0..5).map(|n| totals(5000 + 900 * n, 5000 + 900 * n))).0, Kind::Hoarding);
    assert_eq!(judged([totals(3000, 10); 5]).0, Kind::Stalled);
    assert_eq!(judged((0..9).map(|n| totals(9000 - 90 * n, 10))).0, Kind::Draining);
    assert_eq!(judged((0..9).map(|n| totals(9000 + 90 * n, 10))).0, Kind::Slow);
}

#[test]
fn after_a_silence_the_judgement_begins_anew() {
    let (mut history, _) = history([seen(900, 0, 0, 0, 0); 9]);
    let look = Look { at: at(60), ..*history.last().unwrap() };
    history.add(look, 0);
    assert_eq!(verdict(&history, &CRITERIA()).unwrap().kind, Kind::Fine);
}

fn any_seen() -> impl Strategy<Value = Seen> {
    let few = prop_oneof![0..3u64, 0..20_000u64, any::<u64>()];
    let numbers = (few.clone(), few.clone(), proptest::option::of(0..4u32), proptest::option::of([few.clone(), few]));
    numbers.prop_map(|(total, unacked, consumers, counters)| Seen {
        total,
        unacked: unacked.min(total),
        consumers,
        counters,
    })
}

proptest! {
    #[test]
    fn every_history_has_a_verdict_and_a_sentence(looks in proptest::collection::vec(any_seen(), 1..60)) {
        let (history, now) = history(looks);
        let verdict = verdict(&history, &CRITERIA()).unwrap();
        prop_assert!(!verdict.sentence(now).is_empty());
        let _ = crate::domain::forecast::forecast(&history, 8000, CRITERIA().silence, now).map(|told| told.sentence(now));
    }
}
