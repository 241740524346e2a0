//! Logs: for humans on a terminal, and as mozlog JSON otherwise, one object a line, as Taskcluster's services write it.
//!
//! An event's field `type` becomes mozlog's `Type`; the fields of the spans around an event are its fields too, and their
//! `requestId` and `traceId` stand at the top. Values under names that stand for a secret are never written. Records
//! that Taskcluster's services write too have their level.

use std::borrow::Cow;
use std::fmt;
use std::io::{IsTerminal, Write as _};

use serde_json::json;
use serde_json::value::RawValue;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::clock::{Clock, SystemClock};
use crate::terminal;

/// Our crate, as it stands in the targets of our events.
const CRATE: &str = env!("CARGO_CRATE_NAME");

/// Modules that logs, and the levels that operators set, know by another name: what reads the logs has it.
const NAMES: [(&str, &str); 2] = [("access", "auth"), ("web", "http")];

/// Fields whose values are not written: those that Taskcluster's services hide, those that hold a secret of ours, and
/// how Rust spells them.
const SECRET_FIELDS: [&str; 12] = [
    "access_token",
    "accessToken",
    "authorization",
    "bewit",
    "connection_string",
    "connectionString",
    "credentials",
    "password",
    "secret",
    "secret_access_key",
    "secretAccessKey",
    "secrets",
];

/// Fields that hold JSON as a text, because `tracing` knows neither lists nor objects. In mozlog they are what they hold.
const JSON_FIELDS: [&str; 2] = ["query", "satisfyingScopes"];

/// The types of those of our records that are notices in mozlog, a level that `tracing` doesn't have; unless they are worse.
const NOTICES: [&str; 2] = ["monitor.apiMethod", "monitor.periodic"];

/// What is written in place of a secret.
const HIDDEN: &str = "...";

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, as Taskcluster's services do.
    Stdout,
    /// Standard error, for a command whose standard output is its result.
    Stderr,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For humans on a terminal, else as JSON.
    Auto,
    /// One JSON object a line, as mozlog has it.
    Json,
    /// For humans.
    Human,
}

/// Which events are logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels {
    /// What is logged where nothing else is said.
    pub root: LevelFilter,
    /// Parts of the service, or crates, that log more or less than the rest.
    pub children: Vec<(String, LevelFilter)>,
}

/// Begins to log to `stream`, for the rest of the process.
///
/// # Errors
/// Something logs already.
pub fn init(levels: &Levels, format: LogFormat, stream: Stream) -> Result<(), TryInitError> {
    let (terminal, writer) = match stream {
        Stream::Stdout => (std::io::stdout().is_terminal(), BoxMakeWriter::new(std::io::stdout)),
        Stream::Stderr => (std::io::stderr().is_terminal(), BoxMakeWriter::new(std::io::stderr)),
    };
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Json => Box::new(Mozlog::new(writer, SystemClock)),
        LogFormat::Auto if !terminal => Box::new(Mozlog::new(writer, SystemClock)),
        LogFormat::Auto | LogFormat::Human => Box::new(human(writer, SystemClock, terminal)),
    };
    Registry::default().with(layer).with(targets(levels)).try_init()
}

/// Which events are logged: our own from the root's level on, those of other crates from `warning` on, and what the parts
/// say of themselves. A part is a module of ours or another crate.
fn targets(levels: &Levels) -> Targets {
    let others = levels.root.min(LevelFilter::WARN);
    let rest = Targets::new().with_default(others).with_target(CRATE, levels.root);
    levels.children.iter().fold(rest, |targets, (part, level)| {
        let module = NAMES.iter().find(|(_, name)| name == part).map_or(part.as_str(), |(module, _)| module);
        targets.with_target(format!("{CRATE}::{module}"), *level).with_target(part, *level)
    })
}

fn is_secret(field: &str) -> bool {
    // A field may be named by a path, as in `client.accessToken`.
    field.rsplit('.').next().is_some_and(|last| SECRET_FIELDS.contains(&last))
}

