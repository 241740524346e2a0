//! The API at a port, which can go down and come up again: the service itself, or one that answers as it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use taskcluster_pulse::access::Authenticator;
use taskcluster_pulse::access::clients::{AccessToken, Client, LocalDirectory};
use taskcluster_pulse::access::roles::Roles;
use taskcluster_pulse::clock::{Clock, SystemClock, Timestamp};
use taskcluster_pulse::taskcluster::{ClientCredentials, RetryPolicy, Taskcluster};
use taskcluster_pulse::web;
use taskcluster_pulse::web::api::app::{App, Settings};
use taskcluster_pulse::web::edge::around;
use taskcluster_pulse::web::edge::connection::Patience;
use taskcluster_pulse::web::edge::server::{self, Connections};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use url::Url;

use super::world::World;

/// The client that may claim every namespace that begins with `taskcluster-`.
pub const CLIENT_ID: &str = "tester";
/// Its key.
pub const ACCESS_TOKEN: &str = "canary-token-of-the-tester";

/// An API at a port of its own, which it keeps while it is down. It stops when it is dropped.
pub struct Api {
    address: SocketAddr,
    /// Holds the port, without listening.
    _reserved: TcpSocket,
    router: Router,
    serving: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Api {
    /// The service, on what is in `world`.
    pub fn of(world: &World) -> Api {
        let client = Client {
            id: CLIENT_ID.into(),
            access_token: AccessToken::new(ACCESS_TOKEN.into()),
            scopes: vec!["pulse:namespace:taskcluster-*".into(), format!("auth:create-client:{CLIENT_ID}/*")],
            expires: None,
        };
        let settings = Settings {
            root_url: None,
            body_limit: 1 << 20,
            body_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            console: crate::support::world::closed_console(),
            edge: around::Settings {
                force_ssl: false,
                trust_proxy: false,
                trusted_proxies: Vec::new(),
                limits: taskcluster_pulse::web::edge::limits::Limits::default(),
                ..around::Settings::default()
            },
        };
        let authenticator = Authenticator::new(LocalDirectory::new(vec![client], Roles::default()));
        let app = App::new(Arc::new(world.service()), authenticator, world.clock.clone(), settings).unwrap();
        Api::serving(web::router(Arc::new(app)))
    }

    /// What `router` answers.
    pub fn serving(router: Router) -> Api {
        let reserved = socket("127.0.0.1:0".parse().unwrap());
        let mut api = Api { address: reserved.local_addr().unwrap(), _reserved: reserved, router, serving: None };
        api.up();
        api
    }

    /// Its root URL.
    pub fn root(&self) -> Url {
        format!("http://{}", self.address).parse().unwrap()
    }

    /// A client for it, which tries each call once.
    pub fn client(&self, clock: Arc<dyn Clock>) -> Arc<Taskcluster> {
        let credentials =
            ClientCredentials { client_id: CLIENT_ID.into(), access_token: ACCESS_TOKEN.into(), certificate: None };
        let limits = RetryPolicy { retries: 0, ..RetryPolicy::default() };
        Arc::new(Taskcluster::new(self.root(), Some(credentials), clock, limits).unwrap())
    }

    /// Closes its connections, and refuses new ones.
    pub async fn down(&mut self) {
        if let Some((stop, task)) = self.serving.take() {
            drop(stop);
            task.await.unwrap();
        }
    }

    /// Listens again, at the same port.
    pub fn up(&mut self) {
        let listener = socket(self.address).listen(64).unwrap();
        let minute = Duration::from_secs(60);
        let patience = Patience { idle: minute, head: minute, reply: minute };
        let connections =
            Connections { patience, drain: Duration::from_secs(1), most: 1000, trusted_proxies: Vec::new() };
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { _ = stopped.await };
        let task = tokio::spawn(server::serve(listener, self.router.clone(), connections, stopped));
        self.serving = Some((stop, task));
    }
}

/// A socket bound to `address`, to which another one may be bound too as long as this one doesn't listen.
fn socket(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

/// What a stub answers, and what it was asked.
pub struct Script {
    /// Which of its connection strings it gives.
    pub turn: usize,
    /// When it says to claim again.
    pub reclaim: Reclaim,
    /// With which status it answers; with another one than 200 it gives an error.
    pub status: u16,
    /// Whether it leaves `connectionString` out.
    pub garbled: bool,
    /// Whether it does not answer.
    pub hang: bool,
    /// The bodies of the claims so far.
    pub claims: Vec<Value>,
}

/// When a stub says to claim again.
#[derive(Clone, Copy)]
pub enum Reclaim {
    /// So many milliseconds from now.
    In(i64),
    /// Then.
    At(Timestamp),
}

/// A service that answers each claim as its script says.
pub struct Stub {
    /// Where it is.
    pub api: Api,
    script: Arc<Mutex<Script>>,
}

impl Stub {
    /// One whose strings are good for as long as `reclaim` says.
    pub fn new(reclaim: Reclaim) -> Stub {
        let script = Script { turn: 0, reclaim, status: 200, garbled: false, hang: false, claims: Vec::new() };
        let script = Arc::new(Mutex::new(script));
        let api = Api::serving(Router::new().fallback(answer).with_state(script.clone()));
        Stub { api, script }
    }

    /// Changes what it answers.
    pub fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    /// The bodies of the claims so far.
    pub fn claims(&self) -> Vec<Value> {
        self.script.lock().unwrap().claims.clone()
    }

    /// The connection string of this turn.
    pub fn connection_string(turn: usize) -> String {
        format!("amqp://me:canary-password-{turn}@127.0.0.1:5672/%2F")
    }
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, body: Bytes) -> Response {
    let (status, body) = {
        let mut script = script.lock().unwrap();
        script.claims.push(serde_json::from_slice(&body).unwrap_or_default());
        if script.hang { (0, Value::Null) } else { (script.status, reply(&script)) }
    };
    if status == 0 {
        std::future::pending::<()>().await;
    }
    let status = StatusCode::from_u16(status).unwrap();
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn reply(script: &Script) -> Value {
    if script.status != 200 {
        return json!({"code": "Stubborn", "message": "as the test wants it"});
    }
    let now = SystemClock.now();
    let reclaim_at = match script.reclaim {
        Reclaim::In(millis) => Timestamp::from_millis(now.millis() + millis),
        Reclaim::At(at) => at,
    };
    let mut reply = json!({
        "namespace": "taskcluster-a",
        "created": now.to_string(),
        "expires": "9999-12-31T23:59:59.999Z",
        "connectionString": Stub::connection_string(script.turn),
        "reclaimAt": reclaim_at.to_string(),
    });
    if script.garbled {
        reply.as_object_mut().unwrap().remove("connectionString");
    }
    reply
}
