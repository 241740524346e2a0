//! The stream of current credentials: rotations, outages, refusals, and answers and clocks that are wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::support::pulse::{Api, Reclaim, Stub};
use crate::support::rabbitmq::eventually;
use crate::support::world::{BrokerKind, StoreKind, World};
use futures::{FutureExt as _, StreamExt as _};
use proptest::prelude::*;
use serde_json::json;
use taskcluster_pulse::client::{ClaimOptions, Claims, Credentials, Expires, Trouble, claims, next_claim};
use taskcluster_pulse::clock::{Clock, SystemClock, Timestamp};
use taskcluster_pulse::taskcluster::TaskclusterError;

const PATIENCE: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The host's clock, set wrong by so many milliseconds.
#[derive(Default)]
struct WrongClock(AtomicI64);

impl WrongClock {
    fn turn(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(SystemClock.now().millis() + self.0.load(Ordering::SeqCst))
    }
}

fn of_stub(stub: &Stub, clock: Arc<dyn Clock>) -> Claims {
    claims(stub.api.client(clock.clone()), "taskcluster-a", ClaimOptions::default(), clock)
}

async fn next(claims: &mut Claims) -> Result<Credentials, Trouble> {
    let item = tokio::time::timeout(PATIENCE, claims.next()).await;
    item.expect("an item should come").expect("the stream should not end")
}

/// What comes next must be this turn's string.
async fn expect_turn(claims: &mut Claims, turn: usize) -> Credentials {
    let fresh = next(claims).await.unwrap();
    assert_eq!(fresh.connection_string.expose(), Stub::connection_string(turn));
    fresh
}

/// Polls the stream until the stub was asked `times` in all; nothing may be yielded meanwhile.
async fn quiet_until_asked(claims: &mut Claims, stub: &Stub, times: usize) {
    let asked = eventually("a claim", async || (stub.claims().len() >= times).then_some(()));
    tokio::select! {
        item = claims.next() => panic!("{item:?} was not expected"),
        () = asked => {}
    }
}

