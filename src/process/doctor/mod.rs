//! `doctor`: looks at an installation from inside, and says what to do.
//!
//! * `report`: what was found, and how it is shown.
//! * `database`, `broker`: the two that the service can't do without.
//! * `outside`: mail, the auth service, the deployment, and how clients reach us.
//! * `certificates`: when those end that are shown to us.

mod broker;
mod certificates;
mod database;
mod outside;
mod report;

use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::process::parts;
use crate::service::Service;

pub use report::{Finding, Level, Report};

/// Looks at everything; `mail_to` is sent a test message.
pub async fn examine(config: &Config, mail_to: Option<&str>) -> Report {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut findings = vec![Finding::ok("settings", "all are right, and none that is needed is missing")];
    let management = match parts::broker(config) {
        Ok(management) => Arc::new(management),
        Err(error) => {
            findings.push(Finding::error("rabbitmq", format!("{error:#}"), "Correct rabbit.baseUrl and the account."));
            return Report(findings);
        }
    };
    let store = match parts::open_store(config).await {
        Ok(store) => Some(store),
        Err(error) => {
            findings.push(database::not_opened(&error));
            None
        }
    };
    let service = store
        .as_ref()
        .map(|store| Service::new(store.clone(), management.clone(), clock.clone(), parts::policy(config)));
    if let (Some(store), Some(service)) = (&store, &service) {
        findings.extend(database::look(config, &**store, service, &*clock).await);
    }
    findings.extend(broker::look(config, &management, &*clock).await);
    if let Some(service) = &service {
        findings.extend(broker::warnings(service).await);
        findings.extend(database::processes(config, service).await);
    }
    findings.extend(outside::look(config, &clock, mail_to).await);
    findings.extend(certificates::look(config, &*clock).await);
    Report(findings)
}
