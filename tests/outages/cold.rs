//! Everything cold: processes that are started before their neighbours.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::time::{sleep, timeout};

use super::load::{is_unavailable, shown};
use crate::support::processes::{Answer, Deployment, PATIENCE, Program, get};
use crate::support::services::{Part, exclusive};
use crate::support::world::{BrokerKind, Side, StoreKind};

/// Claims until it is answered.
async fn claimed(deployment: &Deployment, url: &url::Url, name: &str) -> Answer {
    let claiming = timeout(PATIENCE, async {
        loop {
            match deployment.claim(url, name, &json!({})).await {
                Ok(answer) => return answer,
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    });
    claiming.await.unwrap_or_else(|_| panic!("{name} can't be claimed"))
}

/// Which neighbours a heartbeat says are failing.
async fn failing(url: &url::Url) -> Vec<String> {
    let (status, body) = get(url, "/__heartbeat__").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    let failing: Vec<_> = body["failing"].as_array().into_iter().flatten().map(|part| part.as_str().unwrap()).collect();
    assert_eq!(status, if failing.is_empty() { 200 } else { 502 });
    failing.into_iter().map(str::to_owned).collect()
}

/// The lines that it has written with this text.
fn lines(program: &Program, text: &str) -> Vec<String> {
    program.stdout().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

#[tokio::test]
async fn started_before_postgresql_and_rabbitmq_the_service_says_whom_it_waits_for_and_serves_once_they_are_there() {
    let (_turn, services) = exclusive().await;
    let deployment = Deployment::on(services).await;
    services.stop(Part::RabbitMq, "KILL").await;
    services.stop(Part::Postgres, "INT").await;

    let (mut web, url) = deployment.serve(&["web"]).await;
    let mut worker = deployment.start(&["worker"]);
    for program in [&web, &worker] {
        program.says("waiting for database").await;
        program.says("waiting for rabbitmq").await;
    }
    assert_eq!(get(&url, "/__lbheartbeat__").await.0, 200);
    assert_eq!(failing(&url).await, ["database", "rabbitmq"]);
    assert!(is_unavailable(&deployment.claim(&url, "taskcluster-x", &json!({})).await));
    // Long enough for it to look again.
    sleep(Duration::from_secs(2)).await;

    services.start_again().await;
    let answer = claimed(&deployment, &url, "taskcluster-x").await;
    deployment.try_login(&answer.connection_string).await.unwrap();
    for program in [&web, &worker] {
        for neighbour in ["database", "rabbitmq"] {
            program.says(&format!("{neighbour} is there")).await;
            let waiting = lines(program, &format!("waiting for {neighbour}"));
            assert_eq!(waiting.len(), 1, "{waiting:#?}");
        }
    }
    assert_eq!(failing(&url).await, Vec::<String>::new());
    // What failed at first is soon tried again, however rarely it runs.
    worker.says("monitor-rabbit: seen").await;
    assert!(web.is_alive() && worker.is_alive());
}

#[tokio::test]
async fn started_before_the_database_is_migrated_the_service_waits_and_single_runs_fail_at_once() {
    let deployment = Deployment::unmigrated(StoreKind::Postgres, BrokerKind::Fake).await;
    let (serve, url) = deployment.serve(&["serve"]).await;
    serve.says("waiting for database: the database has no schema yet: run `taskcluster-pulse migrate`").await;
    assert_eq!(failing(&url).await, ["database"]);
    let claim = deployment.claim(&url, "taskcluster-x", &json!({})).await;
    assert!(is_unavailable(&claim), "{}", shown(&claim));
    let ended = deployment.run(&["monitor-rabbit"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("run `taskcluster-pulse migrate`"), "{ended:?}");

    assert_eq!(deployment.run(&["migrate"]).await.code, Some(0));
    claimed(&deployment, &url, "taskcluster-x").await;
    serve.says("database is there").await;
    serve.says("monitor-rabbit: seen").await;
}

#[tokio::test]
async fn a_database_that_another_program_made_is_no_reason_to_wait() {
    let deployment = Deployment::new(StoreKind::Postgres, BrokerKind::Fake).await;
    let client = deployment.database.as_ref().unwrap().client().await;
    let newer = "INSERT INTO refinery_schema_history VALUES (99, 'later', '2030-01-01T00:00:00Z', '1')";
    client.batch_execute(newer).await.unwrap();
    for command in ["serve", "web", "worker"] {
        let ended = deployment.run(&[command]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("has version 99"), "{ended:?}");
    }
}

#[tokio::test]
async fn started_before_the_auth_service_local_clients_are_served_and_the_others_are_waited_for() {
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    // Bound, so that nobody else takes it, and not listening yet, so that connections are refused.
    let gate = TcpSocket::new_v4().unwrap();
    gate.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = gate.local_addr().unwrap();
    deployment.set("AUTH_MODE", "both");
    deployment.set("TASKCLUSTER_ROOT_URL", format!("http://{address}"));
    let (web, url) = deployment.serve(&["web"]).await;
    web.says("waiting for auth").await;
    assert_eq!(failing(&url).await, ["auth"]);
    deployment.claim(&url, "taskcluster-x", &json!({})).await.unwrap();

    let pong = axum::Router::new().fallback(async || r#"{"alive": true, "uptime": 1}"#);
    let listener = gate.listen(16).unwrap();
    tokio::spawn(async move { axum::serve(listener, pong).await });
    web.says("auth is there").await;
    assert_eq!(failing(&url).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_task_that_is_repeated_says_whom_it_waits_for() {
    let deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let Side::Fake(fake) = &deployment.side else { panic!("the fake broker was asked for") };
    fake.down().await;
    let monitor = deployment.start(&["monitor-rabbit", "--every", "1 h"]);
    monitor.says("waiting for rabbitmq").await;
    fake.up();
    monitor.says("rabbitmq is there").await;
    monitor.says("monitor-rabbit: seen 0").await;
}
