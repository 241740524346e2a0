//! Metrics in Prometheus' text form, at a port of their own.
//!
//! Some are of this process alone: it counts them as it works, and they are told whatever else is down. The others describe the
//! whole service. They are read from the database when somebody scrapes, and at most so often, however many do.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::prometheus_text::{CONTENT_TYPE, encode};
use tokio::time::Instant;

use super::Monitor;
use super::version::version_object;
use crate::clock::Timestamp;
use crate::service::{Figures, Service, TaskRun};
use crate::telemetry::metrics::{Labels, Registry, constant};

/// How old what describes the whole service may be that is told again.
const AGE: Duration = Duration::from_secs(5);
/// How long the database may take for it. Prometheus waits ten seconds for a scrape by default.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long a look at the neighbours is waited for.
const GLANCE: Duration = Duration::from_millis(500);

/// What is told to whoever scrapes.
pub struct Exposition {
    registry: Registry,
    prefix: String,
    service: Arc<Service>,
    monitor: Arc<Monitor>,
    last: tokio::sync::Mutex<Option<(Instant, Arc<str>)>>,
}

impl Exposition {
    /// An exposition of what is in `registry`, and of the whole service, whose names all begin with `prefix`, unless that is empty.
    pub fn new(mut registry: Registry, prefix: &str, service: Arc<Service>, monitor: Arc<Monitor>) -> Exposition {
        let version = version_object();
        let text = |key: &str| Cow::Owned(version[key].as_str().unwrap_or_default().to_owned());
        let labels = vec![("version", text("version")), ("commit", text("commit"))];
        constant(&mut registry, "pulse_build_info", "Which program this is; always 1", [(labels, 1.0)]);
        Exposition { registry, prefix: prefix.to_owned(), service, monitor, last: Default::default() }
    }

    /// Everything, as of now or of a few seconds ago.
    async fn text(&self) -> String {
        let (ours, whole) = (self.ours(), self.whole());
        let (mut text, whole) = tokio::join!(ours, whole);
        text.push_str(&whole);
        text
    }

    /// What this process counted, and whether it reaches its neighbours.
    async fn ours(&self) -> String {
        let mut text = written(&self.registry);
        let mut registry = registry(&self.prefix);
        let glance = self.monitor.glance_within(GLANCE).await;
        let up = glance.into_iter().map(|(name, up)| (vec![("neighbour", name.into())], f64::from(u8::from(up))));
        let help = "Whether what this process needs answers it, and its clock is right";
        constant(&mut registry, "pulse_neighbour_up", help, up);
        text.push_str(&written(&registry));
        text
    }

    /// What describes the whole service. Whoever asks meanwhile waits for the same answer.
    async fn whole(&self) -> Arc<str> {
        let mut last = self.last.lock().await;
        if let Some((at, text)) = &*last
            && at.elapsed() <= AGE
        {
            return text.clone();
        }
        let mut registry = registry(&self.prefix);
        let known = tokio::time::timeout(PATIENCE, self.service.figures()).await;
        let figures = match known {
            Ok(Ok(figures)) => Some(figures),
            Ok(Err(error)) => {
                tracing::debug!("what describes the whole service is missing among the metrics: {error}");
                None
            }
            Err(_) => None,
        };
        let up = [(Vec::new(), f64::from(u8::from(figures.is_some())))];
        let help =
            "Whether what describes the whole service could be read from the database; if not, it is missing here";
        constant(&mut registry, "pulse_service_metrics_up", help, up);
        if let Some(figures) = &figures {
            describe(figures, &mut registry);
        }
        let text: Arc<str> = written(&registry).into();
        *last = Some((Instant::now(), text.clone()));
        text
    }
}

/// An empty registry.
pub fn registry(prefix: &str) -> Registry {
    if prefix.is_empty() { Registry::default() } else { Registry::with_prefix(prefix) }
}

fn written(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a text fails only where a metric does, and none does.
    let _ = encode(&mut text, registry);
    text
}

fn seconds(at: Timestamp) -> f64 {
    at.millis() as f64 / 1000.0
}

/// A gauge without labels.
fn gauge(registry: &mut Registry, name: &str, help: &str, value: Option<f64>) {
    constant(registry, name, help, value.map(|value| (Vec::new(), value)));
}

fn labelled(label: &'static str, value: impl Into<Cow<'static, str>>, number: u64) -> (Labels, f64) {
    (vec![(label, value.into())], number as f64)
}

