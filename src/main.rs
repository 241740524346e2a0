//! The program `taskcluster-pulse`: arguments, configuration, telemetry, one process, exit code.

mod commands;

use std::ffi::OsString;
use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::builder::ArgPredicate;
use clap::{Args, Parser, Subcommand, ValueEnum};
use commands::accounts::{self, Account, Adopt, MoveOn, NewCredentials, Retire};
use commands::ends::{self, End};
use commands::keys::{self, Keys};
use commands::owners::{self, Exempt, Owners};
use commands::trail::{self, Trail};
use commands::{parse_date, queues};
use futures::StreamExt as _;
use rustix::process::Signal;
use serde_json::json;
use taskcluster_pulse::client::{self, ClaimOptions, Expires, Trouble};
use taskcluster_pulse::clock::{Clock, SystemClock, Timestamp};
use taskcluster_pulse::config::{self, Config, Needs};
use taskcluster_pulse::domain::audit::Deed;
use taskcluster_pulse::domain::plan::Judged;
use taskcluster_pulse::exec::{self, ExecError, OnReclaim};
use taskcluster_pulse::process::doctor::{self, Level, Report};
use taskcluster_pulse::process::{self, Process, Task};
use taskcluster_pulse::service::{Outcome, Step};
use taskcluster_pulse::store::Rekeyed;
use taskcluster_pulse::taskcluster::TaskclusterError;
use taskcluster_pulse::telemetry::{self, Stream};
use taskcluster_pulse::terminal;
use taskcluster_pulse::web::api::contract::Contract;
use tracing::level_filters::LevelFilter;
use url::Url;

