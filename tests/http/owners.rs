//! Owners, exemptions and the audit trail, as callers of the API meet them.

use reqwest::Method;
use serde_json::{Value, json};
use taskcluster_pulse::clock::{Clock, Timestamp};
use taskcluster_pulse::domain::owner::{Groups, Owner};

use super::recorder;
use super::site::{SOON, Site};
use crate::support::world::{BrokerKind, HOUR, Mailbox, StoreKind, World};

const X: &str = "/api/pulse/v1/namespace/taskcluster-x";

async fn site() -> Site {
    let admin: (&str, &str, &[&str]) = ("admin", "canary-access-token-of-admin", &["pulse:admin", "pulse:audit"]);
    let site = Site::wish(|wishes| wishes.client = Some(admin)).await;
    site.world.claim_for("taskcluster-x", "Me@example.com", 9 * HOUR).await;
    site
}

/// The answer to a request of the client `who`, with its status.
async fn call(site: &Site, who: &str, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let ask = site.ask(method, path);
    let ask = if let Some(body) = body { ask.json(body.to_string()) } else { ask };
    let answer = match who {
        "admin" => ask.signed_with("admin", "canary-access-token-of-admin"),
        who => ask.signed(who),
    };
    let answer = answer.send().await;
    (answer.status.as_u16(), answer.body)
}

/// The actions, objects and reasons of the records that a query of the trail gives.
async fn trail(site: &Site, path: &str) -> Vec<[String; 3]> {
    let (status, body) = call(site, "test-client", Method::GET, path, None).await;
    assert_eq!(status, 200, "{body}");
    let text = |of: &Value| of.as_str().unwrap().to_owned();
    let records = body["records"].as_array().unwrap().iter();
    records.map(|record| ["action", "object", "reason"].map(|key| text(&record[key]))).collect()
}

#[tokio::test]
async fn who_owns_a_namespace_sets_its_owners_and_not_the_last_one_away() {
    let site = site().await;
    let path = format!("{X}/owners");
    let set = async |who: &str, body: Value| call(&site, who, Method::PUT, &path, Some(body)).await;
    let owners = json!({"owners": ["group:releng", "You@Example.com", "you@example.com"]});
    let (status, body) = set("only-x", owners).await;
    let expected = json!({"owners": ["you@example.com", "group:releng"], "contact": "Me@example.com"});
    assert_eq!((status, &body), (200, &expected));
    assert_eq!(call(&site, "only-x", Method::GET, &path, None).await, (200, expected));
    assert_eq!(set("weak", json!({"owners": []})).await.0, 403);
    for bad in [json!(["you"]), json!(["group:"]), json!(["a b@example.com"])] {
        let (status, body) = set("only-x", json!({"owners": bad})).await;
        assert_eq!((status, &body["code"]), (400, &json!("InputError")), "{body}");
        assert!(body["message"].as_str().unwrap().contains("is no owner: write an e-mail address"), "{body}");
    }
    assert_eq!(set("only-x", json!({"owners": vec!["a@example.com"; 21]})).await.0, 400);
    // The contact is one, so that nobody is missing.
    assert_eq!(set("only-x", json!({"owners": []})).await.0, 200);
    site.claim("taskcluster-x", r#"{"contact": ""}"#).signed("only-x").send().await.good();
    assert_eq!(set("only-x", json!({"owners": ["group:releng"]})).await.0, 200);
    let (status, body) = set("only-x", json!({"owners": []})).await;
    assert_eq!((status, &body["code"]), (409, &json!("RequestConflict")), "{body}");
    assert!(body["message"].as_str().unwrap().starts_with("taskcluster-x would have no owner left"), "{body}");
    assert_eq!(set("only-x", json!({"owners": [], "force": true})).await.0, 403);
    assert_eq!(set("admin", json!({"owners": [], "force": true})).await.0, 200);
    let unowned = async |who: &str| call(&site, who, Method::GET, "/api/pulse/v1/namespaces/unowned", None).await;
    assert_eq!(unowned("only-x").await.0, 403);
    assert_eq!(unowned("admin").await.1["namespaces"][0]["namespace"], "taskcluster-x");
    assert_eq!(set("only-x", json!({"owners": ["group:releng"]})).await.0, 200);
    assert_eq!(unowned("admin").await.1["namespaces"], json!([]));
    let missing = call(&site, "test-client", Method::GET, "/api/pulse/v1/namespace/taskcluster-no/owners", None).await;
    assert_eq!((missing.0, &missing.1["code"]), (404, &json!("ResourceNotFound")));
    let all = trail(&site, &format!("{X}/audit?action=set-owners")).await;
    let reasons: Vec<_> = all.iter().rev().map(|[_, _, reason]| reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "from nobody to you@example.com, group:releng",
            "from you@example.com, group:releng to nobody",
            "from nobody to group:releng",
            "from group:releng to nobody",
            "from nobody to group:releng",
        ]
    );
}

