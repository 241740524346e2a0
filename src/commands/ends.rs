//! Ends on demand: `release`, `revoke`, `disable` and `enable`.

use anyhow::Result;
use clap::Args;
use serde_json::json;
use taskcluster_pulse::domain::audit::Deed;
use taskcluster_pulse::process::{self, Process};
use taskcluster_pulse::service::Ended;
use taskcluster_pulse::terminal::one_line;

#[derive(Args)]
pub struct End {
    /// The namespace.
    namespace: String,
    /// Why, for the audit trail. Who claims a namespace that is disabled is told, too.
    #[arg(long)]
    reason: String,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Ends a namespace on demand, in one of the ways there are.
pub async fn end(process: &Process, End { namespace, reason, json }: End, deed: Deed) -> Result<String> {
    let (service, by) = (process.service(), process::at_a_shell());
    let name = service.name(&namespace).await?;
    let ended = match deed {
        Deed::Release => service.release(&name, &reason, &by).await?,
        Deed::Revoke => service.revoke(&name, &reason, &by).await?,
        Deed::Disable => service.disable(&name, &reason, &by).await?,
        _ => service.enable(&name, &reason, &by).await?,
    };
    let word = deed.word();
    Ok(match ended {
        Ended::Done if json => json!({"namespace": namespace, "state": "done"}).to_string(),
        Ended::Pending(why) if json => json!({"namespace": namespace, "state": "pending", "why": why}).to_string(),
        Ended::Done => format!("{word} {namespace}: done"),
        Ended::Pending(why) => {
            format!("{word} {namespace}: stored, and carried out as soon as possible; now {}", one_line(&why))
        }
    })
}
