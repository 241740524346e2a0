//! A RabbitMQ that exists at the wire only: an HTTP server that answers as the management API of one virtual host does,
//! holds everything in memory, and fails as it is told.
//!
//! ```ignore
//! let fake = FakeBroker::start().await;
//! let broker = ManagementApi::new(fake.config())?;
//! fake.fault(Fault::new(Failure::Close).on("PUT", "/users/").times(1).after_doing());
//! broker.put_user("u", &password.hash()).await?;
//! assert_eq!(fake.requests("PUT", "/api/users/u"), 2);
//! ```
//!
//! Statuses, bodies and oddities are those that RabbitMQ 3.10.8 and 4.0.5 showed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use taskcluster_pulse::broker::management::{DEFAULT_LISTING_TIMEOUT, DEFAULT_TIMEOUT, ManagementConfig};
use taskcluster_pulse::domain::inventory::{BrokerUser, QueueKind};
use taskcluster_pulse::domain::name::Permissions;
use taskcluster_pulse::secret::{Password, PasswordHash};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// The one virtual host.
pub const VHOST: &str = "fake/vhost %1";
/// The management account.
pub const USERNAME: &str = "management-account";
/// Its password.
pub const PASSWORD: &str = "management-password";

/// A queue.
#[derive(Debug, Clone)]
pub struct Queue {
    /// What it is made of.
    pub kind: QueueKind,
    /// How many messages are in it.
    pub messages: u64,
    /// The connection that it is exclusive to.
    pub owner: Option<String>,
}

impl Queue {
    /// A classic queue with this many messages.
    pub fn classic(messages: u64) -> Queue {
        Queue { kind: QueueKind::Classic, messages, owner: None }
    }
}

/// An open connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The user that logged in.
    pub user: String,
    /// When it was opened, in milliseconds since 1970.
    pub connected_at: i64,
    /// Whether the broker has statistics of it; until then only its user's name finds it, to be listed or closed.
    pub listed: bool,
}

/// What the broker holds; tests may look at it and change it.
#[derive(Debug, Default)]
pub struct State {
    /// Users by name; the management account is one of them.
    pub users: BTreeMap<String, BrokerUser>,
    /// Permissions in the virtual host by user.
    pub permissions: BTreeMap<String, Permissions>,
    /// Queues by name.
    pub queues: BTreeMap<String, Queue>,
    /// Exchanges by name.
    pub exchanges: BTreeSet<String>,
    /// Connections by name.
    pub connections: BTreeMap<String, Connection>,
    /// Connections that were closed through the API, with the reason given.
    pub closed: Vec<(String, String)>,
    /// Whether a single queue's fresh total is told only in lists, as before RabbitMQ 3.12.
    pub totals_in_lists_only: bool,
}

impl State {
    /// A node that starts for the first time, with the management account and the exchanges that are always there.
    fn empty() -> State {
        let hash = Password::from_stored(PASSWORD.into()).hash();
        let account = BrokerUser { name: USERNAME.into(), tags: vec!["administrator".into()], hash };
        let all = || ".*".to_owned();
        let permissions = Permissions { configure: all(), write: all(), read: all() };
        let exchanges = ["", "amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.rabbitmq.trace", "amq.topic"];
        State {
            users: [(USERNAME.to_owned(), account)].into(),
            permissions: [(USERNAME.to_owned(), permissions)].into(),
            exchanges: exchanges.into_iter().map(String::from).collect(),
            ..State::default()
        }
    }

    /// Whether an AMQP client may open a connection to the virtual host.
    pub fn can_log_in(&self, user: &str, password: &str) -> bool {
        let password = Password::from_stored(password.to_owned());
        self.users.get(user).is_some_and(|found| found.hash.verifies(&password)) && self.permissions.contains_key(user)
    }

    /// Removes a connection and the queues that are exclusive to it.
    pub fn disconnect(&mut self, connection: &str) {
        self.connections.remove(connection);
        self.queues.retain(|_, queue| queue.owner.as_deref() != Some(connection));
    }

    fn close(&mut self, connection: &str, reason: &str) {
        self.disconnect(connection);
        self.closed.push((connection.to_owned(), reason.to_owned()));
    }

