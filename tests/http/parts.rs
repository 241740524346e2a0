//! Parts that are served without the API, with what goes around every request.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use taskcluster_pulse::web::edge::around::{Edge, Settings};
use taskcluster_pulse::web::edge::connection::Patience;
use taskcluster_pulse::web::edge::limits::Limits;
use taskcluster_pulse::web::edge::reply::Face;
use taskcluster_pulse::web::edge::server::{Connections, serve};
use taskcluster_pulse::web::monitor::{self, Monitor};
use taskcluster_pulse::web::surrounded;
use tokio::net::TcpListener;

use super::site::SOON;
use crate::support::world::{BrokerKind, StoreKind, World};

/// Serves this part, with room for 10 kB of bodies.
async fn start(part: Router) -> String {
    taskcluster_pulse::tls::install_crypto_provider();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let limits = Limits { bodies: 10_000, ..Limits::default() };
    let (force_ssl, trust_proxy, trusted_proxies) = (false, false, Vec::new());
    let edge = Arc::new(Edge::new(Settings { force_ssl, trust_proxy, trusted_proxies, limits, ..Settings::default() }));
    let patience = Patience { idle: SOON, head: SOON, reply: SOON };
    let connections = Connections { patience, drain: SOON, most: 10, trusted_proxies: Vec::new() };
    tokio::spawn(serve(listener, surrounded(edge, part), connections, std::future::pending()));
    url
}

#[tokio::test]
async fn monitoring_is_served_without_the_api() {
    let world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let monitor = Monitor::new(Arc::new(world.service()), None, world.clock.clone());
    let url = start(monitor::router(Arc::new(monitor), false)).await;
    for (path, status) in [
        ("/__heartbeat__", 200),
        ("/__lbheartbeat__", 200),
        ("/__version__", 200),
        ("/api/pulse/v1/ping", 404),
        ("/api/pulse/v1/namespaces", 404),
        ("/references/manifest.json", 404),
    ] {
        let reply = reqwest::get(format!("{url}{path}")).await.unwrap();
        assert_eq!(reply.status().as_u16(), status, "{path}");
        assert!(reply.headers().contains_key("x-for-request-id"), "{path}");
        assert_eq!(reply.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
    }
}

const PAGES: Face = Face {
    policy: "default-src 'self'",
    refuse: |overload| {
        let headers = [(header::CONTENT_TYPE, "text/html"), (header::RETRY_AFTER, "1")];
        (StatusCode::SERVICE_UNAVAILABLE, headers, format!("<p>{}</p>", overload.message)).into_response()
    },
};

fn page(length: usize) -> Response {
    let mut response = "a".repeat(length).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
    response.extensions_mut().insert(PAGES);
    response
}

#[tokio::test]
async fn each_part_has_a_policy_and_refusals_of_its_own() {
    let part = Router::new()
        .route("/page", get(|| async { page(100) }))
        .route("/large", get(|| async { page(100_000) }))
        .route("/plain", get(|| async { "a".repeat(100_000) }));
    let url = start(part).await;
    for (path, status, kind, policy) in [
        ("/page", 200, "text/html", "default-src 'self'"),
        ("/large", 503, "text/html", "default-src 'self'"),
        ("/plain", 503, "application/json; charset=utf-8", "default-src 'none'"),
    ] {
        let reply = reqwest::get(format!("{url}{path}")).await.unwrap();
        assert_eq!(reply.status().as_u16(), status, "{path}");
        assert_eq!(reply.headers()[header::CONTENT_TYPE], kind, "{path}");
        let given = reply.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(given.contains(policy), "{path}: {given}");
    }
}
