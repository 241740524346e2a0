//! What settings must be to each other, and what each command needs.

use std::net::IpAddr;
use std::time::Duration;

use humantime::format_duration;
use url::Url;

use super::report::Report;
use super::settings::{Config, Taskcluster};
use super::{AuthMode, NotifyMethod, RabbitAuth};
use crate::broker::token::TokenKey;
use crate::secret::Secret;
use crate::store::{DatabaseUrl, KeyRing};

/// What a command can't do without. The default needs nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Needs {
    who: &'static str,
    store: bool,
    broker: bool,
    callers: bool,
    notifier: bool,
    taskcluster: bool,
}

impl Needs {
    const NOTHING: Needs =
        Needs { who: "", store: false, broker: false, callers: false, notifier: false, taskcluster: false };
    /// Everything in one process.
    pub const SERVE: Needs =
        Needs { who: "the service", store: true, broker: true, callers: true, notifier: true, ..Needs::NOTHING };
    /// The web part alone.
    pub const WEB: Needs = Needs { who: "the web server", notifier: false, ..Needs::SERVE };
    /// One or all of the scheduled tasks.
    pub const WORKER: Needs = Needs { who: "the worker", callers: false, ..Needs::SERVE };
    /// Replacing lost passwords.
    pub const REPAIR: Needs = Needs { who: "the repair", notifier: false, ..Needs::WORKER };
    /// Applying migrations.
    pub const MIGRATE: Needs = Needs { who: "the migration", store: true, ..Needs::NOTHING };
    /// Sealing the database's secrets under another key.
    pub const REKEY: Needs = Needs { who: "sealing anew", ..Needs::MIGRATE };
    /// Claiming a namespace, as a client.
    pub const CLAIM: Needs = Needs { who: "the claim", taskcluster: true, ..Needs::NOTHING };
}

impl Taskcluster {
    /// The URL of the proxy that signs what a client calls: where there are credentials, that one signs itself.
    pub fn signing_proxy(&self) -> Option<&str> {
        let Taskcluster { proxy_url, client_id, access_token, .. } = self;
        (!proxy_url.is_empty() && client_id.is_empty() && access_token.is_empty()).then_some(proxy_url)
    }
}

/// The shortest rotation interval: shorter ones leave clients no time.
const SHORTEST: Duration = Duration::from_secs(2);
/// The longest rotation interval. `reclaimAt` is up to one and a half intervals ahead, and the timers of Taskcluster's
/// JavaScript clients fire at once for what is more than 24 days ahead.
const LONGEST: Duration = Duration::from_secs(14 * 24 * 3600);
/// How many times the broker's time-out must fit into a rotation interval, so that a switch which hangs is over long
/// before the next.
const TIMEOUTS_PER_ROTATION: u32 = 10;

/// The longest time-out of the broker: what one process began must be over before another may do the opposite, and a
/// clean-up leaves a minute for that.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Fills in the settings whose defaults depend on others.
pub(super) fn complete(mut config: Config) -> Config {
    if config.app.amqp_hostname.is_empty() {
        let broker = config.rabbit.base_url.first().and_then(|url| Url::parse(url).ok());
        config.app.amqp_hostname = broker.and_then(|url| Some(url.host_str()?.to_owned())).unwrap_or_default();
    }
    if config.store.database_url.is_empty() {
        let file = config.app.data_dir.join("pulse.sqlite");
        config.store.database_url = Secret::new(format!("sqlite:{}", file.display()));
    }
    config
}

