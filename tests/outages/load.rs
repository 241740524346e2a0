//! A service in use: clients that claim, log in, publish and consume all the while, and check what they are answered.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::future::{join, join_all};
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, ExchangeKind};
use serde_json::json;
use taskcluster_pulse::clock::{Clock as _, SystemClock, Timestamp};
use taskcluster_pulse::taskcluster::TaskclusterError;
use tokio::time::{sleep, timeout};
use url::Url;

use crate::support::processes::{Answer, Deployment, PATIENCE, Program};
use crate::support::rabbitmq::{eventually, log_in};
use crate::support::services::Services;

/// Claimed before each outage.
pub const KNOWN: [&str; 3] = ["taskcluster-a", "taskcluster-b", "taskcluster-c"];

/// How long a password is active.
pub const INTERVAL: Duration = Duration::from_secs(4);

/// Short, so that much happens in the time of a test.
const SETTINGS: [(&str, &str); 6] = [
    ("NAMESPACE_ROTATION_INTERVAL", "4 s"),
    ("RABBIT_REQUEST_TIMEOUT", "400 ms"),
    ("STORE_QUERY_TIMEOUT", "1 s"),
    ("WORKER_ROTATE_INTERVAL", "200 ms"),
    ("WORKER_MONITOR_INTERVAL", "500 ms"),
    ("MONITOR_MAX_REMOVAL_SHARE", "100%"),
];

/// How long a client of the broker waits for anything.
const AMQP_PATIENCE: Duration = Duration::from_secs(2);

/// A deployment in use: one web process, and whoever rotates.
pub struct Scene {
    pub deployment: Deployment,
    pub url: Url,
    pub web: Program,
    pub worker: Program,
    /// Whether the broker can be logged in to, for all that the test knows.
    broker_is_up: Cell<bool>,
    over: Cell<bool>,
    held: RefCell<BTreeMap<&'static str, Vec<Answer>>>,
    tally: RefCell<Tally>,
}

/// What happened.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub claims: usize,
    /// Claims of known namespaces that were not answered.
    pub unanswered: usize,
    /// The longest that one of them took.
    pub slowest: Duration,
    pub logins: usize,
    pub passwords: usize,
    pub messages: usize,
}

impl Scene {
    /// Starts everything, and claims what is to be known.
    pub async fn new(services: &Services) -> Scene {
        let mut deployment = Deployment::on(services).await;
        SETTINGS.into_iter().for_each(|(name, value)| deployment.set(name, value));
        let (web, url) = deployment.serve(&["web"]).await;
        let worker = deployment.start(&["worker"]);
        for name in KNOWN {
            eventually("a first claim", async || {
                // On a busy machine it may not be done in time, and is to be repeated.
                let claimed = deployment.claim(&url, name, &json!({})).await;
                if is_unavailable(&claimed) { None } else { Some(claimed.unwrap()) }
            })
            .await;
        }
        let (held, tally) = (RefCell::default(), RefCell::default());
        let (broker_is_up, over) = (Cell::new(true), Cell::new(false));
        Scene { deployment, url, web, worker, broker_is_up, over, held, tally }
    }

    /// Has clients use the service while `fault` goes on, and for a whole interval after it. All that they were answered has
    /// to be good; at the end, everything has to be as it was, without anybody's help.
    pub async fn in_use(&self, fault: impl Future<Output = ()>) -> Tally {
        let fault = async {
            // Everybody has begun.
            sleep(Duration::from_secs(1)).await;
            fault.await;
            self.works_again().await;
            sleep(INTERVAL).await;
            self.over.set(true);
        };
        let claims = join_all(KNOWN.map(|name| self.claim_all_the_time(name)));
        let logins = join_all(KNOWN.map(|name| self.log_in_all_the_time(name)));
        let traffic = join_all(KNOWN.map(|name| self.send_and_receive(name)));
        join(fault, join(claims, join(logins, traffic))).await;
        let tally = self.tally.borrow().clone();
        println!("{tally:?}");
        assert!(tally.passwords > KNOWN.len(), "nothing was rotated: {tally:?}");
        assert!(tally.messages > 0, "nothing was sent: {tally:?}");
        tally
    }

