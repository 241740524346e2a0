//! The audit trail: `audit`.

use anyhow::Result;
use clap::Args;
use serde_json::json;
use taskcluster_pulse::clock::Timestamp;
use taskcluster_pulse::domain::audit::{Audit, AuditFilter, By, Deed};
use taskcluster_pulse::domain::name::Name;
use taskcluster_pulse::process::Process;
use taskcluster_pulse::terminal;

use super::parse_date;

#[derive(Args)]
pub struct Trail {
    /// Only what was done to this namespace.
    #[arg(long)]
    namespace: Option<String>,
    /// Only what was done by this client, person, task or user at a shell.
    #[arg(long)]
    actor: Option<String>,
    /// Only what was done so.
    #[arg(long, value_parser = Deed::ALL.map(Deed::word))]
    action: Option<String>,
    /// Not before this date, such as 2026-12-01T00:00:00Z.
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    from: Option<Timestamp>,
    /// Before this date.
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    to: Option<Timestamp>,
    /// At most so many records.
    #[arg(long, value_name = "COUNT", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    /// Print the records as JSON, one object a line.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print the records as CSV.
    #[arg(long)]
    csv: bool,
}

/// Lists the audit trail, page by page. Each line goes to `print` as soon as it is there.
pub async fn audit(process: &Process, options: Trail, print: impl Fn(String) -> Result<()>) -> Result<()> {
    const PAGE: u32 = 1000;
    let Trail { namespace, actor, action, from, to, mut limit, json, csv } = options;
    let namespace = namespace.map(Name::from_stored);
    let mut filter = AuditFilter { namespace, actor, action, from, to, after: None };
    if csv {
        print("time,actorKind,actor,action,namespace,object,reason,requestId,id".to_owned())?;
    }
    while limit > 0 {
        let asked = limit.min(PAGE);
        let found = process.service().audits(&filter, asked).await?;
        for record in &found {
            print(shown_record(record, json, csv))?;
        }
        let Some(last) = found.last().filter(|_| found.len() == asked as usize) else { break };
        filter.after = Some((last.at, last.id.clone()));
        limit -= asked;
    }
    Ok(())
}

/// A record of the audit trail, as it is printed.
fn shown_record(of: &Audit, json: bool, csv: bool) -> String {
    let Audit { id, at, by: By { actor, request }, action, namespace, object, reason } = of;
    let (kind, name) = actor.parts();
    let (at, request) = (at.to_string(), request.as_deref().unwrap_or_default());
    let namespace = namespace.as_ref().map_or("", Name::as_str);
    if json {
        return json!({"id": id, "time": at, "actorKind": kind, "actor": name, "action": action, "namespace": namespace,
            "object": object, "reason": reason, "requestId": request})
        .to_string();
    }
    if csv {
        let cell = |text: &str| format!("\"{}\"", terminal::one_line(text).to_string().replace('"', "\"\""));
        return [&at, kind, name, action, namespace, object, reason, request, id].map(cell).join(",");
    }
    let line = |text: &str| terminal::one_line(text).to_string();
    format!("{at}  {}  {}\n    {}: {}", line(action), line(object), line(&actor.to_string()), line(reason))
}
