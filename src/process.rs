//! What each command runs: the composition root. Parts are made from the configuration and put together here; signals,
//! loops and draining are here too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use url::Url;

use crate::auth::Authenticator;
use crate::auth::clients::{AccessToken, Client, LocalDirectory};
use crate::auth::remote::{self, AuthService};
use crate::auth::roles::{Role, Roles};
use crate::broker::Broker;
use crate::broker::management::{Account, ManagementApi, ManagementConfig};
use crate::clock::{Clock, SystemClock};
use crate::config::{AuthMode, Config, NotifyMethod};
use crate::domain::expiry::ExpiryPolicy;
use crate::domain::name::Names;
use crate::domain::plan::Brakes;
use crate::domain::sweep::SweepPolicy;
use crate::http::connection::Patience;
use crate::http::server::{self, Connections};
use crate::http::{self, App};
use crate::notify::Notifier;
use crate::notify::log::Log;
use crate::notify::smtp::Smtp;
use crate::notify::taskcluster::NotifyService;
use crate::secret::{Password, Secret};
use crate::service::{ConnectionTemplate, Outcome, Policy, Service, ServiceError, Step};
use crate::store::{self, DatabaseUrl, KeyRing, Rekeyed, Store};
use crate::taskcluster::{Credentials, Limits, Taskcluster};

/// The longest that putting one password in force may take.
const SETTLE_BUDGET: Duration = Duration::from_secs(30);

/// How long an SMTP server may take to connect, and to answer each command.
const SMTP_TIMEOUT: Duration = Duration::from_secs(20);

/// After a failure a loop waits twice as long as before, up to so many times its interval.
const WIDEST: u32 = 16;

/// One of the scheduled tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Rotate what is due.
    Rotate,
    /// Repair and guard the broker, then deliver.
    Monitor,
    /// End namespaces that have expired, then deliver.
    Expire,
    /// Deliver what has to be told.
    Deliver,
}

impl Task {
    /// All of them.
    pub const ALL: [Task; 4] = [Task::Rotate, Task::Monitor, Task::Expire, Task::Deliver];

    fn interval(self, config: &Config) -> Duration {
        match self {
            Task::Rotate => config.worker.rotate_interval,
            Task::Monitor => config.worker.monitor_interval,
            Task::Expire => config.worker.expire_interval,
            Task::Deliver => config.worker.deliver_interval,
        }
    }
}

/// The database URL of the configuration, read.
fn database_url(config: &Config) -> Result<DatabaseUrl> {
    Ok(config.store.database_url.expose().parse()?)
}

fn key_ring(config: &Config) -> Result<Option<KeyRing>> {
    Ok(match config.store.crypto_keys.expose() {
        "" => None,
        keys => Some(KeyRing::parse(keys)?),
    })
}

fn store_limits(config: &Config) -> store::Limits {
    store::Limits { timeout: config.store.query_timeout, connections: config.store.pool_size }
}

async fn open_store(config: &Config) -> Result<Arc<dyn Store>> {
    Ok(store::open(&database_url(config)?, key_ring(config)?, store_limits(config)).await?)
}

fn broker(config: &Config) -> Result<Arc<dyn Broker>> {
    let rabbit = &config.rabbit;
    let account = |username: &String, password: &Secret| Account {
        username: username.clone(),
        password: Password::from_stored(password.expose().to_owned()),
    };
    let fallback = account(&rabbit.fallback_username, &rabbit.fallback_password);
    Ok(Arc::new(ManagementApi::new(ManagementConfig {
        base_url: Url::parse(&rabbit.base_url).context("rabbit.baseUrl")?,
        account: account(&rabbit.username, &rabbit.password),
        fallback: (!fallback.username.is_empty()).then_some(fallback),
        vhost: config.app.amqp_vhost.clone(),
        timeout: rabbit.request_timeout,
        listing_timeout: rabbit.list_timeout,
    })?))
}

fn names(config: &Config) -> Names {
    Names::new(&config.app.namespace_prefix, &config.app.username_prefix)
}

fn policy(config: &Config) -> Policy {
    let app = &config.app;
    Policy {
        names: names(config),
        connection: ConnectionTemplate {
            protocol: app.amqp_protocol.clone(),
            hostname: app.amqp_hostname.clone(),
            port: app.amqp_port,
            vhost: app.amqp_vhost.clone(),
            suffix: app.connection_string_suffix.clone(),
        },
        rotation_interval: app.namespace_rotation_interval,
        expiration_delay: app.namespaces_expiration_delay,
        settle_budget: settle_budget(config),
    }
}

