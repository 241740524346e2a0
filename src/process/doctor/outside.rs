//! Mail, the auth service, our own client there, and how clients reach us.

use std::sync::Arc;

use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use super::report::{Finding, PATIENCE};
use crate::clock::Clock;
use crate::config::{AuthMode, Config, NotifyMethod};
use crate::domain::name::Name;
use crate::domain::notice::Notice;
use crate::domain::scope::any_satisfies;
use crate::process::parts;
use crate::tls;

pub(super) async fn look(config: &Config, clock: &Arc<dyn Clock>, mail_to: Option<&str>) -> Vec<Finding> {
    let (mail, auth, scopes, root) =
        tokio::join!(mail(config, clock, mail_to), auth(config, clock), scopes(config, clock), root(config));
    [Some(mail), auth, scopes, Some(root)].into_iter().flatten().collect()
}

/// Whether owners can be told.
async fn mail(config: &Config, clock: &Arc<dyn Clock>, to: Option<&str>) -> Finding {
    let name = "mail";
    let notifier = match parts::notifier(config, clock.clone()) {
        Ok(notifier) => notifier,
        Err(error) => {
            return Finding::error(name, format!("{error:#}"), "Correct the section `notify` of the settings.");
        }
    };
    if config.notify.method == NotifyMethod::Log {
        let message = "messages to owners are only written to the log (notify.method is `log`)";
        return Finding::warning(name, message, "Set NOTIFY_METHOD to `smtp` or `taskcluster`, so that they get them.");
    }
    let Some(to) = to else {
        return Finding::ok(name, "not tried: `--mail-to you@example.com` sends a test message");
    };
    let now = clock.now();
    let notice = Notice {
        id: Uuid::new_v4().to_string(),
        namespace: Name::from_stored("test".to_owned()),
        to: to.to_owned(),
        subject: "A test message of taskcluster-pulse".to_owned(),
        text: "Somebody ran `taskcluster-pulse doctor --mail-to` with this address. Messages to owners of namespaces \
               come the same way. Nothing is to be done."
            .to_owned(),
        created: now,
        attempts: 1,
        due: now,
        about: None,
        brief: None,
        instead_of: Vec::new(),
    };
    match tokio::time::timeout(PATIENCE * 3, notifier.deliver(&notice)).await {
        Ok(Ok(())) => Finding::ok(name, format!("the mail system took a test message to {to}: look whether it comes")),
        Ok(Err(error)) => Finding::error(
            name,
            error.to_string(),
            "Check NOTIFY_SMTP_URL and NOTIFY_FROM, or the scopes of our client.",
        ),
        Err(_) => Finding::error(name, "the mail system does not answer", "Check host and port in NOTIFY_SMTP_URL."),
    }
}

/// Whether the auth service answers, where it is asked.
async fn auth(config: &Config, clock: &Arc<dyn Clock>) -> Option<Finding> {
    let name = "auth";
    if config.auth.mode == AuthMode::Local {
        return None;
    }
    let advice = "Check TASKCLUSTER_ROOT_URL; inside the deployment's cluster, USE_KUBERNETES_DNS_SERVICE_DISCOVERY.";
    let authenticator = match parts::authenticator(config, clock.clone()) {
        Ok(authenticator) => authenticator,
        Err(error) => return Some(Finding::error(name, format!("{error:#}"), advice)),
    };
    Some(match authenticator.health(PATIENCE).await? {
        Ok(()) => Finding::ok(name, "the auth service answers"),
        Err(why) => Finding::error(name, format!("the auth service does not answer: {why}"), advice),
    })
}

/// The scope that messages by Taskcluster's notify service need.
const NOTIFY: &str = "notify:email:*";

/// What our own client at the deployment may do, where it is used.
async fn scopes(config: &Config, clock: &Arc<dyn Clock>) -> Option<Finding> {
    let name = "scopes";
    if config.notify.method != NotifyMethod::Taskcluster {
        return None;
    }
    let client = &config.taskcluster.client_id;
    let failed =
        |why: String| Some(Finding::error(name, why, "Check TASKCLUSTER_CLIENT_ID and TASKCLUSTER_ACCESS_TOKEN."));
    let taskcluster = match parts::taskcluster(config, clock.clone()) {
        Ok(taskcluster) => taskcluster,
        Err(error) => return failed(format!("{error:#}")),
    };
    let asked = taskcluster.call(Method::GET, "auth", "scopes/current", None);
    let answer = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(answer)) => answer.body,
        Ok(Err(error)) => return failed(format!("the auth service does not tell the scopes of {client}: {error}")),
        Err(_) => return failed("the auth service does not answer".to_owned()),
    };
    let own: Vec<_> =
        answer["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    Some(match any_satisfies(&own, NOTIFY) {
        true => Finding::ok(name, format!("the client {client} has {NOTIFY}")),
        false => Finding::error(
            name,
            format!("the client {client} has not the scope {NOTIFY}"),
            "Give it that scope, so that messages to owners can be sent.",
        ),
    })
}

/// Whether clients reach this service at the URL that they use.
async fn root(config: &Config) -> Finding {
    let name = "root-url";
    let root = config.taskcluster.root_url.trim_end_matches('/');
    if root.is_empty() {
        return Finding::warning(
            name,
            "not tried: TASKCLUSTER_ROOT_URL is not set, by which clients call this service",
            "Set it to the URL that clients use.",
        );
    }
    tls::install_crypto_provider();
    let url = format!("{root}/api/pulse/v1/ping");
    let asked = async {
        let http = reqwest::Client::builder().timeout(PATIENCE).build()?;
        let answer = http.get(&url).send().await?.error_for_status()?;
        answer.json::<Value>().await
    };
    let advice = "Is a web process running, and does the proxy in front route /api/pulse to it?";
    match asked.await {
        Ok(body) if body["alive"] == true => Finding::ok(name, format!("this service answers at {url}")),
        Ok(_) => Finding::error(name, format!("something else answers at {url}"), advice),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            Finding::error(name, format!("no answer of this service at {url}: {}{cause}", error.without_url()), advice)
        }
    }
}