#[tokio::test]
async fn an_owner_asks_for_an_exemption_and_both_sides_are_told() {
    let world = {
        let mut world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
        world.policy.administrators =
            vec![Owner::parse("boss@example.com").unwrap(), Owner::parse("group:ops").unwrap()];
        world.policy.groups = Groups::from_iter([("ops".to_owned(), "ops@example.com".to_owned())]);
        world
    };
    let admin: (&str, &str, &[&str]) = ("admin", "canary-access-token-of-admin", &["pulse:admin", "pulse:audit"]);
    let site = Site::on(world, |wishes| wishes.client = Some(admin)).await;
    site.world.claim_for("taskcluster-x", "Me@example.com", 9 * HOUR).await;
    let path = format!("{X}/requested-exemptions/queue%2Ftaskcluster-x%2Fa*");
    let ask = |reason: &str| json!({"upTo": 50_000, "reason": reason});
    assert_eq!(call(&site, "weak", Method::PUT, &path, Some(ask("x"))).await.0, 403);
    let (status, asked) = call(&site, "only-x", Method::PUT, &path, Some(ask("slow"))).await;
    assert_eq!((status, &asked["upTo"], &asked["by"]), (200, &json!(50_000), &json!("client only-x")));
    assert_eq!(call(&site, "only-x", Method::PUT, &path, Some(ask("slower"))).await.0, 200);
    let all = async || call(&site, "admin", Method::GET, "/api/pulse/v1/requested-exemptions", None).await.1;
    let shown = all().await;
    let found = shown["requests"].as_array().unwrap();
    assert_eq!(
        (found.len(), &found[0]["reason"], &found[0]["namespace"]),
        (1, &json!("slower"), &json!("taskcluster-x"))
    );
    assert_eq!(call(&site, "only-x", Method::GET, &format!("{X}/requested-exemptions"), None).await.1, shown);
    let other = call(&site, "only-x", Method::GET, "/api/pulse/v1/requested-exemptions", None).await;
    assert_eq!(other.0, 403);
    // Who asks may not decide.
    assert_eq!(call(&site, "only-x", Method::DELETE, &path, None).await.0, 403);
    let told = async || {
        let mailbox = Mailbox::default();
        site.world.service().deliver(&mailbox, false).await.unwrap();
        let mut told: Vec<_> =
            mailbox.delivered.lock().unwrap().iter().map(|of| (of.to.clone(), of.subject.clone())).collect();
        told.sort();
        told
    };
    let asked = told().await;
    let to: Vec<_> = asked.iter().map(|(to, _)| to.as_str()).collect();
    assert_eq!(to, ["boss@example.com", "boss@example.com", "ops@example.com", "ops@example.com"]);
    assert!(asked[0].1.contains("an exemption is asked for"), "{asked:?}");
    assert_eq!(call(&site, "admin", Method::DELETE, &format!("{path}?reason=no"), None).await, (200, json!({})));
    assert_eq!(call(&site, "admin", Method::DELETE, &path, None).await.0, 404);
    let refused = told().await;
    assert_eq!((refused.len(), refused[0].0.as_str()), (1, "Me@example.com"));
    assert!(refused[0].1.contains("the exemption was refused"), "{refused:?}");
    // It is granted by granting it.
    assert_eq!(call(&site, "only-x", Method::PUT, &path, Some(ask("please"))).await.0, 200);
    assert_eq!(told().await.len(), 2);
    let granted = format!("{X}/exemptions/queue%2Ftaskcluster-x%2Fa*");
    assert_eq!(call(&site, "admin", Method::PUT, &granted, Some(ask("please"))).await.0, 200);
    assert_eq!(all().await, json!({"requests": []}));
    let granted = told().await;
    assert!(granted.len() == 1 && granted[0].1.contains("the exemption was granted"), "{granted:?}");
    let actions: Vec<_> = trail(&site, &format!("{X}/audit")).await.into_iter().map(|[action, ..]| action).collect();
    assert_eq!(actions[..5], ["exempt", "ask-exemption", "refuse-exemption", "refuse", "ask-exemption"]);
    let elsewhere = format!("{X}/requested-exemptions/queue%2Ftaskcluster-y%2Fa");
    assert_eq!(call(&site, "only-x", Method::PUT, &elsewhere, Some(ask("x"))).await.0, 400);
}