/// Reports every rule that `config` breaks, and whatever of `needs` it does not hold.
pub(super) fn check(config: &Config, needs: Needs, report: &mut Report) {
    check_needs(config, needs, report);
    check_store(config, report);
    check_waiting(config, report);
    check_rotation(config, report);
    let monitor = &config.monitor;
    report.rule(
        &["monitor.alertThreshold", "monitor.deleteThreshold"],
        monitor.alert_threshold < monitor.delete_threshold,
        || {
            format!(
                "the first is {}, the second {}; give an alert threshold below the delete threshold",
                monitor.alert_threshold, monitor.delete_threshold
            )
        },
    );
    report.rule(
        &["monitor.unackedAlertThreshold", "monitor.unackedCloseThreshold"],
        monitor.unacked_alert_threshold < monitor.unacked_close_threshold,
        || {
            format!(
                "the first is {}, the second {}; give an alert threshold below the one at which connections are closed",
                monitor.unacked_alert_threshold, monitor.unacked_close_threshold
            )
        },
    );
    check_auth(config, report);
    check_console(config, report);
    report.rule(
        &["rabbit.fallbackUsername", "rabbit.fallbackPassword"],
        config.rabbit.fallback_username.is_empty() == config.rabbit.fallback_password.is_empty(),
        || "one is set, the other not; give both, or neither".to_owned(),
    );
    report.rule(
        &["rabbit.certFile", "rabbit.keyFile"],
        config.rabbit.cert_file.as_os_str().is_empty() == config.rabbit.key_file.as_os_str().is_empty(),
        || "one is set, the other not; give both, or neither".to_owned(),
    );
    report.rule(
        &["server.forceSSL", "server.trustProxy"],
        !config.server.force_ssl || config.server.trust_proxy,
        || {
            "the first is true, the second false; only a proxy that is trusted can tell that a request came over HTTPS, so \
             give true for both, or false for the first"
                .to_owned()
        },
    );
    report.rule(
        &["server.bodyLimit", "server.bodyMemory"],
        config.server.body_limit <= config.server.body_memory / 2,
        || {
            "the first is more than half of the second, so that a compressed body never has room; give more for the second"
                .to_owned()
        },
    );
    report.rule(
        &["taskcluster.credentials.certificate", "taskcluster.credentials.clientId"],
        config.taskcluster.certificate.is_empty() || !config.taskcluster.client_id.is_empty(),
        || "the first is set, the second not; give all parts of temporary credentials, or none".to_owned(),
    );
}

fn check_auth(config: &Config, report: &mut Report) {
    let auth = &config.auth;
    report.rule(&["auth.mode", "auth.clients"], auth.mode != AuthMode::Remote || auth.clients.is_empty(), || {
        "the first is `remote`, so that the second is ignored; give `both` for the first, or no clients".to_owned()
    });
    let (remote, request) = (auth.remote_timeout, config.server.request_timeout);
    report.rule(
        &["auth.remoteTimeout", "server.requestTimeout"],
        auth.mode == AuthMode::Local || remote < request,
        || {
            format!(
                "the first is {}, the second {}; the auth service must be given up before the request is",
                format_duration(remote),
                format_duration(request)
            )
        },
    );
}

