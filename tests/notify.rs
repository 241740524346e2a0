//! Telling owners: the words of every event, Taskcluster's notify service at the wire, and SMTP conversations.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use taskcluster_pulse::clock::{Clock, Timestamp};
use taskcluster_pulse::domain::ladder::{Measure, Topic};
use taskcluster_pulse::domain::name::Name;
use taskcluster_pulse::domain::notice::{About, Event, Notice, Trouble};
use taskcluster_pulse::domain::verdict::Kind;
use taskcluster_pulse::hawk::{self, Artifacts};
use taskcluster_pulse::notify::log::Log;
use taskcluster_pulse::notify::paced::Paced;
use taskcluster_pulse::notify::smtp::Smtp;
use taskcluster_pulse::notify::taskcluster::NotifyService;
use taskcluster_pulse::notify::{Notifier, NotifyError, digest, html, message};
use taskcluster_pulse::taskcluster::{ClientCredentials, RetryPolicy, Taskcluster, TaskclusterError};
use taskcluster_pulse::tls::Trust;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::authority::Authority;

/// Every secret of these tests holds this word, and nothing that is shown may.
const CANARY: &str = "canary";
const TOKEN: &str = "canary-access-token";
const PASSWORD: &str = "canary-password";

/// The password as SMTP sends it.
fn sent_password() -> String {
    STANDARD.encode(format!("\0pulse\0{PASSWORD}"))
}

