//! Claiming and rotating, as stories on every store and broker.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::support::fake_broker::{Failure, Fault};
use crate::support::pulse::{ACCESS_TOKEN, Api, CLIENT_ID};
use crate::support::world::{BrokerKind, HOUR, StoreKind, World};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures::future::join_all;
use serde_json::json;
use taskcluster_pulse::broker::BrokerError;
use taskcluster_pulse::broker::management::{DEFAULT_TIMEOUT, ManagementConfig};
use taskcluster_pulse::client::{self, ClaimOptions};
use taskcluster_pulse::clock::Clock;
use taskcluster_pulse::domain::audit::By;
use taskcluster_pulse::domain::claim::ClaimRequest;
use taskcluster_pulse::domain::name::Slot;
use taskcluster_pulse::hawk::hmac_sha256;
use taskcluster_pulse::service::{ServiceError, SuffixRule};
use taskcluster_pulse::taskcluster::{ClientCredentials, RetryPolicy, Taskcluster};

crate::on_every_world! {
    a_claim_logs_in_and_the_same_claim_again_gives_the_same_string,
    first_claims_at_once_all_log_in,
    after_a_rotation_the_old_and_the_new_string_log_in_and_the_one_before_does_not,
    only_what_is_due_is_rotated,
    rotators_at_once_rotate_each_namespace_once,
    a_password_that_a_dead_process_left_pending_is_put_in_force,
    a_claim_with_a_past_end_returns_what_logs_in_until_it_says_and_ends_then,
    a_client_has_no_more_live_namespaces_than_it_may_however_many_it_claims_at_once,
}

async fn a_claim_logs_in_and_the_same_claim_again_gives_the_same_string(world: World) {
    let first = world.claim("taskcluster-a").await.unwrap();
    assert!(world.logs_in(&first.connection_string).await);
    assert_eq!(first.expires, world.clock.now().plus(4 * HOUR));
    assert_eq!(first.reclaim_at, world.clock.now().plus(HOUR + HOUR / 2));

    world.clock.advance(HOUR / 2);
    let again = world.claim("taskcluster-a").await.unwrap();
    assert_eq!(again.connection_string, first.connection_string);
    assert_eq!((again.created, again.reclaim_at), (first.created, first.reclaim_at));

    let standby = world.policy.names.user(&first.name, Slot::Two);
    let active = world.policy.names.user(&first.name, Slot::One);
    assert!(!world.logs_in(&first.connection_string.replace(&active, &standby)).await);
    let users = world.broker.users().await.unwrap();
    let standby = users.iter().find(|user| user.name == standby).unwrap();
    assert!(standby.hash.is_blocked());
    assert_eq!(*standby.tags, [world.store.tag().await.unwrap().as_str()]);
}

async fn first_claims_at_once_all_log_in(world: World) {
    let claims = join_all((0..8).map(|_| world.claim("taskcluster-a"))).await;
    let strings: BTreeSet<_> = claims.into_iter().map(|claim| claim.unwrap().connection_string.to_string()).collect();
    assert_eq!(strings.len(), 1);
    assert!(world.logs_in(strings.first().unwrap()).await);
}

async fn after_a_rotation_the_old_and_the_new_string_log_in_and_the_one_before_does_not(world: World) {
    let mut strings = vec![world.claim("taskcluster-a").await.unwrap().connection_string];
    for turn in 1..5 {
        world.clock.advance(HOUR);
        let outcome = world.service().rotate(false).await.unwrap();
        assert_eq!((outcome.seen, outcome.changed, outcome.failed), (1, 1, 0));
        strings.push(world.claim("taskcluster-a").await.unwrap().connection_string);
        assert_ne!(strings[turn], strings[turn - 1]);
        assert!(world.logs_in(&strings[turn]).await, "the new one, turn {turn}");
        assert!(world.logs_in(&strings[turn - 1]).await, "the one before, turn {turn}");
        if turn > 1 {
            assert!(!world.logs_in(&strings[turn - 2]).await, "two turns old, turn {turn}");
        }
    }
}