fn check_console(config: &Config, report: &mut Report) {
    let (console, address) = (&config.console, config.server.address);
    report.rule(
        &["console.fakeAccount", "server.address"],
        console.fake_account.is_empty() || address.to_canonical().is_loopback(),
        || {
            format!(
                "the first is set, and the second is {address}: anybody who reaches the service could sign in; give `127.0.0.1` \
                 for the second, or nothing for the first"
            )
        },
    );
    let is_local = |text: &str| {
        let host = Url::parse(text).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
        host == "localhost"
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    for (key, url) in [("console.url", &console.url), ("console.oidcIssuer", &console.oidc_issuer)] {
        report.rule(&[key], !url.starts_with("http://") || is_local(url), || {
            "begins with http://, by which others could sign in as whoever does; give the address that begins with https://".to_owned()
        });
    }
    let complete = console.oidc_issuer.is_empty() || !(console.oidc_client_id.is_empty() || console.url.is_empty());
    report.rule(&["console.oidcIssuer", "console.oidcClientId", "console.url"], complete, || {
        "the first is set, and one of the others is not; give all three".to_owned()
    });
    let (client, root) = (&console.taskcluster_client_id, &config.taskcluster.root_url);
    let complete = client.is_empty() || !(root.is_empty() || console.url.is_empty());
    report.rule(&["console.taskclusterClientId", "taskcluster.rootUrl", "console.url"], complete, || {
        "the first is set, and one of the others is not; give all three".to_owned()
    });
    let path = Url::parse(&console.url).map_or(String::new(), |url| url.path().trim_matches('/').to_owned());
    report.rule(&["console.url"], path.is_empty(), || {
        format!("has the path /{path}; the console is below /console of a host: give the URL without a path")
    });
}

/// The URL and the keys are read by those who use them; neither shows anything of what it can't read.
fn check_store(config: &Config, report: &mut Report) {
    let (url, keys) = (config.store.database_url.expose(), config.store.crypto_keys.expose());
    if let Err(error) = url.parse::<DatabaseUrl>() {
        report.rule(&["store.databaseUrl"], false, || error.to_string());
    }
    let signing = config.rabbit.token_keys.expose();
    if let Some(Err(error)) = (!signing.is_empty()).then(|| TokenKey::parse(signing)) {
        report.rule(&["rabbit.tokenKeys"], false, || error.to_string());
    }
    if let Some(Err(error)) = (!keys.is_empty()).then(|| KeyRing::parse(keys)) {
        report.rule(&["store.cryptoKeys"], false, || error.to_string());
    }
}

fn check_waiting(config: &Config, report: &mut Report) {
    let (query, first_claim) = (config.store.query_timeout, config.rabbit.first_claim_timeout);
    let request = config.server.request_timeout;
    report.rule(&["store.queryTimeout", "server.requestTimeout"], query < request, || {
        let (query, request) = (format_duration(query), format_duration(request));
        format!("the first is {query}, the second {request}; a claim must be answered after the database has not")
    });
    report.rule(&["rabbit.firstClaimTimeout", "server.requestTimeout"], first_claim < request, || {
        let (first_claim, request) = (format_duration(first_claim), format_duration(request));
        format!("the first is {first_claim}, the second {request}; a claim must be answered after RabbitMQ has not")
    });
}

fn check_rotation(config: &Config, report: &mut Report) {
    let interval = config.app.namespace_rotation_interval;
    let timeout = config.rabbit.request_timeout;
    let often = config.worker.rotate_interval;
    report.rule(&["app.namespaceRotationInterval"], (SHORTEST..=LONGEST).contains(&interval), || {
        let (shortest, longest) = (format_duration(SHORTEST), format_duration(LONGEST));
        format!("is {}; give at least {shortest} and at most {longest}", format_duration(interval))
    });
    report.rule(
        &["app.namespaceRotationInterval", "rabbit.requestTimeout"],
        timeout.saturating_mul(TIMEOUTS_PER_ROTATION) <= interval,
        || {
            format!(
                "the first is {}, the second {}; give a time-out of at most a tenth of the rotation interval",
                format_duration(interval),
                format_duration(timeout)
            )
        },
    );
    report.rule(&["rabbit.requestTimeout"], timeout <= LONGEST_TIMEOUT, || {
        format!("is {}; give at most {}", format_duration(timeout), format_duration(LONGEST_TIMEOUT))
    });
    report.rule(&["app.namespaceRotationInterval", "worker.rotateInterval"], often <= interval, || {
        format!(
            "the first is {}, the second {}; the rotation must run at least once in each rotation interval",
            format_duration(interval),
            format_duration(often)
        )
    });
}

fn check_needs(config: &Config, needs: Needs, report: &mut Report) {
    let (taskcluster, rabbit, notify) = (&config.taskcluster, &config.rabbit, &config.notify);
    let mut require = |key, needed, given| {
        if needed {
            report.require(key, given, needs.who);
        }
    };
    let by_password = needs.broker && rabbit.way_in == RabbitAuth::Password;
    require("rabbit.username", by_password, !rabbit.username.is_empty());
    require("rabbit.password", by_password, !rabbit.password.is_empty());
    let by_token = needs.broker && rabbit.way_in == RabbitAuth::Token;
    require("rabbit.tokenKeys", by_token, !rabbit.token_keys.is_empty());
    require("rabbit.baseUrl", needs.broker, !rabbit.base_url.is_empty());
    let local = config.auth.mode == AuthMode::Local;
    require("auth.clients", needs.callers && local, !config.auth.clients.is_empty());
    let notified_by = |method| needs.notifier && notify.method == method;
    let claims = needs.taskcluster && taskcluster.signing_proxy().is_none();
    let calls = claims || notified_by(NotifyMethod::Taskcluster);
    let calls_services = notified_by(NotifyMethod::Taskcluster) || needs.callers && !local;
    let located = claims || calls_services && !taskcluster.kubernetes_dns;
    require("taskcluster.rootUrl", located, !taskcluster.root_url.is_empty());
    require("taskcluster.credentials.clientId", calls, !taskcluster.client_id.is_empty());
    require("taskcluster.credentials.accessToken", calls, !taskcluster.access_token.is_empty());
    let mails = notified_by(NotifyMethod::Smtp);
    require("notify.smtpUrl", mails, !notify.smtp_url.is_empty());
    require("notify.from", mails, !notify.from.is_empty());
    let shared = needs.store && config.store.database_url.expose().starts_with("postgres");
    require("store.cryptoKeys", shared, !config.store.crypto_keys.is_empty());
}
