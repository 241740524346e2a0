//! Closer looks at queues by RabbitMQ's Prometheus plugin: one scrape in place of a call for each queue.
//!
//! `/metrics/detailed` tells the consumers of queues and, from RabbitMQ 4.0 on, what was delivered and acknowledged. It is what one
//! node knows, so it is used where there is one node alone. It tells nothing of who consumes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, StatusCode};
use url::Url;

use super::BrokerError;
use crate::domain::history::Counters;
use crate::domain::inventory::QueueDetail;
use crate::terminal::one_line;
use crate::tls;

/// No line is longer; names have at most 255 bytes, each of which takes at most two here.
const LONGEST_LINE: usize = 4096;
/// What each metric's name begins with.
const DETAILED: &str = "rabbitmq_detailed_queue_";
/// Without this metric the broker counts nothing that can be told.
const ACKNOWLEDGED: &str = "messages_acked_total";

/// The Prometheus plugin of one node. It gets no account: it is asked as anybody may ask.
pub(super) struct Metrics {
    client: Client,
    url: String,
    limit: Duration,
}

impl Metrics {
    /// Of the plugin whose root is `base`, for one virtual host. A scrape may take `limit`.
    pub(super) fn new(base: &Url, vhost: &str, limit: Duration) -> Result<Metrics, String> {
        tls::install_crypto_provider();
        let redirect = reqwest::redirect::Policy::none();
        let client = Client::builder().no_proxy().redirect(redirect).retry(reqwest::retry::never());
        let client = client.build().map_err(|error| error.to_string())?;
        let (base, vhost) = (base.as_str().trim_end_matches('/'), utf8_percent_encode(vhost, NON_ALPHANUMERIC));
        let families = "family=queue_consumer_count&family=queue_delivery_metrics";
        Ok(Metrics { client, url: format!("{base}/metrics/detailed?{families}&vhost={vhost}"), limit })
    }

    /// What is told of these queues. One that is not told of is left out.
    pub(super) async fn look(&self, queues: &BTreeSet<String>) -> Result<BTreeMap<String, QueueDetail>, BrokerError> {
        let late = |_| BrokerError::Unavailable(format!("GET metrics/detailed: no answer within {:?}", self.limit));
        tokio::time::timeout(self.limit, self.scrape(queues)).await.map_err(late)?
    }

    async fn scrape(&self, queues: &BTreeSet<String>) -> Result<BTreeMap<String, QueueDetail>, BrokerError> {
        let lost = |error: reqwest::Error| {
            BrokerError::Unavailable(format!("GET metrics/detailed: {}", one_line(&error.without_url().to_string())))
        };
        let mut response = self.client.get(&self.url).send().await.map_err(lost)?;
        if response.status() != StatusCode::OK {
            let status = response.status().as_u16();
            return Err(BrokerError::Unavailable(format!("GET metrics/detailed: {status}")));
        }
        let mut scrape = Scrape { queues, told: BTreeMap::new(), counts: false, rest: Vec::new() };
        // All of it may be long; of each line little is kept.
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            scrape.read(&chunk)?;
        }
        scrape.end()
    }
}

/// What was read of a scrape so far.
struct Scrape<'a> {
    queues: &'a BTreeSet<String>,
    told: BTreeMap<String, QueueDetail>,
    /// Whether it tells what was acknowledged, be it of no queue.
    counts: bool,
    /// The beginning of a line.
    rest: Vec<u8>,
}

impl Scrape<'_> {
    fn read(&mut self, chunk: &[u8]) -> Result<(), BrokerError> {
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend(part);
            if self.rest.ends_with(b"\n") {
                let line = std::mem::take(&mut self.rest);
                self.line(String::from_utf8_lossy(&line).trim_end());
            } else if self.rest.len() > LONGEST_LINE {
                return Err(garbled("it has a line without an end"));
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &str) {
        if let Some(metric) = line.strip_prefix("# TYPE ").and_then(|line| line.split(' ').next()) {
            self.counts |= metric.strip_prefix(DETAILED) == Some(ACKNOWLEDGED);
            return;
        }
        let Some((metric, queue, value)) = sample(line) else { return };
        if !self.queues.contains(&queue) {
            return;
        }
        let detail = self.told.entry(queue).or_default();
        if metric == "consumers" {
            detail.consumers = Some(u32::try_from(value).unwrap_or(u32::MAX));
            return;
        }
        let counters = detail.counters.get_or_insert_default();
        let (acknowledged, delivered) = (&mut counters.acknowledged, &mut counters.delivered);
        match metric {
            ACKNOWLEDGED => *acknowledged += value,
            // Without waiting for an acknowledgement.
            "messages_delivered_total" | "get_total" => {
                (*acknowledged, *delivered) = (*acknowledged + value, *delivered + value)
            }
            "messages_delivered_ack_total" | "get_ack_total" => *delivered += value,
            "messages_redelivered_total" => counters.redelivered += value,
            _ => {}
        }
    }

    /// A queue of which nothing was ever delivered is told of without counters.
    fn end(mut self) -> Result<BTreeMap<String, QueueDetail>, BrokerError> {
        if !self.counts {
            return Err(garbled("it does not tell what was acknowledged; RabbitMQ does so from 4.0 on"));
        }
        self.told.retain(|_, detail| detail.consumers.is_some());
        self.told.values_mut().for_each(|detail| _ = detail.counters.get_or_insert(Counters::default()));
        Ok(self.told)
    }
}

