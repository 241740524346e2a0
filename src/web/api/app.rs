//! What the API works with.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::contract::Contract;
use super::counts::Counts;
use super::endpoint::Context;
use crate::access::Authenticator;
use crate::clock::Clock;
use crate::service::Service;
use crate::telemetry::metrics::Registry;
use crate::web::console::settings as console;
use crate::web::edge::around::{self, Edge};
use crate::web::monitor::Monitor;

/// How the API is served.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The deployment's root URL: what published schemas are named after, and whose path the API is mounted under.
    pub root_url: Option<Url>,
    /// The longest body that is read, in bytes. No endpoint takes a longer one than it needs; see [`super::routes`].
    pub body_limit: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// How long a caller is let wait for an answer, once its request is read and checked.
    pub request_timeout: Duration,
    /// How the console is served.
    pub console: console::Settings,
    /// How it is seen from outside.
    pub edge: around::Settings,
}

/// What requests of the API are answered with.
pub struct App {
    /// What handlers work with.
    pub context: Arc<Context>,
    /// Who is asking.
    pub authenticator: Arc<Authenticator>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How the API is served.
    pub settings: Settings,
    /// What it shares with other parts.
    pub edge: Arc<Edge>,
    pub(super) contract: Contract,
    pub(super) counts: Counts,
}

impl App {
    /// Ready to serve.
    ///
    /// # Errors
    /// A sentence, where the schemas built into the program can't be used.
    pub fn new(
        service: Arc<Service>,
        authenticator: Authenticator,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Result<App, String> {
        let contract = Contract::new(settings.root_url.as_ref())?;
        let authenticator = Arc::new(authenticator);
        let monitor = Arc::new(Monitor::new(service.clone(), Some(authenticator.clone()), clock.clone()));
        let edge = Arc::new(Edge::new(settings.edge.clone()));
        let context = Arc::new(Context { service, monitor, tasks: settings.console.tasks.clone() });
        Ok(App { context, authenticator, clock, settings, edge, contract, counts: Counts::new() })
    }

    /// Gives what is counted of requests and callers to a registry.
    pub fn register(&self, registry: &mut Registry) {
        self.counts.register(registry);
        self.edge.gate.register(registry);
        self.authenticator.register(registry);
    }
}