/// The layer that writes for humans, in colour where `terminal`, unless the operator's `NO_COLOR` forbids it.
fn human<W, C>(writer: W, clock: C, terminal: bool) -> impl Layer<Registry>
where
    W: for<'w> MakeWriter<'w> + 'static,
    C: Clock + 'static,
{
    let fields = debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| match name(field) {
        "message" => write!(writer, "{}", one_line(value)),
        secret if is_secret(secret) => write!(writer, "{secret}={HIDDEN}"),
        name => write!(writer, "{name}={}", one_line(value)),
    });
    let layer = tracing_subscriber::fmt::layer().with_timer(Now(clock)).fmt_fields(fields.delimited(" "));
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    layer.with_ansi(colour).with_writer(writer)
}

/// The value without anything that would end the line or steer the terminal: what a caller sent may be part of it.
fn one_line(value: &dyn fmt::Debug) -> String {
    terminal::one_line(&format!("{value:?}")).into_owned()
}

/// The name of a field, also of one that had to be written as a raw identifier, as `r#type`.
fn name(field: &Field) -> &'static str {
    field.name().strip_prefix("r#").unwrap_or(field.name())
}

struct Now<C>(C);

impl<C: Clock> FormatTime for Now<C> {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", self.0.now())
    }
}

/// The layer that writes mozlog JSON. Most of what a request costs beside its cryptography is its log line, so that this is written
/// straight, without a tree of values.
struct Mozlog<W, C> {
    writer: W,
    clock: C,
    /// The host's name, as JSON.
    hostname: String,
}

impl<W, C: Clock> Mozlog<W, C> {
    fn new(writer: W, clock: C) -> Mozlog<W, C> {
        let hostname = hostname::get().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Mozlog { writer, clock, hostname: json_text(&hostname) }
    }

    /// One event as mozlog has it. The keys are sorted, as Taskcluster's are.
    fn line(&self, event: &Event<'_>, mut fields: Fields) -> String {
        let kind = fields.take("type");
        if kind.is_some() && fields.get("v").is_none() {
            // Records with a type have a version of it, too.
            fields.0.push(("v", Held::Json("1".to_owned())));
        }
        let is_notice = kind.as_ref().and_then(Held::text).is_some_and(|kind| NOTICES.contains(&kind));
        let (number, severity) = match *event.metadata().level() {
            Level::ERROR => (3, "ERROR"),
            Level::WARN => (4, "WARNING"),
            Level::INFO if is_notice => (5, "NOTICE"),
            Level::INFO => (6, "INFO"),
            Level::DEBUG | Level::TRACE => (7, "DEBUG"),
        };
        let [request, trace] = ["requestId", "traceId"].map(|key| fields.take(key));
        fields.0.sort_unstable_by_key(|(name, _)| *name);
        let mut line = Line(String::with_capacity(LINE));
        line.raw("{\"EnvVersion\":\"2.0\",\"Fields\":{");
        for (number, (name, held)) in fields.0.iter().enumerate() {
            line.raw(if number > 0 { "," } else { "" });
            line.held(name, held);
        }
        line.raw("},\"Hostname\":");
        line.raw(&self.hostname);
        line.raw(",\"Logger\":");
        line.text(&logger(event.metadata().target()));
        let nanos = self.clock.now().millis().saturating_mul(1_000_000);
        line.format(format_args!(",\"Pid\":{},\"Severity\":{number},\"Timestamp\":{nanos},", std::process::id()));
        line.held("Type", kind.as_ref().unwrap_or(&Held::Text(Cow::Borrowed("monitor.generic"))));
        if let Some(first) = fields.get("message").and_then(Held::text).and_then(|text| text.lines().next()) {
            line.raw(",\"message\":");
            line.text(first);
        }
        line.among("requestId", request.as_ref());
        line.raw(",\"serviceContext\":{\"service\":\"pulse\",\"version\":");
        line.text(env!("CARGO_PKG_VERSION"));
        line.format(format_args!("}},\"severity\":\"{severity}\""));
        line.among("traceId", trace.as_ref());
        line.raw("}");
        line.0
    }
}

/// How long a line is that is not unusual, in bytes.
const LINE: usize = 1024;

/// A line that is being written.
struct Line(String);

impl Line {
    /// Adds what is JSON.
    fn raw(&mut self, json: &str) {
        self.0.push_str(json);
    }

    fn format(&mut self, json: fmt::Arguments<'_>) {
        // A text takes whatever is written to it.
        let _ = fmt::Write::write_fmt(&mut self.0, json);
    }

