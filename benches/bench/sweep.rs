//! Sweeping and expiring a broker that is in order: what every run costs.

use std::time::Duration;

use anyhow::{Context, Result};
use lapin::{Connection, ConnectionProperties};
use serde_json::json;
use taskcluster_pulse::domain::name::Slot;
use taskcluster_pulse::domain::namespace::Namespace;

use crate::measure::{Samples, raw_calls};
use crate::report::Report;
use crate::world::{World, names, namespaces, variable};

const NAMESPACES: usize = 500;
const QUEUES_EACH: usize = 20;
const CONNECTIONS: usize = 100;

/// Measures `monitor-rabbit` and `expire-namespaces`, next to the listings alone. All namespaces expire soon, so that an
/// expiry run looks whether there are messages in their queues.
pub async fn measure(world: &World, repeat: u32, report: &mut Report) -> Result<()> {
    let all = namespaces(NAMESPACES, Duration::from_secs(36_000), Duration::from_secs(1800));
    let databases = world.databases("sweep", &all).await?;
    world.make_users(&all).await?;
    make_objects(world, &all).await?;
    let connections = connect(&all[..CONNECTIONS]).await?;
    // The first listing after so many declarations is slow.
    raw_calls(&["listings"])?;
    for database in &databases {
        for task in ["monitor-rabbit", "expire-namespaces"] {
            let (mut ours, mut raw) = (Samples::default(), Samples::default());
            for _ in 0..repeat {
                raw.add(&raw_calls(&["listings"])?);
                ours.add(&world.task(database, task, 0)?);
            }
            let what = format!("{task}, {} queues, {}", NAMESPACES * QUEUES_EACH, database.name);
            ours.report(report, &what, "listings", &raw);
        }
    }
    drop(connections);
    Ok(())
}

/// Declares the queues of the namespaces, and an exchange for each.
async fn make_objects(world: &World, namespaces: &[Namespace]) -> Result<()> {
    for chunk in namespaces.chunks(50) {
        let (mut queues, mut exchanges) = (Vec::new(), Vec::new());
        for Namespace { name, .. } in chunk {
            queues.extend((0..QUEUES_EACH).map(|number| {
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
