//! What is sent by who is not known costs no more than it takes to send it.

use std::io::Read as _;

use flate2::Compression;
use flate2::read::GzEncoder;
use reqwest::Method;
use serde_json::json;
use taskcluster_pulse::web::edge::limits::Limits;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

use super::recorder;
use super::site::{SOON, Site};

const X: &str = "/api/pulse/v1/namespace/taskcluster-x";

/// A query with so many parameters.
fn query(count: usize) -> String {
    (0..count).map(|number| format!("{number}")).collect::<Vec<_>>().join("&")
}

#[tokio::test]
async fn a_query_has_so_many_parameters_and_an_error_so_many_complaints() {
    let site = Site::new().await;
    for path in ["/v1/ping", "/v1/__heartbeat__", "/v1/namespaces", "/v1/namespace/taskcluster-x"] {
        let many = site.get(&format!("{path}?{}", query(5000))).send().await;
        assert_eq!(many.verdict(), (400, "InvalidRequestArguments"), "{path}: {}", many.text);
        assert_eq!(many.message(), "The query-string must not have more than 100 parameters.");
        let some = site.get(&format!("{path}?{}", query(100))).send().await;
        assert_eq!(some.verdict(), (400, "InvalidRequestArguments"), "{path}");
        let lines: Vec<_> = some.message().lines().collect();
        assert_eq!((lines.len(), lines[20]), (21, "and 80 more"), "{path}: {}", some.text);
        let long = site.get(&format!("{path}?{}", "x".repeat(20_000))).send().await;
        assert_eq!(long.verdict(), (400, "InvalidRequestArguments"), "{path}");
        assert!(long.bytes.len() < 2000, "{path}: {} bytes", long.bytes.len());
    }
    let same = site.get(&format!("/v1/namespaces?limit={}", "x".repeat(20_000))).send().await;
    assert!(same.verdict() == (400, "InvalidRequestArguments") && same.bytes.len() < 2000, "{}", same.text);
    let signed = site.ask(Method::POST, &format!("{X}?{}", query(5000))).json("{}").signed("test-client").send().await;
    assert_eq!(signed.verdict(), (400, "InvalidRequestArguments"));
    let unsigned = site.ask(Method::POST, &format!("{X}?{}", query(5000))).json("{}").send().await;
    assert_eq!(unsigned.verdict(), (403, "InsufficientScopes"));
}

#[tokio::test]
async fn a_payload_with_many_faults_is_answered_with_some_of_them() {
    let site = Site::new().await;
    let fields: Vec<_> = (0..1000).map(|number| format!("\"{number}\":0")).collect();
    let answer = site.claim("taskcluster-x", &format!("{{{}}}", fields.join(","))).send().await;
    assert_eq!(answer.verdict(), (400, "InputValidationError"), "{}", answer.text);
    assert!(answer.message().ends_with("\nand 980 more"), "{}", answer.message());
    let name = site.claim("taskcluster-x", &format!("{{\"{}\":0}}", "x".repeat(10_000))).send().await;
    assert!(name.verdict() == (400, "InputValidationError") && name.bytes.len() < 2000, "{}", name.text);
}

#[tokio::test]
async fn names_that_are_far_too_long_are_not_repeated() {
    let site = Site::new().await;
    for path in ["%22", "a", "%01"] {
        let name = path.repeat(20_000 / path.len());
        for method in [Method::GET, Method::POST] {
            let answer = site.ask(method, &format!("/v1/namespace/{name}")).json("{}").send().await;
            assert_eq!(answer.verdict(), (400, "InvalidRequestArguments"), "{path}");
            assert!(answer.bytes.len() < 1000, "{path}: {} bytes", answer.bytes.len());
        }
        let short = path.repeat(1000);
        let answer = site.ask(Method::POST, &format!("/v1/namespace/{short}")).json("{}").send().await;
        assert_eq!(answer.verdict(), (403, "InsufficientScopes"), "{path}: {}", answer.text);
        assert!(answer.bytes.len() < 16 * 1024, "{path}: {} bytes", answer.bytes.len());
    }
}

#[tokio::test]
async fn a_payload_is_repeated_up_to_a_few_kibibytes() {
    let site = Site::new().await;
    let (short, long) = (format!("[\"{}\"]", "a".repeat(4000)), format!("[\"{}\"]", "a".repeat(4200)));
    for sign in [false, true] {
        let ask = |body: &str| {
            let ask = site.ask(Method::POST, X).json(body);
            if sign { ask.signed("test-client") } else { ask }
        };
        let shown = ask(&short).send().await;
        assert!(shown.body["requestInfo"]["payload"][0].is_string(), "{}", shown.text);
        let left_out = ask(&long).send().await;
        assert_eq!(left_out.status, if sign { 400 } else { 403 });
        assert_eq!(left_out.body["requestInfo"]["method"], "claimNamespace");
        assert!(left_out.body["requestInfo"].get("payload").is_none(), "{}", left_out.text);
    }
    // Control characters take six times their room, and indentation a hundred times that.
    for text in ["\u{1}".repeat(16_000), format!("{}{}", "[".repeat(120), "1,".repeat(1900))] {
        let answer = site.ask(Method::POST, X).json(text.clone()).send().await;
        assert_eq!(answer.verdict(), (400, "MalformedPayload"), "{}", answer.text);
        assert!(answer.bytes.len() < text.len() + 4000, "{} bytes", answer.bytes.len());
    }
}

