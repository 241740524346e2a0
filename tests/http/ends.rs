//! Ends on demand, as callers of the API meet them.

use reqwest::Method;
use serde_json::{Value, json};

use super::site::Site;
use crate::support::fake_broker::{Failure, Fault};
use crate::support::world::HOUR;

const X: &str = "/api/pulse/v1/namespace/taskcluster-x";

async fn site() -> Site {
    let admin: (&str, &str, &[&str]) = ("admin", "canary-access-token-of-admin", &["pulse:admin"]);
    let site = Site::wish(|wishes| wishes.client = Some(admin)).await;
    site.world.claim_for("taskcluster-x", "me@example.com", 9 * HOUR).await;
    site
}

/// The answer to a request of the client `who`, with its status.
async fn ask(site: &Site, who: &str, what: &str, body: Value) -> (u16, Value) {
    let ask = site.ask(Method::POST, &format!("{X}/{what}")).json(body.to_string());
    let answer = match who {
        "admin" => ask.signed_with("admin", "canary-access-token-of-admin"),
        who => ask.signed(who),
    };
    let answer = answer.send().await;
    (answer.status.as_u16(), answer.body)
}

fn done() -> (u16, Value) {
    (200, json!({"namespace": "taskcluster-x", "state": "done"}))
}

#[tokio::test]
async fn who_owns_a_namespace_revokes_and_releases_it_and_nobody_else_does() {
    let site = site().await;
    let why = json!({"reason": "it was leaked"});
    for what in ["revoke", "release", "disable", "enable"] {
        for stranger in ["weak", "issuer"] {
            let allowed = stranger == "issuer" && ["revoke", "release"].contains(&what);
            if !allowed {
                let (status, body) = ask(&site, stranger, what, why.clone()).await;
                assert_eq!((status, &body["code"]), (403, &json!("InsufficientScopes")), "{stranger} {what}");
            }
        }
        for bad in
            [json!({}), json!({"reason": ""}), json!({"reason": "x", "more": 1}), json!({"reason": "x".repeat(1001)})]
        {
            assert_eq!(ask(&site, "admin", what, bad).await.0, 400, "{what}");
        }
    }
    // Of another's namespace.
    let other = "/api/pulse/v1/namespace/taskcluster-y/revoke";
    let refused = site.ask(Method::POST, other).json(why.to_string()).signed("only-x").send().await;
    assert_eq!(refused.status.as_u16(), 403);
    let missing = site.ask(Method::POST, other).json(why.to_string()).signed("issuer").send().await;
    assert_eq!((missing.status.as_u16(), &missing.body["code"]), (404, &json!("ResourceNotFound")));
    assert_eq!(ask(&site, "only-x", "disable", why.clone()).await.0, 403, "which takes an administrator");
    assert_eq!(ask(&site, "only-x", "revoke", why.clone()).await, done());
    assert_eq!(ask(&site, "admin", "revoke", why.clone()).await, done());
    assert_eq!(ask(&site, "only-x", "release", why.clone()).await, done());
    let trail = site.ask(Method::GET, &format!("{X}/audit")).signed("test-client").send().await.good();
    let records = trail["records"].as_array().unwrap().iter();
    let records: Vec<_> = records.filter(|record| record["action"] != "refuse").collect();
    let shown: Vec<_> = records.iter().map(|record| [&record["action"], &record["actor"]]).collect();
    assert_eq!(
        json!(shown),
        json!([["release", "only-x"], ["revoke", "admin"], ["revoke", "only-x"], ["claim", "somebody"]])
    );
    assert!(records[..3].iter().all(|record| record["reason"] == "it was leaked" && record["requestId"].is_string()));
}

#[tokio::test]
async fn a_claim_of_a_disabled_namespace_is_told_why() {
    let site = site().await;
    assert_eq!(ask(&site, "admin", "disable", json!({"reason": "It floods the broker."})).await, done());
    let claim = site.claim("taskcluster-x", "{}").signed("only-x").send().await;
    assert_eq!((claim.status.as_u16(), &claim.body["code"]), (409, &json!("RequestConflict")));
    let message = claim.body["message"].as_str().unwrap();
    assert!(message.contains("is disabled since") && message.contains("It floods the broker."), "{message}");
    site.world.clock.advance(HOUR / 2);
    assert_eq!(ask(&site, "admin", "enable", json!({"reason": "it is mended"})).await, done());
    site.claim("taskcluster-x", "{}").signed("only-x").send().await.good();
}

#[tokio::test]
async fn what_the_broker_keeps_from_being_done_is_said_to_be_pending() {
    let site = site().await;
    site.world.fake().fault(Fault::new(Failure::Status(503)));
    let (status, body) = ask(&site, "only-x", "revoke", json!({"reason": "it was leaked"})).await;
    assert_eq!(
        (status, body),
        (200, json!({"namespace": "taskcluster-x", "state": "pending", "why": "RabbitMQ does not answer"}))
    );
    let claim = site.claim("taskcluster-x", "{}").signed("only-x").send().await;
    assert_eq!(claim.status.as_u16(), 503);
    site.world.fake().heal();
    assert_eq!(ask(&site, "only-x", "revoke", json!({"reason": "it was leaked"})).await, done());
    site.claim("taskcluster-x", "{}").signed("only-x").send().await.good();
}