    /// Adds a string.
    fn text(&mut self, text: &str) {
        self.0.push('"');
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c < ' ' || matches!(c, '"' | '\\')) {
            let (plain, more) = rest.split_at(at);
            self.0.push_str(plain);
            let (escaped, more) = more.split_at(1);
            let quoted = json_text(escaped);
            self.0.push_str(&quoted[1..quoted.len() - 1]);
            rest = more;
        }
        self.0.push_str(rest);
        self.0.push('"');
    }

    /// Adds a key and its value.
    fn held(&mut self, key: &str, held: &Held) {
        self.text(key);
        self.0.push(':');
        match held {
            Held::Text(text) => self.text(text),
            Held::Json(json) => self.raw(json),
        }
    }

    /// Adds a key and its value after others, if there is one.
    fn among(&mut self, key: &str, held: Option<&Held>) {
        if let Some(held) = held {
            self.0.push(',');
            self.held(key, held);
        }
    }
}

/// A text as a JSON string.
fn json_text(text: &str) -> String {
    json!(text).to_string()
}

/// The mozlog name of what logs: `taskcluster.pulse`, with the module of ours or the other crate behind it.
fn logger(target: &str) -> String {
    let mut path = target.split("::");
    match path.next().filter(|first| *first != CRATE).or(path.next()) {
        Some(module) => {
            let part = NAMES.iter().find(|(known, _)| *known == module).map_or(module, |(_, name)| name);
            format!("taskcluster.pulse.{part}")
        }
        None => "taskcluster.pulse".to_owned(),
    }
}

impl<S, W, C> Layer<S> for Mozlog<W, C>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + 'static,
    C: Clock + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(Fields(of_span)) = span.extensions().get::<Fields>() {
                of_span.iter().for_each(|(name, held)| fields.put(name, held.clone()));
            }
        }
        event.record(&mut fields);
        let mut line = self.line(event, fields);
        // Somebody may look at it on a terminal.
        if let Cow::Owned(shown) = terminal::json(&line) {
            line = shown;
        }
        line.push('\n');
        // There is nobody left to tell if the log itself can't be written.
        let _ = self.writer.make_writer_for(event.metadata()).write_all(line.as_bytes());
    }
}