#[tokio::test]
async fn an_end_is_put_off_and_never_brought_nearer() {
    let site = site().await;
    let path = format!("{X}/extend");
    let now = site.world.clock.now();
    let extend = async |who: &str, hours: u32| {
        let expires = now.plus(hours * HOUR).to_string();
        let answer = call(&site, who, Method::POST, &path, Some(json!({ "expires": expires }))).await;
        (answer.0, answer.1["expires"] == json!(expires))
    };
    assert_eq!(extend("weak", 100).await, (403, false));
    assert_eq!(extend("only-x", 100).await, (200, true));
    assert_eq!(extend("only-x", 99).await, (400, false));
    assert_eq!(extend("only-x", 100).await, (400, false));
    assert_eq!(extend("admin", 367 * 24).await, (400, false));
    let [action, _, reason] = trail(&site, &format!("{X}/audit?action=extend")).await.pop().unwrap();
    assert!(action == "extend" && reason.starts_with("from ") && reason.contains(" to "), "{reason}");
}

#[tokio::test]
async fn an_exemption_is_granted_shown_and_ended_under_any_name() {
    let site = site().await;
    let path = |queue: &str| format!("{X}/exemptions/{queue}");
    let odd = "queue%2Ftaskcluster-x%2F%C3%BC%20%25%2F*";
    let grant = json!({"upTo": 50_000, "until": "2099-12-01T00:00:00.000Z", "reason": "a slow reader"});
    let put = async |who: &str, queue: &str, body: Value| call(&site, who, Method::PUT, &path(queue), Some(body)).await;
    assert_eq!(put("only-x", odd, grant.clone()).await.0, 403, "an owner may not");
    let (status, granted) = put("admin", odd, grant.clone()).await;
    assert_eq!(status, 200, "{granted}");
    assert_eq!(granted["queue"], "queue/taskcluster-x/ü %/*");
    assert_eq!((&granted["by"], &granted["upTo"]), (&json!("client admin"), &json!(50_000)));
    let (status, unbounded) = put("admin", "queue%2Ftaskcluster-x%2Fa", json!({"reason": "it may"})).await;
    assert_eq!((status, unbounded.get("upTo"), unbounded.get("until")), (200, None, None));
    assert_eq!(put("admin", odd, json!({"upTo": 60_000, "reason": "slower"})).await.0, 200);
    let list = async || call(&site, "only-x", Method::GET, &format!("{X}/exemptions"), None).await.1;
    let shown = list().await;
    assert_eq!(shown["exemptions"].as_array().unwrap().len(), 2);
    assert_eq!((&shown["exemptions"][0], &shown["exemptions"][1]["upTo"]), (&unbounded, &json!(60_000)));
    for elsewhere in ["queue%2Ftaskcluster-xy%2Fa", "*", "queue%2F*", "queue%2Ftaskcluster-x%2F"] {
        let (status, body) = put("admin", elsewhere, json!({"reason": "it may"})).await;
        assert_eq!(status, 400, "{body}");
        let message = body["message"].as_str().unwrap();
        assert!(message.starts_with("The queue or pattern must begin with \"queue/taskcluster-x/\""), "{message}");
    }
    for wrong in
        [json!({}), json!({"reason": ""}), json!({"reason": "x", "upTo": 0}), json!({"reason": "x", "until": "soon"})]
    {
        assert_eq!(put("admin", odd, wrong).await.1["code"], "InputValidationError");
    }
    let end = async |who: &str| call(&site, who, Method::DELETE, &path(odd), None).await;
    assert_eq!(end("only-x").await.0, 403);
    assert_eq!(end("admin").await, (200, json!({})));
    assert_eq!(end("admin").await.0, 404);
    assert_eq!(list().await["exemptions"], json!([unbounded]));
    let ended = &trail(&site, &format!("{X}/audit?action=end-exemption")).await[0];
    assert_eq!(ended[1], "queue/taskcluster-x/ü %/*");
    assert_eq!(ended[2], "it was up to 60,000 messages by client admin: slower");
}

