//! The commands about accounts: adopt, make, show, new credentials, move on, retire.

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use taskcluster_pulse::domain::account::{Adopted, Schedule};
use taskcluster_pulse::domain::adoption::Wanted;
use taskcluster_pulse::domain::namespace::Namespace;
use taskcluster_pulse::domain::owner::Owner;
use taskcluster_pulse::process::{self, Process};
use taskcluster_pulse::service::{Credentials, Outcome, wanted_of};
use taskcluster_pulse::terminal;

#[derive(Args)]
pub struct Adopt {
    /// The users.
    #[arg(value_name = "USER", required_unless_present = "from_pulseguardian", requires = "owner")]
    users: Vec<String>,
    /// Who is to own their accounts. You can give this option several times.
    #[arg(long, value_name = "OWNER", value_parser = Owner::parse, requires = "users")]
    owner: Vec<Owner>,
    /// Take all accounts of this PulseGuardian database, with their owners and their queues that may grow without a bound:
    /// postgres://..., sqlite:<path>, or env:<variable> where a variable holds it. It is only read.
    #[arg(long, value_name = "DATABASE_URL", conflicts_with = "users")]
    from_pulseguardian: Option<String>,
    /// Print what would be adopted, and what would not and why, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Account {
    /// The account.
    account: String,
    /// Make the account, for this owner. You can give this option several times.
    #[arg(long, value_name = "OWNER", value_parser = Owner::parse)]
    make_for: Vec<Owner>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct NewCredentials {
    /// The account.
    account: String,
    /// End the ones before at once, and close their connections.
    #[arg(long)]
    end_old: bool,
    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct MoveOn {
    /// The account.
    account: String,
    /// When its credentials are to change.
    #[arg(long, value_enum, value_name = "WHEN", default_value = "on-demand")]
    schedule: When,
    /// Print the credentials as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Retire {
    /// The account.
    account: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum When {
    /// When an owner asks for new ones.
    OnDemand,
    /// Regularly; programs claim them.
    Rotating,
}

/// Each gives what is to be printed; the first also how.
pub async fn adopt(process: &Process, options: Adopt) -> Result<(Outcome, bool)> {
    let Adopt { users, owner, from_pulseguardian, dry_run, json } = options;
    let (wanted, notes) = match from_pulseguardian {
        Some(url) => wanted_of(&process.pulseguardian(&url).await?),
        None => {
            let wanted = |user| Wanted { user, owners: owner.clone(), unbounded: Vec::new() };
            (users.into_iter().map(wanted).collect(), Vec::new())
        }
    };
    let mut outcome = process.service().adopt(&wanted, dry_run, &process::at_a_shell()).await?;
    outcome.reports.splice(0..0, notes);
    Ok((outcome, json))
}

pub async fn account(process: &Process, options: Account) -> Result<String> {
    let Account { account, make_for, json } = options;
    let service = process.service();
    if !make_for.is_empty() {
        return Ok(shown(&service.create_account(&account, &make_for, &process::at_a_shell()).await?, json));
    }
    let found = service.account(&service.name(&account).await?).await?;
    Ok(if json { format!("{:#}", object(&found)) } else { lines(&found).join("\n") })
}

pub async fn renew(process: &Process, options: NewCredentials) -> Result<String> {
    let NewCredentials { account, end_old, json } = options;
    let service = process.service();
    let name = service.name(&account).await?;
    let given = service.new_credentials(&name, end_old, &process::at_a_shell()).await?;
    if end_old && !given.old_ended {
        eprintln!("taskcluster-pulse: RabbitMQ did not end the credentials before yet; the next monitor-rabbit does");
    }
    Ok(shown(&given, json))
}

pub async fn move_on(process: &Process, options: MoveOn) -> Result<String> {
    let MoveOn { account, schedule, json } = options;
    let service = process.service();
    let name = service.name(&account).await?;
    let schedule = match schedule {
        When::OnDemand => Schedule::OnDemand,
        When::Rotating => Schedule::Rotating,
    };
    match service.move_on(&name, schedule, &process::at_a_shell()).await? {
        Some(given) => Ok(shown(&given, json)),
        None => Ok(format!("programs can claim {name} from now on")),
    }
}

pub async fn retire(process: &Process, Retire { account }: Retire) -> Result<String> {
    let service = process.service();
    let name = service.name(&account).await?;
    match service.retire(&name, &process::at_a_shell()).await? {
        true => Ok(format!("RabbitMQ's user {name} is deleted")),
        false => Ok(format!("RabbitMQ does not answer; its user {name} is deleted by the next monitor-rabbit")),
    }
}

/// Credentials: the connection string alone, as `claim` prints it, or all as JSON.
fn shown(of: &Credentials, json: bool) -> String {
    let Credentials { name, user, password, connection_string, expires, old_ended } = of;
    if !json {
        return connection_string.to_string();
    }
    let object = json!({"namespace": name.as_str(), "username": user, "password": password.expose(),
        "connectionString": connection_string.as_str(), "expires": expires.to_string(), "oldEnded": old_ended});
    format!("{object:#}")
}

fn owners(of: &Namespace) -> Vec<String> {
    of.owners.iter().map(Owner::to_string).collect()
}

fn schedule(of: &Namespace) -> &'static str {
    if of.is_on_demand() { Schedule::OnDemand.word() } else { Schedule::Rotating.word() }
}

fn object(of: &Namespace) -> Value {
    let text = |at: &taskcluster_pulse::clock::Timestamp| at.to_string();
    let adopted = of.adopted().map(|Adopted { since, moved, retired, used, addresses, .. }| {
        let address = |(address, last)| json!({"address": address, "used": text(last)});
        json!({"since": text(since), "movedOn": moved.as_ref().map(text), "retired": retired.as_ref().map(text),
            "used": used.as_ref().map(text), "addresses": addresses.iter().map(address).collect::<Vec<_>>()})
    });
    json!({"namespace": of.name.as_str(), "schedule": schedule(of), "owners": owners(of), "created": text(&of.created),
        "expires": text(&of.expires), "used": of.account.as_ref().map(|account| text(&account.used)), "adopted": adopted})
}

fn lines(of: &Namespace) -> Vec<String> {
    let owned = if of.owners.is_empty() { "nobody".to_owned() } else { owners(of).join(", ") };
    let mut lines = vec![format!("account      {}", of.name), format!("owned by     {owned}")];
    lines.push(format!("credentials  {}", schedule(of)));
    match of.adopted() {
        None => {
            let used = of.account.as_ref().map_or_else(String::new, |account| account.used.to_string());
            lines.push(format!("used         {used}"));
            lines.push(format!("ends         {}, unless it is used", of.expires));
        }
        Some(Adopted { since, moved, retired, used, addresses, .. }) => {
            lines.push(format!("adopted      {since}"));
            let at = |at: &Option<_>| {
                at.map_or("not yet".to_owned(), |at: taskcluster_pulse::clock::Timestamp| at.to_string())
            };
            lines.push(format!("moved on     {}", at(moved)));
            lines.push(format!("retired      {}", at(retired)));
            lines.push(format!(
                "its user     {}",
                used.map_or("was not seen in use".to_owned(), |used| format!("last seen in use at {used}"))
            ));
            let address =
                |(address, last): (&String, &_)| format!("    from {}, last at {last}", terminal::one_line(address));
            lines.extend(addresses.iter().map(address));
        }
    }
    lines
}
