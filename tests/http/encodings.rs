//! Compressed replies, and compressed bodies of requests.

use std::io::Read;

use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder, ZlibDecoder, ZlibEncoder};
use reqwest::{Method, StatusCode};

use super::site::{Answer, Site};
use crate::support::world::{BrokerKind, StoreKind, World};

const X: &str = "/api/pulse/v1/namespace/taskcluster-x";
const LIST: &str = "/api/pulse/v1/namespaces";
const CODINGS: [&str; 3] = ["br", "gzip", "deflate"];

fn all(mut reader: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

fn compressed(coding: &str, plain: &[u8]) -> Vec<u8> {
    match coding {
        "br" => all(brotli::CompressorReader::new(plain, 4096, 1, 20)),
        "gzip" => all(GzEncoder::new(plain, Compression::fast())),
        _ => all(ZlibEncoder::new(plain, Compression::fast())),
    }
}

/// The text of a reply, once its encoding is undone.
fn inflated(answer: &Answer) -> String {
    let bytes = answer.bytes.as_slice();
    let plain = match answer.header("content-encoding") {
        "br" => all(brotli::Decompressor::new(bytes, 4096)),
        "gzip" => all(GzDecoder::new(bytes)),
        "deflate" => all(ZlibDecoder::new(bytes)),
        "" => bytes.to_vec(),
        other => panic!("an unknown encoding: {other}"),
    };
    String::from_utf8(plain).unwrap()
}

/// A service with a list that is long enough to be compressed.
async fn site() -> Site {
    let site = Site::new().await;
    for number in 0..12 {
        site.world.claim(&format!("taskcluster-{number}")).await.unwrap();
    }
    site
}

#[tokio::test]
async fn long_replies_are_compressed_as_the_caller_likes_and_hold_the_same() {
    let site = site().await;
    let plain = site.get(LIST).send().await;
    let vary = "Accept-Encoding, Authorization";
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", vary));
    for (accepted, coding) in [
        ("br", "br"),
        ("gzip, deflate, br", "br"),
        ("gzip, deflate", "gzip"),
        ("br;q=0.5, gzip;q=0.8, deflate;q=0.7", "gzip"),
        ("deflate", "deflate"),
        ("*", "br"),
        ("*, br;q=0", "gzip"),
        ("identity", ""),
        ("br;q=0, gzip;q=0.0, *;q=0", ""),
        ("identity;q=0", ""),
        ("compress", ""),
    ] {
        let get = site.get(LIST).header("accept-encoding", accepted).send().await;
        assert_eq!((get.status.as_u16(), get.header("content-encoding")), (200, coding), "{accepted}");
        assert_eq!(inflated(&get), plain.text, "{accepted}");
        assert_eq!(get.header("content-length"), get.bytes.len().to_string(), "{accepted}");
        assert_eq!((get.header("etag"), get.header("vary")), (plain.header("etag"), vary), "{accepted}");
        assert!(coding.is_empty() || get.bytes.len() < plain.bytes.len() / 2, "{accepted}: {}", get.bytes.len());

        let head = site.ask(Method::HEAD, LIST).header("accept-encoding", accepted).send().await;
        assert_eq!(head.text, "");
        for name in ["content-encoding", "content-length", "content-type", "etag", "vary"] {
            assert_eq!(head.header(name), get.header(name), "{accepted} {name}");
        }
    }
}

#[tokio::test]
async fn errors_are_compressed_too_and_short_replies_and_those_out_of_the_api_are_not() {
    let site = site().await;
    let long = format!("{{\"contact\": \"{}\"}}", "a".repeat(2000));
    for (ask, status, coding) in [
        (site.claim("taskcluster-x", &long), 400, "gzip"),
        (site.ask(Method::POST, X).json(long.clone()), 403, "gzip"),
        (site.get("/api/pulse/v1/namespaces?limit=1"), 200, ""),
        (site.get("/v1/namespaces"), 200, "gzip"),
        (site.get("/v1/nope"), 404, ""),
        (site.get("/references/pulse/v1/api.json"), 200, ""),
    ] {
        let answer = ask.header("accept-encoding", "gzip").send().await;
        let got = (answer.status.as_u16(), answer.header("content-encoding"));
        assert_eq!(got, (status, coding), "{}", answer.text);
        let body: serde_json::Value = serde_json::from_str(&inflated(&answer)).unwrap();
        assert!(status != 400 || body["requestInfo"]["payload"]["contact"].as_str().unwrap().len() == 2000);
    }
}

#[tokio::test]
async fn whoever_has_a_compressed_reply_already_is_told_so() {
    let site = site().await;
    let get = || site.get(LIST).header("accept-encoding", "gzip");
    let first = get().send().await;
    assert_eq!(first.header("content-encoding"), "gzip");
    let again = get().header("if-none-match", first.header("etag")).send().await;
    assert_eq!((again.status, again.bytes.len()), (StatusCode::NOT_MODIFIED, 0));
    for (name, value) in
        [("content-encoding", ""), ("etag", first.header("etag")), ("vary", "Accept-Encoding, Authorization")]
    {
        assert_eq!(again.header(name), value, "{name}");
    }
}

/// Its length would tell of the password to whoever chooses another part of it.
#[tokio::test]
async fn a_reply_that_holds_a_connection_string_is_never_compressed() {
    let mut world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    world.policy.connection.suffix = format!("?{}", "a".repeat(4000));
    let site = Site::on(world, |_| ()).await;
    let claimed = site.claim("taskcluster-x", "{}").header("accept-encoding", "br, gzip").send().await;
    assert_eq!(claimed.header("content-encoding"), "");
    assert!(claimed.good()["connectionString"].as_str().unwrap().len() > 4000);
}

#[tokio::test]
async fn compressed_payloads_are_read_and_a_signature_covers_what_is_in_them() {
    let site = Site::new().await;
    for (number, coding) in CODINGS.into_iter().enumerate() {
        let payload = format!("{{\"contact\": \"a{number}@a.com\"}}");
        let claim = site.claim("taskcluster-x", &payload).header("content-encoding", coding);
        claim.clone().body(compressed(coding, payload.as_bytes())).send().await.good();
        let shown = site.get(X).signed("test-client").send().await.good();
        assert_eq!(shown["contact"], format!("a{number}@a.com"), "{coding}");

        let forged = claim.body(compressed(coding, b"{\"contact\": \"b@b.com\"}")).send().await;
        assert_eq!(forged.verdict(), (401, "AuthenticationFailed"), "{coding}: {}", forged.text);
        assert_eq!(site.get(X).signed("test-client").send().await.good(), shown);
    }
    // The same text in another charset; the letter is wrong in an address, which is looked at after the signature.
    let text = "{\"contact\": \"\u{e9}@a.com\"}";
    let latin = site.ask(Method::POST, X).header("content-type", "application/json;charset=latin1").body(text);
    let latin = latin.signed("test-client").body(&b"{\"contact\": \"\xe9@a.com\"}"[..]).send().await;
    assert_eq!(latin.verdict(), (400, "InputValidationError"), "{}", latin.text);
}

#[tokio::test]
async fn what_is_too_long_once_inflated_is_refused_as_if_it_had_come_so() {
    let site = Site::new().await;
    let longest = format!("{{}}{}", " ".repeat(16 * 1024 - 2));
    let bomb = vec![b' '; 1 << 20];
    for coding in CODINGS {
        let claim = site.claim("taskcluster-x", &longest).header("content-encoding", coding);
        claim.clone().body(compressed(coding, longest.as_bytes())).send().await.good();
        for long in [format!("{longest} ").as_bytes(), &bomb] {
            let short = compressed(coding, long);
            assert!(short.len() < 16 * 1024);
            let answer = claim.clone().body(short).send().await;
            assert_eq!(answer.verdict(), (413, "InputTooLarge"), "{coding}: {}", answer.text);
        }
    }
}
