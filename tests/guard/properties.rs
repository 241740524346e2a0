//! What holds whatever happens: in worlds in which anything happens at any time, and for histories that no world makes.

use std::time::Duration;

use proptest::prelude::*;
use taskcluster_pulse::clock::Timestamp;
use taskcluster_pulse::domain::history::{Counters, History, Look, MAX_BYTES};
use taskcluster_pulse::domain::ladder::{
    Act, Exemption, Mail, Measure, Policy, Situation, Stage, Telling, Topic, Watch, ladder,
};
use taskcluster_pulse::domain::verdict::{Criteria, verdict};

use super::rules::{ALARM_GRACE, Deed, GRACE, THRESHOLDS, minutes, policy};
use super::score::PLAIN;
use super::traces::{Trace, trace};
use super::truth::{ALERT, DELETE};
use super::world::{Does, World, start};

/// Something that happens.
#[derive(Debug, Clone, Copy)]
enum Event {
    Inflow(u32),
    Publish(u32),
    Leave,
    Work(u32),
    Hold(Option<u64>),
    Crash(u64),
    Restart,
    DeclareAnew,
    Listed(bool),
    Mail(bool),
    Contact(bool),
    Statistics(bool),
    Alarm(bool),
    Expire(u32),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => prop_oneof![Just(0), 0..100u32, 0..1000u32].prop_map(Event::Inflow),
        3 => (0..30_000u32).prop_map(Event::Publish),
        3 => Just(Event::Leave),
        4 => prop_oneof![0..100u32, 0..2000u32].prop_map(Event::Work),
        1 => prop_oneof![Just(None), (1..100u64).prop_map(Some)].prop_map(Event::Hold),
        1 => (0..3u64).prop_map(Event::Crash),
        1 => Just(Event::Restart),
        1 => Just(Event::DeclareAnew),
        2 => any::<bool>().prop_map(Event::Listed),
        2 => any::<bool>().prop_map(Event::Mail),
        1 => any::<bool>().prop_map(Event::Contact),
        1 => any::<bool>().prop_map(Event::Statistics),
        1 => any::<bool>().prop_map(Event::Alarm),
        1 => (0..200u32).prop_map(Event::Expire),
    ]
}

fn happen(world: &mut World, event: Event) {
    match event {
        Event::Inflow(inflow) => world.inflow = inflow.into(),
        Event::Publish(messages) => world.publish(messages.into()),
        Event::Leave => world.leave(),
        Event::Work(rate) => {
            world.leave();
            world.consumers(2, Some(20), Does::Work(rate.into()));
        }
        Event::Hold(prefetch) => world.consumers(1, prefetch, Does::Hold),
        Event::Crash(each) => {
            world.leave();
            world.consumers(1, Some(20), Does::Crash(each));
        }
        Event::Restart => world.restart(),
        // What can't be known at all is no fault: a queue that is like the old one, and as full at once.
        Event::DeclareAnew => {
            world.declare_anew();
            world.fingerprint += 1;
        }
        Event::Listed(listed) => world.listed = listed,
        Event::Mail(up) => world.mail_up = up,
        Event::Contact(there) => world.can_be_told = there,
        Event::Statistics(on) => world.statistics = on,
        Event::Alarm(on) => world.alarm = on,
        Event::Expire(rate) => world.expiring = rate.into(),
    }
}

/// Hours in which these things happen, each so many minutes after the one before.
fn world_of(events: Vec<(usize, Event)>) -> Trace {
    let mut at = 0;
    let events: Vec<_> = events
        .into_iter()
        .map(|(later, event)| {
            at += later;
            (at, event)
        })
        .collect();
    let script = move |world: &mut World, minute: usize| {
        events.iter().filter(|(at, _)| *at == minute).for_each(|(_, event)| happen(world, *event));
    };
    Trace { deserves: true, ends_there: true, ..trace("any", "anything", at + 90, script) }
}

