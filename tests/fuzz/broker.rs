//! What answers as the management API: whatever it sends, there is an answer or an error that can be logged.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use taskcluster_pulse::broker::management::{Account, ManagementApi, ManagementConfig};
use taskcluster_pulse::broker::{Broker, BrokerError};
use taskcluster_pulse::domain::inventory::QueueKind;
use taskcluster_pulse::domain::name::Permissions;
use taskcluster_pulse::secret::Password;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::driver::{Case, Random, assert_hides, cases};
use crate::support::fake_broker::{FakeBroker, Queue};

/// Two management accounts, one of them with a password that looks different in JSON.
const ACCOUNTS: [(&str, &str); 2] = [("boss", "canary-password"), ("deputy", "canary\"pass\\w\u{f6}rd")];
/// The longest error, in bytes: 300 of what the broker says, a name, and words of ours.
const LONGEST: usize = 1500;
const PARTS: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "Content-Length: 99999999999999999999\r\n",
    "null",
    "[",
    "{",
    "\"",
    "\\ud800",
    "1e999",
    "\u{0}",
    "Location: /\r\n",
];

/// A server that reads the head of each request, answers with the bytes that it is given, and hangs up.
struct Answering {
    api: ManagementApi,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Answering {
    async fn start() -> Answering {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_urls = vec![format!("http://{}", listener.local_addr().unwrap()).parse().unwrap()];
        let answer = Arc::new(Mutex::new(Vec::new()));
        let bytes = answer.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let bytes = bytes.clone();
                tokio::spawn(async move {
                    let _ = stream.read(&mut [0; 4096]).await;
                    let bytes: Vec<u8> = bytes.lock().unwrap().clone();
                    let _ = stream.write_all(&bytes).await;
                });
            }
        });
        let [account, fallback] = ACCOUNTS.map(|(username, password)| Account {
            username: username.to_owned(),
            password: Password::from_stored(password.to_owned()),
        });
        let (vhost, timeout) = ("/".to_owned(), Duration::from_secs(5));
        let config = ManagementConfig {
            base_urls,
            trust: Default::default(),
            account,
            fallback: Some(fallback),
            tokens: None,
            metrics: None,
            vhost,
            timeout,
            listing_timeout: timeout,
        };
        Answering { api: ManagementApi::new(config).unwrap(), answer }
    }

    /// Makes one of the calls, and gives its error.
    async fn call(&self, which: usize, name: &str) -> Option<BrokerError> {
        let (api, hash) = (&self.api, Password::from_stored("canary-amqp-password".into()).hash());
        let permissions = Permissions { configure: String::new(), write: String::new(), read: String::new() };
        let error = match which {
            0 => api.users().await.err(),
            1 => api.permissions().await.err(),
            2 => api.queues().await.err(),
            3 => api.queue(name).await.err(),
            4 => api.queue_owner(name).await.err(),
            5 => api.exchanges().await.err(),
            6 => api.connections().await.err(),
            7 => api.put_user(name, &hash, "taskcluster-pulse-a").await.err(),
            8 => api.put_permissions(name, &permissions).await.err(),
            9 => api.delete_user(name).await.err(),
            10 => api.close_connection(name, "a \u{e9} reason\r\nx: y").await.err(),
            _ => api.ping().await.err(),
        };
        let shown = error.as_ref().map(|error| format!("{error} {error:?}")).unwrap_or_default();
        assert_hides(&shown, &[hash.as_str()]);
        error
    }
}

/// Everything that an account's secret may look like in an answer that repeats it.
fn secrets() -> Vec<String> {
    let each = ACCOUNTS.iter().flat_map(|(username, password)| {
        let json = json!(password).to_string();
        [(*password).to_owned(), json[1..json.len() - 1].to_owned(), STANDARD.encode(format!("{username}:{password}"))]
    });
    each.collect()
}

#[track_caller]
fn assert_fit_for_the_log(error: &BrokerError) {
    let (text, secrets) = (error.to_string(), secrets());
    let secrets: Vec<_> = secrets.iter().map(String::as_str).collect();
    assert_hides(&text, &secrets);
    assert_hides(&format!("{error:?}"), &secrets);
    assert!(text.len() <= LONGEST, "{} bytes: {text}", text.len());
    assert!(!text.contains(char::is_control), "{text:?}");
}

/// A right answer to one of the calls.
fn body(random: &mut Random) -> Value {
    let item = json!({
        "name": "queue/taskcluster-a/q", "user": "u", "tags": ["a"], "password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30",
        "hashing_algorithm": "rabbit_password_hashing_sha256", "configure": "", "write": ".*", "read": ".*",
        "type": "classic", "exclusive": false, "messages": 7, "connected_at": 1_736_942_400_000_u64,
        "owner_pid_details": {"name": "c"}, "cluster_state": {"rabbit@a": "running"},
    });
    match random.below(5) {
        0 => item,
        1 => json!({"items": [item], "page": 1}),
        2 => json!({"error": "bad_request", "reason": "x"}),
        _ => json!([{"name": ""}, item, item]),
    }
}

