//! The program `taskcluster-pulse`: arguments, configuration, telemetry, one process, exit code.

use std::ffi::OsString;
use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::builder::ArgPredicate;
use clap::{Args, Parser, Subcommand, ValueEnum};
use futures::StreamExt as _;
use rustix::process::Signal;
use serde_json::json;
use taskcluster_pulse::client::{self, ClaimOptions, Expires, Trouble};
use taskcluster_pulse::clock::{Clock, SystemClock, Timestamp};
use taskcluster_pulse::config::{self, Config, Needs};
use taskcluster_pulse::exec::{self, ExecError, OnReclaim};
use taskcluster_pulse::http::contract::Contract;
use taskcluster_pulse::process::{self, Process, Task};
use taskcluster_pulse::service::{Outcome, Step};
use taskcluster_pulse::store::Rekeyed;
use taskcluster_pulse::taskcluster::TaskclusterError;
use taskcluster_pulse::telemetry::{self, Stream};
use url::Url;

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
    3  refused: the service refused the claim, or a run would have removed too much\n\n\
    exec ends with the exit code of the command that it has started.";

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
    /// Seal the passwords in the database under the newest key, so that the older ones can be removed.
    ///
    /// The newest key is the last of the key ring. All processes must have the same key ring by then. They may go on running.
    Rekey,
    /// Give new passwords to the namespaces whose stored ones can't be opened any more, because the keys are lost.
    ///
    /// No connection string is cut off that is good still. So a namespace that was rotated less than half a rotation
    /// interval ago is left for that time, and named; run it again then.
    ReplaceLostPasswords(Replace),
    /// Claim a namespace at a running service, and print the connection string.
    ///
    /// It signs with TASKCLUSTER_CLIENT_ID and TASKCLUSTER_ACCESS_TOKEN, and claims at TASKCLUSTER_ROOT_URL.
    Claim(Claim),
    /// Run a command with a connection string for a namespace, and renew it in time.
    ///
    /// It claims as `claim` does, and puts the connection string into the command's environment, as
    /// PULSE_CONNECTION_STRING. Well before that one ceases to be good it claims again. On a new connection string it
    /// restarts the command: SIGTERM to it and its process group, SIGKILL after the stop time-out, then a new start. Or
    /// it sends a signal, on which the command must read the new string from the file.
    ///
    /// While the service can't be reached, or refuses, the command runs on; that is warned of on the standard error.
    ///
    /// SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1 and SIGUSR2 are passed on to the command; the first three to its process
    /// group too. After SIGTERM it is killed where it takes longer than the stop time-out. A terminal is not the command's
    /// standard input.
    ///
    /// When the command ends by itself, so does exec: with its exit code, with 128 and the number of the signal that ended
    /// it, with 126 where it can't be started, or 127 where it is not found. Where the first claim is refused exec ends at
    /// once with 3, and where it does not succeed in time with 1.
    Exec(Exec),
    /// List all settings, with their variables and defaults.
    Settings,
    /// Print the API reference, the schemas and a manifest of them, for who publishes them.
    ///
    /// It prints a JSON array of objects with a `filename`, which is the path below the root URL, and a `content`: the
    /// form in which Taskcluster keeps those of its own services. It needs no settings.
    References(References),
}

