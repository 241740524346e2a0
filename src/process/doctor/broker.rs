//! RabbitMQ: whether it answers, which release it is, what the management account may do, and how clients reach it.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::net::TcpStream;

use super::database::apart;
use super::report::{Finding, PATIENCE};
use crate::broker::management::ManagementApi;
use crate::broker::{Broker, BrokerError};
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, RabbitAuth};
use crate::domain::inventory::BrokerUser;
use crate::process::parts;
use crate::service::Service;

const NAME: &str = "rabbitmq";
const RIGHTS: &str = "rights";

fn failed(error: &BrokerError) -> Finding {
    let advice = match error {
        BrokerError::Denied(_) => {
            "Check RABBIT_USERNAME and RABBIT_PASSWORD, and give the account the tag `administrator`."
        }
        BrokerError::Unavailable(_) => {
            "Is the node running, with the plugin rabbitmq_management? Is RABBIT_BASE_URL right, and the virtual host there?"
        }
        _ => "Does RABBIT_BASE_URL name the management API of RabbitMQ?",
    };
    Finding::error(NAME, error.to_string(), advice)
}

pub(super) async fn look(config: &Config, management: &ManagementApi, clock: &dyn Clock) -> Vec<Finding> {
    if let Err(error) = management.ping().await {
        return vec![failed(&error), amqp(config).await];
    }
    let vhost = &config.app.amqp_vhost;
    let mut found = vec![match management.release().await {
        Ok(release) => {
            Finding::ok(NAME, format!("RabbitMQ {} answers, and its virtual host {vhost} runs", release.version))
        }
        Err(error) => failed(&error),
    }];
    found.extend(rights(config, management).await);
    found.push(match management.alarm().await {
        Ok(false) => Finding::ok("alarms", "no node is in memory or disk alarm"),
        Ok(true) => Finding::error(
            "alarms",
            "a node is in memory or disk alarm: nobody can publish",
            "Look at its memory and its disk, and at the largest queues in the console.",
        ),
        Err(error) => Finding::warning("alarms", error.to_string(), ""),
    });
    found.push(match management.keeps_statistics().await {
        Ok(true) => Finding::ok("statistics", "RabbitMQ keeps statistics"),
        Ok(false) => Finding::warning(
            "statistics",
            "RabbitMQ keeps no statistics, so queues are judged by their numbers of messages alone",
            "Set management.disable_stats to false.",
        ),
        Err(error) => Finding::warning("statistics", error.to_string(), ""),
    });
    if !config.rabbit.metrics_url.is_empty()
        && management.queue_details(&BTreeSet::from([String::new()])).await.is_none()
    {
        found.push(Finding::warning(
            "statistics",
            "RabbitMQ's Prometheus plugin does not answer at rabbit.metricsUrl",
            "Enable the plugin rabbitmq_prometheus, or leave RABBIT_METRICS_URL out.",
        ));
    }
    found.extend(time(config, clock).await);
    found.push(amqp(config).await);
    found
}

/// What each management account may do.
async fn rights(config: &Config, management: &ManagementApi) -> Vec<Finding> {
    let rabbit = &config.rabbit;
    if rabbit.way_in == RabbitAuth::Token {
        return vec![match management.lacks().await {
            Ok(lacks) if lacks.is_empty() => {
                Finding::ok(RIGHTS, "the tokens that the service signs may do all that it needs")
            }
            Ok(lacks) => {
                Finding::error(RIGHTS, lacks.join("; "), "Compare rabbitmq.conf with what `keys show` prints.")
            }
            Err(error) => {
                Finding::error(RIGHTS, error.to_string(), "Compare rabbitmq.conf with what `keys show` prints.")
            }
        }];
    }
    let mut found = vec![account(management, &rabbit.username).await];
    if !rabbit.fallback_username.is_empty() {
        let mut other = config.clone();
        (other.rabbit.username, other.rabbit.password) =
            (rabbit.fallback_username.clone(), rabbit.fallback_password.clone());
        (other.rabbit.fallback_username, other.rabbit.fallback_password) = Default::default();
        found.push(match parts::broker(&other) {
            Ok(other) => account(&other, &rabbit.fallback_username).await,
            Err(error) => Finding::error(
                RIGHTS,
                format!("{error:#}"),
                "Correct RABBIT_FALLBACK_USERNAME and RABBIT_FALLBACK_PASSWORD.",
            ),
        });
    }
    found
}

