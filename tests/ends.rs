//! Ends on demand, as stories on every store and broker, and a revocation under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::fake_broker::{Failure, Fault};
use crate::support::rabbitmq::{eventually, log_in};
use crate::support::world::{BrokerKind, HOUR, StoreKind, World};
use taskcluster_pulse::broker::BrokerError;
use taskcluster_pulse::clock::Clock;
use taskcluster_pulse::domain::audit::{AuditFilter, By, Deed};
use taskcluster_pulse::domain::inventory::QueueKind;
use taskcluster_pulse::domain::name::Slot;
use taskcluster_pulse::secret::Password;
use taskcluster_pulse::service::{Claimed, Ended, ServiceError};
use taskcluster_pulse::store::StoreError;

crate::on_every_world! {
    revoked_strings_are_refused_and_the_next_claim_logs_in,
    a_released_namespace_ends_with_its_queues_and_can_be_claimed_anew,
    nobody_claims_a_disabled_namespace_until_it_is_enabled,
    a_disabled_namespace_neither_rotates_nor_expires_and_its_name_stays_refused,
    a_repair_that_is_under_way_puts_off_the_new_password,
}

const X: &str = "taskcluster-x";

fn by() -> By {
    By::client("boss")
}

/// Claims, rotates, and claims: the strings of both users, which log in.
async fn both_strings(world: &World) -> [Claimed; 2] {
    let first = world.claim(X).await.unwrap();
    world.clock.advance(HOUR);
    assert_eq!(world.service().rotate(false).await.unwrap().changed, 1);
    let second = world.claim(X).await.unwrap();
    for claimed in [&first, &second] {
        assert!(world.logs_in(&claimed.connection_string).await);
    }
    [first, second]
}

/// The actions of the audit trail, the newest first.
async fn trail(world: &World) -> Vec<String> {
    let all = world.store.audits(&AuditFilter::default(), 100).await.unwrap();
    all.into_iter().map(|audit| audit.action).collect()
}

async fn revoked_strings_are_refused_and_the_next_claim_logs_in(world: World) {
    let old = both_strings(&world).await;
    let unknown = world.service().revoke(&world.name("taskcluster-no"), "why", &by()).await;
    assert!(matches!(unknown, Err(ServiceError::NoNamespace(_))), "{unknown:?}");
    let service = world.service();
    assert_eq!(service.revoke(&world.name(X), "it was leaked", &by()).await.unwrap(), Ended::Done);
    for claimed in &old {
        assert!(!world.logs_in(&claimed.connection_string).await);
    }
    let new = world.claim(X).await.unwrap();
    assert!(
        world.logs_in(&new.connection_string).await
            && old.iter().all(|old| old.connection_string != new.connection_string)
    );
    assert_eq!((new.created, new.reclaim_at), (old[0].created, world.clock.now().plus(HOUR + HOUR / 2)));
    // A request that was signed before gets nothing of that.
    assert!(new.switched.is_some_and(|at| at >= world.clock.now()));
    let sweep = world.service().sweep(&world.sweep_policy(), false).await.unwrap();
    assert_eq!((sweep.changed, sweep.failed), (0, 0), "{sweep}");
    let all = world.store.audits(&AuditFilter::default(), 1).await.unwrap();
    assert_eq!((all[0].action.as_str(), all[0].reason.as_str(), &all[0].by), ("revoke", "it was leaked", &by()));
    // Again, it is the new ones that are revoked.
    assert_eq!(world.service().revoke(&world.name(X), "again", &by()).await.unwrap(), Ended::Done);
    assert!(!world.logs_in(&new.connection_string).await);
    assert!(world.logs_in(&world.claim(X).await.unwrap().connection_string).await);
    world.clock.advance(HOUR);
    assert_eq!(world.service().rotate(false).await.unwrap().changed, 1);
    assert!(world.logs_in(&world.claim(X).await.unwrap().connection_string).await);
}

async fn a_released_namespace_ends_with_its_queues_and_can_be_claimed_anew(world: World) {
    let old = both_strings(&world).await;
    let queue = format!("queue/{X}/a");
    world.fill(&queue, QueueKind::Classic, 3).await;
    let release = async || world.service().release(&world.name(X), "no longer needed", &by()).await;
    assert_eq!(release().await.unwrap(), Ended::Done);
    for claimed in &old {
        assert!(!world.logs_in(&claimed.connection_string).await);
    }
    assert_eq!(world.service().summary(&world.name(X)).await.unwrap(), None);
    assert_eq!(release().await.unwrap(), Ended::Done, "again");
    let expire = world.service().expire(&world.expiry_policy(), false).await.unwrap();
    assert_eq!(expire.failed, 0, "{expire}");
    assert!(!world.queues().await.contains(&queue));
    world.clock.advance(HOUR);
    world.service().expire(&world.expiry_policy(), false).await.unwrap();
    assert_eq!(world.store.namespace(&world.name(X)).await.unwrap(), None);
    assert!(matches!(release().await, Err(ServiceError::NoNamespace(_))));
    let new = world.claim(X).await.unwrap();
    assert!(new.created > old[0].created && world.logs_in(&new.connection_string).await);
    assert_eq!(trail(&world).await, ["claim", "delete-queue", "release", "claim"]);
}