fn describe(Figures { now, sums, heartbeat, runs, verdicts, stages, most }: &Figures, registry: &mut Registry) {
    let age = |at: Option<Timestamp>| at.map(|at| now.since(at).as_secs_f64());
    let states =
        [("live", sums.namespaces), ("account", sums.accounts), ("disabled", sums.disabled), ("gone", sums.gone)];
    let states = states.map(|(state, count)| labelled("state", state, count));
    constant(registry, "pulse_namespaces", "Namespaces in the database, by their state", states);
    gauge(registry, "pulse_rotation_overdue", "Namespaces whose rotation is due", Some(sums.due as f64));
    let overdue = Some(age(sums.first_due).unwrap_or_default());
    gauge(registry, "pulse_rotation_overdue_seconds", "For how long the longest overdue rotation is due", overdue);
    let last = sums.last_switch.map(seconds);
    let help = "When the last rotation of any namespace was done, in seconds since 1970";
    gauge(registry, "pulse_rotation_last_success_timestamp_seconds", help, last);
    let help = "The age of the oldest password that claims return";
    gauge(registry, "pulse_credentials_oldest_age_seconds", help, age(sums.oldest_password));
    let help = "When the first password that claims return is no longer certain to work, unless it is rotated before, in \
                seconds since 1970";
    let end = sums.first_end.map(seconds);
    gauge(registry, "pulse_credentials_earliest_end_timestamp_seconds", help, end);
    let help = "Revocations that RabbitMQ does not show yet";
    gauge(registry, "pulse_revocations_pending", help, Some(sums.revoking as f64));
    let help = "Messages to owners that wait to be delivered";
    gauge(registry, "pulse_notices_pending", help, Some(sums.notices as f64));
    let help = "The age of the oldest message that waits to be delivered; 0 if none does";
    let oldest = Some(age(sums.oldest_notice).unwrap_or_default());
    gauge(registry, "pulse_notices_oldest_age_seconds", help, oldest);
    let help = "Messages that nobody got, of the last weeks";
    gauge(registry, "pulse_notices_undelivered", help, Some(sums.undelivered as f64));
    let help = "When a web process last could serve claims, in seconds since 1970";
    gauge(registry, "pulse_heartbeat_timestamp_seconds", help, heartbeat.map(seconds));
    let queues = verdicts.iter().map(|(verdict, count)| labelled("verdict", *verdict, *count));
    constant(registry, "pulse_queues", "Queues that are not empty, by what the guard says of them", queues);
    let help = "Queues in trouble, by what was done about them";
    constant(
        registry,
        "pulse_queues_watched",
        help,
        stages.iter().map(|(stage, count)| labelled("stage", *stage, *count)),
    );
    let help = "The most messages in one queue, at the last look";
    gauge(registry, "pulse_queue_messages_max", help, Some(most.0 as f64));
    let help = "The most unacknowledged messages in one queue, at the last look";
    gauge(registry, "pulse_queue_unacked_max", help, Some(most.1 as f64));
    describe_runs(runs, registry);
}

fn describe_runs(runs: &[TaskRun], registry: &mut Registry) {
    let task = |run: &TaskRun| vec![("task", Cow::Owned(run.task.clone()))];
    let at = runs.iter().map(|run| (task(run), seconds(run.at)));
    constant(
        registry,
        "pulse_task_last_run_timestamp_seconds",
        "When a run of a task last ended, in seconds since 1970",
        at,
    );
    let good = runs.iter().filter_map(|run| Some((task(run), seconds(run.good_at?))));
    let help = "When a run of a task last came to its end, in seconds since 1970";
    constant(registry, "pulse_task_last_success_timestamp_seconds", help, good);
    let figure = |name: &'static str| move |run: &TaskRun| Some((task(run), *run.figures.get(name)? as f64));
    let failed = runs.iter().filter_map(figure("failed"));
    constant(
        registry,
        "pulse_task_failures",
        "What the last run of a task could not do, and the next one tries again",
        failed,
    );
    let withheld = runs.iter().filter_map(figure("withheld"));
    let help = "What the brakes kept the last run of a task from removing";
    constant(registry, "pulse_brake_withheld", help, withheld);
    let counted: BTreeMap<_, _> = runs.iter().flat_map(|run| &run.figures).collect();
    let kinds = |begin: &'static str| {
        let of = move |kind: &'static str| (kind, format!("{begin} {kind}"));
        let known = ["users", "queues", "exchanges", "connections"].map(of);
        known
            .map(|(kind, name)| Some(labelled("kind", kind, **counted.get(&name)?)))
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
    };
    let help = "What RabbitMQ listed in the last sweep, in all";
    constant(registry, "pulse_listed", help, kinds("listed"));
    let help = "What RabbitMQ has in the names of namespaces that are not in the database, at the last sweep";
    constant(registry, "pulse_unknown_things", help, kinds("unknown"));
}

/// The metrics, and `/health` and `/healthz`, as the port of Taskcluster's services has them.
pub fn router(exposition: Arc<Exposition>) -> Router {
    let health = || async { "OK" };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .route("/healthz", get(health))
        .fallback(|| async { (StatusCode::NOT_FOUND, "Not found") })
        .with_state(exposition)
}

async fn metrics(State(exposition): State<Arc<Exposition>>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], exposition.text().await).into_response()
}
