//! Stopping: what is under way is finished, for a while; a second signal ends everything at once.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::fake_broker::{Failure, FakeBroker, Fault};
use crate::support::processes::{Deployment, PATIENCE};
use crate::support::world::{BrokerKind, Side, StoreKind};

/// What a stopping process has to say first.
const STOPPING: &str = "stopping: what is under way is finished first";

/// So long may requests go on that are under way; nothing may take as long that does not have to.
const DRAIN: Duration = Duration::from_secs(50);

/// What a sweep asks the fake broker first.
const PING: &str = "/api/vhosts/fake/vhost %1";

async fn deployment() -> Deployment {
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    deployment.set("SERVER_DRAIN_TIMEOUT", format!("{} s", DRAIN.as_secs()));
    deployment.set("RABBIT_REQUEST_TIMEOUT", "30 s");
    deployment.set("RABBIT_FIRST_CLAIM_TIMEOUT", "60 s");
    deployment.set("SERVER_REQUEST_TIMEOUT", "61 s");
    deployment
}

fn fake(deployment: &Deployment) -> &FakeBroker {
    match &deployment.side {
        Side::Fake(fake) => fake,
        Side::Real(_) => panic!("the fake broker was asked for"),
    }
}

/// Waits until the broker is asked.
async fn received(fake: &FakeBroker, method: &str, path: &str) {
    let received = timeout(PATIENCE, fake.received(method, path, 1)).await;
    assert!(received.is_ok(), "{method} {path} did not come");
}

fn assert_at_once(began: Instant) {
    assert!(began.elapsed() < DRAIN / 2, "it took {:?}", began.elapsed());
}

#[tokio::test]
async fn a_claim_that_is_under_way_is_answered_before_the_process_ends() {
    let deployment = deployment().await;
    let fake = fake(&deployment);
    let (web, url) = deployment.serve(&["web"]).await;
    fake.fault(Fault::new(Failure::Hang).on("PUT", "/users/"));
    let nothing = json!({});
    let claim = deployment.claim(&url, "taskcluster-x", &nothing);
    let stop = async {
        received(fake, "PUT", "/api/users/taskcluster-x-1").await;
        received(fake, "PUT", "/api/users/taskcluster-x-2").await;
        let began = Instant::now();
        web.signal("TERM");
        web.says(STOPPING).await;
        fake.heal();
        fake.release();
        let ended = web.end().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_at_once(began);
    };
    let (answer, ()) = tokio::join!(claim, stop);
    deployment.try_login(&answer.unwrap().connection_string).await.unwrap();
}

#[tokio::test]
async fn a_process_with_nothing_to_do_ends_at_once_though_clients_stay_connected() {
    let deployment = deployment().await;
    for (command, signal) in [("web", "TERM"), ("serve", "INT")] {
        let (process, url) = deployment.serve(&[command]).await;
        taskcluster_pulse::tls::install_crypto_provider();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let ping = url.join("/api/pulse/v1/ping").unwrap();
        client.get(ping).send().await.unwrap().bytes().await.unwrap();
        let silent = TcpStream::connect(url.socket_addrs(|| None).unwrap()[0]).await.unwrap();
        let began = Instant::now();
        process.signal(signal);
        let ended = process.end().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stdout.contains(STOPPING));
        assert_at_once(began);
        drop((client, silent));
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_process_though_a_claim_is_under_way() {
    let deployment = deployment().await;
    let fake = fake(&deployment);
    let (web, url) = deployment.serve(&["web"]).await;
    fake.fault(Fault::new(Failure::Hang).on("PUT", "/users/"));
    let nothing = json!({});
    let claim = deployment.claim(&url, "taskcluster-x", &nothing);
    let stop = async {
        received(fake, "PUT", "/api/users/taskcluster-x-1").await;
        let began = Instant::now();
        web.signal("TERM");
        web.says(STOPPING).await;
        web.signal("INT");
        let ended = web.end().await;
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert_at_once(began);
    };
    let (answer, ()) = tokio::join!(claim, stop);
    assert!(answer.is_err());

    fake.heal();
    fake.release();
    let (_web, url) = deployment.serve(&["web"]).await;
    let answer = deployment.claim(&url, "taskcluster-x", &json!({})).await.unwrap();
    deployment.try_login(&answer.connection_string).await.unwrap();
}

#[tokio::test]
async fn a_run_that_takes_too_long_to_end_is_cut_off() {
    for (command, code, words) in [("worker", 0, "is cut off"), ("monitor-rabbit", 1, "before the run was finished")] {
        let mut deployment = deployment().await;
        deployment.set("SERVER_DRAIN_TIMEOUT", "200 ms");
        let fake = fake(&deployment);
        fake.fault(Fault::new(Failure::Hang).on("GET", PING));
        let process = deployment.start(&[command]);
        received(fake, "GET", PING).await;
        process.signal("TERM");
        let ended = process.end().await;
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(format!("{}{}", ended.stdout, ended.stderr).contains(words), "{ended:?}");
    }
}
