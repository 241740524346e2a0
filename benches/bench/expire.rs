//! Expiring namespaces, with all that is left of them.

use std::time::Duration;

use anyhow::Result;
use taskcluster_pulse::domain::namespace::Namespace;

use crate::measure::{Samples, raw_calls};
use crate::report::Report;
use crate::sweep::make_objects;
use crate::world::{Database, World, namespaces};

const NAMESPACES: usize = 500;
const QUEUES_EACH: usize = 2;

/// Measures `expire-namespaces` where all have ended, each with two users, queues and an exchange, next to the deletions alone, with as
/// many calls under way at once.
pub async fn measure(world: &World, repeat: u32, report: &mut Report) -> Result<()> {
    let mut all = namespaces(NAMESPACES, Duration::from_secs(36_000), Duration::ZERO);
    all.iter_mut().for_each(|ended| ended.expires = ended.expires.minus(Duration::from_secs(30 * 86_400)));
    let [mut postgresql, mut sqlite] = [(); 2].map(|()| [(); 3].map(|()| Samples::default()));
    for number in 0..repeat {
        let databases = world.databases(&format!("expire_{number}"), &all).await?;
        let before = world.databases(&format!("expire_before_{number}"), &all).await?;
        let all_samples = [&mut postgresql, &mut sqlite];
        let mut turns: Vec<_> = databases.iter().zip(&before).zip(all_samples).collect();
        if number % 2 > 0 {
            // Neither is always measured first.
            turns.reverse();
        }
        for ((database, before), [ours, raw, baseline]) in turns {
            make(world, database, &all).await?;
            raw.add(&raw_calls(&["deletes", &NAMESPACES.to_string(), &QUEUES_EACH.to_string()])?);
            make(world, database, &all).await?;
            ours.add(&world.task(database, "expire-namespaces", 2 * NAMESPACES)?);
            if let Some(before) = before.of_baseline() {
                make(world, &before, &all).await?;
                baseline.add(&world.task(&before, "expire-namespaces", 2 * NAMESPACES)?);
            }
        }
    }
    for (name, [ours, raw, baseline]) in [("PostgreSQL", postgresql), ("SQLite", sqlite)] {
        let what = format!("expire {NAMESPACES} namespaces, {name}");
        ours.report(report, &what, "deletions", &raw);
        if !baseline.is_empty() {
            ours.report(report, &what, "baseline", &baseline);
        }
    }
    Ok(())
}

/// Makes what the namespaces have at the broker, with the tag of the deployment that this database is of.
async fn make(world: &World, database: &Database, namespaces: &[Namespace]) -> Result<()> {
    let tag = database.open().await?.tag().await?;
    make_objects(world, namespaces, QUEUES_EACH).await?;
    world.make_tagged_users(namespaces, tag.as_str()).await
}