    /// From now on a login may fail.
    pub fn broker_goes(&self) {
        self.broker_is_up.set(false);
    }

    /// From now on all logins succeed again.
    pub fn broker_is_back(&self) {
        self.broker_is_up.set(true);
    }

    /// Claims as any client does.
    pub async fn claim(&self, name: &str) -> Result<Answer, TaskclusterError> {
        self.deployment.claim(&self.url, name, &json!({})).await
    }

    /// A first claim, while what it needs is not there: told to come again, soon.
    pub async fn is_told_to_come_again(&self, name: &str) {
        let began = Instant::now();
        let claimed = self.claim(name).await;
        assert!(is_unavailable(&claimed), "a first claim was answered: {}", shown(&claimed));
        // In time for Taskcluster's clients, on a machine that is busy too.
        assert!(began.elapsed() < Duration::from_secs(20), "a first claim was answered after {:?}", began.elapsed());
    }

    /// Waits until every namespace got a new password after this, which logs in.
    async fn works_again(&self) {
        let newest = |name: &str| self.held.borrow().get(name)?.last().map(|answer| answer.connection_string.clone());
        let before = KNOWN.map(newest);
        let rotated = timeout(PATIENCE, async {
            while KNOWN.map(newest).iter().zip(&before).any(|(now, before)| now == before) {
                sleep(Duration::from_millis(50)).await;
            }
        });
        assert!(rotated.await.is_ok(), "nothing is rotated any more after the outage");
    }

    async fn claim_all_the_time(&self, name: &'static str) {
        while !self.over.get() {
            let (asked, began) = (SystemClock.now(), Instant::now());
            let claimed = self.claim(name).await;
            self.note(name, claimed, asked, began.elapsed());
            sleep(Duration::from_millis(40)).await;
        }
    }

    fn note(&self, name: &'static str, claimed: Result<Answer, TaskclusterError>, asked: Timestamp, took: Duration) {
        let mut tally = self.tally.borrow_mut();
        tally.claims += 1;
        tally.slowest = tally.slowest.max(took);
        match claimed {
            Ok(answer) => {
                assert!(answer.reclaim_at > asked, "reclaimAt {} is past", answer.reclaim_at);
                tally.passwords += usize::from(self.hold(name, answer));
            }
            Err(TaskclusterError::Unreachable { .. } | TaskclusterError::Refused { status: 503, .. }) => {
                tally.unanswered += 1;
            }
            Err(error) => panic!("a claim of {name} failed: {error}"),
        }
    }

    /// Remembers what has to log in, and forgets what no longer has to. Whether it is new.
    fn hold(&self, name: &'static str, answer: Answer) -> bool {
        let mut held = self.held.borrow_mut();
        let held = held.entry(name).or_default();
        held.retain(|answer| answer.reclaim_at > SystemClock.now());
        match held.iter_mut().find(|old| old.connection_string == answer.connection_string) {
            // Every promise has to be kept, so the longest one counts.
            Some(old) => {
                old.reclaim_at = old.reclaim_at.max(answer.reclaim_at);
                false
            }
            None => {
                held.push(answer);
                true
            }
        }
    }

    async fn log_in_all_the_time(&self, name: &'static str) {
        while !self.over.get() {
            let held = self.held.borrow().get(name).cloned().unwrap_or_default();
            // The oldest is the one that will be overwritten next.
            for answer in [held.first(), held.last()].into_iter().flatten() {
                let up = self.broker_is_up.get();
                let welcome = timeout(AMQP_PATIENCE, self.deployment.try_login(&answer.connection_string)).await;
                let Ok(Err(why)) = welcome else { continue };
                let (now, good_until) = (SystemClock.now(), answer.reclaim_at);
                let good = up && self.broker_is_up.get() && now < good_until;
                assert!(!good, "{name} could not log in at {now}, good until {good_until}: {why}");
            }
            self.tally.borrow_mut().logins += held.len().min(2);
            sleep(Duration::from_millis(40)).await;
        }
    }

