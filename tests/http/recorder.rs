//! Everything that the program logs in this test process, kept as JSON, so that tests can wait for a line, look into it,
//! and see that no secret is in any.

use std::fmt;
use std::sync::{LazyLock, Once};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt as _;

static LINES: LazyLock<watch::Sender<Vec<Value>>> = LazyLock::new(|| watch::Sender::new(Vec::new()));

/// Begins to record, at every level of our own.
pub fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let targets =
            Targets::new().with_default(LevelFilter::WARN).with_target("taskcluster_pulse", LevelFilter::TRACE);
        Registry::default().with(Recorder).with(targets).init();
    });
}

/// All lines with these fields, so far.
pub fn lines(wanted: &[(&str, Value)]) -> Vec<Value> {
    LINES.borrow().iter().filter(|line| matches(line, wanted)).cloned().collect()
}

/// The first line with these fields, as soon as it is there.
pub async fn line(wanted: &[(&str, Value)]) -> Value {
    let mut lines = LINES.subscribe();
    let there = lines.wait_for(|lines| lines.iter().any(|line| matches(line, wanted)));
    let there = tokio::time::timeout(Duration::from_secs(10), there).await;
    let lines = there.unwrap_or_else(|_| panic!("no line with {wanted:?}")).unwrap();
    lines.iter().find(|line| matches(line, wanted)).cloned().unwrap()
}

fn matches(line: &Value, wanted: &[(&str, Value)]) -> bool {
    wanted.iter().all(|(field, value)| line[field] == *value)
}

/// The first line that holds one of these texts.
pub fn leak(secrets: &[String]) -> Option<String> {
    let lines = LINES.borrow();
    let mut texts = lines.iter().map(Value::to_string);
    texts.find(|text| secrets.iter().any(|secret| text.contains(secret)))
}

struct Recorder;

#[derive(Clone, Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().trim_start_matches("r#").to_owned(), json!(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), json!(value));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            fields.0.extend(span.extensions().get::<Fields>().cloned().unwrap_or_default().0);
        }
        event.record(&mut fields);
        fields.0.insert("level".to_owned(), json!(event.metadata().level().to_string()));
        LINES.send_modify(|lines| lines.push(Value::Object(fields.0)));
    }
}
