//! Each verdict, reached by real clients of a real RabbitMQ: the clock is moved, and what the broker counts is waited for.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, Consumer};
use taskcluster_pulse::domain::plan::Brakes;
use taskcluster_pulse::domain::sweep::SweepPolicy;
use taskcluster_pulse::domain::verdict::verdict;

use super::{MINUTE, told};
use crate::support::rabbitmq::{eventually, log_in};
use crate::support::world::{BrokerKind, HOUR, Mailbox, StoreKind, World};

/// Where messages are published: the default exchange is not for users of namespaces.
const EXCHANGE: &str = "exchange/taskcluster-a/all";
/// How long a delivery may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A real RabbitMQ with one namespace, whose credentials its clients have, and how it is swept: no queue is removed.
async fn real_world() -> (World, String, SweepPolicy) {
    let world = World::new(StoreKind::Sqlite, BrokerKind::Real).await;
    let claimed = world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    let nothing = Brakes { most: 0, percent: 0, owner_percent: 0 };
    let policy = SweepPolicy { brakes: nothing, ..world.sweep_policy() };
    (world, claimed.connection_string.to_string(), policy)
}

fn named(queue: &str) -> String {
    format!("queue/taskcluster-a/{queue}")
}

/// Declares queues, and publishes to them.
struct Publisher {
    _connection: Connection,
    channel: Channel,
}

impl Publisher {
    async fn open(connection_string: &str) -> Publisher {
        let connection = log_in(connection_string).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let kind = lapin::ExchangeKind::Direct;
        channel.exchange_declare(EXCHANGE.into(), kind, options, FieldTable::default()).await.unwrap();
        Publisher { _connection: connection, channel }
    }

    async fn declare(&self, queue: &str) {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let name = named(queue);
        self.channel.queue_declare(name.as_str().into(), options, FieldTable::default()).await.unwrap();
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        self.channel.queue_bind(name.as_str().into(), EXCHANGE.into(), queue.into(), options, none).await.unwrap();
    }

    async fn publish(&self, queue: &str, messages: usize) {
        for _ in 0..messages {
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            let published = self.channel.basic_publish(EXCHANGE.into(), queue.into(), options, b"x", properties);
            published.await.unwrap().await.unwrap();
        }
    }
}

/// A consumer with a connection of its own.
struct Reader {
    connection: Connection,
    consumer: Consumer,
}

