//! The database: whether it answers, its schema, its keys, its clock; and what it tells of the processes of the service.

use std::time::Duration;

use humantime::format_duration;

use super::report::Finding;
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::process::tasks::Task;
use crate::service::Service;
use crate::store::{Select, Store, StoreError};

const NAME: &str = "database";

/// Written to find out whether it can be written to: a lease that ends at once.
const WRITTEN: &str = "doctor";

/// By how much clocks may differ, so that nothing waits for them.
const SKEW: Duration = Duration::from_secs(5);

/// After so many intervals without a run that came to its end, a task does not run.
const RUNS: u32 = 3;
/// How long ago a web process may have noted that it serves.
const HEARTBEAT: Duration = Duration::from_secs(120);

/// Why it could not be opened at all.
pub(super) fn not_opened(error: &anyhow::Error) -> Finding {
    let advice = match error.downcast_ref() {
        Some(StoreError::Schema(_)) => "Run the program that migrated it last, or give an empty database.",
        Some(StoreError::Setup(_)) => "Correct DATABASE_URL and DB_CRYPTO_KEYS.",
        _ => "Correct DATABASE_URL. With SQLite, the folder must be there, and be writable.",
    };
    Finding::error(NAME, format!("{error:#}"), advice)
}

fn failed(error: &StoreError) -> Finding {
    let advice = match error {
        StoreError::Unmigrated(_) => "Run `taskcluster-pulse migrate`.",
        StoreError::Schema(_) => "Run the program that migrated it last.",
        StoreError::Unwritable(_) => "Is its disk full, is it a read-only standby, or does another process lock it?",
        StoreError::Unavailable(_) => "Is it running? Check host, port, user and password in DATABASE_URL.",
        _ => "Look at the log of the database.",
    };
    Finding::error(NAME, error.to_string(), advice)
}

pub(super) async fn look(config: &Config, store: &dyn Store, service: &Service, clock: &dyn Clock) -> Vec<Finding> {
    let which = match config.store.database_url.expose().starts_with("postgres") {
        true => "PostgreSQL",
        false => "SQLite",
    };
    if let Err(error) = store.ping().await {
        return vec![failed(&error)];
    }
    let now = clock.now();
    if let Err(error) = store.lease(WRITTEN, "whoever asks", now, now).await {
        return vec![failed(&error)];
    }
    let mut found =
        vec![Finding::ok(NAME, format!("{which} answers, can be written to, and its schema is that of this program"))];
    found.push(keys(store).await);
    found.push(match service.figures().await {
        Ok(figures) => ours(clock, figures.now),
        Err(error) => Finding::error("clock", error.to_string(), "The database must tell the time."),
    });
    found
}

/// Whether what is stored can be opened.
async fn keys(store: &dyn Store) -> Finding {
    let name = "keys";
    match store.namespaces(Select::Sealed).await {
        Ok(sealed) if sealed.is_empty() => Finding::ok(name, "the key ring opens all stored passwords"),
        Ok(sealed) => {
            let (count, first) = (sealed.len(), &sealed[0].name);
            let message = format!("the key ring does not open the passwords of {count} namespaces, {first} first");
            Finding::error(
                name,
                message,
                "Add the missing key to DB_CRYPTO_KEYS; if it is lost, see `replace-lost-passwords --help`.",
            )
        }
        Err(error) => Finding::error(name, error.to_string(), "Check DB_CRYPTO_KEYS."),
    }
}

/// This host's clock, beside that of the database.
fn ours(clock: &dyn Clock, theirs: Timestamp) -> Finding {
    apart("clock", "the database", clock.now(), theirs)
}

/// How far this host's clock is from another one.
pub(super) fn apart(name: &'static str, whose: &str, ours: Timestamp, theirs: Timestamp) -> Finding {
    let by = ours.since(theirs).max(theirs.since(ours));
    let by = Duration::from_secs(by.as_secs());
    match by <= SKEW {
        true => Finding::ok(name, format!("it agrees with that of {whose}")),
        false => Finding::error(
            name,
            format!("this host's clock is {} from that of {whose}", format_duration(by)),
            "Set the wrong one right, and let both hosts run NTP. Rotation waits while they differ much.",
        ),
    }
}

/// Whether the processes of the service run, as far as the database tells.
pub(super) async fn processes(config: &Config, service: &Service) -> Vec<Finding> {
    let Ok(figures) = service.figures().await else { return Vec::new() };
    let ago = |at: Timestamp| format_duration(Duration::from_secs(figures.now.since(at).as_secs())).to_string();
    let web = match figures.heartbeat {
        None => Finding::warning(
            "web",
            "no web process has ever noted that it can serve claims",
            "Run `taskcluster-pulse serve` or `web`.",
        ),
        Some(at) if figures.now.since(at) > HEARTBEAT => {
            let message = format!("no web process can serve claims since {}", ago(at));
            Finding::error(
                "web",
                message,
                "Is one running? Does it answer at its own port, and does the auth service answer it?",
            )
        }
        Some(at) => Finding::ok("web", format!("a web process could serve claims {} ago", ago(at))),
    };
    let late: Vec<_> = Task::ALL
        .into_iter()
        .filter(|task| {
            let allowed = task.interval(config) * RUNS + HEARTBEAT;
            let run = figures.runs.iter().find(|run| run.task == task.name());
            run.and_then(|run| run.good_at).is_none_or(|at| figures.now.since(at) > allowed)
        })
        .map(Task::name)
        .collect();
    let worker = match late.is_empty() {
        true => Finding::ok("worker", "each scheduled task came to its end lately"),
        false => {
            let message = format!("these scheduled tasks did not come to their end lately: {}", late.join(", "));
            Finding::warning("worker", message, "Is a worker running? Its log has an error for each run that fails.")
        }
    };
    vec![web, worker]
}
