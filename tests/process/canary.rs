//! Secrets: every command is run, well and in every way in which it can fail, and whatever anybody gets to see of that is
//! searched for the secrets that were used.
//!
//! The search itself is at the end of each [`Deployment`]. What is meant to be secret stays out of it: the body of a
//! granted claim, what `claim` prints, and the environment of the command that `exec` runs.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::{Value, json};
use taskcluster_pulse::clock::{Clock as _, SystemClock};
use taskcluster_pulse::hawk::{Artifacts, Kind, Signer, hmac_sha256, mac};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use url::Url;

use crate::support::processes::{ACCESS_TOKEN, CLIENT_ID, CRYPTO_KEY, Deployment, PATIENCE, get, leak, password};
use crate::support::world::{BrokerKind, Side, StoreKind};

const FALLBACK_PASSWORD: &str = "canary-fallback-\"password\\-of-the-deputy";
const MAIL_PASSWORD: &str = "canary-mail-password";
const ANOTHER_TOKEN: &str = "canary-another-token-0123456789";
const TASKS: [&str; 4] = ["rotate-namespaces", "monitor-rabbit", "expire-namespaces", "deliver-notices"];

/// Somebody who answers every request by telling all that was in it.
#[derive(Clone)]
struct Echo {
    status: Arc<Mutex<StatusCode>>,
    url: String,
    /// What must not be told of that: MACs, and hashes of passwords.
    secrets: Arc<Mutex<Vec<String>>>,
}

impl Echo {
    async fn start() -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let echo = Echo { status: Arc::new(Mutex::new(StatusCode::OK)), url, secrets: Arc::default() };
        let router = Router::new().fallback(Echo::answer).with_state(echo.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        echo
    }

    /// Answers with this status from now on.
    fn answers(&self, status: u16) {
        *self.status.lock().unwrap() = StatusCode::from_u16(status).unwrap();
    }

    async fn answer(State(echo): State<Echo>, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let headers: Vec<_> = parts.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
        let said = format!("{} {} {headers:?} {}", parts.method, parts.uri, String::from_utf8_lossy(&body));
        let authorization =
            parts.headers.get(header::AUTHORIZATION).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let authorization = authorization.unwrap_or_default();
        let body = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        let callers = body["authorization"].as_str().unwrap_or_default();
        let macs = [&authorization, callers].map(|header| header.split("mac=\"").nth(1)?.split('"').next());
        let hash = body["password_hash"].as_str().filter(|hash| !hash.is_empty());
        echo.secrets.lock().unwrap().extend(macs.into_iter().chain([hash]).flatten().map(str::to_owned));
        let told = json!({
            "error": "not_authorized", "reason": [authorization, said], "code": "InternalServerError", "message": said,
            "status": said,
        });
        let status = match *echo.status.lock().unwrap() {
            // A user that can't be read is written by nobody, and then the broker is told of no hash.
            StatusCode::OK if parts.uri.path().contains("/api/users/") && parts.method == Method::GET => {
                StatusCode::NOT_FOUND
            }
            status => status,
        };
        (status, [(header::CONTENT_TYPE, "application/json")], Body::from(told.to_string())).into_response()
    }
}

/// A mail server that knows no TLS, and repeats what it is told.
async fn mail_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                let _ = stream.write_all(b"220 here\r\n").await;
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    let said = String::from_utf8_lossy(&buffer[..length]).replace(['\r', '\n'], " ");
                    let _ = stream.write_all(format!("250-AUTH PLAIN LOGIN\r\n250 {said}\r\n").as_bytes()).await;
                }
            });
        }
    });
    port
}