/// Fails where `shown` holds a secret, in clear or as it is sent.
fn assert_no_secret(shown: &str) {
    assert!(!shown.contains(CANARY) && !shown.contains(&sent_password()), "a secret is shown: {shown}");
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn notice(event: &Event) -> Notice {
    let namespace = Name::from_stored("taskcluster-x".into());
    let id = "0b8ff2f4-6b1a-4d5e-9c59-2c9d3d7c3a11".to_owned();
    message::notice(&namespace, "owner@example.com", event, id, at("2026-12-01T06:00:05Z"))
}

fn trouble(topic: Topic, cause: Kind, verdict: &str) -> Trouble {
    Trouble {
        exempt: None,
        queue: "queue/taskcluster-x/jobs".into(),
        topic,
        cause,
        verdict: verdict.into(),
        messages: 4321,
        unacked: 0,
        consumers: Some(0),
        hourly: Some(1200),
        holders: vec![],
        forecast: None,
        removal: None,
        measure: Measure::Delete,
        alert_threshold: 4000,
        delete_threshold: 8000,
        at: at("2026-12-01T06:00:00Z"),
    }
}

fn growing() -> Event {
    Event::QueueTrouble(Trouble {
        queue: "queue/taskcluster-x/<b>*_[]".into(),
        forecast: Some("reaches 8,000 messages at about 09:04 UTC (08:30 UTC to 10:15 UTC)".into()),
        removal: Some(at("2026-12-01T08:40:00Z")),
        ..trouble(Topic::Warning, Kind::NoConsumer, "no consumer since 05:52 UTC")
    })
}

fn any_notice() -> Notice {
    notice(&growing())
}

fn assert_permanent<T: Debug>(outcome: Result<T, NotifyError>, words: &str) {
    assert!(matches!(&outcome, Err(NotifyError::Permanent(why)) if why.contains(words)), "{outcome:?}");
}

fn assert_temporary<T: Debug>(outcome: Result<T, NotifyError>, words: &str) {
    assert!(matches!(&outcome, Err(NotifyError::Temporary(why)) if why.contains(words)), "{outcome:?}");
}

// ---- Words ------------------------------------------------------------------------------------------------------------

/// Compares with the file, or writes it where the environment says `UPDATE_GOLDEN=1`.
fn assert_golden(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/notices").join(file);
    if std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{file} differs; UPDATE_GOLDEN=1 rewrites it");
}

/// One event for each golden file.
fn golden_events() -> Vec<(&'static str, Event)> {
    let (queue, seen) = (|| "queue/taskcluster-x/jobs".to_owned(), at("2026-12-01T06:00:00Z"));
    let long = Trouble {
        queue: format!("queue/taskcluster-x/{}/end", "long-".repeat(46)),
        hourly: None,
        consumers: None,
        ..trouble(Topic::Reminder, Kind::Fine, "fine: 4,321 messages")
    };
    let hoarding = Trouble {
        unacked: 4300,
        consumers: Some(2),
        hourly: Some(0),
        holders: vec!["10.0.0.7:41234 of taskcluster-x-1, without a prefetch limit".into()],
        ..trouble(Topic::Change, Kind::Hoarding, "2 consumers hold 4,300 messages without acknowledging any")
    };
    let last_call = trouble(Topic::LastCall, Kind::Stopped, "its one consumer acknowledged nothing since 04:00 UTC");
    let only_warned =
        Trouble { measure: Measure::Warn, hourly: Some(-5), ..trouble(Topic::Warning, Kind::Looping, "loops") };
    let normal = Trouble { messages: 12, ..trouble(Topic::Normal, Kind::NoConsumer, "fine: 12 messages") };
    let connection = "10.0.0.7:41234 -> 10.0.0.1:5672 of taskcluster-x-1".to_owned();
    let closed = |kept_out| Event::HoarderClosed {
        queue: queue(),
        connection: connection.clone(),
        messages: 4300,
        kept_out,
        at: seen,
    };
    let why = "it is exclusive, and the connection that owns it can't be found".to_owned();
    let few = vec![(queue(), 1), ("queue/taskcluster-x/b`c".into(), 1234)];
    let many = (0..30).map(|i| (format!("queue/taskcluster-x/{i}"), i * i * i)).collect();
    let expires = at("2026-12-02T00:00:00Z");
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let ending = |expires: Timestamp| Event::AccountEnding {
        expires,
        used: expires.minus(days(365)),
        lifetime: days(365),
        at: seen,
    };
    let addresses = vec![("10.0.0.7".to_owned(), seen), ("fe80::1".to_owned(), seen)];
    let in_use = Event::AdoptedInUse { user: "jo`e".into(), addresses, retire_after: days(30), at: seen };
    vec![
        ("queue-no-consumer", growing()),
        ("queue-still-large", Event::QueueTrouble(long)),
        ("queue-hoarding", Event::QueueTrouble(hoarding)),
        ("queue-last-call", Event::QueueTrouble(last_call)),
        ("queue-only-warned", Event::QueueTrouble(only_warned)),
        ("hoarder-closed", closed(false)),
        ("hoarder-kept-out", closed(true)),
        ("queue-emptied", Event::QueueEmptied { queue: queue(), messages: 8123, delete_threshold: 8000, at: seen }),
        ("queue-deleted", Event::QueueDeleted { queue: queue(), messages: 8123, delete_threshold: 8000, at: seen }),
        ("queue-deletion-failed", Event::QueueDeletionFailed { queue: queue(), messages: 8123, why, at: seen }),
        ("queue-normal", Event::QueueTrouble(normal)),
        ("namespace-expiring", Event::NamespaceExpiring { expires, queues: few, at: seen }),
        ("namespace-expiring-many-queues", Event::NamespaceExpiring { expires, queues: many, at: seen }),
        ("account-ending", ending(expires)),
        ("account-ending-in-hours", ending(at("2026-12-01T09:00:00Z"))),
        ("adopted-user-in-use", in_use),
        ("adopted-user-retired", Event::AdoptedRetired { user: "jo`e".into(), used: Some(expires), at: seen }),
        (
            "exemption-asked",
            Event::ExemptionAsked {
                queue: "queue/taskcluster-x/`a`*".into(),
                terms: "up to 50,000 messages, until 2026-12-05 00:00 UTC".into(),
                reason: "a `backlog`\nafter the move".into(),
                by: "person you@example.com".into(),
                at: seen,
            },
        ),
        (
            "exemption-granted",
            Event::ExemptionDecided {
                queue: "queue/taskcluster-x/a".into(),
                granted: Some("without a bound".into()),
                reason: "a backlog".into(),
                by: "person boss@example.com".into(),
                at: seen,
            },
        ),
        (
            "exemption-refused",
            Event::ExemptionDecided {
                queue: "queue/taskcluster-x/a".into(),
                granted: None,
                reason: "use a stream".into(),
                by: "person boss@example.com".into(),
                at: seen,
            },
        ),
        ("namespace-expired", Event::NamespaceExpired { expires, at: at("2026-12-02T01:00:00Z") }),
    ]
}

#[test]
fn every_event_has_the_words_of_its_golden_file() {
    for (file, event) in golden_events() {
        let notice = notice(&event);
        assert!(notice.subject.chars().count() <= 255, "{file}");
        assert_golden(&format!("{file}.txt"), &format!("Subject: {}\n\n{}", notice.subject, notice.text));
    }
}

/// Notices of many queues, as they are stored one after the other.
fn many() -> Vec<Notice> {
    let seen = at("2026-12-01T06:00:00Z");
    let of = |queue: &str, messages, removal: Option<&str>, topic, cause, verdict: &str| {
        let queue = format!("queue/taskcluster-x/{queue}");
        let removal = removal.map(at);
        Event::QueueTrouble(Trouble { queue, messages, removal, ..trouble(topic, cause, verdict) })
    };
    let dead = "no consumer since 05:52 UTC";
    let slow = "it gains 1,200 an hour although it is read";
    let removed = |queue: &str| Event::QueueDeleted {
        queue: format!("queue/taskcluster-x/{queue}"),
        messages: 8123,
        delete_threshold: 8000,
        at: seen,
    };
    let events = [
        of("jobs", 4321, None, Topic::Warning, Kind::NoConsumer, dead),
        of("events", 9100, Some("2026-12-01T06:15:00Z"), Topic::Warning, Kind::NoConsumer, dead),
        of(
            "a `b` <c>",
            41_200,
            Some("2026-12-01T06:15:00Z"),
            Topic::LastCall,
            Kind::Stopped,
            "acknowledged nothing since 04:00 UTC",
        ),
        of("slow", 4800, Some("2026-12-01T09:00:00Z"), Topic::Reminder, Kind::Slow, slow),
        of("again", 5000, None, Topic::Warning, Kind::NoConsumer, dead),
        of("again", 12, None, Topic::Normal, Kind::NoConsumer, "fine"),
        removed("gone"),
    ];
    let stored = |(number, event): (u8, Event)| {
        let namespace = Name::from_stored(if number == 3 { "taskcluster-y" } else { "taskcluster-x" }.into());
        let now = at("2026-12-01T06:00:05Z").plus(Duration::from_secs(number.into()));
        let queue = event.queue().unwrap().to_owned();
        let notice = message::notice(&namespace, "owner@example.com", &event, format!("id-{number}"), now);
        Notice { about: Some(About { queue, first_seen: seen, told: None }), ..notice }
    };
    (0..).zip(events).map(stored).collect()
}

#[test]
fn one_message_tells_of_many_queues_and_names_each() {
    let digest = digest::digest(&many()).unwrap();
    assert_eq!(digest.instead_of, ["id-0", "id-1", "id-2", "id-3", "id-4", "id-5", "id-6"]);
    assert_golden("digest.txt", &format!("Subject: {}\n\n{}", digest.subject, digest.text));
    assert_golden("digest.html", &html::document(&digest));
    let (mut other_way, removed) = (many(), many().split_off(6));
    other_way.reverse();
    assert_eq!(digest::digest(&other_way).unwrap().id, digest.id);
    let over = digest::digest(&[many().split_off(5), removed].concat()).unwrap();
    assert!(
        over.text.contains("**What will happen:** nothing more.") && !over.text.contains("What to do"),
        "{}",
        over.text
    );
}

#[test]
fn few_are_told_one_by_one_and_very_many_in_several_messages_that_leave_none_out() {
    let sizes = |notices: Vec<Notice>| digest::together(notices).iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes(many().split_off(3)), [1, 1, 1, 1]);
    let alone =
        notice(&Event::NamespaceExpired { expires: at("2026-12-02T00:00:00Z"), at: at("2026-12-02T01:00:00Z") });
    assert_eq!(sizes([many(), vec![alone]].concat()), [1, 7]);
    // The longest names that there are, of characters that take the most room.
    let long = |number: usize| {
        let queue = format!("queue/taskcluster-x/{number:03}{}", "\u{1}".repeat(232));
        let event = Event::QueueTrouble(Trouble {
            queue: queue.clone(),
            ..trouble(Topic::Warning, Kind::NoConsumer, "no consumer")
        });
        let about = About { queue, first_seen: at("2026-12-01T06:00:00Z"), told: None };
        Notice { id: number.to_string(), about: Some(about), ..notice(&event) }
    };
    for (name, count) in [("usual", 1), ("long", 4)] {
        let notices = (0..digest::MOST).map(|number| match name {
            "long" => long(number),
            _ => Notice { id: number.to_string(), ..any_notice() },
        });
        let lists = digest::together(notices.collect());
        assert_eq!(lists.len(), count, "{name}");
        for list in &lists {
            let digest = digest::digest(list).unwrap();
            assert!(digest.text.chars().count() <= 102_400 && digest.subject.chars().count() <= 255);
            assert!(list.iter().all(|notice| digest.text.contains(&notice.brief.as_ref().unwrap().lines[0])));
        }
        assert_eq!(lists.concat().len(), digest::MOST);
    }
    assert_eq!(sizes(vec![any_notice(); 301]), [200, 101]);
}

