//! The program as its users run it: real processes on the real RabbitMQ and on either store.

mod canary;
mod chaos;
mod claiming;
mod clock;
mod dockerflow;
mod doctor;
mod ends;
mod files;
mod keys;
mod kills;
mod metrics;
mod neighbours;
mod obstacles;
mod outages;
mod starting;
mod stopping;
mod strangers;
mod tasks;

use crate::support::processes::Deployment;
use crate::support::rabbitmq::log_in;
use crate::support::world::{BrokerKind, StoreKind};
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, ExchangeKind};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Randomness that can be repeated: the seed is shown where a test fails, and taken from `PULSE_TEST_SEED` where that is
/// set.
fn seeded() -> StdRng {
    let seed = std::env::var("PULSE_TEST_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("PULSE_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Makes the namespace's queue, and puts so many messages into it through the namespace's exchange, as its owner does.
/// All of them are there once this is done.
async fn fill(connection_string: &str, namespace: &str, queue: &str, messages: u64) -> lapin::Result<()> {
    let connection = log_in(connection_string).await?;
    let channel = connection.create_channel().await?;
    let (exchange, nothing) = (format!("exchange/{namespace}/in"), FieldTable::default);
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.as_str().into(), ExchangeKind::Topic, durable, nothing()).await?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), durable, nothing()).await?;
    let bind = QueueBindOptions::default();
    channel.queue_bind(queue.into(), exchange.as_str().into(), queue.into(), bind, nothing()).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    for _ in 0..messages {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        channel.basic_publish(exchange.as_str().into(), queue.into(), options, b"x", properties).await?;
    }
    channel.wait_for_confirms().await?;
    let _ = connection.close(200, "bye".into()).await;
    Ok(())
}

#[tokio::test]
#[should_panic(expected = "a process wrote a secret")]
async fn a_secret_that_a_process_writes_is_found() {
    let deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    deployment.add_secret("Applied V1");
    deployment.run(&["migrate"]).await;
}