#[derive(Args)]
struct References {
    /// The root URL of the deployment, which is put before all names. Without it they are abstract: they begin with a slash.
    #[arg(long, value_name = "URL", value_parser = config::parse_root_url)]
    root_url: Option<Url>,
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
struct Replace {
    /// Don't wait: cut off whoever claimed before the last rotation and not since, if it was less than half an interval ago.
    #[arg(long)]
    now: bool,
    /// Print what would be done, with reasons, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Claim {
    #[command(flatten)]
    what: What,
    /// Print the whole answer as JSON; with --watch, one object a line.
    #[arg(long)]
    json: bool,
    /// Claim again and again in time, and print each new connection string on a line of its own, until stopped. While the
    /// service can't be reached it goes on trying, and warns of it on the standard error.
    #[arg(long)]
    watch: bool,
}

#[derive(Args)]
struct What {
    /// The namespace.
    namespace: String,
    /// When it shall expire: a date such as 2026-12-01T00:00:00Z, or a time from each claim such as "4 hours".
    #[arg(long, value_name = "WHEN", value_parser = parse_expires)]
    expires: Option<Expires>,
    /// The e-mail address that is told when a queue grows too large; empty for nobody.
    #[arg(long, value_name = "ADDRESS")]
    contact: Option<String>,
}

#[derive(Args)]
struct Exec {
    #[command(flatten)]
    what: What,
    /// What to do with the command when there is a new connection string.
    #[arg(long, value_enum, value_name = "WHAT", default_value = "restart")]
    #[arg(default_value_if("signal", ArgPredicate::IsPresent, "signal"))]
    on_reclaim: Reclaim,
    /// Which signal to send: HUP, INT, QUIT, TERM, USR1, USR2 or WINCH. It implies --on-reclaim signal.
    #[arg(long, value_name = "NAME", default_value = "HUP", value_parser = exec::signal_named, requires = "file")]
    signal: Signal,
    /// Keep the current connection string in this file, for its owner alone to read. It is replaced in one step, before
    /// the command is signalled, and removed at the end. Its path is in PULSE_CONNECTION_STRING_FILE.
    #[arg(long, value_name = "PATH", required_if_eq("on_reclaim", "signal"))]
    file: Option<PathBuf>,
    /// How long the command may take to end after SIGTERM, before it is killed.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    stop_timeout: Duration,
    /// How long to try the first claim, before giving up, while the service can't be reached.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Reclaim {
    /// End it, and start it with the new one.
    Restart,
    /// Send it a signal.
    Signal,
}

fn parse_expires(text: &str) -> Result<Expires, String> {
    let date = Timestamp::parse(text).map(Expires::At);
    date.or_else(|| humantime::parse_duration(text).ok().map(Expires::In))
        .ok_or_else(|| "give a date such as 2026-12-01T00:00:00Z, or a time from now such as \"4 hours\"".to_owned())
}

const DONE: u8 = 0;
const FAILED: u8 = 1;
const WRONG: u8 = 2;
const REFUSED: u8 = 3;
// As shells have it.
const NOT_STARTED: u8 = 126;
const NOT_FOUND: u8 = 127;

fn main() -> ExitCode {
    let Arguments { config: file, command } = Arguments::parse();
    let (needs, output) = match &command {
        Command::Settings => return exit_code(print(config::listing().trim_end()), Stream::Stderr),
        Command::References(options) => return exit_code(references(options), Stream::Stderr),
        Command::Serve => (Needs::SERVE, Stream::Stdout),
        Command::Web => (Needs::WEB, Stream::Stdout),
        Command::Migrate => (Needs::MIGRATE, Stream::Stdout),
        Command::Rekey => (Needs::REKEY, Stream::Stderr),
        Command::Claim(_) | Command::Exec(_) => (Needs::CLAIM, Stream::Stderr),
        Command::Worker => (Needs::WORKER, Stream::Stdout),
        Command::ReplaceLostPasswords(_) => (Needs::REPAIR, Stream::Stderr),
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
    let ran = tokio::runtime::Runtime::new().map_err(anyhow::Error::from).and_then(|tokio| {
        let ran = tokio.block_on(run(command, config));
        // A look-up of a host's name that hangs must not delay the end.
        tokio.shutdown_background();
        ran
    });
    exit_code(ran, output)
}

/// Tells of an error: on the standard error, and in the log where that goes elsewhere.
fn exit_code(ran: Result<u8>, log: Stream) -> ExitCode {
    ExitCode::from(ran.unwrap_or_else(|error| {
        if log == Stream::Stdout {
            tracing::error!("{error:#}");
        }
        eprintln!("taskcluster-pulse: {error:#}");
        match error.downcast_ref() {
            Some(TaskclusterError::Unusable(_)) => WRONG,
            Some(error) if client::is_refusal(error) => REFUSED,
            _ => FAILED,
        }
    }))
}

/// Runs a command, and gives its exit code.
async fn run(command: Command, config: Config) -> Result<u8> {
    let (task, options) = match command {
        Command::Serve => return serve(config, true, true).await,
        Command::Web => return serve(config, true, false).await,
        Command::Worker => return serve(config, false, true).await,
        Command::Migrate => return migrate(&config).await,
        Command::Rekey => return rekey(&config).await,
        Command::ReplaceLostPasswords(options) => {
            let outcome = Process::new(config).await?.replace_lost(options.now, options.dry_run).await?;
            return print_outcome(&outcome, options.json);
        }
        Command::Claim(Claim { what, json, watch: true }) => return watch(&config, what, json).await,
        Command::Claim(Claim { what, json, .. }) => return claim(&config, what, json).await,
        Command::Exec(options) => return exec(&config, options).await,
        Command::Settings | Command::References(_) => return Ok(DONE),
        Command::RotateNamespaces(options) => (Task::Rotate, options),
        Command::MonitorRabbit(options) => (Task::Monitor, options),
        Command::ExpireNamespaces(options) => (Task::Expire, options),
        Command::DeliverNotices(options) => (Task::Deliver, options),
    };
    let process = Process::new(config).await?;
    if let Some(every) = options.every {
        // Nobody may be reading any more; the work goes on.
        process.run_every(task, every, |outcome| drop(print(shown(outcome, options.json)))).await?;
        return Ok(DONE);
    }
    print_outcome(&process.run_once(task, options.dry_run).await?, options.json)
}

/// Prints the result of a run, and gives the exit code that tells of it.
fn print_outcome(outcome: &Outcome, json: bool) -> Result<u8> {
    print(shown(outcome, json))?;
    Ok(match outcome {
        Outcome { refused, .. } if *refused > 0 => REFUSED,
        Outcome { failed, .. } if *failed > 0 => FAILED,
        _ => DONE,
    })
}

fn references(References { root_url }: &References) -> Result<u8> {
    let contract = Contract::new(root_url.as_ref()).map_err(anyhow::Error::msg)?;
    print(format_args!("{:#}", contract.files()))
}

fn shown(outcome: &Outcome, json: bool) -> String {
    if json { format!("{:#}", outcome.to_json()) } else { text(outcome) }
}

async fn serve(config: Config, web: bool, worker: bool) -> Result<u8> {
    Process::new(config).await?.serve(web, worker).await?;
    Ok(DONE)
}

async fn migrate(config: &Config) -> Result<u8> {
    let applied = process::migrate(config).await?;
    if applied.is_empty() {
        return print("The database is up to date.");
    }
    applied.iter().try_fold(DONE, |_, name| print(format_args!("Applied {name}.")))
}

async fn rekey(config: &Config) -> Result<u8> {
    let Rekeyed { resealed, unreadable, left } = process::rekey(config).await?;
    print(format_args!("Sealed {resealed} namespaces under the newest key."))?;
    if unreadable + left == 0 {
        return print("No older key is needed any more.");
    }
    if left > 0 {
        print(format_args!(
            "{left} are sealed under an older key again. Give every process the same key ring, and run this again."
        ))?;
    }
    if unreadable > 0 {
        print(format_args!("{unreadable} can't be opened: they need a key that is not in the key ring."))?;
    }
    Ok(FAILED)
}

async fn claim(config: &Config, What { namespace, expires, contact }: What, json: bool) -> Result<u8> {
    let taskcluster = process::taskcluster(config, Arc::new(SystemClock))?;
    let options = ClaimOptions { expires, contact };
    let answer = client::claim(&taskcluster, &namespace, &options, SystemClock.now()).await?;
    match answer["connectionString"].as_str() {
        Some(_) if json => print(format_args!("{answer:#}")),
        Some(connection_string) => print(connection_string),
        None => bail!("the service answered without a connectionString"),
    }
}

fn claims(config: &Config, What { namespace, expires, contact }: What) -> Result<client::Claims> {
    let taskcluster = Arc::new(process::taskcluster(config, Arc::new(SystemClock))?);
    Ok(client::claims(taskcluster, &namespace, ClaimOptions { expires, contact }, Arc::new(SystemClock)))
}

async fn watch(config: &Config, what: What, json: bool) -> Result<u8> {
    let namespace = what.namespace.clone();
    let (mut claims, mut claimed) = (claims(config, what)?, false);
    while let Some(item) = claims.next().await {
        match item {
            Ok(fresh) => {
                claimed = true;
                let connection_string = fresh.connection_string.expose();
                let line = if json {
                    let (reclaim_at, expires) = (fresh.reclaim_at.to_string(), fresh.expires.to_string());
                    json!({"namespace": namespace, "expires": expires, "connectionString": connection_string,
                        "reclaimAt": reclaim_at})
                    .to_string()
                } else {
                    connection_string.to_owned()
                };
                print(line)?;
            }
            Err(Trouble::Refused(error)) if !claimed => return Err(error.into()),
            Err(trouble) => tracing::warn!("{trouble}"),
        }
    }
    Ok(DONE)
}

async fn exec(config: &Config, options: Exec) -> Result<u8> {
    let claims = claims(config, options.what)?;
    let mut command = options.command.into_iter();
    let options = exec::Options {
        command: command.next().unwrap_or_default(),
        arguments: command.collect(),
        on_reclaim: match options.on_reclaim {
            Reclaim::Restart => OnReclaim::Restart,
            Reclaim::Signal => OnReclaim::Signal(options.signal),
        },
        stop_timeout: options.stop_timeout,
        file: options.file,
        wait: options.wait,
    };
    Ok(exec::run(claims, &options).await.unwrap_or_else(|error| {
        eprintln!("taskcluster-pulse: {error}");
        match error {
            ExecError::Refused(_) => REFUSED,
            ExecError::Start { error, .. } if error.kind() == std::io::ErrorKind::NotFound => NOT_FOUND,
            ExecError::Start { .. } => NOT_STARTED,
            ExecError::NotClaimed { .. } | ExecError::File { .. } | ExecError::System(_) => FAILED,
        }
    }))
}

/// Writes to the standard output; done only if it is written.
fn print(text: impl Display) -> Result<u8> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{text}").and_then(|()| output.flush()).context("the standard output can't be written")?;
    Ok(DONE)
}

/// The result of a run for people: the plan of a dry run as a table, what was noticed, and the summary line.
fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    let plan = outcome.plan.as_deref().unwrap_or_default();
    let width = |cell: fn(&Step) -> usize| plan.iter().map(cell).max().unwrap_or(0);
    let (verbs, objects) = (width(|step| step.action.len()), width(|step| step.object.chars().count()));
    for Step { action, object, reason } in plan {
        let _ = writeln!(text, "{action:verbs$}  {object:objects$}  {reason}");
    }
    for report in &outcome.reports {
        let _ = writeln!(text, "note: {report}");
    }
    text + &outcome.to_string()
}