/// Hand out RabbitMQ credentials to programs that have Taskcluster credentials, and rotate the passwords.
///
/// Settings come from user-config.yml in the working directory and from environment variables; `settings` lists them.
#[derive(Parser)]
#[command(version = VERSION.as_str(), after_help = EXIT_CODES)]
struct Arguments {
    /// Read settings from this file instead of user-config.yml.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

/// The version, and where the build was told them, the commit and the job that made it.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let told = [("commit", option_env!("PULSE_COMMIT")), ("build", option_env!("PULSE_BUILD"))];
    let told = told.into_iter().filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)));
    let told: Vec<_> = told.map(|(name, value)| format!("{name} {value}")).collect();
    match told.as_slice() {
        [] => env!("CARGO_PKG_VERSION").to_owned(),
        told => format!("{} ({})", env!("CARGO_PKG_VERSION"), told.join(", ")),
    }
});

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
    /// Give a new password to every namespace whose rotation is due.
    RotateNamespaces(Run),
    /// Repair the broker's users, warn of and delete large queues, and close old connections.
    MonitorRabbit(Run),
    /// Remove expired namespaces with their users, queues and exchanges.
    ExpireNamespaces(Run),
    /// Deliver messages to the owners of namespaces.
    DeliverNotices(Run),
    /// Watch queues with read rights alone, and show what the guard would do.
    ///
    /// It judges all queues that are named as those of namespaces are, whoever made them, and does nothing to them: beside
    /// PulseGuardian, or before anything of this service is there. RabbitMQ's tag `monitoring` is enough. It remembers what it saw in
    /// a database of its own.
    Guard(Guard),
    /// Let the users of a namespace connect again that were kept out because they held too many messages.
    LetIn(LetIn),
    /// Show or change who owns a namespace.
    ///
    /// Owners are e-mail addresses and groups, written group:<name>. Each address gets each message about the namespace.
    Owners(Owners),
    /// List the queues of a namespace, with their messages and what the guard says of them.
    Queues(queues::Queues),
    /// Show all that is known of one queue.
    Queue(queues::Queue),
    /// Delete the messages of a queue, and keep the queue.
    PurgeQueue(queues::PurgeQueue),
    /// Delete queues of a namespace, by their names or by a pattern.
    DeleteQueue(queues::DeleteQueue),
    /// List the exchanges of a namespace.
    Exchanges(queues::Exchanges),
    /// Delete an exchange of a namespace.
    DeleteExchange(queues::DeleteExchange),
    /// Let queues of a namespace grow beyond the limit, or list which may.
    Exempt(Exempt),
    /// Make accounts of users of RabbitMQ that somebody else made, such as PulseGuardian.
    ///
    /// Nothing is written to RabbitMQ: the users keep their names, passwords, permissions and queues. From then on their
    /// queues are guarded, and their owners are told. What can't be taken is listed with its reason. You can run it again:
    /// what was adopted before stays as it is.
    Adopt(Adopt),
    /// Show an account, or make one, and print its credentials, which are shown this once.
    Account(Account),
    /// Give an account new credentials, and print them. They are shown this once.
    ///
    /// The ones before work until the next time.
    NewCredentials(NewCredentials),
    /// Give an account that was adopted credentials of its own, and print them. They are shown this once.
    ///
    /// The user that was adopted goes on working until you retire it.
    MoveOn(MoveOn),
    /// Delete the user that an account was made of, once its owner has moved on.
    Retire(Retire),
    /// List who did what to whose things, and why, the newest first.
    Audit(Trail),
    /// Send no reminders of a queue, or of all queues of a namespace.
    ///
    /// Its owner still gets the first warning of each trouble, what comes before a removal, and what was removed.
    Mute(Mute),
    /// End a namespace now, with its queues and exchanges.
    Release(End),
    /// Replace the passwords of a namespace, and close its connections.
    Revoke(End),
    /// Revoke the credentials of a namespace, and let nobody claim it.
    Disable(End),
    /// Let a namespace be claimed again that was disabled.
    Enable(End),
    /// Bring the database's schema up to date, or take it back to an earlier version.
    Migrate(Migrate),
    /// Encrypt the passwords in the database with the newest key, so that you can remove the older ones.
    ///
    /// The newest key is the last one in the key ring. Give all processes the same key ring before you run this. They
    /// can keep running.
    Rekey,
    /// Make and show the keys by which the service logs in to RabbitMQ without a password (`rabbit.auth: token`).
    Keys(Keys),
    /// Give new passwords to the namespaces whose stored passwords can't be decrypted, because the keys are lost.
    ///
    /// Connection strings keep working until their reclaimAt. So the command skips a namespace that was rotated less
    /// than half a rotation interval ago, and says until when. Run it again then.
    ReplaceLostPasswords(Replace),
    /// Take over RabbitMQ's users of a former deployment whose database is lost.
    ///
    /// The service never touches a user that another deployment made. This command gives this deployment's tag to such
    /// users, and keeps their passwords. Without --from it lists them, and changes nothing.
    TakeOverUsers(TakeOver),
    /// Claim a namespace at a running service, and print the connection string.
    ///
    /// It signs with TASKCLUSTER_CLIENT_ID and TASKCLUSTER_ACCESS_TOKEN, and calls the service at TASKCLUSTER_ROOT_URL.
    /// Inside a task, where these two are not set, it calls TASKCLUSTER_PROXY_URL, and taskcluster-proxy signs.
    Claim(Claim),
    /// Run a command with a connection string for a namespace, and renew it in time.
    ///
    /// It claims as `claim` does. The command gets the connection string in PULSE_CONNECTION_STRING, and its parts as
    /// Taskcluster's own services read them: PULSE_USERNAME, PULSE_PASSWORD, PULSE_HOSTNAME, PULSE_VHOST and
    /// PULSE_AMQPS. Well before the string stops working, exec claims again. If the string is new, exec restarts the
    /// command: it sends SIGTERM to its process group, SIGKILL after the stop time-out, and starts the command again
    /// when no process of the group runs. Or it sends a signal; the command must then read the new string from the
    /// file.
    ///
    /// The command does not get the secrets that exec reads from its environment, such as TASKCLUSTER_ACCESS_TOKEN; see
    /// --pass. It does get DATABASE_URL.
    ///
    /// While the service can't be reached or refuses the claim, the command keeps running, and exec prints a warning to
    /// standard error.
    ///
    /// exec passes SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1 and SIGUSR2 on to the command, the first three also to its
    /// process group. After SIGTERM, it kills the command if that takes longer than the stop time-out. The command's
    /// standard input is never a terminal. Ctrl-Z stops both, and they continue together.
    ///
    /// When the command ends by itself, exec also ends what it left running in its process group, as by SIGTERM, and
    /// what it moved to other groups of the session. It leaves processes with a session of their own alone (see
    /// setsid). Then exec ends: with the command's exit code, with 128 and the number of the signal that ended the
    /// command, with 126 if the command can't be started, or 127 if it is not found. It ends at once with 3 if the
    /// first claim is refused, and with 1 if that does not succeed in time.
    Exec(Exec),
    /// Look at this installation from inside, and say what to do about what is wrong.
    ///
    /// It looks at the settings, the database and its schema, the keys, RabbitMQ and what the management account may do
    /// there, clocks, mail, the auth service, the URL that clients use, and certificates. It changes nothing. The exit code is
    /// 1 if something does not work.
    Doctor(Doctor),
    /// List all settings, with their variables and defaults.
    Settings,
    /// Print the API reference, the schemas and a manifest of them, to publish them elsewhere.
    ///
    /// It prints a JSON array of objects with a `filename`, the path below the root URL, and a `content`. Taskcluster
    /// keeps those of its own services in the same form. This needs no settings.
    References(References),
}