    fn connections_of(&self, user: &str) -> Vec<String> {
        self.connections.iter().filter(|(_, of)| of.user == user).map(|(name, _)| name.clone()).collect()
    }

    fn delete_user(&mut self, user: &str) -> bool {
        self.connections_of(user).iter().for_each(|name| self.disconnect(name));
        self.permissions.remove(user);
        self.users.remove(user).is_some()
    }
}

/// How a request fails.
#[derive(Debug, Clone)]
pub enum Failure {
    /// The connection is closed without an answer.
    Close,
    /// No answer, until [`Handle::release`]; then as if nothing had happened.
    Hang,
    /// This status, with a body of the kind that RabbitMQ gives.
    Status(u16),
    /// 404, as a node that is starting answers to everything.
    Booting,
    /// 200 with the first half of the JSON.
    Malformed,
    /// 200 with an empty list.
    EmptyList,
    /// 200 with the first items of the list alone.
    Partial(usize),
    /// The right answer after this time.
    Slow(Duration),
}

/// Which requests fail, and how.
#[derive(Debug, Clone)]
pub struct Fault {
    failure: Failure,
    method: Option<&'static str>,
    path: String,
    times: Option<usize>,
    after_doing: bool,
}

impl Fault {
    /// Every request fails so, without being carried out.
    pub fn new(failure: Failure) -> Fault {
        Fault { failure, method: None, path: String::new(), times: None, after_doing: false }
    }

    /// Only requests of this method whose unescaped path contains `path`.
    pub fn on(self, method: &'static str, path: &str) -> Fault {
        Fault { method: Some(method), path: path.to_owned(), ..self }
    }

    /// Only the next `times` of them.
    pub fn times(self, times: usize) -> Fault {
        Fault { times: Some(times), ..self }
    }

    /// The request is carried out before it fails.
    pub fn after_doing(self) -> Fault {
        Fault { after_doing: true, ..self }
    }

    fn hits(&self, method: &str, path: &str) -> bool {
        self.times != Some(0) && self.method.is_none_or(|wanted| wanted == method) && path.contains(&self.path)
    }
}

/// A fake broker; it stops when it is dropped. All it can do is told at [`Handle`].
pub struct FakeBroker(Handle);

impl Deref for FakeBroker {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.0
    }
}

impl FakeBroker {
    /// Starts one on a free port.
    pub async fn start() -> FakeBroker {
        let reserved = socket("127.0.0.1:0".parse().unwrap());
        let shared = Shared {
            addr: reserved.local_addr().unwrap(),
            _reserved: reserved,
            state: Mutex::new(State::empty()),
            faults: Mutex::default(),
            requests: watch::Sender::default(),
            released: watch::Sender::default(),
            serving: Mutex::default(),
        };
        let fake = FakeBroker(Handle(Arc::new(shared)));
        fake.up();
        fake
    }

    /// A handle for other tasks.
    pub fn handle(&self) -> Handle {
        self.0.clone()
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        if let Some((_, task)) = self.0.0.serving.lock().unwrap().take() {
            task.abort();
        }
    }
}

struct Shared {
    addr: SocketAddr,
    /// Holds the port while the broker is down, without listening.
    _reserved: TcpSocket,
    state: Mutex<State>,
    faults: Mutex<Vec<Fault>>,
    requests: watch::Sender<BTreeMap<String, usize>>,
    released: watch::Sender<()>,
    serving: Mutex<Option<(watch::Sender<()>, JoinHandle<()>)>>,
}

