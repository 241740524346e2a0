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

mod node;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use taskcluster_pulse::broker::management::{Account, DEFAULT_LISTING_TIMEOUT, DEFAULT_TIMEOUT, ManagementConfig};
use taskcluster_pulse::secret::Password;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use node::{Asked, Reply};
pub use node::{Connection, PASSWORD, Queue, State, USERNAME, VHOST};

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
    then: Option<fn(&mut State)>,
}

impl Fault {
    /// Every request fails so, without being carried out.
    pub fn new(failure: Failure) -> Fault {
        Fault { failure, method: None, path: String::new(), times: None, after_doing: false, then: None }
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

    /// Right after that, somebody else does this at the broker, before another request is answered.
    pub fn then(self, happens: fn(&mut State)) -> Fault {
        Fault { then: Some(happens), ..self }
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
            busy: Mutex::default(),
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
    busy: Mutex<Busy>,
    released: watch::Sender<()>,
    serving: Mutex<Option<(watch::Sender<()>, JoinHandle<()>)>>,
}

/// How many requests are under way, and how many were at most.
#[derive(Default)]
struct Busy {
    now: usize,
    most: usize,
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
            base_urls: vec![self.url().parse().unwrap()],
            trust: Default::default(),
            account: Account { username: USERNAME.into(), password: Password::from_stored(PASSWORD.into()) },
            fallback: None,
            tokens: None,
            metrics: None,
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

    /// How many requests were under way at most at any time.
    pub fn busiest(&self) -> usize {
        self.0.busy.lock().unwrap().most
    }

    /// How often `method` was asked of `path` (unescaped, without its query), answered or not.
    pub fn requests(&self, method: &str, path: &str) -> usize {
        self.0.requests.borrow().get(&format!("{method} {path}")).copied().unwrap_or(0)
    }

    /// How many requests came in all.
    pub fn all_requests(&self) -> usize {
        self.0.requests.borrow().values().sum()
    }

    /// How many of them were looks.
    pub fn looks(&self) -> usize {
        self.0.requests.borrow().iter().filter(|(asked, _)| asked.starts_with("GET ")).map(|(_, times)| times).sum()
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
        // Before the request is counted, so that a test may release what it has seen to be received.
        let mut released = self.0.released.subscribe();
        self.0.requests.send_modify(|seen| *seen.entry(format!("{} {path}", asked.method)).or_default() += 1);
        let Some(Fault { failure, after_doing, then, .. }) = self.strike(&asked.method, &path) else {
            return Ok(asked.answer(&mut self.state()));
        };
        let done = {
            let mut state = self.state();
            let done = after_doing.then(|| asked.answer(&mut state));
            if let Some(happens) = then {
                happens(&mut state);
            }
            done
        };
        let reply = || done.clone().unwrap_or_else(|| asked.answer(&mut self.state()));
        Ok(match failure {
            Failure::Close => return Err(Closed),
            Failure::Hang => {
                let _ = released.changed().await;
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

/// A request that is under way.
struct UnderWay<'a>(&'a Shared);

impl UnderWay<'_> {
    fn begin(shared: &Shared) -> UnderWay<'_> {
        let mut busy = shared.busy.lock().unwrap();
        busy.now += 1;
        busy.most = busy.most.max(busy.now);
        drop(busy);
        UnderWay(shared)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.busy.lock().unwrap().now -= 1;
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
            async move {
                let _busy = UnderWay::begin(&handle.0);
                handle.answer(request).await.map(Reply::into_response)
            }
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