    /// Publishes and consumes, over new connections whenever one fails. What the broker confirmed has to arrive.
    async fn send_and_receive(&self, name: &'static str) {
        let (mut sent, mut received) = (0, BTreeSet::new());
        let mut confirmed = BTreeSet::new();
        loop {
            let newest = self.held.borrow().get(name).and_then(|held| held.last().cloned());
            let over = self.over.get();
            if let Some(answer) = newest {
                let session = self.session(&answer.connection_string, name, &mut sent, &mut confirmed, &mut received);
                let _ = session.await;
            }
            if over {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        let lost: Vec<_> = confirmed.difference(&received).collect();
        assert!(lost.is_empty(), "{name}: {} of {} messages were lost: {lost:?}", lost.len(), confirmed.len());
        self.tally.borrow_mut().messages += confirmed.len();
    }

    /// What one connection does until it fails; once all is over, until there is no message left.
    async fn session(
        &self,
        connection_string: &str,
        name: &str,
        sent: &mut u64,
        confirmed: &mut BTreeSet<u64>,
        received: &mut BTreeSet<u64>,
    ) -> Result<(), Failed> {
        let connection = timeout(AMQP_PATIENCE, log_in(connection_string)).await??;
        let channel = connection.create_channel().await?;
        let (queue, exchange) = (format!("queue/{name}/all"), format!("exchange/{name}/all"));
        timeout(AMQP_PATIENCE, declare(&channel, &queue, &exchange)).await??;
        loop {
            if !self.over.get() {
                *sent += 1;
                timeout(AMQP_PATIENCE, publish(&channel, &exchange, *sent)).await??;
                confirmed.insert(*sent);
            }
            let got =
                timeout(AMQP_PATIENCE, channel.basic_get(queue.as_str().into(), BasicGetOptions::default())).await??;
            match got {
                Some(message) => {
                    received.insert(std::str::from_utf8(&message.data).unwrap().parse().unwrap());
                    timeout(AMQP_PATIENCE, message.ack(BasicAckOptions::default())).await??;
                }
                None if self.over.get() => return Ok(()),
                None => {}
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Makes what outlasts a restart, where it is not there.
async fn declare(channel: &Channel, queue: &str, exchange: &str) -> lapin::Result<()> {
    let nothing = FieldTable::default;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.into(), ExchangeKind::Fanout, durable, nothing()).await?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), durable, nothing()).await?;
    channel.queue_bind(queue.into(), exchange.into(), "".into(), QueueBindOptions::default(), nothing()).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await
}

/// Persistent, and confirmed by the broker.
async fn publish(channel: &Channel, exchange: &str, number: u64) -> lapin::Result<()> {
    let (options, persistent) = (BasicPublishOptions::default(), BasicProperties::default().with_delivery_mode(2));
    let body = number.to_string();
    channel.basic_publish(exchange.into(), "".into(), options, body.as_bytes(), persistent).await?.await?;
    Ok(())
}

/// A connection is of no more use.
#[derive(Debug, thiserror::Error)]
#[error("the connection failed")]
struct Failed;

impl From<lapin::Error> for Failed {
    fn from(_: lapin::Error) -> Failed {
        Failed
    }
}

impl From<tokio::time::error::Elapsed> for Failed {
    fn from(_: tokio::time::error::Elapsed) -> Failed {
        Failed
    }
}

/// Whether a claim was answered by 503.
pub fn is_unavailable<T>(claimed: &Result<T, TaskclusterError>) -> bool {
    matches!(claimed, Err(TaskclusterError::Refused { status: 503, .. }))
}

/// What came of a claim, without its secret.
pub fn shown(claimed: &Result<Answer, TaskclusterError>) -> String {
    match claimed {
        Ok(answer) => format!("good until {}", answer.reclaim_at),
        Err(error) => error.to_string(),
    }
}
