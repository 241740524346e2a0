//! Metrics of this process, at a port of their own; what they are is put together here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Process;
use super::certificates::{Address, addresses, look};
use super::stop::{Stop, stopped};
use super::tasks::Task;
use crate::config::Config;
use crate::telemetry::metrics::{Named, Registry, constant};
use crate::telemetry::system::System;
use crate::web::api::app::App;
use crate::web::edge::connection::Patience;
use crate::web::edge::server::{self, Connections};
use crate::web::monitor::Monitor;
use crate::web::monitor::metrics::{Exposition, registry, router};

/// How long whoever scrapes may take; and how many connections there are at a time.
const PATIENCE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(120);
const CONNECTIONS: usize = 64;

/// Where metrics are to be served, if they are.
fn address(config: &Config) -> Option<SocketAddr> {
    config.metrics.address.or(config.metrics.prometheus.server)
}

/// How often certificates are looked at.
const LOOK: Duration = Duration::from_secs(3600);

/// Looks at certificates again and again; it never ends.
async fn watch(addresses: Vec<Address>, ends: Named) {
    loop {
        for address in &addresses {
            match look(address).await {
                Ok(shown) => ends.set(address.name, shown.until.millis() as f64 / 1000.0),
                Err(why) => tracing::debug!("{} at {address} shows no certificate: {why}", address.name),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Process {
    /// Listens, and gives back what serves until `stop`; `None` where no metrics are asked for. `app` is what answers requests,
    /// where something here does; `tasks` are those that run here.
    pub(super) fn metrics(
        &self,
        app: Option<&App>,
        tasks: &[Task],
        stop: Stop,
    ) -> Result<Option<impl Future<Output = ()> + use<>>> {
        let Some(address) = address(&self.config) else { return Ok(None) };
        let listener = server::listen(address).with_context(|| format!("can't listen for metrics at {address}"))?;
        let address = listener.local_addr()?;
        tracing::info!("metrics are at http://{address}/metrics");
        let monitor = match app {
            Some(app) => app.context.monitor.clone(),
            None => Arc::new(Monitor::new(self.service.clone(), None, self.clock.clone())),
        };
        let prefix = &self.config.metrics.prometheus.prefix;
        let mut counted = self.counted(registry(prefix), app, tasks);
        let ends = Named::new("end");
        let help = "When the certificates end that RabbitMQ, the deployment and we show, in seconds since 1970";
        counted.register("pulse_tls_end_timestamp_seconds", help, ends.clone());
        let exposition = Arc::new(Exposition::new(counted, prefix, self.service.clone(), monitor));
        let patience = Patience { idle: IDLE, head: PATIENCE, reply: PATIENCE };
        let (drain, trusted_proxies) = (Duration::from_secs(1), Vec::new());
        let connections = Connections { patience, drain, most: CONNECTIONS, trusted_proxies };
        let addresses = addresses(&self.config);
        Ok(Some(async move {
            tokio::select! {
                () = server::serve(listener, router(exposition), connections, stopped(stop)) => {}
                () = watch(addresses, ends) => {}
            }
        }))
    }

    /// What is counted in this process.
    fn counted(&self, mut registry: Registry, app: Option<&App>, tasks: &[Task]) -> Registry {
        registry.register_collector(Box::new(System::since(self.started)));
        self.service.register(&mut registry);
        self.calls.register("pulse_broker_call_duration_seconds", "Calls to RabbitMQ's management API", &mut registry);
        let help = "How long runs of scheduled tasks took";
        registry.register("iterate_duration_seconds", help, self.iterations.clone());
        let every = |task: &Task| (vec![("task", task.name().into())], task.interval(&self.config).as_secs_f64());
        let help = "How often a scheduled task runs in this process";
        constant(&mut registry, "pulse_task_interval_seconds", help, tasks.iter().map(every));
        if let Some(app) = app {
            app.register(&mut registry);
        }
        registry
    }
}
