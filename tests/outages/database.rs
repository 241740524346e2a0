//! PostgreSQL is stopped, crashes, and cuts connections.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::load::{KNOWN, Scene, is_unavailable, shown};
use crate::support::processes::{Deployment, get};
use crate::support::services::{Part, exclusive};

#[tokio::test]
async fn while_postgresql_is_down_claims_of_known_namespaces_are_answered_from_memory() {
    let (_turn, services) = exclusive().await;
    let deployment = Deployment::on(services).await;
    let (web, url) = deployment.serve(&["web"]).await;
    let mut known = Vec::new();
    for name in KNOWN {
        known.push((name, deployment.claim(&url, name, &json!({})).await.unwrap()));
    }
    services.stop(Part::Postgres, "INT").await;
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        for (name, before) in &known {
            let claimed = deployment.claim(&url, name, &json!({})).await;
            let answer = claimed.as_ref().unwrap_or_else(|_| panic!("{name}: {}", shown(&claimed)));
            assert_eq!(answer.connection_string, before.connection_string);
            assert!(answer.reclaim_at <= before.reclaim_at, "{} {}", answer.reclaim_at, before.reclaim_at);
            deployment.try_login(&answer.connection_string).await.unwrap();
        }
        assert!(is_unavailable(&deployment.claim(&url, "taskcluster-new", &json!({})).await));
    }
    let (status, body) = get(&url, "/__heartbeat__").await;
    let failing = serde_json::from_str::<serde_json::Value>(&body).unwrap()["failing"].clone();
    assert!(status == 502 && failing == serde_json::json!(["database"]), "{status} {body}");
    services.start_again().await;
    let answer = deployment.claim(&url, "taskcluster-new", &json!({})).await.unwrap();
    deployment.try_login(&answer.connection_string).await.unwrap();
    web.says("claims are stored again").await;
    assert_eq!(get(&url, "/__heartbeat__").await.0, 200);
}

#[tokio::test]
async fn when_postgresql_is_restarted_or_crashes_what_was_answered_stays_good_and_claims_go_on() {
    let (_turn, services) = exclusive().await;
    let scene = Scene::new(services).await;
    let restarts = async {
        // A fast shutdown, and one that is like a crash.
        for signal in ["INT", "QUIT"] {
            services.stop(Part::Postgres, signal).await;
            sleep(Duration::from_secs(2)).await;
            services.start_again().await;
            let claimed = scene.claim(KNOWN[0]).await;
            assert!(claimed.is_ok(), "the first claim after a restart: {}", shown(&claimed));
        }
    };
    scene.in_use(restarts).await;
}

#[tokio::test]
async fn when_connections_to_postgresql_are_cut_claims_go_on() {
    let (_turn, services) = exclusive().await;
    let scene = Scene::new(services).await;
    let cuts = async {
        let client = scene.deployment.database.as_ref().unwrap().client().await;
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        for _ in 0..40 {
            client.batch_execute(cut).await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
    };
    let tally = scene.in_use(cuts).await;
    // A statement that is cut off may have taken effect, and is the caller's to repeat.
    assert!(tally.unanswered * 5 < tally.claims, "{tally:?}");
}
