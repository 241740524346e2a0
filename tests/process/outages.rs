//! Outages: the database can't be reached, or hangs; and nobody can claim.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde_json::{Value, json};
use taskcluster_pulse::taskcluster::TaskclusterError;
use tokio::io;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use url::Url;

use crate::support::processes::{Deployment, PATIENCE, get};
use crate::support::world::{BrokerKind, StoreKind};

/// How the way to the database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// Whoever comes is sent away, and whoever is on it.
    Closed,
    /// Whoever comes is let in, and nothing gets through any more.
    Silent,
}

/// The only way to a database; other tests use the same server, so that it can't be stopped.
struct Road {
    way: watch::Sender<Way>,
    /// How it is for all who are on it, too.
    cleared: watch::Receiver<Way>,
    address: SocketAddr,
}

impl Road {
    async fn to(database: SocketAddr) -> Road {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (way, address) = (watch::Sender::new(Way::Open), listener.local_addr().unwrap());
        let (clear, cleared) = watch::channel(Way::Open);
        let mut now = way.subscribe();
        tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((from, _)) = listener.accept() => drop(open.spawn(pass(from, database, now.clone()))),
                    Ok(()) = now.changed() => {
                        let way = *now.borrow_and_update();
                        if way == Way::Closed {
                            open.shutdown().await;
                        }
                        clear.send_replace(way);
                    }
                    else => return,
                }
            }
        });
        Road { way, cleared, address }
    }

    async fn be(&self, way: Way) {
        self.way.send_replace(way);
        self.cleared.clone().wait_for(|cleared| *cleared == way).await.unwrap();
    }
}

async fn pass(mut from: TcpStream, to: SocketAddr, mut way: watch::Receiver<Way>) -> io::Result<()> {
    if *way.borrow() == Way::Closed {
        return Ok(());
    }
    let mut to = TcpStream::connect(to).await?;
    // What was on it when it fell silent stays there for ever.
    let silent = async { way.wait_for(|way| *way == Way::Silent).await.is_ok() };
    tokio::select! {
        biased;
        _ = silent => std::future::pending().await,
        talked = io::copy_bidirectional(&mut from, &mut to) => talked.map(drop),
    }
}

/// A deployment that reaches its database on a road of its own.
async fn on_a_road() -> (Deployment, Road) {
    let mut deployment = Deployment::new(StoreKind::Postgres, BrokerKind::Real).await;
    let database = deployment.database.as_ref().unwrap();
    let road = Road::to(database.address().parse().unwrap()).await;
    let mut url = Url::parse(&database.url()).unwrap();
    url.set_ip_host(road.address.ip()).unwrap();
    url.set_port(Some(road.address.port())).unwrap();
    deployment.set("DATABASE_URL", url);
    deployment.set("STORE_QUERY_TIMEOUT", "1 s");
    (deployment, road)
}

async fn contact(deployment: &Deployment, name: &str) -> String {
    let client = deployment.database.as_ref().unwrap().client().await;
    client.query_one("SELECT contact FROM namespace WHERE name = $1", &[&name]).await.unwrap().get(0)
}

/// A record of the log holds its message twice.
const TWICE: usize = 2;

#[tokio::test]
async fn without_its_database_the_web_part_answers_claims_of_what_it_knows() {
    let (deployment, road) = on_a_road().await;
    let (web, url) = deployment.serve(&["web"]).await;
    let known = deployment.claim(&url, "taskcluster-known", &json!({})).await.unwrap();
    for (turn, way) in [(1, Way::Closed), (2, Way::Silent)] {
        road.be(way).await;
        let asked = json!({"contact": format!("owner-{turn}@example.com")});
        let claim = async || deployment.claim(&url, "taskcluster-known", &asked).await.unwrap();
        claim().await;
        web.says_times("answered from memory", TWICE * turn).await;
        let began = Instant::now();
        for _ in 0..20 {
            let answer = claim().await;
            assert_eq!(
                (&answer.connection_string, answer.reclaim_at),
                (&known.connection_string, known.reclaim_at),
                "{way:?}"
            );
        }
        assert!(began.elapsed() < Duration::from_secs(10), "claims waited for the database: {:?}", began.elapsed());
        deployment.try_login(&known.connection_string).await.unwrap();
        let new = deployment.claim(&url, "taskcluster-new", &json!({})).await;
        assert!(matches!(new, Err(TaskclusterError::Refused { status: 503, .. })), "{way:?}");
        let (status, body) = get(&url, "/__heartbeat__").await;
        assert_eq!(status, 502, "{body}");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["failing"], json!(["database"]));
        assert_eq!(get(&url, "/__lbheartbeat__").await.0, 200);

        road.be(Way::Open).await;
        web.says_times("claims are stored again", TWICE * turn).await;
        claim().await;
        assert_eq!(contact(&deployment, "taskcluster-known").await, asked["contact"], "{way:?}");
        assert_eq!(get(&url, "/__heartbeat__").await.0, 200);
        let told = web.stdout().matches("answered from memory").count();
        assert_eq!(told, TWICE * turn, "it is told once an outage");
    }
    let new = deployment.claim(&url, "taskcluster-new", &json!({})).await.unwrap();
    deployment.try_login(&new.connection_string).await.unwrap();
}

