//! Broker, database and auth service are down in turn, while programs claim: how many claims of known namespaces are
//! answered with a working credential.
//!
//! The program runs as in a deployment: two web processes, which each client asks in turns as through a balancer, and a
//! worker, all with default settings but for the rotation interval. Half of the clients stand in the program's own list;
//! the auth service knows the others. Passwords are due for their switch at moments that are spread over a whole interval.

mod caller;
mod clients;
mod phases;
mod tally;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use clap::Args;
use serde_json::json;
use taskcluster_pulse::access::Authenticator;
use taskcluster_pulse::access::clients::{AccessToken, Client, LocalDirectory};
use taskcluster_pulse::access::roles::Roles;
use taskcluster_pulse::clock::{Clock, SystemClock};
use taskcluster_pulse::domain::namespace::Namespace;
use tokio::sync::watch;
use tokio::time::sleep;

use self::caller::Caller;
use self::clients::Scene;
use self::phases::{NAMESPACES, Neighbour, PHASES};
pub use self::tally::Tally;
use crate::server::{Running, Server};
use crate::support::fake_auth;
use crate::support::pulse::Api;
use crate::support::services::{Part, Services};
use crate::world::{World, namespaces, variable};

/// Which scopes all clients have.
const SCOPE: &str = "pulse:namespace:taskcluster-*";

/// What happens in a run.
#[derive(Args, Clone, Copy)]
pub struct Plan {
    /// Of `outages`: how many minutes the run takes; each of the three is down for a fifth of it.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    minutes: u32,
    /// Of `outages`: after how many minutes passwords rotate; as many as the run takes, where it is not given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=600))]
    rotation: Option<u32>,
    /// Of `outages`: let them stand still, so that they accept connections and answer nothing, instead of killing them.
    #[arg(long)]
    freeze: bool,
}

impl Plan {
    fn rotation(self) -> Duration {
        Duration::from_secs(60) * self.rotation.unwrap_or(self.minutes)
    }
}

/// Claims all the while, and tells what came of it.
pub async fn measure(world: &World, plan: Plan) -> Result<Tally> {
    let mut neighbours = Neighbours { services: Services::from_env(), auth: Auth::start(), freeze: plan.freeze };
    let known = known(plan.rotation());
    let [database, _] = world.databases("outages", &known).await?;
    world.make_users(&known).await?;
    let settings = settings(&neighbours.auth, plan)?;
    let servers = [Server::start(world, &database, &settings)?, Server::start(world, &database, &settings)?];
    let _worker = Running::start(world, &database, &["worker"], &settings)?;
    let scene = Arc::new(Scene::new(&servers.each_ref().map(|server| &server.root))?);
    let learning = (0..NAMESPACES).map(|number| scene.introduce(number));
    futures::future::try_join_all(learning).await?;
    let load = load_average();
    let clients: Vec<_> = (0..NAMESPACES).map(|number| tokio::spawn(scene.clone().claim_until_over(number))).collect();
    for (number, (name, down, tenths)) in PHASES.into_iter().enumerate() {
        eprintln!("bench: {name}");
        let period = Duration::from_secs(6) * plan.minutes * tenths;
        scene.set(|state| state.phase = number);
        match down {
            Some(neighbour) => neighbours.outage(neighbour, period, &scene).await,
            None => sleep(period).await,
        }
    }
    scene.set(|state| state.over = true);
    for client in clients {
        client.await?;
    }
    let claims = scene.take_claims().await;
    let rotation = plan.rotation();
    Ok(Tally { minutes: plan.minutes, freeze: plan.freeze, rotation, load: [load, load_average()], claims })
}

/// What the broker and the database hold before it begins.
fn known(rotation: Duration) -> Vec<Namespace> {
    let mut known = namespaces(NAMESPACES, Duration::ZERO, Duration::from_secs(86_400));
    for (number, namespace) in (1..).zip(&mut known) {
        namespace.rotation.due = SystemClock.now().plus(rotation * number / NAMESPACES as u32);
        namespace.rotation.grace = rotation / 2;
    }
    known
}

