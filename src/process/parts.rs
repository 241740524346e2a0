//! The parts, made from the configuration: store, broker, notifier, authenticator, and the policies.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use url::Url;

use crate::auth::Authenticator;
use crate::auth::clients::{AccessToken, Client, LocalDirectory};
use crate::auth::remote::{self, AuthService};
use crate::auth::roles::{Role, Roles};
use crate::broker::Broker;
use crate::broker::management::{Account, ManagementApi, ManagementConfig};
use crate::clock::Clock;
use crate::config::{AuthMode, Config, NotifyMethod};
use crate::domain::expiry::ExpiryPolicy;
use crate::domain::hold::HoldPolicy;
use crate::domain::name::Names;
use crate::domain::plan::Brakes;
use crate::domain::sweep::SweepPolicy;
use crate::notify::Notifier;
use crate::notify::log::Log;
use crate::notify::smtp::Smtp;
use crate::notify::taskcluster::NotifyService;
use crate::secret::{Password, Secret};
use crate::service::{ConnectionTemplate, Policy};
use crate::store::{self, DatabaseUrl, KeyRing, Store};
use crate::taskcluster::{Credentials, Limits, Taskcluster};

/// How long putting one password in force may take, unless the broker's time-out is long, or the rotation interval short.
const SETTLE_BUDGET: Duration = Duration::from_secs(30);

/// How long an SMTP server may take to connect, and to answer each command.
const SMTP_TIMEOUT: Duration = Duration::from_secs(20);

/// How long Taskcluster's notify service may take for one message, all attempts together.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(60);

/// The database URL of the configuration, read.
pub(super) fn database_url(config: &Config) -> Result<DatabaseUrl> {
    Ok(config.store.database_url.expose().parse()?)
}

pub(super) fn key_ring(config: &Config) -> Result<Option<KeyRing>> {
    Ok(match config.store.crypto_keys.expose() {
        "" => None,
        keys => Some(KeyRing::parse(keys)?),
    })
}

pub(super) fn store_limits(config: &Config) -> store::Limits {
    store::Limits { timeout: config.store.query_timeout, connections: config.store.pool_size }
}

pub(super) async fn open_store(config: &Config) -> Result<Arc<dyn Store>> {
    Ok(store::open(&database_url(config)?, key_ring(config)?, store_limits(config)).await?)
}

pub(super) fn broker(config: &Config) -> Result<Arc<dyn Broker>> {
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

pub(super) fn policy(config: &Config) -> Policy {
    let app = &config.app;
    let quarter = app.namespace_rotation_interval / 4;
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
        first_claim_timeout: config.rabbit.first_claim_timeout,
        hold: HoldPolicy {
            // A switch that begins before the silence is noticed must not overwrite what a client would have given up
            // in the meantime, so that short intervals leave less of it.
            silence: app.api_silence.min(quarter),
            longest: app.max_rotation_hold,
            skew: quarter,
        },
        remembered: config.store.remembered_namespaces,
    }
}

/// How many of the broker's time-outs fit into the settle budget: a call that begins in its first half may take two of them.
const TIMEOUTS: u32 = 4;

/// No more than a quarter of the rotation interval, so that no process acts on what it read before a switch that it missed.
fn settle_budget(config: &Config) -> Duration {
    SETTLE_BUDGET.max(config.rabbit.request_timeout * TIMEOUTS).min(config.app.namespace_rotation_interval / 4)
}

fn brakes(config: &Config) -> Brakes {
    Brakes { most: config.monitor.max_removals, percent: config.monitor.max_removal_share.into() }
}

pub(super) fn sweep_policy(config: &Config) -> SweepPolicy {
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

pub(super) fn expiry_policy(config: &Config) -> ExpiryPolicy {
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
    signing_taskcluster(config, root_url(config)?, clock, Limits::default())
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

fn signing_taskcluster(config: &Config, root: Url, clock: Arc<dyn Clock>, limits: Limits) -> Result<Taskcluster> {
    let taskcluster = &config.taskcluster;
    let certificate = taskcluster.certificate.expose();
    let credentials = Credentials {
        client_id: taskcluster.client_id.clone(),
        access_token: taskcluster.access_token.expose().to_owned(),
        certificate: (!certificate.is_empty()).then(|| certificate.to_owned()),
    };
    Ok(Taskcluster::new(root, Some(credentials), clock, limits)?)
}

pub(super) fn notifier(config: &Config, clock: Arc<dyn Clock>) -> Result<Arc<dyn Notifier>> {
    let notify = &config.notify;
    Ok(match notify.method {
        NotifyMethod::Log => Arc::new(Log),
        NotifyMethod::Smtp => Arc::new(Smtp::new(notify.smtp_url.expose(), &notify.from, SMTP_TIMEOUT)?),
        NotifyMethod::Taskcluster => {
            let limits = Limits { total: NOTIFY_TIMEOUT, ..Limits::default() };
            let taskcluster = signing_taskcluster(config, root_of("notify", config)?, clock.clone(), limits)?;
            Arc::new(NotifyService::new(taskcluster, clock))
        }
    })
}

pub(super) fn authenticator(config: &Config, clock: Arc<dyn Clock>) -> Result<Authenticator> {
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
