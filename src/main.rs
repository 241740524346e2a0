//! The program `taskcluster-pulse`: arguments, configuration, telemetry, one process, exit code.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};
use taskcluster_pulse::clock::{Clock, SystemClock, Timestamp};
use taskcluster_pulse::config::{self, Config, Needs};
use taskcluster_pulse::process::{self, Process, Task};
use taskcluster_pulse::service::Outcome;
use taskcluster_pulse::taskcluster::{TaskclusterError, segment};
use taskcluster_pulse::telemetry::{self, Stream};

/// A namespace credential broker for RabbitMQ: rotating passwords for anything that has Taskcluster credentials.
///
/// Settings come from user-config.yml in the working directory and from the environment; `settings` lists them.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Arguments {
    /// Read settings from this file instead of user-config.yml.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes:\n  \
    0  done\n  \
    1  failed: the database, RabbitMQ or the service did not do what was asked, or not all of it\n  \
    2  the arguments or the settings are wrong\n  \
    3  refused: the service refused the claim, or a run would have removed too much";

#[derive(Subcommand)]
enum Command {
    /// Run everything in one process: the web part and the scheduled tasks.
    Serve,
    /// Run the web part alone.
    Web,
    /// Run all scheduled tasks in one process, with their configured intervals.
    Worker,
    /// Give every namespace whose rotation is due its next password.
    RotateNamespaces(Run),
    /// Repair the broker's users, warn of and delete large queues, and close old connections.
    MonitorRabbit(Run),
    /// Remove namespaces that have expired, with all that belongs to them.
    ExpireNamespaces(Run),
    /// Deliver messages to the owners of namespaces.
    DeliverNotices(Run),
    /// Bring the database's schema up to date.
    Migrate,
    /// Claim a namespace at a running service, and print the connection string.
    ///
    /// It signs with TASKCLUSTER_CLIENT_ID and TASKCLUSTER_ACCESS_TOKEN, and claims at TASKCLUSTER_ROOT_URL.
    Claim(Claim),
    /// List all settings, with their variables and defaults.
    Settings,
}

#[derive(Args)]
struct Run {
    /// Run again and again with this much time in between ("2 min"), instead of once.
    #[arg(long, value_name = "INTERVAL", value_parser = humantime::parse_duration)]
    every: Option<Duration>,
    /// Print what would be done, with reasons, and change nothing.
    #[arg(long, conflicts_with = "every")]
    dry_run: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Claim {
    /// The namespace.
    namespace: String,
    /// When it shall expire: a date such as 2026-12-01T00:00:00Z, or a time from now such as "4 hours".
    #[arg(long, value_name = "WHEN", value_parser = parse_expires)]
    expires: Option<Expires>,
    /// The e-mail address that is told when a queue grows too large; empty for nobody.
    #[arg(long, value_name = "ADDRESS")]
    contact: Option<String>,
    /// Print the whole answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy)]
enum Expires {
    At(Timestamp),
    In(Duration),
}

fn parse_expires(text: &str) -> Result<Expires, String> {
    let date = Timestamp::parse(text).map(Expires::At);
    date.or_else(|| humantime::parse_duration(text).ok().map(Expires::In))
        .ok_or_else(|| "give a date such as 2026-12-01T00:00:00Z, or a time from now such as \"4 hours\"".to_owned())
}

const FAILED: u8 = 1;
const WRONG: u8 = 2;
const REFUSED: u8 = 3;

fn main() -> ExitCode {
    let Arguments { config: file, command } = Arguments::parse();
    let (needs, output) = match &command {
        Command::Settings => {
            print!("{}", config::listing());
            return ExitCode::SUCCESS;
        }
        Command::Serve => (Needs::SERVE, Stream::Stdout),
        Command::Web => (Needs::WEB, Stream::Stdout),
        Command::Migrate => (Needs::MIGRATE, Stream::Stdout),
        Command::Claim(_) => (Needs::CLAIM, Stream::Stderr),
        Command::Worker => (Needs::WORKER, Stream::Stdout),
        Command::RotateNamespaces(run)
        | Command::MonitorRabbit(run)
        | Command::ExpireNamespaces(run)
        | Command::DeliverNotices(run) => {
            // What a run prints stands alone on the standard output.
            (Needs::WORKER, if run.every.is_some() && !run.json { Stream::Stdout } else { Stream::Stderr })
        }
    };
    let config = match Config::load(file.as_deref(), config::environment, needs) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(WRONG);
        }
    };
    if let Err(error) = telemetry::init(&config.logging, output) {
        eprintln!("taskcluster-pulse: {error}");
        return ExitCode::from(FAILED);
    }
    let ran = tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|tokio| tokio.block_on(run(command, config)));
    ran.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        eprintln!("taskcluster-pulse: {error:#}");
        ExitCode::from(FAILED)
    })
}