#[tokio::test]
async fn no_endpoint_takes_a_longer_body_than_it_needs() {
    let site = Site::wish(|wishes| wishes.settings.body_limit = 10 << 20).await;
    let mut bomb = Vec::new();
    GzEncoder::new(std::io::repeat(b' ').take(10 << 20), Compression::best()).read_to_end(&mut bomb).unwrap();
    for (method, path, most) in [
        (Method::POST, X, 16 * 1024),
        (Method::GET, "/v1/ping", 1024),
        (Method::GET, "/v1/namespaces", 1024),
        (Method::GET, X, 1024),
    ] {
        let ask = |length: usize| site.ask(method.clone(), path).json(" ".repeat(length));
        let fits = ask(most).send().await;
        assert_eq!(fits.verdict(), (400, "MalformedPayload"), "{path}: {}", fits.text);
        let long = ask(most + 1).send().await;
        assert_eq!(long.verdict(), (413, "InputTooLarge"), "{path}: {}", long.text);
        let inflated =
            site.ask(method.clone(), path).json(bomb.clone()).header("content-encoding", "gzip").send().await;
        assert_eq!(inflated.verdict(), (413, "InputTooLarge"), "{path}: {}", inflated.text);
        assert!(
            inflated.bytes.len() < 1000 && inflated.body["requestInfo"]["payload"] == json!({}),
            "{}",
            inflated.text
        );
    }
}

/// Who asks for much and does not read it takes no more than there is for all, and leaves small things to others.
#[tokio::test]
async fn a_reply_counts_until_it_is_written() {
    let site = Site::wish(|wishes| {
        wishes.settings.edge.limits = Limits { bodies: 60_000, spare_rate: u32::MAX, ..Limits::default() };
        wishes.connections.patience.reply = 6 * SOON;
        wishes.connections.drain = std::time::Duration::ZERO;
    });
    let site = site.await;
    for number in 0..200 {
        site.world.claim(&format!("taskcluster-{number}")).await.unwrap();
    }
    let list = || site.get("/v1/namespaces").send();
    assert_eq!(list().await.status, 200);
    // So many that their replies do not fit into what the system keeps for a connection.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    let mut held = socket.connect(([127, 0, 0, 1], site.url.port().unwrap()).into()).await.unwrap();
    let ask = "GET /v1/namespaces HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2000);
    held.write_all(ask.as_bytes()).await.unwrap();
    let refused = async {
        loop {
            let answer = list().await;
            if answer.status == 503 {
                return answer;
            }
        }
    };
    let refused = tokio::time::timeout(6 * SOON, refused).await.expect("there is room for all");
    assert_eq!(refused.verdict(), (503, "ServiceUnavailable"), "{}", refused.text);
    assert!(!refused.header("retry-after").is_empty());
    site.claim("taskcluster-x", "{}").send().await.good();
    assert_eq!(site.get("/v1/ping").send().await.status, 200);
    drop(held);
    let good = async { while list().await.status != 200 {} };
    tokio::time::timeout(SOON, good).await.expect("room that is never given back");
}

/// One connection, which asks as fast as it is answered.
#[tokio::test]
async fn what_takes_no_place_is_paced_and_claims_are_not() {
    let site = Site::wish(|wishes| wishes.settings.edge.limits.spare_rate = 10).await;
    let began = std::time::Instant::now();
    for path in ["/v1/ping", "/nope", "/v1/nope", "/__version__", "/references/pulse/v1/api.json", "/v1/ping?x=1"] {
        for _ in 0..7 {
            site.get(path).send().await;
        }
    }
    // What the connection has of its own, and two a second more, and ten that all have together.
    assert!(began.elapsed().as_secs_f64() > (42.0 - 20.0 - 2.0) / 12.0 - 0.5, "{:?}", began.elapsed());
    let answer = site.get("/v1/ping").send().await;
    let line = recorder::line(&[("requestId", json!(answer.header("x-for-request-id")))]).await;
    assert_eq!(line["statusCode"], 200);
    let elsewhere = site.raw("GET /__lbheartbeat__ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(elsewhere.starts_with("HTTP/1.1 200 "), "{elsewhere}");
    site.claim("taskcluster-x", "{}").send().await.good();
}
