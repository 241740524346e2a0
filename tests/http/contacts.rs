//! Who is shown the contact of a namespace: who may claim it, and nobody else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::{Value, json};
use taskcluster_pulse::clock::Clock;
use taskcluster_pulse::hawk::{Artifacts, Kind, mac};

use super::recorder;
use super::site::{Answer, Ask, Site, access_token};
use crate::support::world::HOUR;

const X: &str = "/api/pulse/v1/namespace/taskcluster-x";
const LIST: &str = "/api/pulse/v1/namespaces";
const OWNER: &str = "owner@example.com";

/// A service with two namespaces that each have a contact.
async fn site() -> Site {
    let site = Site::new().await;
    for name in ["taskcluster-x", "taskcluster-y"] {
        site.world.claim_for(name, OWNER, 9 * HOUR).await;
    }
    site
}

/// The contacts that a list shows, in the order of names.
fn listed(answer: Answer) -> Vec<Value> {
    answer.good()["namespaces"].as_array().unwrap().iter().map(|namespace| namespace["contact"].clone()).collect()
}

#[tokio::test]
async fn a_contact_is_shown_to_who_may_claim_the_namespace_and_is_empty_to_others() {
    let site = site().await;
    for (client, of_x, of_y) in [("test-client", OWNER, OWNER), ("only-x", OWNER, ""), ("weak", "", "")] {
        let x = site.get(X).signed(client).send().await.good();
        assert_eq!(x["contact"], of_x, "{client}");
        let list = site.get(LIST).signed(client).send().await;
        assert_eq!(listed(list), [of_x, of_y], "{client}");
    }
    let anybody = site.get(X).send().await.good();
    assert_eq!(anybody["contact"], "");
    let seen = site.get(X).signed("only-x").send().await.good();
    for key in ["namespace", "created", "expires"] {
        assert_eq!(anybody[key], seen[key], "{key}");
    }
    assert_eq!(listed(site.get(LIST).send().await), ["", ""]);
    let narrowed = site.get(LIST).signed("test-client");
    let narrowed = narrowed.ext(&json!({"authorizedScopes": ["pulse:namespace:taskcluster-y"]})).send().await;
    assert_eq!(listed(narrowed), ["", OWNER]);
}

/// Taskcluster looks at no signature here, and some clients leave the query out of what they sign.
#[tokio::test]
async fn who_signs_wrongly_is_shown_what_anybody_is() {
    let site = site().await;
    let skewed = site.world.clock.now().minus(HOUR);
    let wrong: Vec<(&str, Ask<'_>)> = vec![
        ("wrong key", site.get(X).signed_with("test-client", "x")),
        ("unknown client", site.get(X).signed("nobody")),
        ("expired client", site.get(X).signed("expired")),
        ("another body", site.get(X).signed("test-client").signed_for("{}")),
        ("old", site.get(X).signed("test-client").signed_at(skewed)),
        ("another scheme", site.get(X).header("authorization", "Basic eDp5")),
        ("nonsense", site.get(X).header("authorization", "Hawk what=\"is this\"")),
        ("too long", site.get(X).header("authorization", &format!("Hawk id=\"{}\"", "a".repeat(5000)))),
        ("a bewit that is none", site.get(&format!("{X}?bewit=abc"))),
        ("two schemes", site.get(&format!("{X}?bewit=abc")).signed("test-client")),
    ];
    for (what, ask) in wrong {
        let answer = ask.send().await;
        assert_eq!(answer.header("www-authenticate"), "", "{what}");
        let id = answer.header("x-for-request-id").to_owned();
        assert_eq!(answer.good()["contact"], "", "{what}");
        let line = recorder::line(&[("requestId", json!(id)), ("type", "monitor.apiMethod".into())]).await;
        assert_eq!((&line["authenticated"], &line["clientId"]), (&json!(false), &json!("")), "{what}");
    }
    for _ in 0..200 {
        site.get(X).signed_with("test-client", "x").send().await.good();
    }
    site.claim("taskcluster-x", "{}").send().await.good();
}

#[tokio::test]
async fn a_bewit_shows_it_too_and_a_request_that_was_made_before_does_not() {
    let site = site().await;
    let expiry = (site.world.clock.now().plus(HOUR).millis() / 1000).to_string();
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
    let bewit = URL_SAFE_NO_PAD.encode(format!("test-client\\{expiry}\\{mac}\\"));
    let shown = site.get(&format!("{X}?bewit={bewit}")).send().await.good();
    assert_eq!(shown["contact"], OWNER);

    let url = site.url.join(X).unwrap();
    let authorization = site.sign("test-client", "GET", &url, None);
    let again = || site.get(X).header("authorization", &authorization).send();
    assert_eq!(again().await.good()["contact"], OWNER);
    assert_eq!(again().await.good()["contact"], OWNER, "clients repeat what they are not answered");
    site.world.clock.advance(HOUR / 12);
    assert_eq!(again().await.good()["contact"], "", "somebody else may have seen it");
}

/// Nobody is given what was kept for somebody else.
#[tokio::test]
async fn caches_keep_apart_what_each_may_see() {
    let site = site().await;
    for path in [X, LIST] {
        let anybody = site.get(path).send().await;
        let owner = site.get(path).signed("test-client").send().await;
        let vary = "Accept-Encoding, Authorization";
        assert_eq!((anybody.header("vary"), owner.header("vary")), (vary, vary), "{path}");
        assert_eq!(anybody.header("cache-control"), "no-store no-cache must-revalidate", "{path}");
        assert_eq!(owner.header("cache-control"), "private, no-store", "{path}");
        assert_ne!(anybody.header("etag"), owner.header("etag"), "{path}");
        let known = owner.header("etag");
        assert_eq!(site.get(path).header("if-none-match", known).send().await.status, 200, "{path}");
        let again = site.get(path).header("if-none-match", known).signed("test-client").send().await;
        assert_eq!((again.status.as_u16(), again.header("cache-control")), (304, "private, no-store"), "{path}");
        let head = site.ask(Method::HEAD, path).signed("test-client").send().await;
        assert_eq!(head.header("content-length"), owner.header("content-length"), "{path}");
        let nobody = site.ask(Method::HEAD, path).send().await;
        assert_eq!(nobody.header("content-length"), anybody.header("content-length"), "{path}");
    }
    let missing = site.get("/api/pulse/v1/namespace/taskcluster-z").send().await;
    assert_eq!((missing.status.as_u16(), missing.header("vary")), (404, "Accept-Encoding, Authorization"));
}
