//! What is refused, with Taskcluster's status and text; and that a refusal changes nothing.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use taskcluster_pulse::clock::Clock;
use taskcluster_pulse::hawk::{Artifacts, Kind, mac};

use super::site::{Ask, Site, access_token};

const X: &str = "/api/pulse/v1/namespace/taskcluster-x";

/// A request that is refused: what is wrong with it, the request, the status, the code, and how the text begins.
type Refusal<'s> = (&'static str, Ask<'s>, u16, &'static str, &'static str);

/// Sends each, to a service that has one namespace, and looks whether anything is different afterwards.
async fn check(site: &Site, refusals: Vec<Refusal<'_>>) {
    site.claim("taskcluster-x", "{\"contact\": \"a@a.com\"}").send().await.good();
    let before = site.state().await;
    let mut failures = Vec::new();
    for (what, ask, status, code, text) in refusals {
        let answer = ask.send().await;
        if answer.verdict() != (status, code) || !answer.message().starts_with(text) {
            failures.push(format!("{what}: {} {}", answer.status, answer.text));
        }
        if (answer.header("www-authenticate") == "hawk") != (status == 401) {
            failures.push(format!("{what}: www-authenticate is {:?}", answer.header("www-authenticate")));
        }
        if site.state().await != before {
            failures.push(format!("{what}: it changed something"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test]
async fn callers_who_are_not_who_they_say_or_may_not_are_refused() {
    let site = Site::new().await;
    let post = |target: &str| site.ask(Method::POST, target).json("{}");
    let claim = || post(X).signed("test-client");
    let now = site.world.clock.now();
    let skew = Duration::from_secs(16 * 60);
    let expiry = (now.plus(skew).millis() / 1000).to_string();
    let bewit = {
        use base64::Engine as _;
        let of = Artifacts {
            ts: &expiry,
            nonce: "",
            method: "GET",
            resource: X,
            host: "127.0.0.1",
            port: site.url.port().unwrap(),
            hash: "",
            ext: "",
            app: None,
        };
        let mac = mac(Kind::Bewit, &access_token("test-client"), &of);
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!("test-client\\{expiry}\\{mac}\\"))
    };
    let with_bewit = format!("{X}?bewit={bewit}");
    let no_scope = "Client ID weak does not have sufficient scopes and is missing the following scopes:\n\n\
                    ```\npulse:namespace:taskcluster-x\n```";
    let refusals: Vec<Refusal<'_>> = vec![
        ("wrong key", claim().signed_with("test-client", "x"), 401, "AuthenticationFailed", "Unauthorized: Bad mac"),
        (
            "unknown client",
            claim().signed("nobody"),
            401,
            "AuthenticationFailed",
            "Client with clientId 'nobody' not found",
        ),
        (
            "expired client",
            claim().signed("expired"),
            401,
            "AuthenticationFailed",
            "Client with clientId: 'expired' has expired",
        ),
        ("other body", claim().signed_for("{ }"), 401, "AuthenticationFailed", "Invalid payload hash: "),
        ("old", claim().signed_at(now.minus(skew)), 401, "AuthenticationFailed", "Unauthorized: Stale timestamp"),
        (
            "from the future",
            claim().signed_at(now.plus(skew)),
            401,
            "AuthenticationFailed",
            "Unauthorized: Stale timestamp",
        ),
        (
            "another scheme",
            post(X).header("authorization", "Basic eDp5"),
            401,
            "AuthenticationFailed",
            "Unauthorized: Unauthorized",
        ),
        (
            "both schemes",
            post(&with_bewit).signed("test-client"),
            401,
            "AuthenticationFailed",
            "Cannot use two authentication schemes at once",
        ),
        ("a bewit can't claim", post(&with_bewit), 401, "AuthenticationFailed", ""),
        (
            "nobody",
            post(X),
            403,
            "InsufficientScopes",
            "This request requires Taskcluster credentials that satisfy the following scope expression:\n\n",
        ),
        ("no scope", claim().signed("weak"), 403, "InsufficientScopes", no_scope),
        (
            "another's scope",
            post("/api/pulse/v1/namespace/taskcluster-xy").signed("only-x"),
            403,
            "InsufficientScopes",
            "Client ID only-x does not have sufficient scopes",
        ),
    ];
    check(&site, refusals).await;
}

#[tokio::test]
async fn names_that_are_none_are_refused_after_the_scope_is_checked() {
    let site = Site::new().await;
    let post = |name: &str| site.ask(Method::POST, &format!("/api/pulse/v1/namespace/{name}")).json("{}");
    let long = format!("taskcluster-{}", "x".repeat(53));
    let malformed = |text: &str| {
        format!(
            "Invalid URL patterns:\nURL parameter 'namespace' given  as '{text}' is not valid: Invalid namespace provided.  \
             Namespaces must be at most 64 bytes and contain only [A-Za-z0-9_-]"
        )
    };
    let prefix = "Invalid URL patterns:\nURL parameter 'namespace' given  as 'other-x' is not valid: Invalid namespace \
                  provided.  Namespaces must begin with 'taskcluster-'";
    let before = site.state().await;
    for (name, shown, message) in [
        ("taskcluster-a.b", "taskcluster-a.b", malformed("taskcluster-a.b")),
        ("taskcluster-a%2Fb", "taskcluster-a/b", malformed("taskcluster-a/b")),
        ("taskcluster-a%00", "taskcluster-a\0", malformed("taskcluster-a\0")),
        ("taskcluster-%C3%A9", "taskcluster-é", malformed("taskcluster-é")),
        ("taskcluster-a:b", "taskcluster-a:b", malformed("taskcluster-a:b")),
        (&long, &long, malformed(&long)),
        ("other-x", "other-x", prefix.to_owned()),
    ] {
        let refused = post(name).signed("weak").send().await;
        assert_eq!(refused.verdict(), (403, "InsufficientScopes"), "{name}: {}", refused.text);
        for ask in [post(name).signed("test-client"), site.get(&format!("/api/pulse/v1/namespace/{name}"))] {
            let wrong = ask.send().await;
            assert_eq!(wrong.verdict(), (400, "InvalidRequestArguments"), "{name}: {}", wrong.text);
            assert_eq!(wrong.message(), message);
            assert_eq!(wrong.body["requestInfo"]["params"], json!({"namespace": shown}));
        }
    }
    assert_eq!(site.state().await, before);
    let most = format!("taskcluster-{}", "x".repeat(52));
    post(&most).signed("test-client").send().await.good();
}

#[tokio::test]
async fn what_can_not_be_decoded_is_refused_to_anybody() {
    let site = Site::new().await;
    for name in ["%FF", "taskcluster-%", "taskcluster-%2", "taskcluster-%zz"] {
        for method in ["GET", "POST"] {
            let target = format!("/api/pulse/v1/namespace/{name}");
            let answer = site.raw(&format!("{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
            let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
            assert_eq!(body["code"], "InvalidRequestArguments", "{name}");
            assert_eq!(body["requestInfo"]["params"], json!({}));
        }
    }
}

#[tokio::test]
async fn payloads_that_are_wrong_are_refused() {
    let site = Site::new().await;
    let post = || site.ask(Method::POST, X);
    let claim = |payload: &str| site.claim("taskcluster-x", payload);
    let invalid = "\nSchema Validation Failed!\nRejecting Schema: \
                   https://tc.example.com/schemas/pulse/v1/namespace-request.json#\nErrors:\n  * data";
    let payload_must = "Payload must be JSON with content-type: application/json got content-type: ";
    let (input, malformed) = ("InputValidationError", "MalformedPayload");
    let long = format!("{{\"contact\": \"{}@a.com\"}}", "a".repeat(250));
    let refusals: Vec<Refusal<'_>> = vec![
        ("no JSON, unsigned", post().json("{x"), 400, malformed, "Failed to parse JSON: "),
        ("no JSON, signed", claim("{\"expires\":}"), 400, malformed, "Failed to parse JSON: "),
        ("two values", claim("{} {}"), 400, malformed, "Failed to parse JSON: "),
        ("only blanks", claim("  "), 400, malformed, "Failed to parse JSON: "),
        ("a scalar", post().json("5"), 400, malformed, "Failed to parse JSON: Must be an object or array"),
        ("too deep", post().json("[".repeat(10_000)), 400, malformed, "Failed to parse JSON: "),
        ("a list", claim("[]"), 400, input, invalid),
        ("an unknown field", claim("{\"foo\": 1}"), 400, input, invalid),
        ("a broken date", claim("{\"expires\": \"soon\"}"), 400, input, invalid),
        ("a date that is a number", claim("{\"expires\": 5}"), 400, input, invalid),
        ("no date at all", claim("{\"expires\": null}"), 400, input, invalid),
        ("a broken address", claim("{\"contact\": \"nobody\"}"), 400, input, invalid),
        ("an address that is a list", claim("{\"contact\": []}"), 400, input, invalid),
        ("an address that is too long", claim(&long), 400, input, invalid),
        ("no type", post().body("{}").signed("test-client").signed_for(""), 400, malformed, payload_must),
        ("no body at all", post().signed("test-client"), 400, malformed, payload_must),
        (
            "another type",
            post().header("content-type", "text/plain").body("hello").signed("test-client").signed_for(""),
            400,
            malformed,
            "Payload must be JSON with content-type: application/json got content-type: text/plain",
        ),
        (
            "another type, which is not read, with the hash of what is not read",
            post().header("content-type", "text/plain").body("hello").signed("test-client"),
            401,
            "AuthenticationFailed",
            "Invalid payload hash: ",
        ),
        (
            "another type, and far too long",
            post().header("content-type", "text/plain").body(" ".repeat(11 << 20)).signed("test-client").signed_for(""),
            400,
            malformed,
            payload_must,
        ),
        (
            "a relative of JSON",
            post().header("content-type", "application/a+json").body("{}").signed("test-client").signed_for(""),
            400,
            malformed,
            payload_must,
        ),
        (
            "an unknown charset",
            post().header("content-type", "application/json; charset=x").body("{}").signed("test-client"),
            415,
            "UnsupportedMediaType",
            "The charset x is not supported",
        ),
        (
            "an unknown encoding",
            claim("{}").header("content-encoding", "zstd"),
            415,
            "UnsupportedMediaType",
            "The content-encoding zstd is not supported",
        ),
        (
            "another encoding than it says",
            claim("{}").header("content-encoding", "gzip"),
            400,
            malformed,
            "The request's body is not what its content-encoding says: it is no whole gzip data.",
        ),
        (
            "too long, unsigned",
            post().json(vec![b' '; 16 * 1024 + 1]),
            413,
            "InputTooLarge",
            "The request's body is longer than 16384 bytes",
        ),
        ("far too long", claim(&" ".repeat(11 << 20)), 413, "InputTooLarge", "The request's body is longer than"),
        (
            "an unknown query",
            site.ask(Method::POST, &format!("{X}?x=1")).json("{}").signed("test-client"),
            400,
            "InvalidRequestArguments",
            "Query-string parameter: x is not supported!",
        ),
    ];
    check(&site, refusals).await;
}

#[tokio::test]
async fn the_longest_body_is_still_read_and_one_more_byte_is_not_however_it_is_sent() {
    let site = Site::new().await;
    let longest = format!("{{}}{}", " ".repeat(16 * 1024 - 2));
    site.claim("taskcluster-x", &longest).send().await.good();
    // In chunks, so that its length is not known before.
    let chunks = format!("8000\r\n{}\r\n", " ".repeat(0x8000)).repeat(3);
    let head =
        format!("POST {X} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
    let answer = site.raw(&format!("{head}{chunks}0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("InputTooLarge"), "{answer}");
}

/// Many clients don't read before they have written everything. They must be able to.
#[tokio::test]
async fn a_refusal_reaches_a_client_that_sends_its_whole_body_first() {
    let site = Site::new().await;
    let length = 24 << 20;
    for (kind, status, code) in [("application/json", 413, "InputTooLarge"), ("text/plain", 403, "InsufficientScopes")]
    {
        let head = format!("POST {X} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
        let answer = site.raw(&format!("{head}{}", " ".repeat(length))).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(code), "{answer}");
    }
}

#[tokio::test]
async fn queries_are_checked_and_a_bewit_is_always_allowed() {
    let site = Site::new().await;
    for target in ["/api/pulse/v1/ping?bewit=abc", "/api/pulse/v1/namespaces?bewit=a&bewit=b&limit=1", "/v1/ping?"] {
        site.get(target).send().await.good();
    }
    for (target, message) in [
        ("/api/pulse/v1/ping?x=1", "Query-string parameter: x is not supported!"),
        ("/api/pulse/v1/namespaces?limit=", "Query-string parameter: limit=\"\" does not match expression: /[0-9]+/"),
        ("/api/pulse/v1/namespaces?limit[]=1", "Query-string parameter: limit[] is not supported!"),
        ("/api/pulse/v1/namespaces?Limit=1", "Query-string parameter: Limit is not supported!"),
        ("/api/pulse/v1/namespace/taskcluster-x?limit=1", "Query-string parameter: limit is not supported!"),
    ] {
        let answer = site.get(target).send().await;
        assert_eq!(answer.verdict(), (400, "InvalidRequestArguments"), "{target}");
        assert_eq!(answer.message(), message);
    }
}

/// Routes that are open to anybody show some more, and wrong credentials do no harm there.
#[tokio::test]
async fn open_routes_ignore_wrong_credentials() {
    let site = Site::new().await;
    for header in ["Hawk x", "Basic eDp5", "Hawk id=\"nobody\", ts=\"1\", nonce=\"n\", mac=\"m\""] {
        site.get("/api/pulse/v1/namespaces?bewit=x").header("authorization", header).send().await.good();
    }
}
