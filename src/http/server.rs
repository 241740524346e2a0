//! Connections: accepted, limited in time, and drained when the process is to end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

use super::Peer;
use super::connection::{Connection, Patience, Progress};

/// How connections are treated.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// How long the other end may take. A proxy in front must give up an idle connection sooner than we do.
    pub patience: Patience,
    /// How long requests that are under way may go on once the process is to end.
    pub drain: Duration,
}

/// The longest head of a request, in bytes; a longer one is answered by 431. Node's services take half of it.
const LONGEST_HEAD: usize = 32 * 1024;

/// Serves `router` until `stop` is ready; then accepts no more, lets what is under way finish, and returns.
pub async fn serve(listener: TcpListener, router: Router, settings: Connections, stop: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    // The connection's own limits come first. With this one, hyper looks at a connection when its turn to wait begins.
    let Patience { idle, head, .. } = settings.patience;
    http.timer(TokioTimer::new()).header_read_timeout(idle.saturating_add(head));
    http.max_buf_size(2 * LONGEST_HEAD).max_header_size(LONGEST_HEAD);
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = (stream, Peer(peer.ip()), settings.patience);
                tokio::spawn(answer(http.clone(), connection, router.clone(), graceful.watcher()));
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

/// Answers the requests of one connection.
async fn answer(
    http: http1::Builder,
    (stream, peer, patience): (TcpStream, Peer, Patience),
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
        let (router, progress) = (router.clone(), progress.clone());
        async move {
            let response = router.oneshot(request).await?;
            progress.end(response.headers().contains_key(header::CONNECTION));
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    if let Err(error) = watcher.watch(http.serve_connection(TokioIo::new(connection), service)).await {
        tracing::debug!("a connection from {} ended: {error}", peer.0);
    }
}
