//! Callers whom Taskcluster's auth service knows: a fake of it at the wire, and requests through the whole HTTP stack.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, BufRead as _};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::support::fake_auth;
use crate::support::fake_broker::{self, FakeBroker};
use crate::support::world::{BrokerKind, HOUR, StoreKind, World};
use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Value, json};
use taskcluster_pulse::access::clients::{AccessToken, Client, LocalDirectory};
use taskcluster_pulse::access::origin::Origin;
use taskcluster_pulse::access::remote::{self, AuthService};
use taskcluster_pulse::access::roles::{Role, Roles};
use taskcluster_pulse::access::{Authenticator, Failure, Read, SignedRequest};
use taskcluster_pulse::clock::{Clock, SystemClock, Timestamp};
use taskcluster_pulse::hawk::{Artifacts, Kind, Signer, hmac_sha256, mac, payload_hash};
use taskcluster_pulse::taskcluster::{RetryPolicy, Taskcluster};
use taskcluster_pulse::web;
use taskcluster_pulse::web::api::app::{App, Settings};
use taskcluster_pulse::web::edge::around;
use taskcluster_pulse::web::edge::connection::Patience;
use taskcluster_pulse::web::edge::server::{self, Connections};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// The path that callers claim at.
const PATH: &str = "/api/pulse/v1/namespace/taskcluster-x";
/// What claiming there needs.
const SCOPE: &str = "pulse:namespace:taskcluster-x";
/// What does not wait is done within this time on a busy machine; what waits for ever takes longer.
const SOON: Duration = Duration::from_secs(15);
/// The client that stands in our own list.
const LOCAL: Credentials = Credentials { id: "static/local", key: "a-local-access-token-22" };
/// A client that stands there too, but has expired.
const EXPIRED: Credentials = Credentials { id: "static/expired", key: "expired-access-token-22" };
/// The client that the auth service knows.
const REMOTE: Credentials = Credentials { id: "project/remote", key: "a-remote-access-token-22" };

#[derive(Clone, Copy)]
struct Credentials {
    id: &'static str,
    key: &'static str,
}

impl Credentials {
    fn client(self, scopes: &[&str], expires: Option<Timestamp>) -> Client {
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        Client { id: self.id.to_owned(), access_token: AccessToken::new(self.key.to_owned()), scopes, expires }
    }

    /// The header of a claim at `host`.
    fn header(self, host: &str, body: Option<&str>) -> String {
        self.signed(host, body, None)
    }

    fn signed(self, host: &str, body: Option<&str>, ext: Option<&str>) -> String {
        let url = Url::parse(&format!("http://{host}{PATH}")).unwrap();
        let payload = body.map(|body| ("application/json", body.as_bytes()));
        Signer { id: self.id, key: self.key, ext }.header("POST", &url, payload, SystemClock.now())
    }

    /// The header of a claim by temporary credentials that this client issues, for another name if there is one.
    fn lent(self, name: Option<&str>) -> String {
        let now = SystemClock.now().millis();
        let (start, expiry, seed) = (now - 60_000, now + 3_600_000, "s".repeat(44));
        let named = name.map(|name| format!("clientId:{name}\nissuer:{}\n", self.id)).unwrap_or_default();
        let text = format!("version:1\n{named}seed:{seed}\nstart:{start}\nexpiry:{expiry}\nscopes:\n{SCOPE}");
        let signature = STANDARD.encode(hmac_sha256(self.key, &text));
        let mut certificate = json!({
            "version": 1, "scopes": [SCOPE], "start": start, "expiry": expiry, "seed": seed, "signature": signature
        });
        if name.is_some() {
            certificate["issuer"] = json!(self.id);
        }
        let ext = STANDARD.encode(json!({ "certificate": certificate }).to_string());
        let key = URL_SAFE_NO_PAD.encode(hmac_sha256(self.key, &seed));
        let url = Url::parse(&format!("http://pulse.example{PATH}")).unwrap();
        Signer { id: name.unwrap_or(self.id), key: &key, ext: Some(&ext) }.header("POST", &url, None, SystemClock.now())
    }

    /// `/x` with a bewit for it.
    fn bewit(self) -> String {
        let expiry = (SystemClock.now().millis() / 1000 + 600).to_string();
        let artifacts = Artifacts {
            ts: &expiry,
            nonce: "",
            method: "GET",
            resource: "/x",
            host: "pulse.example",
            port: 80,
            hash: "",
            ext: "",
            app: None,
        };
        let mac = mac(Kind::Bewit, self.key, &artifacts);
        format!("/x?bewit={}", URL_SAFE_NO_PAD.encode(format!("{}\\{expiry}\\{mac}\\", self.id)))
    }
}

// ---- The auth service ---------------------------------------------------------------------------------------------------