/// What a test does with a fake broker.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.0.addr)
    }

    /// How a client is to be configured.
    pub fn config(&self) -> ManagementConfig {
        ManagementConfig {
            base_url: self.url().parse().unwrap(),
            username: USERNAME.into(),
            password: Password::from_stored(PASSWORD.into()),
            vhost: VHOST.into(),
            timeout: DEFAULT_TIMEOUT,
            listing_timeout: DEFAULT_LISTING_TIMEOUT,
        }
    }

    /// What it holds. No request is answered while the guard lives.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// Whether an AMQP client may open a connection to the virtual host.
    pub fn can_log_in(&self, user: &str, password: &str) -> bool {
        self.state().can_log_in(user, password)
    }

    /// Opens a connection, which the broker knows of at once, and gives its name; `None` where the login is refused.
    pub fn connect(&self, user: &str, password: &str, connected_at: i64) -> Option<String> {
        let mut state = self.state();
        if !state.can_log_in(user, password) {
            return None;
        }
        let port = 40_000 + state.connections.len() + state.closed.len();
        let name = format!("127.0.0.1:{port} -> 127.0.0.1:5672");
        let connection = Connection { user: user.to_owned(), connected_at, listed: true };
        state.connections.insert(name.clone(), connection);
        Some(name)
    }

    /// Makes requests fail from now on. Of several faults for one request the first one made counts.
    pub fn fault(&self, fault: Fault) {
        self.0.faults.lock().unwrap().push(fault);
    }

    /// Ends all faults. A request that hangs goes on hanging.
    pub fn heal(&self) {
        self.0.faults.lock().unwrap().clear();
    }

    /// Lets all requests go on that hang at this moment.
    pub fn release(&self) {
        self.0.released.send_replace(());
    }

    /// How often `method` was asked of `path` (unescaped, without its query), answered or not.
    pub fn requests(&self, method: &str, path: &str) -> usize {
        self.0.requests.borrow().get(&format!("{method} {path}")).copied().unwrap_or(0)
    }

    /// How many requests came in all.
    pub fn all_requests(&self) -> usize {
        self.0.requests.borrow().values().sum()
    }

    /// Waits until `method` was asked of `path` at least `times`.
    pub async fn received(&self, method: &str, path: &str, times: usize) {
        let key = format!("{method} {path}");
        let enough = |seen: &BTreeMap<String, usize>| seen.get(&key).copied().unwrap_or(0) >= times;
        self.0.requests.subscribe().wait_for(enough).await.unwrap();
    }

    /// Loses everything, as a node does that restarts with an empty disk. Connections that are up stay so.
    pub fn restart_empty(&self) {
        *self.state() = State::empty();
    }

    /// Closes all connections; new ones are refused.
    pub async fn down(&self) {
        let serving = self.0.serving.lock().unwrap().take();
        if let Some((stop, task)) = serving {
            stop.send_replace(());
            task.await.unwrap();
        }
    }

    /// Listens again, at the same address.
    pub fn up(&self) {
        let listener = socket(self.0.addr).listen(128).unwrap();
        let (stop, stopped) = watch::channel(());
        let task = tokio::spawn(serve(self.clone(), listener, stopped));
        *self.0.serving.lock().unwrap() = Some((stop, task));
    }

    fn strike(&self, method: &str, path: &str) -> Option<Fault> {
        let mut faults = self.0.faults.lock().unwrap();
        let fault = faults.iter_mut().find(|fault| fault.hits(method, path))?;
        fault.times = fault.times.map(|left| left - 1);
        Some(fault.clone())
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Reply, Closed> {
        let asked = Asked::read(request).await.map_err(|_| Closed)?;
        let path = asked.path();
        self.0.requests.send_modify(|seen| *seen.entry(format!("{} {path}", asked.method)).or_default() += 1);
        let Some(Fault { failure, after_doing, .. }) = self.strike(&asked.method, &path) else {
            return Ok(asked.answer(&mut self.state()));
        };
        let done = after_doing.then(|| asked.answer(&mut self.state()));
        let reply = || done.clone().unwrap_or_else(|| asked.answer(&mut self.state()));
        Ok(match failure {
            Failure::Close => return Err(Closed),
            Failure::Hang => {
                let _ = self.0.released.subscribe().changed().await;
                reply()
            }
            Failure::Slow(time) => {
                tokio::time::sleep(time).await;
                reply()
            }
            Failure::Status(status) => Reply::failed(status, "fault", "as the test wants it"),
            Failure::Booting => Reply::absent(),
            Failure::Malformed => {
                let body = reply().body.unwrap_or_default();
                Reply { status: 200, body: Some(body[..body.len() / 2].to_owned()) }
            }
            Failure::EmptyList => Reply::ok(json!([])),
            Failure::Partial(items) => {
                let mut list: Vec<Value> = serde_json::from_str(&reply().body.unwrap_or_default()).unwrap_or_default();
                list.truncate(items);
                Reply::ok(json!(list))
            }
        })
    }
}

