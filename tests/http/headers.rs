//! Headers of requests and replies, HTTPS, and the log line of each request.

use std::net::IpAddr;

use reqwest::Method;
use serde_json::{Value, json};

use super::recorder;
use super::site::{ROOT, Site};

const X: &str = "/api/pulse/v1/namespace/taskcluster-x";

#[tokio::test]
async fn every_reply_has_taskclusters_headers() {
    let site = Site::new().await;
    let replies = [
        ("api", site.claim("taskcluster-x", "{}").send().await),
        ("api", site.claim("taskcluster-x", "{x").send().await),
        ("api", site.claim("taskcluster-x", &" ".repeat(100_000)).send().await),
        ("api", site.ask(Method::POST, X).json("{}").send().await),
        ("api", site.get("/api/pulse/v1/nope").send().await),
        ("api", site.get("/v1/ping").send().await),
        ("api", site.ask(Method::OPTIONS, "/v1/ping").send().await),
        ("api", site.ask(Method::HEAD, "/v1/ping").send().await),
        ("root", site.get("/__version__").send().await),
        ("root", site.get("/robots.txt").send().await),
        ("root", site.get("/schemas/pulse/v1/namespace.json").send().await),
        ("root", site.get("/nope").send().await),
    ];
    for (part, reply) in replies {
        for (name, value) in [
            ("content-security-policy", "report-uri /__cspreport__;default-src 'none';frame-ancestors 'none';"),
            ("x-content-type-options", "nosniff"),
            ("x-powered-by", ""),
            ("server", ""),
            ("strict-transport-security", ""),
        ] {
            assert_eq!(reply.header(name), value, "{name} of {}", reply.text);
        }
        let is_api = part == "api";
        for (name, value) in [
            ("access-control-allow-origin", "*"),
            ("access-control-max-age", "900"),
            ("access-control-allow-methods", "OPTIONS,GET,HEAD,POST,PUT,DELETE,TRACE,CONNECT"),
            ("access-control-request-method", "*"),
            ("access-control-allow-headers", "X-Requested-With,Content-Type,Authorization,Accept,Origin,Cache-Control"),
            ("cache-control", "no-store no-cache must-revalidate"),
            ("vary", "Accept-Encoding"),
        ] {
            assert_eq!(reply.header(name), if is_api { value } else { "" }, "{name} of {}", reply.text);
        }
        for name in ["x-for-trace-id", "x-for-request-id"] {
            assert!(uuid::Uuid::parse_str(reply.header(name)).is_ok(), "{name} of {}", reply.text);
        }
    }
}

#[tokio::test]
async fn a_trace_id_is_taken_over_if_it_is_harmless_and_a_request_id_never_is() {
    let site = Site::new().await;
    let ask = |id: &str| {
        let ask = site.get("/api/pulse/v1/ping").header("x-taskcluster-trace-id", id);
        ask.header("x-for-request-id", id).header("x-request-id", id)
    };
    let good = ask("story-1.a:b").send().await;
    assert_eq!(good.header("x-for-trace-id"), "story-1.a:b");
    let request = good.header("x-for-request-id");
    assert!(uuid::Uuid::parse_str(request).is_ok(), "{request}");
    let line = recorder::line(&[("requestId", json!(request))]).await;
    assert_eq!(line["traceId"], "story-1.a:b");
    for id in ["", "a b", "<script>", "a\"b", "{}", "a;b", &"a".repeat(129)] {
        let answer = ask(id).send().await;
        assert!(uuid::Uuid::parse_str(answer.header("x-for-trace-id")).is_ok(), "{id:?}");
    }
}