/// How many messages may be sent about one queue in so many minutes: each trouble that comes back has to stay away for twice
/// as long as before, and each that changes has to wait for as long; and one reminder a day.
fn most_mails(minutes: usize) -> usize {
    let doublings = (minutes as f64 / 10.0 + 1.0).log2().ceil() as usize;
    4 * doublings + 4 + minutes / 1440
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(25))]

    #[test]
    fn whatever_happens_no_queue_is_removed_unwarned_or_while_it_drains_and_few_messages_are_sent(
        events in proptest::collection::vec((0..40usize, any_event()), 1..40),
    ) {
        // Each time somebody sets a contact, there is somebody new to tell.
        let contacts = events.iter().filter(|(_, event)| matches!(event, Event::Contact(true))).count();
        let trace = world_of(events);
        let run = super::ours(&trace, PLAIN);
        if let Some(removal) = run.removal {
            prop_assert!(removal.warned, "{removal:?} {:?}", run.deeds);
            prop_assert!(!removal.wrong, "{removal:?} {:?}", run.deeds);
            prop_assert!(removal.messages > DELETE);
        }
        let mails = run.deeds.iter().filter(|(_, deed)| matches!(deed, Deed::Told(..))).count();
        prop_assert!(mails <= most_mails(trace.minutes) + contacts, "{mails} in {} minutes: {:?}", trace.minutes, run.deeds);
    }

    #[test]
    fn a_queue_that_swings_however_sends_few_messages(
        totals in proptest::collection::vec((1..40usize, 0..12_000u64), 1..80),
    ) {
        let minutes: usize = totals.iter().map(|(minutes, _)| minutes).sum();
        let script = move |world: &mut World, minute: usize| {
            let mut until = 0;
            let total = totals.iter().find(|(lasts, _)| { until += lasts; minute < until }).map_or(0, |(_, total)| *total);
            if minute == 0 {
                world.inflow = 100.0;
                world.consumers(2, Some(20), Does::Work(100.0));
            }
            world.ready = total.saturating_sub(world.unacked());
        };
        let run = super::ours(&trace("swings", "", minutes, script), PLAIN);
        let mails = run.deeds.iter().filter(|(_, deed)| matches!(deed, Deed::Told(..))).count();
        prop_assert!(mails <= most_mails(minutes), "{mails} in {minutes} minutes: {:?}", run.deeds);
    }
}

/// A look that no broker would show, and what comes with it.
#[derive(Debug, Clone)]
struct Odd {
    later: u64,
    total: u64,
    unacked: u64,
    consumers: Option<u32>,
    counters: Option<[u64; 3]>,
    fingerprint: u64,
    accepted: bool,
    can_be_told: bool,
    alarm: bool,
    exemption: Option<(Option<u64>, Option<u64>)>,
}