async fn nobody_claims_a_disabled_namespace_until_it_is_enabled(world: World) {
    let old = both_strings(&world).await;
    let name = world.name(X);
    let disable = async || world.service().disable(&name, "it floods", &by()).await.unwrap();
    assert_eq!(world.service().enable(&name, "it is not disabled", &by()).await.unwrap(), Ended::Done);
    assert_eq!((disable().await, disable().await), (Ended::Done, Ended::Done));
    for claimed in &old {
        assert!(!world.logs_in(&claimed.connection_string).await);
    }
    match world.claim(X).await {
        Err(ServiceError::Disabled { reason, .. }) => assert_eq!(reason, "it floods"),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.service().revoke(&name, "why", &by()).await.unwrap(), Ended::Done, "nothing to revoke");
    world.clock.advance(HOUR / 2);
    assert_eq!(world.service().enable(&name, "it is mended", &by()).await.unwrap(), Ended::Done);
    let new = world.claim(X).await.unwrap();
    assert!(world.logs_in(&new.connection_string).await && new.created == old[0].created);
    assert_eq!(trail(&world).await, ["enable", "disable", "claim"]);
}

async fn a_disabled_namespace_neither_rotates_nor_expires_and_its_name_stays_refused(world: World) {
    world.claim(X).await.unwrap();
    let name = world.name(X);
    world.service().disable(&name, "it floods", &by()).await.unwrap();
    world.clock.advance(100 * HOUR);
    assert_eq!(world.service().rotate(false).await.unwrap().seen, 0);
    world.service().expire(&world.expiry_policy(), false).await.unwrap();
    assert!(world.service().summary(&name).await.unwrap().is_some());
    // Somebody changes a user of it.
    let user = world.policy.names.user(&name, Slot::One);
    let tag = world.store.tag().await.unwrap();
    world.broker.put_user(&user, &Password::random().hash(), tag.as_str()).await.unwrap();
    world.service().sweep(&world.sweep_policy(), false).await.unwrap();
    assert!(world.broker.user(&user).await.unwrap().unwrap().hash.is_blocked());
    // Its owner ends it, which does not free its name.
    world.service().release(&name, "so be it", &by()).await.unwrap();
    for _ in 0..3 {
        world.clock.advance(HOUR);
        world.service().expire(&world.expiry_policy(), false).await.unwrap();
    }
    assert!(matches!(world.claim(X).await, Err(ServiceError::Disabled { .. })));
    world.service().enable(&name, "it is mended", &by()).await.unwrap();
    assert!(world.logs_in(&world.claim(X).await.unwrap().connection_string).await);
}

async fn a_repair_that_is_under_way_puts_off_the_new_password(world: World) {
    let old = world.claim(X).await.unwrap();
    let (name, tag) = (world.name(X), world.store.tag().await.unwrap());
    let user = world.policy.names.user(&name, Slot::One);
    world.broker.put_user(&user, &Password::random().hash(), tag.as_str()).await.unwrap();
    // It may have read the old password, and stand still right before it writes that.
    assert_eq!(world.service().sweep(&world.sweep_policy(), false).await.unwrap().changed, 1);
    assert!(world.logs_in(&old.connection_string).await);
    let revoke = async || world.service().revoke(&name, "why", &by()).await.unwrap();
    assert!(matches!(revoke().await, Ended::Pending(_)));
    assert!(!world.logs_in(&old.connection_string).await, "what can be done is done");
    assert!(matches!(world.claim(X).await, Err(ServiceError::Revoking { .. })));
    world.clock.advance(world.policy.settle_budget);
    let new = world.claim(X).await.unwrap();
    assert!(world.logs_in(&new.connection_string).await);
    world.clock.advance(world.policy.settle_budget);
    assert_eq!(revoke().await, Ended::Done);
    assert!(!world.logs_in(&new.connection_string).await, "which a claim had put in force");
    assert_eq!(trail(&world).await, ["revoke", "revoke", "claim"]);
}