/// What the fake auth service answers to one request.
#[derive(Clone)]
enum Answer {
    /// What it finds out by really verifying it, as the one with [`REMOTE`]'s key.
    Verify,
    Json(u16, Value),
    Text(u16, &'static str),
    /// 503 with the wish to be left alone for so many seconds.
    Busy(u64),
    Hang,
    /// 400 with the question sent back, as Taskcluster does with what does not match its schemas.
    Refuse,
}

impl Answer {
    fn success(scopes: &[&str]) -> Answer {
        let expires = "2020-01-01T00:00:00.000Z";
        let body = json!({
            "status": "auth-success", "scheme": "hawk", "clientId": "someone", "scopes": scopes, "expires": expires
        });
        Answer::Json(200, body)
    }

    fn with(self, key: &str, value: Value) -> Answer {
        let Answer::Json(status, mut body) = self else { panic!("this answer has no keys") };
        body[key] = value;
        Answer::Json(status, body)
    }
}

/// What the auth service was asked.
struct Asked {
    target: String,
    headers: HeaderMap,
    body: Value,
}

/// An auth service below `/prefix` that gives the answers it was told in order, the last one for ever.
struct FakeAuth {
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<Asked>>,
    clients: Authenticator,
    address: SocketAddr,
}

impl FakeAuth {
    async fn start(answers: impl IntoIterator<Item = Answer>) -> Arc<FakeAuth> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let anonymous = Role { id: "anonymous".into(), scopes: vec!["remote:public".into()] };
        let clients = vec![REMOTE.client(&["pulse:namespace:*", "auth:create-client:*"], None)];
        let directory = LocalDirectory::new(clients, Roles::new(vec![anonymous]).unwrap());
        let fake = Arc::new(FakeAuth {
            answers: Mutex::new(answers.into_iter().collect()),
            asked: Mutex::default(),
            clients: Authenticator::new(directory),
            address: listener.local_addr().unwrap(),
        });
        let router = Router::new().fallback(answer).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    fn root(&self) -> String {
        format!("http://{}/prefix", self.address)
    }

    /// How often it was asked so far.
    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// How many questions it was asked so far, some of them more than once if its answer came late.
    fn questions(&self) -> usize {
        self.asked.lock().unwrap().iter().map(|asked| asked.body.to_string()).collect::<BTreeSet<_>>().len()
    }

    /// What it was asked last.
    fn last(&self) -> Value {
        self.asked.lock().unwrap().last().unwrap().body.clone()
    }
}

async fn answer(State(fake): State<Arc<FakeAuth>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.uri.path().ends_with("/ping") {
        return StatusCode::OK.into_response();
    }
    let body: Value = serde_json::from_slice(&to_bytes(body, usize::MAX).await.unwrap()).unwrap();
    let asked = Asked { target: format!("{} {}", parts.method, parts.uri), headers: parts.headers, body: body.clone() };
    fake.asked.lock().unwrap().push(asked);
    let answer = {
        let mut answers = fake.answers.lock().unwrap();
        if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() }
    };
    let json = |status: u16, body: &Value| {
        let status = StatusCode::from_u16(status).unwrap();
        (status, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], body.to_string()).into_response()
    };
    match answer {
        Answer::Verify => json(200, &fake_auth::find_out(&fake.clients, &body)),
        Answer::Json(status, body) => json(status, &body),
        Answer::Text(status, text) => (StatusCode::from_u16(status).unwrap(), text).into_response(),
        Answer::Busy(seconds) => {
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, seconds.to_string())]).into_response()
        }
        Answer::Hang => std::future::pending().await,
        Answer::Refuse => json(
            400,
            &json!({
                "code": "InputValidationError",
                "message": "data/host must match format\n\n---\n\n* method:     authenticateHawk",
                "requestInfo": {"method": "authenticateHawk", "payload": body}
            }),
        ),
    }
}

/// A root URL where nothing listens. Its port stays taken as long as the guard lives.
fn nowhere() -> (tokio::net::TcpSocket, String) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let root = format!("http://{}", socket.local_addr().unwrap());
    (socket, root)
}

// ---- Our service --------------------------------------------------------------------------------------------------------

/// As in production, but for the pauses.
fn limits() -> RetryPolicy {
    RetryPolicy { base_delay: Duration::from_millis(1), ..remote::limits(Duration::from_secs(5)) }
}

/// What tells callers with [`LOCAL`] in its list, who asks at `root` about the others.
fn authenticator(root: &str, limits: RetryPolicy) -> Authenticator {
    let role =
        |id: &str, scopes: &[&str]| Role { id: id.into(), scopes: scopes.iter().map(|&s| s.to_owned()).collect() };
    let roles =
        Roles::new(vec![role("dev", &["pulse:namespace:*"]), role("anonymous", &["pulse:namespace:*"])]).unwrap();
    let clients = vec![
        LOCAL.client(&["assume:dev", "auth:create-client:*"], None),
        EXPIRED.client(&["assume:dev"], Some(Timestamp::from_millis(0))),
    ];
    let taskcluster = Taskcluster::new(root.parse().unwrap(), None, Arc::new(SystemClock), limits).unwrap();
    Authenticator::new(LocalDirectory::new(clients, roles)).asking(AuthService::new(taskcluster))
}