fn garbled(what: &str) -> BrokerError {
    BrokerError::Garbled(format!("GET metrics/detailed: {what}"))
}

/// The metric without what all begin with, the queue, and the value: of `rabbitmq_detailed_queue_x{vhost="v",queue="q"} 7`.
fn sample(line: &str) -> Option<(&str, String, u64)> {
    let (metric, mut rest) = line.strip_prefix(DETAILED)?.split_once('{')?;
    let mut queue = None;
    loop {
        let (label, after) = rest.split_once("=\"")?;
        let (value, after) = quoted(after)?;
        if label.trim_start_matches(',') == "queue" {
            queue = Some(value);
        }
        rest = after;
        if let Some(value) = rest.strip_prefix('}') {
            let value: f64 = value.trim().split(' ').next()?.parse().ok()?;
            // A float becomes the nearest integer there is.
            return Some((metric, queue?, value as u64));
        }
    }
}

/// A label's value, to its closing quote, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As RabbitMQ 4.3.6 has it.
    const TOLD: &str = r#"# TYPE rabbitmq_detailed_queue_consumers gauge
# HELP rabbitmq_detailed_queue_consumers Consumers on a queue
rabbitmq_detailed_queue_consumers{vhost="/",queue="queue/x/a"} 2
rabbitmq_detailed_queue_consumers{vhost="/",queue="queue/x/\"b\\"} 0
rabbitmq_detailed_queue_consumers{vhost="/",queue="queue/x/other"} 5
# TYPE rabbitmq_detailed_queue_get_total counter
rabbitmq_detailed_queue_get_total{vhost="/",queue="queue/x/a"} 1
rabbitmq_detailed_queue_get_ack_total{vhost="/",queue="queue/x/a"} 20
rabbitmq_detailed_queue_messages_delivered_total{vhost="/",queue="queue/x/a"} 300
rabbitmq_detailed_queue_messages_delivered_ack_total{vhost="/",queue="queue/x/a"} 4000
rabbitmq_detailed_queue_messages_redelivered_total{vhost="/",queue="queue/x/a"} 7
# TYPE rabbitmq_detailed_queue_messages_acked_total counter
rabbitmq_detailed_queue_messages_acked_total{vhost="/",queue="queue/x/a"} 3500
rabbitmq_detailed_queue_messages_acked_total{vhost="/",queue="queue/x/gone"} 9
telemetry_scrape_size_bytes_count{registry="detailed",content_type="text/plain; version=0.0.4"} 1
"#;

    fn read(text: &str, chunk: usize) -> Result<BTreeMap<String, QueueDetail>, BrokerError> {
        let queues = ["queue/x/a", "queue/x/\"b\\", "queue/x/gone"].map(str::to_owned).into();
        let mut scrape = Scrape { queues: &queues, told: BTreeMap::new(), counts: false, rest: Vec::new() };
        text.as_bytes().chunks(chunk).try_for_each(|chunk| scrape.read(chunk))?;
        scrape.end()
    }

    #[test]
    fn a_scrape_is_read_however_it_is_cut() {
        for chunk in [1, 7, 100_000] {
            let told = read(TOLD, chunk).unwrap();
            let counters = Counters { acknowledged: 3801, delivered: 4321, redelivered: 7 };
            assert_eq!((told["queue/x/a"].consumers, told["queue/x/a"].counters), (Some(2), Some(counters)));
            let never = &told["queue/x/\"b\\"];
            assert_eq!((never.consumers, never.counters), (Some(0), Some(Counters::default())));
            assert_eq!(told.len(), 2, "neither what was not asked for, nor what is gone: {told:?}");
        }
    }

    #[test]
    fn what_does_not_count_acknowledgements_is_of_no_use() {
        let old =
            TOLD.lines().filter(|line| !line.contains("acked")).map(|line| format!("{line}\n")).collect::<String>();
        assert!(read(&old, 50).unwrap_err().to_string().contains("4.0"));
        assert!(read("<html>", 50).is_err());
        assert!(read(&"x".repeat(10_000), 1000).unwrap_err().to_string().contains("without an end"));
    }
}