#[test]
fn a_message_becomes_a_whole_html_document_in_which_names_are_text() {
    assert_golden("queue-no-consumer.html", &html::document(&any_notice()));
    let mut forged = any_notice();
    forged.subject = "</title><script>".into();
    forged.text = "<script>x</script> [a](javascript:x) ![b](http://x) <http://x> &lt;i&gt;\n\n# c\n\n<div>\n".into();
    let shown = html::document(&forged);
    for markup in ["<script", "<a ", "<img", "<h1", "<div", "<i>"] {
        assert!(!shown.contains(markup), "{markup} in {shown}");
    }
}

#[test]
fn the_same_thing_at_another_time_has_other_words() {
    let words = |at| {
        let trouble = Trouble { at, ..trouble(Topic::Normal, Kind::NoConsumer, "fine") };
        notice(&Event::QueueTrouble(trouble)).text
    };
    assert_ne!(words(at("2026-12-01T06:00:00Z")), words(at("2026-12-01T07:00:00Z")));
}

// ---- Taskcluster's notify service -------------------------------------------------------------------------------------

struct Fixed(Timestamp);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// The time of every call.
fn clock() -> Arc<Fixed> {
    Arc::new(Fixed(at("2026-12-01T06:00:07.9Z")))
}

/// As in production, but without pauses.
fn limits() -> RetryPolicy {
    RetryPolicy { base_delay: Duration::ZERO, ..RetryPolicy::default() }
}

/// What the fake service answers to one request.
#[derive(Clone)]
enum Answer {
    Json(u16, String),
    Text(u16, &'static str),
    Hang,
}

impl Answer {
    fn error(status: u16, code: &str) -> Answer {
        let body = json!({"code": code, "message": "The reason.\n\n---\n\n* method:     email"});
        Answer::Json(status, body.to_string())
    }
}

/// One request that the fake service got.
struct Request {
    method: Method,
    uri: Uri,
    content_type: String,
    body: Value,
    /// The attributes of the `Authorization` header.
    hawk: Vec<(String, String)>,
    /// Whether its MAC and payload hash are right.
    genuine: bool,
}

impl Request {
    fn hawk(&self, name: &str) -> &str {
        attribute(&self.hawk, name)
    }
}

fn attribute<'a>(attributes: &'a [(String, String)], name: &str) -> &'a str {
    attributes.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
}

/// A service that gives the answers it was told in order, the last one for ever.
struct Fake {
    answers: Mutex<VecDeque<Answer>>,
    requests: Mutex<Vec<Request>>,
    address: SocketAddr,
}

impl Fake {
    async fn start(answers: impl IntoIterator<Item = Answer>) -> Arc<Fake> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Arc::new(Fake {
            answers: Mutex::new(answers.into_iter().collect()),
            requests: Mutex::default(),
            address: listener.local_addr().unwrap(),
        });
        let router = Router::new().fallback(answer).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    fn client(&self, limits: RetryPolicy, certificate: Option<&Value>) -> Taskcluster {
        let root = format!("http://{}/prefix//", self.address).parse().unwrap();
        let certificate = certificate.map(Value::to_string);
        let credentials =
            ClientCredentials { client_id: "static/pulse".into(), access_token: TOKEN.into(), certificate };
        Taskcluster::new(root, Some(credentials), clock(), limits).unwrap()
    }

    async fn deliver(&self, limits: RetryPolicy) -> Result<(), NotifyError> {
        let service = NotifyService::new(self.client(limits, None));
        let outcome = service.deliver(&any_notice()).await;
        assert_no_secret(&format!("{outcome:?}"));
        outcome
    }

    fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    fn next_answer(&self) -> Answer {
        let mut answers = self.answers.lock().unwrap();
        let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        next.expect("the fake service was told an answer")
    }
}