/// What can be read, and only the auth service can check.
const ANY_HEADER: &str = r#"Hawk id="somebody", ts="1736942400", nonce="n", mac="m""#;

/// Our service on a real socket, its callers told by [`authenticator`].
struct Site {
    address: SocketAddr,
    world: World,
}

impl Site {
    async fn start(root: &str, limits: RetryPolicy) -> Site {
        Site::behind_proxy(root, limits, false).await
    }

    async fn behind_proxy(root: &str, limits: RetryPolicy, trust_proxy: bool) -> Site {
        let world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
        let settings = Settings {
            root_url: None,
            body_limit: 1 << 20,
            body_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            console: crate::support::world::closed_console(),
            edge: around::Settings {
                force_ssl: false,
                trust_proxy,
                trusted_proxies: Vec::new(),
                limits: web::edge::limits::Limits::default(),
                ..around::Settings::default()
            },
        };
        let service = Arc::new(world.service());
        let app = App::new(service, authenticator(root, limits), world.clock.clone(), settings).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let minute = Duration::from_secs(60);
        let patience = Patience { idle: minute, head: minute, reply: minute };
        let connections = Connections { patience, drain: Duration::ZERO, most: 1000, trusted_proxies: Vec::new() };
        let router = web::router(Arc::new(app));
        tokio::spawn(server::serve(listener, router, connections, std::future::pending()));
        Site { address, world }
    }

    /// Claims with these headers, `Host` among them.
    async fn post(&self, target: &str, headers: &[(&str, &str)], body: &str) -> Got {
        let all = [("content-type", "application/json"), ("connection", "close")];
        send(self.address, "POST", target, &[headers, &all].concat(), body).await
    }

    /// Claims at `pulse.example` with this `Authorization`.
    async fn claim(&self, authorization: Option<&str>) -> Got {
        let host = ("host", "pulse.example");
        let headers: Vec<_> =
            [Some(host), authorization.map(|it| ("authorization", it))].into_iter().flatten().collect();
        self.post(PATH, &headers, "{}").await
    }
}

/// A response.
#[derive(Debug)]
struct Got {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Value,
    /// How long it took.
    took: Duration,
}

impl Got {
    /// The message without what Taskcluster appends.
    fn message(&self) -> &str {
        self.body["message"].as_str().unwrap().split("\n\n---\n\n").next().unwrap()
    }

    #[track_caller]
    fn assert_claimed(&self) {
        assert!(self.status == 200 && self.body["connectionString"].is_string(), "{self:?}");
    }

    #[track_caller]
    fn assert_error(&self, status: u16, code: &str, message: &str) {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{self:?}");
        assert!(self.message().contains(message), "{self:?}");
        assert_eq!(self.headers.get("www-authenticate").map(String::as_str), (status == 401).then_some("hawk"));
    }

    /// The auth service does not answer, and the caller is to come back.
    #[track_caller]
    fn assert_unavailable(&self) {
        self.assert_error(503, "ServiceUnavailable", "Taskcluster's auth service does not answer");
        assert_eq!(self.headers["retry-after"], "5");
    }
}

/// Sends a request byte by byte as given.
async fn send(address: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Got {
    let mut head = format!("{method} {target} HTTP/1.1\r\ncontent-length: {}\r\n", body.len()).into_bytes();
    for (name, value) in headers {
        // The bytes of a header as Node shows it.
        let value = value.chars().map(|c| u8::try_from(u32::from(c)).unwrap());
        head.extend(name.bytes().chain(*b": ").chain(value).chain(*b"\r\n"));
    }
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&[&head, &b"\r\n"[..], body.as_bytes()].concat()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| line.split_once(": ").unwrap()).map(|(name, value)| (name.into(), value.into()));
    Got { status, headers: headers.collect(), body: serde_json::from_str(body).unwrap(), took: begun.elapsed() }
}

// ---- Taskcluster's cases ------------------------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Http {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    peer: IpAddr,
    trust_proxy: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    description: String,
    http: Http,
    authenticate_hawk: Value,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("vectors/origins.json")).unwrap()
}

#[tokio::test]
async fn the_auth_service_is_told_of_each_case_what_taskclusters_services_tell_it() {
    let fake = FakeAuth::start([Answer::success(&[])]).await;
    let authenticator = authenticator(&fake.root(), limits());
    let cases = cases();
    assert_eq!(cases.len(), 9);
    for Case { description, http, authenticate_hawk } in cases {
        let header = |name: &str| http.headers.get(name).map(String::as_str);
        let origin = Origin::read(header, http.peer, http.trust_proxy).unwrap();
        let authorization = header("authorization").map(str::as_bytes);
        let request = SignedRequest { method: &http.method, resource: &http.target, origin: &origin, authorization };
        authenticator.authenticate(&Read::of(&request), "a-trace", SystemClock.now()).await.unwrap();
        assert_eq!(fake.last(), authenticate_hawk, "{description}");
    }
    for asked in fake.asked.lock().unwrap().iter() {
        assert_eq!(asked.target, "POST /prefix/api/auth/v1/authenticate-hawk");
        assert_eq!(asked.headers["content-type"], "application/json");
        assert_eq!(asked.headers["x-taskcluster-trace-id"], "a-trace");
        assert!(!asked.headers.contains_key("authorization"), "the call itself is not signed");
    }
}

