//! What each command runs: the composition root.
//!
//! * `parts`: the parts, made from the configuration.
//! * `web`: the API at its port.
//! * `heartbeat`: tells, in the store, that clients can reach the API.
//! * `tasks`: the scheduled tasks.
//! * `waiting`: neighbours that are not there yet.
//! * `stop`: signals and draining.

mod heartbeat;
mod parts;
mod stop;
mod tasks;
mod waiting;
mod web;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use humantime::format_duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::http;
use crate::service::{Outcome, Service};
use crate::store::{self, Rekeyed, Store};
use stop::{Stop, finish, stop_signal};
use tasks::{Runner, log_plan};

pub use parts::taskcluster;
pub use tasks::Task;

/// Seals what the database holds under the newest of the keys.
///
/// # Errors
/// Those of the database. Running it again goes on from there.
pub async fn rekey(config: &Config) -> Result<Rekeyed> {
    let (url, keys) = (parts::database_url(config)?, parts::key_ring(config)?);
    Ok(store::rekey(&url, keys, parts::store_limits(config)).await?)
}

/// Everything that runs on one configuration.
pub struct Process {
    config: Arc<Config>,
    service: Arc<Service>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    stop: Stop,
}

impl Process {
    /// Puts the service together. The database and the broker need not be reachable yet. From here on, SIGTERM and SIGINT
    /// end the process as soon as what is under way is finished, and a second one ends it at once.
    ///
    /// # Errors
    /// What can't be used of the configuration, and a database with a schema that this program doesn't know.
    pub async fn new(config: Config) -> Result<Process> {
        let stop = stop_signal()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (store, broker) = (parts::open_store(&config).await?, parts::broker(&config)?);
        let service = Service::new(store.clone(), broker, clock.clone(), parts::policy(&config));
        Ok(Process { config: Arc::new(config), service: Arc::new(service), store, clock, stop })
    }

    /// Runs one task once.
    ///
    /// # Errors
    /// What kept it from running at all, or to its end.
    pub async fn run_once(&self, task: Task, dry_run: bool) -> Result<Outcome> {
        let runner = self.runner()?;
        let run = runner.run_once(task, dry_run || runner.mock);
        match finish(run, self.stop.clone(), runner.drain).await {
            Some(outcome) => Ok(outcome?),
            None => bail!("the process was told to stop before the run was finished; the next run goes on from there"),
        }
    }

    /// Gives new passwords to the namespaces whose stored ones can't be opened; see [`Service::replace_lost`].
    ///
    /// # Errors
    /// What kept it from that.
    pub async fn replace_lost(&self, at_once: bool, dry_run: bool) -> Result<Outcome> {
        Ok(self.service.replace_lost(at_once, dry_run).await?)
    }

    /// Runs one task again and again, until the process is told to stop. What it has to tell is delivered beside it.
    ///
    /// # Errors
    /// What is wrong with the configuration, or with `every`.
    pub async fn run_every(&self, task: Task, every: Duration, report: impl Fn(&Outcome)) -> Result<()> {
        let interval = self.config.app.namespace_rotation_interval;
        if task == Task::Rotate && every > interval {
            let (every, interval) = (format_duration(every), format_duration(interval));
            bail!(
                "--every is {every}, and the rotation interval {interval}: the rotation must run at least once in that"
            );
        }
        let mut neighbours = JoinSet::new();
        neighbours.spawn(self.waiting());
        let runner = self.runner()?;
        let deliver = async {
            if task.tells() {
                let every = Task::Deliver.interval(&self.config);
                runner.repeat(Task::Deliver, every, log_plan, self.stop.clone()).await;
            }
        };
        tokio::join!(runner.repeat(task, every, report, self.stop.clone()), deliver);
        Ok(())
    }

    /// Says which neighbours the tasks wait for.
    fn waiting(&self) -> impl Future<Output = ()> + Send + use<> {
        let service = self.service.clone();
        async move { waiting::wait(|| service.health(http::PATIENCE)).await }
    }

    /// Runs the web part, the scheduled tasks, or both, until the process is told to stop.
    ///
    /// # Errors
    /// What is wrong with the configuration, and a port that can't be listened at.
    pub async fn serve(&self, web: bool, worker: bool) -> Result<()> {
        let mut parts = JoinSet::new();
        // Given up when the parts are at their end.
        let mut neighbours = JoinSet::new();
        if web {
            let app = Arc::new(self.app()?);
            parts.spawn(self.web(app.clone(), self.stop.clone()).await?);
            neighbours.spawn(async move { waiting::wait(|| app.health()).await });
        } else {
            neighbours.spawn(self.waiting());
        }
        if worker {
            let runner = Arc::new(self.runner()?);
            for task in Task::ALL {
                let (runner, stop) = (runner.clone(), self.stop.clone());
                let every = task.interval(&self.config);
                parts.spawn(async move { runner.repeat(task, every, log_plan, stop).await });
            }
        }
        while let Some(ended) = parts.join_next().await {
            ended.context("a part of the process panicked")?;
        }
        Ok(())
    }

    fn runner(&self) -> Result<Runner> {
        Ok(Runner {
            sweep: parts::sweep_policy(&self.config),
            expiry: parts::expiry_policy(&self.config),
            notifier: parts::notifier(&self.config, self.clock.clone())?,
            mock: self.config.app.mock_maintenance,
            drain: self.config.server.drain_timeout,
            service: self.service.clone(),
            news: Notify::new(),
        })
    }
}

/// Brings the schema of the configured database up to date, and gives the names of the migrations that this took.
///
/// # Errors
/// Those of the database, and a schema that this program doesn't know.
pub async fn migrate(config: &Config) -> Result<Vec<String>> {
    Ok(store::migrate(&parts::database_url(config)?).await?)
}