/// The value of a field.
#[derive(Debug, Clone)]
enum Held {
    /// A text.
    Text(Cow<'static, str>),
    /// Anything else, as JSON.
    Json(String),
}

impl Held {
    fn text(&self) -> Option<&str> {
        match self {
            Held::Text(text) => Some(text),
            Held::Json(_) => None,
        }
    }
}

/// The fields of a span or an event, each once. There are few.
#[derive(Default)]
struct Fields(Vec<(&'static str, Held)>);

impl Fields {
    fn insert(&mut self, field: &Field, held: impl FnOnce() -> Held) {
        let name = name(field);
        let held = if is_secret(name) { Held::Text(Cow::Borrowed(HIDDEN)) } else { held() };
        self.put(name, held);
    }

    fn put(&mut self, name: &'static str, held: Held) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = held,
            None => self.0.push((name, held)),
        }
    }

    fn get(&self, name: &str) -> Option<&Held> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, held)| held)
    }

    fn take(&mut self, name: &str) -> Option<Held> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.swap_remove(at).1)
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, || {
            let text = format!("{value:?}");
            let holds_json = JSON_FIELDS.contains(&name(field)) && serde_json::from_str::<&RawValue>(&text).is_ok();
            if holds_json { Held::Json(text) } else { Held::Text(text.into()) }
        });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, || Held::Text(value.to_owned().into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, || Held::Json(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, || Held::Json(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, || Held::Json(json!(value).to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, || Held::Json(value.to_string()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let chain = std::iter::successors(value.source(), |error| error.source());
        let text = || chain.fold(value.to_string(), |text, cause| format!("{text}: {cause}"));
        self.insert(field, || Held::Text(text().into()));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tracing::{debug, error, info, info_span, warn};

    use super::*;
    use crate::clock::Timestamp;
    use crate::config::{Config, Needs};

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        fn writer(&self) -> impl for<'w> MakeWriter<'w> + Send + Sync + 'static {
            let captured = self.clone();
            move || captured.clone()
        }
    }

    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(1_736_942_400_007)
        }
    }

    fn levels(text: &str) -> Levels {
        let level = |name: &str| (name == "LEVEL").then(|| text.to_owned());
        Config::load(None, level, Needs::default()).unwrap().logging.level
    }

    /// What `work` logs as JSON.
    fn logged(level: &str, work: impl FnOnce()) -> Vec<Value> {
        let captured = Captured::default();
        let layer = Mozlog { hostname: "\"host\"".to_owned(), ..Mozlog::new(captured.writer(), Noon) };
        tracing::subscriber::with_default(Registry::default().with(layer).with(targets(&levels(level))), work);
        captured.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn logged_for_humans(work: impl FnOnce()) -> String {
        let captured = Captured::default();
        let layer = human(captured.writer(), Noon, false);
        tracing::subscriber::with_default(Registry::default().with(layer).with(targets(&levels("debug"))), work);
        captured.text()
    }

    #[test]
    fn an_event_is_one_line_of_mozlog() {
        let work = || info!(r#type = "monitor.report", duration = 1.5, seen = 3, ok = true, "first\nsecond");
        assert_eq!(
            logged("info", work),
            [json!({
                "EnvVersion": "2.0",
                "Fields": {"duration": 1.5, "message": "first\nsecond", "ok": true, "seen": 3, "v": 1},
                "Hostname": "host",
                "Logger": "taskcluster.pulse.telemetry",
                "Pid": std::process::id(),
                "Severity": 6,
                "Timestamp": 1_736_942_400_007_000_000_u64,
                "Type": "monitor.report",
                "message": "first",
                "serviceContext": {"service": "pulse", "version": env!("CARGO_PKG_VERSION")},
                "severity": "INFO",
            })]
        );
    }

    #[test]
    fn requests_and_runs_are_notices_and_lists_and_objects_are_what_they_are() {
        let lines = logged("info", || {
            let (query, scopes) = (json!({"limit": "2"}), json!(["a", "b"]));
            let kind = "monitor.apiMethod";
            info!(target: "taskcluster_pulse::api", r#type = kind, v = 2, query = %query, satisfyingScopes = %scopes, "x");
            info!(r#type = "monitor.periodic", query = "no JSON", "x");
            error!(r#type = "monitor.periodic", other = %query, "x");
        });
        let heads: Vec<_> = lines.iter().map(|line| (&line["Severity"], &line["severity"], &line["Logger"])).collect();
        let here = json!("taskcluster.pulse.telemetry");
        assert_eq!(heads[0], (&json!(5), &json!("NOTICE"), &json!("taskcluster.pulse.api")));
        assert_eq!(heads[1], (&json!(5), &json!("NOTICE"), &here));
        assert_eq!(heads[2], (&json!(3), &json!("ERROR"), &here));
        let (query, scopes) = (json!({"limit": "2"}), json!(["a", "b"]));
        assert_eq!(lines[0]["Fields"], json!({"message": "x", "query": query, "satisfyingScopes": scopes, "v": 2}));
        assert_eq!(lines[1]["Fields"], json!({"message": "x", "query": "no JSON", "v": 1}));
        assert_eq!(lines[2]["Fields"], json!({"message": "x", "other": "{\"limit\":\"2\"}", "v": 1}));
    }

    #[test]
    fn whatever_is_in_a_text_is_read_as_it_was_written() {
        let odd = "\"quoted\" \\ back\n\t\r\u{0}\u{1f}\u{7f}\u{2028} é \u{1f600}";
        let line = logged("info", || info!(odd, "{odd}")).remove(0);
        assert_eq!((&line["Fields"]["odd"], &line["Fields"]["message"]), (&json!(odd), &json!(odd)));
        assert_eq!(line["message"], json!(odd.lines().next()));
    }

    #[test]
    fn the_keys_are_sorted() {
        let captured = Captured::default();
        let layer = Mozlog::new(captured.writer(), Noon);
        tracing::subscriber::with_default(Registry::default().with(layer), || info!(b = 1, a = 2, "x"));
        let text = captured.text();
        let at = |key: &str| text.find(&format!("\"{key}\":")).unwrap();
        let keys = ["EnvVersion", "Fields", "a", "b", "Hostname", "Logger", "Pid", "Severity", "Timestamp", "Type"];
        let places = keys.iter().chain(&["serviceContext", "severity"]).map(|key| at(key));
        assert!(places.is_sorted(), "{text}");
    }

    #[test]
    fn levels_become_severities_and_an_event_without_a_type_is_generic() {
        let lines = logged("debug", || {
            error!("a");
            warn!("b");
            debug!(n = 1);
        });
        let severities: Vec<_> = lines.iter().map(|line| (&line["Severity"], &line["severity"])).collect();
        let expected = [(json!(3), json!("ERROR")), (json!(4), json!("WARNING")), (json!(7), json!("DEBUG"))];
        assert_eq!(severities, expected.iter().map(|(number, name)| (number, name)).collect::<Vec<_>>());
        assert!(lines.iter().all(|line| line["Type"] == "monitor.generic"));
        assert_eq!(lines[2].get("message"), None);
    }

    #[test]
    fn spans_lend_their_fields_and_the_ids_of_a_request_stand_at_the_top() {
        let lines = logged("info", || {
            let span =
                info_span!("request", requestId = "r", traceId = "t", method = "ping", status = tracing::field::Empty);
            span.record("status", 200);
            span.in_scope(|| info!(method = "claim", "done"));
        });
        assert_eq!((&lines[0]["requestId"], &lines[0]["traceId"]), (&json!("r"), &json!("t")));
        assert_eq!(lines[0]["Fields"], json!({"message": "done", "method": "claim", "status": 200}));
    }

    #[test]
    fn an_error_is_logged_with_what_caused_it() {
        let inner = io::Error::other("refused");
        let outer = crate::store::StoreError::Unavailable("no route".to_owned());
        let nested = io::Error::other(outer);
        let lines = logged("info", || {
            error!(error = &inner as &dyn std::error::Error, "failed");
            error!(error = &Wrapped(nested) as &dyn std::error::Error, "failed");
        });
        assert_eq!(lines[0]["Fields"], json!({"error": "refused", "message": "failed"}));
        assert_eq!(lines[1]["Fields"]["error"], "wrapped: the store is not available: no route");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("wrapped")]
    struct Wrapped(#[source] io::Error);

    #[test]
    fn secrets_are_hidden_by_the_names_of_their_fields() {
        let work = || {
            let span = info_span!("s", password = "hunter2");
            span.in_scope(|| {
                info!(connectionString = "hunter2", access_token = "hunter2", client.secret = "hunter2", a = 1)
            });
        };
        let lines = logged("info", work);
        let hidden = json!({"password": "...", "connectionString": "...", "access_token": "...", "client.secret": "...", "a": 1});
        assert_eq!(lines[0]["Fields"], hidden);
        let text = logged_for_humans(work);
        assert!(text.contains("password=...") && text.contains("a=1") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn humans_read_one_line_with_the_time_and_the_level() {
        let text = logged_for_humans(|| warn!(name = %"x\ny\u{1b}[31m", "slow"));
        assert_eq!(
            text,
            "2025-01-15T12:00:00.007Z  WARN taskcluster_pulse::telemetry::log::tests: slow name=x\\ny\\u{1b}[31m\n"
        );
    }

    #[test]
    fn parts_log_at_levels_of_their_own_and_other_crates_only_warn() {
        let work = || {
            debug!(target: "taskcluster_pulse", "root");
            debug!(target: "taskcluster_pulse::web::api::error", "http");
            info!(target: "hyper::client", "hyper info");
            warn!(target: "hyper::client", "hyper warn");
            debug!(target: "h2", "h2");
        };
        let messages = |level: &str| -> Vec<(String, String)> {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            logged(level, work).iter().map(|line| (text(&line["Logger"]), text(&line["message"]))).collect()
        };
        let root = ("taskcluster.pulse".to_owned(), "root".to_owned());
        let http = ("taskcluster.pulse.http".to_owned(), "http".to_owned());
        let warning = ("taskcluster.pulse.hyper".to_owned(), "hyper warn".to_owned());
        let h2 = ("taskcluster.pulse.h2".to_owned(), "h2".to_owned());
        assert_eq!(messages("debug"), [root, http.clone(), warning.clone()]);
        assert_eq!(messages("root:info http:debug h2:debug"), [http, warning, h2]);
        assert!(messages("err").is_empty());
    }
}