async fn account(management: &ManagementApi, name: &str) -> Finding {
    let lacking = |what: &str| {
        let advice = format!(
            "Run `rabbitmqctl set_user_tags {name} administrator` and `rabbitmqctl set_permissions --vhost <vhost> {name} '.*' '.*' '.*'`."
        );
        Finding::error(RIGHTS, format!("the management account {name} {what}"), advice)
    };
    let user = match management.user(name).await {
        Ok(Some(user)) => user,
        Ok(None) => {
            return lacking("is known to RabbitMQ by another name, or by none: it logs in by another back end")
                .into_warning();
        }
        Err(BrokerError::Denied(_)) => return lacking("has not the tag `administrator`, so that it can't make users"),
        Err(error) => return Finding::error(RIGHTS, error.to_string(), ""),
    };
    let BrokerUser { tags, .. } = user;
    if !tags.iter().any(|tag| tag == "administrator") {
        return lacking("has not the tag `administrator`, so that it can't make users");
    }
    let permissions = match management.permissions().await {
        Ok(all) => all.into_iter().find(|of| of.user == name).map(|of| of.permissions),
        Err(error) => return Finding::error(RIGHTS, error.to_string(), ""),
    };
    match permissions {
        None => lacking("has no permissions on the virtual host"),
        Some(of) if [&of.configure, &of.write, &of.read].iter().all(|pattern| *pattern == ".*") => {
            Finding::ok(RIGHTS, format!("the management account {name} may do all that it needs"))
        }
        Some(of) => {
            let has = format!(
                "has only these permissions on the virtual host: configure {:?}, write {:?}, read {:?}",
                of.configure, of.write, of.read
            );
            lacking(&has).into_warning()
        }
    }
}

/// What an operator should look at, as the heartbeat has it.
pub(super) async fn warnings(service: &Service) -> Vec<Finding> {
    let _ = service.health(PATIENCE).await;
    let told = service.warnings(PATIENCE).await.into_iter();
    let findings = told.flat_map(|(part, messages)| messages.into_iter().map(move |message| (part, message)));
    findings.map(|(part, message)| Finding::warning(part, message, "docs/operating.md says more.")).collect()
}

/// RabbitMQ's clock, which connections are as old by as they seem.
async fn time(config: &Config, clock: &dyn Clock) -> Option<Finding> {
    let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
    let http = parts::rabbit_trust(config).ok()?.http(http).ok()?.build().ok()?;
    let answer = http.get(config.rabbit.base_url.first()?).send().await.ok()?;
    let date = answer.headers().get(reqwest::header::DATE)?.to_str().ok()?;
    let theirs = chrono::DateTime::parse_from_rfc2822(date).ok()?;
    Some(apart("clock", "RabbitMQ", clock.now(), Timestamp::from_millis(theirs.timestamp_millis())))
}

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// Whether the address of connection strings answers.
async fn amqp(config: &Config) -> Finding {
    let (host, port) = (config.app.amqp_hostname.trim_matches(['[', ']']), config.app.amqp_port);
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect((host, port))).await;
    let why = match connected {
        Ok(Ok(_)) => {
            return Finding::ok("amqp", format!("{host}:{port}, which connection strings name, accepts connections"));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {CONNECT:?}"),
    };
    let message = format!("{host}:{port}, which connection strings name, does not accept connections from here: {why}");
    Finding::warning(
        "amqp",
        message,
        "Check TASKCLUSTER_AMQP_HOSTNAME and TASKCLUSTER_AMQP_PORT, unless only clients can reach it.",
    )
}
