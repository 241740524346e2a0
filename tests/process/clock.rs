//! A clock that is set while the program runs, and before it starts: by `libfaketime`, which shows the process another calendar
//! than the host has. The clients' clocks are right.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use taskcluster_pulse::taskcluster::TaskclusterError;
use tokio::time::{Instant, sleep};
use url::Url;

use crate::support::processes::{Deployment, PATIENCE, Program, get};
use crate::support::world::{BrokerKind, Side, StoreKind};

const NAME: &str = "taskcluster-clock";

/// The library, wherever the machine's architecture puts it.
fn libfaketime() -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/script/bootstrap");
    let found = Command::new(script).args(["--locate", "faketime"]).output().unwrap();
    assert!(found.status.success(), "libfaketime is missing. Run script/bootstrap faketime.");
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim()).join("libfaketimeMT.so.1")
}

/// A deployment on SQLite whose processes' clocks the test sets, and whose tasks run again and again.
async fn deployment() -> Deployment {
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let file = deployment.folder.path().join("clock");
    set_clock(&deployment, "+0");
    for (name, value) in [
        ("LD_PRELOAD", libfaketime().to_str().unwrap()),
        ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("API_SILENCE", "2 s"),
        ("WORKER_EXPIRE_INTERVAL", "200 ms"),
        ("WORKER_ROTATE_INTERVAL", "200 ms"),
        ("WORKER_MONITOR_INTERVAL", "200 ms"),
    ] {
        deployment.set(name, value);
    }
    deployment
}

fn set_clock(deployment: &Deployment, to: &str) {
    let (new, file) = (deployment.folder.path().join("clock.new"), deployment.folder.path().join("clock"));
    std::fs::write(&new, to).unwrap();
    std::fs::rename(new, file).unwrap();
}

/// Users and queues of the namespace at the broker.
fn held(deployment: &Deployment) -> (usize, usize) {
    let Side::Fake(fake) = &deployment.side else { panic!("the fake broker was asked for") };
    let state = fake.state();
    (
        state.users.keys().filter(|user| user.contains(NAME)).count(),
        state.queues.keys().filter(|queue| queue.contains(NAME)).count(),
    )
}

async fn failing(url: &Url) -> Value {
    let (_, body) = get(url, "/__heartbeat__").await;
    serde_json::from_str::<Value>(&body).unwrap()["failing"].clone()
}

/// Waits until the service says of its health what is wanted.
async fn until_failing(url: &Url, wanted: Value) {
    let late = Instant::now() + PATIENCE;
    while failing(url).await != wanted {
        assert!(Instant::now() < late, "{:?} where {wanted} was expected", failing(url).await);
        sleep(Duration::from_millis(50)).await;
    }
}

/// Lets the expiry run a few times, and sees that nothing is removed.
async fn nothing_is_removed(deployment: &Deployment, program: &Program) {
    let runs = || program.stdout().matches("expire-namespaces: seen").count();
    program.says_times("expire-namespaces: seen", runs() + 10).await;
    assert_eq!(held(deployment), (2, 1));
}

async fn is_refused(deployment: &Deployment, url: &Url) {
    let refused = deployment.claim(url, NAME, &json!({})).await;
    assert!(matches!(refused, Err(TaskclusterError::Refused { status: 401, .. })), "{:?}", refused.is_ok());
}

#[tokio::test]
async fn a_clock_that_is_set_removes_nothing_is_named_and_does_no_harm_once_it_is_back() {
    let deployment = deployment().await;
    let (program, url) = deployment.serve(&["serve"]).await;
    let first = deployment.claim(&url, NAME, &json!({})).await.unwrap();
    let Side::Fake(fake) = &deployment.side else { panic!("the fake broker was asked for") };
    fake.state().queues.insert(format!("queue/{NAME}/x"), crate::support::fake_broker::Queue::classic(1));
    until_failing(&url, Value::Null).await;
    // The first heartbeat tells how far the calendar is ahead of the uptime.
    program.says("rotate-namespaces: seen 0").await;
    for off in ["+6h", "-6h", "+400d"] {
        set_clock(&deployment, off);
        until_failing(&url, json!(["clock"])).await;
        is_refused(&deployment, &url).await;
        nothing_is_removed(&deployment, &program).await;
        // Run by `cron`, say; it has just begun.
        for task in ["expire-namespaces", "rotate-namespaces"] {
            let ended = deployment.run(&[task]).await;
            assert!(ended.code == Some(0) && ended.stdout.contains("by its uptime"), "{off}: {ended:?}");
        }
        assert_eq!(held(&deployment), (2, 1));
        deployment.try_login(&first.connection_string).await.unwrap();
        set_clock(&deployment, "+0");
        until_failing(&url, Value::Null).await;
        let again = deployment.claim(&url, NAME, &json!({})).await.unwrap();
        assert_eq!(again.connection_string, first.connection_string, "{off}: nothing was rotated");
    }
}

#[tokio::test]
async fn a_process_that_is_started_with_a_wrong_clock_removes_nothing_either() {
    let deployment = deployment().await;
    let (web, url) = deployment.serve(&["serve"]).await;
    let first = deployment.claim(&url, NAME, &json!({})).await.unwrap();
    let Side::Fake(fake) = &deployment.side else { panic!("the fake broker was asked for") };
    fake.state().queues.insert(format!("queue/{NAME}/x"), crate::support::fake_broker::Queue::classic(1));
    web.says("rotate-namespaces: seen 0").await;
    drop(web);
    set_clock(&deployment, "+6h");
    let (program, url) = deployment.serve(&["serve"]).await;
    until_failing(&url, json!(["clock"])).await;
    nothing_is_removed(&deployment, &program).await;
    is_refused(&deployment, &url).await;
    // As on a host that was started anew, of which no heartbeat told; then its clients do.
    drop(program);
    let forgotten = rusqlite::Connection::open(deployment.folder.path().join("data/pulse.sqlite")).unwrap();
    assert_eq!(forgotten.execute("DELETE FROM boot", []).unwrap(), 1);
    let (program, url) = deployment.serve(&["serve"]).await;
    nothing_is_removed(&deployment, &program).await;
    is_refused(&deployment, &url).await;
    until_failing(&url, json!(["clock"])).await;
    program.says("are refused for their time alone").await;
    deployment.try_login(&first.connection_string).await.unwrap();
    set_clock(&deployment, "+0");
    let again = deployment.claim(&url, NAME, &json!({})).await.unwrap();
    until_failing(&url, Value::Null).await;
    nothing_is_removed(&deployment, &program).await;
    deployment.try_login(&again.connection_string).await.unwrap();
}
