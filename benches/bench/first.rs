//! First claims, each of which makes a namespace with its users.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;
use reqwest::{Client, Url};
use taskcluster_pulse::clock::{Clock, SystemClock};

use crate::claims::{claim, variables};
use crate::measure;
use crate::raw::Api;
use crate::report::Report;
use crate::server::Server;
use crate::world::World;

const CONNECTIONS: [usize; 3] = [1, 8, 32];
const PERIOD: Duration = Duration::from_secs(2);

/// Whom the load is put on.
enum Target<'a> {
    Server(&'a Server),
    /// The broker itself: a user, its permissions, and the same again for another user.
    Broker(&'a Api),
}

/// Samples at one number of connections.
#[derive(Default)]
struct Samples {
    per_second: Vec<f64>,
    median: Vec<f64>,
    p99: Vec<f64>,
    cpu: Vec<f64>,
}

/// Measures first claims a second, next to the four PUTs that make two users with permissions.
pub async fn measure(world: &World, repeat: u32, report: &mut Report) -> Result<()> {
    let (api, next) = (Api::new()?, AtomicUsize::new(0));
    for database in &world.databases("first", &[]).await? {
        let server = Server::start(world, database, &variables())?;
        let baseline = database.of_baseline();
        let baseline = baseline.map(|database| Server::start(world, &database, &variables())).transpose()?;
        for connections in CONNECTIONS {
            let [mut ours, mut raw, mut before] = [(); 3].map(|()| Samples::default());
            for _ in 0..repeat {
                raw.measure(&Target::Broker(&api), connections, &next).await?;
                ours.measure(&Target::Server(&server), connections, &next).await?;
                if let Some(baseline) = &baseline {
                    before.measure(&Target::Server(baseline), connections, &next).await?;
                }
                // Users are slower to make where there are many.
                world.delete_users_of("taskcluster-first-").await?;
            }
            let what = format!("first claims, {}, {connections} connections", database.name);
            ours.report(report, &what, "four PUTs", &raw);
            if baseline.is_some() {
                ours.report(report, &what, "baseline", &before);
            }
        }
    }
    Ok(())
}

impl Samples {
    async fn measure(&mut self, target: &Target<'_>, connections: usize, next: &AtomicUsize) -> Result<()> {
        let computed = || match target {
            Target::Server(server) => measure::cpu_of(server.running.id()).map(|(_, seconds)| seconds),
            Target::Broker(_) => Ok(0.0),
        };
        let before = computed()?;
        let mut latencies = load(target, connections, next).await?;
        let cpu = computed()? - before;
        latencies.sort_by(f64::total_cmp);
        let at = |share: f64| latencies[(latencies.len() as f64 * share) as usize];
        self.per_second.push(latencies.len() as f64 / PERIOD.as_secs_f64());
        self.cpu.push(cpu * 1000.0 / latencies.len() as f64);
        self.median.push(at(0.5));
        self.p99.push(at(0.99));
        Ok(())
    }

    fn report(&self, report: &mut Report, what: &str, counterpart: &'static str, other: &Samples) {
        report.add(what.to_owned(), "per s", &self.per_second, counterpart, &other.per_second);
        report.add(what.to_owned(), "ms p50", &self.median, counterpart, &other.median);
        report.add(what.to_owned(), "ms p99", &self.p99, counterpart, &other.p99);
        report.add(what.to_owned(), "ms computing", &self.cpu, counterpart, &other.cpu);
    }
}

/// Makes one namespace after the other on each connection; how long each took, in milliseconds.
async fn load(target: &Target<'_>, connections: usize, next: &AtomicUsize) -> Result<Vec<f64>> {
    let worker = async || {
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        let (mut latencies, began) = (Vec::new(), Instant::now());
        while began.elapsed() < PERIOD {
            let name = format!("taskcluster-first-{}", next.fetch_add(1, Ordering::Relaxed));
            let started = Instant::now();
            match target {
                Target::Server(server) => {
                    let api: Url = server.root.join("api/pulse/v1/")?;
                    let expires = SystemClock.now().plus(Duration::from_secs(4 * 3600)).to_string();
                    claim(&client, &api, &name, &expires).await?;
                }
                Target::Broker(api) => api.make(&name).await?,
            }
            latencies.push(started.elapsed().as_secs_f64() * 1000.0);
        }
        anyhow::Ok(latencies)
    };
    Ok(try_join_all((0..connections).map(|_| worker())).await?.concat())
}