async fn answer(State(fake): State<Arc<Fake>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let hawk: Vec<(String, String)> = text("authorization")
        .strip_prefix("Hawk ")
        .unwrap_or_default()
        .split(", ")
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
        .collect();
    let content_type = text("content-type");
    let hash = if body.is_empty() { String::new() } else { hawk::payload_hash(&content_type, &body) };
    let artifacts = Artifacts {
        ts: attribute(&hawk, "ts"),
        nonce: attribute(&hawk, "nonce"),
        method: method.as_str(),
        resource: uri.path_and_query().unwrap().as_str(),
        host: "127.0.0.1",
        port: fake.address.port(),
        hash: &hash,
        ext: attribute(&hawk, "ext"),
        app: None,
    };
    let genuine = attribute(&hawk, "mac") == hawk::mac(hawk::Kind::Header, TOKEN, &artifacts)
        && attribute(&hawk, "hash") == hash
        && attribute(&hawk, "id") == "static/pulse";
    let body = serde_json::from_slice(&body).unwrap_or_default();
    fake.requests.lock().unwrap().push(Request { method, uri, content_type, body, hawk, genuine });
    let status = |status| StatusCode::from_u16(status).unwrap();
    match fake.next_answer() {
        // No answer is to be followed anywhere.
        Answer::Json(code, body) => {
            (status(code), [("content-type", "application/json"), ("location", "/elsewhere")], body).into_response()
        }
        Answer::Text(code, body) => (status(code), body).into_response(),
        Answer::Hang => pending().await,
    }
}

#[tokio::test]
async fn a_message_is_posted_to_the_notify_service_with_a_genuine_signature() {
    let fake = Fake::start([Answer::Text(200, "OK")]).await;
    fake.deliver(limits()).await.unwrap();
    let requests = fake.requests.lock().unwrap();
    let [request] = requests.as_slice() else { panic!("{} requests", requests.len()) };
    assert!(request.genuine, "{:?}", request.hawk);
    assert_eq!((&request.method, request.uri.to_string().as_str()), (&Method::POST, "/prefix/api/notify/v1/email"));
    assert_eq!(request.hawk("ts"), (at("2026-12-01T06:00:07Z").millis() / 1000).to_string());
    assert_eq!(request.content_type, "application/json");
    let notice = any_notice();
    assert_eq!(request.body, json!({"address": notice.to, "subject": notice.subject, "content": notice.text}));
}

/// It doesn't say whether it sent the same before, or too many to that address, or was told to send nothing there.
#[tokio::test]
async fn a_message_that_tells_of_many_queues_is_posted_to_the_notify_service_as_one() {
    let fake = Fake::start([Answer::Json(200, "{}".into())]).await;
    let digest = digest::digest(&many()).unwrap();
    NotifyService::new(fake.client(limits(), None)).deliver(&digest).await.unwrap();
    let requests = fake.requests.lock().unwrap();
    assert_eq!(requests.len(), 1);
    let posted = json!({"address": "owner@example.com", "subject": digest.subject, "content": digest.text});
    assert_eq!(requests[0].body, posted);
}

#[tokio::test]
async fn an_e_mail_that_the_notify_service_withholds_is_not_delivered() {
    for status in [204, 202] {
        let fake = Fake::start([Answer::Text(status, ""), Answer::Text(200, "OK")]).await;
        assert_temporary(fake.deliver(limits()).await, "withheld");
        assert_eq!(fake.count(), 1);
        fake.deliver(limits()).await.unwrap();
    }
}

/// What is more than 50 in ten minutes, the notify service would drop without a word.
async fn assert_paced<N: Notifier>(way: N) {
    let way = Paced::new(way, clock());
    for at in 0..25 {
        let to = if at % 2 == 0 { "owner@example.com" } else { "Owner@Example.com" };
        way.deliver(&Notice { to: to.into(), ..any_notice() }).await.unwrap();
    }
    let refused = way.deliver(&any_notice()).await.unwrap_err();
    assert!(matches!(refused, NotifyError::TooMany(wait) if wait == Duration::from_secs(600)), "{refused}");
    way.deliver(&Notice { to: "other@example.com".into(), ..any_notice() }).await.unwrap();
}

#[tokio::test]
async fn one_address_gets_no_more_e_mails_than_two_processes_may_send_and_others_get_theirs() {
    let fake = Fake::start([Answer::Text(200, "OK")]).await;
    assert_paced(NotifyService::new(fake.client(limits(), None))).await;
    assert_eq!(fake.count(), 26);
    let server = MailServer::start(Manners::default()).await;
    assert_paced(server.smtp("smtp://", "?tls=none", "")).await;
    assert_eq!(server.emails().len(), 26);
}

#[tokio::test]
async fn an_address_that_the_notify_service_refuses_is_refused_for_good() {
    for code in ["DenylistedAddress", "InputValidationError"] {
        let fake = Fake::start([Answer::error(400, code)]).await;
        assert_permanent(fake.deliver(limits()).await, &format!("400 {code}: The reason."));
        assert_eq!(fake.count(), 1);
    }
}

