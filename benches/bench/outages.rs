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

use anyhow::{Context, Result, bail};
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
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use self::caller::Caller;
use self::clients::Scene;
use self::phases::{ALONE, CLUSTER, NAMESPACES, Neighbour};
pub use self::tally::Tally;
use crate::server::{Running, Server};
use crate::support::cluster::{Cluster, cluster};
use crate::support::fake_auth;
use crate::support::pulse::Api;
use crate::support::replicas::Replicas;
use crate::support::services::{Part, Services};
use crate::world::{World, batch, namespaces};

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
    /// Of `outages`: three nodes of RabbitMQ, each of which is down in turn, and two databases, the first of which is lost.
    #[arg(long)]
    cluster: bool,
}

impl Plan {
    fn rotation(self) -> Duration {
        Duration::from_secs(60) * self.rotation.unwrap_or(self.minutes)
    }
}

/// Claims all the while, and tells what came of it.
pub async fn measure(plan: Plan) -> Result<Tally> {
    let place = if plan.cluster { Place::cluster().await? } else { Place::Alone(Services::from_env()) };
    let world = &place.world().await?;
    let mut neighbours = Neighbours { place, auth: Auth::start(), freeze: plan.freeze };
    let phases = if plan.cluster { CLUSTER } else { ALONE };
    let known = known(plan.rotation());
    let [database, _] = world.databases("outages", &known).await?;
    world.make_users(&known).await?;
    let settings = settings(&neighbours, plan)?;
    let servers = [Server::start(world, &database, &settings)?, Server::start(world, &database, &settings)?];
    let _worker = Running::start(world, &database, &["worker"], &settings)?;
    let scene = Arc::new(Scene::new(&servers.each_ref().map(|server| &server.root), neighbours.place.nodes())?);
    let learning = (0..NAMESPACES).map(|number| scene.introduce(number));
    futures::future::try_join_all(learning).await?;
    let load = load_average();
    let clients: Vec<_> = (0..NAMESPACES).map(|number| tokio::spawn(scene.clone().claim_until_over(number))).collect();
    for (number, (name, down, tenths)) in phases.iter().copied().enumerate() {
        eprintln!("bench: {name}");
        let period = Duration::from_secs(6) * plan.minutes * tenths;
        scene.set(|state| state.phase = number);
        match down {
            Some(neighbour) => neighbours.outage(neighbour, period, &scene).await?,
            None => sleep(period).await,
        }
    }
    scene.set(|state| state.over = true);
    for client in clients {
        client.await?;
    }
    let claims = scene.take_claims().await;
    let rotation = plan.rotation();
    let load = [load, load_average()];
    Ok(Tally { phases, minutes: plan.minutes, freeze: plan.freeze, rotation, load, claims })
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
fn settings(neighbours: &Neighbours, plan: Plan) -> Result<Vec<(&'static str, String)>> {
    let (auth, amqp) = (&neighbours.auth, neighbours.place.amqp());
    let (host, port) = amqp.split_once(':').context("an address as host:port")?;
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

/// Where RabbitMQ and PostgreSQL are.
enum Place {
    /// One of each.
    Alone(Services),
    /// Three nodes of the one, and two servers of the other.
    Cluster(Arc<Cluster>, Replicas),
}

impl Place {
    async fn cluster() -> Result<Place> {
        let (_, nodes) = cluster().await;
        Ok(Place::Cluster(nodes, spawn_blocking(Replicas::start).await?))
    }

    async fn world(&self) -> Result<World> {
        match self {
            Place::Alone(_) => World::new().await,
            Place::Cluster(nodes, databases) => World::on(nodes.rabbitmq.clone(), databases.both()),
        }
    }

    /// Where each node of a cluster speaks AMQP.
    fn nodes(&self) -> Vec<String> {
        match self {
            Place::Alone(_) => Vec::new(),
            Place::Cluster(nodes, _) => nodes.amqp.clone(),
        }
    }

    /// What stands in connection strings.
    fn amqp(&self) -> &str {
        match self {
            Place::Alone(services) => &services.rabbitmq.amqp,
            Place::Cluster(nodes, _) => &nodes.rabbitmq.amqp,
        }
    }

    /// Takes a part of it away.
    async fn lose(&self, neighbour: Neighbour, freeze: bool) -> Result<()> {
        match (self, neighbour, freeze) {
            (Place::Alone(services), Neighbour::Broker, false) => services.stop(Part::RabbitMq, "KILL").await,
            // Like a crash: a kill of its first process alone would leave others behind.
            (Place::Alone(services), Neighbour::Database, false) => services.stop(Part::Postgres, "QUIT").await,
            (Place::Alone(services), Neighbour::Broker, true) => services.freeze(Part::RabbitMq),
            (Place::Alone(services), Neighbour::Database, true) => services.freeze(Part::Postgres),
            (Place::Cluster(nodes, _), Neighbour::Node(node), false) => nodes.kill(node),
            (Place::Cluster(nodes, _), Neighbour::Node(node), true) => nodes.freeze(node),
            (Place::Cluster(_, databases), Neighbour::Primary, freeze) => {
                databases.signal("a", if freeze { "STOP" } else { "QUIT" });
                batch(&databases.url(1), "SELECT pg_promote()").await?;
            }
            _ => bail!("{neighbour:?} can't be down here"),
        }
        Ok(())
    }

    /// Brings it back.
    async fn restore(&self, neighbour: Neighbour, freeze: bool) {
        match (self, neighbour, freeze) {
            (Place::Alone(services), _, false) => services.start_again().await,
            (Place::Alone(services), _, true) => services.thaw(),
            (Place::Cluster(nodes, _), Neighbour::Node(node), _) => {
                if freeze {
                    nodes.thaw(node).await;
                }
                nodes.complete().await;
            }
            // The other one has taken over.
            (Place::Cluster(..), ..) => {}
        }
    }
}

/// All that can be down, and how it is.
struct Neighbours {
    place: Place,
    auth: Auth,
    freeze: bool,
}

impl Neighbours {
    /// Takes it away for `period`, and tells the scene what can be relied on.
    async fn outage(&mut self, neighbour: Neighbour, period: Duration, scene: &Scene) -> Result<()> {
        scene.set(|state| {
            state.broker_is_up = neighbour != Neighbour::Broker;
            state.down = if let Neighbour::Node(node) = neighbour { Some(node) } else { None };
        });
        match (neighbour, self.freeze) {
            (Neighbour::Auth, false) => self.auth.api.down().await,
            (Neighbour::Auth, true) => drop(self.auth.frozen.send_replace(true)),
            (_, freeze) => self.place.lose(neighbour, freeze).await?,
        }
        scene.set(|state| state.only_memory = neighbour == Neighbour::Database);
        sleep(period).await;
        scene.set(|state| state.only_memory = false);
        match (neighbour, self.freeze) {
            (Neighbour::Auth, false) => self.auth.api.up(),
            (Neighbour::Auth, true) => drop(self.auth.frozen.send_replace(false)),
            (_, freeze) => self.place.restore(neighbour, freeze).await,
        }
        scene.set(|state| {
            state.broker_is_up = true;
            state.down = None;
        });
        scene.log_in_late().await;
        Ok(())
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
