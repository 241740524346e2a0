//! Claims of known namespaces over HTTP.
//!
//! The load comes from this process, on the same machine: what it takes away from the server, it takes away from the pings
//! too.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use reqwest::{Client, Url};
use serde_json::{Value, json};
use taskcluster_pulse::clock::{Clock, SystemClock, Timestamp};
use taskcluster_pulse::hawk::Signer;

use crate::measure;
use crate::report::Report;
use crate::server::Server;
use crate::world::{World, name, namespaces};

const CONNECTIONS: [usize; 3] = [1, 8, 32];
/// Half of them for claims that change nothing, half for the others.
pub const NAMESPACES: usize = 512;
/// When those end that no claim is to change.
pub const NEVER: Timestamp = Timestamp::from_millis(4_102_444_800_000);
const PERIOD: Duration = Duration::from_millis(1500);
const WARM_UP: Duration = Duration::from_millis(300);
const SIGNER: Signer<'_> = Signer { id: "bench", key: "a-key-of-the-benchmark-alone", ext: None };

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// The floor.
    Ping,
    /// A claim that changes nothing, so that the store is only read.
    Same,
    /// A claim as Taskcluster's clients make it: it expires four hours from now, so that the store is written too.
    Longer,
}

/// Samples of one kind of request at one number of connections.
#[derive(Default)]
pub struct Samples {
    per_second: Vec<f64>,
    median: Vec<f64>,
    p99: Vec<f64>,
    /// Milliseconds that the server computed for each.
    cpu: Vec<f64>,
}

/// Measures how many claims a second a server answers, and how fast, next to pings.
pub async fn measure(world: &World, repeat: u32, report: &mut Report) -> Result<()> {
    let mut all = namespaces(NAMESPACES, Duration::from_secs(36_000), Duration::ZERO);
    all.iter_mut().for_each(|namespace| namespace.expires = NEVER);
    for database in &world.databases("claims", &all).await? {
        let variables = variables();
        let server = Server::start(world, database, &variables)?;
        let baseline =
            database.of_baseline().map(|database| Server::start(world, &database, &variables)).transpose()?;
        for connections in CONNECTIONS {
            let [mut ping, mut same, mut longer] = [Samples::default(), Samples::default(), Samples::default()];
            let (mut same_before, mut longer_before) = (Samples::default(), Samples::default());
            for _ in 0..repeat {
                ping.measure(&server, Request::Ping, connections).await?;
                for (request, ours, before) in
                    [(Request::Same, &mut same, &mut same_before), (Request::Longer, &mut longer, &mut longer_before)]
                {
                    ours.measure(&server, request, connections).await?;
                    if let Some(baseline) = &baseline {
                        before.measure(baseline, request, connections).await?;
                    }
                }
            }
            for (samples, kind) in [(&same, "changing nothing"), (&longer, "with a new expiry")] {
                let what = format!("claims {kind}, {}, {connections} connections", database.name);
                samples.report(report, &what, "ping", &ping);
            }
            if baseline.is_some() {
                let pairs = [(&same, "changing nothing", &same_before), (&longer, "with a new expiry", &longer_before)];
                for (samples, kind, before) in pairs {
                    let what = format!("claims {kind}, {}, {connections} connections", database.name);
                    samples.report(report, &what, "baseline", before);
                }
            }
        }
    }
    Ok(())
}

impl Samples {
    /// Has a server answer such requests for a while.
    pub async fn measure(&mut self, server: &Server, request: Request, connections: usize) -> Result<()> {
        let api = server.root.join("api/pulse/v1/")?;
        load(&api, request, connections, WARM_UP).await?;
        let (_, before) = measure::cpu_of(server.running.id())?;
        let latencies = load(&api, request, connections, PERIOD).await?;
        let (_, after) = measure::cpu_of(server.running.id())?;
        self.add(latencies, after - before);
        Ok(())
    }

    /// Tells them next to others.
    pub fn report(&self, report: &mut Report, what: &str, counterpart: &'static str, other: &Samples) {
        report.add(what.to_owned(), "per s", &self.per_second, counterpart, &other.per_second);
        report.add(what.to_owned(), "ms p50", &self.median, counterpart, &other.median);
        report.add(what.to_owned(), "ms p99", &self.p99, counterpart, &other.p99);
        report.add(what.to_owned(), "ms computing", &self.cpu, counterpart, &other.cpu);
    }

    fn add(&mut self, mut latencies: Vec<f64>, cpu: f64) {
        latencies.sort_by(f64::total_cmp);
        let at = |share: f64| latencies[(latencies.len() as f64 * share) as usize];
        self.per_second.push(latencies.len() as f64 / PERIOD.as_secs_f64());
        self.cpu.push(cpu * 1000.0 / latencies.len() as f64);
        self.median.push(at(0.5));
        self.p99.push(at(0.99));
    }
}

/// Sends requests one after the other on each connection; how long each took, in milliseconds.
async fn load(api: &Url, request: Request, connections: usize, period: Duration) -> Result<Vec<f64>> {
    let workers = (0..connections).map(|worker| {
        let api = api.clone();
        let work = async move {
            let client = Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
            // Each has namespaces of its own: two claims of one at once would be another story.
            let half = if request == Request::Same { 0..NAMESPACES / 2 } else { NAMESPACES / 2..NAMESPACES };
            let mut numbers = half.skip(worker).step_by(connections).cycle();
            let (mut latencies, began) = (Vec::new(), Instant::now());
            while began.elapsed() < period {
                let number = numbers.next().context("a namespace")?;
                let started = Instant::now();
                send(&client, &api, request, number).await?;
                latencies.push(started.elapsed().as_secs_f64() * 1000.0);
            }
            anyhow::Ok(latencies)
        };
        async { tokio::spawn(work).await? }
    });
    Ok(try_join_all(workers).await?.concat())
}

async fn send(client: &Client, api: &Url, request: Request, number: usize) -> Result<()> {
    let now = SystemClock.now();
    let expires = match request {
        Request::Ping => {
            client.get(api.join("ping")?).send().await?.error_for_status()?.bytes().await?;
            return Ok(());
        }
        Request::Same => NEVER.to_string(),
        Request::Longer => now.plus(Duration::from_secs(4 * 3600)).to_string(),
    };
    claim(client, api, name(number).as_str(), &expires).await
}

/// The variables of a server that serves the signer of these requests.
pub fn variables() -> [(&'static str, String); 1] {
    let (id, key) = (SIGNER.id, SIGNER.key);
    let clients = json!([{"clientId": id, "accessToken": key, "scopes": ["pulse:namespace:taskcluster-*"]}]);
    [("STATIC_CLIENTS", clients.to_string())]
}

/// Claims a namespace, to expire then.
pub async fn claim(client: &Client, api: &Url, namespace: &str, expires: &str) -> Result<()> {
    let now = SystemClock.now();
    let url = api.join(&format!("namespace/{namespace}"))?;
    let body = json!({"expires": expires, "contact": "owner@example.com"}).to_string();
    let signature = SIGNER.header("POST", &url, Some(("application/json", body.as_bytes())), now);
    let sent = client.post(url).header("authorization", signature).header("content-type", "application/json");
    let answer = sent.body(body).send().await?;
    let (status, answer) = (answer.status(), answer.text().await?);
    let is_right = serde_json::from_str(&answer).is_ok_and(|answer: Value| answer["expires"] == expires);
    ensure!(status.is_success() && is_right, "a claim was answered {status}: {answer}");
    Ok(())
}