async fn only_what_is_due_is_rotated(world: World) {
    assert_eq!(world.service().rotate(false).await.unwrap().seen, 0);
    let early = world.claim("taskcluster-early").await.unwrap();
    world.clock.advance(HOUR / 2);
    let late = world.claim("taskcluster-late").await.unwrap();
    world.clock.advance(HOUR / 2);
    let planned = world.service().rotate(true).await.unwrap().plan.unwrap();
    assert_eq!(planned.iter().map(|step| step.object.as_str()).collect::<Vec<_>>(), ["taskcluster-early"]);
    let outcome = world.service().rotate(false).await.unwrap();
    assert_eq!((outcome.seen, outcome.changed), (1, 1));
    assert_ne!(world.claim("taskcluster-early").await.unwrap().connection_string, early.connection_string);
    assert_eq!(world.claim("taskcluster-late").await.unwrap().connection_string, late.connection_string);
}

async fn rotators_at_once_rotate_each_namespace_once(world: World) {
    let names: Vec<_> = (0..12).map(|n| format!("taskcluster-{n}")).collect();
    let before = join_all(names.iter().map(|name| world.claim(name))).await;
    world.clock.advance(HOUR);
    let services: Vec<_> = (0..4).map(|_| world.service()).collect();
    let outcomes = join_all(services.iter().map(|service| service.rotate(false))).await;
    let changed: usize = outcomes.into_iter().map(|outcome| outcome.unwrap().changed).sum();
    assert_eq!(changed, names.len());
    for (name, before) in names.iter().zip(before) {
        let after = world.claim(name).await.unwrap();
        assert_ne!(after.connection_string, before.unwrap().connection_string);
        assert!(world.logs_in(&after.connection_string).await);
    }
}

async fn a_password_that_a_dead_process_left_pending_is_put_in_force(world: World) {
    let first = world.claim("taskcluster-a").await.unwrap();
    let found = world.store.namespace(&first.name).await.unwrap().unwrap();
    world.clock.advance(HOUR);
    let now = world.clock.now();
    let begun = found.rotation.begin(taskcluster_pulse::secret::Password::random(), now);
    let record = taskcluster_pulse::store::Record::Namespace(taskcluster_pulse::domain::namespace::Namespace {
        rotation: begun.clone(),
        ..found
    });
    world
        .store
        .write(&[taskcluster_pulse::store::Change { record, notices: vec![], audits: Vec::new() }])
        .await
        .unwrap();

    // It is left to its owner for a while, and claims return what is in force.
    assert_eq!(world.service().rotate(false).await.unwrap().seen, 0);
    assert_eq!(world.claim("taskcluster-a").await.unwrap().connection_string, first.connection_string);
    world.clock.advance(world.policy.settle_budget);
    assert_eq!(world.service().rotate(false).await.unwrap().changed, 1);
    let after = world.claim("taskcluster-a").await.unwrap();
    let password = begun.pending.unwrap().login.password;
    assert!(after.connection_string.contains(password.expose()));
    assert!(world.logs_in(&after.connection_string).await);
}

async fn a_claim_with_a_past_end_returns_what_logs_in_until_it_says_and_ends_then(world: World) {
    let delay = world.policy.expiration_delay;
    let expire = async || world.service().expire(&world.expiry_policy(), false).await.unwrap();
    for ago in [Duration::ZERO, delay / 4, delay - delay / 100, delay, 100 * delay, 100_000 * delay] {
        let (now, name) = (world.clock.now(), format!("taskcluster-{}", ago.as_secs()));
        for again in [false, true] {
            if again {
                world.claim_by(None, &name, Some(now.plus(1000 * HOUR))).await.unwrap();
            }
            let claimed = world.claim_by(None, &name, Some(now.minus(ago))).await.unwrap();
            assert_eq!((claimed.expires, claimed.reclaim_at), (now, now.plus(delay / 2)), "{ago:?}, again: {again}");
            expire().await;
            assert!(world.logs_in(&claimed.connection_string).await, "{ago:?}, again: {again}");
        }
        world.clock.advance(delay / 2 - Duration::from_millis(1));
        expire().await;
        assert_eq!(world.users().await.len(), 2, "{ago:?}");
        world.clock.advance(delay);
        assert!(expire().await.changed > 0);
        assert!(world.users().await.is_empty(), "{ago:?}");
    }
}

