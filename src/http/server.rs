//! Connections: accepted, limited in number and time, and drained when the process is to end.
//!
//! Once there are as many as are taken, a few more are accepted all the same. On each of them one request is answered: by 503
//! with `Retry-After`, or as usual where it is about monitoring. If they were not accepted, clients and balancers would wait
//! for their time-outs, of half a minute often, and a balancer would take a process that is busy for one that is dead. With
//! an answer, clients come back in a moment, and a balancer can ask another process. Only past that, connections are left to
//! the system's queue.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt as _;

use super::connection::{Connection, Patience, Progress};
use super::{Crowded, Peer};

/// How connections are treated.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// How long the other end may take. A proxy in front must give up an idle connection sooner than we do.
    pub patience: Patience,
    /// How long requests that are under way may go on once the process is to end.
    pub drain: Duration,
    /// How many there are at a time.
    pub most: usize,
}

/// How many connections are accepted past that, and answered only once.
const RESERVE: usize = 64;
/// How many files a process may need for everything else: the database, RabbitMQ, the log.
const OTHER_FILES: usize = 128;
/// How many connections the system accepts for us before we do; it may set a lower limit of its own.
const BACKLOG: u32 = 4096;
/// How long a connection past the number that is taken may be idle.
const CROWDED_IDLE: Duration = Duration::from_secs(5);

/// The longest head of a request, in bytes; a longer one is answered by 431. Node's services take half of it.
const LONGEST_HEAD: usize = 32 * 1024;

/// Listens at `address`.
///
/// # Errors
/// Those of the system.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Lets the process open as many files as so many connections need, and gives how many connections it can take; fewer, and a
/// sentence about it, where the system does not allow it.
pub fn room_for(connections: usize) -> (usize, Option<String>) {
    let needed = connections.saturating_add(RESERVE + OTHER_FILES);
    let files = |limit: Option<u64>| limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let limit = getrlimit(Resource::Nofile);
    if files(limit.current) >= needed {
        return (connections, None);
    }
    let allowed = needed.min(files(limit.maximum));
    let raised = Rlimit { current: Some(allowed as u64), maximum: limit.maximum };
    let open = if setrlimit(Resource::Nofile, raised).is_ok() { allowed } else { files(limit.current) };
    if open >= needed {
        return (connections, None);
    }
    let fits = open.saturating_sub(RESERVE + OTHER_FILES).max(1);
    let warning = format!(
        "the process may open {open} files, which is enough for {fits} connections, and not for the {connections} of \
         server.maxConnections: allow it {needed} (`ulimit -n`, or LimitNOFILE= of systemd)"
    );
    (fits, Some(warning))
}

/// Serves `router` until `stop` is ready; then accepts no more, lets what is under way finish, and returns.
pub async fn serve(listener: TcpListener, router: Router, settings: Connections, stop: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    // The connection's own limits come first. With this one, hyper looks at a connection when its turn to wait begins.
    let Patience { idle, head, .. } = settings.patience;
    http.timer(TokioTimer::new()).header_read_timeout(idle.saturating_add(head));
    http.max_buf_size(2 * LONGEST_HEAD).max_header_size(LONGEST_HEAD);
    let places = Arc::new(Semaphore::new(settings.most.saturating_add(RESERVE).min(Semaphore::MAX_PERMITS)));
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                let crowded = (places.available_permits() < RESERVE).then_some(Crowded);
                let mut patience = settings.patience;
                if crowded.is_some() {
                    patience.idle = patience.idle.min(CROWDED_IDLE);
                }
                let (http, router, watcher) = (http.clone(), router.clone(), graceful.watcher());
                tokio::spawn(async move {
                    answer(http, (stream, Peer(peer.ip()), patience, crowded), router, watcher).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to be closed.
                tracing::error!("a connection could not be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(settings.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not finish within {:?}, and are cut off", settings.drain);
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

/// Answers the requests of one connection; one that is crowded, but one.
async fn answer(
    http: http1::Builder,
    (stream, peer, patience, crowded): (TcpStream, Peer, Patience, Option<Crowded>),
    router: Router,
    watcher: Watcher,
) {
    // Answers are written in one piece, so there is nothing to wait for.
    let _ = stream.set_nodelay(true);
    let progress = Arc::new(Progress::default());
    let connection = Connection::new(stream, patience, progress.clone());
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        progress.begin();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        crowded.map(|crowded| request.extensions_mut().insert(crowded));
        let (router, progress) = (router.clone(), progress.clone());
        async move {
            let mut response = router.oneshot(request).await?;
            if response.status() == StatusCode::NOT_MODIFIED {
                // axum says how long each body is, and what is not sent again is not of no length. (RFC 9110, section 8.6.)
                response.headers_mut().remove(header::CONTENT_LENGTH);
            }
            if crowded.is_some() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            progress.end(response.headers().contains_key(header::CONNECTION));
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    if let Err(error) = watcher.watch(http.serve_connection(TokioIo::new(connection), service)).await {
        tracing::debug!("a connection from {} ended: {error}", peer.0);
    }
}
