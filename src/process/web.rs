//! The web part: the API at its port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use url::Url;

use super::heartbeat::{Heartbeat, Itself};
use super::stop::{Stop, stopped};
use super::{Process, parts};
use crate::service::{Sightings, TaskPolicies};
use crate::web;
use crate::web::api::app::{App, Settings};
use crate::web::console::settings as console;
use crate::web::edge::around;
use crate::web::edge::connection::Patience;
use crate::web::edge::limits::Limits;
use crate::web::edge::server::{self, Connections};

/// How long the start waits for what the store tells of the time.
const FIRST_LOOK: Duration = Duration::from_secs(1);

impl Process {
    /// What answers requests.
    pub(super) fn app(&self) -> Result<App> {
        let server = &self.config.server;
        let root_url = match self.config.taskcluster.root_url.as_str() {
            "" => None,
            url => Some(Url::parse(url).context("taskcluster.rootUrl")?),
        };
        let settings = Settings {
            root_url,
            body_limit: server.body_limit,
            body_timeout: server.body_timeout,
            request_timeout: server.request_timeout,
            console: console::Settings {
                people: parts::people(&self.config, self.clock.clone())?,
                guard: parts::guard_policy(&self.config),
                tasks: TaskPolicies {
                    sweep: parts::sweep_policy(&self.config),
                    expiry: parts::expiry_policy(&self.config),
                },
            },
            edge: around::Settings {
                force_ssl: server.force_ssl,
                trust_proxy: server.trust_proxy,
                trusted_proxies: server.trusted_proxies.clone(),
                limits: Limits {
                    requests: server.max_requests,
                    client_rate: server.client_rate,
                    bodies: server.body_memory,
                    spare_rate: server.spare_rate,
                },
                summaries: self.config.logging.request_summary,
                error_path: server.error_path,
            },
        };
        let authenticator =
            parts::authenticator(&self.config, self.clock.clone())?.remembering_in(Sightings::new(self.store.clone()));
        App::new(self.service.clone(), authenticator, self.clock.clone(), settings).map_err(anyhow::Error::msg)
    }

    /// Listens, and gives back what serves until `stop`, and what asks whether it does.
    pub(super) async fn web(&self, app: Arc<App>, stop: Stop) -> Result<(Itself, impl Future<Output = ()> + use<>)> {
        let server = &self.config.server;
        let address = SocketAddr::new(server.address, server.port);
        let listener = server::listen(address).with_context(|| format!("can't listen at {address}"))?;
        let address = listener.local_addr()?;
        self.service.learn_time(FIRST_LOOK).await;
        // Where the port was left to the system, this line is how people and scripts learn it.
        tracing::info!("listening at http://{address}");
        let patience =
            Patience { idle: server.keep_alive_timeout, head: server.header_timeout, reply: server.body_timeout };
        let (most, warning) = server::room_for(server.max_connections);
        if let Some(warning) = warning {
            tracing::warn!("{warning}");
        }
        let (drain, trusted_proxies) = (server.drain_timeout, server.trusted_proxies.clone());
        let connections = Connections { patience, drain, most, trusted_proxies };
        let itself = Itself::at(address)?;
        let (service, heartbeat) = (self.service.clone(), Heartbeat::new(app.clone(), itself.clone()));
        let router = web::router(app);
        let listening = stopped(stop.clone());
        // Once the listener is gone, there is nothing to be told of.
        let beating = async move {
            tokio::select! {
                () = heartbeat.run() => {}
                () = listening => std::future::pending().await,
            }
        };
        let serving = async move {
            tokio::select! {
                () = server::serve(listener, router, connections, stopped(stop)) => {}
                () = beating => {}
                () = service.keep_memory() => {}
            }
        };
        Ok((itself, serving))
    }
}