async fn a_client_has_no_more_live_namespaces_than_it_may_however_many_it_claims_at_once(mut world: World) {
    world.policy.namespaces_per_client = 5;
    let services: Vec<_> = (0..3).map(|_| world.service()).collect();
    let claim = |number: usize, client: Option<&str>| {
        let (name, client) = (world.name(&format!("taskcluster-{number}")), client.map(str::to_owned));
        let asked = ClaimRequest { by: By::client("somebody"), name, expires: None, contact: None, client };
        let service = &services[number % services.len()];
        async move { service.claim(&asked).await }
    };
    let claimed = join_all((0..12).map(|number| claim(number, Some("a")))).await;
    let good: Vec<_> = (0..12).filter(|number| claimed[*number].is_ok()).collect();
    assert_eq!(good.len(), 5);
    for refused in claimed.into_iter().filter_map(Result::err) {
        assert!(matches!(refused, ServiceError::TooManyNamespaces { most: 5, .. }), "{refused}");
    }
    let refused = (0..12).find(|number| !good.contains(number)).unwrap();
    claim(refused, Some("b")).await.expect("others have their own limit");
    claim(refused, Some("a")).await.expect("what lives may be claimed by whoever may");
    claim(50, None).await.expect("who is not known is not counted");
    for number in &good {
        claim(*number, Some("a")).await.expect("what is its own, too");
        claim(*number, Some("c")).await.expect("and is nobody else's by that");
    }
    assert!(claim(100, Some("a")).await.is_err());
    assert!(world.store.namespace(&world.name("taskcluster-100")).await.unwrap().is_none(), "nothing is left of it");

    // One that has ended counts no more, and counts again when it is claimed again.
    let ended = world.name(&format!("taskcluster-{}", good[0]));
    world.claim_by(Some("a"), ended.as_str(), Some(world.clock.now())).await.unwrap();
    world.clock.advance(2 * HOUR);
    world.service().expire(&world.expiry_policy(), false).await.unwrap();
    claim(100, Some("a")).await.unwrap();
    assert!(claim(good[0], Some("a")).await.is_err());
    claim(good[0], Some("c")).await.unwrap();
}

/// A world whose broker is waited for no longer than needed.
async fn impatient_world() -> World {
    let mut world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let config = ManagementConfig { timeout: Duration::from_secs(1), ..world.fake().config() };
    world.broker = std::sync::Arc::new(taskcluster_pulse::broker::management::ManagementApi::new(config).unwrap());
    world
}

/// Every way in which the broker fails a first claim, at each of its calls, before and after doing what it is asked.
#[tokio::test]
async fn a_first_claim_that_fails_half_way_is_finished_by_the_next() {
    let failures = [
        Failure::Close,
        Failure::Hang,
        Failure::Status(500),
        Failure::Status(401),
        Failure::Booting,
        Failure::Malformed,
    ];
    let calls = [
        "/users/taskcluster-a-1",
        "/users/taskcluster-a-2",
        "/permissions/fake/vhost %1/taskcluster-a-1",
        "/permissions/fake/vhost %1/taskcluster-a-2",
    ];
    for failure in failures {
        for call in calls {
            for after_doing in [false, true] {
                let world = impatient_world().await;
                let fault = Fault::new(failure.clone()).on("PUT", call).times(2);
                world.fake().fault(if after_doing { fault.after_doing() } else { fault });
                let what = format!("{failure:?} at {call}, after doing: {after_doing}");
                match world.claim("taskcluster-a").await {
                    Ok(claimed) => assert!(world.logs_in(&claimed.connection_string).await, "{what}"),
                    Err(error) => assert!(matches!(error, ServiceError::Broker(_)), "{what}: {error}"),
                }
                world.fake().heal();
                let claimed = world.claim("taskcluster-a").await.unwrap_or_else(|e| panic!("{what}: {e}"));
                assert!(world.logs_in(&claimed.connection_string).await, "{what}");
            }
        }
    }
}