#[tokio::test]
async fn rotation_waits_while_the_auth_service_does_not_answer() {
    let up = Arc::new(AtomicBool::new(true));
    let answers = up.clone();
    let auth = axum::Router::new().fallback(async move || {
        let status = if answers.load(Relaxed) { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
        (status, r#"{"alive": true, "uptime": 1}"#)
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut deployment = Deployment::new(StoreKind::Postgres, BrokerKind::Fake).await;
    deployment.set("AUTH_MODE", "both");
    deployment.set("TASKCLUSTER_ROOT_URL", format!("http://{}", listener.local_addr().unwrap()));
    deployment.set("API_SILENCE", "1 s");
    tokio::spawn(async move { axum::serve(listener, auth).await });
    let (web, url) = deployment.serve(&["web"]).await;
    deployment.claim(&url, "taskcluster-a", &json!({})).await.unwrap();
    let says = async |text: &str| {
        while !deployment.run(&["rotate-namespaces", "--dry-run"]).await.stdout.contains(text) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let waits = "no web process was able to serve all claims since 20";
    let client = deployment.database.as_ref().unwrap().client().await;
    client.batch_execute("UPDATE namespace SET due = 0").await.unwrap();
    timeout(PATIENCE, async {
        up.store(false, Relaxed);
        says(waits).await;
    })
    .await
    .expect("rotation should wait");
    web.says("no answer from the auth service").await;
    // Clients of the settings claim as always.
    deployment.claim(&url, "taskcluster-a", &json!({})).await.unwrap();
    up.store(true, Relaxed);
    let rotated = timeout(PATIENCE, async {
        while !deployment.run(&["rotate-namespaces"]).await.stdout.contains("changed 1") {}
    });
    assert!(rotated.await.is_ok(), "rotation should go on");
}

#[tokio::test]
async fn rotation_waits_while_the_web_part_does_not_answer() {
    let mut deployment = Deployment::new(StoreKind::Postgres, BrokerKind::Real).await;
    deployment.set("API_SILENCE", "1 s");
    let (web, url) = deployment.serve(&["web"]).await;
    deployment.claim(&url, "taskcluster-a", &json!({})).await.unwrap();
    let client = deployment.database.as_ref().unwrap().client().await;
    let rotate = async || {
        client.batch_execute("UPDATE namespace SET due = 0").await.unwrap();
        let ended = deployment.run(&["rotate-namespaces"]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout
    };
    let rotate_until = async |text: &str| {
        let rotated = timeout(PATIENCE, async {
            while !rotate().await.contains(text) {
                sleep(Duration::from_millis(50)).await;
            }
        });
        assert!(rotated.await.is_ok(), "no rotation said {text:?}");
    };
    rotate_until("changed 1").await;
    web.signal("STOP");
    rotate_until("changed 0, failed 0, refused 0").await;
    let ended = deployment.run(&["rotate-namespaces", "--dry-run"]).await;
    assert!(ended.stdout.starts_with("rotate  taskcluster-a"), "{ended:?}");
    assert!(ended.stdout.contains("(no web process was able to serve all claims since 20"), "{ended:?}");
    web.signal("CONT");
    rotate_until("changed 1").await;

    drop(web);
    deployment.set("MAX_ROTATION_HOLD", "2 s");
    let held = async |text: &str| {
        while !deployment.run(&["rotate-namespaces", "--dry-run"]).await.stdout.contains(text) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let went_on = timeout(PATIENCE, held("note: going on although no web process was able to serve all claims since"));
    assert!(went_on.await.is_ok());
}