#[derive(Args)]
struct Doctor {
    /// Send a test message to this address, as owners of namespaces get theirs.
    #[arg(long, value_name = "ADDRESS")]
    mail_to: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct References {
    /// The root URL of the deployment, which begins all names. Without it the names are abstract: they begin with a
    /// slash.
    #[arg(long, value_name = "URL", value_parser = config::parse_root_url)]
    root_url: Option<Url>,
}

#[derive(Args)]
struct Run {
    /// Run repeatedly with this much time in between ("2 min"), instead of once.
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
    /// Don't wait. If a namespace was rotated less than half an interval ago, this cuts off programs that have not
    /// claimed it since.
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
struct Guard {
    /// Do nothing to queues. There is no other way yet: the service guards by `monitor-rabbit`.
    #[arg(long, required = true)]
    observe: bool,
    /// Go on until stopped, and look every so often: `2 min`.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    every: Option<Duration>,
    /// Print the result as JSON; with --every, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct LetIn {
    /// The namespace.
    namespace: String,
}

#[derive(Args)]
struct Migrate {
    /// Take the schema back to this version, for an older program. Stop all processes of this program before, for they would
    /// bring it up to date again or fail. This is refused where data would be lost.
    #[arg(long, value_name = "VERSION")]
    to: Option<u32>,
    /// Go back even so. Back the database up before.
    #[arg(long, requires = "to")]
    force: bool,
}

#[derive(Args)]
struct Mute {
    /// The queue, such as queue/taskcluster-x/jobs, or the namespace.
    #[arg(value_name = "QUEUE-OR-NAMESPACE")]
    target: String,
    /// Send reminders again from then on: a date such as 2026-12-01T00:00:00Z.
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    until: Option<Timestamp>,
    /// Send reminders again after so long: "3 days".
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with = "until")]
    lasting: Option<Duration>,
    /// Send reminders again from now on.
    #[arg(long, conflicts_with_all = ["until", "lasting"])]
    undo: bool,
}

#[derive(Args)]
struct TakeOver {
    /// Take over the users with this tag. The deployment with this tag must no longer exist. You can give this option
    /// several times. Version 1.0.0 used the tag taskcluster-pulse.
    #[arg(long, value_name = "TAG")]
    from: Vec<String>,
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
    /// Claim again in time, and print each new connection string on a line of its own, until stopped. While the service
    /// can't be reached, keep trying, and print a warning to standard error.
    #[arg(long)]
    watch: bool,
}

#[derive(Args)]
struct What {
    /// The namespace.
    namespace: String,
    /// When the namespace should expire: a date such as 2026-12-01T00:00:00Z, or a time from each claim such as "4
    /// hours". A date in the past ends the namespace, and only a single claim accepts it.
    #[arg(long, value_name = "WHEN", value_parser = parse_expires)]
    expires: Option<Expires>,
    /// The e-mail address that is warned when a queue grows too large; empty for nobody.
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
    /// The signal to send: HUP, INT, QUIT, TERM, USR1, USR2 or WINCH. It implies --on-reclaim signal.
    #[arg(long, value_name = "NAME", default_value = "HUP", value_parser = exec::signal_named, requires = "file")]
    signal: Signal,
    /// Keep the current connection string in this file, readable only by its owner. exec replaces it in one step before
    /// it signals the command, and removes it at the end. The path is in PULSE_CONNECTION_STRING_FILE.
    #[arg(long, value_name = "PATH", required_if_eq("on_reclaim", "signal"))]
    file: Option<PathBuf>,
    /// How long the command may take to end after SIGTERM before it is killed.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    stop_timeout: Duration,
    /// How long to retry the first claim while the service can't be reached.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// Pass this variable on to the command although it holds a secret, for example TASKCLUSTER_ACCESS_TOKEN for a
    /// command that calls Taskcluster itself. You can give this option several times.
    #[arg(long, value_name = "VARIABLE", value_parser = parse_secret_variable)]
    pass: Vec<&'static str>,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Reclaim {
    /// Stop it, and start it again with the new one.
    Restart,
    /// Send it a signal.
    Signal,
}