#[tokio::test]
async fn where_https_is_forced_what_came_without_is_redirected_or_refused() {
    let site =
        Site::wish(|wishes| (wishes.settings.edge.force_ssl, wishes.settings.edge.trust_proxy) = (true, true)).await;
    let hsts = "max-age=7776000; includeSubDomains";
    for method in [Method::GET, Method::HEAD] {
        let answer = site.ask(method, "/api/pulse/v1/ping?bewit=a").send().await;
        assert_eq!(answer.status, 301);
        let target = format!("https://127.0.0.1:{}/api/pulse/v1/ping?bewit=a", site.url.port().unwrap());
        assert_eq!((answer.header("location"), answer.header("strict-transport-security")), (target.as_str(), hsts));
    }
    let before = site.state().await;
    let refused = site.claim("taskcluster-x", "{}").send().await;
    assert_eq!(
        (refused.status.as_u16(), refused.text.as_str()),
        (403, "Please use HTTPS when submitting data to this server.")
    );
    assert_eq!(site.state().await, before);
    let secure = site.get("/api/pulse/v1/ping").header("x-forwarded-proto", "https").send().await;
    assert_eq!((secure.status.as_u16(), secure.header("strict-transport-security")), (200, hsts));

    let absolute =
        site.raw("GET http://b.example/v1/ping HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await;
    assert!(absolute.to_lowercase().contains("\r\nlocation: https://a.example/v1/ping\r\n"), "{absolute}");
    let nowhere = site.raw("GET /v1/ping HTTP/1.0\r\n\r\n").await;
    assert!(nowhere.starts_with("HTTP/1.0 403 "), "{nowhere}");
}

/// Whoever reaches us without a proxy could say anything.
#[tokio::test]
async fn forwarded_headers_count_only_from_a_trusted_proxy() {
    for (trust, https, from) in [(false, 301, "127.0.0.1"), (true, 200, "192.0.2.7")] {
        let forced = Site::wish(|wishes| {
            (wishes.settings.edge.force_ssl, wishes.settings.edge.trust_proxy) = (true, trust);
        });
        let forced = forced.await;
        let answer = forced.get("/v1/ping").header("x-forwarded-proto", "https").send().await;
        assert_eq!(answer.status, https);

        let site = Site::wish(|wishes| wishes.settings.edge.trust_proxy = trust).await;
        let answer = site.get("/v1/ping").header("x-forwarded-for", "192.0.2.7, 10.0.0.1").send().await;
        let line = recorder::line(&[("requestId", json!(answer.header("x-for-request-id")))]).await;
        assert_eq!(line["sourceIp"].as_str().unwrap().parse::<IpAddr>(), from.parse());
    }
}

#[tokio::test]
async fn a_request_has_one_host_but_in_http_1_0_none_is_needed() {
    let site = Site::new().await;
    for (head, status) in [
        ("GET /v1/ping HTTP/1.1\r\nConnection: close\r\n", "HTTP/1.1 400 "),
        ("GET /v1/ping HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n", "HTTP/1.1 400 "),
        ("GET /v1/ping HTTP/1.0\r\n", "HTTP/1.0 200 "),
        ("GET /__lbheartbeat__ HTTP/1.0\r\n", "HTTP/1.0 200 "),
        ("POST /v1/namespace/taskcluster-x HTTP/1.0\r\n", "HTTP/1.0 400 "),
        ("POST /v1/namespace/taskcluster-x HTTP/1.1\r\nHost: a/b\r\nConnection: close\r\n", "HTTP/1.1 400 "),
    ] {
        let answer = site.raw(&format!("{head}\r\n")).await;
        assert!(answer.starts_with(status), "{head}: {answer}");
        assert!(answer.contains("application/json"), "{answer}");
    }
}

#[tokio::test]
async fn a_target_may_be_a_whole_url() {
    let site = Site::new().await;
    let url = format!("{ROOT}{X}").parse().unwrap();
    let authorization = site.sign("test-client", "POST", &url, Some("{}"));
    let request = format!(
        "POST {url} HTTP/1.1\r\nHost: tc.example.com\r\nX-Forwarded-Proto: https\r\nContent-Type: application/json\r\n\
         Content-Length: 2\r\nConnection: close\r\nAuthorization: {authorization}\r\n\r\n{{}}"
    );
    let answer = site.raw(&request).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn whoever_has_an_answer_already_is_told_so() {
    let site = Site::new().await;
    site.claim("taskcluster-x", "{}").send().await.good();
    let first = site.get(X).send().await;
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with("W/\""), "{tag}");
    let strong = tag.trim_start_matches("W/");
    for (given, status) in [
        (tag.as_str(), 304),
        (strong, 304),
        ("*", 304),
        (&format!("\"a\", {tag}"), 304),
        ("\"a\"", 200),
        ("W/\"\"", 200),
    ] {
        let again = site.get(X).header("if-none-match", given).send().await;
        assert_eq!((again.status.as_u16(), again.text.is_empty()), (status, status == 304), "{given}");
        assert_eq!(again.header("etag"), tag);
    }
    let fresh = site.get(X).header("if-none-match", &tag).header("cache-control", "no-cache").send().await;
    assert_eq!(fresh.status, 200);
    let claim = site.claim("taskcluster-x", "{}").header("if-none-match", "*").send().await;
    assert_eq!(claim.status, 200);
    let missing = site.get("/api/pulse/v1/namespace/taskcluster-y").header("if-none-match", "*").send().await;
    assert_eq!(missing.status, 404);
    for method in ["GET", "HEAD"] {
        let head = format!("{method} {X} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nIf-None-Match: {tag}\r\n\r\n");
        let answer = site.raw(&head).await.to_lowercase();
        assert!(answer.starts_with("http/1.1 304 ") && answer.contains("\r\netag: "), "{answer}");
        for name in ["content-length", "content-type", "transfer-encoding"] {
            assert!(!answer.contains(&format!("\r\n{name}: ")), "{answer}");
        }
    }
}

#[tokio::test]
async fn each_request_has_one_line_in_the_log() {
    let site = Site::new().await;
    let claim = site.claim("taskcluster-x", "{}").send().await;
    // A request may have lines of the type `audit`, too.
    let of = |reply: &super::site::Answer, kind: &str| {
        [("requestId", json!(reply.header("x-for-request-id"))), ("type", json!(kind))]
    };
    const API: &str = "monitor.apiMethod";
    let line = recorder::line(&of(&claim, API)).await;
    for (field, value) in [
        ("v", json!(2)),
        ("name", json!("claimNamespace")),
        ("apiVersion", json!("v1")),
        ("method", json!("POST")),
        ("resource", json!("/namespace/taskcluster-x")),
        ("query", json!("{}")),
        ("statusCode", json!(200)),
        ("public", json!(false)),
        ("authenticated", json!(true)),
        ("clientId", json!("test-client")),
        ("satisfyingScopes", json!("[\"pulse:namespace:taskcluster-x\"]")),
        ("sourceIp", json!("127.0.0.1")),
        ("level", json!("INFO")),
    ] {
        assert_eq!(line[field], value, "{field}");
    }
    let duration = line["duration"].as_f64().unwrap();
    assert!(duration > 0.0 && duration.fract() != 0.0, "{duration}");

    let list = site.get("/api/pulse/v1/namespaces?limit=2&bewit=canary").send().await;
    let line = recorder::line(&of(&list, API)).await;
    assert_eq!((&line["query"], &line["public"]), (&json!("{\"bewit\":\"...\",\"limit\":\"2\"}"), &json!(true)));
    assert_eq!((&line["clientId"], &line["authenticated"]), (&json!(""), &json!(false)));

    let refused = site.claim("taskcluster-x", "{}").signed("weak").send().await;
    let line = recorder::line(&of(&refused, API)).await;
    assert_eq!((&line["clientId"], &line["statusCode"]), (&json!("weak"), &json!(403)));

    let anonymous = site.ask(Method::POST, X).json("{}").send().await;
    let line = recorder::line(&of(&anonymous, API)).await;
    assert_eq!((&line["clientId"], &line["authenticated"]), (&json!("auth-failed:no-auth"), &json!(false)));

    let unsigned = site.claim("taskcluster-x", "{}").signed_with("weak", "another").send().await;
    let line = recorder::line(&of(&unsigned, API)).await;
    assert_eq!((&line["clientId"], &line["statusCode"]), (&json!(""), &json!(401)));

    let unknown = site.get("/nope?bewit=canary").send().await;
    let line = recorder::line(&of(&unknown, "monitor.request")).await;
    assert_eq!(line["resource"], json!("/nope"));

    for reply in [claim, list, refused, anonymous, unsigned, unknown] {
        let of_requests = |line: &&Value| line["statusCode"].is_number();
        let of_it = [("requestId", json!(reply.header("x-for-request-id")))];
        assert_eq!(recorder::lines(&of_it).iter().filter(of_requests).count(), 1, "{}", reply.text);
    }
}