#[tokio::test]
async fn any_other_refusal_is_tried_again_later_and_not_at_once() {
    for (status, code) in [
        (400, "InputError"),
        (401, "AuthenticationFailed"),
        (403, "InsufficientScopes"),
        (404, "ResourceNotFound"),
        (429, "TooManyRequests"),
        (301, "Moved"),
    ] {
        let fake = Fake::start([Answer::error(status, code)]).await;
        assert_temporary(fake.deliver(limits()).await, &format!("{status} {code}: The reason."));
        assert_eq!(fake.count(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_service_that_recovers_is_called_until_it_does_and_each_attempt_is_signed_afresh() {
    let failures = [500, 502, 503, 500, 504].map(|status| Answer::Text(status, "<html>"));
    let fake = Fake::start(failures.into_iter().chain([Answer::Text(200, "OK")])).await;
    fake.deliver(limits()).await.unwrap();
    let requests = fake.requests.lock().unwrap();
    assert!(requests.iter().all(|request| request.genuine));
    let mut nonces: Vec<&str> = requests.iter().map(|request| request.hawk("nonce")).collect();
    nonces.sort_unstable();
    nonces.dedup();
    assert_eq!((requests.len(), nonces.len()), (6, 6));
}

#[tokio::test]
async fn a_service_that_stays_broken_is_called_six_times() {
    let fake = Fake::start([Answer::Text(500, "<html>")]).await;
    let words = "the notify service answered 500 UnknownError: Internal Server Error";
    assert_temporary(fake.deliver(limits()).await, words);
    assert_eq!(fake.count(), 6);
}

#[tokio::test]
async fn a_service_that_hangs_is_given_up_after_the_time_out() {
    let fake = Fake::start([Answer::Hang]).await;
    let begin = Instant::now();
    let limits = RetryPolicy { timeout: Duration::from_millis(200), retries: 1, ..limits() };
    assert_temporary(fake.deliver(limits).await, "the notify service can't be reached");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!(fake.count(), 2);
}

#[tokio::test]
async fn a_connection_that_breaks_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let root = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let server = tokio::spawn(async move {
        for _ in 0..3 {
            drop(listener.accept().await.unwrap());
        }
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).await.unwrap();
        }
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}";
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    let taskcluster = Taskcluster::new(root, None, clock(), limits()).unwrap();
    let reply = taskcluster.call(Method::GET, "pulse", "ping", None).await.unwrap();
    assert_eq!((reply.status, reply.body), (200, json!({})));
    server.await.unwrap();
}

#[tokio::test]
async fn temporary_credentials_bring_their_certificate_along() {
    let fake = Fake::start([Answer::Json(200, r#"{"alive":true}"#.into())]).await;
    let certificate = json!({"version": 1, "seed": "canary"});
    let taskcluster = fake.client(limits(), Some(&certificate));
    assert_no_secret(&format!("{taskcluster:?}"));
    let reply = taskcluster.call(Method::GET, "pulse", "namespaces?limit=3", None).await.unwrap();
    assert_eq!(reply.body, json!({"alive": true}));
    let requests = fake.requests.lock().unwrap();
    assert!(requests[0].genuine);
    let ext: Value = serde_json::from_slice(&STANDARD.decode(requests[0].hawk("ext")).unwrap()).unwrap();
    assert_eq!(ext, json!({"certificate": certificate}));
}

#[tokio::test]
async fn without_credentials_a_call_is_not_signed() {
    let fake = Fake::start([Answer::Text(200, "OK")]).await;
    let root = format!("http://{}", fake.address).parse().unwrap();
    let taskcluster = Taskcluster::new(root, None, clock(), limits()).unwrap();
    let reply = taskcluster.call(Method::GET, "pulse", "ping", None).await.unwrap();
    assert_eq!((reply.status, reply.body), (200, Value::Null));
    assert!(fake.requests.lock().unwrap()[0].hawk.is_empty());
}

#[tokio::test]
async fn an_answer_that_says_json_and_is_none_is_an_error() {
    let fake = Fake::start([Answer::Json(200, "{".into())]).await;
    let error = fake.client(limits(), None).call(Method::GET, "pulse", "ping", None).await.unwrap_err();
    assert!(matches!(error, TaskclusterError::Garbled { .. }), "{error}");
    assert_eq!(fake.count(), 1);
}

// ---- SMTP -------------------------------------------------------------------------------------------------------------

/// How the mail server behaves where it doesn't simply say yes.
#[derive(Clone, Default)]
struct Manners {
    /// A command, and what it answers to it.
    says: Option<(&'static str, &'static str)>,
    /// The command that it never answers; `CONNECT` for the connection itself.
    hangs_at: Option<&'static str>,
    /// The extensions that it offers.
    offers: &'static [&'static str],
    /// Speaks TLS: after STARTTLS where it offers that, else from the start.
    tls: Option<TlsAcceptor>,
}

/// What the mail server was told.
#[derive(Default)]
struct Heard {
    /// Each command, and whether it came encrypted.
    commands: Vec<(String, bool)>,
    emails: Vec<String>,
}

struct MailServer {
    port: u16,
    heard: Arc<Mutex<Heard>>,
}

impl MailServer {
    async fn start(manners: Manners) -> MailServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = MailServer { port: listener.local_addr().unwrap().port(), heard: Arc::default() };
        let heard = server.heard.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that hangs up is no failure of the server.
                let _ = serve(stream, &manners, &heard).await;
            }
        });
        server
    }

    /// Delivers by the URL `<scheme>localhost:<port><query>`.
    async fn deliver(&self, scheme: &str, query: &str) -> Result<(), NotifyError> {
        self.deliver_to("owner@example.com", scheme, query).await
    }

    async fn deliver_to(&self, to: &str, scheme: &str, query: &str) -> Result<(), NotifyError> {
        let smtp = self.smtp(scheme, query, "");
        let outcome = smtp.deliver(&Notice { to: to.into(), ..any_notice() }).await;
        assert_no_secret(&format!("{outcome:?} {smtp:?}"));
        outcome
    }

    fn smtp(&self, scheme: &str, query: &str, ehlo_name: &str) -> Smtp {
        let url = format!("{scheme}localhost:{}{query}", self.port);
        Smtp::new(&url, "Pulse <pulse@tc.example.com>", ehlo_name, Duration::from_secs(1), &Trust::default()).unwrap()
    }

    /// Delivers where a private authority is trusted instead of those of the system.
    async fn deliver_trusting(&self, ca: &Path, scheme: &str) -> Result<(), NotifyError> {
        let none = Path::new("");
        let (url, trust) = (format!("{scheme}localhost:{}", self.port), Trust::read(ca, none, none).unwrap());
        let smtp = Smtp::new(&url, "Pulse <pulse@tc.example.com>", "", Duration::from_secs(20), &trust).unwrap();
        smtp.deliver(&any_notice()).await
    }

    /// The verbs of the commands it got.
    fn verbs(&self) -> Vec<String> {
        self.heard.lock().unwrap().commands.iter().map(|(command, _)| verb(command)).collect()
    }

    fn emails(&self) -> Vec<String> {
        self.heard.lock().unwrap().emails.clone()
    }
}

fn verb(command: &str) -> String {
    command.split(' ').next().unwrap_or_default().to_owned()
}

async fn serve(stream: TcpStream, manners: &Manners, heard: &Mutex<Heard>) -> io::Result<()> {
    let Some(tls) = &manners.tls else { return converse(stream, true, false, manners, heard).await.map(drop) };
    if !manners.offers.contains(&"STARTTLS") {
        return converse(tls.accept(stream).await?, true, true, manners, heard).await.map(drop);
    }
    let Some(stream) = converse(stream, true, false, manners, heard).await? else { return Ok(()) };
    let encrypted = Manners { offers: &["AUTH PLAIN"], ..manners.clone() };
    converse(tls.accept(stream).await?, false, true, &encrypted, heard).await.map(drop)
}