/// A quarter of the rotation interval, so that no process acts on what it read before a switch that it missed.
fn settle_budget(config: &Config) -> Duration {
    SETTLE_BUDGET.min(config.app.namespace_rotation_interval / 4)
}

fn brakes(config: &Config) -> Brakes {
    Brakes { most: config.monitor.max_removals, percent: config.monitor.max_removal_share.into() }
}

fn sweep_policy(config: &Config) -> SweepPolicy {
    let monitor = &config.monitor;
    SweepPolicy {
        names: names(config),
        alert_threshold: monitor.alert_threshold,
        delete_threshold: monitor.delete_threshold,
        connection_max_lifetime: monitor.connection_max_lifetime,
        reminder: monitor.reminder_interval,
        // A rotator's clock may be ahead by a quarter of the interval. The standby user's password may be in use in the
        // first half of the interval only, so that it is repaired in time all the same.
        margin: settle_budget(config) + config.app.namespace_rotation_interval / 4,
        brakes: brakes(config),
    }
}

fn expiry_policy(config: &Config) -> ExpiryPolicy {
    let monitor = &config.monitor;
    ExpiryPolicy {
        names: names(config),
        delay: config.app.namespaces_expiration_delay,
        warning: monitor.expiry_warning,
        orphans_after: monitor.delete_orphans.then_some(monitor.orphan_grace),
        margin: settle_budget(config),
        brakes: brakes(config),
    }
}

/// A client for the Taskcluster deployment of the configuration, called at its root URL.
///
/// # Errors
/// What is wrong with the root URL or the credentials.
pub fn taskcluster(config: &Config, clock: Arc<dyn Clock>) -> Result<Taskcluster> {
    signing_taskcluster(config, root_url(config)?, clock)
}

fn root_url(config: &Config) -> Result<Url> {
    Url::parse(&config.taskcluster.root_url).context("taskcluster.rootUrl")
}

/// Where we call one of the deployment's services: what stands before `/api/<service>`.
fn root_of(service: &str, config: &Config) -> Result<Url> {
    match config.taskcluster.kubernetes_dns {
        true => Ok(Url::parse(&format!("http://taskcluster-{service}"))?),
        false => root_url(config),
    }
}

fn signing_taskcluster(config: &Config, root: Url, clock: Arc<dyn Clock>) -> Result<Taskcluster> {
    let taskcluster = &config.taskcluster;
    let certificate = taskcluster.certificate.expose();
    let credentials = Credentials {
        client_id: taskcluster.client_id.clone(),
        access_token: taskcluster.access_token.expose().to_owned(),
        certificate: (!certificate.is_empty()).then(|| certificate.to_owned()),
    };
    Ok(Taskcluster::new(root, Some(credentials), clock, Limits::default())?)
}

fn notifier(config: &Config, clock: Arc<dyn Clock>) -> Result<Arc<dyn Notifier>> {
    let notify = &config.notify;
    Ok(match notify.method {
        NotifyMethod::Log => Arc::new(Log),
        NotifyMethod::Smtp => Arc::new(Smtp::new(notify.smtp_url.expose(), &notify.from, SMTP_TIMEOUT)?),
        NotifyMethod::Taskcluster => {
            let taskcluster = signing_taskcluster(config, root_of("notify", config)?, clock)?;
            Arc::new(NotifyService::new(Arc::new(taskcluster)))
        }
    })
}

fn authenticator(config: &Config, clock: Arc<dyn Clock>) -> Result<Authenticator> {
    let client = |client: &crate::config::Client| Client {
        id: client.client_id.clone(),
        access_token: AccessToken::new(client.access_token.expose().to_owned()),
        scopes: client.scopes.clone(),
        expires: client.expires,
    };
    let role = |(id, scopes): (&String, &Vec<String>)| Role { id: id.clone(), scopes: scopes.clone() };
    let roles = Roles::new(config.auth.roles.iter().map(role).collect())?;
    let local = Authenticator::new(LocalDirectory::new(config.auth.clients.iter().map(client).collect(), roles));
    if config.auth.mode == AuthMode::Local {
        return Ok(local);
    }
    let limits = remote::limits(config.auth.remote_timeout);
    let taskcluster = Taskcluster::new(root_of("auth", config)?, None, clock, limits)?;
    Ok(local.asking(AuthService::new(taskcluster)))
}