/// A socket bound to `addr`, to which another one may be bound too as long as this one doesn't listen.
fn socket(addr: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(addr).unwrap();
    socket
}

/// Serves until it is told to stop, then closes every connection.
async fn serve(handle: Handle, listener: TcpListener, mut stopped: watch::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            _ = stopped.changed() => break,
        };
        let handle = handle.clone();
        let service = hyper::service::service_fn(move |request| {
            let handle = handle.clone();
            async move { handle.answer(request).await.map(Reply::into_response) }
        });
        connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
    drop(listener);
    connections.shutdown().await;
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed without an answer")]
struct Closed;

/// An answer. `None` for no body.
#[derive(Debug, Clone)]
struct Reply {
    status: u16,
    body: Option<String>,
}

impl Reply {
    fn ok(body: Value) -> Reply {
        Reply { status: 200, body: Some(body.to_string()) }
    }

    fn done(new: bool) -> Reply {
        Reply { status: if new { 201 } else { 204 }, body: None }
    }

    fn gone(was_there: bool) -> Reply {
        if was_there { Reply::done(false) } else { Reply::absent() }
    }

    fn failed(status: u16, error: &str, reason: impl Into<Value>) -> Reply {
        let body = json!({ "error": error, "reason": reason.into() });
        Reply { status, body: Some(body.to_string()) }
    }

    fn bad(reason: impl Into<Value>) -> Reply {
        Reply::failed(400, "bad_request", reason)
    }

    fn absent() -> Reply {
        Reply::failed(404, "Object Not Found", "Not Found")
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::builder().status(StatusCode::from_u16(self.status).unwrap());
        if self.body.is_some() {
            response = response.header("content-type", "application/json");
        }
        if self.status == 401 {
            response = response.header("www-authenticate", "Basic realm=\"RabbitMQ Management\"");
        }
        response.body(Full::from(self.body.unwrap_or_default())).unwrap()
    }
}

/// A request, unescaped.
struct Asked {
    method: String,
    /// Those after `/api/`.
    segments: Vec<String>,
    query: BTreeMap<String, String>,
    basic: Option<String>,
    reason: String,
    body: Bytes,
}

impl Asked {
    async fn read(request: Request<Incoming>) -> Result<Asked, hyper::Error> {
        let (head, body) = request.into_parts();
        let unescaped = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let header =
            |name: &str| head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Ok(Asked {
            method: head.method.to_string(),
            segments: head
                .uri
                .path()
                .strip_prefix("/api/")
                .into_iter()
                .flat_map(|p| p.split('/').map(unescaped))
                .collect(),
            query: url::form_urlencoded::parse(head.uri.query().unwrap_or("").as_bytes()).into_owned().collect(),
            basic: header("authorization").and_then(|value| value.strip_prefix("Basic ").map(String::from)),
            reason: header("x-reason").unwrap_or_else(|| "Closed via management plugin".to_owned()),
            body: body.collect().await?.to_bytes(),
        })
    }

    fn path(&self) -> String {
        format!("/api/{}", self.segments.join("/"))
    }

