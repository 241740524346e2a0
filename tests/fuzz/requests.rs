//! Requests as bytes, sent to the real server: each is answered, and not by a fault of ours.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use serde_json::{Value, json};
use taskcluster_pulse::access::Authenticator;
use taskcluster_pulse::access::clients::{AccessToken, Client, LocalDirectory};
use taskcluster_pulse::access::roles::Roles;
use taskcluster_pulse::clock::{Clock as _, Timestamp};
use taskcluster_pulse::hawk::Signer;
use taskcluster_pulse::web::api::app::{App, Settings};
use taskcluster_pulse::web::edge::around;
use taskcluster_pulse::web::edge::connection::Patience;
use taskcluster_pulse::web::edge::limits::Limits;
use taskcluster_pulse::web::edge::server::{Connections, serve};
use taskcluster_pulse::web::router;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use url::Url;

use crate::driver::{Case, Random, assert_hides, cases};
use crate::support::fake_broker::PASSWORD;
use crate::support::world::{BrokerKind, StoreKind, World};

const KEY: &str = "canary-access-token";
/// How long the server lets an incomplete request wait.
const PATIENCE: Duration = Duration::from_millis(200);
/// How many cases run at once, since some of them wait for that.
const AT_ONCE: usize = 64;
/// How long until a connection must have ended.
const LONGEST: Duration = Duration::from_secs(60);
const PARTS: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    " ",
    "HTTP/1.0",
    "HTTP/2.0",
    "GET ",
    "HEAD ",
    "OPTIONS ",
    "Content-Length: 5\r\n",
    "\"",
    "{",
    "[[[[",
    "Transfer-Encoding: chunked\r\n",
    "Expect: 100-continue\r\n",
    "X-Forwarded-Port: 1\r\n",
    "Host: b\r\n",
    "\\u0000",
    "Content-Type: application/json; charset=latin1\r\n",
    "Content-Encoding: gzip\r\n",
    "X-Forwarded-Proto: https\r\n",
    "Authorization: Hawk x\r\n",
    "If-None-Match: *\r\n",
    "Upgrade: websocket\r\nConnection: upgrade\r\n",
    "?bewit=a",
    "/api/pulse/v1",
    "/v1",
    "//",
    "%2F",
    "%00",
    "%",
    "..",
    "?limit=1",
    "&continuationToken=WyJcdTAwMDAiXQ==",
    "null",
];

/// Panics anywhere but in the tests: a server survives those of its tasks, and nobody would know.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.location().is_none_or(|at| !at.file().starts_with("tests/")) {
                PANICS.fetch_add(1, Ordering::SeqCst);
            }
            before(panic);
        }));
    });
}

/// A running service.
struct Target {
    world: World,
    url: Url,
}

impl Target {
    async fn start() -> Target {
        count_panics();
        let world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
        let client = |id: &str, scopes: &[&str]| Client {
            id: id.to_owned(),
            access_token: AccessToken::new(KEY.to_owned()),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            expires: None,
        };
        let clients = vec![client("all", &["*"]), client("none", &[])];
        let authenticator = Authenticator::new(LocalDirectory::new(clients, Roles::default()));
        let settings = Settings {
            root_url: Some("https://tc.example.com".parse().unwrap()),
            body_limit: 64 * 1024,
            body_timeout: PATIENCE,
            request_timeout: LONGEST,
            console: crate::support::world::closed_console(),
            edge: around::Settings {
                force_ssl: false,
                trust_proxy: false,
                trusted_proxies: Vec::new(),
                limits: Limits { client_rate: u32::MAX, ..Limits::default() },
                ..around::Settings::default()
            },
        };
        let app = App::new(Arc::new(world.service()), authenticator, world.clock.clone(), settings).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let patience = Patience { idle: PATIENCE, head: PATIENCE, reply: LONGEST };
        let connections = Connections { patience, drain: PATIENCE, most: 1000, trusted_proxies: Vec::new() };
        tokio::spawn(serve(listener, router(Arc::new(app)), connections, std::future::pending()));
        Target { world, url }
    }

    /// Sends this on a connection of its own, and gives all that comes back.
    async fn send(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.url.port().unwrap())).await.unwrap();
        let mut received = Vec::new();
        let (mut reading, mut writing) = stream.split();
        let exchange = async {
            // Who is refused early may find the connection closed.
            let (_, _) = tokio::join!(writing.write_all(bytes), reading.read_to_end(&mut received));
        };
        tokio::time::timeout(LONGEST, exchange).await.expect("the connection does not end");
        String::from_utf8_lossy(&received).into_owned()
    }
}

/// A request before it is changed.
struct Request {
    bytes: Vec<u8>,
    /// What it claims until when, if its signature allows that.
    claims: Option<(String, Timestamp)>,
}