fn answer(random: &mut Random) -> Vec<u8> {
    let right = body(random);
    let mut body = random.mutated_json(right).to_string().into_bytes();
    if random.once_in(3) {
        let secrets = secrets();
        let said = random.pick(&secrets.iter().map(String::as_str).collect::<Vec<_>>()).to_owned();
        let reason = match random.below(3) {
            0 => json!(["Authorization: Basic", said]),
            1 => json!({ "sent": said }),
            _ => json!(format!("{said} is wrong")),
        };
        body = json!({"error": "not_authorized", "reason": reason}).to_string().into_bytes();
    }
    if random.once_in(3) {
        body = random.mutated(&body, PARTS);
    }
    let status = random.pick(&[
        "200 OK",
        "200 OK",
        "201 Created",
        "204 No Content",
        "302 Found",
        "400 Bad",
        "401 No",
        "403 No",
        "404 Not Found",
        "405 No",
        "500 Oh",
        "503 Busy",
        "999 What",
    ]);
    let length = format!("Content-Length: {}\r\n", body.len());
    let length = if status.starts_with("204") || random.once_in(4) { "" } else { &length };
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n{length}\r\n");
    let bytes = [head.as_bytes(), &body].concat();
    if random.once_in(4) { random.mutated(&bytes, PARTS) } else { bytes }
}

#[tokio::test]
async fn whatever_the_broker_answers_is_read_or_refused_in_words_for_the_log() {
    let answering = Answering::start().await;
    for seed in cases(40) {
        let (running, mut random) = (Case::begin(seed), Random::new(seed));
        *answering.answer.lock().unwrap() = answer(&mut random);
        let name = random.mutated_text("queue/taskcluster-a/q", &["..", "/", "%2F", "?", "#", "\n", "canary"]);
        if let Some(error) = answering.call(random.below(12), &name[..name.floor_char_boundary(200)]).await {
            assert_fit_for_the_log(&error);
        }
        running.end();
    }
}

#[tokio::test]
async fn a_call_that_neither_account_may_make_is_named_once() {
    let answering = Answering::start().await;
    let (reason, name) = ("x".repeat(5000), "\0".repeat(200));
    let text = format!("HTTP/1.1 403 No\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{reason}", reason.len());
    *answering.answer.lock().unwrap() = text.into_bytes();
    let error = answering.call(9, &name).await.unwrap();
    assert_fit_for_the_log(&error);
    let told = error.to_string();
    assert_eq!(told.matches("DELETE users/").count(), 1, "{told}");
    assert_eq!(told.matches("403 xxx").count(), 2, "{told}");
}

#[tokio::test]
async fn a_broker_that_repeats_the_login_it_refuses_does_not_get_it_into_the_log() {
    let answering = Answering::start().await;
    for secret in secrets() {
        for reason in [json!(secret), json!([secret]), json!({ "authorization": format!("Basic {secret}") })] {
            for status in ["401 No", "400 Bad", "500 Oh"] {
                let body = json!({"error": "not_authorized", "reason": reason}).to_string();
                let text =
                    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                *answering.answer.lock().unwrap() = text.into_bytes();
                assert_fit_for_the_log(&answering.call(0, "").await.unwrap());
            }
        }
    }
}

#[tokio::test]
async fn every_name_reaches_the_broker_as_it_is() {
    let fake = FakeBroker::start().await;
    let api = ManagementApi::new(fake.config()).unwrap();
    for seed in cases(100) {
        let (running, mut random) = (Case::begin(seed), Random::new(seed));
        let name = random.mutated_text("queue/taskcluster-a/q", &["/", "%2F", "?", "#", "+", "&", ";", " ", "..", "é"]);
        if !matches!(name.as_str(), "" | "." | "..") && name.len() < 4000 {
            let queue = Queue { kind: QueueKind::Classic, messages: 7, owner: None };
            fake.state().queues.insert(name.clone(), queue);
            assert_eq!(api.queue(&name).await.unwrap().map(|queue| queue.name), Some(name.clone()));
            let deleted = api.delete_queue(&name).await;
            // RabbitMQ would delete another one.
            let refused = name.contains(['\n', '\r']);
            assert_eq!((deleted.is_err(), fake.state().queues.is_empty()), (refused, !refused), "{name:?}");
            fake.state().queues.clear();
        }
        running.end();
    }
}