/// More at once would make each of them too late, and what they did in vain would be done again by those that follow.
#[tokio::test]
async fn however_many_first_claims_come_at_once_the_broker_has_few_of_them_to_do_at_a_time() {
    let world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    world.fake().fault(Fault::new(Failure::Slow(Duration::from_millis(20))));
    let service = world.service();
    let claims = (0..100).map(|number| {
        let name = world.name(&format!("taskcluster-{number}"));
        let asked = ClaimRequest { by: By::client("somebody"), name, expires: None, contact: None, client: None };
        let service = &service;
        async move { service.claim(&asked).await.unwrap() }
    });
    for claimed in join_all(claims).await {
        assert!(world.logs_in(&claimed.connection_string).await);
    }
    // Two users each.
    let busiest = world.fake().busiest();
    assert!((2..=16).contains(&busiest), "{busiest} requests at a time");
}

/// One that kills the client is of no use to it, whoever else needs it.
#[tokio::test]
async fn a_caller_gets_the_suffix_that_is_its_own() {
    let mut world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let rule = |namespace: Option<&str>, client: Option<&str>, suffix: &str| SuffixRule {
        namespace: namespace.map(Into::into),
        client: client.map(Into::into),
        suffix: suffix.into(),
    };
    world.policy.connection.suffix = "?frameMax=0".to_owned();
    world.policy.connection.suffixes =
        vec![rule(Some("taskcluster-celery-*"), None, ""), rule(None, Some(CLIENT_ID), "?heartbeat=30")];
    let api = Api::of(&world);
    let suffix = |string: &str| string.find('?').map_or(String::new(), |at| string[at..].to_owned());
    for (namespace, expected) in [("taskcluster-celery-a", ""), ("taskcluster-a", "?heartbeat=30")] {
        let client = api.client(world.clock.clone());
        let claimed = client::claim(&client, namespace, &ClaimOptions::default(), world.clock.now()).await.unwrap();
        assert_eq!(suffix(claimed["connectionString"].as_str().unwrap()), expected, "{namespace}");
    }
    // What temporary credentials claim, their issuer does; and nobody else.
    let somebody = world.claim("taskcluster-a").await.unwrap();
    assert_eq!(suffix(&somebody.connection_string), "?frameMax=0");
    let temporary = temporary(&api, &world).await;
    assert_eq!(suffix(&temporary), "?heartbeat=30");
}