#[tokio::test]
async fn a_request_that_the_auth_service_takes_again_and_again_is_made_once() {
    let fake = FakeAuth::start([Answer::success(&["*"])]).await;
    let site = Site::start(&fake.root(), limits()).await;
    site.claim(Some(ANY_HEADER)).await.assert_claimed();
    site.claim(Some(ANY_HEADER)).await.assert_claimed();
    site.world.clock.advance(Duration::from_secs(241));
    let again = site.claim(Some(ANY_HEADER)).await;
    again.assert_error(401, "AuthenticationFailed", "This request was made before, at ");
}

#[tokio::test]
async fn and_so_it_is_of_requests_on_the_wire() {
    let fake = FakeAuth::start([Answer::success(&["*"])]).await;
    for Case { description, http, authenticate_hawk } in cases() {
        let site = Site::behind_proxy(&fake.root(), limits(), http.trust_proxy).await;
        let headers: Vec<_> = http.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let query = http.target.find('?').map_or("", |at| &http.target[at..]);
        let target = format!("{PATH}{query}");
        site.post(&target, &headers, "{}").await;
        let mut expected = authenticate_hawk;
        expected["method"] = json!("post");
        expected["resource"] = json!(target);
        if expected["sourceIp"] == json!(http.peer) {
            expected["sourceIp"] = json!("127.0.0.1");
        }
        assert_eq!(fake.last(), expected, "{description}");
    }
    assert_eq!(fake.count(), 9);
}

#[tokio::test]
async fn the_header_is_handed_on_as_node_reads_it_and_an_empty_one_is_none() {
    let fake = FakeAuth::start([Answer::success(&["*"])]).await;
    let site = Site::start(&fake.root(), limits()).await;
    for header in ["Hawk id=\"é\u{ff}\"", "Hawk \"é\t\"", "Basic x", "Hawk", "nonsense, \"quoted\" \\"] {
        site.claim(Some(header)).await.assert_claimed();
        assert_eq!(fake.last()["authorization"], header);
    }
    site.claim(Some("")).await.assert_claimed();
    assert_eq!(fake.last().get("authorization"), None);
}

