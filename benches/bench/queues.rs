//! Listing the queues of one namespace among many, when the shared listing is too old and when it is not.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use reqwest::{Client, Method, Url};
use serde_json::{Value, json};
use taskcluster_pulse::broker::Broker;
use taskcluster_pulse::broker::management::{
    Account, DEFAULT_LISTING_TIMEOUT, DEFAULT_TIMEOUT, ManagementApi, ManagementConfig,
};
use taskcluster_pulse::clock::{Clock, SystemClock};
use taskcluster_pulse::hawk::Signer;
use taskcluster_pulse::secret::Password;

use crate::report::Report;
use crate::server::Server;
use crate::world::{World, name, namespaces, variable};

const NAMESPACES: usize = 100;
const QUEUES_EACH: usize = 100;
/// A virtual host of their own, so that nothing else has these queues.
const VHOST: &str = "bench-queues";
/// After so long the shared listing is too old.
const AGE: Duration = Duration::from_millis(5200);
/// So many calls are one sample of what is quick.
const CALLS: u32 = 50;
const SIGNER: Signer<'_> = Signer { id: "bench", key: "a-key-of-the-benchmark-alone", ext: None };

/// Measures `listQueues` of a namespace with 100 of 10,000 queues: cold, next to the listing alone, and warm, next to pings.
pub async fn measure(world: &World, repeat: u32, report: &mut Report) -> Result<()> {
    let all = namespaces(NAMESPACES, Duration::from_secs(36_000), Duration::from_secs(36_000));
    make_queues(world).await?;
    let broker = broker()?;
    broker.queues().await?;
    for database in &world.databases("queues", &all).await? {
        let clients = json!([{"clientId": SIGNER.id, "accessToken": SIGNER.key, "scopes": ["pulse:manage:*"]}]);
        let variables = [("STATIC_CLIENTS", clients.to_string()), ("TASKCLUSTER_AMQP_VHOST", VHOST.to_owned())];
        let server = Server::start(world, database, &variables)?;
        let api = server.root.join("api/pulse/v1/")?;
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        let [mut cold, mut listing, mut warm, mut ping] = [(); 4].map(|()| Vec::new());
        for _ in 0..repeat {
            listing.push(timed(1, async || broker.queues().await.map(drop).map_err(Into::into)).await?);
            tokio::time::sleep(AGE).await;
            cold.push(timed(1, async || list(&client, &api).await).await?);
            warm.push(timed(CALLS, async || list(&client, &api).await).await?);
            ping.push(timed(CALLS, async || ask_ping(&client, &api).await).await?);
        }
        let what = format!("listQueues, {QUEUES_EACH} of {} queues, {}", NAMESPACES * QUEUES_EACH, database.name);
        report.add(format!("{what}, cold"), "ms", &cold, "listing", &listing);
        report.add(format!("{what}, warm"), "ms", &warm, "ping", &ping);
    }
    world.admin(Method::DELETE, &format!("vhosts/{VHOST}"), &Value::Null).await
}

/// Milliseconds for each of so many calls.
async fn timed(calls: u32, call: impl AsyncFn() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    for _ in 0..calls {
        call().await?;
    }
    Ok(began.elapsed().as_secs_f64() * 1000.0 / f64::from(calls))
}

async fn make_queues(world: &World) -> Result<()> {
    world.admin(Method::PUT, &format!("vhosts/{VHOST}"), &json!({})).await?;
    let may = json!({"configure": ".*", "write": ".*", "read": ".*"});
    let account = variable("RABBITMQ_USERNAME")?;
    world.admin(Method::PUT, &format!("permissions/{VHOST}/{account}"), &may).await?;
    for number in 0..NAMESPACES {
        let queue = |queue| {
            let name = format!("queue/{}/tasks-{queue}", name(number));
            json!({"name": name, "vhost": VHOST, "durable": true, "auto_delete": false, "arguments": {}})
        };
        world.define(&json!({"queues": (0..QUEUES_EACH).map(queue).collect::<Vec<_>>()})).await?;
    }
    Ok(())
}

fn broker() -> Result<ManagementApi> {
    Ok(ManagementApi::new(ManagementConfig {
        base_urls: vec![variable("RABBITMQ_API")?.parse()?],
        trust: Default::default(),
        account: Account {
            username: variable("RABBITMQ_USERNAME")?,
            password: Password::from_stored(variable("RABBITMQ_PASSWORD")?),
        },
        fallback: None,
        tokens: None,
        metrics: None,
        vhost: VHOST.to_owned(),
        timeout: DEFAULT_TIMEOUT,
        listing_timeout: DEFAULT_LISTING_TIMEOUT,
    })?)
}

async fn list(client: &Client, api: &Url) -> Result<()> {
    let url = api.join(&format!("namespace/{}/queues", name(7)))?;
    let signature = SIGNER.header("GET", &url, None, SystemClock.now());
    let answer = client.get(url).header("authorization", signature).send().await?.error_for_status()?;
    let answer: Value = serde_json::from_slice(&answer.bytes().await?)?;
    let queues = answer["queues"].as_array().map_or(0, Vec::len);
    ensure!(queues == QUEUES_EACH, "{queues} queues are listed");
    Ok(())
}

async fn ask_ping(client: &Client, api: &Url) -> Result<()> {
    client.get(api.join("ping")?).send().await?.error_for_status()?.bytes().await?;
    Ok(())
}