/// What was asked for while the broker is down.
async fn asked_while_down(world: &World, deed: Deed) -> Ended {
    world.fake().down().await;
    let (service, name) = (world.service(), world.name(X));
    let asked = match deed {
        Deed::Release => service.release(&name, "why", &by()).await,
        Deed::Revoke => service.revoke(&name, "why", &by()).await,
        _ => service.disable(&name, "why", &by()).await,
    };
    let claimed = world.claim(X).await;
    match deed {
        Deed::Revoke => {
            assert!(matches!(claimed, Err(ServiceError::Broker(BrokerError::Unavailable(_)))), "{claimed:?}")
        }
        Deed::Disable => assert!(matches!(claimed, Err(ServiceError::Disabled { .. })), "{claimed:?}"),
        _ => assert!(matches!(claimed, Err(ServiceError::CleaningUp { .. })), "{claimed:?}"),
    }
    world.fake().up();
    asked.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_while_the_broker_is_down_is_carried_out_once_it_is_back() {
    for deed in [Deed::Release, Deed::Revoke, Deed::Disable] {
        let world = World::new(StoreKind::Postgres, BrokerKind::Fake).await;
        let old = both_strings(&world).await;
        let user = world.policy.names.user(&world.name(X), Slot::Two);
        let now = world.clock.now().millis();
        let password = url::Url::parse(&old[1].connection_string).unwrap().password().unwrap().to_owned();
        world.fake().connect(&user, &password, now - 1000).unwrap();
        assert_eq!(asked_while_down(&world, deed).await, Ended::Pending("RabbitMQ does not answer".into()), "{deed:?}");
        assert!(world.logs_in(&old[1].connection_string).await, "nobody could tell the broker");
        world.clock.advance(2 * world.policy.settle_budget);
        for _ in 0..2 {
            let sweep = world.service().sweep(&world.sweep_policy(), false).await.unwrap();
            assert_eq!(sweep.failed, 0, "{deed:?}: {sweep}");
            let expire = world.service().expire(&world.expiry_policy(), false).await.unwrap();
            assert_eq!(expire.failed, 0, "{deed:?}: {expire}");
        }
        for claimed in &old {
            assert!(!world.logs_in(&claimed.connection_string).await, "{deed:?}");
        }
        assert!(world.fake().state().connections.is_empty(), "{deed:?}");
        let service = world.service();
        let again = match deed {
            Deed::Revoke => {
                assert!(world.logs_in(&world.claim(X).await.unwrap().connection_string).await);
                continue;
            }
            Deed::Release => service.release(&world.name(X), "why", &by()).await,
            _ => service.disable(&world.name(X), "why", &by()).await,
        };
        assert!(matches!(again, Ok(Ended::Done) | Err(ServiceError::NoNamespace(_))), "{deed:?}: {again:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_carries_out_a_revocation_and_the_sweep_closes_what_is_left() {
    let world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let old = both_strings(&world).await;
    asked_while_down(&world, Deed::Revoke).await;
    let user = world.policy.names.user(&world.name(X), Slot::Two);
    let password = url::Url::parse(&old[1].connection_string).unwrap().password().unwrap().to_owned();
    world.fake().connect(&user, &password, world.clock.now().millis() - 1000).unwrap();
    let new = world.claim(X).await.unwrap();
    assert!(world.logs_in(&new.connection_string).await && !world.logs_in(&old[1].connection_string).await);
    let sweep = world.service().sweep(&world.sweep_policy(), false).await.unwrap();
    assert_eq!(sweep.failed, 0, "{sweep}");
    assert!(world.fake().state().connections.is_empty());
    assert!(world.logs_in(&new.connection_string).await);
    assert_eq!(world.service().sweep(&world.sweep_policy(), false).await.unwrap().changed, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_passwords_change_every_few_seconds_the_sweep_has_time_enough_to_revoke() {
    let mut world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    (world.policy.rotation_interval, world.policy.settle_budget) = (Duration::from_secs(8), Duration::from_secs(2));
    both_strings(&world).await;
    asked_while_down(&world, Deed::Revoke).await;
    let clock = world.clock.clone();
    let goes_on = tokio::spawn(async move {
        loop {
            let began = Instant::now();
            tokio::time::sleep(Duration::from_millis(5)).await;
            clock.advance(began.elapsed());
        }
    });
    // A busy machine may need more than one run.
    eventually("the revocation is done", async || {
        let sweep = world.service().sweep(&world.sweep_policy(), false).await.ok()?;
        let found = world.store.namespace(&world.name(X)).await.unwrap().unwrap();
        (sweep.failed == 0 && found.barred.revoked.is_none_or(|revoked| revoked.done)).then_some(())
    })
    .await;
    goes_on.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_said_to_be_done_that_the_broker_does_not_show() {
    let world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    both_strings(&world).await;
    let revoke = async || world.service().revoke(&world.name(X), "why", &by()).await.unwrap();
    for fault in [
        Fault::new(Failure::Status(500)).on("PUT", "users/"),
        Fault::new(Failure::Status(500)).on("GET", "users/"),
        // It says that it has done so, and has not.
        Fault::new(Failure::Status(204)).on("PUT", "users/"),
        Fault::new(Failure::Status(500)).on("DELETE", "connections/username"),
    ] {
        world.fake().fault(fault.clone());
        assert!(matches!(revoke().await, Ended::Pending(_)), "{fault:?}");
        world.fake().heal();
    }
    assert_eq!(revoke().await, Ended::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_revoked_is_not_handed_out_from_memory_while_the_broker_shows_it() {
    let world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let service = world.service();
    let asked = |name: &str| taskcluster_pulse::domain::claim::ClaimRequest {
        by: by(),
        name: world.name(name),
        expires: None,
        contact: None,
        client: None,
    };
    for name in [X, "taskcluster-y"] {
        service.claim(&asked(name)).await.unwrap();
    }
    // Another process, which this one has not heard of when the store fails.
    assert_eq!(world.service().revoke(&world.name(X), "why", &by()).await.unwrap(), Ended::Done);
    std::fs::rename(world.sqlite(), world.sqlite().with_extension("away")).unwrap();
    assert!(service.refresh_memory().await.is_err());
    service.check_memory().await;
    assert!(service.claim(&asked("taskcluster-y")).await.is_ok(), "from memory");
    let refused = service.claim(&asked(X)).await;
    assert!(
        matches!(refused, Err(ServiceError::Store(StoreError::Unavailable(_) | StoreError::Failed(_)))),
        "{refused:?}"
    );
}

/// Programs that connect with one string, and at once again whenever they are cut off.
struct Crowd {
    open: Arc<AtomicUsize>,
    logins: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Crowd {
    fn of(count: usize, connection_string: &str) -> Crowd {
        let crowd = Crowd { open: Arc::default(), logins: Arc::default(), stop: Arc::default() };
        for _ in 0..count {
            let (open, logins, stop) = (crowd.open.clone(), crowd.logins.clone(), crowd.stop.clone());
            let connection_string = connection_string.to_owned();
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    if let Ok(connection) = log_in(&connection_string).await {
                        open.fetch_add(1, Ordering::SeqCst);
                        logins.fetch_add(1, Ordering::SeqCst);
                        while connection.status().connected() && !stop.load(Ordering::SeqCst) {
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                        open.fetch_sub(1, Ordering::SeqCst);
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
        }
        crowd
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    fn logins(&self) -> usize {
        self.logins.load(Ordering::SeqCst)
    }

    async fn all_in(&self, count: usize) {
        eventually("a crowd that is connected", async || (self.open() == count).then_some(())).await;
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_nobody_is_connected_with_an_old_password_two_seconds_after_the_answer() {
    const MANY: usize = 40;
    let world = World::new(StoreKind::Sqlite, BrokerKind::Real).await;
    let mut strings: Vec<_> = both_strings(&world).await.map(|claimed| claimed.connection_string).into();
    for round in 0..3 {
        let old: Vec<_> = strings.iter().map(|string| Crowd::of(MANY, string)).collect();
        for crowd in &old {
            crowd.all_in(MANY).await;
        }
        let asked = Instant::now();
        let revoked = world.service().revoke(&world.name(X), "under load", &by()).await.unwrap();
        let (answered, took) = (Instant::now(), asked.elapsed());
        assert_eq!(revoked, Ended::Done, "round {round}, after {took:?}");
        let new = world.claim(X).await.unwrap().connection_string;
        let fresh = Crowd::of(MANY, &new);
        tokio::time::sleep_until((answered + Duration::from_secs(2)).into()).await;
        fresh.all_in(MANY).await;
        let before = old.iter().map(Crowd::logins).sum::<usize>();
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            assert_eq!(old.iter().map(Crowd::open).sum::<usize>(), 0, "round {round}, after {took:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(old.iter().map(Crowd::logins).sum::<usize>(), before, "and nobody has come in");
        assert_eq!((fresh.open(), fresh.logins()), (MANY, MANY), "who has the new one is left alone");
        println!("round {round}: answered after {took:?}");
        // The next round begins with who has the new one alone; its other user was never let in.
        strings = vec![new];
    }
}