fn any_odd() -> impl Strategy<Value = Odd> {
    // Most are such that a removal is near.
    let count = || prop_oneof![40 => Just(9000), 4 => 7000..14_000u64, 1 => 0..8000u64, 1 => any::<u64>()];
    let event = || prop_oneof![8 => 500..600u64, 1 => 0..5u64, 1 => any::<u64>()];
    (
        prop_oneof![40 => Just(120u64), 4 => 1..400u64, 1 => 0..100_000u64],
        (count(), prop_oneof![9 => Just(0), 1 => count()]),
        proptest::option::of(0..2u32),
        proptest::option::weighted(0.1, [event(), event(), event()]),
        prop_oneof![30 => Just(1u64), 1 => Just(2)],
        (proptest::bool::weighted(0.7), proptest::bool::weighted(0.8), proptest::bool::weighted(0.2)),
        proptest::option::weighted(0.05, (proptest::option::of(count()), proptest::option::of(0..9_000_000u64))),
    )
        .prop_map(
            |(later, (total, unacked), consumers, counters, fingerprint, (accepted, can_be_told, alarm), exemption)| {
                let unacked = unacked.min(total);
                Odd { later, total, unacked, consumers, counters, fingerprint, accepted, can_be_told, alarm, exemption }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn whatever_is_seen_a_removal_has_all_that_it_takes(looks in proptest::collection::vec(any_odd(), 1..150)) {
        let criteria = Criteria::new(ALERT, THRESHOLDS.unacked_alert, minutes(2));
        let policy = policy();
        let mut now = start();
        let mut history: Option<History> = None;
        let mut watch: Option<Watch> = None;
        // What was accepted, and of which incarnation; what nobody could be told.
        let mut accepted: Vec<(Timestamp, _)> = Vec::new();
        let mut noted: Vec<(Timestamp, _)> = Vec::new();
        for odd in looks {
            now = now.plus(Duration::from_secs(odd.later));
            let counters = odd.counters.map(|[acknowledged, delivered, redelivered]| Counters { acknowledged, delivered, redelivered });
            let Odd { total, unacked, consumers, .. } = odd;
            let look = Look { at: now, ready: total - unacked, unacked, total, consumers, counters };
            match &mut history {
                None => history = Some(History::begin(look, odd.fingerprint)),
                Some(history) => _ = history.add(look, odd.fingerprint),
            }
            let history = history.as_ref().unwrap();
            prop_assert!(history.to_bytes().len() <= MAX_BYTES);
            let verdict = verdict(history, &criteria).unwrap();
            let exemption = odd.exemption.map(|(up_to, until)| Exemption {
                up_to,
                until: until.map(|later| start().plus(Duration::from_millis(later))),
            });
            let situation = Situation {
                history,
                verdict: &verdict,
                settle: criteria.settle,
                silence: criteria.silence,
                thresholds: THRESHOLDS,
                exemption,
                watch: watch.as_ref(),
                alarm: odd.alarm,
                can_be_told: odd.can_be_told,
                muted: false,
            };
            let step = ladder(&situation, now, &policy);
            watch = step.watch;
            let incarnation = history.incarnation();
            let told = watch.as_ref().and_then(|watch| watch.told);
            match step.act {
                Act::Delete | Act::Purge => {
                    let grace = if odd.alarm { ALARM_GRACE } else { GRACE };
                    let of_this = |(at, of): &&(Timestamp, _)| *of == incarnation && now.since(*at) >= grace;
                    let warned = accepted.iter().any(|warning| of_this(&warning))
                        || noted.iter().any(|warning| of_this(&warning));
                    prop_assert!(warned, "{accepted:?} {noted:?}");
                    prop_assert!(!verdict.falls() && verdict.look.total > DELETE);
                    let exempt = exemption.is_some_and(|exemption| exemption.holds(total, now));
                    prop_assert!(!exempt);
                    let (since, seen) = history.run(policy.gap, |look| look.total > DELETE).unwrap();
                    prop_assert!(seen >= 3 && now.since(since) >= minutes(10) - Duration::from_secs(1));
                    prop_assert_eq!(watch.as_ref().unwrap().stage, Stage::Removing);
                }
                Act::Tell(Telling { topic, .. }) if topic != Topic::Normal => {
                    noted.extend(told.filter(|told| told.mail == Mail::Nobody).map(|_| (now, incarnation)));
                }
                _ => {}
            }
            // Whether somebody can be told may change after a message was stored.
            if !odd.can_be_told && told.is_some_and(|told| told.mail == Mail::Nobody) {
                noted.push((now, incarnation));
            }
            let Some(known) = &mut watch else { continue };
            let waiting = known.told.filter(|told| told.mail == Mail::Waiting);
            if let Some(told) = waiting.filter(|_| odd.accepted) {
                prop_assert!(known.accept(told.at, now));
                accepted.push((now, known.incarnation));
            }
        }
    }

    #[test]
    fn a_guard_that_may_not_does_not(
        measure in prop_oneof![Just(Measure::Observe), Just(Measure::Warn)],
        totals in proptest::collection::vec(prop_oneof![Just(9000u64), 0..20_000u64], 30..90),
        unacked in proptest::bool::ANY,
    ) {
        let criteria = Criteria::new(ALERT, THRESHOLDS.unacked_alert, minutes(2));
        let policy = Policy { measure, ..policy() };
        let mut now = start();
        let mut history: Option<History> = None;
        let mut watch: Option<Watch> = None;
        for total in totals {
            now = now.plus(minutes(2));
            let held = if unacked { total } else { 0 };
            let look = Look { at: now, ready: total - held, unacked: held, total, consumers: None, counters: None };
            match &mut history {
                None => history = Some(History::begin(look, 1)),
                Some(history) => _ = history.add(look, 1),
            }
            let history = history.as_ref().unwrap();
            let verdict = verdict(history, &criteria).unwrap();
            let situation = Situation {
                history,
                verdict: &verdict,
                settle: criteria.settle,
                silence: criteria.silence,
                thresholds: THRESHOLDS,
                exemption: None,
                watch: watch.as_ref(),
                alarm: false,
                can_be_told: true,
                muted: false,
            };
            let step = ladder(&situation, now, &policy);
            let sends = measure == Measure::Warn;
            match step.act {
                Act::Nothing => {}
                Act::Tell(_) => prop_assert_eq!(step.shown_only, !sends),
                _ => prop_assert!(step.shown_only),
            }
            watch = step.watch;
            if let Some(watch) = &mut watch {
                prop_assert!(!watch.kept_out);
                let waiting = watch.told.filter(|told| told.mail == Mail::Waiting);
                prop_assert!(sends || waiting.is_none());
                waiting.map(|told| watch.accept(told.at, now));
            }
        }
    }
}
