//! PostgreSQL as people run it: behind PgBouncer, and with a replica that is promoted.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use taskcluster_pulse::clock::Clock as _;
use taskcluster_pulse::store::{self, DatabaseUrl, KeyRing, Store, StoreLimits};
use tokio_postgres::{Client, NoTls};

use crate::support::postgres::TestDatabase;
use crate::support::rabbitmq::eventually;
use crate::support::replicas::Replicas;
use crate::support::world::{BrokerKind, HOUR, StoreKind, World};

const KEY: &str = r#"[{"id": "a", "algo": "aes-256", "key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}]"#;

async fn open(url: &str, timeout: Duration) -> Arc<dyn Store> {
    let limits = StoreLimits { timeout, ..StoreLimits::default() };
    store::open(&url.parse().unwrap(), Some(KeyRing::parse(KEY).unwrap()), limits).await.unwrap()
}

/// A world on this store instead of its own.
async fn on(store: Arc<dyn Store>) -> World {
    let mut world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    world.store = store;
    world
}

async fn connected(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_pooler_that_shares_few_connections_everything_works_whatever_it_does_with_settings() {
    for drops in [false, true] {
        let database = TestDatabase::behind_a_pooler(drops).await;
        let pooled: DatabaseUrl = database.service_url().parse().unwrap();
        let refused = store::migrate(&pooled).await.unwrap_err().to_string();
        assert!(refused.contains("a pooler such as pgbouncer"), "{refused}");
        store::migrate(&database.url().parse().unwrap()).await.unwrap();
        // Two processes, each with more connections than the pooler has to PostgreSQL.
        let store = open(&database.service_url(), Duration::from_secs(20)).await;
        let (mut one, mut other) =
            (on(store).await, on(open(&database.service_url(), Duration::from_secs(20)).await).await);
        other.clock = one.clock.clone();
        other.broker = one.broker.clone();
        one.policy.namespaces_per_client = 1000;
        for round in 0..3 {
            let claims = (0..24).map(|n| {
                let world = if n % 2 == 0 { &one } else { &other };
                async move { (n, world.claim_by(Some("c"), &format!("taskcluster-{}", n / 2), None).await.unwrap()) }
            });
            for (n, claimed) in join_all(claims).await {
                assert!(one.logs_in(&claimed.connection_string).await, "round {round}, claim {n}");
            }
            one.clock.advance(HOUR);
            let services = (one.service(), other.service());
            let rotated = tokio::join!(services.0.rotate(false), services.1.rotate(false));
            assert!(rotated.0.is_ok() && rotated.1.is_ok(), "{rotated:?}");
        }
    }
}

/// What comes after the last thing that the replica got is acknowledged, and lost with the primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_fail_over_to_a_replica_that_lagged_every_answer_is_good_and_what_was_lost_is_made_again() {
    let replicas = tokio::task::spawn_blocking(Replicas::start).await.unwrap();
    store::migrate(&replicas.both().parse().unwrap()).await.unwrap();
    let world = on(open(&replicas.both(), Duration::from_secs(9)).await).await;
    let known = world.claim("taskcluster-known").await.unwrap();
    let replica = connected(&replicas.url(1)).await;
    let has = async |table: &str, rows: i64| {
        let found = replica.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.ok()?;
        (found.get::<_, i64>(0) == rows).then_some(())
    };
    eventually("the replica to have what was claimed", async || has("namespace", 1).await).await;
    // From now on it gets nothing any more.
    replica.batch_execute("ALTER SYSTEM SET primary_conninfo = ''").await.unwrap();
    replica.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    eventually("the replica to be cut off", async || has("pg_stat_wal_receiver", 0).await).await;

    world.clock.advance(HOUR);
    world.service().rotate(false).await.unwrap();
    let lost = world.claim("taskcluster-known").await.unwrap();
    assert_ne!(lost.connection_string, known.connection_string);
    let new = world.claim("taskcluster-new").await.unwrap();
    // A primary that stands still is worse than one that is gone.
    replicas.signal("a", "STOP");
    replica.batch_execute("SELECT pg_promote()").await.unwrap();

    let claimed = async |name: &'static str| eventually("a claim", async || world.claim(name).await.ok()).await;
    let after = claimed("taskcluster-known").await;
    assert!(world.logs_in(&after.connection_string).await);
    // Nothing was taken from those who hold what was lost, as long as nobody repairs.
    assert!(world.logs_in(&lost.connection_string).await && world.logs_in(&new.connection_string).await);
    let again = claimed("taskcluster-new").await;
    assert!(world.logs_in(&again.connection_string).await, "its users are ours, and get new passwords");
    for _ in 0..2 {
        world.clock.advance(HOUR);
        world.service().rotate(false).await.unwrap();
    }
    for name in ["taskcluster-known", "taskcluster-new"] {
        let claimed = world.claim(name).await.unwrap();
        assert!(claimed.reclaim_at > world.clock.now() && world.logs_in(&claimed.connection_string).await, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_becomes_a_standby_is_left_at_the_first_write() {
    let replicas = tokio::task::spawn_blocking(Replicas::start).await.unwrap();
    store::migrate(&replicas.both().parse().unwrap()).await.unwrap();
    let world = on(open(&replicas.both(), Duration::from_secs(9)).await).await;
    world.claim("taskcluster-a").await.unwrap();
    let (old, new) = (connected(&replicas.url(0)).await, connected(&replicas.url(1)).await);
    let followed = async || {
        let found = new.query_one("SELECT count(*) FROM namespace", &[]).await.ok()?;
        (found.get::<_, i64>(0) == 1).then_some(())
    };
    eventually("the replica to follow", followed).await;
    new.batch_execute("SELECT pg_promote()").await.unwrap();
    // As to its clients, it is a standby from now on.
    old.batch_execute("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    old.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let read_only = async || {
        let found = old.query_one("SHOW transaction_read_only", &[]).await.ok()?;
        (found.get::<_, String>(0) == "on").then_some(())
    };
    eventually("the former primary to refuse writes", read_only).await;
    world.claim("taskcluster-b").await.unwrap();
    assert_eq!(new.query_one("SELECT count(*) FROM namespace", &[]).await.unwrap().get::<_, i64>(0), 2);
}