impl Reader {
    /// Consumes from a queue. A `prefetch` of zero is without limit.
    async fn open(connection_string: &str, queue: &str, prefetch: u16) -> Reader {
        let connection = log_in(connection_string).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.basic_qos(prefetch, BasicQosOptions::default()).await.unwrap();
        let consuming = channel.basic_consume(
            named(queue).as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = consuming.await.unwrap();
        Reader { connection, consumer }
    }

    async fn next(&mut self) -> lapin::Result<Delivery> {
        let next = tokio::time::timeout(PATIENCE, self.consumer.next()).await.expect("a delivery should come");
        next.unwrap_or_else(|| panic!("the consumer has ended"))
    }

    /// Takes so many messages, and acknowledges each.
    async fn read(&mut self, messages: usize) {
        for _ in 0..messages {
            self.next().await.unwrap().ack(BasicAckOptions::default()).await.unwrap();
        }
    }

    /// Fails on so many deliveries, which go back into the queue.
    async fn fail(&mut self, messages: usize) {
        for _ in 0..messages {
            let requeue = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
            self.next().await.unwrap().nack(requeue).await.unwrap();
        }
    }
}

/// What the broker is to count of a queue: messages in it, acknowledged, and delivered again at least.
type Counted = (u64, u64, u64);

/// Waits until the broker shows all of it; its statistics are some seconds old.
async fn counted(world: &World, expected: &BTreeMap<&str, Counted>) {
    for (queue, (messages, acknowledged, redelivered)) in expected {
        eventually(&format!("the count of {queue}"), async || {
            let found = world.broker.queue(&named(queue)).await.unwrap()?;
            let detail = world.broker.queue_detail(&named(queue)).await.unwrap()?;
            let counters = detail.counters.unwrap_or_default();
            let enough = counters.acknowledged == *acknowledged && counters.redelivered >= *redelivered;
            (found.messages == Some(*messages) && detail.consumers.is_some() && enough).then_some(())
        })
        .await;
    }
}

async fn look(world: &World, policy: &SweepPolicy) {
    world.clock.advance(2 * MINUTE);
    let outcome = world.service().sweep(policy, false).await.unwrap();
    assert_eq!(outcome.failed, 0, "{outcome:?}");
}

/// The verdicts on all queues, each with its sentence.
async fn verdicts(world: &World, policy: &SweepPolicy) -> BTreeMap<String, (&'static str, String)> {
    use taskcluster_pulse::clock::Clock as _;
    let (histories, now) = (world.store.histories().await.unwrap(), world.clock.now());
    let judged = histories.into_iter().map(|(queue, history)| {
        let verdict = verdict(&history, &policy.guard.criteria).unwrap();
        (queue, (verdict.kind.word(), verdict.sentence(now)))
    });
    judged.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_verdict_is_reached_by_real_clients() {
    let (world, string, policy) = real_world().await;
    let publisher = Publisher::open(&string).await;
    let all = ["fine", "draining", "slow", "stalled", "stopped", "no consumer", "looping", "hoarding"];
    let begin = [5, 200, 10, 30, 30, 30, 5, 40];
    for (queue, messages) in all.into_iter().zip(begin) {
        publisher.declare(queue).await;
        publisher.publish(queue, messages).await;
    }
    let open = async |queue, prefetch| Reader::open(&string, queue, prefetch).await;
    let (mut fine, mut draining, mut slow) = (open("fine", 2).await, open("draining", 10).await, open("slow", 2).await);
    let (_stalled, mut stopped, mut looping) =
        (open("stalled", 3).await, open("stopped", 3).await, open("looping", 5).await);
    let _hoarding = open("hoarding", 0).await;
    for round in 1..=9 {
        publisher.publish("fine", 4).await;
        fine.read(4).await;
        draining.read(20).await;
        publisher.publish("slow", 12).await;
        slow.read(2).await;
        if round <= 2 {
            stopped.read(2).await;
        }
        looping.fail(15).await;
        let expected = [
            ("fine", (5, 4 * round, 0)),
            ("draining", (200 - 20 * round, 20 * round, 0)),
            ("slow", (10 + 10 * round, 2 * round, 0)),
            ("stalled", (30, 0, 0)),
            ("stopped", (30 - 2 * round.min(2), 2 * round.min(2), 0)),
            ("no consumer", (30, 0, 0)),
            ("looping", (5, 0, 15 * round - 5)),
            ("hoarding", (40, 0, 0)),
        ];
        counted(&world, &expected.into()).await;
        look(&world, &policy).await;
    }
    let verdicts = verdicts(&world, &policy).await;
    for queue in all {
        assert_eq!(verdicts[&named(queue)].0, queue, "{verdicts:#?}");
    }
    // One mail may tell of all.
    let mailbox = Mailbox::default();
    assert_eq!(world.service().deliver(&mailbox, false).await.unwrap().failed, 0);
    let told: Vec<_> = mailbox.delivered.lock().unwrap().iter().map(|notice| notice.text.clone()).collect();
    let tells_of = |queue: &str| told.iter().any(|text| text.contains(&format!("`{}`", named(queue))));
    for queue in all {
        let in_trouble = !["fine", "draining", "slow"].contains(&queue);
        assert!(tells_of(queue) == in_trouble || queue == "slow", "{queue}: {told:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hoarder_alone_is_closed_and_a_polite_consumer_of_the_same_queue_lives_on() {
    let (world, string, policy) = real_world().await;
    let publisher = Publisher::open(&string).await;
    publisher.declare("x").await;
    let mut polite = Reader::open(&string, "x", 1).await;
    publisher.publish("x", 1).await;
    let mut in_hand = polite.next().await.unwrap();
    let mut hoarder = Reader::open(&string, "x", 0).await;
    publisher.publish("x", 40).await;
    let (mut published, mut acknowledged) = (41, 0);
    let mut subjects = Vec::new();
    while !subjects.iter().any(|subject: &String| subject.contains("the connection that held")) {
        in_hand.ack(BasicAckOptions::default()).await.unwrap();
        acknowledged += 1;
        // What is published goes to either, until the polite one has one.
        in_hand = loop {
            publisher.publish("x", 1).await;
            published += 1;
            if let Ok(next) = tokio::time::timeout(Duration::from_millis(200), polite.consumer.next()).await {
                break next.unwrap().unwrap();
            }
        };
        counted(&world, &[("x", (published - acknowledged, acknowledged, 0))].into()).await;
        look(&world, &policy).await;
        subjects.extend(told(&world).await);
        assert!(acknowledged < 25, "it is never closed: {subjects:?}");
    }
    // A client hears of it a moment later.
    let gone = async || (!hoarder.connection.status().connected()).then_some(());
    eventually("the end of the connection", gone).await;
    assert!(acknowledged >= 8, "the grace time was over");
    assert!(subjects[0].contains("a consumer hoards"), "{subjects:?}");
    // It has got its messages before it hears why it was closed.
    let why = loop {
        match tokio::time::timeout(PATIENCE, hoarder.consumer.next()).await.unwrap() {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error.to_string(),
            None => panic!("nothing told why"),
        }
    };
    assert!(why.contains("unacknowledged"), "{why}");
    in_hand.ack(BasicAckOptions::default()).await.unwrap();
    polite.read(usize::try_from(published - acknowledged - 1).unwrap()).await;
    assert!(polite.connection.status().connected());
    let empty = async || {
        let found = world.broker.queue(&named("x")).await.unwrap()?;
        (found.messages == Some(0)).then_some(())
    };
    eventually("an empty queue", empty).await;
}