/// A world whose clock goes on, whose passwords are switched every so often, and which is served.
async fn rotating_world(broker: BrokerKind, interval: Duration) -> (Arc<World>, Api) {
    let mut world = World::new(StoreKind::Sqlite, broker).await;
    world.policy.rotation_interval = interval;
    let world = Arc::new(world);
    let clock = world.clock.clone();
    tokio::spawn(async move {
        let started = (clock.now(), Instant::now());
        loop {
            clock.advance(started.0.plus(started.1.elapsed()).since(clock.now()));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let service = world.service();
    tokio::spawn(async move {
        loop {
            assert_eq!(service.rotate(false).await.unwrap().failed, 0);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let api = Api::of(&world);
    (world, api)
}

/// Logs in again and again, for as long as the service has promised that it works.
async fn is_good_until_reclaim(world: Arc<World>, credentials: Credentials) {
    loop {
        let logged_in = world.logs_in(credentials.connection_string.expose()).await;
        if world.clock.now() >= credentials.reclaim_at {
            return;
        }
        assert!(logged_in, "{credentials:?} should log in");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn a_consumer_stays_logged_in_over_several_rotations(broker: BrokerKind) {
    let (world, api) = rotating_world(broker, Duration::from_secs(4)).await;
    let mut claims =
        claims(api.client(world.clock.clone()), "taskcluster-a", ClaimOptions::default(), world.clock.clone());
    let mut promised: Option<Timestamp> = None;
    let mut logins = Vec::new();
    for _ in 0..4 {
        let fresh = next(&mut claims).await.unwrap();
        let now = world.clock.now();
        assert!(promised.is_none_or(|until| now < until), "{promised:?} had passed at {now}");
        promised = Some(fresh.reclaim_at);
        logins.push(tokio::spawn(is_good_until_reclaim(world.clone(), fresh)));
    }
    // All but the last one, whose end is far.
    for login in logins.drain(..3) {
        login.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_stays_logged_in_over_several_rotations_of_the_fake_broker() {
    a_consumer_stays_logged_in_over_several_rotations(BrokerKind::Fake).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_stays_logged_in_over_several_rotations_of_rabbitmq() {
    a_consumer_stays_logged_in_over_several_rotations(BrokerKind::Real).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_told_once_and_ends_in_a_renewal_while_the_string_is_still_good() {
    let (world, mut api) = rotating_world(BrokerKind::Fake, Duration::from_secs(6)).await;
    let mut claims =
        claims(api.client(world.clock.clone()), "taskcluster-a", ClaimOptions::default(), world.clock.clone());
    let first = next(&mut claims).await.unwrap();
    api.down().await;
    let trouble = next(&mut claims).await.unwrap_err();
    assert!(matches!(trouble, Trouble::Unavailable(TaskclusterError::Unreachable { .. })), "{trouble}");
    assert!(world.logs_in(first.connection_string.expose()).await);
    api.up();
    let second = next(&mut claims).await.unwrap();
    assert!(world.clock.now() < first.reclaim_at);
    assert_ne!(second.connection_string, first.connection_string);
    for credentials in [first, second] {
        assert!(world.logs_in(credentials.connection_string.expose()).await);
    }
}

#[tokio::test]
async fn an_outage_that_outlasts_the_string_makes_it_uncertain_until_the_next_claim() {
    let mut stub = Stub::new(Reclaim::In(2500));
    let mut claims = of_stub(&stub, Arc::new(SystemClock));
    let first = expect_turn(&mut claims, 0).await;
    stub.api.down().await;
    assert!(matches!(next(&mut claims).await, Err(Trouble::Unavailable(_))));
    assert!(SystemClock.now() < first.reclaim_at);
    let uncertain = next(&mut claims).await;
    assert!(matches!(uncertain, Err(Trouble::Uncertain(since)) if since == first.reclaim_at), "{uncertain:?}");
    assert!(SystemClock.now().since(first.reclaim_at) < Duration::from_secs(2));
    stub.api.up();
    // The same string, yielded again because it is certain again.
    let again = expect_turn(&mut claims, 0).await;
    assert!(again.reclaim_at > first.reclaim_at);
}

#[tokio::test]
async fn a_service_that_hangs_does_not_hide_that_the_string_is_uncertain() {
    let stub = Stub::new(Reclaim::In(1500));
    let mut claims = of_stub(&stub, Arc::new(SystemClock));
    let first = expect_turn(&mut claims, 0).await;
    stub.set(|script| script.hang = true);
    assert!(matches!(next(&mut claims).await, Err(Trouble::Uncertain(_))));
    assert!(SystemClock.now().since(first.reclaim_at) < Duration::from_secs(2));
    assert_eq!(stub.claims().len(), 2);
}

#[tokio::test]
async fn the_same_string_is_not_yielded_again() {
    let stub = Stub::new(Reclaim::In(1500));
    let mut claims = of_stub(&stub, Arc::new(SystemClock));
    expect_turn(&mut claims, 0).await;
    quiet_until_asked(&mut claims, &stub, 3).await;
    stub.set(|script| script.turn = 1);
    expect_turn(&mut claims, 1).await;
}

#[tokio::test]
async fn a_foreign_namespace_is_refused_at_once() {
    let world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let api = Api::of(&world);
    let clock = world.clock.clone();
    let mut claims = claims(api.client(clock.clone()), "foreign-a", ClaimOptions::default(), clock);
    let refusal = next(&mut claims).await;
    let status = |error: &TaskclusterError| matches!(error, TaskclusterError::Refused { status: 403, .. });
    assert!(matches!(&refusal, Err(Trouble::Refused(error)) if status(error)), "{refusal:?}");
}

#[tokio::test]
async fn a_refusal_is_told_once_and_what_is_current_stays_until_it_is_taken_back() {
    let stub = Stub::new(Reclaim::In(8000));
    let mut claims = of_stub(&stub, Arc::new(SystemClock));
    let first = expect_turn(&mut claims, 0).await;
    stub.set(|script| script.status = 403);
    assert!(matches!(next(&mut claims).await, Err(Trouble::Refused(_))));
    let asked = stub.claims().len();
    quiet_until_asked(&mut claims, &stub, asked + 1).await;
    assert!(SystemClock.now() < first.reclaim_at);
    // An outage after a refusal is news.
    stub.set(|script| script.status = 503);
    let mut item = next(&mut claims).await;
    if matches!(item, Err(Trouble::Uncertain(_))) {
        item = next(&mut claims).await;
    }
    assert!(matches!(item, Err(Trouble::Unavailable(_))), "{item:?}");
    stub.set(|script| (script.status, script.turn) = (200, 1));
    let mut item = next(&mut claims).await;
    if matches!(item, Err(Trouble::Uncertain(_))) {
        item = next(&mut claims).await;
    }
    assert_eq!(item.unwrap().connection_string.expose(), Stub::connection_string(1));
}

#[tokio::test]
async fn an_answer_without_a_connection_string_is_an_outage() {
    let stub = Stub::new(Reclaim::In(5000));
    stub.set(|script| script.garbled = true);
    let mut claims = of_stub(&stub, Arc::new(SystemClock));
    assert!(matches!(next(&mut claims).await, Err(Trouble::Unavailable(TaskclusterError::Garbled { .. }))));
    stub.set(|script| script.garbled = false);
    expect_turn(&mut claims, 0).await;
}

#[tokio::test]
async fn a_reclaim_at_in_the_past_makes_no_hot_loop() {
    let stub = Stub::new(Reclaim::In(-3_600_000));
    let mut claims = of_stub(&stub, Arc::new(SystemClock));
    let started = Instant::now();
    expect_turn(&mut claims, 0).await;
    assert!(matches!(next(&mut claims).await, Err(Trouble::Uncertain(_))));
    quiet_until_asked(&mut claims, &stub, 3).await;
    // The pauses are half a second at least, then one second.
    assert!(started.elapsed() >= Duration::from_millis(1500), "{:?}", started.elapsed());
    assert_eq!(stub.claims().len(), 3);
}

#[tokio::test]
async fn a_reclaim_at_at_the_end_of_time_is_not_believed_for_more_than_a_day() {
    let stub = Stub::new(Reclaim::At(Timestamp::from_millis(i64::MAX)));
    let clock = Arc::new(WrongClock::default());
    let mut claims = of_stub(&stub, clock.clone());
    expect_turn(&mut claims, 0).await;
    assert!(claims.next().now_or_never().is_none());
    stub.set(|script| script.turn = 1);
    // As after a long sleep of the computer: no timer has noticed.
    clock.turn(i64::try_from(DAY.as_millis()).unwrap());
    expect_turn(&mut claims, 1).await;
    assert_eq!(stub.claims().len(), 2);
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_delay_the_next_claim() {
    let stub = Stub::new(Reclaim::In(2000));
    let clock = Arc::new(WrongClock::default());
    let mut claims = of_stub(&stub, clock.clone());
    expect_turn(&mut claims, 0).await;
    stub.set(|script| script.turn = 1);
    clock.turn(-i64::try_from(DAY.as_millis()).unwrap() * 365);
    let started = Instant::now();
    expect_turn(&mut claims, 1).await;
    assert!(started.elapsed() < PATIENCE);
}

#[tokio::test]
async fn each_claim_says_what_was_asked_for() {
    let stub = Stub::new(Reclaim::In(1000));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let options = ClaimOptions { expires: Some(Expires::In(DAY)), contact: Some("me@example.com".into()) };
    let mut claims = claims(stub.api.client(clock.clone()), "taskcluster-a", options, clock.clone());
    expect_turn(&mut claims, 0).await;
    quiet_until_asked(&mut claims, &stub, 2).await;
    let asked = stub.claims();
    assert_eq!(asked[0]["contact"], json!("me@example.com"));
    let expires: Vec<_> =
        asked.iter().map(|body| Timestamp::parse(body["expires"].as_str().unwrap()).unwrap()).collect();
    assert!(expires[0] < expires[1], "{expires:?}");
    assert!(expires[1].since(clock.now()) <= DAY);
}

#[tokio::test]
async fn credentials_are_not_shown() {
    let stub = Stub::new(Reclaim::In(5000));
    let shown = format!("{:?}", next(&mut of_stub(&stub, Arc::new(SystemClock))).await);
    assert!(shown.contains("Secret(..)") && !shown.contains("canary"), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_next_claim_leaves_a_fifth_of_the_time_for_outages(left in 1_000_u64..10_u64.pow(15), random in 0.0..=1.0) {
        let left = Duration::from_millis(left);
        let wait = next_claim(left, 0, random);
        prop_assert!(wait <= left.mul_f64(0.8).min(DAY.mul_f64(0.8)) + Duration::from_micros(1));
        prop_assert!(wait + Duration::from_micros(1) >= left.mul_f64(0.7).min(DAY.mul_f64(0.7)));
    }

    /// Whenever one claims, the next claim comes after the next switch and before the string's end.
    #[test]
    fn there_is_one_claim_in_each_interval(
        interval in 2_000_u64..16 * 3_600_000,
        since_switch in 0.0..=1.0,
        random in 0.0..=1.0,
    ) {
        let interval = Duration::from_millis(interval);
        let until_switch = interval.mul_f64(1.0 - since_switch);
        let left = until_switch + interval / 2;
        let wait = next_claim(left, 0, random);
        prop_assert!(wait > until_switch && wait < left, "{until_switch:?} < {wait:?} < {left:?}");
    }

    #[test]
    fn failures_are_followed_by_growing_pauses_of_at_most_a_minute(
        left in any::<u64>(),
        failures in 1_u32..,
        random in 0.0..=1.0,
    ) {
        let wait = next_claim(Duration::from_millis(left), failures, random);
        let whole = Duration::from_secs(1 << (failures - 1).min(20)).min(Duration::from_secs(60));
        prop_assert!(wait >= whole / 2 && wait <= whole);
    }

    #[test]
    fn nothing_makes_a_hot_loop(left in any::<u64>(), failures in any::<u32>(), random in 0.0..=1.0) {
        prop_assert!(next_claim(Duration::from_millis(left), failures, random) >= Duration::from_millis(500));
    }
}
