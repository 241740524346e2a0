//! The parts, made from the configuration: store, broker, notifier, authenticator, and the policies.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use url::Url;

use crate::access::Authenticator;
use crate::access::clients::{AccessToken, Client, LocalDirectory};
use crate::access::oidc::{self, Oidc};
use crate::access::people::People;
use crate::access::remote::{self, AuthService};
use crate::access::roles::{Role, Roles};
use crate::access::third_party::{self, ThirdParty};
use crate::broker::management::{Account, ManagementApi, ManagementConfig};
use crate::broker::token::{TokenKey, Tokens};
use crate::clock::Clock;
use crate::config::{AuthMode, Config, MonitorAction, NotifyMethod, RabbitAuth};
use crate::domain::account::AccountPolicy;
use crate::domain::expiry::ExpiryPolicy;
use crate::domain::guard::GuardPolicy;
use crate::domain::hold::HoldPolicy;
use crate::domain::inventory::UserLimit;
use crate::domain::ladder::{self, Measure, Thresholds};
use crate::domain::limits::LimitsPolicy;
use crate::domain::name::Names;
use crate::domain::plan::Brakes;
use crate::domain::sweep::SweepPolicy;
use crate::notify::Notifier;
use crate::notify::log::Log;
use crate::notify::paced::Paced;
use crate::notify::smtp::Smtp;
use crate::notify::taskcluster::NotifyService;
use crate::secret::{Password, Secret};
use crate::service::{ConnectionTemplate, Policy};
use crate::store::{self, DatabaseUrl, KeyRing, Store};
use crate::taskcluster::{ClientCredentials, RetryPolicy, Taskcluster};
use crate::tls::Trust;

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

pub(super) fn store_limits(config: &Config) -> store::StoreLimits {
    store::StoreLimits { timeout: config.store.query_timeout, connections: config.store.pool_size }
}

pub(super) async fn open_store(config: &Config) -> Result<Arc<dyn Store>> {
    Ok(store::open(&database_url(config)?, key_ring(config)?, store_limits(config)).await?)
}

/// Whom calls to RabbitMQ trust.
pub(super) fn rabbit_trust(config: &Config) -> Result<Trust> {
    let rabbit = &config.rabbit;
    Trust::read(&rabbit.ca_file, &rabbit.cert_file, &rabbit.key_file)
        .context("rabbit.caFile, rabbit.certFile and rabbit.keyFile")
}

/// Who is trusted by a file of authorities alone, which a setting names.
fn trusted(file: &Path, setting: &'static str) -> Result<Trust> {
    Trust::read(file, Path::new(""), Path::new("")).context(setting)
}

/// Whom calls to the deployment trust.
pub(super) fn taskcluster_trust(config: &Config) -> Result<Trust> {
    trusted(&config.taskcluster.ca_file, "taskcluster.caFile")
}

/// Whom calls to the identity provider trust.
pub(super) fn oidc_trust(config: &Config) -> Result<Trust> {
    trusted(&config.console.oidc_ca_file, "console.oidcCaFile")
}

pub(super) fn broker(config: &Config) -> Result<ManagementApi> {
    let rabbit = &config.rabbit;
    let account = |username: &String, password: &Secret| Account {
        username: username.clone(),
        password: Password::from_stored(password.expose().to_owned()),
    };
    let fallback = account(&rabbit.fallback_username, &rabbit.fallback_password);
    Ok(ManagementApi::new(ManagementConfig {
        base_urls: rabbit
            .base_url
            .iter()
            .map(|url| Url::parse(url))
            .collect::<Result<_, _>>()
            .context("rabbit.baseUrl")?,
        trust: rabbit_trust(config)?,
        account: account(&rabbit.username, &rabbit.password),
        fallback: (!fallback.username.is_empty()).then_some(fallback),
        tokens: match rabbit.way_in {
            RabbitAuth::Password => None,
            RabbitAuth::Token => Some(Tokens {
                keys: TokenKey::parse(rabbit.token_keys.expose()).context("rabbit.tokenKeys")?,
                audience: rabbit.token_audience.clone(),
                subject: match rabbit.username.as_str() {
                    "" => env!("CARGO_PKG_NAME").to_owned(),
                    name => name.to_owned(),
                },
            }),
        },
        metrics: match rabbit.metrics_url.as_str() {
            "" => None,
            url => Some(Url::parse(url).context("rabbit.metricsUrl")?),
        },
        vhost: config.app.amqp_vhost.clone(),
        timeout: rabbit.request_timeout,
        listing_timeout: rabbit.list_timeout,
    })?)
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
            suffixes: app.connection_string_suffixes.clone(),
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
        accounts: account_policy(config),
        groups: config.notify.groups.clone(),
        administrators: config.console.administrators.clone(),
        namespaces_per_client: app.namespaces_per_client,
        criteria: guard_policy(config).criteria,
        audit_kept: config.store.audit_kept,
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
    let monitor = &config.monitor;
    Brakes {
        most: monitor.max_removals,
        percent: monitor.max_removal_share.into(),
        owner_percent: monitor.max_owner_share.into(),
    }
}

