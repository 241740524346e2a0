//! Measures the program next to the raw work that it can't do without, in one run on one machine, and reports ratios.
//!
//! Absolute figures say as much about the machine as about us; a ratio of two things that were measured in turns says what
//! we add. `script/bench` starts the services that this needs. Where it can, it measures the program itself as a process of
//! its own, and the raw calls in another one (this program, called with `raw`), each from its start to its end.

mod claims;
mod expire;
mod first;
mod growth;
mod large;
mod measure;
mod outages;
mod pure;
mod queues;
mod raw;
mod report;
mod rotate;
mod server;
mod storm;
#[path = "../../tests/support/mod.rs"]
mod support;
mod sweep;
mod world;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use report::Report;
use world::World;

/// Measures taskcluster-pulse next to the raw work that it can't do without.
#[derive(Parser)]
#[command(name = "script/bench")]
struct Arguments {
    /// What to measure; everything but the outages, where nothing is named.
    parts: Vec<Part>,
    /// How often each measurement is repeated.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Leave out what needs valgrind.
    #[arg(long)]
    no_valgrind: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(flatten)]
    plan: outages::Plan,
    #[command(subcommand)]
    child: Option<Child>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Rotating 2,000 namespaces, next to as many PUTs of a user.
    Rotate,
    /// First claims over HTTP, next to the four PUTs that make two users with permissions.
    First,
    /// Expiring 500 namespaces, next to the deletions of what they have.
    Expire,
    /// 5,000 clients at once; next to a baseline alone.
    Storm,
    /// Sweeping with 100,000 namespaces and with 50,000 queues, next to a stand-in for the broker.
    Large,
    /// Sweeping and expiring with 10,000 queues and 500 namespaces, next to the listings alone.
    Sweep,
    /// Listing 100 of 10,000 queues over HTTP, next to the listing alone and to pings.
    Queues,
    /// Claims over HTTP, next to pings of the same server.
    Claims,
    /// Claims with up to a million namespaces stored, next to those with few.
    Growth,
    /// Instructions of the pure parts, counted by valgrind, next to the cryptography and look-ups in them.
    Instructions,
    /// Claims while broker, database and auth service are down in turn; alone.
    Outages,
}

/// What processes of their own are started for.
#[derive(Subcommand)]
#[command(disable_help_subcommand = true)]
enum Child {
    /// Makes raw calls.
    #[command(hide = true)]
    Raw {
        #[command(subcommand)]
        calls: raw::Calls,
    },
    /// Runs a pure part so many times.
    #[command(hide = true)]
    Pure {
        /// Which one.
        work: pure::Work,
        /// How often.
        times: u32,
    },
}

fn main() -> Result<()> {
    let Arguments { parts, repeat, json, no_valgrind, plan, child, .. } = Arguments::parse();
    let wanted = |part| parts.is_empty() || parts.contains(&part);
    match child {
        Some(Child::Raw { calls }) => return raw::run(&calls),
        Some(Child::Pure { work, times }) => return pure::run(work, times),
        None => {}
    }
    if parts.contains(&Part::Outages) {
        ensure!(parts.len() == 1, "outages are measured alone: name no other part");
        let measured = async { outages::measure(plan).await };
        let tally = tokio::runtime::Runtime::new()?.block_on(measured)?;
        println!("{}", if json { format!("{:#}", tally.to_json()) } else { tally.to_string() });
        return Ok(());
    }
    let count = wanted(Part::Instructions) && !no_valgrind;
    if count {
        pure::require_valgrind()?;
    }
    let mut report = Report::default();
    if count {
        pure::measure(&mut report)?;
    } else if wanted(Part::Instructions) {
        eprintln!("bench: no instructions are counted, because of --no-valgrind");
    }
    tokio::runtime::Runtime::new()?.block_on(async {
        let world = World::new().await?;
        if wanted(Part::Rotate) {
            rotate::measure(&world, repeat, &mut report).await?;
        }
        if wanted(Part::Claims) {
            claims::measure(&world, repeat, &mut report).await?;
        }
        if wanted(Part::Growth) {
            growth::measure(&world, repeat, &mut report).await?;
        }
        if wanted(Part::First) {
            first::measure(&world, repeat, &mut report).await?;
        }
        if wanted(Part::Expire) {
            expire::measure(&world, repeat, &mut report).await?;
        }
        if wanted(Part::Storm) {
            storm::measure(&world, repeat, &mut report).await?;
        }
        if wanted(Part::Large) {
            large::measure(&world, repeat, &mut report).await?;
        }
        if wanted(Part::Queues) {
            queues::measure(&world, repeat, &mut report).await?;
        }
        if wanted(Part::Sweep) {
            // Last, because its queues stay.
            sweep::measure(&world, repeat, &mut report).await?;
        }
        anyhow::Ok(())
    })?;
    println!("{}", if json { format!("{:#}", report.to_json()) } else { report.to_string() });
    Ok(())
}
