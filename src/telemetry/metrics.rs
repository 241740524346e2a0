//! What metrics are made of. Each part of the service counts for itself, and gives what it counts to the [`Registry`] of its process.
//!
//! The labels of a metric are known before anything is counted ([`Table`]), so nobody who calls the service can add any, and
//! counting takes no lock: it is one look in a table that never changes, and some atomic additions.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Debug};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
pub use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::{MetricType, TypedMetric};
pub use prometheus_client::registry::Registry;

/// A gauge that may have fractions.
pub type Gauge = prometheus_client::metrics::gauge::Gauge<f64, AtomicU64>;

/// The labels of one series, with their values.
pub type Labels = Vec<(&'static str, Cow<'static, str>)>;

/// How long calls of neighbours take, as the bounds of a histogram in seconds.
pub const CALL_TIMES: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// What stands in a table, and may be left out of an answer as long as nothing was counted.
pub trait Series: EncodeMetric + TypedMetric + Debug + Send + Sync + 'static {
    /// Whether it has counted nothing yet.
    fn is_unused(&self) -> bool;
}

impl Series for Counter {
    fn is_unused(&self) -> bool {
        self.get() == 0
    }
}

/// How long something took, counted by upper bounds in seconds.
#[derive(Debug)]
pub struct Times {
    bounds: &'static [f64],
    /// One for each bound, and one for what takes longer.
    counts: Vec<AtomicU64>,
    micros: AtomicU64,
}

impl Times {
    /// Nothing counted yet, by these bounds, which are in order.
    pub fn new(bounds: &'static [f64]) -> Times {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Times { bounds, counts, micros: AtomicU64::new(0) }
    }

    /// Counts something that took so long.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl TypedMetric for Times {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Times {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed))).collect();
        // Of what is counted meanwhile, the buckets and their sum show the same.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let seconds = Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl Series for Times {
    fn is_unused(&self) -> bool {
        self.counts.iter().all(|count| count.load(Ordering::Relaxed) == 0)
    }
}

/// One metric for each of some labels, which are known beforehand.
pub struct Table<K, M> {
    series: Arc<HashMap<K, (Labels, M)>>,
    /// Whether those that have counted nothing are left out: where there are many, and most never will.
    sparse: bool,
}

impl<K, M> Clone for Table<K, M> {
    fn clone(&self) -> Table<K, M> {
        Table { series: self.series.clone(), sparse: self.sparse }
    }
}

impl<K, M> Debug for Table<K, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} series)", self.series.len())
    }
}

impl<K: Eq + Hash, M: Series> Table<K, M> {
    /// A table of these keys, each with its labels.
    pub fn new(keys: impl IntoIterator<Item = (K, Labels)>, make: impl Fn() -> M) -> Table<K, M> {
        let series = keys.into_iter().map(|(key, labels)| (key, (labels, make()))).collect();
        Table { series: Arc::new(series), sparse: false }
    }

    /// The same, which shows nothing of what has counted nothing.
    #[must_use]
    pub fn sparse(self) -> Table<K, M> {
        Table { sparse: true, ..self }
    }

    /// The metric of this key; `None` where it is none of the table's.
    pub fn get(&self, key: &K) -> Option<&M> {
        self.series.get(key).map(|(_, metric)| metric)
    }
}

impl<K: Eq + Hash> Table<K, Counter> {
    /// Counts one more of this key.
    pub fn count(&self, key: &K) {
        self.add(key, 1);
    }

    /// Counts so many more of this key.
    pub fn add(&self, key: &K, by: u64) {
        if let Some(counter) = self.get(key) {
            counter.inc_by(by);
        }
    }
}

impl<K, M: Series> EncodeMetric for Table<K, M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let mut shown: Vec<_> =
            self.series.values().filter(|(_, metric)| !self.sparse || !metric.is_unused()).collect();
        shown.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (labels, metric) in shown {
            metric.encode(encoder.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}

/// Which kind of call it was, and what became of it.
type Called = (&'static str, &'static str);

/// The calls to one neighbour, by kind and outcome, and how long they took.
#[derive(Clone, Debug)]
pub struct Calls {
    times: Table<Called, Times>,
    kinds: &'static [&'static str],
}

/// What stands for a kind or an outcome that is none of those that are counted for themselves.
const OTHER: &str = "other";
/// The outcome of a call that nobody waited for any longer.
pub const LATE: &str = "late";

/// A call that is under way.
#[derive(Debug)]
pub struct Call {
    calls: Calls,
    kind: &'static str,
    outcome: &'static str,
    began: Instant,
}

impl Call {
    /// Says how it ended. Without that, nobody waited for its end.
    pub fn end(&mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Call { calls, kind, outcome, began } = self;
        if let Some(times) = calls.times.get(&(kind, outcome)).or_else(|| calls.times.get(&(kind, OTHER))) {
            times.observe(began.elapsed());
        }
    }
}

