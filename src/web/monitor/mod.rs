//! For those who watch the service: what `ping` tells, the Dockerflow endpoints, and [`metrics`]. `version` is what the program says that
//! it is.

pub mod metrics;
mod version;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;
use futures::future::{BoxFuture, WeakShared};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::access::Authenticator;
use crate::clock::{Clock, Timestamp};
use crate::service::Service;
use crate::web::edge::reply::{json_response, not_found};
pub use version::version_object;

/// How long a neighbour may take to show that it is there.
pub const NEIGHBOUR_TIMEOUT: Duration = Duration::from_secs(2);

/// What tells how the process is.
pub struct Monitor {
    service: Arc<Service>,
    /// What asks the auth service, where something in this process does.
    authenticator: Option<Arc<Authenticator>>,
    clock: Arc<dyn Clock>,
    started: Timestamp,
    checkups: Checkups,
    last: tokio::sync::Mutex<Option<(Instant, Glance)>>,
    /// What the last look found.
    known: Mutex<Glance>,
}

/// Whether each neighbour answers, by name.
pub type Glance = Vec<(&'static str, bool)>;

/// How old a look at the neighbours may be that is shown to people.
const GLANCE_AGE: Duration = Duration::from_secs(5);

impl Monitor {
    /// Of a process that has just started.
    pub fn new(service: Arc<Service>, authenticator: Option<Arc<Authenticator>>, clock: Arc<dyn Clock>) -> Monitor {
        let started = clock.now();
        Monitor {
            service,
            authenticator,
            clock,
            started,
            checkups: Checkups::default(),
            last: Default::default(),
            known: Mutex::default(),
        }
    }

    /// Whether the neighbours answer in time that requests need: the store, the broker, and the auth service where it is
    /// asked. By name, with what is wrong.
    pub async fn health(&self) -> Vec<(&'static str, Result<(), String>)> {
        let auth = async { self.authenticator.as_ref()?.health(NEIGHBOUR_TIMEOUT).await };
        let (mut health, auth) = tokio::join!(self.service.health(NEIGHBOUR_TIMEOUT), auth);
        health.extend(auth.map(|auth| ("auth", auth)));
        health
    }

    /// Whether the neighbours answer, as of a few seconds ago: however many people look, they are asked once.
    pub async fn glance(&self) -> Glance {
        let mut last = self.last.lock().await;
        if let Some((at, glance)) = &*last
            && at.elapsed() <= GLANCE_AGE
        {
            return glance.clone();
        }
        let glance: Glance = self.health().await.into_iter().map(|(name, health)| (name, health.is_ok())).collect();
        *last = Some((Instant::now(), glance.clone()));
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&glance);
        glance
    }

    /// The same for who can't wait for long: after so long, what the look before found. This one goes on, for the next who asks.
    pub async fn glance_within(self: &Arc<Monitor>, patience: Duration) -> Glance {
        let monitor = self.clone();
        let looking = tokio::spawn(async move { monitor.glance().await });
        match tokio::time::timeout(patience, looking).await {
            Ok(Ok(glance)) => glance,
            _ => self.known.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// What the API answers to a `ping`.
    pub fn ping(&self) -> Value {
        json!({"alive": true, "uptime": self.clock.now().since(self.started).as_secs_f64()})
    }
}

/// Dockerflow's endpoints, for any method and anything below, as Dockerflow asks for; and `robots.txt`. The case is irrelevant,
/// as it is in Taskcluster. Nothing else is there; `/__error__` only if `errors`.
pub fn router(monitor: Arc<Monitor>, errors: bool) -> Router {
    Router::new().fallback(move |state, uri| at_root(state, uri, errors)).with_state(monitor)
}

async fn at_root(State(monitor): State<Arc<Monitor>>, uri: Uri, errors: bool) -> Response {
    let mount = uri.path().split('/').nth(1).unwrap_or_default().to_ascii_lowercase();
    match mount.as_str() {
        "__version__" => json_response(StatusCode::OK, &version_object()),
        "__heartbeat__" => {
            let (status, body) = check(monitor).await;
            json_response(status, &body)
        }
        "__lbheartbeat__" => json_response(StatusCode::OK, &json!({})),
        "__error__" if errors => {
            tracing::error!(r#type = "monitor.error", "this error was asked for, to try out how errors are reported");
            json_response(StatusCode::INTERNAL_SERVER_ERROR, &json!({"error": "This error was asked for"}))
        }
        "robots.txt" => {
            ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], "User-Agent: *\nDisallow: /\n").into_response()
        }
        _ => not_found().await,
    }
}

/// How something is, as in Dockerflow: by a word and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// As it should be.
    Ok,
    /// For an operator to look at, and no outage.
    Warning,
    /// An outage.
    Error,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }

    fn number(self) -> u8 {
        match self {
            Level::Ok => 0,
            Level::Warning => 30,
            Level::Error => 40,
        }
    }
}

