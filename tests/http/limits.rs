//! More than the service can do at once.

use taskcluster_pulse::web::edge::limits::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::signatures::temporary;
use super::site::{Answer, SOON, Site, until_closed};
use crate::support::fake_broker::{Failure, Fault};
use crate::support::world::{BrokerKind, StoreKind, World};

const MONITORING: [&str; 4] = ["/v1/ping", "/v1/__lbheartbeat__", "/v1/__version__", "/__heartbeat__"];

fn assert_turned_away(answer: &Answer, text: &str) {
    assert_eq!(answer.verdict(), (503, "ServiceUnavailable"), "{}", answer.text);
    assert!(answer.message().contains(text), "{}", answer.message());
    assert!(!answer.header("retry-after").is_empty());
}

/// One that answers so many requests at a time, and a claim that stays under way there until it is released.
async fn narrow(requests: usize) -> Site {
    let site = Site::wish(|wishes| wishes.settings.edge.limits.requests = requests).await;
    site.world.fake().fault(Fault::new(Failure::Hang).on("PUT", "/api/users/taskcluster-slow-1"));
    site
}

/// Waits until the first claim of that namespace has come as far as the broker.
async fn until_under_way(site: &Site) {
    site.until_stored("taskcluster-slow", |_| true).await;
}

#[tokio::test]
async fn past_the_limit_requests_are_turned_away_at_once_and_monitoring_is_not() {
    let site = narrow(1).await;
    let slow = site.claim("taskcluster-slow", "{}");
    let others = async {
        until_under_way(&site).await;
        assert_turned_away(&site.claim("taskcluster-x", "{}").send().await, "too many requests");
        assert_turned_away(&site.get("/v1/namespaces").send().await, "too many requests");
        for path in MONITORING {
            assert_eq!(site.get(path).send().await.status, 200, "{path}");
        }
        // Its body is not waited for.
        let head = "POST /v1/namespace/taskcluster-x HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
        let answer = site.raw(&format!("{head}Content-Length: 60000\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        site.world.fake().release();
    };
    tokio::join!(slow.send(), others);
    site.claim("taskcluster-x", "{}").send().await.good();
}

#[tokio::test]
async fn one_client_leaves_half_of_the_places_to_others() {
    let site = narrow(2).await;
    let slow = site.claim("taskcluster-slow", "{}");
    let others = async {
        until_under_way(&site).await;
        let own = site.claim("taskcluster-x", "{}").send().await;
        assert_turned_away(&own, "Client ID test-client has 1 requests under way");
        site.claim("taskcluster-x", "{}").signed("issuer").send().await.good();
        site.get("/v1/namespaces").send().await.good();
        site.world.fake().release();
    };
    tokio::join!(slow.send(), others);
}

#[tokio::test]
async fn one_client_has_its_rate_and_others_have_theirs() {
    let site = Site::wish(|wishes| wishes.settings.edge.limits.client_rate = 1).await;
    for _ in 0..10 {
        site.claim("taskcluster-x", "{}").send().await.good();
    }
    let mut claims = Vec::new();
    for _ in 0..20 {
        claims.push(site.claim("taskcluster-x", "{}").send().await);
    }
    let turned_away = claims.iter().find(|claim| claim.status == 503).expect("it may claim without end");
    assert_turned_away(turned_away, "Client ID test-client makes more than 1 requests a second");
    site.claim("taskcluster-x", "{}").signed("issuer").send().await.good();
    site.get("/v1/namespaces").send().await.good();
}

#[tokio::test]
async fn one_client_has_so_many_namespaces_with_its_temporary_credentials_too() {
    let mut world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    world.policy.namespaces_per_client = 2;
    let site = Site::on(world, |_| ()).await;
    let owner = async |name: &str| site.until_stored(name, |_| true).await.claimed_by;
    site.claim("taskcluster-0", "{}").signed("issuer").send().await.good();
    let temporary = |name: &str, id: Option<&str>| {
        let (ext, key) = temporary(&site, id, &[&format!("pulse:namespace:{name}")]);
        site.claim(name, "{}").signed_with(id.unwrap_or("issuer"), &key).ext(&ext)
    };
    temporary("taskcluster-1", Some("temporary")).send().await.good();
    assert_eq!(owner("taskcluster-1").await.as_deref(), Some("issuer"));
    for answer in [
        site.claim("taskcluster-2", "{}").signed("issuer").send().await,
        temporary("taskcluster-2", Some("temporary")).send().await,
        temporary("taskcluster-2", None).send().await,
    ] {
        assert_eq!(answer.verdict(), (409, "RequestConflict"), "{}", answer.text);
        assert!(answer.message().starts_with("Client ID issuer has claimed 2 namespaces"), "{}", answer.message());
    }
    site.claim("taskcluster-2", "{}").send().await.good();
    assert_eq!(owner("taskcluster-2").await.as_deref(), Some("test-client"));
    temporary("taskcluster-2", Some("temporary")).send().await.good();
    assert_eq!(owner("taskcluster-2").await.as_deref(), Some("test-client"), "who made it");
}

#[tokio::test]
async fn large_bodies_have_room_for_so_many() {
    let limits = Limits { bodies: 20_000, ..Limits::default() };
    let site = Site::wish(|wishes| wishes.settings.edge.limits = limits).await;
    let head = "POST /v1/namespace/taskcluster-x HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
                Content-Length: 16000\r\n\r\n";
    let mut held = site.connect().await;
    held.write_all(format!("{head}{}", "x".repeat(15_000)).as_bytes()).await.unwrap();
    let large = site.claim("taskcluster-x", &format!("{{}}{}", " ".repeat(10_000)));
    let no_room = async {
        loop {
            let answer = large.clone().send().await;
            if answer.status == 503 {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(SOON, no_room).await.expect("there is always room");
    assert_turned_away(&answer, "too many large requests");
    site.claim("taskcluster-x", "{}").send().await.good();
    held.write_all("x".repeat(1000).as_bytes()).await.unwrap();
    let mut status = [0; 12];
    held.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 400");
    large.send().await.good();
}

/// However many connections one address has, others are served.
#[tokio::test]
async fn one_address_leaves_connections_to_others() {
    let site = Site::wish(|wishes| wishes.connections.most = 8).await;
    let port = site.url.port().unwrap();
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(site.connect().await);
    }
    for _ in 0..4 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut stream = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
        assert_eq!(begin(&mut stream, "/v1/namespaces").await, "HTTP/1.1 200");
        held.push(stream);
    }
    drop(held);
    let served = async { while !site.raw("GET /v1/namespaces HTTP/1.0\r\n\r\n").await.contains(" 200 ") {} };
    tokio::time::timeout(SOON, served).await.expect("its connections still count");
}

/// Sends a request on a connection that stays open, and reads what comes first of its answer.
async fn begin(stream: &mut TcpStream, path: &str) -> String {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
    let mut status = [0; 12];
    tokio::time::timeout(SOON, stream.read_exact(&mut status)).await.unwrap().unwrap();
    String::from_utf8(status.to_vec()).unwrap()
}

#[tokio::test]
async fn connections_past_the_limit_are_told_so_and_closed() {
    for (trusted, why) in
        [("127.0.0.1/32", "The service has too many connections"), ("127.0.0.2/32", "Your address has")]
    {
        past_the_limit(trusted, why).await;
    }
}

/// With room for four connections, and these proxies.
async fn past_the_limit(trusted: &str, why: &str) {
    let site = Site::wish(|wishes| {
        let is_trusted = trusted.starts_with("127.0.0.1/");
        wishes.connections.most = if is_trusted { 2 } else { 4 };
        wishes.connections.trusted_proxies = vec![trusted.parse().unwrap()];
    });
    let site = site.await;
    let mut kept = [site.connect().await, site.connect().await];
    for stream in &mut kept {
        assert_eq!(begin(stream, "/v1/namespaces").await, "HTTP/1.1 200");
    }
    for (path, status) in [("/v1/namespaces", "503"), ("/v1/ping", "200"), ("/__heartbeat__", "200")] {
        let answer = site.raw(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        assert!(answer.to_lowercase().contains("\r\nconnection: close\r\n"), "{path}: {answer}");
        assert_eq!(answer.contains(why), status == "503", "{path}: {answer}");
    }
    let [mut one, _other] = kept;
    one.write_all(b"GET /v1/ping HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(until_closed(&mut one).await.contains("HTTP/1.1 200 "));
}
