//! Connections: accepted, limited in time, and drained when the process is to end.

use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

use super::Peer;

/// How connections are treated.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// How long a connection may be idle between requests, and how long the head of a request may take to arrive. A
    /// proxy in front must give up an idle connection sooner.
    pub keep_alive: Duration,
    /// How long requests that are under way may go on once the process is to end.
    pub drain: Duration,
}

/// Serves `router` until `stop` is ready; then accepts no more, lets what is under way finish, and returns.
pub async fn serve(listener: TcpListener, router: Router, settings: Connections, stop: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(settings.keep_alive);
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                tokio::spawn(connection(http.clone(), stream, Peer(peer.ip()), router.clone(), graceful.watcher()));
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

async fn connection(http: http1::Builder, stream: TcpStream, peer: Peer, router: Router, watcher: Watcher) {
    // Answers are written in one piece, so there is nothing to wait for.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
    });
    if let Err(error) = watcher.watch(http.serve_connection(TokioIo::new(stream), service)).await {
        tracing::debug!("a connection from {} ended: {error}", peer.0);
    }
}