pub(super) fn sweep_policy(config: &Config) -> SweepPolicy {
    let monitor = &config.monitor;
    SweepPolicy {
        names: names(config),
        guard: guard_policy(config),
        limits: limits_policy(config),
        accounts: account_policy(config),
        groups: config.notify.groups.clone(),
        connection_max_lifetime: monitor.connection_max_lifetime,
        // A rotator's clock may be ahead by a quarter of the interval. The standby user's password may be in use in the
        // first half of the interval only, so that it is repaired in time all the same.
        margin: settle_budget(config) + config.app.namespace_rotation_interval / 4,
        brakes: brakes(config),
    }
}

fn account_policy(config: &Config) -> AccountPolicy {
    let accounts = &config.accounts;
    let names = match accounts.names.is_empty() {
        true => vec![format!("{}*", config.app.namespace_prefix)],
        false => accounts.names.clone(),
    };
    let (lifetime, retire_after) = (accounts.lifetime, accounts.retire_after);
    AccountPolicy { names, reserved: accounts.reserved.clone(), lifetime, retire_after }
}

fn limits_policy(config: &Config) -> LimitsPolicy {
    let limits = &config.limits;
    let millis = |span: Option<Duration>| span.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    let queues = [
        ("max-length", limits.max_length),
        ("max-length-bytes", limits.max_length_bytes),
        ("message-ttl", millis(limits.message_ttl)),
        ("expires", millis(limits.expires)),
    ];
    let users = [(UserLimit::Connections, limits.max_connections), (UserLimit::Channels, limits.max_channels)];
    LimitsPolicy {
        queues: queues.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
        users: users.into_iter().filter_map(|(limit, most)| Some((limit, most?))).collect(),
        exceptions: limits.exceptions.clone(),
    }
}

/// For so long at least a look at a queue is fresh.
const FRESHEST: Duration = Duration::from_secs(30);

pub(super) fn guard_policy(config: &Config) -> GuardPolicy {
    let monitor = &config.monitor;
    let thresholds = Thresholds {
        alert: monitor.alert_threshold,
        delete: monitor.delete_threshold,
        unacked_alert: monitor.unacked_alert_threshold,
        unacked_limit: monitor.unacked_close_threshold,
    };
    let measure = match monitor.action {
        MonitorAction::Observe => Measure::Observe,
        MonitorAction::Warn => Measure::Warn,
        MonitorAction::Purge => Measure::Purge,
        MonitorAction::Delete => Measure::Delete,
    };
    // A list takes its time, and looks that are seconds apart follow each other.
    let interval = config.worker.monitor_interval.max(FRESHEST);
    let (grace, alarm_grace) = (monitor.grace, monitor.alarm_grace);
    GuardPolicy::new(thresholds, ladder::Policy::new(measure, grace, alarm_grace, monitor.reminder_interval, interval))
}

pub(super) fn expiry_policy(config: &Config) -> ExpiryPolicy {
    let monitor = &config.monitor;
    ExpiryPolicy {
        names: names(config),
        groups: config.notify.groups.clone(),
        delay: config.app.namespaces_expiration_delay,
        warning: monitor.expiry_warning,
        orphans_after: monitor.delete_orphans.then_some(monitor.orphan_grace),
        margin: settle_budget(config),
        reclaim: config.app.namespace_rotation_interval * 3 / 2,
        brakes: brakes(config),
    }
}