/// It is asked because it knows better.
#[tokio::test]
async fn whom_the_auth_service_lets_in_is_not_refused_for_what_we_would_not_read() {
    let fake = FakeAuth::start([Answer::success(&["*"])]).await;
    let site = Site::start(&fake.root(), limits()).await;
    for _ in 0..2 {
        site.post(&format!("{PATH}?bewit=a"), &[("host", "pulse.example")], "{}").await.assert_claimed();
        site.claim(Some("Hawk x")).await.assert_claimed();
    }
    // But for a time that is none: the request could be made again for ever.
    let timeless = site.claim(Some(r#"Hawk id="somebody", ts="NaN", nonce="n", mac="m""#)).await;
    timeless.assert_error(401, "AuthenticationFailed", "Unauthorized: Stale timestamp");
}

#[tokio::test]
async fn the_trace_id_is_handed_on_be_it_the_callers_or_a_new_one() {
    let fake = FakeAuth::start([Answer::success(&["*"])]).await;
    let site = Site::start(&fake.root(), limits()).await;
    let trace = |fake: &FakeAuth| fake.asked.lock().unwrap().last().unwrap().headers["x-taskcluster-trace-id"].clone();
    site.post(PATH, &[("host", "a"), ("x-taskcluster-trace-id", "story-1")], "{}").await.assert_claimed();
    assert_eq!(trace(&fake), "story-1");
    let got = site.claim(None).await;
    assert_eq!(trace(&fake), got.headers["x-for-trace-id"]);
}

// ---- Its answers --------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_client_that_the_auth_service_knows_may_do_what_its_scopes_allow() {
    let fake = FakeAuth::start([Answer::Verify]).await;
    let site = Site::start(&fake.root(), limits()).await;
    for body in [None, Some("{}")] {
        site.claim(Some(&REMOTE.header("pulse.example", body))).await.assert_claimed();
    }
    for lent in [REMOTE.lent(None), REMOTE.lent(Some("temporary")), REMOTE.lent(Some(LOCAL.id))] {
        site.claim(Some(&lent)).await.assert_claimed();
    }
    assert_eq!(fake.count(), 5);
    let forged = Credentials { key: "another-access-token-22", ..REMOTE };
    let got = site.claim(Some(&forged.header("pulse.example", None))).await;
    got.assert_error(401, "AuthenticationFailed", "Unauthorized: Bad mac");
    let elsewhere = site.claim(Some(&REMOTE.header("other.example", None))).await;
    elsewhere.assert_error(401, "AuthenticationFailed", "Unauthorized: Bad mac");
}

#[tokio::test]
async fn scopes_are_used_as_they_come_and_our_own_roles_add_nothing() {
    let answers = [
        Answer::success(&["pulse:namespace:taskcluster-x"]),
        Answer::success(&["z", "pulse:namespace:taskcluster-*", "a", "a"]),
        Answer::success(&["assume:dev", "assume:anonymous", "pulse:namespace:taskcluster-y"]),
        Answer::success(&[]),
    ];
    let fake = FakeAuth::start(answers).await;
    let site = Site::start(&fake.root(), limits()).await;
    // What they came with has expired by now; that is for the auth service to judge, with its own clock.
    site.claim(Some(ANY_HEADER)).await.assert_claimed();
    site.claim(Some(ANY_HEADER)).await.assert_claimed();
    for _ in 0..2 {
        let text = "Client ID someone does not have sufficient scopes and is missing the following scopes:\n\n```\n\
                    pulse:namespace:taskcluster-x\n```";
        site.claim(Some(ANY_HEADER)).await.assert_error(403, "InsufficientScopes", text);
    }
}

#[tokio::test]
async fn what_the_auth_service_refuses_is_refused_in_its_words() {
    let message = "Client with clientId: 'someone' has expired";
    let fake = FakeAuth::start([Answer::Json(200, json!({"status": "auth-failed", "message": message}))]).await;
    let site = Site::start(&fake.root(), limits()).await;
    let got = site.claim(Some(ANY_HEADER)).await;
    got.assert_error(401, "AuthenticationFailed", message);
    assert_eq!((got.message(), fake.count()), (message, 1));
}

#[tokio::test]
async fn who_has_no_credentials_has_what_the_auth_service_gives_everybody() {
    let anonymous = |scopes: &[&str]| {
        let expires = "2099-01-01T00:00:00.000Z";
        Answer::Json(200, json!({"status": "no-auth", "scheme": "none", "scopes": scopes, "expires": expires}))
    };
    let fake = FakeAuth::start([anonymous(&[SCOPE]), anonymous(&["assume:anonymous"])]).await;
    let site = Site::start(&fake.root(), limits()).await;
    site.claim(None).await.assert_claimed();
    let text = "This request requires Taskcluster credentials that satisfy the following scope expression:";
    site.claim(None).await.assert_error(403, "InsufficientScopes", text);
    assert_eq!(fake.count(), 2);
}

#[tokio::test]
async fn the_body_must_have_the_hash_that_was_signed() {
    let good = || Answer::success(&["*"]);
    let right = payload_hash("application/json", b"{}");
    let answers = [
        good().with("hash", json!(right)),
        good().with("hash", json!(null)),
        good().with("hash", json!(17)),
        good().with("hash", json!("somethingelse")),
        good().with("hash", json!("")),
    ];
    let fake = FakeAuth::start(answers).await;
    let site = Site::start(&fake.root(), limits()).await;
    for _ in 0..3 {
        site.claim(Some(ANY_HEADER)).await.assert_claimed();
    }
    for signed in ["somethingelse", ""] {
        let text = format!("Invalid payload hash: {signed}\nComputed payload hash: {right}\n");
        site.claim(Some(ANY_HEADER)).await.assert_error(401, "AuthenticationFailed", &text);
    }
    let fake = FakeAuth::start([Answer::Verify]).await;
    let site = Site::start(&fake.root(), limits()).await;
    let header = REMOTE.header("pulse.example", Some("{}"));
    let altered = site.post(PATH, &[("host", "pulse.example"), ("authorization", &header)], "{ }").await;
    altered.assert_error(401, "AuthenticationFailed", &format!("Invalid payload hash: {right}\n"));
}

#[tokio::test]
async fn a_bewit_is_verified_by_whoever_knows_its_client() {
    let fake = FakeAuth::start([Answer::Verify]).await;
    let authenticator = authenticator(&fake.root(), limits());
    let origin = Origin { host: "pulse.example".into(), port: 80, source_ip: IpAddr::from([127, 0, 0, 1]) };
    for (who, asked) in [(LOCAL, 0), (REMOTE, 1)] {
        let resource = who.bewit();
        let request = SignedRequest { method: "GET", resource: &resource, origin: &origin, authorization: None };
        let caller = authenticator.authenticate(&Read::of(&request), "a-trace", SystemClock.now()).await.unwrap();
        assert_eq!((caller.who.name(), fake.count()), (Some(who.id), asked));
    }
    let forged = Credentials { key: "another-access-token-22", ..REMOTE }.bewit();
    let request = SignedRequest { method: "GET", resource: &forged, origin: &origin, authorization: None };
    let refused = authenticator.authenticate(&Read::of(&request), "a-trace", SystemClock.now()).await;
    assert!(
        matches!(&refused, Err(Failure::Refused(why)) if why.to_string() == "Unauthorized: Bad mac"),
        "{refused:?}"
    );
}

// ---- Who is not asked about ---------------------------------------------------------------------------------------------

#[tokio::test]
async fn the_auth_service_is_not_asked_about_our_own_clients() {
    let fake = FakeAuth::start([Answer::Text(500, "must not be asked")]).await;
    let site = Site::start(&fake.root(), limits()).await;
    let accepted = [
        LOCAL.header("pulse.example", Some("{}")),
        LOCAL.lent(None),
        LOCAL.lent(Some("temporary")),
        LOCAL.lent(Some(REMOTE.id)),
    ];
    for header in accepted {
        site.claim(Some(&header)).await.assert_claimed();
    }
    let forged = Credentials { key: "another-access-token-22", ..LOCAL };
    let bad_ext = LOCAL.signed("pulse.example", None, Some("!"));
    for (header, text) in [
        (forged.header("pulse.example", None), "Unauthorized: Bad mac"),
        (EXPIRED.header("pulse.example", None), "Client with clientId: 'static/expired' has expired"),
        (bad_ext, "Failed to parse ext"),
    ] {
        site.claim(Some(&header)).await.assert_error(401, "AuthenticationFailed", text);
    }
    assert_eq!(fake.count(), 0);
}

#[tokio::test]
async fn the_auth_service_is_asked_neither_about_two_schemes_nor_by_monitoring_nor_about_broken_bodies() {
    let fake = FakeAuth::start([Answer::success(&["*"])]).await;
    let site = Site::start(&fake.root(), limits()).await;
    let both = site.post(&format!("{PATH}?bewit=abc"), &[("host", "a"), ("authorization", ANY_HEADER)], "{}").await;
    let text = "Cannot use two authentication schemes at once this request has both bewit in querystring and \
                'authorization' header";
    both.assert_error(401, "AuthenticationFailed", text);
    for target in ["/api/pulse/v1/ping", "/api/pulse/v1/__version__"] {
        let headers = [("host", "a"), ("authorization", ANY_HEADER), ("connection", "close")];
        assert_eq!(send(site.address, "GET", target, &headers, "").await.status, 200);
    }
    site.post(PATH, &[("host", "a")], "{x").await.assert_error(400, "MalformedPayload", "Failed to parse JSON");
    assert_eq!(fake.count(), 0);
}

#[tokio::test]
async fn a_host_that_the_auth_service_takes_for_none_is_the_callers_mistake() {
    let fake = FakeAuth::start([Answer::Refuse]).await;
    let site = Site::start(&fake.root(), limits()).await;
    for host in ["my_host", "[::1]", "[::1]:8080", "-a.example", "a..b", "my_host:80"] {
        let header = REMOTE.header("pulse.example", None);
        let got = site.post(PATH, &[("host", host), ("authorization", &header)], "{}").await;
        got.assert_error(400, "InputError", "The Host header must be a host name of letters, digits and hyphens");
        let header = LOCAL.header(host, None);
        if !host.contains("..") {
            site.post(PATH, &[("host", host), ("authorization", &header)], "{}").await.assert_claimed();
        }
    }
    assert_eq!(fake.count(), 0);
}

// ---- Trouble ------------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_failure_of_the_auth_service_is_got_over_by_asking_again() {
    let fake = FakeAuth::start([Answer::Text(500, "<html>"), Answer::Busy(0), Answer::Verify]).await;
    let site = Site::start(&fake.root(), limits()).await;
    site.claim(Some(&REMOTE.header("pulse.example", None))).await.assert_claimed();
    let asked = fake.asked.lock().unwrap();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|again| again.body == asked[0].body));
}