/// The deployment, with every setting that holds a secret.
async fn deployment(format: &str) -> Deployment {
    let mut deployment = Deployment::new(StoreKind::Postgres, BrokerKind::Fake).await;
    let mail = format!("smtp://pulse:{MAIL_PASSWORD}@127.0.0.1:{}", mail_server().await);
    for (name, value) in [
        ("LOG_FORMAT", format),
        ("RABBIT_FALLBACK_USERNAME", "deputy"),
        ("RABBIT_FALLBACK_PASSWORD", FALLBACK_PASSWORD),
        ("RABBIT_REQUEST_TIMEOUT", "1 s"),
        ("NAMESPACE_ROTATION_INTERVAL", "20 s"),
        ("WORKER_ROTATE_INTERVAL", "200 ms"),
        ("NOTIFY_METHOD", "smtp"),
        ("NOTIFY_SMTP_URL", &mail),
        ("NOTIFY_FROM", "pulse@example.com"),
        ("PATH", &std::env::var("PATH").unwrap()),
    ] {
        deployment.set(name, value);
    }
    let basic = STANDARD.encode(format!("deputy:{FALLBACK_PASSWORD}"));
    for secret in [FALLBACK_PASSWORD, &basic, MAIL_PASSWORD, ANOTHER_TOKEN] {
        deployment.add_secret(secret);
    }
    deployment
}

/// Lends the client's scopes to a key derived from its own, which the client's commands use from now on.
fn use_temporary_credentials(deployment: &mut Deployment) {
    let (now, seed) = (SystemClock.now().millis(), "canary-seed-of-the-certificate-of-44-letters");
    let (start, expiry, scope) = (now - 60_000, now + 3_600_000, "pulse:namespace:*");
    let signed = format!("version:1\nseed:{seed}\nstart:{start}\nexpiry:{expiry}\nscopes:\n{scope}");
    let signature = STANDARD.encode(hmac_sha256(ACCESS_TOKEN, &signed));
    let key = URL_SAFE_NO_PAD.encode(hmac_sha256(ACCESS_TOKEN, seed));
    let certificate = json!({
        "version": 1, "scopes": [scope], "start": start, "expiry": expiry, "seed": seed, "signature": signature,
    });
    deployment.set("TASKCLUSTER_CERTIFICATE", certificate.to_string());
    deployment.set("TASKCLUSTER_ACCESS_TOKEN", &key);
    for secret in [seed, &signature, &key] {
        deployment.add_secret(secret);
    }
}

/// Runs a command that prints a connection string, and knows its password from then on.
async fn claim(deployment: &Deployment, arguments: &[&str]) {
    let ended = deployment.run(arguments).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let string = serde_json::from_str::<Value>(&ended.stdout).map_or_else(
        |_| ended.stdout.trim().to_owned(),
        |answer| answer["connectionString"].as_str().unwrap().to_owned(),
    );
    deployment.add_secret(&password(&string));
}