fn parse_expires(text: &str) -> Result<Expires, String> {
    let date = Timestamp::parse(text).map(Expires::At);
    date.or_else(|| humantime::parse_duration(text).ok().map(Expires::In))
        .ok_or_else(|| "give a date such as 2026-12-01T00:00:00Z, or a time from now such as \"4 hours\"".to_owned())
}

fn parse_secret_variable(text: &str) -> Result<&'static str, String> {
    let mut withheld = exec::secret_variables();
    let found = withheld.find(|name| *name == text);
    found.ok_or_else(|| {
        format!("give one of {}; others are handed on", exec::secret_variables().collect::<Vec<_>>().join(", "))
    })
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
        Command::Doctor(_) => (Needs::SERVE, Stream::Stderr),
        Command::Web => (Needs::WEB, Stream::Stdout),
        Command::Migrate(_) => (Needs::MIGRATE, Stream::Stdout),
        Command::Rekey => (Needs::REKEY, Stream::Stderr),
        Command::Keys(_) => (Needs::default(), Stream::Stderr),
        Command::Claim(_) | Command::Exec(_) => (Needs::CLAIM, Stream::Stderr),
        Command::Worker => (Needs::WORKER, Stream::Stdout),
        Command::ReplaceLostPasswords(_)
        | Command::TakeOverUsers(_)
        | Command::Guard(_)
        | Command::LetIn(_)
        | Command::Owners(_)
        | Command::Queues(_)
        | Command::Queue(_)
        | Command::PurgeQueue(_)
        | Command::DeleteQueue(_)
        | Command::Exchanges(_)
        | Command::DeleteExchange(_)
        | Command::Exempt(_)
        | Command::Release(_)
        | Command::Revoke(_)
        | Command::Disable(_)
        | Command::Enable(_)
        | Command::Adopt(_)
        | Command::Account(_)
        | Command::NewCredentials(_)
        | Command::MoveOn(_)
        | Command::Retire(_)
        | Command::Audit(_)
        | Command::Mute(_) => (Needs::REPAIR, Stream::Stderr),
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
            if let Command::Doctor(options) = &command {
                let report = Report::of_settings(&error.to_string());
                return exit_code(print_report(&report, options.json), output);
            }
            eprintln!("{error}");
            return ExitCode::from(WRONG);
        }
    };
    let mut levels = config.logging.level.clone();
    if matches!(command, Command::Doctor(_)) {
        // It says itself what is well.
        levels.root = levels.root.min(LevelFilter::WARN);
    }
    if let Err(error) = telemetry::init(&levels, config.logging.format, output) {
        eprintln!("taskcluster-pulse: {}", terminal::one_line(&error.to_string()));
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
        complain(&error);
        match error.downcast_ref() {
            Some(TaskclusterError::Unusable(_)) => WRONG,
            Some(error) if client::is_refusal(error) => REFUSED,
            _ => FAILED,
        }
    }))
}

/// Writes an error to the standard error. What a service says may have lines of its own.
fn complain(error: &anyhow::Error) {
    let said = format!("{error:#}");
    let shown = match error.downcast_ref() {
        Some(TaskclusterError::Refused { .. }) => terminal::indented(&said),
        _ => terminal::one_line(&said).into_owned(),
    };
    eprintln!("taskcluster-pulse: {shown}");
}

