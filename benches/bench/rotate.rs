//! Rotating many namespaces.

use std::time::Duration;

use anyhow::Result;
use taskcluster_pulse::clock::{Clock, SystemClock};
use taskcluster_pulse::domain::namespace::Namespace;
use taskcluster_pulse::domain::rotation::Rotation;
use taskcluster_pulse::store::Select;

use crate::measure::{Samples, raw_calls};
use crate::report::Report;
use crate::world::{Database, World, namespaces};

const COUNT: usize = 2000;

/// Measures `rotate-namespaces` where all are due, next to one PUT of a user for each.
pub async fn measure(world: &World, repeat: u32, report: &mut Report) -> Result<()> {
    let all = namespaces(COUNT, Duration::ZERO, Duration::from_secs(30 * 86_400));
    let databases = world.databases("rotate", &all).await?;
    for database in &databases {
        // Each database is a deployment of its own, and has its tag.
        let tag = database.open().await?.tag().await?;
        world.make_tagged_users(&all, tag.as_str()).await?;
        let [mut ours, mut raw, mut before] = [(); 3].map(|()| Samples::default());
        let baseline = database.of_baseline();
        for _ in 0..repeat {
            make_due(database).await?;
            raw.add(&raw_calls(&["puts", &COUNT.to_string(), tag.as_str()])?);
            ours.add(&world.task(database, "rotate-namespaces", COUNT)?);
            if let Some(baseline) = &baseline {
                make_due(database).await?;
                before.add(&world.task(baseline, "rotate-namespaces", COUNT)?);
            }
        }
        let what = format!("rotate {COUNT} namespaces, {}", database.name);
        ours.report(report, &what, "PUT users", &raw);
        if baseline.is_some() {
            ours.report(report, &what, "baseline", &before);
        }
    }
    world.delete_users(&all).await
}

/// Makes all namespaces due for their next switch.
async fn make_due(database: &Database) -> Result<()> {
    let due = SystemClock.now();
    let found = database.open().await?.namespaces(Select::All).await?;
    let overdue = |found: Namespace| Namespace { rotation: Rotation { due, ..found.rotation }, ..found };
    database.write(&found.into_iter().map(overdue).collect::<Vec<_>>()).await
}