#[tokio::test]
async fn the_audit_trail_shows_to_each_what_it_may_see() {
    let site = site().await;
    site.claim("taskcluster-y", "{}").signed("issuer").send().await.good();
    site.claim("taskcluster-y", "{}").signed("issuer").send().await.good();
    let refused = site.claim("taskcluster-y", "{}").signed("only-x").send().await;
    let id = refused.header("x-for-request-id").to_owned();
    assert_eq!(refused.status, 403);
    let y = "/api/pulse/v1/audit?namespace=taskcluster-y";
    // It is stored beside the answer.
    let until = std::time::Instant::now() + SOON;
    let found = loop {
        let found = call(&site, "admin", Method::GET, y, None).await.1;
        if found["records"].as_array().unwrap().len() == 2 {
            break found;
        }
        assert!(std::time::Instant::now() < until, "{found}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let (refusal, claim) = (&found["records"][0], &found["records"][1]);
    assert_eq!(
        (&refusal["action"], &refusal["actor"], &refusal["object"]),
        (&json!("refuse"), &json!("only-x"), &json!("claimNamespace"))
    );
    assert_eq!((&refusal["requestId"], &refusal["namespace"]), (&json!(id), &json!("taskcluster-y")));
    let line = recorder::line(&[("type", "audit".into()), ("requestId", json!(id))]).await;
    assert_eq!((&line["action"], &line["reason"]), (&json!("refuse"), &refusal["reason"]));
    assert_eq!(
        (&claim["action"], &claim["actorKind"], &claim["actor"]),
        (&json!("claim"), &json!("client"), &json!("issuer"))
    );
    assert!(Timestamp::parse(claim["time"].as_str().unwrap()).is_some());
    let of = async |who: &str, path: &str| call(&site, who, Method::GET, path, None).await;
    assert_eq!(of("only-x", "/api/pulse/v1/audit").await.0, 403);
    assert_eq!(of("only-x", y).await.0, 403);
    assert_eq!(of("only-x", "/api/pulse/v1/namespace/taskcluster-y/audit").await.0, 403);
    assert_eq!(of("only-x", &format!("{X}/audit")).await.1["records"].as_array().unwrap().len(), 1);
    let (status, body) = of("admin", "/api/pulse/v1/audit?from=yesterday").await;
    assert_eq!(status, 400, "{body}");
    let (mut path, mut pages) = ("/api/pulse/v1/audit?actor=issuer&limit=1".to_owned(), Vec::new());
    for number in 0..3 {
        site.claim(&format!("taskcluster-{number}"), "{}").signed("issuer").send().await.good();
    }
    loop {
        let (_, body) = of("admin", &path).await;
        pages.extend(body["records"].as_array().unwrap().iter().map(|record| record["object"].clone()));
        let Some(token) = body["continuationToken"].as_str() else { break };
        path = format!(
            "/api/pulse/v1/audit?actor=issuer&limit=1&continuationToken={}",
            token.replace('=', "%3D").replace('+', "%2B")
        );
    }
    pages.sort_by_key(Value::to_string);
    assert_eq!(pages, ["taskcluster-0", "taskcluster-1", "taskcluster-2", "taskcluster-y"]);
}