/// Seals what the database holds under the newest of the keys.
///
/// # Errors
/// Those of the database. Running it again goes on from there.
pub async fn rekey(config: &Config) -> Result<Rekeyed> {
    Ok(store::rekey(&database_url(config)?, key_ring(config)?, store_limits(config)).await?)
}

/// Everything that runs on one configuration.
pub struct Process {
    config: Arc<Config>,
    service: Arc<Service>,
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
        let (store, broker) = (open_store(&config).await?, broker(&config)?);
        let service = Service::new(store, broker, clock.clone(), policy(&config));
        Ok(Process { config: Arc::new(config), service: Arc::new(service), clock, stop })
    }

    /// Runs one task once.
    ///
    /// # Errors
    /// What kept it from running at all, or to its end.
    pub async fn run_once(&self, task: Task, dry_run: bool) -> Result<Outcome> {
        let runner = self.runner()?;
        let run = runner.run(task, dry_run || runner.mock);
        match finish(run, self.stop.clone(), runner.drain).await {
            Some(outcome) => Ok(outcome?),
            None => bail!("the process was told to stop before the run was finished; the next run goes on from there"),
        }
    }

    /// Runs one task again and again, until the process is told to stop.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub async fn run_every(&self, task: Task, every: Duration, report: impl Fn(&Outcome)) -> Result<()> {
        self.runner()?.repeat(task, every, report, self.stop.clone()).await;
        Ok(())
    }

    /// Runs the web part, the scheduled tasks, or both, until the process is told to stop.
    ///
    /// # Errors
    /// What is wrong with the configuration, and a port that can't be listened at.
    pub async fn serve(&self, web: bool, worker: bool) -> Result<()> {
        let mut parts = JoinSet::new();
        if web {
            parts.spawn(self.web(self.stop.clone()).await?);
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

    /// Listens, and gives back what serves until `stop`.
    async fn web(&self, stop: Stop) -> Result<impl Future<Output = ()> + use<>> {
        let server = &self.config.server;
        let root_url = match self.config.taskcluster.root_url.as_str() {
            "" => None,
            url => Some(Url::parse(url).context("taskcluster.rootUrl")?),
        };
        let settings = http::Settings {
            root_url,
            body_limit: server.body_limit,
            body_timeout: server.body_timeout,
            request_timeout: server.request_timeout,
            force_ssl: server.force_ssl,
            trust_proxy: server.trust_proxy,
        };
        let authenticator = authenticator(&self.config, self.clock.clone())?;
        let app =
            App::new(self.service.clone(), authenticator, self.clock.clone(), settings).map_err(anyhow::Error::msg)?;
        let address = SocketAddr::new(server.address, server.port);
        let listener = TcpListener::bind(address).await.with_context(|| format!("can't listen at {address}"))?;
        // Where the port was left to the system, this line is how people and scripts learn it.
        tracing::info!("listening at http://{}", listener.local_addr()?);
        let patience =
            Patience { idle: server.keep_alive_timeout, head: server.header_timeout, reply: server.body_timeout };
        let connections = Connections { patience, drain: server.drain_timeout };
        let router = http::router(Arc::new(app));
        Ok(async move { server::serve(listener, router, connections, stopped(stop)).await })
    }

    fn runner(&self) -> Result<Runner> {
        Ok(Runner {
            sweep: sweep_policy(&self.config),
            expiry: expiry_policy(&self.config),
            notifier: notifier(&self.config, self.clock.clone())?,
            mock: self.config.app.mock_maintenance,
            drain: self.config.server.drain_timeout,
            service: self.service.clone(),
        })
    }
}

/// What the scheduled tasks need.
struct Runner {
    service: Arc<Service>,
    notifier: Arc<dyn Notifier>,
    sweep: SweepPolicy,
    expiry: ExpiryPolicy,
    mock: bool,
    /// How long a run may go on when the process is to end.
    drain: Duration,
}

impl Runner {
    /// Runs a task once; what it has to tell is delivered afterwards, so that no mail delays it.
    async fn run(&self, task: Task, dry_run: bool) -> Result<Outcome, ServiceError> {
        let outcome = match task {
            Task::Rotate => self.service.rotate(dry_run).await,
            Task::Monitor => self.service.sweep(&self.sweep, dry_run).await,
            Task::Expire => self.service.expire(&self.expiry, dry_run).await,
            Task::Deliver => return self.service.deliver(&*self.notifier, dry_run).await,
        };
        if !dry_run
            && matches!(task, Task::Monitor | Task::Expire)
            && let Err(error) = self.service.deliver(&*self.notifier, false).await
        {
            tracing::error!("what has to be told could not be delivered: {error}");
        }
        outcome
    }

    /// Runs a task every so often until `stop`. A run that fails is logged and makes the pause longer; a panic is a failure
    /// like any other.
    async fn repeat(&self, task: Task, every: Duration, report: impl Fn(&Outcome), stop: Stop) {
        let mut failures = 0;
        loop {
            let run = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(self.run(task, self.mock)));
            let Some(ran) = finish(run, stop.clone(), self.drain).await else {
                tracing::warn!(?task, "the run did not finish within {:?}, and is cut off", self.drain);
                return;
            };
            let good = match ran {
                Ok(Ok(outcome)) => {
                    tracing::info!(r#type = "monitor.periodic", name = outcome.task, "{outcome}");
                    report(&outcome);
                    // One bad thing among others is no reason to look after the others less often.
                    outcome.failed == 0 || outcome.failed < outcome.seen
                }
                Ok(Err(error)) => {
                    tracing::error!(r#type = "monitor.periodic", ?task, "the run failed: {error}");
                    false
                }
                Err(_) => {
                    tracing::error!(r#type = "monitor.periodic", ?task, "the run panicked");
                    false
                }
            };
            failures = if good { 0 } else { failures + 1 };
            let pause = every * WIDEST.min(1 << failures.min(31));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopped(stop.clone()) => return,
            }
        }
    }
}

/// Turns true once the process is to end.
type Stop = watch::Receiver<bool>;

async fn stopped(mut stop: Stop) {
    // The sender lives as long as the process does; its end would be a reason to stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Lets `work` go on to its end; once the process is to end, for no longer than `drain`. What is cut off is left as a crash
/// would leave it.
async fn finish<T>(work: impl Future<Output = T>, stop: Stop, drain: Duration) -> Option<T> {
    let late = async {
        stopped(stop).await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        done = work => Some(done),
        () = late => None,
    }
}

/// Watches for SIGTERM and SIGINT. The second one ends the process at once, with the exit code of a failure.
fn stop_signal() -> Result<Stop> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (sender, stop) = watch::channel(false);
    tokio::spawn(async move {
        for stopping in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stopping {
                tracing::warn!("stopped by a second signal: what was under way is cut off");
                std::process::exit(1);
            }
            tracing::info!("stopping: what is under way is finished first");
            let _ = sender.send(true);
        }
    });
    Ok(stop)
}

/// Logs what a run would have done, where it was not to do it.
fn log_plan(outcome: &Outcome) {
    for Step { action, object, reason } in outcome.plan.iter().flatten() {
        tracing::info!(r#type = "monitor.plan", task = outcome.task, "would {action} {object}: {reason}");
    }
}

/// Brings the schema of the configured database up to date, and gives the names of the migrations that this took.
///
/// # Errors
/// Those of the database, and a schema that this program doesn't know.
pub async fn migrate(config: &Config) -> Result<Vec<String>> {
    Ok(store::migrate(&database_url(config)?).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Needs;

    #[test]
    fn services_are_called_at_the_root_url_or_by_their_names_in_the_cluster() {
        let root_of_auth = |variables: &[(&str, &str)]| {
            let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
            let config = Config::load(None, find, Needs::default()).unwrap();
            root_of("auth", &config).map(|root| root.to_string()).ok()
        };
        let (root, in_cluster) =
            (("TASKCLUSTER_ROOT_URL", "https://x/tc"), ("USE_KUBERNETES_DNS_SERVICE_DISCOVERY", "1"));
        assert_eq!(root_of_auth(&[root]).as_deref(), Some("https://x/tc"));
        assert_eq!(root_of_auth(&[root, in_cluster]).as_deref(), Some("http://taskcluster-auth/"));
        assert_eq!(root_of_auth(&[in_cluster]).as_deref(), Some("http://taskcluster-auth/"));
        assert_eq!(root_of_auth(&[]), None);
    }
}