/// Runs a command, and gives its exit code.
async fn run(command: Command, config: Config) -> Result<u8> {
    let (task, options) = match command {
        Command::Serve => return serve(config, true, true).await,
        Command::Web => return serve(config, true, false).await,
        Command::Worker => return serve(config, false, true).await,
        Command::Migrate(options) => return migrate(&config, options).await,
        Command::Rekey => return rekey(&config).await,
        Command::Keys(options) => return print(keys::keys(&config, options)?),
        Command::ReplaceLostPasswords(options) => {
            let outcome = Process::new(config).await?.replace_lost(options.now, options.dry_run).await?;
            return print_outcome(&outcome, options.json);
        }
        Command::TakeOverUsers(options) => {
            let outcome = Process::new(config).await?.take_over_users(&options.from, options.dry_run).await?;
            return print_outcome(&outcome, options.json);
        }
        Command::Guard(Guard { every, json, .. }) => {
            let process = Process::new(config).await?;
            let Some(every) = every else { return print_outcome(&process.observe().await?, json) };
            process.observe_every(every, |outcome| _ = print_outcome(outcome, json)).await?;
            return Ok(DONE);
        }
        Command::LetIn(LetIn { namespace }) => {
            let queues = Process::new(config).await?.let_in(&namespace, &process::at_a_shell()).await?;
            return print(format!("{namespace} may connect again; it was kept out because of {queues} queues"));
        }
        Command::Owners(options) => return print(owners::owners(&Process::new(config).await?, options).await?),
        Command::Queues(options) => return print(queues::queues(&Process::new(config).await?, options).await?),
        Command::Queue(options) => return print(queues::queue(&Process::new(config).await?, options).await?),
        Command::PurgeQueue(options) => {
            return print(queues::purge_queue(&Process::new(config).await?, options).await?);
        }
        Command::DeleteQueue(options) => {
            let (printed, done) = queues::delete_queue(&Process::new(config).await?, options).await?;
            return print(printed).map(|code| if done { code } else { FAILED });
        }
        Command::Exchanges(options) => return print(queues::exchanges(&Process::new(config).await?, options).await?),
        Command::DeleteExchange(options) => {
            return print(queues::delete_exchange(&Process::new(config).await?, options).await?);
        }
        Command::Exempt(options) => return print(owners::exempt(&Process::new(config).await?, options).await?),
        Command::Release(options) => return end(config, options, Deed::Release).await,
        Command::Revoke(options) => return end(config, options, Deed::Revoke).await,
        Command::Disable(options) => return end(config, options, Deed::Disable).await,
        Command::Enable(options) => return end(config, options, Deed::Enable).await,
        Command::Adopt(options) => {
            let (outcome, json) = accounts::adopt(&Process::new(config).await?, options).await?;
            return print_outcome(&outcome, json);
        }
        Command::Account(options) => return print(accounts::account(&Process::new(config).await?, options).await?),
        Command::NewCredentials(options) => {
            return print(accounts::renew(&Process::new(config).await?, options).await?);
        }
        Command::MoveOn(options) => return print(accounts::move_on(&Process::new(config).await?, options).await?),
        Command::Retire(options) => return print(accounts::retire(&Process::new(config).await?, options).await?),
        Command::Audit(options) => {
            trail::audit(&Process::new(config).await?, options, |line| print(line).map(drop)).await?;
            return Ok(DONE);
        }
        Command::Mute(options) => return mute(config, options).await,
        Command::Claim(Claim { what, json, watch: true }) => return watch(&config, what, json).await,
        Command::Claim(Claim { what, json, .. }) => return claim(&config, what, json).await,
        Command::Exec(options) => return exec(&config, options).await,
        Command::Doctor(Doctor { mail_to, json }) => {
            return print_report(&doctor::examine(&config, mail_to.as_deref()).await, json);
        }
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

async fn end(config: Config, options: End, deed: Deed) -> Result<u8> {
    print(ends::end(&Process::new(config).await?, options, deed).await?)
}

/// Mutes the reminders of a queue or a namespace, or no longer.
async fn mute(config: Config, Mute { target, until, lasting, undo }: Mute) -> Result<u8> {
    let process = Process::new(config).await?;
    let shown = printable(&target);
    if undo {
        return match process.unmute(&target).await? {
            true => print(format_args!("reminders of {shown} are sent again")),
            false => print(format_args!("reminders of {shown} were not muted")),
        };
    }
    let until = until.or(lasting.map(|lasting| SystemClock.now().plus(lasting)));
    process.mute(&target, until).await?;
    match until {
        Some(until) => print(format_args!("reminders of {shown} are muted until {until}")),
        None => print(format_args!("reminders of {shown} are muted")),
    }
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

fn print_report(report: &Report, json: bool) -> Result<u8> {
    match json {
        true => print(format_args!("{:#}", report.to_json()))?,
        false => print(report)?,
    };
    Ok(if report.worst() == Level::Error { FAILED } else { DONE })
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

async fn migrate(config: &Config, Migrate { to, force }: Migrate) -> Result<u8> {
    if let Some(to) = to {
        let undone = process::migrate_back(config, to, force).await?;
        undone.iter().try_fold(DONE, |_, name| print(format_args!("Took out {name}.")))?;
        return print(format_args!("The database's schema has version {to}."));
    }
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

/// Why the namespace would end under what is to go on with it.
fn ends_at_once(what: &What) -> Option<String> {
    let why = match what.expires? {
        Expires::At(at) if at <= SystemClock.now() => format!("{at} is past"),
        Expires::In(Duration::ZERO) => "no time is left from each claim".to_owned(),
        Expires::At(_) | Expires::In(_) => return None,
    };
    Some(format!(
        "--expires: {why}, so that the namespace would end while it is in use; give a date to come, or a time from each \
         claim such as \"4 hours\""
    ))
}

fn wrong(why: &str) -> u8 {
    eprintln!("taskcluster-pulse: {why}");
    WRONG
}

async fn watch(config: &Config, what: What, json: bool) -> Result<u8> {
    if let Some(why) = ends_at_once(&what) {
        return Ok(wrong(&why));
    }
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
    if let Some(why) = ends_at_once(&options.what) {
        return Ok(wrong(&why));
    }
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
        withheld: exec::secret_variables().filter(|name| !options.pass.contains(name)).collect(),
    };
    Ok(exec::run(claims, &options).await.unwrap_or_else(|error| {
        eprintln!("taskcluster-pulse: {}", terminal::indented(&error.to_string()));
        match error {
            ExecError::Refused(_) => REFUSED,
            ExecError::Start { error, .. } if error.kind() == std::io::ErrorKind::NotFound => NOT_FOUND,
            ExecError::Start { .. } => NOT_STARTED,
            ExecError::NotClaimed { .. } | ExecError::File { .. } | ExecError::System(_) => FAILED,
        }
    }))
}

/// Writes a line to the standard output, or some, or JSON; done only if it is written. Whoever puts the names of others into
/// lines has made them printable; that the rest is too is made sure of here.
fn print(text: impl Display) -> Result<u8> {
    let text = text.to_string();
    let mut output = std::io::stdout().lock();
    let text = terminal::json(&text);
    writeln!(output, "{text}").and_then(|()| output.flush()).context("the standard output can't be written")?;
    Ok(DONE)
}

fn printable(text: &str) -> String {
    terminal::one_line(text).into_owned()
}

/// The result of a run for people: the plan of a dry run as a table, what was noticed, and the summary line.
fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    let row = |Step { action, object, reason }: &Step| (*action, printable(object), printable(reason));
    let plan: Vec<_> = outcome.plan.iter().flatten().map(row).collect();
    let verbs = plan.iter().map(|(action, ..)| action.len()).max().unwrap_or(0);
    let objects = plan.iter().map(|(_, object, _)| object.chars().count()).max().unwrap_or(0);
    for (action, object, reason) in plan {
        let _ = writeln!(text, "{action:verbs$}  {object:objects$}  {reason}");
    }
    for Judged { queue, state, verdict, would, held, muted, .. } in &outcome.verdicts {
        let notes: Vec<_> = would.map(str::to_owned).or(held.clone()).into_iter().chain(muted.clone()).collect();
        let note = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
        let _ = writeln!(text, "{state}: {}: {}", printable(queue), printable(&(verdict.clone() + &note)));
    }
    for report in &outcome.reports {
        let _ = writeln!(text, "note: {}", printable(report));
    }
    text + &printable(&outcome.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_shows_no_name_as_it_is_that_steers_a_terminal() {
        let hostile = "queue/x/\u{1b}[2J\u{7}\u{202e}\u{9b}\nnote: done";
        let step = || Step { action: "delete", object: hostile.to_owned(), reason: hostile.to_owned() };
        let outcome = Outcome {
            task: "monitor-rabbit",
            plan: Some(vec![step(), step()]),
            reports: vec![hostile.to_owned()],
            held: Some(hostile.to_owned()),
            ..Outcome::default()
        };
        let shown = text(&outcome);
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{shown}");
        assert_eq!(shown.lines().count(), 4, "two rows, one note, one summary: {shown}");
        let json = terminal::json(&outcome.to_json().to_string()).into_owned();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), outcome.to_json());
    }
}