/// A connection string that is claimed with named temporary credentials of the tester.
async fn temporary(api: &Api, world: &World) -> String {
    let now = world.clock.now().millis();
    let (start, expiry, seed) = (now - 60_000, now + 3_600_000, "s".repeat(44));
    let (name, scope) = (format!("{CLIENT_ID}/named"), "pulse:namespace:taskcluster-a");
    let text = format!(
        "version:1\nclientId:{name}\nissuer:{CLIENT_ID}\nseed:{seed}\nstart:{start}\nexpiry:{expiry}\nscopes:\n{scope}"
    );
    let sign = |text: &str| hmac_sha256(ACCESS_TOKEN, text);
    let certificate = json!({"version": 1, "scopes": [scope], "start": start, "expiry": expiry, "seed": seed,
        "signature": STANDARD.encode(sign(&text)), "issuer": CLIENT_ID});
    let credentials = ClientCredentials {
        client_id: name,
        access_token: URL_SAFE_NO_PAD.encode(sign(&seed)),
        certificate: Some(certificate.to_string()),
    };
    let client = Taskcluster::new(api.root(), Some(credentials), world.clock.clone(), RetryPolicy::default()).unwrap();
    let claimed = client::claim(&client, "taskcluster-a", &ClaimOptions::default(), world.clock.now()).await.unwrap();
    claimed["connectionString"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_first_claim_waits_for_a_broker_that_hangs_no_longer_than_configured() {
    let mut world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let patient = std::mem::replace(&mut world.policy.first_claim_timeout, Duration::from_millis(200));
    world.fake().fault(Fault::new(Failure::Hang));
    let began = Instant::now();
    let claimed = world.claim("taskcluster-a").await;
    assert!(matches!(claimed, Err(ServiceError::Broker(BrokerError::Unavailable(_)))), "{claimed:?}");
    assert!(began.elapsed() < DEFAULT_TIMEOUT, "it took {:?}", began.elapsed());
    world.fake().heal();
    // A busy machine may need longer than that for a claim that succeeds.
    world.policy.first_claim_timeout = patient;
    let claimed = world.claim("taskcluster-a").await.unwrap();
    assert!(world.logs_in(&claimed.connection_string).await);
}

#[tokio::test]
async fn claims_of_known_namespaces_never_ask_the_broker() {
    let world = impatient_world().await;
    let first = world.claim("taskcluster-a").await.unwrap();
    world.fake().down().await;
    world.clock.advance(10 * HOUR);
    let again = world.claim("taskcluster-a").await.unwrap();
    assert_eq!(again.connection_string, first.connection_string);
    assert!(again.reclaim_at > world.clock.now());
    let new = world.claim("taskcluster-b").await.unwrap_err();
    assert!(matches!(new, ServiceError::Broker(_)), "{new}");
    world.fake().up();
    assert!(world.logs_in(&world.claim("taskcluster-b").await.unwrap().connection_string).await);
}

/// Every way in which the broker fails a rotation: what clients hold goes on working, and a later run finishes.
#[tokio::test]
async fn a_rotation_that_fails_half_way_breaks_nothing_and_is_finished_later() {
    for failure in [Failure::Close, Failure::Hang, Failure::Status(503), Failure::Booting] {
        for after_doing in [false, true] {
            let world = impatient_world().await;
            let first = world.claim("taskcluster-a").await.unwrap();
            world.clock.advance(HOUR);
            let fault = Fault::new(failure.clone()).on("PUT", "/users/").times(2);
            world.fake().fault(if after_doing { fault.after_doing() } else { fault });
            let outcome = world.service().rotate(false).await.unwrap();
            assert_eq!((outcome.changed, outcome.failed), (0, 1), "{failure:?} {after_doing}");
            let during = world.claim("taskcluster-a").await.unwrap();
            assert_eq!(during.connection_string, first.connection_string);
            assert!(world.logs_in(&during.connection_string).await);
            world.fake().heal();
            world.clock.advance(world.policy.settle_budget);
            assert_eq!(world.service().rotate(false).await.unwrap().changed, 1);
            let after = world.claim("taskcluster-a").await.unwrap();
            assert_ne!(after.connection_string, first.connection_string);
            assert!(world.logs_in(&after.connection_string).await && world.logs_in(&first.connection_string).await);
        }
    }
}

/// The user is made, its permissions are not, and the run that goes on from there finds the user there.
#[tokio::test]
async fn a_user_that_a_failed_rotation_made_anew_gets_its_permissions_from_the_next() {
    let world = impatient_world().await;
    world.claim("taskcluster-a").await.unwrap();
    world.fake().restart_empty();
    world.clock.advance(HOUR);
    world.fake().fault(Fault::new(Failure::Status(503)).on("PUT", "/permissions/").times(1));
    assert_eq!(world.service().rotate(false).await.unwrap().failed, 1);
    world.clock.advance(world.policy.settle_budget);
    assert_eq!(world.service().rotate(false).await.unwrap().changed, 1);
    assert!(world.logs_in(&world.claim("taskcluster-a").await.unwrap().connection_string).await);
}

/// The broker forgot its users: a rotation makes the user anew, and must give it its permissions too.
#[tokio::test]
async fn a_rotation_after_the_broker_lost_everything_still_logs_in() {
    let world = impatient_world().await;
    world.claim("taskcluster-a").await.unwrap();
    world.fake().restart_empty();
    world.clock.advance(HOUR);
    assert_eq!(world.service().rotate(false).await.unwrap().changed, 1);
    assert!(world.logs_in(&world.claim("taskcluster-a").await.unwrap().connection_string).await);
}