#[tokio::test]
async fn an_auth_service_that_stays_broken_is_asked_six_times_and_the_caller_told_to_come_back() {
    let fake = FakeAuth::start([Answer::Text(500, "<html>")]).await;
    let site = Site::start(&fake.root(), limits()).await;
    let got = site.claim(Some(ANY_HEADER)).await;
    got.assert_unavailable();
    assert!(got.message().contains("incidentId"), "{got:?}");
    assert_eq!(fake.count(), 6);
}

#[tokio::test]
async fn an_auth_service_that_asks_for_more_patience_than_there_is_is_not_waited_for() {
    let fake = FakeAuth::start([Answer::Busy(30)]).await;
    let site = Site::start(&fake.root(), limits()).await;
    let got = site.claim(Some(ANY_HEADER)).await;
    got.assert_unavailable();
    assert!(fake.count() == 1 && got.took < SOON, "{got:?}");
}

#[tokio::test]
async fn while_the_auth_service_hangs_our_own_clients_are_served_and_others_told_soon_to_come_back() {
    let fake = FakeAuth::start([Answer::Hang]).await;
    let site = Site::start(&fake.root(), remote::limits(Duration::from_secs(1))).await;
    let (remote, local) = tokio::join!(site.claim(Some(ANY_HEADER)), async {
        let header = LOCAL.header("pulse.example", None);
        site.claim(Some(&header)).await
    });
    remote.assert_unavailable();
    assert!((Duration::from_millis(900)..SOON).contains(&remote.took), "{remote:?}");
    local.assert_claimed();
    assert_eq!(fake.count(), 2, "one attempt that hangs leaves time for another");
}

