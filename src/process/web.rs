//! The web part: the API at its port.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use url::Url;

use super::heartbeat::Heartbeat;
use super::stop::{Stop, stopped};
use super::{Process, parts};
use crate::http::connection::Patience;
use crate::http::limits::Limits;
use crate::http::server::{self, Connections};
use crate::http::{self, App};

impl Process {
    /// What answers requests.
    pub(super) fn app(&self) -> Result<App> {
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
            trusted_proxies: server.trusted_proxies.clone(),
            limits: Limits {
                requests: server.max_requests,
                client_rate: server.client_rate,
                bodies: server.body_memory,
            },
        };
        let authenticator = parts::authenticator(&self.config, self.clock.clone())?.remembering_in(self.store.clone());
        App::new(self.service.clone(), authenticator, self.clock.clone(), settings).map_err(anyhow::Error::msg)
    }

    /// Listens, and gives back what serves until `stop`.
    pub(super) async fn web(&self, app: Arc<App>, stop: Stop) -> Result<impl Future<Output = ()> + use<>> {
        let server = &self.config.server;
        let address = SocketAddr::new(server.address, server.port);
        let listener = server::listen(address).with_context(|| format!("can't listen at {address}"))?;
        let address = listener.local_addr()?;
        // Where the port was left to the system, this line is how people and scripts learn it.
        tracing::info!("listening at http://{address}");
        let patience =
            Patience { idle: server.keep_alive_timeout, head: server.header_timeout, reply: server.body_timeout };
        let (most, warning) = server::room_for(server.max_connections);
        if let Some(warning) = warning {
            tracing::warn!("{warning}");
        }
        let connections = Connections { patience, drain: server.drain_timeout, most };
        let (service, heartbeat) = (self.service.clone(), Heartbeat::new(app.clone(), address)?);
        let router = http::router(app);
        let listening = stopped(stop.clone());
        // Once the listener is gone, there is nothing to be told of.
        let beating = async move {
            tokio::select! {
                () = heartbeat.run() => {}
                () = listening => std::future::pending().await,
            }
        };
        Ok(async move {
            tokio::select! {
                () = server::serve(listener, router, connections, stopped(stop)) => {}
                () = beating => {}
                () = service.keep_memory() => {}
            }
        })
    }
}