/// A client for the Taskcluster deployment of the configuration, called at its root URL; or without signing at the proxy
/// that signs for us, as Taskcluster's own clients are used in tasks.
///
/// # Errors
/// What is wrong with the root URL or the credentials.
pub fn taskcluster(config: &Config, clock: Arc<dyn Clock>) -> Result<Taskcluster> {
    match config.taskcluster.signing_proxy() {
        Some(proxy) => {
            let proxy = Url::parse(proxy).context("taskcluster.proxyUrl")?;
            Ok(Taskcluster::new(proxy, None, clock, RetryPolicy::default())?.trusting(&taskcluster_trust(config)?)?)
        }
        None => signing_taskcluster(config, root_url(config)?, clock, RetryPolicy::default()),
    }
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

fn signing_taskcluster(config: &Config, root: Url, clock: Arc<dyn Clock>, limits: RetryPolicy) -> Result<Taskcluster> {
    let taskcluster = &config.taskcluster;
    let certificate = taskcluster.certificate.expose();
    let credentials = ClientCredentials {
        client_id: taskcluster.client_id.clone(),
        access_token: taskcluster.access_token.expose().to_owned(),
        certificate: (!certificate.is_empty()).then(|| certificate.to_owned()),
    };
    Ok(Taskcluster::new(root, Some(credentials), clock, limits)?.trusting(&taskcluster_trust(config)?)?)
}

pub(super) fn notifier(config: &Config, clock: Arc<dyn Clock>) -> Result<Arc<dyn Notifier>> {
    let notify = &config.notify;
    Ok(match notify.method {
        NotifyMethod::Log => Arc::new(Log),
        NotifyMethod::Smtp => {
            let trust = trusted(&notify.smtp_ca_file, "notify.smtpCaFile")?;
            let smtp = Smtp::new(notify.smtp_url.expose(), &notify.from, &notify.ehlo_name, SMTP_TIMEOUT, &trust)?;
            Arc::new(Paced::new(smtp, clock))
        }
        NotifyMethod::Taskcluster => {
            let limits = RetryPolicy { total: NOTIFY_TIMEOUT, ..RetryPolicy::default() };
            let taskcluster = signing_taskcluster(config, root_of("notify", config)?, clock.clone(), limits)?;
            Arc::new(Paced::new(NotifyService::new(taskcluster), clock))
        }
    })
}

/// How people sign in.
pub(super) fn people(config: &Config, clock: Arc<dyn Clock>) -> Result<People> {
    let console = &config.console;
    let development = Some(console.fake_account.clone()).filter(|address| !address.is_empty());
    let oidc = match console.oidc_issuer.as_str() {
        "" => None,
        issuer => Some(Arc::new(
            Oidc::new(oidc::Settings {
                issuer: Url::parse(issuer).context("console.oidcIssuer")?,
                client_id: console.oidc_client_id.clone(),
                client_secret: console.oidc_client_secret.clone(),
                redirect: format!("{}/console/sign-in/callback", console.url),
                scopes: console.oidc_scopes.clone(),
                groups_claim: console.oidc_groups_claim.clone(),
                trust: oidc_trust(config)?,
            })
            .map_err(anyhow::Error::msg)?,
        )),
    };
    let taskcluster = match console.taskcluster_client_id.as_str() {
        "" => None,
        client_id => {
            let settings = third_party::Settings {
                root_url: root_url(config)?,
                client_id: client_id.to_owned(),
                redirect: format!("{}/console/sign-in/taskcluster/callback", console.url),
                scopes: console.taskcluster_scopes.clone(),
                trust: taskcluster_trust(config)?,
            };
            Some(Arc::new(ThirdParty::new(settings, clock).map_err(anyhow::Error::msg)?))
        }
    };
    let plain = development.is_some() || console.url.starts_with("http://");
    Ok(People { administrators: console.administrators.clone(), development, oidc, taskcluster, plain })
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
    let taskcluster = taskcluster.trusting(&taskcluster_trust(config)?)?;
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