/// The variables of all processes.
fn settings(auth: &Auth, plan: Plan) -> Result<Vec<(&'static str, String)>> {
    let amqp = variable("RABBITMQ_AMQP")?;
    let (host, port) = amqp.split_once(':').context("PULSE_TEST_RABBITMQ_AMQP as host:port")?;
    let clients = json!([{"clientId": Caller::Local.id(), "accessToken": Caller::Local.key(), "scopes": [SCOPE]}]);
    Ok(vec![
        ("AUTH_MODE", "both".to_owned()),
        ("TASKCLUSTER_ROOT_URL", auth.api.root().as_str().trim_end_matches('/').to_owned()),
        ("STATIC_CLIENTS", clients.to_string()),
        ("NAMESPACE_ROTATION_INTERVAL", format!("{} s", plan.rotation().as_secs())),
        ("TASKCLUSTER_AMQP_PROTOCOL", "amqp://".to_owned()),
        ("TASKCLUSTER_AMQP_HOSTNAME", host.to_owned()),
        ("TASKCLUSTER_AMQP_PORT", port.to_owned()),
    ])
}

/// How many processes of the machine wanted to compute in the last minute.
fn load_average() -> f64 {
    let read = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    read.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}

/// All that can be down, and how it is.
struct Neighbours {
    services: Services,
    auth: Auth,
    freeze: bool,
}

impl Neighbours {
    /// Takes it away for `period`, and tells the scene what can be relied on.
    async fn outage(&mut self, neighbour: Neighbour, period: Duration, scene: &Scene) {
        scene.set(|state| state.broker_is_up = neighbour != Neighbour::Broker);
        match (neighbour, self.freeze) {
            (Neighbour::Broker, false) => self.services.stop(Part::RabbitMq, "KILL").await,
            // Like a crash: a kill of its first process alone would leave others behind.
            (Neighbour::Database, false) => self.services.stop(Part::Postgres, "QUIT").await,
            (Neighbour::Auth, false) => self.auth.api.down().await,
            (Neighbour::Broker, true) => self.services.freeze(Part::RabbitMq),
            (Neighbour::Database, true) => self.services.freeze(Part::Postgres),
            (Neighbour::Auth, true) => drop(self.auth.frozen.send_replace(true)),
        }
        scene.set(|state| state.only_memory = neighbour == Neighbour::Database);
        sleep(period).await;
        scene.set(|state| state.only_memory = false);
        match (neighbour, self.freeze) {
            (Neighbour::Auth, false) => self.auth.api.up(),
            (Neighbour::Auth, true) => drop(self.auth.frozen.send_replace(false)),
            (_, false) => self.services.start_again().await,
            (_, true) => self.services.thaw(),
        }
        scene.set(|state| state.broker_is_up = true);
        scene.log_in_late().await;
    }
}

/// A stand-in for Taskcluster's auth service, which knows one client.
struct Auth {
    api: Api,
    frozen: watch::Sender<bool>,
}

impl Auth {
    fn start() -> Auth {
        let client = Client {
            id: Caller::Remote.id().to_owned(),
            access_token: AccessToken::new(Caller::Remote.key().to_owned()),
            scopes: vec![SCOPE.to_owned()],
            expires: None,
        };
        let clients = Authenticator::new(LocalDirectory::new(vec![client], Roles::default()));
        let (frozen, seen) = watch::channel(false);
        let router = Router::new().route("/api/auth/v1/authenticate-hawk", post(answer));
        let router = router.route("/api/auth/v1/ping", get("")).with_state((Arc::new(clients), seen));
        Auth { api: Api::serving(router), frozen }
    }
}

async fn answer(
    State((clients, mut frozen)): State<(Arc<Authenticator>, watch::Receiver<bool>)>,
    question: Bytes,
) -> impl IntoResponse {
    let _ = frozen.wait_for(|frozen| !frozen).await;
    let question = serde_json::from_slice(&question).unwrap_or_default();
    ([(CONTENT_TYPE, "application/json")], fake_auth::find_out(&clients, &question).to_string())
}