async fn run(command: Command, config: Config) -> Result<ExitCode> {
    let (task, options) = match command {
        Command::Serve => return serve(config, true, true).await,
        Command::Web => return serve(config, true, false).await,
        Command::Worker => return serve(config, false, true).await,
        Command::Migrate => return migrate(&config).await,
        Command::Claim(what) => return claim(&config, what).await,
        Command::Settings => return Ok(ExitCode::SUCCESS),
        Command::RotateNamespaces(options) => (Task::Rotate, options),
        Command::MonitorRabbit(options) => (Task::Monitor, options),
        Command::ExpireNamespaces(options) => (Task::Expire, options),
        Command::DeliverNotices(options) => (Task::Deliver, options),
    };
    let process = Process::new(config).await?;
    let report = if options.json { print_json } else { print_text };
    if let Some(every) = options.every {
        process.run_every(task, every, report).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = process.run_once(task, options.dry_run).await?;
    report(&outcome);
    Ok(match outcome {
        Outcome { refused, .. } if refused > 0 => ExitCode::from(REFUSED),
        Outcome { failed, .. } if failed > 0 => ExitCode::from(FAILED),
        _ => ExitCode::SUCCESS,
    })
}

async fn serve(config: Config, web: bool, worker: bool) -> Result<ExitCode> {
    Process::new(config).await?.serve(web, worker).await?;
    Ok(ExitCode::SUCCESS)
}

async fn migrate(config: &Config) -> Result<ExitCode> {
    let applied = process::migrate(config).await?;
    if applied.is_empty() {
        println!("The database is up to date.");
    }
    for name in applied {
        println!("Applied {name}.");
    }
    Ok(ExitCode::SUCCESS)
}

async fn claim(config: &Config, what: Claim) -> Result<ExitCode> {
    let taskcluster = process::taskcluster(config, Arc::new(SystemClock))?;
    let mut payload = Map::new();
    if let Some(expires) = what.expires {
        let expires = match expires {
            Expires::At(at) => at,
            Expires::In(span) => SystemClock.now().plus(span),
        };
        payload.insert("expires".to_owned(), json!(expires.to_string()));
    }
    if let Some(contact) = what.contact {
        payload.insert("contact".to_owned(), json!(contact));
    }
    let path = format!("namespace/{}", segment(&what.namespace));
    match taskcluster.call(Method::POST, "pulse", &path, Some(&Value::Object(payload))).await {
        Ok(reply) if what.json => println!("{:#}", reply.body),
        Ok(reply) => match reply.body["connectionString"].as_str() {
            Some(connection_string) => println!("{connection_string}"),
            None => anyhow::bail!("the service answered without a connectionString"),
        },
        Err(error) => {
            eprintln!("{error}");
            return Ok(ExitCode::from(if is_refusal(&error) { REFUSED } else { FAILED }));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn is_refusal(error: &TaskclusterError) -> bool {
    !error.is_transient()
}

fn print_json(outcome: &Outcome) {
    println!("{:#}", outcome.to_json());
}

fn print_text(outcome: &Outcome) {
    if let Some(plan) = &outcome.plan {
        let width = |cell: fn(&taskcluster_pulse::service::Step) -> usize| plan.iter().map(cell).max().unwrap_or(0);
        let (verbs, objects) = (width(|step| step.action.len()), width(|step| step.object.chars().count()));
        for step in plan {
            println!("{:verbs$}  {:objects$}  {}", step.action, step.object, step.reason);
        }
    }
    for report in &outcome.reports {
        println!("note: {report}");
    }
    println!("{outcome}");
}
