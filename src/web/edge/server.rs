//! Connections: accepted, limited in number and time, and drained when the process is to end.
//!
//! Once there are as many as are taken, or as one address has (see `seats`), a few more are accepted all the same. On each of
//! them one request is answered: by 503 with `Retry-After`, or as usual where it is about monitoring. If they were not
//! accepted, clients and balancers would wait for their time-outs, of half a minute often, and a balancer would take a process
//! that is busy for one that is dead. With an answer, clients come back in a moment, and a balancer can ask another process.
//! Only past that, connections are left to the system's queue, or closed where one address has too many.

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
use ipnet::IpNet;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::connection::{Connection, Patience, Progress};
use super::pace::Allowance;
use super::peer::Peer;
use super::seats::{RESERVE, Room, Seat, Seats};
use super::stream::{Answering, Bounded, Bounds};

/// How connections are treated.
#[derive(Debug, Clone)]
pub struct Connections {
    /// How long the other end may take. A proxy in front must give up an idle connection sooner than we do.
    pub patience: Patience,
    /// How long requests that are under way may go on once the process is to end.
    pub drain: Duration,
    /// How many there are at a time; one address has half of them.
    pub most: usize,
    /// The proxies in front of us, each of which may have all.
    pub trusted_proxies: Vec<IpNet>,
}

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
    let seats = Seats::new(settings.most, settings.trusted_proxies);
    // Those that are still there at the end are cut off as this is dropped.
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &seats) => accepted,
            Some(_) = connections.join_next() => continue,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer, room)) => {
                let Some(seat) = seats.take(peer.ip(), room) else {
                    tracing::debug!("a connection from {} is closed, which has too many", peer.ip());
                    continue;
                };
                let mut patience = settings.patience;
                if seat.crowded.is_some() {
                    patience.idle = patience.idle.min(CROWDED_IDLE);
                }
                let (http, router, watcher) = (http.clone(), router.clone(), graceful.watcher());
                connections.spawn(answer(http, (stream, Peer(peer.ip()), patience, seat), router, watcher));
            }
            Err(error) if is_of_one_connection(&error) => tracing::debug!("a connection was lost: {error}"),
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

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, seats: &Seats) -> io::Result<(TcpStream, SocketAddr, Room)> {
    let room = seats.room().await.ok_or_else(|| io::Error::other("no connections are taken any more"))?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, room))
}

/// Whether it is only one connection that could not be accepted, because of its other end or its network, so that the next
/// one need not wait. (accept(2): Linux tells of these what is to be told of the new socket.)
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::INTR
                | Errno::PERM
                | Errno::PROTO
                | Errno::TIMEDOUT
                | Errno::NETDOWN
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::NONET
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::NETUNREACH
        )
    )
}

/// Answers the requests of one connection; one that is crowded, but one.
async fn answer(
    http: http1::Builder,
    (stream, peer, patience, seat): (TcpStream, Peer, Patience, Seat),
    router: Router,
    watcher: Watcher,
) {
    // Answers are written in one piece, so there is nothing to wait for.
    let _ = stream.set_nodelay(true);
    let allowance = Allowance::new(tokio::time::Instant::now());
    let (progress, crowded) = (Arc::new(Progress::default()), seat.crowded);
    let connection = Connection::new(stream, patience, progress.clone());
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        progress.begin();
        let answering = Answering(progress.clone());
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(allowance.clone());
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
            if response.headers().contains_key(header::CONNECTION) {
                progress.close();
            }
            let bounds = response.extensions().get::<Bounds>().copied().unwrap_or_default();
            Ok::<_, std::convert::Infallible>(response.map(|body| Bounded::new(body, bounds, answering)))
        }
    });
    if let Err(error) = watcher.watch(http.serve_connection(TokioIo::new(connection), service)).await {
        tracing::debug!("a connection from {} ended: {error}", peer.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_one_connection_delays_no_other() {
        let (of_one, of_all) = (
            [Errno::CONNABORTED, Errno::PROTO, Errno::PERM, Errno::HOSTUNREACH, Errno::NETDOWN, Errno::INTR],
            [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::INVAL, Errno::BADF],
        );
        for error in of_one {
            assert!(is_of_one_connection(&error.into()), "{error}");
        }
        for error in of_all {
            assert!(!is_of_one_connection(&error.into()), "{error}");
        }
        assert!(!is_of_one_connection(&io::Error::other("closed")));
    }
}
