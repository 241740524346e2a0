//! Very many clients at once.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;
use reqwest::Client;
use taskcluster_pulse::clock::{Clock, SystemClock};

use crate::claims::{claim, variables};
use crate::measure;
use crate::report::Report;
use crate::server::Server;
use crate::world::{Database, World, name, namespaces};

const CLIENTS: usize = 5000;
const NAMESPACES: usize = 500;

/// What came of one storm.
#[derive(Default)]
struct Samples {
    seconds: Vec<f64>,
    peaks: Vec<f64>,
    left: Vec<f64>,
}

/// Measures how long it takes until clients that come at once, each with a connection of its own, are all served; and what memory the
/// server takes, at most and once they are gone.
pub async fn measure(world: &World, repeat: u32, report: &mut Report) -> Result<()> {
    let all = namespaces(NAMESPACES, Duration::from_secs(36_000), Duration::from_secs(36_000));
    for database in &world.databases("storm", &all).await? {
        let [mut ours, mut before] = [(); 2].map(|()| Samples::default());
        for _ in 0..repeat {
            ours.measure(world, database).await?;
            if let Some(baseline) = database.of_baseline() {
                before.measure(world, &baseline).await?;
            }
        }
        let what = format!("{CLIENTS} clients at once, {}", database.name);
        report.add(what.clone(), "s", &ours.seconds, "baseline", &before.seconds);
        report.add(what.clone(), "MiB peak", &ours.peaks, "baseline", &before.peaks);
        report.add(what, "MiB left", &ours.left, "baseline", &before.left);
    }
    Ok(())
}

impl Samples {
    async fn measure(&mut self, world: &World, database: &Database) -> Result<()> {
        let server = Server::start(world, database, &variables())?;
        let (api, client) = (server.root.join("api/pulse/v1/")?, Client::builder().no_proxy().build()?);
        let expires = SystemClock.now().plus(Duration::from_secs(4 * 3600)).to_string();
        let started = Instant::now();
        try_join_all((0..CLIENTS).map(|number| {
            let (client, api, expires) = (client.clone(), api.clone(), expires.clone());
            async move {
                let claimed = async move { claim(&client, &api, name(number % NAMESPACES).as_str(), &expires).await };
                tokio::spawn(claimed).await?
            }
        }))
        .await?;
        self.seconds.push(started.elapsed().as_secs_f64());
        drop(client);
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.peaks.extend(measure::peak_of(server.running.id()));
        self.left.extend(measure::memory_of(server.running.id()));
        Ok(())
    }
}