fn request(seed: u64, random: &mut Random, target: &Target) -> Request {
    const READS: &[&str] = &[
        "/api/pulse/v1/ping",
        "/api/pulse/v1/namespaces?limit=2",
        "/v1/namespace/taskcluster-1",
        "/__heartbeat__",
        "/v1/namespaces?continuationToken=WyJ0YXNrY2x1c3Rlci1hIl0=",
        "/__version__",
        "/robots.txt",
        "/schemas/pulse/v1/namespace.json",
        "/references/pulse/v1/api.json",
        "/api/pulse/v1/__lbheartbeat__",
    ];
    let (now, host) = (target.world.clock.now(), format!("127.0.0.1:{}", target.url.port().unwrap()));
    if random.once_in(3) {
        let head = format!("GET {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n", random.pick(READS));
        return Request { bytes: head.into_bytes(), claims: None };
    }
    // No two cases that run at once claim the same namespace, for each would be shown what the other has stored.
    let name = format!("taskcluster-{}", seed % 4096);
    let path = format!("/api/pulse/v1/namespace/{name}");
    let expires = now.plus(Duration::from_secs(3600 + random.below(1000) as u64));
    let mut payload = json!({"expires": expires.to_string(), "contact": "owner@example.com"});
    if random.once_in(3) {
        payload = random.mutated_json(payload);
    }
    let mut body = payload.to_string().into_bytes();
    if random.once_in(4) {
        body = random.mutated(&body, PARTS);
    }
    let (id, covered) = (random.pick(&["all", "all", "all", "none"]), !random.once_in(4));
    let url = target.url.join(&path).unwrap();
    let signer = Signer { id, key: KEY, ext: None };
    let authorization = signer.header("POST", &url, covered.then_some(("application/json", &body[..])), now);
    let until =
        serde_json::from_slice::<Value>(&body).ok().and_then(|body| Timestamp::parse(body["expires"].as_str()?));
    if random.once_in(6) {
        // Somebody on the way puts another body in its place.
        body = json!({"expires": now.plus(Duration::from_secs(7200)).to_string()}).to_string().into_bytes();
    }
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nAuthorization: {authorization}\r\n\r\n",
        body.len()
    );
    let claims = until.filter(|_| covered && id == "all").map(|until| (name, until));
    Request { bytes: [head.as_bytes(), &body].concat(), claims }
}

/// The first answer of several: its status, and its body where that is JSON.
fn parse(received: &str) -> (u16, String, Value) {
    // What may come before the answer, to who expects it.
    let received = received.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n");
    let (head, rest) = received.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {received:?}"));
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
    let first = serde_json::Deserializer::from_str(rest).into_iter().next();
    let body = first.and_then(Result::ok).unwrap_or_default();
    (status.unwrap_or_else(|| panic!("no status: {received:?}")), head.to_ascii_lowercase(), body)
}

/// Fails where the answer is not one that any request may get.
fn judge(sent: &Request, bytes: &[u8], received: &str) {
    let shown = || format!("{}\n---\n{received}", String::from_utf8_lossy(bytes));
    assert_hides(received, &[KEY, PASSWORD]);
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "the service panicked at {}", shown());
    // Nothing at all is the answer to a head that does not end.
    if received.is_empty() {
        return;
    }
    let (status, head, body) = parse(received);
    assert!((200..500).contains(&status), "{}", shown());
    if status >= 400 && head.contains("x-for-request-id") && head.contains("access-control-allow-origin") {
        // A payload that is shown may be nested deeper than is read here.
        let api_error = received.contains("\"message\":") && received.contains("\"code\":");
        let told = api_error || body["error"].is_string();
        assert!(told || bytes.starts_with(b"HEAD") || !head.contains("application/json"), "{}", shown());
    }
    assert_eq!(status == 401, head.contains("www-authenticate: hawk"), "{}", shown());
    if body.get("connectionString").is_none() {
        return;
    }
    // Where the signature covers the payload, it is obeyed or refused.
    match &sent.claims {
        Some((name, until)) => {
            assert_eq!(body["namespace"], json!(name), "{}", shown());
            assert_eq!(body["expires"], json!(until.to_string()), "{}", shown());
        }
        None => assert!(String::from_utf8_lossy(bytes).contains("id=\"all\""), "{}", shown()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_sent_is_answered_and_never_by_a_fault_of_ours() {
    let target = Arc::new(Target::start().await);
    let mut running = JoinSet::new();
    for seed in cases(20) {
        let target = target.clone();
        running.spawn(async move {
            let (case, mut random) = (Case::begin(seed), Random::new(seed));
            let sent = request(seed, &mut random, &target);
            let bytes = if random.once_in(4) { sent.bytes.clone() } else { random.mutated(&sent.bytes, PARTS) };
            let received = target.send(&bytes).await;
            judge(&sent, &bytes, &received);
            case.end();
        });
        if running.len() >= AT_ONCE {
            running.join_next().await.unwrap().unwrap();
        }
    }
    running.join_all().await;
    // Whatever came in, what is stored is fit to be shown.
    let listed = target.send(b"GET /v1/namespaces HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let (_, _, body) = parse(&listed);
    let names: BTreeSet<_> = body["namespaces"].as_array().unwrap().iter().map(|of| of["namespace"].as_str()).collect();
    assert!(names.iter().all(|name| name.is_some_and(|name| target.world.policy.names.namespace(name).is_ok())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_not_many_times_as_long_as_what_it_answers() {
    let target = Target::start().await;
    let body = format!("{}{}1{}", "[".repeat(120), "1,".repeat(1_800), "]".repeat(120));
    let head =
        "POST /v1/namespace/taskcluster-1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json";
    let sent = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let received = target.send(sent.as_bytes()).await;
    assert!(received.starts_with("HTTP/1.1 403"), "{}", &received[..100]);
    assert!(received.len() < 2 * sent.len(), "{} bytes for {}", received.len(), sent.len());
}