/// One conversation; it gives the stream back for TLS after STARTTLS.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    greets: bool,
    encrypted: bool,
    manners: &Manners,
    heard: &Mutex<Heard>,
) -> io::Result<Option<S>> {
    let mut stream = BufReader::new(stream);
    if manners.hangs_at == Some("CONNECT") {
        pending::<()>().await;
    }
    if greets {
        let greeting = manners.says.filter(|(at, _)| *at == "CONNECT").map_or("220 mail.example.com", |(_, says)| says);
        say(&mut stream, greeting).await?;
    }
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let command = line.trim_end().to_owned();
        let verb = verb(&command);
        heard.lock().unwrap().commands.push((command, encrypted));
        if manners.hangs_at == Some(verb.as_str()) {
            pending::<()>().await;
        }
        let reply = reply(&verb, manners);
        say(&mut stream, &reply).await?;
        match verb.as_str() {
            "DATA" if reply.starts_with('3') => read_email(&mut stream, manners, heard).await?,
            "STARTTLS" if reply.starts_with('2') => return Ok(Some(stream.into_inner())),
            "QUIT" => return Ok(None),
            _ => (),
        }
    }
}

fn reply(verb: &str, manners: &Manners) -> String {
    if let Some((at, reply)) = manners.says
        && at == verb
    {
        return reply.to_owned();
    }
    match verb {
        "EHLO" => {
            let offers: String = manners.offers.iter().map(|offer| format!("250-{offer}\r\n")).collect();
            format!("250-mail.example.com\r\n{offers}250 HELP")
        }
        "AUTH" => "235 hello".to_owned(),
        "STARTTLS" => "220 go on".to_owned(),
        "DATA" => "354 go on".to_owned(),
        "QUIT" => "221 bye".to_owned(),
        _ => "250 fine".to_owned(),
    }
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, reply: &str) -> io::Result<()> {
    stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
    stream.flush().await
}

/// Reads up to the dot that ends an e-mail, and answers it as the command `.`.
async fn read_email<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    manners: &Manners,
    heard: &Mutex<Heard>,
) -> io::Result<()> {
    let mut email = String::new();
    while !email.ends_with("\r\n.\r\n") {
        if stream.read_line(&mut email).await? == 0 {
            return Ok(());
        }
    }
    heard.lock().unwrap().emails.push(email);
    say(stream, &reply(".", manners)).await
}

#[tokio::test]
async fn an_e_mail_has_plain_text_and_html_and_says_that_a_program_sent_it() {
    let server = MailServer::start(Manners::default()).await;
    server.deliver("smtp://", "?tls=none").await.unwrap();
    assert_eq!(server.verbs(), ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]);
    let emails = server.emails();
    let [email] = emails.as_slice() else { panic!("{} e-mails", emails.len()) };
    for part in [
        "From: Pulse <pulse@tc.example.com>\r\n",
        "To: owner@example.com\r\n",
        "Date: Tue, 01 Dec 2026 06:00:05 +0000\r\n",
        "Message-ID: <0b8ff2f4-6b1a-4d5e-9c59-2c9d3d7c3a11@tc.example.com>\r\n",
        "Auto-Submitted: auto-generated\r\n",
        "MIME-Version: 1.0\r\n",
        "Content-Type: multipart/alternative;",
        "Content-Type: text/plain; charset=utf-8\r\n",
        "Content-Type: text/html; charset=utf-8\r\n",
        "* Queue: `queue/taskcluster-x/<b>*_[]`\r\n",
        "<code>queue/taskcluster-x/&lt;b&gt;*_[]</code>",
    ] {
        assert!(email.contains(part), "no {part} in\n{email}");
    }
    let (plain, html) = (email.find("text/plain").unwrap(), email.find("text/html").unwrap());
    assert!(plain < html, "the last part is the one that readers prefer");
}

#[tokio::test]
async fn a_second_delivery_can_be_recognised() {
    let server = MailServer::start(Manners::default()).await;
    for _ in 0..2 {
        server.deliver("smtp://", "?tls=none").await.unwrap();
    }
    let lines = |email: &String| {
        let kept = |line: &&str| line.starts_with("Message-ID: ") || line.starts_with("Date: ");
        email.lines().filter(kept).map(str::to_owned).collect::<Vec<_>>()
    };
    let emails = server.emails();
    assert_eq!(lines(&emails[0]).len(), 2);
    assert_eq!(lines(&emails[0]), lines(&emails[1]));
}

#[tokio::test]
async fn messages_about_one_queue_are_a_thread_and_those_about_many_another() {
    let server = MailServer::start(Manners::default()).await;
    let smtp = server.smtp("smtp://", "?tls=none", "");
    let notices = many();
    let again = Notice { id: "later".into(), ..notices[4].clone() };
    let digests = [digest::digest(&notices).unwrap(), digest::digest(&notices[1..]).unwrap()];
    for notice in [&notices[0], &notices[4], &again].into_iter().chain(&digests) {
        smtp.deliver(notice).await.unwrap();
    }
    let header = |email: &String, name: &str| {
        let mut found = email.lines().filter_map(|line| line.strip_prefix(name).map(str::to_owned));
        (found.next().unwrap_or_default(), found.count())
    };
    let emails = server.emails();
    let threads: Vec<_> = emails.iter().map(|email| header(email, "References: ").0).collect();
    assert!(threads.iter().all(|thread| thread.ends_with("@tc.example.com>")), "{threads:?}");
    assert_ne!(threads[0], threads[1]);
    assert_eq!(threads[1], threads[2], "a later one belongs to its queue, whatever told of it before");
    assert_eq!(threads[3], threads[4]);
    assert!(threads[3].starts_with("<queues-") && threads[0].starts_with("<queue-"), "{threads:?}");
    let ids: std::collections::BTreeSet<_> = emails.iter().map(|email| header(email, "Message-ID: ").0).collect();
    assert_eq!(ids.len(), 5);
    // What may become the warning of a removal can't be unsubscribed from.
    assert!(emails.iter().all(|email| !email.to_lowercase().contains("unsubscribe")));
}