#[tokio::test]
async fn while_the_auth_service_is_down_our_own_clients_are_served_and_others_told_soon_to_come_back() {
    let (_guard, root) = nowhere();
    let site = Site::start(&root, remote::limits(Duration::from_secs(1))).await;
    site.claim(Some(&LOCAL.header("pulse.example", Some("{}")))).await.assert_claimed();
    for header in [Some(REMOTE.header("pulse.example", None)), None] {
        let got = site.claim(header.as_deref()).await;
        got.assert_unavailable();
        assert!(got.took < SOON, "{got:?}");
    }
}

#[tokio::test]
async fn a_question_that_the_auth_service_refuses_is_our_fault_and_logged_without_what_was_signed() {
    let logged = Logged::default();
    let guard = logged.begin();
    let fake = FakeAuth::start([Answer::Refuse]).await;
    let site = Site::start(&fake.root(), limits()).await;
    let header = REMOTE.header("pulse.example", None);
    let got = site.claim(Some(&header)).await;
    got.assert_error(500, "InternalServerError", "Internal Server Error, incidentId ");
    assert!(!got.message().contains("data/host"), "{got:?}");
    drop(guard);
    let (text, incident) = (logged.text(), got.message().rsplit(' ').next().unwrap().trim_end_matches('.'));
    let line = text.lines().find(|line| line.contains(incident)).unwrap();
    assert!(line.contains("auth service answered 400 InputValidationError: data/host must match format"), "{line}");
    assert!(!text.contains("mac="), "{text}");
    assert_eq!(fake.count(), 1);
}

#[tokio::test]
async fn an_answer_that_can_not_be_understood_lets_nobody_in_and_is_not_logged() {
    let logged = Logged::default();
    let guard = logged.begin();
    let without = |key: &str| {
        let Answer::Json(_, mut body) = Answer::success(&["*"]) else { unreachable!() };
        body.as_object_mut().unwrap().remove(key);
        Answer::Json(200, body)
    };
    let answers = [
        Answer::Text(200, "<html>"),
        Answer::Text(204, ""),
        Answer::Text(301, ""),
        Answer::Text(404, "<html>"),
        Answer::Json(200, json!(null)),
        Answer::Json(200, json!([])),
        Answer::Json(200, json!({"status": "canary"})),
        Answer::Json(200, json!({"status": "auth-failed"})),
        without("status"),
        without("clientId"),
        without("scopes"),
        Answer::success(&[]).with("scopes", json!("*")),
        Answer::success(&[]).with("scopes", json!([{"canary": 1}])),
    ];
    for answer in answers {
        let fake = FakeAuth::start([answer]).await;
        let site = Site::start(&fake.root(), limits()).await;
        site.claim(Some(ANY_HEADER)).await.assert_error(
            500,
            "InternalServerError",
            "Internal Server Error, incidentId ",
        );
        assert_eq!(fake.count(), 1, "it is final");
    }
    drop(guard);
    assert!(
        logged.text().contains("the answer of the auth service can't be understood")
            && !logged.text().contains("canary")
    );
}

/// A writer that keeps what is logged.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Logged {
    /// Keeps all that this thread logs of our own work until the guard goes.
    fn begin(&self) -> tracing::subscriber::DefaultGuard {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false);
        tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish())
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

// ---- The program --------------------------------------------------------------------------------------------------------

