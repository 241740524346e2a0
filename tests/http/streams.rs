//! Replies that are made while they are written, on the server as it is.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures::StreamExt as _;
use taskcluster_pulse::web::edge::connection::Patience;
use taskcluster_pulse::web::edge::server::{Connections, serve};
use taskcluster_pulse::web::edge::stream::Bounds;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::site::{SOON, until_closed};

/// For how long a connection may idle, and a head may take.
const IDLE: Duration = Duration::from_millis(400);
/// How long it takes until there is more of a stream.
const STEP: Duration = Duration::from_millis(50);

const LAST: &str = "\r\n0\r\n\r\n";

/// A reply of so many pieces, one a step.
fn stream(pieces: usize) -> Response {
    let pieces = futures::stream::iter(0..pieces).then(|number| async move {
        tokio::time::sleep(STEP).await;
        Ok::<_, Infallible>(format!("piece {number};"))
    });
    Body::from_stream(pieces).into_response()
}

fn bounded(bounds: Bounds) -> Response {
    let mut response = stream(usize::MAX);
    response.extensions_mut().insert(bounds);
    response
}

struct Site {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Site {
    async fn new() -> Site {
        let short = Bounds { time: STEP * 10, ..Bounds::default() };
        let small = Bounds { size: 50, ..Bounds::default() };
        let router = Router::new()
            .route("/long", get(|| async { stream(40) }))
            .route("/endless", get(|| async { stream(usize::MAX) }))
            .route("/short", get(move || async move { bounded(short) }))
            .route("/small", get(move || async move { bounded(small) }))
            .route("/large", get(|| async { vec![b'a'; 16 << 20] }))
            .route("/ping", get(|| async { "pong" }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let patience = Patience { idle: IDLE, head: IDLE, reply: SOON };
        let connections = Connections { patience, drain: IDLE, most: 10, trusted_proxies: Vec::new() };
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve(listener, router, connections, async { stopped.await.unwrap_or_default() }));
        Site { address, stop, serving }
    }

    async fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        send(&mut stream, path).await;
        stream
    }
}

async fn send(stream: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, work).await.expect("it takes too long")
}

async fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut read = String::new();
    while !read.ends_with(end) {
        let mut bytes = vec![0; 64 * 1024];
        let count = soon(stream.read(&mut bytes)).await.unwrap();
        assert!(count > 0, "it ended after {} bytes: {read:.400}", read.len());
        read.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    read
}

#[tokio::test]
async fn a_reply_may_take_longer_than_a_connection_may_idle() {
    let site = Site::new().await;
    let mut connection = site.ask("/long").await;
    let read = read_to(&mut connection, LAST).await;
    assert!(read.contains("piece 39;"), "{read}");
    // The connection is as good as new, and idles no longer than others.
    send(&mut connection, "/ping").await;
    read_to(&mut connection, "pong").await;
    assert_eq!(until_closed(&mut connection).await, "");
}

/// All of it is made at once, and takes longer than that to be read.
#[tokio::test]
async fn a_reply_that_is_read_slowly_may_too() {
    let site = Site::new().await;
    let mut connection = site.ask("/large").await;
    let (mut read, mut bytes) = (0, vec![0; 64 * 1024]);
    while read < 16 << 20 {
        if read < 10 * bytes.len() {
            tokio::time::sleep(IDLE / 2).await;
        }
        let count = soon(connection.read(&mut bytes)).await.unwrap();
        assert!(count > 0, "it ended after {read} bytes");
        read += count;
    }
    assert_eq!(until_closed(&mut connection).await, "", "it idles no longer than others");
}

#[tokio::test]
async fn a_reply_that_gets_past_its_bounds_is_cut_off() {
    let site = Site::new().await;
    for path in ["/short", "/small"] {
        let read = until_closed(&mut site.ask(path).await).await;
        assert!(read.contains("piece 3;") && !read.contains("piece 15;"), "{path}: {read}");
        assert!(!read.ends_with(LAST), "{path}: {read}");
    }
}

#[tokio::test]
async fn a_reply_without_an_end_holds_up_no_drain() {
    let site = Site::new().await;
    let mut connection = site.ask("/endless").await;
    read_to(&mut connection, "piece 0;\r\n").await;
    site.stop.send(()).unwrap();
    soon(site.serving).await.unwrap();
    let read = until_closed(&mut connection).await;
    assert!(!read.ends_with(LAST), "{read}");
}
