//! Starting: with nothing, with something missing, and before what is needed is there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use taskcluster_pulse::taskcluster::TaskclusterError;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use url::Url;

use crate::support::processes::{Deployment, Ended, Program, get};
use crate::support::world::{BrokerKind, Side, StoreKind};

/// Runs the program with these settings alone.
async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let variables: BTreeMap<_, _> = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Program::start(arguments, folder.path(), &variables, Stdio::piped(), Default::default()).end().await
}

fn is_unavailable<T>(claimed: Result<T, TaskclusterError>) -> bool {
    matches!(claimed, Err(TaskclusterError::Refused { status: 503, .. }))
}

#[tokio::test]
async fn with_nothing_configured_everything_that_is_missing_is_named() {
    for command in ["serve", "web"] {
        let ended = run(&[command], &[]).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        for variable in ["RABBIT_USERNAME", "RABBIT_PASSWORD", "RABBIT_BASE_URL", "STATIC_CLIENTS"] {
            assert!(ended.stderr.contains(variable), "{command} does not name {variable}: {}", ended.stderr);
        }
        assert_eq!(ended.stdout, "");
    }
    let ended = run(&["claim", "taskcluster-x"], &[]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    for variable in ["TASKCLUSTER_ROOT_URL", "TASKCLUSTER_CLIENT_ID", "TASKCLUSTER_ACCESS_TOKEN"] {
        assert!(ended.stderr.contains(variable), "claim does not name {variable}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn postgresql_without_keys_is_refused_before_anything_is_stored() {
    let rabbit = [("RABBIT_USERNAME", "a"), ("RABBIT_PASSWORD", "b"), ("RABBIT_BASE_URL", "http://127.0.0.1:1")];
    let database = ("DATABASE_URL", "postgres://pulse:swordfish@127.0.0.1:1/pulse");
    let ended = run(&["worker"], &[&rabbit[..], &[database]].concat()).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("DB_CRYPTO_KEYS") && !ended.stderr.contains("swordfish"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_task_on_a_database_that_was_not_migrated_fails_until_it_is() {
    let deployment = Deployment::unmigrated(StoreKind::Postgres, BrokerKind::Fake).await;
    for command in ["rotate-namespaces", "monitor-rabbit"] {
        let ended = deployment.run(&[command]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("run `taskcluster-pulse migrate`"), "{}", ended.stderr);
    }
    let ended = deployment.run(&["migrate"]).await;
    let applied: Vec<_> = ended.stdout.lines().collect();
    assert_eq!((ended.code, applied.first()), (Some(0), Some(&"Applied V1__initial.")), "{ended:?}");
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/migrations/postgres")).unwrap();
    assert_eq!(applied.len(), files.count(), "{ended:?}");
    let ended = deployment.run(&["migrate"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "The database is up to date.\n"), "{}", ended.stderr);
    let (_web, url) = deployment.serve(&["web"]).await;
    deployment.claim(&url, "taskcluster-x", &json!({})).await.unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    deployment.set("PORT", address.port().to_string());
    let ended = deployment.run(&["serve"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&format!("can't listen at {address}")), "{}", ended.stderr);
}

#[tokio::test]
async fn the_service_starts_before_rabbitmq_and_claims_work_once_it_is_there() {
    let deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let Side::Fake(fake) = &deployment.side else { panic!("the fake broker was asked for") };
    fake.down().await;
    let (mut serve, url) = deployment.serve(&["serve"]).await;
    assert_eq!(get(&url, "/api/pulse/v1/ping").await.0, 200);
    let (status, body) = get(&url, "/__heartbeat__").await;
    let failing = serde_json::from_str::<Value>(&body).unwrap()["failing"].clone();
    assert!(status == 502 && failing == json!(["rabbitmq"]), "{status} {body}");
    assert!(is_unavailable(deployment.claim(&url, "taskcluster-x", &json!({})).await));
    serve.says("the run failed").await;
    assert!(serve.is_alive());

    fake.up();
    let answer = deployment.claim(&url, "taskcluster-x", &json!({})).await.unwrap();
    deployment.try_login(&answer.connection_string).await.unwrap();
    assert_eq!(get(&url, "/__heartbeat__").await.0, 200);
}

#[tokio::test]
async fn the_web_server_starts_before_its_database_and_claims_work_once_it_is_there() {
    let mut deployment = Deployment::new(StoreKind::Postgres, BrokerKind::Real).await;
    let database = deployment.database.as_ref().unwrap();
    // Bound, so that nobody else takes it, and not listening yet, so that connections are refused.
    let gate = TcpSocket::new_v4().unwrap();
    gate.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (server, port) = (database.address(), gate.local_addr().unwrap().port());
    let mut through_gate = Url::parse(&database.url()).unwrap();
    through_gate.set_port(Some(port)).unwrap();
    deployment.set("DATABASE_URL", through_gate.as_str());
    let (_web, url) = deployment.serve(&["web"]).await;
    assert_eq!(get(&url, "/api/pulse/v1/ping").await.0, 200);
    let (status, body) = get(&url, "/__heartbeat__").await;
    let failing = serde_json::from_str::<Value>(&body).unwrap()["failing"].clone();
    assert!(status == 502 && failing == json!(["database"]), "{status} {body}");
    assert!(is_unavailable(deployment.claim(&url, "taskcluster-x", &json!({})).await));

    tokio::spawn(forward(gate.listen(64).unwrap(), server.parse().unwrap()));
    let answer = deployment.claim(&url, "taskcluster-x", &json!({})).await.unwrap();
    deployment.try_login(&answer.connection_string).await.unwrap();
    assert_eq!(get(&url, "/__heartbeat__").await.0, 200);
}

/// Passes every connection on.
async fn forward(listener: TcpListener, to: SocketAddr) {
    while let Ok((mut from, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut to = TcpStream::connect(to).await.unwrap();
            // However it ends, both ends notice.
            let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
        });
    }
}

#[tokio::test]
async fn settings_are_listed_whatever_is_configured() {
    let ended = run(&["settings"], &[("PORT", "nonsense")]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.stdout.contains("DB_CRYPTO_KEYS"), "{}", ended.stdout);
}

#[tokio::test]
async fn systemd_is_told_that_a_process_is_ready_and_well_and_that_it_ends() {
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let folder = tempfile::tempdir().unwrap();
    for (number, command) in ["serve", "web", "worker"].into_iter().enumerate() {
        let path = folder.path().join(number.to_string());
        let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
        let told = async || {
            let mut datagram = [0; 100];
            let received = tokio::time::timeout(Duration::from_secs(60), socket.recv(&mut datagram)).await;
            String::from_utf8_lossy(&datagram[..received.expect("nothing is told").unwrap()]).trim_end().to_owned()
        };
        deployment.set("NOTIFY_SOCKET", path.to_str().unwrap());
        deployment.set("WATCHDOG_USEC", "400000");
        let program = deployment.start(&[command]);
        assert_eq!(told().await, "READY=1", "{command}");
        for _ in 0..3 {
            assert_eq!(told().await, "WATCHDOG=1", "{command}");
        }
        program.signal("TERM");
        // It may have told once more before.
        let mut last = told().await;
        while last == "WATCHDOG=1" {
            last = told().await;
        }
        assert_eq!(last, "STOPPING=1", "{command}");
        assert_eq!(program.end().await.code, Some(0), "{command}");
    }
}
