//! RabbitMQ is stopped, frozen and wiped.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::{sleep, timeout};

use super::load::{KNOWN, Scene, is_unavailable};
use crate::support::processes::{Deployment, PATIENCE, get};
use crate::support::services::{Part, exclusive};
use crate::support::world::Side;

#[tokio::test]
async fn while_rabbitmq_is_down_known_namespaces_are_claimed_as_always_and_first_claims_are_told_to_come_again() {
    let (_turn, services) = exclusive().await;
    let scene = Scene::new(services).await;
    let crash = async {
        scene.broker_goes();
        services.stop(Part::RabbitMq, "KILL").await;
        for name in ["taskcluster-new", "taskcluster-new", "taskcluster-newer"] {
            scene.is_told_to_come_again(name).await;
        }
        let (status, body) = get(&scene.url, "/__heartbeat__").await;
        let failing = serde_json::from_str::<serde_json::Value>(&body).unwrap()["failing"].clone();
        assert!(status == 502 && failing == serde_json::json!(["rabbitmq"]), "{status} {body}");
        services.start_again().await;
        scene.broker_is_back();
        for name in ["taskcluster-new", "taskcluster-newer"] {
            let answer = scene.claim(name).await.unwrap();
            scene.deployment.try_login(&answer.connection_string).await.unwrap();
        }
    };
    let tally = scene.in_use(crash).await;
    assert_eq!(tally.unanswered, 0, "{tally:?}");
}

#[tokio::test]
async fn a_first_claim_is_answered_within_two_seconds_while_rabbitmq_hangs_and_leaves_nothing_half_made() {
    let (_turn, services) = exclusive().await;
    // With all time-outs as they are by default.
    let deployment = Deployment::on(services).await;
    let (_web, url) = deployment.serve(&["web"]).await;
    let known = deployment.claim(&url, KNOWN[0], &json!({})).await.unwrap();

    services.freeze(Part::RabbitMq);
    // A busy machine makes each take longer, so it is the quickest of some that tells.
    let mut quickest = [Duration::MAX; 2];
    for name in ["taskcluster-new", "taskcluster-new", "taskcluster-newer"] {
        let began = Instant::now();
        assert!(is_unavailable(&deployment.claim(&url, name, &json!({})).await));
        quickest[0] = quickest[0].min(began.elapsed());
        let began = Instant::now();
        let again = deployment.claim(&url, KNOWN[0], &json!({})).await.unwrap();
        assert_eq!(again.connection_string, known.connection_string);
        quickest[1] = quickest[1].min(began.elapsed());
    }
    let [first, again] = quickest;
    assert!(first < Duration::from_secs(2), "first claims took {first:?} and more");
    assert!(again < Duration::from_secs(1), "claims of a known namespace took {again:?} and more");

    services.thaw();
    for name in ["taskcluster-new", "taskcluster-newer"] {
        // What the node was asked before, it may do only now.
        let claimed = timeout(PATIENCE, async {
            loop {
                match deployment.claim(&url, name, &json!({})).await {
                    Ok(answer) => return answer,
                    Err(_) => sleep(Duration::from_millis(100)).await,
                }
            }
        });
        let answer = claimed.await.expect("RabbitMQ goes on");
        deployment.try_login(&answer.connection_string).await.unwrap();
    }
}

#[tokio::test]
async fn while_rabbitmq_hangs_known_namespaces_are_claimed_as_always() {
    let (_turn, services) = exclusive().await;
    let scene = Scene::new(services).await;
    let hang = async {
        scene.broker_goes();
        services.freeze(Part::RabbitMq);
        scene.is_told_to_come_again("taskcluster-new").await;
        sleep(Duration::from_secs(4)).await;
        services.thaw();
        // It has much to catch up with, and many connections to notice the end of.
        sleep(Duration::from_secs(1)).await;
        scene.broker_is_back();
    };
    let tally = scene.in_use(hang).await;
    assert_eq!(tally.unanswered, 0, "{tally:?}");
}

#[tokio::test]
async fn a_rabbitmq_that_was_wiped_gets_the_passwords_back_that_clients_hold() {
    let (_turn, services) = exclusive().await;
    // Nothing is rotated meanwhile, which would make users too.
    let mut deployment = Deployment::on(services).await;
    deployment.set("WORKER_MONITOR_INTERVAL", "500 ms");
    let (_serve, url) = deployment.serve(&["serve"]).await;
    let mut held = Vec::new();
    for name in KNOWN {
        held.push((name, deployment.claim(&url, name, &json!({})).await.unwrap()));
    }
    let claimed_as_always = async || {
        for (name, before) in &held {
            let answer = deployment.claim(&url, name, &json!({})).await.unwrap();
            assert_eq!(answer.connection_string, before.connection_string);
        }
    };
    services.stop(Part::RabbitMq, "KILL").await;
    services.wipe_rabbitmq();
    claimed_as_always().await;
    services.start_again().await;
    // The account and the virtual host are the operator's to make.
    let Side::Real(vhost) = &deployment.side else { panic!("RabbitMQ was asked for") };
    vhost.make().await;
    claimed_as_always().await;
    for (name, answer) in &held {
        let rebuilt = timeout(PATIENCE, async {
            while deployment.try_login(&answer.connection_string).await.is_err() {
                sleep(Duration::from_millis(100)).await;
            }
        });
        assert!(rebuilt.await.is_ok(), "{name} can't log in again");
    }
    claimed_as_always().await;
}

#[tokio::test]
async fn a_node_that_keeps_no_statistics_is_guarded_by_numbers_of_messages_alone_and_that_is_said() {
    let (_turn, services) = exclusive().await;
    let mut deployment = Deployment::on(services).await;
    deployment.set("MONITOR_ALERT_THRESHOLD", "8");
    deployment.set("MONITOR_DELETE_THRESHOLD", "12");
    deployment.set("MONITOR_GRACE", "1 s");
    let (_web, url) = deployment.serve(&["web"]).await;
    deployment.claim(&url, KNOWN[0], &json!({})).await.unwrap();
    let Side::Real(vhost) = &deployment.side else { panic!("this test needs RabbitMQ") };
    let (large, small) = (format!("queue/{}/large", KNOWN[0]), format!("queue/{}/small", KNOWN[0]));
    for (queue, messages) in [(&large, 16), (&small, 4)] {
        vhost.declare_queue(queue, "classic").await;
        for _ in 0..messages {
            vhost.publish(queue).await;
        }
    }
    services.keep_statistics(false).await;
    let guarded = async {
        let mut said = false;
        loop {
            let ended = deployment.run(&["monitor-rabbit", "--json"]).await;
            assert_eq!(ended.code, Some(0), "{ended:?}");
            said |= ended.stdout.contains("RabbitMQ keeps no statistics");
            let left = vhost.queues().await;
            if left.len() < 2 {
                return (said, left);
            }
        }
    };
    let guarded = timeout(PATIENCE, guarded).await;
    services.keep_statistics(true).await;
    assert_eq!(guarded.unwrap(), (true, vec![small]));
}