    fn answer(&self, state: &mut State) -> Reply {
        if let Err(refused) = self.authenticate(state) {
            return refused;
        }
        let segments: Vec<&str> = self.segments.iter().map(String::as_str).collect();
        match (self.method.as_str(), &segments[..]) {
            ("GET", ["whoami"]) => Reply::ok(json!({ "name": USERNAME, "tags": ["administrator"] })),
            ("GET", ["vhosts", VHOST]) => {
                self.one(json!({ "name": VHOST, "cluster_state": { "rabbit@fake": "running" } }))
            }
            ("GET", ["vhosts", VHOST, "permissions"]) => self.list(state.permissions.iter().map(permissions_item)),
            ("GET", ["vhosts", VHOST, "connections"]) => {
                let listed = state.connections.iter().filter(|(_, of)| of.listed);
                self.list(listed.map(|(name, of)| {
                    json!({ "name": name, "vhost": VHOST, "user": of.user, "connected_at": of.connected_at })
                }))
            }
            ("GET", ["users"]) => self.list(state.users.values().map(user_item)),
            ("PUT", ["users", user]) => self.put_user(state, user),
            ("DELETE", ["users", user]) => Reply::gone(state.delete_user(user)),
            ("PUT", ["permissions", vhost, user]) => self.put_permissions(state, vhost, user),
            ("GET", ["queues", VHOST]) => self.list_queues(state),
            ("GET", ["queues", VHOST, queue]) => self.get_queue(state, queue),
            ("DELETE", ["queues", VHOST, queue]) => delete_queue(state, queue),
            ("GET", ["exchanges", VHOST]) => self.list(state.exchanges.iter().map(|name| json!({ "name": name }))),
            ("DELETE", ["exchanges", VHOST, exchange]) => delete_exchange(state, exchange),
            ("GET", ["connections", "username", user]) => {
                let theirs = state.connections.iter().filter(|(_, of)| of.user == *user);
                self.list(theirs.map(|(name, of)| json!({ "name": name, "vhost": VHOST, "user": of.user })))
            }
            ("DELETE", ["connections", "username", user]) => {
                for name in state.connections_of(user) {
                    state.close(&name, &self.reason);
                }
                Reply::done(false)
            }
            ("DELETE", ["connections", connection]) => {
                let open = state.connections.get(*connection).is_some_and(|of| of.listed);
                if open {
                    state.close(connection, &self.reason);
                }
                Reply::gone(open)
            }
            _ => Reply::absent(),
        }
    }

    fn authenticate(&self, state: &State) -> Result<(), Reply> {
        let Some(basic) = &self.basic else { return Err(Reply { status: 401, body: None }) };
        let decoded = String::from_utf8(STANDARD.decode(basic).unwrap_or_default()).unwrap_or_default();
        let (name, password) = decoded.split_once(':').unwrap_or_default();
        let known = state.users.get(name).filter(|user| user.hash.verifies(&Password::from_stored(password.into())));
        let Some(user) = known else { return Err(Reply::failed(401, "not_authorized", "Login failed")) };
        if user.tags.iter().any(|tag| tag == "administrator") {
            return Ok(());
        }
        Err(Reply::failed(401, "not_authorised", "Not management user"))
    }

    fn put_user(&self, state: &mut State, name: &str) -> Reply {
        let Ok(body) = serde_json::from_slice::<Value>(&self.body) else { return Reply::bad("not_json") };
        let Some(tags) = body["tags"].as_str() else { return Reply::bad("tags_not_present") };
        let tags = tags.split(',').filter(|tag| !tag.is_empty()).map(String::from).collect();
        let hash = match (&body["password_hash"], &body["password"]) {
            (Value::String(hash), _) if STANDARD.decode(hash).is_err() => {
                return Reply::bad(json!(["not_base64", hash]));
            }
            (Value::String(hash), _) => PasswordHash::from_broker(hash.clone()),
            (_, Value::String(password)) => Password::from_stored(password.clone()).hash(),
            // Neither is no mistake: it takes the password away.
            _ => PasswordHash::blocked(),
        };
        let user = BrokerUser { name: name.to_owned(), tags, hash };
        Reply::done(state.users.insert(name.to_owned(), user).is_none())
    }

    fn put_permissions(&self, state: &mut State, vhost: &str, user: &str) -> Reply {
        let Ok(body) = serde_json::from_slice::<Value>(&self.body) else { return Reply::bad("not_json") };
        let part =
            |key: &str| body[key].as_str().map(String::from).ok_or_else(|| Reply::bad(json!(["key_missing", key])));
        let (configure, write, read) = match (part("configure"), part("write"), part("read")) {
            (Ok(configure), Ok(write), Ok(read)) => (configure, write, read),
            (Err(bad), ..) | (_, Err(bad), _) | (.., Err(bad)) => return bad,
        };
        if vhost != VHOST || !state.users.contains_key(user) {
            return Reply::bad("vhost_or_user_not_found");
        }
        if let Some(bad) = [&configure, &write, &read].into_iter().find(|text| regex::Regex::new(text).is_err()) {
            return Reply::bad(json!(["invalid_regexp", bad.as_bytes()]));
        }
        Reply::done(state.permissions.insert(user.to_owned(), Permissions { configure, write, read }).is_none())
    }