/// A check that several may wait for.
type Checkup = WeakShared<BoxFuture<'static, (StatusCode, Value)>>;

/// The check that is being made, if one is.
#[derive(Default)]
struct Checkups(Mutex<Option<Checkup>>);

/// Whoever asks while a check is being made gets its result: many who ask cost no more than one.
pub async fn check(monitor: Arc<Monitor>) -> (StatusCode, Value) {
    let checkup = {
        let mut current = monitor.checkups.0.lock().unwrap_or_else(PoisonError::into_inner);
        match current.as_ref().and_then(WeakShared::upgrade).filter(|checkup| checkup.peek().is_none()) {
            Some(checkup) => checkup,
            None => {
                let monitor = monitor.clone();
                let checkup = async move { examine(&monitor).await }.boxed().shared();
                *current = checkup.downgrade();
                checkup
            }
        }
    };
    checkup.await
}

/// How everything is: `{status, checks, details}`, with 200 as long as nothing is worse than a warning. If a neighbour does not answer in
/// time, it is 502, with `error` and `failing`, a list of those that fail. What is wrong with them is in the log alone: errors may name
/// what is nobody's business.
async fn examine(monitor: &Monitor) -> (StatusCode, Value) {
    let health = monitor.health().await;
    // That look has learned of the release that some of these are about.
    let warnings = monitor.service.warnings(NEIGHBOUR_TIMEOUT).await;
    let (mut failing, mut checks, mut details) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for (part, health) in health {
        let level = match health {
            Ok(()) => Level::Ok,
            Err(error) => {
                tracing::warn!(r#type = "heartbeat", part, "{part} fails: {error}");
                failing.push(part);
                details.insert(part, (Level::Error, vec!["it fails; the log says how".to_owned()]));
                Level::Error
            }
        };
        checks.insert(part, level);
    }
    for (part, messages) in warnings {
        let level = checks.entry(part).or_insert(Level::Ok);
        if !messages.is_empty() {
            *level = Level::Warning.max(*level);
            details.entry(part).or_insert((*level, Vec::new())).1.extend(messages);
        }
    }
    if let (Some(level), Some(version)) = (checks.get("rabbitmq"), monitor.service.broker_version()) {
        details.entry("rabbitmq").or_insert((*level, Vec::new())).1.push(format!("RabbitMQ {version} was found"));
    }
    let worst = checks.values().copied().max().unwrap_or(Level::Ok);
    let checks: Map<_, _> = checks.into_iter().map(|(part, level)| (part.to_owned(), json!(level.word()))).collect();
    let details: Map<_, _> = details
        .into_iter()
        .map(|(part, (level, messages))| {
            let detail = json!({"status": level.word(), "level": level.number(), "messages": messages});
            (part.to_owned(), detail)
        })
        .collect();
    let mut body = json!({"status": worst.word(), "checks": checks, "details": details});
    if failing.is_empty() {
        return (StatusCode::OK, body);
    }
    body["error"] = json!("Not healthy");
    body["failing"] = json!(failing);
    (StatusCode::BAD_GATEWAY, body)
}
