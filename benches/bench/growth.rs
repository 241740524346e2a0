//! Claims where very many namespaces are stored: they should cost what they cost where there are few.

use std::time::Duration;

use anyhow::Result;

use crate::claims::{NAMESPACES, NEVER, Request, Samples, variables};
use crate::report::Report;
use crate::server::Server;
use crate::world::{Database, World, namespaces};

/// How many are stored in all, from the fewest on.
const STORED: [usize; 3] = [NAMESPACES, 100_000, 1_000_000];
const CONNECTIONS: usize = 32;

/// Measures claims with a new expiry with more and more namespaces stored, next to those where only the claimed ones are.
pub async fn measure(world: &World, repeat: u32, report: &mut Report) -> Result<()> {
    let mut all = namespaces(NAMESPACES, Duration::from_secs(36_000), Duration::ZERO);
    all.iter_mut().for_each(|namespace| namespace.expires = NEVER);
    let [mut postgresql, mut sqlite] = [(); 2].map(|()| Vec::new());
    for stored in STORED {
        let databases = world.databases(&format!("growth_{stored}"), &all).await?;
        for (database, of_kind) in databases.into_iter().zip([&mut postgresql, &mut sqlite]) {
            world.execute(&database, &fill(stored - NAMESPACES)).await?;
            of_kind.push(database);
        }
    }
    for databases in [postgresql, sqlite] {
        measure_one(world, &databases, repeat, report).await?;
    }
    Ok(())
}

async fn measure_one(world: &World, databases: &[Database], repeat: u32, report: &mut Report) -> Result<()> {
    let variables = variables();
    let servers = databases.iter().map(|database| Server::start(world, database, &variables));
    let servers = servers.collect::<Result<Vec<_>>>()?;
    let mut samples = STORED.map(|_| Samples::default());
    for _ in 0..repeat {
        for (server, samples) in servers.iter().zip(&mut samples) {
            samples.measure(server, Request::Longer, CONNECTIONS).await?;
        }
    }
    let [few, more @ ..] = &samples;
    for ((stored, samples), database) in STORED[1..].iter().zip(more).zip(databases) {
        let what = format!("claims with {stored} namespaces stored, {}", database.name);
        samples.report(report, &what, "few stored", few);
    }
    Ok(())
}

/// Stores so many namespaces that nobody claims. Their passwords are none.
fn fill(count: usize) -> String {
    let sealed = "x".repeat(90);
    format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}) \
         INSERT INTO namespace (name, contact, created, expires, active_slot, active_password, previous_slot, \
         previous_password, due, grace, version) SELECT 'taskcluster-filler-' || n, 'owner@example.com', 1, {never}, 1, \
         '{sealed}', 2, '{sealed}', {never}, 3600000, 1 FROM numbers WHERE n <= {count}; ANALYZE",
        never = NEVER.millis()
    )
}
