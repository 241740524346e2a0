//! A small AMQP client, to try a connection string that `taskcluster-pulse claim` printed:
//!
//! ```text
//! export PULSE_CONNECTION_STRING=$(taskcluster-pulse claim taskcluster-demo)
//! cargo run --example amqp -- publish exchange/taskcluster-demo/jobs queue/taskcluster-demo/jobs 3
//! cargo run --example amqp -- consume queue/taskcluster-demo/jobs 3
//! ```
//!
//! The string is all that an AMQP client needs. It stands in a variable because others can see a program's arguments. A
//! program that runs for longer claims anew by the `reclaimAt` that came with it, connects with the new string, and then
//! closes the old connection. For `amqps://`, give `lapin` its feature `rustls`.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by RabbitMQ.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind, ExchangeKind};

/// How long everything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Uses the connection string in PULSE_CONNECTION_STRING.
#[derive(Parser)]
enum Command {
    /// Log in, and out again.
    Login,
    /// Declare a queue.
    Declare {
        /// Its name: queue/<namespace>/...
        queue: String,
    },
    /// Declare a topic exchange and a queue, bind the one to the other, and publish.
    Publish {
        /// The exchange's name: exchange/<namespace>/...
        exchange: String,
        /// The queue's name: queue/<namespace>/...
        queue: String,
        /// How many messages.
        messages: u32,
    },
    /// Take messages from a queue.
    Consume {
        /// Its name: queue/<namespace>/...
        queue: String,
        /// How many messages.
        messages: u32,
    },
    /// Take messages and acknowledge none, as a program that hangs does, until it is interrupted.
    Hold {
        /// The queue's name: queue/<namespace>/...
        queue: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = Command::parse();
    let patience = if matches!(command, Command::Hold { .. }) { Duration::MAX } else { PATIENCE };
    let ran = tokio::time::timeout(patience, run(command)).await;
    let Err(error) = ran.unwrap_or_else(|_| Err(anyhow::anyhow!("not done after {patience:?}"))) else {
        return ExitCode::SUCCESS;
    };
    match error.downcast_ref().map(lapin::Error::kind) {
        Some(ErrorKind::ProtocolError(refusal)) => {
            eprintln!("refused: {} {}", refusal.get_id(), refusal.get_message());
            ExitCode::from(3)
        }
        _ => {
            eprintln!("failed: {error:#}");
            ExitCode::from(1)
        }
    }
}

async fn run(command: Command) -> Result<()> {
    let connection_string = std::env::var("PULSE_CONNECTION_STRING").context("PULSE_CONNECTION_STRING")?;
    let connection = Connection::connect(&connection_string, ConnectionProperties::default()).await?;
    println!("logged in as {}", user(&connection_string));
    let channel = connection.create_channel().await?;
    match command {
        Command::Login => {}
        Command::Declare { queue } => declare(&channel, &queue).await?,
        Command::Publish { exchange, queue, messages } => publish(&channel, &exchange, &queue, messages).await?,
        Command::Consume { queue, messages } => consume(&channel, &queue, messages).await?,
        Command::Hold { queue } => hold(&channel, &queue).await?,
    }
    Ok(connection.close(200, "goodbye".into()).await?)
}

/// The user in `<protocol>://<user>:<password>@<host>`.
fn user(connection_string: &str) -> &str {
    let after_protocol = connection_string.split_once("://").map_or("", |(_, rest)| rest);
    after_protocol.split(':').next().unwrap_or_default()
}

/// Durable, so that it and what is in it are still there after a restart of the broker.
async fn declare(channel: &Channel, queue: &str) -> Result<()> {
    channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), FieldTable::default()).await?;
    println!("declared {queue}");
    Ok(())
}

async fn publish(channel: &Channel, exchange: &str, queue: &str, messages: u32) -> Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.into(), ExchangeKind::Topic, options, FieldTable::default()).await?;
    println!("declared {exchange}");
    declare(channel, queue).await?;
    let every_key = "#";
    let bind = QueueBindOptions::default();
    channel.queue_bind(queue.into(), exchange.into(), every_key.into(), bind, FieldTable::default()).await?;
    println!("bound {queue} to {exchange}");
    // From now on the broker confirms each message, so that none is lost unnoticed.
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    for number in 1..=messages {
        let (key, text) = (format!("jobs.{number}"), format!("message {number}"));
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sent =
            channel.basic_publish(exchange.into(), key.into(), options, text.as_bytes(), BasicProperties::default());
        let confirmed = matches!(sent.await?.await?, Confirmation::Ack(None));
        ensure!(confirmed, "the broker did not take message {number}");
    }
    println!("published {messages} messages to {exchange}");
    Ok(())
}

async fn consume(channel: &Channel, queue: &str, messages: u32) -> Result<()> {
    // No more than this are handed out before they are acknowledged, so that the rest stays for others.
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let (tag, options) = ("", BasicConsumeOptions::default());
    let mut consumer = channel.basic_consume(queue.into(), tag.into(), options, FieldTable::default()).await?;
    for _ in 0..messages {
        let delivery = consumer.next().await.context("the broker ended the consumer")??;
        println!("received {:?} from {}", String::from_utf8_lossy(&delivery.data), delivery.exchange);
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

async fn hold(channel: &Channel, queue: &str) -> Result<()> {
    let (tag, options) = ("", BasicConsumeOptions::default());
    let mut consumer = channel.basic_consume(queue.into(), tag.into(), options, FieldTable::default()).await?;
    let mut held = Vec::new();
    while let Some(delivery) = consumer.next().await {
        held.push(delivery?);
        println!("holding {} messages", held.len());
    }
    anyhow::bail!("the broker ended the consumer")
}
