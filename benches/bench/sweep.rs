//! Sweeping and expiring a broker that is in order: what every run costs.

use std::time::Duration;

use anyhow::{Context, Result};
use lapin::{Connection, ConnectionProperties};
use reqwest::Method;
use serde_json::json;
use taskcluster_pulse::domain::name::Slot;
use taskcluster_pulse::domain::namespace::Namespace;

use crate::measure::{Samples, raw_calls};
use crate::report::Report;
use crate::world::{World, names, namespaces, variable};

const NAMESPACES: usize = 500;
const QUEUES_EACH: usize = 20;
const CONNECTIONS: usize = 100;

/// Measures `monitor-rabbit` and `expire-namespaces`, next to the listings alone; one queue of each namespace is not empty. All
/// namespaces expire soon, so that an expiry run looks whether there are messages in their queues.
pub async fn measure(world: &World, repeat: u32, report: &mut Report) -> Result<()> {
    let all = namespaces(NAMESPACES, Duration::from_secs(36_000), Duration::from_secs(1800));
    let databases = world.databases("sweep", &all).await?;
    make_objects(world, &all, QUEUES_EACH).await?;
    fill(world, &all).await?;
    world.make_users(&all).await?;
    let connections = connect(&all[..CONNECTIONS]).await?;
    // The first listing after so many declarations is slow.
    raw_calls(&["listings"])?;
    for database in &databases {
        // Each database is a deployment of its own: the users get its tag. And each namespace ends soon, which is noted once.
        world.make_users(&all).await?;
        world.task(database, "monitor-rabbit", 2 * NAMESPACES)?;
        world.task(database, "expire-namespaces", NAMESPACES)?;
        for task in ["monitor-rabbit", "expire-namespaces"] {
            let [mut ours, mut raw, mut before] = [(); 3].map(|()| Samples::default());
            let baseline = database.of_baseline();
            for _ in 0..repeat {
                raw.add(&raw_calls(&["listings"])?);
                ours.add(&world.task(database, task, 0)?);
                if let Some(baseline) = &baseline {
                    before.add(&world.task(baseline, task, 0)?);
                }
            }
            let what = format!("{task}, {} queues, {}", NAMESPACES * QUEUES_EACH, database.name);
            ours.report(report, &what, "listings", &raw);
            if baseline.is_some() {
                ours.report(report, &what, "baseline", &before);
            }
        }
    }
    drop(connections);
    Ok(())
}

/// Declares so many queues of each of the namespaces, and an exchange.
pub async fn make_objects(world: &World, namespaces: &[Namespace], queues_each: usize) -> Result<()> {
    for chunk in namespaces.chunks(50) {
        let (mut queues, mut exchanges) = (Vec::new(), Vec::new());
        for Namespace { name, .. } in chunk {
            queues.extend((0..queues_each).map(|number| {
                let name = format!("queue/{name}/tasks-{number}");
                json!({"name": name, "vhost": "/", "durable": true, "auto_delete": false, "arguments": {}})
            }));
            exchanges.push(json!({
                "name": format!("exchange/{name}/events"), "vhost": "/", "type": "topic",
                "durable": true, "auto_delete": false, "internal": false, "arguments": {},
            }));
        }
        world.define(&json!({"queues": queues, "exchanges": exchanges})).await?;
    }
    Ok(())
}

/// Puts a message into one queue of each namespace: what is not empty has a history.
async fn fill(world: &World, namespaces: &[Namespace]) -> Result<()> {
    for Namespace { name, .. } in namespaces {
        let message = json!({
            "properties": {}, "routing_key": format!("queue/{name}/tasks-0"), "payload": "message", "payload_encoding": "string",
        });
        world.admin(Method::POST, "exchanges/%2F/amq.default/publish", &message).await?;
    }
    Ok(())
}

/// Logs in once for each namespace.
async fn connect(namespaces: &[Namespace]) -> Result<Vec<Connection>> {
    let server = variable("RABBITMQ_AMQP")?;
    let mut connections = Vec::new();
    for namespace in namespaces {
        let password = namespace.rotation.password_of(Slot::One).context("an active password")?;
        let user = names().user(&namespace.name, Slot::One);
        let url = format!("amqp://{user}:{}@{server}/%2F", password.expose());
        connections.push(Connection::connect(&url, ConnectionProperties::default()).await?);
    }
    Ok(connections)
}