/// The program, killed with its guard.
struct Program {
    child: Child,
    address: SocketAddr,
    _data: tempfile::TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `serve` on the broker, with these variables besides those that it always needs.
fn serve(broker: &FakeBroker, variables: &[(&str, &str)]) -> Program {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskcluster-pulse"));
    command.arg("serve").env_clear().current_dir(data.path()).stdout(Stdio::piped());
    command.env("RABBIT_BASE_URL", broker.url());
    command.envs([("RABBIT_USERNAME", fake_broker::USERNAME), ("RABBIT_PASSWORD", fake_broker::PASSWORD)]);
    command.envs([("TASKCLUSTER_AMQP_VHOST", fake_broker::VHOST), ("SERVER_ADDRESS", "127.0.0.1"), ("PORT", "0")]);
    let mut child = command.envs(variables.iter().copied()).spawn().unwrap();
    let (sender, lines) = mpsc::channel();
    let output = io::BufReader::new(child.stdout.take().unwrap());
    // Read to its end, so that the program is never kept from writing.
    std::thread::spawn(move || output.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    let address = loop {
        let line = lines.recv_timeout(Duration::from_secs(60)).expect("the program does not listen");
        if let Some((_, rest)) = line.split_once("listening at http://") {
            break rest.split(['"', ' ']).next().unwrap().parse().unwrap();
        }
    };
    Program { child, address, _data: data }
}

async fn claim_at(address: SocketAddr, authorization: &str) -> Got {
    let headers = [("host", "pulse.example"), ("authorization", authorization), ("content-type", "application/json")];
    send(address, "POST", PATH, &[&headers[..], &[("connection", "close")]].concat(), "{}").await
}

fn static_clients() -> String {
    json!([{"clientId": LOCAL.id, "accessToken": LOCAL.key, "scopes": ["pulse:namespace:*"]}]).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_with_nothing_but_the_broker_serves_our_own_clients() {
    let (broker, (_guard, root), clients) = (FakeBroker::start().await, nowhere(), static_clients());
    let variables = [
        ("AUTH_MODE", "both"),
        ("TASKCLUSTER_ROOT_URL", root.as_str()),
        ("AUTH_REMOTE_TIMEOUT", "1 s"),
        ("STATIC_CLIENTS", &clients),
    ];
    let program = tokio::task::block_in_place(|| serve(&broker, &variables));
    claim_at(program.address, &LOCAL.header("pulse.example", Some("{}"))).await.assert_claimed();
    let got = claim_at(program.address, &REMOTE.header("pulse.example", None)).await;
    got.assert_unavailable();
    assert!(got.took < SOON, "{got:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mode_says_who_is_asked_whatever_the_root_url_is_there_for() {
    let (fake, clients) = (FakeAuth::start([Answer::Verify]).await, static_clients());
    let root = fake.root();
    // Mode, whether we have clients of our own, and what becomes of ours and theirs.
    for (mode, own, local, remote) in
        [("", true, 200, 401), ("local", true, 200, 401), ("remote", false, 401, 200), ("both", true, 200, 200)]
    {
        let clients = if own { clients.as_str() } else { "" };
        // Each has a database of its own, and so is a deployment of its own.
        let broker = FakeBroker::start().await;
        let variables = [("AUTH_MODE", mode), ("TASKCLUSTER_ROOT_URL", &root), ("STATIC_CLIENTS", clients)];
        let program = tokio::task::block_in_place(|| serve(&broker, &variables));
        for (who, expected) in [(LOCAL, local), (REMOTE, remote)] {
            let got = claim_at(program.address, &who.header("pulse.example", None)).await;
            assert_eq!(got.status, expected, "{mode}, {}: {got:?}", who.id);
        }
    }
    assert_eq!(fake.questions(), 3);
}

// ---- What some are shown --------------------------------------------------------------------------------------------------

impl Site {
    /// The contact that is shown to who sends this `Authorization`.
    async fn contact(&self, authorization: Option<&str>) -> Value {
        let all = [("host", "pulse.example"), ("connection", "close")];
        let headers: Vec<_> = all.into_iter().chain(authorization.map(|it| ("authorization", it))).collect();
        let got = send(self.address, "GET", PATH, &headers, "").await;
        assert_eq!(got.status, 200, "{got:?}");
        got.body["contact"].clone()
    }
}

#[tokio::test]
async fn a_contact_is_shown_to_who_the_auth_service_says_may_claim() {
    let fake = FakeAuth::start([Answer::success(&["pulse:namespace:*"]), Answer::success(&["other"])]).await;
    let site = Site::start(&fake.root(), limits()).await;
    site.world.claim_for("taskcluster-x", "owner@example.com", HOUR).await;
    assert_eq!(site.contact(None).await, "");
    assert_eq!(site.contact(Some("Basic eDp5")).await, "");
    assert_eq!(fake.count(), 0, "who signs nothing is asked about");
    let header = |nonce: &str| format!(r#"Hawk id="somebody", ts="1736942400", nonce="{nonce}", mac="m""#);
    assert_eq!(site.contact(Some(&header("a"))).await, "owner@example.com");
    assert_eq!(site.contact(Some(&header("b"))).await, "");
    assert_eq!(fake.count(), 2);
}

#[tokio::test]
async fn while_the_auth_service_does_not_answer_anybody_is_shown_what_anybody_may_see() {
    let fake = FakeAuth::start([Answer::Hang]).await;
    let (_taken, nowhere) = nowhere();
    for root in [fake.root(), nowhere] {
        let site = Site::start(&root, limits()).await;
        site.world.claim_for("taskcluster-x", "owner@example.com", HOUR).await;
        // More than are let wait for it, all at once.
        let asks = (0..100).map(|_| site.contact(Some(ANY_HEADER)));
        assert!(futures::future::join_all(asks).await.iter().all(|contact| contact == ""));
        assert!(fake.count() <= 32, "{}", fake.count());
    }
}