#[tokio::test]
async fn an_account_is_logged_in_before_anything_is_sent() {
    let server = MailServer::start(Manners { offers: &["AUTH LOGIN PLAIN"], ..Manners::default() }).await;
    let outcome = server.deliver(&format!("smtp://pulse:{PASSWORD}@"), "?tls=none").await;
    outcome.unwrap();
    assert_eq!(server.verbs(), ["EHLO", "AUTH", "MAIL", "RCPT", "DATA", "QUIT"]);
    assert_eq!(server.heard.lock().unwrap().commands[1].0, format!("AUTH PLAIN {}", sent_password()));
}

#[tokio::test]
async fn a_refused_account_loses_no_message_and_shows_no_password() {
    let echo: &'static str = format!("535 5.7.8 no such account: {}", sent_password()).leak();
    let offers: &[&str] = &["AUTH PLAIN"];
    for (manners, words) in [
        (Manners { offers, says: Some(("AUTH", echo)), ..Manners::default() }, "refuses our account: 535"),
        (Manners { offers, hangs_at: Some("AUTH"), ..Manners::default() }, "did not answer"),
        (Manners::default(), "logging in to the SMTP server failed"),
    ] {
        let server = MailServer::start(manners).await;
        assert_temporary(server.deliver(&format!("smtp://pulse:{PASSWORD}@"), "?tls=none").await, words);
        assert_eq!(server.emails().len(), 0);
    }
}

#[tokio::test]
async fn an_address_that_nobody_has_is_refused_for_good() {
    for (at, reply) in [
        ("RCPT", "550 5.1.1 no such user"),
        ("RCPT", "550 no such user"),
        ("RCPT", "553 bad mailbox"),
        ("RCPT", "550 5.1.2 no such domain"),
        ("RCPT", "553 5.1.3 bad syntax"),
        ("RCPT", "556 5.1.10 null MX"),
        ("DATA", "550 5.1.1 no such user"),
        (".", "550 5.1.1 no such user"),
    ] {
        let server = MailServer::start(Manners { says: Some((at, reply)), ..Manners::default() }).await;
        assert_permanent(server.deliver("smtp://", "?tls=none").await, &reply[4..]);
        assert_eq!(server.verbs().last().map(String::as_str), Some("QUIT"), "{reply}");
    }
}

#[tokio::test]
async fn we_introduce_ourselves_by_the_domain_of_the_sender_or_as_configured() {
    for (ehlo_name, told) in [("", "EHLO tc.example.com"), ("a.example.net", "EHLO a.example.net")] {
        let server = MailServer::start(Manners::default()).await;
        server.smtp("smtp://", "?tls=none", ehlo_name).deliver(&any_notice()).await.unwrap();
        assert_eq!(server.heard.lock().unwrap().commands[0].0, told);
    }
}

#[tokio::test]
async fn what_is_no_address_is_refused_for_good_without_asking_a_server() {
    let server = MailServer::start(Manners::default()).await;
    for to in ["", "owner", "a@b\r\nRCPT TO:<c@d>", "öwner@example.com", "a@b, c@d"] {
        assert_permanent(server.deliver_to(to, "smtp://", "?tls=none").await, "not an e-mail address");
    }
    assert_eq!(server.verbs().len(), 0);
}

#[tokio::test]
async fn any_other_refusal_by_a_mail_server_is_tried_again_later() {
    for (at, reply) in [
        ("CONNECT", "554 5.1.1 not for you"),
        ("EHLO", "554 5.5.1 not now"),
        ("EHLO", "504 5.5.2 Helo command rejected: need fully-qualified hostname"),
        ("EHLO", "550 5.1.1 no such user"),
        ("MAIL", "550 5.1.8 bad sender"),
        ("MAIL", "550 5.1.1 no such user"),
        ("MAIL", "553 bad mailbox"),
        ("RCPT", "451 4.3.0 greylisted"),
        ("RCPT", "450 mailbox busy"),
        ("RCPT", "450 4.1.1 no such user"),
        ("RCPT", "504 5.5.2 <pod-1>: Helo command rejected: need fully-qualified hostname"),
        ("RCPT", "550 relay not permitted"),
        ("RCPT", "550 5.7.1 relay not permitted"),
        ("RCPT", "554 5.7.1 relay access denied"),
        ("RCPT", "553 5.7.1 not owned by you"),
        ("RCPT", "550 5.1.8 bad sender"),
        ("RCPT", "552 5.2.2 mailbox full"),
        ("RCPT", "552 mailbox full"),
        ("RCPT", "530 log in first"),
        ("RCPT", "550"),
        ("DATA", "421 shutting down"),
        ("DATA", "554 no valid recipients"),
        (".", "452 no space"),
        (".", "552 5.3.4 too long"),
        (".", "554 5.7.1 looks like spam"),
        (".", "550 looks like spam"),
    ] {
        let server = MailServer::start(Manners { says: Some((at, reply)), ..Manners::default() }).await;
        assert_temporary(server.deliver("smtp://", "?tls=none").await, reply.get(4..).unwrap_or_default());
    }
}