impl Calls {
    /// Calls of these kinds, which end in one of these outcomes; each list ends with `other`.
    pub fn new(kinds: &'static [&'static str], outcomes: &'static [&'static str]) -> Calls {
        let keys = kinds.iter().flat_map(|kind| outcomes.iter().map(|outcome| (*kind, *outcome)));
        let labelled =
            keys.map(|key @ (kind, outcome)| (key, vec![("call", kind.into()), ("outcome", outcome.into())]));
        Calls { times: Table::new(labelled, || Times::new(CALL_TIMES)).sparse(), kinds }
    }

    /// Begins a call, which is counted once what this gives is dropped.
    pub fn begin(&self, kind: &str) -> Call {
        let kind = self.kinds.iter().find(|known| **known == kind).copied().unwrap_or(OTHER);
        Call { calls: self.clone(), kind, outcome: LATE, began: Instant::now() }
    }

    /// Gives them to a registry, under this name.
    pub fn register(&self, name: &str, help: &str, registry: &mut Registry) {
        registry.register(name, help, self.times.clone());
    }
}

/// A gauge with one label, whose values are told as they become known. It is for what changes seldom: it takes a lock.
#[derive(Clone, Debug)]
pub struct Named {
    label: &'static str,
    values: Arc<Mutex<BTreeMap<&'static str, f64>>>,
}

impl Named {
    /// Nothing known yet.
    pub fn new(label: &'static str) -> Named {
        Named { label, values: Arc::default() }
    }

    /// Tells a value.
    pub fn set(&self, name: &'static str, value: f64) {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).insert(name, value);
    }
}

impl EncodeMetric for Named {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner).clone();
        values.iter().try_for_each(|(name, value)| encoder.encode_family(&[(self.label, *name)])?.encode_gauge(value))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// A gauge of a registry that never changes, with labels.
pub fn constant(registry: &mut Registry, name: &str, help: &str, series: impl IntoIterator<Item = (Labels, f64)>) {
    let family = Constants(series.into_iter().collect());
    registry.register(name, help, family);
}

#[derive(Debug)]
struct Constants(Vec<(Labels, f64)>);

impl EncodeMetric for Constants {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (labels, value) in &self.0 {
            match labels.is_empty() {
                true => encoder.encode_gauge(value)?,
                false => encoder.encode_family(labels)?.encode_gauge(value)?,
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text::encode;

    use super::*;

    fn shown(registry: &Registry) -> String {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn a_table_counts_what_it_knows_and_shows_it_in_order() {
        let keys = ["b", "a"].map(|key| (key, vec![("kind", key.into())]));
        let (table, sparse) = (Table::new(keys.clone(), Counter::default), Table::new(keys, Counter::default).sparse());
        let mut registry = Registry::default();
        registry.register("things", "Things", table.clone());
        registry.register("seldom", "Others", sparse.clone());
        for key in ["a", "a", "unknown"] {
            table.count(&key);
            sparse.count(&key);
        }
        assert_eq!(
            shown(&registry),
            "# HELP things_total Things.\n# TYPE things_total counter\nthings_total{kind=\"a\"} 2\n\
             things_total{kind=\"b\"} 0\n# HELP seldom_total Others.\n# TYPE seldom_total counter\n\
             seldom_total{kind=\"a\"} 2\n"
        );
    }

    #[test]
    fn times_are_counted_up_to_and_with_their_bounds() {
        let times = Times::new(&[0.5, 2.0]);
        for millis in [1, 500, 501, 2000, 2001, 60_000] {
            times.observe(Duration::from_millis(millis));
        }
        let mut registry = Registry::default();
        registry.register("took", "How long", times);
        assert_eq!(
            shown(&registry),
            "# HELP took How long.\n# TYPE took histogram\ntook_bucket{le=\"0.5\"} 2\ntook_bucket{le=\"2\"} 4\n\
             took_bucket{le=\"+Inf\"} 6\ntook_sum 65.003\ntook_count 6\n"
        );
    }

    #[test]
    fn an_unknown_call_or_outcome_is_another() {
        let calls = Calls::new(&["GET users", OTHER], &["ok", LATE, OTHER]);
        calls.begin("GET users").end("ok");
        calls.begin("GET of somebody's making").end("odd");
        drop(calls.begin("GET users"));
        let mut registry = Registry::default();
        calls.register("calls_seconds", "Calls", &mut registry);
        let text = shown(&registry);
        assert!(text.contains("calls_seconds_count{call=\"GET users\",outcome=\"ok\"} 1"), "{text}");
        assert!(text.contains("calls_seconds_count{call=\"GET users\",outcome=\"late\"} 1"), "{text}");
        assert!(text.contains("calls_seconds_count{call=\"other\",outcome=\"other\"} 1"), "{text}");
        assert!(!text.contains("somebody"), "{text}");
    }
}
