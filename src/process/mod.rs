//! What each command runs: the composition root.
//!
//! * `parts`: the parts, made from the configuration.
//! * `web`: the API at its port.
//! * `heartbeat`: tells, in the store, that clients can reach the API.
//! * `tasks`: the scheduled tasks.
//! * `iterations`: what is counted of their runs; `metrics`: all metrics, at a port of their own.
//! * `waiting`: neighbours that are not there yet.
//! * [`doctor`]: looks at an installation from inside; `certificates`: when those of others end.
//! * `stop`: signals and draining.
//! * `systemd`: what it is told.

mod certificates;
pub mod doctor;
mod heartbeat;
mod iterations;
mod metrics;
mod parts;
mod stop;
mod systemd;
mod tasks;
mod waiting;
mod web;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use humantime::format_duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::Config;
use crate::domain::audit::{Actor, By};
use crate::domain::ladder::Measure;
use crate::domain::namespace::Namespace;
use crate::secret::Secret;
use crate::service::{Outcome, Service};
use crate::store::{self, PulseGuardian, Rekeyed, Store};
use crate::telemetry::metrics::Calls;
use crate::web::monitor::NEIGHBOUR_TIMEOUT;
use iterations::{Iterations, iterations};
use stop::{Stop, finish, stop_signal, stopped};
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
    started: Timestamp,
    /// What is counted of calls to the broker, and of runs of tasks.
    calls: Calls,
    iterations: Iterations,
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
        let (started, calls, iterations) = (clock.now(), broker.calls().clone(), iterations(Task::ALL.map(Task::name)));
        let service = Service::new(store.clone(), Arc::new(broker), clock.clone(), parts::policy(&config));
        let (config, service) = (Arc::new(config), Arc::new(service));
        Ok(Process { config, service, store, clock, stop, started, calls, iterations })
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

    /// Gives our tag to the users of former deployments; see [`Service::take_over_users`].
    ///
    /// # Errors
    /// What kept it from that.
    pub async fn take_over_users(&self, from: &[String], dry_run: bool) -> Result<Outcome> {
        Ok(self.service.take_over_users(from, dry_run).await?)
    }

    /// Looks at queues once, and shows what the guard would do; see [`Service::observe`].
    ///
    /// # Errors
    /// What kept it from that.
    pub async fn observe(&self) -> Result<Outcome> {
        let mut policy = parts::sweep_policy(&self.config);
        policy.guard.ladder.measure = Measure::Observe;
        Ok(self.service.observe(&policy, false).await?)
    }

    /// Does so again and again, until the process is told to stop. A look that fails is told of, and the next one comes.
    ///
    /// # Errors
    /// None as of now.
    pub async fn observe_every(&self, every: Duration, report: impl Fn(&Outcome)) -> Result<()> {
        loop {
            match self.observe().await {
                Ok(outcome) => report(&outcome),
                Err(error) => tracing::error!("the look failed: {error:#}"),
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = stopped(self.stop.clone()) => return Ok(()),
            }
        }
    }

    /// Lets the users of a namespace connect again that were kept out; how many queues that was about. See
    /// [`Service::let_in`].
    ///
    /// # Errors
    /// An unknown namespace, and what kept it from that.
    pub async fn let_in(&self, namespace: &str, by: &By) -> Result<usize> {
        let name = self.service.name(namespace).await?;
        let found = self.store.namespace(&name).await?;
        let Some(found) = found else { bail!("there is no namespace {namespace}") };
        Ok(self.service.let_in(&found, by).await?)
    }

    /// What the PulseGuardian database holds that a URL names, or `env:<variable>` for a URL that stands there.
    ///
    /// # Errors
    /// What is wrong with the URL, and those of the database.
    pub async fn pulseguardian(&self, url: &str) -> Result<PulseGuardian> {
        let url = match url.strip_prefix("env:") {
            Some(variable) => {
                std::env::var(variable).map(Secret::new).with_context(|| format!("the variable {variable}"))?
            }
            None => Secret::new(url),
        };
        Ok(store::read_pulseguardian(&url.expose().parse()?, parts::store_limits(&self.config)).await?)
    }

    /// The use cases, for commands at a shell.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Sends no reminders of a queue, or of all queues of a namespace, until then; see [`Service::mute`].
    ///
    /// # Errors
    /// A name that is of neither, an end that is past, and what kept it from that.
    pub async fn mute(&self, target: &str, until: Option<Timestamp>) -> Result<()> {
        let owner = self.owner_of(target).await?;
        if until.is_some_and(|until| until <= self.clock.now()) {
            bail!("the end of the mute is past; give one that is to come");
        }
        Ok(self.service.mute(target, &owner, until).await?)
    }

    /// Sends reminders again. Whether `target` was muted.
    ///
    /// # Errors
    /// A name that is of neither, and what kept it from that.
    pub async fn unmute(&self, target: &str) -> Result<bool> {
        self.owner_of(target).await?;
        Ok(self.service.unmute(target).await?)
    }

    /// The namespace of this name, or of the queue of this name.
    async fn owner_of(&self, target: &str) -> Result<Namespace> {
        let queue = target.strip_prefix("queue/").and_then(|rest| rest.split_once('/'));
        let name =
            self.service.name(queue.map_or(target, |(owner, _)| owner)).await.with_context(|| {
                format!("{target} is neither a queue, such as queue/<namespace>/jobs, nor a namespace")
            })?;
        let found = self.store.namespace(&name).await?.filter(|found| found.gone.is_none());
        found.with_context(|| format!("there is no namespace {name}"))
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
        let mut beside = JoinSet::new();
        beside.spawn(self.waiting());
        let tasks: Vec<_> = [task].into_iter().chain(task.tells().then_some(Task::Deliver)).collect();
        if let Some(metrics) = self.metrics(None, &tasks, self.stop.clone())? {
            beside.spawn(metrics);
        }
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
        async move { waiting::wait(|| service.health(NEIGHBOUR_TIMEOUT)).await }
    }

    /// Runs the web part, the scheduled tasks, or both, until the process is told to stop.
    ///
    /// # Errors
    /// What is wrong with the configuration, and a port that can't be listened at.
    pub async fn serve(&self, web: bool, worker: bool) -> Result<()> {
        let mut parts = JoinSet::new();
        // Given up when the parts are at their end.
        let mut neighbours = JoinSet::new();
        let tasks: &[Task] = if worker { &Task::ALL } else { &[] };
        let app = if web { Some(Arc::new(self.app()?)) } else { None };
        let mut itself = None;
        if let Some(metrics) = self.metrics(app.as_deref(), tasks, self.stop.clone())? {
            parts.spawn(metrics);
        }
        if let Some(app) = app {
            let (asks, serving) = self.web(app.clone(), self.stop.clone()).await?;
            parts.spawn(serving);
            itself = Some(asks);
            neighbours.spawn(async move { waiting::wait(|| app.context.monitor.health()).await });
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
        systemd::ready();
        // It is waited for, too, so that systemd is told of the end however soon that comes.
        parts.spawn(systemd::watch(itself, self.stop.clone()));
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
            iterations: self.iterations.clone(),
            news: Notify::new(),
        })
    }
}

/// Whoever runs a command, as the audit trail has it: by the name that the environment gives, which proves nothing.
pub fn at_a_shell() -> By {
    let name = ["USER", "LOGNAME"].into_iter().find_map(|variable| std::env::var(variable).ok());
    By { actor: Actor::Command(name.unwrap_or_else(|| "unknown".to_owned())), request: None }
}

/// Brings the schema of the configured database up to date, and gives the names of the migrations that this took.
///
/// # Errors
/// Those of the database, and a schema that this program doesn't know.
pub async fn migrate(config: &Config) -> Result<Vec<String>> {
    Ok(store::migrate(&parts::database_url(config)?).await?)
}

/// Takes the schema of the configured database back to version `to`, and gives the names of the migrations that were taken out;
/// see [`store::migrate_back`].
///
/// # Errors
/// Those of the database, and what keeps it from going back.
pub async fn migrate_back(config: &Config, to: u32, forced: bool) -> Result<Vec<String>> {
    Ok(store::migrate_back(&parts::database_url(config)?, to, forced).await?)
}