    fn list_queues(&self, state: &State) -> Reply {
        let Some(wanted) = self.query.get("name") else {
            return self.list(state.queues.iter().map(|(name, queue)| self.queue_item(name, queue)));
        };
        let Ok(wanted) = regex::Regex::new(&format!("(?i){wanted}")) else { return Reply::bad("invalid regex") };
        let found = state.queues.iter().filter(|(name, _)| wanted.is_match(name));
        let items: Vec<_> = found.map(|(name, queue)| self.columns(self.queue_item(name, queue))).collect();
        Reply::ok(json!({ "items": items, "page": 1, "total_count": state.queues.len() }))
    }

    fn get_queue(&self, state: &State, name: &str) -> Reply {
        let Some(queue) = state.queues.get(name) else { return Reply::absent() };
        let mut item = self.queue_item(name, queue);
        let Some(fields) = item.as_object_mut() else { return Reply::absent() };
        if state.totals_in_lists_only && self.query.contains_key("disable_stats") {
            fields.remove("messages");
        }
        if let Some(owner) = queue.owner.as_ref().filter(|_| !self.query.contains_key("disable_stats")) {
            fields.insert(
                "owner_pid_details".into(),
                json!({ "name": owner, "peer_host": "127.0.0.1", "peer_port": 40_000 }),
            );
        }
        self.one(item)
    }

    /// A stream's total is never among the fresh ones.
    fn queue_item(&self, name: &str, queue: &Queue) -> Value {
        let (kind, exclusive) = match queue.kind {
            QueueKind::Classic => ("classic", json!(queue.owner.is_some())),
            QueueKind::Quorum => ("quorum", Value::Null),
            QueueKind::Stream => ("stream", Value::Null),
            QueueKind::Other => ("rabbit_mqtt_qos0_queue", json!(false)),
        };
        let mut item = json!({ "name": name, "vhost": VHOST, "type": kind, "exclusive": exclusive });
        let fresh = self.query.contains_key("enable_queue_totals") && queue.kind != QueueKind::Stream;
        if fresh || !self.query.contains_key("disable_stats") {
            item["messages"] = json!(queue.messages);
        }
        item
    }

    fn list(&self, items: impl Iterator<Item = Value>) -> Reply {
        Reply::ok(items.map(|item| self.columns(item)).collect())
    }

    /// An object that has none of the columns asked for comes as an empty list.
    fn one(&self, item: Value) -> Reply {
        let item = self.columns(item);
        Reply::ok(if item == json!({}) { json!([]) } else { item })
    }

    fn columns(&self, mut item: Value) -> Value {
        if let (Some(columns), Some(fields)) = (self.query.get("columns"), item.as_object_mut()) {
            fields.retain(|field, _| columns.split(',').any(|column| column == field));
        }
        item
    }
}

fn user_item(user: &BrokerUser) -> Value {
    let algorithm = "rabbit_password_hashing_sha256";
    json!({ "name": user.name, "tags": user.tags, "password_hash": user.hash.as_str(), "hashing_algorithm": algorithm })
}

fn permissions_item((user, may): (&String, &Permissions)) -> Value {
    json!({ "user": user, "vhost": VHOST, "configure": may.configure, "write": may.write, "read": may.read })
}

fn not_allowed() -> Reply {
    Reply::failed(401, "not_authorised", "Access refused.")
}

fn delete_queue(state: &mut State, name: &str) -> Reply {
    match state.queues.get(name) {
        None => Reply::absent(),
        Some(_) if !state.permissions.contains_key(USERNAME) => not_allowed(),
        Some(Queue { owner: Some(_), .. }) => Reply::bad(format!(
            "405 RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '{VHOST}'"
        )),
        Some(_) => Reply::gone(state.queues.remove(name).is_some()),
    }
}

fn delete_exchange(state: &mut State, name: &str) -> Reply {
    let reserved = name.is_empty() || name.starts_with("amq.");
    if reserved || (state.exchanges.contains(name) && !state.permissions.contains_key(USERNAME)) {
        return not_allowed();
    }
    Reply::gone(state.exchanges.remove(name))
}