#[tokio::test]
async fn a_mail_server_that_hangs_is_given_up_after_the_time_out() {
    for at in ["CONNECT", "EHLO", "RCPT", "DATA"] {
        let server = MailServer::start(Manners { hangs_at: Some(at), ..Manners::default() }).await;
        let begin = Instant::now();
        assert_temporary(server.deliver("smtp://", "?tls=none").await, "did not answer within 1s");
        assert!(begin.elapsed() < Duration::from_secs(10), "{at}: {:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn a_mail_server_that_is_down_is_tried_again_later() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let server = MailServer { port, heard: Arc::default() };
    assert_temporary(server.deliver("smtp://", "?tls=none").await, "connecting");
}

#[tokio::test]
async fn an_accepted_e_mail_is_delivered_whatever_follows() {
    let hangs = Manners { hangs_at: Some("QUIT"), ..Manners::default() };
    let refuses = Manners { says: Some(("QUIT", "500 what?")), ..Manners::default() };
    for manners in [hangs, refuses] {
        let server = MailServer::start(manners).await;
        server.deliver("smtp://", "?tls=none").await.unwrap();
        assert_eq!(server.emails().len(), 1);
    }
}

#[tokio::test]
async fn nothing_is_sent_in_clear_where_encryption_is_required() {
    let server = MailServer::start(Manners { offers: &["AUTH PLAIN"], ..Manners::default() }).await;
    for query in ["", "?tls=required"] {
        let outcome = server.deliver(&format!("smtp://pulse:{PASSWORD}@"), query).await;
        assert_temporary(outcome, "STARTTLS is not supported");
    }
    assert!(server.verbs().iter().all(|verb| verb == "EHLO" || verb == "QUIT"), "{:?}", server.verbs());
    server.deliver("smtp://", "?tls=opportunistic").await.unwrap();
}

/// A certificate for `localhost` that signs itself, in `folder`: `cert.pem` and `key.pem`.
fn make_certificate(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

/// A mail server that speaks TLS with the certificate in `folder`.
fn encrypting(folder: &Path, offers: &'static [&'static str]) -> Manners {
    let certificate = CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(ring).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    Manners { tls: Some(Arc::new(config).into()), offers, ..Manners::default() }
}

#[tokio::test]
async fn a_mail_server_with_an_unknown_certificate_is_told_nothing() {
    let folder = tempfile::tempdir().unwrap();
    make_certificate(folder.path());
    for (offers, scheme) in [(&["STARTTLS"], "smtp://"), (&["AUTH PLAIN"], "smtps://")] {
        let server = MailServer::start(encrypting(folder.path(), offers)).await;
        assert_temporary(server.deliver(&format!("{scheme}pulse:{PASSWORD}@"), "").await, "certificate");
        assert!(!server.verbs().iter().any(|verb| verb == "AUTH" || verb == "MAIL"), "{:?}", server.verbs());
    }
}

#[tokio::test]
async fn a_mail_server_with_a_certificate_of_a_private_authority_is_trusted_where_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, others) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "others"));
    let (certificate, key) = ours.sign("localhost");
    std::fs::rename(certificate, folder.path().join("cert.pem")).unwrap();
    std::fs::rename(key, folder.path().join("key.pem")).unwrap();
    for (offers, scheme) in [(&["STARTTLS"], "smtp://"), (&["AUTH PLAIN"], "smtps://")] {
        let server = MailServer::start(encrypting(folder.path(), offers)).await;
        server.deliver_trusting(&ours.file, scheme).await.unwrap();
        assert_eq!(server.emails().len(), 1);
        assert_temporary(server.deliver_trusting(&others.file, scheme).await, "certificate");
        assert_temporary(server.deliver(scheme, "").await, "certificate");
        assert_eq!(server.emails().len(), 1);
    }
}

/// Which certificates are trusted comes from the environment, which a process can't safely change for itself: the test
/// runs itself again, in a child that trusts the server's certificate.
#[tokio::test]
async fn an_e_mail_goes_encrypted_by_starttls_and_by_tls() {
    const FOLDER: &str = "PULSE_TEST_TLS_FOLDER";
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        let folder = tempfile::tempdir().unwrap();
        make_certificate(folder.path());
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "notify::an_e_mail_goes_encrypted_by_starttls_and_by_tls", "--nocapture"])
            .env(FOLDER, folder.path())
            .env("SSL_CERT_FILE", folder.path().join("cert.pem"))
            .output()
            .unwrap();
        let shown = format!("{}{}", String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
        assert!(child.status.success() && shown.contains("1 passed"), "{shown}");
        return;
    };
    let account = format!("pulse:{PASSWORD}@");
    let (starttls, from_the_start): (&[&str], &[&str]) = (&["STARTTLS"], &["AUTH PLAIN"]);
    for (offers, scheme, query) in [
        (starttls, format!("smtp://{account}"), "?tls=required"),
        (starttls, "smtp://".to_owned(), "?tls=opportunistic"),
        (from_the_start, format!("smtps://{account}"), ""),
    ] {
        let server = MailServer::start(encrypting(&folder, offers)).await;
        server.deliver(&scheme, query).await.unwrap();
        assert_eq!(server.emails().len(), 1);
        for (command, encrypted) in &server.heard.lock().unwrap().commands {
            assert!(
                *encrypted || ["EHLO", "STARTTLS"].contains(&verb(command).as_str()),
                "{command} was sent in clear"
            );
        }
    }
}

// ---- The log ----------------------------------------------------------------------------------------------------------

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
    /// Keeps everything that this thread logs, at every level, until the guard goes.
    fn begin(&self) -> tracing::subscriber::DefaultGuard {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish())
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn a_message_can_be_told_to_the_log() {
    let logged = Logged::default();
    let guard = logged.begin();
    Log.deliver(&any_notice()).await.unwrap();
    drop(guard);
    let text = logged.text();
    assert!(text.contains("INFO") && text.contains(r#"type="notice""#), "{text}");
    assert!(text.contains(&any_notice().subject) && text.contains("What to do"), "{text}");
}

#[tokio::test]
async fn no_delivery_logs_a_secret() {
    let logged = Logged::default();
    let guard = logged.begin();
    let fake = Fake::start([Answer::Text(500, "<html>"), Answer::Text(200, "OK")]).await;
    fake.deliver(limits()).await.unwrap();
    let server = MailServer::start(Manners { offers: &["AUTH PLAIN"], ..Manners::default() }).await;
    server.deliver(&format!("smtp://pulse:{PASSWORD}@"), "?tls=none").await.unwrap();
    drop(guard);
    assert!(logged.text().contains("a call failed and is tried again"), "{}", logged.text());
    assert_no_secret(&logged.text());
}