/// Sends requests that are refused, each signed, and has the answers searched.
async fn be_refused(deployment: &Deployment, url: &Url) {
    let (http, now) = (reqwest::Client::builder().no_proxy().build().unwrap(), SystemClock.now());
    let send = async |target: &str, id: &str, key: &str, signed: &str, body: &'static str| {
        let url = url.join(target).unwrap();
        let payload = Some(("application/json", signed.as_bytes()));
        let authorization = Signer { id, key, ext: None }.header("POST", &url, payload, now);
        let (_, mac) = authorization.split_once("mac=\"").unwrap();
        deployment.add_secret(mac.split('"').next().unwrap());
        let request = http.request(Method::POST, url).header(header::CONTENT_TYPE, "application/json").body(body);
        let answer = request.header(header::AUTHORIZATION, authorization).send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), format!("{:?}", answer.headers()));
        assert!(status >= 400, "{target} was granted");
        deployment.shown(target, format!("{status} {headers}\n{}", answer.text().await.unwrap()));
        status
    };
    let claim = "api/pulse/v1/namespace/taskcluster-a";
    assert_eq!(send(claim, CLIENT_ID, ANOTHER_TOKEN, "{}", "{}").await, 401);
    assert_eq!(send(claim, "nobody", ACCESS_TOKEN, "{}", "{}").await, 401);
    assert_eq!(send(claim, CLIENT_ID, ACCESS_TOKEN, "{ }", "{}").await, 401);
    assert_eq!(send(claim, CLIENT_ID, ACCESS_TOKEN, "{", "{").await, 400);
    assert_eq!(send(claim, CLIENT_ID, ACCESS_TOKEN, r#"{"x": 1}"#, r#"{"x": 1}"#).await, 400);
    assert_eq!(send("api/pulse/v1/namespace/other", CLIENT_ID, ACCESS_TOKEN, "{}", "{}").await, 400);
    assert_eq!(send("no/such/route", CLIENT_ID, ACCESS_TOKEN, "{}", "{}").await, 404);
}

/// A URL that anybody who has it can use for a while.
async fn use_a_bewit(deployment: &Deployment, url: &Url) {
    let (path, ts) = ("/api/pulse/v1/namespace/taskcluster-a", (SystemClock.now().millis() / 1000 + 60).to_string());
    let (host, port) = (url.host_str().unwrap(), url.port().unwrap());
    let of = Artifacts { ts: &ts, nonce: "", method: "GET", resource: path, host, port, hash: "", ext: "", app: None };
    let mac = mac(Kind::Bewit, ACCESS_TOKEN, &of);
    let bewit = URL_SAFE_NO_PAD.encode(format!("{CLIENT_ID}\\{ts}\\{mac}\\"));
    deployment.add_secret(&mac);
    deployment.add_secret(&bewit);
    for path in [path, "/api/pulse/v1/ping", "/no/such/route", "/__version__", "/metrics"] {
        let (status, body) = get(url, &format!("{path}?bewit={bewit}")).await;
        deployment.shown(path, format!("{status}\n{body}"));
    }
}

/// All that is stored.
async fn search_the_database(deployment: &Deployment) {
    let client = deployment.database.as_ref().unwrap().client().await;
    let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'";
    for table in client.query(tables, &[]).await.unwrap() {
        let table: String = table.get(0);
        for row in client.query(&format!("SELECT row_to_json(t)::text FROM {table} t"), &[]).await.unwrap() {
            deployment.shown(&table, row.get::<_, String>(0));
        }
    }
}

async fn owe_a_notice(deployment: &Deployment) {
    let client = deployment.database.as_ref().unwrap().client().await;
    let notice = "INSERT INTO notice VALUES ('1', 'taskcluster-a', 'owner@example.com', 'A subject', 'A text', 0, 0, 0)
        ON CONFLICT (id) DO UPDATE SET due = 0";
    client.batch_execute(notice).await.unwrap();
}

/// Every command, while all is well but the mail.
async fn run_everything(deployment: &mut Deployment) {
    let (serve, url) = deployment.serve(&["serve"]).await;
    deployment.set("TASKCLUSTER_ROOT_URL", url.as_str());
    deployment.claim(&url, "taskcluster-a", &json!({"contact": "owner@example.com"})).await.unwrap();
    be_refused(deployment, &url).await;
    use_a_bewit(deployment, &url).await;
    claim(deployment, &["claim", "taskcluster-b"]).await;
    use_temporary_credentials(deployment);
    claim(deployment, &["claim", "taskcluster-c", "--json"]).await;

    let watch = deployment.start(&["claim", "taskcluster-d", "--watch"]);
    watch.says_times("amqp://", 2).await;
    deployment.shown("the arguments of claim", watch.command_line());
    let told = watch.stdout();
    told.lines().for_each(|string| deployment.add_secret(&password(string)));
    drop(watch);
    let script = r#"test -n "$PULSE_CONNECTION_STRING" && echo started; exec sleep 1000"#;
    let exec = deployment.start(&["exec", "taskcluster-e", "--file", "string", "--", "sh", "-c", script]);
    exec.says("started").await;
    let string = std::fs::read_to_string(deployment.folder.path().join("string")).unwrap();
    deployment.add_secret(&password(string.trim()));
    deployment.shown("the arguments of exec", exec.command_line());
    exec.signal("TERM");
    exec.end().await;

    for arguments in [&["settings"][..], &["--help"], &["migrate"]] {
        assert_eq!(deployment.run(arguments).await.code, Some(0));
    }
    let worker = deployment.start(&["worker"]);
    for task in TASKS {
        for arguments in [&[task][..], &[task, "--json"], &[task, "--dry-run"]] {
            owe_a_notice(deployment).await;
            assert!(deployment.run(arguments).await.code.is_some_and(|code| code < 2));
        }
    }
    worker.says("rotate-namespaces: seen").await;
    deployment.shown("the arguments of worker", worker.command_line());
    deployment.shown("the arguments of serve", serve.command_line());
    deployment.claim(&url, "taskcluster-a", &json!({})).await.unwrap();
    search_the_database(deployment).await;
    for program in [serve, worker] {
        program.signal("TERM");
        assert_eq!(program.end().await.code, Some(0));
    }
}

/// Runs each task and a first claim, which are to fail.
async fn fail_at_everything(deployment: &Deployment, namespace: &str) {
    for task in TASKS {
        owe_a_notice(deployment).await;
        let ended = deployment.run(&[task]).await;
        assert!(ended.code.is_some(), "{ended:?}");
    }
    let (web, url) = deployment.serve(&["web"]).await;
    let failed = deployment.claim(&url, namespace, &json!({})).await.err().expect("the claim should fail");
    deployment.shown("a claim that failed", format!("{failed} {failed:?}"));
    deployment.shown("the heartbeat", get(&url, "/__heartbeat__").await.1);
    deployment.shown("the arguments of web", web.command_line());
    be_refused_by_whoever_is_asked(deployment, &url).await;
}

/// A client that we don't know ourselves.
async fn be_refused_by_whoever_is_asked(deployment: &Deployment, url: &Url) {
    let target = url.join("api/pulse/v1/namespace/taskcluster-z").unwrap();
    let payload = Some(("application/json", &b"{}"[..]));
    let authorization =
        Signer { id: "a-stranger", key: ANOTHER_TOKEN, ext: None }.header("POST", &target, payload, SystemClock.now());
    let (_, mac) = authorization.split_once("mac=\"").unwrap();
    deployment.add_secret(mac.split('"').next().unwrap());
    let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let request = http.request(Method::POST, target).header(header::CONTENT_TYPE, "application/json").body("{}");
    let answer = request.header(header::AUTHORIZATION, authorization).send().await.unwrap();
    deployment.shown("the answer to a stranger", answer.text().await.unwrap());
}

/// A broker and an auth service that repeat everything, whatever they answer with it.
async fn be_echoed(deployment: &mut Deployment) {
    let echo = Echo::start().await;
    for (name, value) in [
        ("RABBIT_BASE_URL", echo.url.as_str()),
        ("TASKCLUSTER_ROOT_URL", &echo.url),
        ("AUTH_MODE", "both"),
        ("AUTH_REMOTE_TIMEOUT", "500 ms"),
        ("NOTIFY_METHOD", "taskcluster"),
    ] {
        deployment.set(name, value);
    }
    for status in [200, 401, 500] {
        echo.answers(status);
        fail_at_everything(deployment, &format!("taskcluster-echoed-{status}")).await;
        assert_ne!(deployment.run(&["claim", "taskcluster-a"]).await.code, Some(0));
    }
    let secrets = std::mem::take(&mut *echo.secrets.lock().unwrap());
    assert!(secrets.iter().any(|secret| secret.len() == 48), "the broker should be told of hashes");
    assert!(secrets.iter().any(|secret| secret.len() == 44), "the services should be sent MACs");
    secrets.iter().for_each(|secret| deployment.add_secret(secret));
}

/// Neither a database nor a mail server where they are said to be.
async fn miss_the_database(deployment: &mut Deployment) {
    let (user, host) = (format!("postgres://pulse:{ANOTHER_TOKEN}"), "127.0.0.1:1/pulse");
    deployment.set("DATABASE_URL", format!("{user}@{host}"));
    deployment.set("STORE_QUERY_TIMEOUT", "200 ms");
    let (_web, url) = deployment.serve(&["web"]).await;
    let failed = deployment.claim(&url, "taskcluster-a", &json!({})).await.err().expect("the claim should fail");
    deployment.shown("a claim without a database", failed.to_string());
    for task in [&TASKS[..], &["migrate"]].concat() {
        assert_eq!(deployment.run(&[task]).await.code, Some(1), "{task}");
    }
    deployment.set("DATABASE_URL", format!("{user}@?{ANOTHER_TOKEN}=1@{host}"));
    assert_eq!(deployment.run(&["migrate"]).await.code, Some(2));
}

/// Secrets that are none, or stand in the wrong place.
async fn be_misconfigured(deployment: &mut Deployment) {
    for (name, value) in [
        ("DATABASE_URL", format!("mysql://u:{ANOTHER_TOKEN}@h/d")),
        ("DB_CRYPTO_KEYS", format!("[{{\"id\": \"a\", \"algo\": \"aes-256\", \"key\": \"{CRYPTO_KEY}x\"}}]")),
        (
            "STATIC_CLIENTS",
            format!("[{{\"clientId\": \"a b\", \"accessToken\": \"{ACCESS_TOKEN} \", \"scopes\": []}}]"),
        ),
        ("NOTIFY_SMTP_URL", format!("mail://u:{MAIL_PASSWORD}@h")),
        ("TASKCLUSTER_CERTIFICATE", format!("{{\"seed\": \"{ANOTHER_TOKEN}\"")),
        ("RABBIT_BASE_URL", format!("http://u:{FALLBACK_PASSWORD}@h")),
    ] {
        deployment.set(name, value);
    }
    for command in ["serve", "migrate", "claim", "monitor-rabbit"] {
        let arguments = if command == "claim" { vec![command, "taskcluster-a"] } else { vec![command] };
        assert_eq!(deployment.run(&arguments).await.code, Some(2), "{command}");
    }
}

async fn everything_that_can_happen(format: &str) {
    let mut deployment = deployment(format).await;
    run_everything(&mut deployment).await;
    let Side::Fake(fake) = &deployment.side else { panic!("the fake broker was asked for") };
    let hashes: Vec<_> = fake.state().users.values().map(|user| user.hash.as_str().to_owned()).collect();
    hashes.iter().filter(|hash| !hash.is_empty()).for_each(|hash| deployment.add_secret(hash));
    fake.down().await;
    fail_at_everything(&deployment, "taskcluster-down").await;
    be_echoed(&mut deployment).await;
    search_the_database(&deployment).await;
    miss_the_database(&mut deployment).await;
    be_misconfigured(&mut deployment).await;
}

#[tokio::test]
async fn no_secret_is_shown_to_anybody_by_logs_in_json() {
    everything_that_can_happen("json").await;
}

#[tokio::test]
async fn no_secret_is_shown_to_anybody_by_logs_for_humans() {
    everything_that_can_happen("human").await;
}

#[test]
fn a_secret_is_found_in_every_form() {
    let secrets = ["hunter2/\"".to_owned(), "canary/+ password".to_owned()];
    let in_base64 = STANDARD.encode("canary/+ password and more");
    for (text, line) in [
        ("a\nb hunter2/\" c\nd", Some("b hunter2/\" c")),
        (r#"{"a":"hunter2/\""}"#, Some(r#"{"a":"hunter2/\""}"#)),
        (r#"{"a":"{\"b\":\"hunter2/\\\"\"}"}"#, Some(r#"{"a":"{\"b\":\"hunter2/\\\"\"}"}"#)),
        ("https://u:canary%2F%2B%20password@h", Some("https://u:canary%2F%2B%20password@h")),
        (in_base64.as_str(), Some(in_base64.as_str())),
        ("hunter2 and canary/+", None),
    ] {
        assert_eq!(leak(&secrets, text), line, "{text}");
    }
}

#[tokio::test]
#[should_panic(expected = "a process wrote a secret: `a row`")]
async fn a_secret_that_is_shown_elsewhere_is_found() {
    let deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    deployment.add_secret("hunter2");
    deployment.shown("a row", "{\"password\": \"hunter2\"}");
}
