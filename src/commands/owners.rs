//! Owners and exemptions: `owners` and `exempt`.

use anyhow::Result;
use clap::Args;
use serde_json::json;
use taskcluster_pulse::clock::{Clock as _, SystemClock, Timestamp};
use taskcluster_pulse::domain::exemption::{Exempted, terms};
use taskcluster_pulse::domain::ladder::Exemption;
use taskcluster_pulse::domain::owner::Owner;
use taskcluster_pulse::process::{self, Process};
use taskcluster_pulse::service::Owned;
use taskcluster_pulse::terminal;

use super::parse_date;

#[derive(Args)]
pub struct Owners {
    /// The namespace.
    namespace: String,
    /// Make these the owners, in place of those there are. You can give this option several times.
    #[arg(long, value_name = "OWNER", value_parser = parse_owner, conflicts_with_all = ["add", "remove"])]
    set: Vec<Owner>,
    /// Add this owner. You can give this option several times.
    #[arg(long, value_name = "OWNER", value_parser = parse_owner)]
    add: Vec<Owner>,
    /// Remove this owner. You can give this option several times.
    #[arg(long, value_name = "OWNER", value_parser = parse_owner)]
    remove: Vec<Owner>,
    /// Leave the namespace without any owner if need be.
    #[arg(long)]
    force: bool,
    /// Print the owners as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Exempt {
    /// The namespace.
    namespace: String,
    /// The whole name of a queue, queue/<namespace>/..., in which each * stands for any characters. Without it, the command
    /// lists the exemptions.
    #[arg(requires = "change")]
    queue: Option<String>,
    /// Why they may grow.
    #[arg(long, group = "change", requires = "queue")]
    reason: Option<String>,
    /// End the exemption.
    #[arg(long, group = "change", requires = "queue", conflicts_with_all = ["up_to", "until"])]
    end: bool,
    /// Up to so many messages; without this, without a bound.
    #[arg(long, value_name = "MESSAGES", requires = "reason", value_parser = clap::value_parser!(u64).range(1..))]
    up_to: Option<u64>,
    /// Until this date, such as 2026-12-01T00:00:00Z; without this, as long as the namespace lives.
    #[arg(long, value_name = "DATE", requires = "reason", value_parser = parse_date)]
    until: Option<Timestamp>,
    /// Print the exemptions as JSON.
    #[arg(long)]
    json: bool,
}

fn parse_owner(text: &str) -> Result<Owner, String> {
    Owner::parse(text).map_err(|error| error.to_string())
}

/// Shows or changes who owns a namespace.
pub async fn owners(process: &Process, options: Owners) -> Result<String> {
    let Owners { namespace, set, add, remove, force, json } = options;
    let (service, by) = (process.service(), process::at_a_shell());
    let name = service.name(&namespace).await?;
    let Owned { owners, contact } = if set.is_empty() && add.is_empty() && remove.is_empty() {
        service.owners(&name).await?
    } else {
        let change = |owners: &[Owner]| match set.is_empty() {
            true => owners.iter().filter(|owner| !remove.contains(owner)).chain(&add).cloned().collect(),
            false => set.clone(),
        };
        service.change_owners(&name, change, force, &by).await?
    };
    let owners: Vec<_> = owners.iter().map(Owner::to_string).collect();
    if json {
        return Ok(json!({"owners": owners, "contact": contact}).to_string());
    }
    let mut lines = owners;
    lines.extend((!contact.is_empty()).then(|| format!("{} (contact)", terminal::one_line(&contact))));
    Ok(if lines.is_empty() { format!("nobody owns {name}") } else { lines.join("\n") })
}

/// Lets queues grow, ends that, or lists what may.
pub async fn exempt(process: &Process, options: Exempt) -> Result<String> {
    let Exempt { namespace, queue, reason, end, up_to, until, json } = options;
    let (service, by) = (process.service(), process::at_a_shell());
    let name = service.name(&namespace).await?;
    match (&queue, reason) {
        (Some(queue), _) if end => {
            let ended = service.end_exemption(&name, queue, &by).await?;
            anyhow::ensure!(ended, "{name} has no exemption {}: give it as it was granted", terminal::one_line(queue));
        }
        (Some(queue), Some(reason)) => {
            service.exempt(&name, queue, Exemption { up_to, until }, &reason, &by).await?;
        }
        _ => {}
    }
    let (found, now) = (service.exemptions(&name).await?, SystemClock.now());
    if json {
        let object = |Exempted { queue, exemption: Exemption { up_to, until }, reason, by, since }: &Exempted| {
            json!({"queue": queue, "upTo": up_to, "until": until.map(|until| until.to_string()), "reason": reason, "by": by,
                "since": since.to_string()})
        };
        return Ok(json!(found.iter().map(object).collect::<Vec<_>>()).to_string());
    }
    let line = |one: &Exempted| {
        let (queue, reason, by) =
            (terminal::one_line(&one.queue), terminal::one_line(&one.reason), terminal::one_line(&one.by));
        format!("{queue}\n    {}\n    by {by}, {}: {reason}", terms(one.exemption, now), one.since)
    };
    let lines: Vec<_> = found.iter().map(line).collect();
    Ok(if lines.is_empty() { format!("no queue of {name} is exempted") } else { lines.join("\n") })
}
