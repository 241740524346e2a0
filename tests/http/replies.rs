//! What is answered: Taskcluster's own cases (`tests/vectors`), claims, lists, and what is accepted in payloads.

use std::sync::Arc;
use std::time::Duration;

use regex::Regex;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use taskcluster_pulse::clock::Clock;
use taskcluster_pulse::hawk::payload_hash;
use taskcluster_pulse::store::StoreError;
use taskcluster_pulse::web::api::contract::Contract;

use super::site::{BrokenStore, ROOT, Site};
use crate::support::world::{BrokerKind, HOUR, StoreKind, World};

#[derive(Deserialize)]
struct Case {
    description: String,
    request: CaseRequest,
    response: CaseResponse,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseRequest {
    method: String,
    path: String,
    content_type: Option<String>,
    body: Option<String>,
    auth: Option<CaseAuth>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseAuth {
    client_id: String,
    hash: Option<String>,
}

#[derive(Deserialize)]
struct CaseResponse {
    status: u16,
    body: Value,
    #[serde(default)]
    headers: serde_json::Map<String, Value>,
}

/// A body that a client signs the hash of, and does not send.
const OTHER_BODY: &str = "{\"contact\":\"a@b.co\"}";

/// Where we answer otherwise on purpose: Taskcluster leaves this placeholder in the text.
fn without_quirks(message: &str) -> String {
    message.replace("{{hash}}", &payload_hash("application/json", OTHER_BODY.as_bytes()))
}

/// Compares a reply with what is expected, in which words in angle brackets stand for what differs from run to run.
fn differences(at: &str, expected: &Value, got: &Value) -> Vec<String> {
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            let keys = |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<Vec<_>>();
            if keys(expected) != keys(got) {
                return vec![format!("{at}: expected the keys {:?}, got {:?}", keys(expected), keys(got))];
            }
            let inside = |(key, value)| differences(&format!("{at}/{key}"), value, &got[key]);
            expected.iter().flat_map(inside).collect()
        }
        (Value::String(expected), got) => {
            let pattern = regex::escape(&without_quirks(expected))
                .replace("<rootUrl>", &regex::escape(ROOT))
                .replace("<time>", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
                .replace("<uuid>", "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
                .replace("<engine message>", "[^\n]+")
                .replace("<validator message>", "[^\n]+")
                .replace("<seconds>", r"\d+(\.\d+)?");
            let text = got.as_str().map_or_else(|| got.to_string(), str::to_owned);
            let same = Regex::new(&format!("^{pattern}$")).unwrap().is_match(&text);
            if same { vec![] } else { vec![format!("{at}:\n  expected {expected:?}\n  got      {text:?}")] }
        }
        (expected, got) if expected == got => vec![],
        (expected, got) => vec![format!("{at}: expected {expected}, got {got}")],
    }
}

#[tokio::test]
async fn replies_are_those_of_taskcluster() {
    let site = Site::new().await;
    let mut world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    world.store = Arc::new(BrokenStore(|| StoreError::Failed("as the test wants it".into())));
    let failing = Site::on(world, |_| ()).await;
    let mut failures = Vec::new();
    let text = include_str!("../vectors/api_replies.json");
    let cases: Vec<Case> = serde_json::from_str(&text.replace("<fails>", "taskcluster-fails")).unwrap();
    assert!(cases.len() >= 15);
    for Case { description, request, response } in cases {
        let site = if request.path.contains("fails") { &failing } else { &site };
        let mut ask = site.ask(request.method.parse().unwrap(), &request.path);
        if let Some(content_type) = &request.content_type {
            ask = ask.header("content-type", content_type);
        }
        if let Some(body) = request.body {
            ask = ask.body(body);
        }
        if let Some(CaseAuth { client_id, hash }) = request.auth {
            ask = ask.signed(&client_id);
            if hash.is_some() {
                ask = ask.signed_for(OTHER_BODY);
            }
        }
        let answer = ask.send().await;
        // Ours says how its neighbours are, as Dockerflow has it.
        let says_more = request.path == "/__heartbeat__" && answer.body["status"] == "ok";
        let mut differs = if says_more { Vec::new() } else { differences("", &response.body, &answer.body) };
        if answer.status != response.status {
            differs.push(format!("expected the status {}, got {}", response.status, answer.status));
        }
        for (name, value) in response.headers {
            differs.extend(differences(&name, &value, &json!(answer.header(&name))));
        }
        if answer.header("content-type") != "application/json; charset=utf-8" {
            differs.push(format!("the content type is {:?}", answer.header("content-type")));
        }
        failures.extend(differs.into_iter().map(|difference| format!("{description}: {difference}")));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test]
async fn a_claim_is_answered_with_a_string_that_logs_in_and_the_same_one_again() {
    let site = Site::new().await;
    let now = site.world.clock.now();
    let first = site.claim("taskcluster-x", "{}").send().await.good();
    assert_eq!(first["namespace"], "taskcluster-x");
    assert_eq!(first["created"], now.to_string());
    assert_eq!(first["expires"], now.plus(4 * HOUR).to_string());
    assert_eq!(first["reclaimAt"], now.plus(HOUR + HOUR / 2).to_string());
    let keys: Vec<_> = first.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["namespace", "created", "expires", "connectionString", "reclaimAt"]);
    assert!(site.world.logs_in(first["connectionString"].as_str().unwrap()).await);
    assert_eq!(site.claim("taskcluster-x", "{}").send().await.good(), first);
}

#[tokio::test]
async fn what_a_claim_says_is_kept_and_who_may_claim_may_read_it() {
    let site = Site::new().await;
    let expires = site.world.clock.now().plus(9 * HOUR).to_string();
    let said = json!({"expires": expires, "contact": "a@a.com"}).to_string();
    let claimed = site.claim("taskcluster-x", &said).send().await.good();
    assert_eq!(claimed["expires"], expires);
    let silent = site.claim("taskcluster-x", "{}").send().await.good();
    assert_eq!(silent["expires"], expires, "saying nothing shortens nothing");

    let shown = site.get("/api/pulse/v1/namespace/taskcluster-x").signed("only-x").send().await.good();
    let expected = json!({
        "namespace": "taskcluster-x", "created": claimed["created"], "expires": expires, "contact": "a@a.com",
    });
    assert_eq!(shown, expected);
    let list = site.get("/api/pulse/v1/namespaces").signed("only-x").send().await.good();
    assert_eq!(list, json!({"namespaces": [expected]}));
}

/// Every way of writing a date or an address that Taskcluster's validator takes is taken, and no other.
#[tokio::test]
async fn dates_and_addresses_are_read_as_taskcluster_reads_them() {
    let site = Site::new().await;
    let formats: Value = serde_json::from_str(include_str!("../vectors/formats.json")).unwrap();
    let mut failures = Vec::new();
    let cases = [("expires", "date-time", "today"), ("contact", "email", "valid")];
    for (field, format, valid) in cases {
        for case in formats[format].as_array().unwrap() {
            // An empty contact means that nobody is to be told.
            let valid = case[valid] == json!(true) || (field == "contact" && case["value"] == "");
            let answer = site.claim("taskcluster-x", &json!({field: case["value"]}).to_string()).send().await;
            let complaint = format!("  * data/{field} must match format \"{format}\"");
            let right = match valid {
                true => answer.status == 200,
                false => answer.verdict() == (400, "InputValidationError") && answer.message().contains(&complaint),
            };
            if !right {
                failures.push(format!("{field} {}: {}", case["value"], answer.text));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test]
async fn a_payload_may_be_empty_or_begin_with_a_mark_or_name_its_charset() {
    let site = Site::new().await;
    for (content_type, body) in [
        ("application/json", ""),
        ("application/json", "{}"),
        ("APPLICATION/Json", "{}"),
        ("application/json; charset=utf-8", "{}"),
        ("application/json;charset=latin1", "{}"),
        ("application/json", "\u{feff}{}"),
        ("application/json", "{\"contact\": \"a@a.com\", \"contact\": \"\"}"),
        ("application/json", "{\"expires\": \"2001-01-01T00:00:00Z\"}"),
    ] {
        let ask = site.ask(Method::POST, "/api/pulse/v1/namespace/taskcluster-x");
        let ask = ask.header("content-type", content_type).header("content-length", &body.len().to_string());
        let signed = ask.body(body).signed("test-client").signed_for(body.trim_start_matches('\u{feff}'));
        let answer = signed.send().await;
        assert_eq!(answer.status, 200, "{content_type} {body:?}: {}", answer.text);
    }
}

#[tokio::test]
async fn pages_follow_one_another_in_the_order_of_names_until_the_last() {
    let site = Site::new().await;
    let mut names: Vec<_> = ["x", "b", "a", "Z", "_", "10", "9"].map(|end| format!("taskcluster-{end}")).into();
    for name in &names {
        site.world.claim(name).await.unwrap();
    }
    names.sort();
    for limit in 1..=8 {
        let (mut seen, mut pages, mut token) = (Vec::new(), 0, String::new());
        loop {
            let page = site.get(&format!("/api/pulse/v1/namespaces?limit={limit}{token}")).send().await.good();
            let found = page["namespaces"].as_array().unwrap();
            assert!((1..=limit).contains(&found.len()));
            seen.extend(found.iter().map(|namespace| namespace["namespace"].as_str().unwrap().to_owned()));
            pages += 1;
            match page["continuationToken"].as_str() {
                Some(next) => token = format!("&continuationToken={next}"),
                None => break,
            }
        }
        assert_eq!((&seen, pages), (&names, names.len().div_ceil(limit)), "limit {limit}");
    }
    for limit in ["0", "1000", "1001", "99999999999999999999"] {
        let page = site.get(&format!("/api/pulse/v1/namespaces?limit={limit}")).send().await.good();
        assert_eq!(page["namespaces"].as_array().unwrap().len(), names.len(), "limit {limit}");
    }
    let before = site.get("/api/pulse/v1/namespaces?limit=6").send().await.good();
    let vectors: Value = serde_json::from_str(include_str!("../vectors/pagination.json")).unwrap();
    assert_eq!(before["namespaces"][5]["namespace"], "taskcluster-b");
    site.world.claim("taskcluster-y").await.unwrap();
    let before = site.get("/api/pulse/v1/namespaces?limit=7").send().await.good();
    assert_eq!(before["continuationToken"], vectors["index"]["examples"][0]["token"], "that of taskcluster-x");
}

#[tokio::test]
async fn a_continuation_token_that_is_none_is_refused() {
    let site = Site::new().await;
    let vectors: Value = serde_json::from_str(include_str!("../vectors/pagination.json")).unwrap();
    let examples = |kind: &str| vectors[kind]["examples"].as_array().unwrap().clone();
    let foreign = [&examples("offset")[..], &examples("index")[1..]].concat();
    let foreign = foreign.iter().map(|example| example["token"].as_str().unwrap().to_owned());
    for token in foreign.chain(["x".into(), "%00".into(), "a%3Db~c".into()]) {
        let answer = site.get(&format!("/api/pulse/v1/namespaces?continuationToken={token}")).send().await;
        assert_eq!(answer.verdict(), (400, "InputError"), "{token}: {}", answer.text);
        assert!(answer.message().starts_with("Invalid continuation token"), "{}", answer.message());
    }
    let empty = site.get("/api/pulse/v1/namespaces?continuationToken=").send().await;
    assert_eq!(empty.verdict(), (400, "InvalidRequestArguments"));
}

/// Namespaces that are gone are shown to nobody.
#[tokio::test]
async fn what_has_expired_is_neither_listed_nor_found() {
    let site = Site::new().await;
    site.world.claim_for("taskcluster-x", "", HOUR).await;
    site.world.clock.advance(3 * HOUR + Duration::from_secs(1));
    site.world.service().expire(&site.world.expiry_policy(), false).await.unwrap();
    assert_eq!(site.get("/api/pulse/v1/namespaces").send().await.good(), json!({"namespaces": []}));
    assert_eq!(site.get("/api/pulse/v1/namespace/taskcluster-x").send().await.verdict(), (404, "ResourceNotFound"));
}

/// What is served keeps the published contract.
#[tokio::test]
async fn replies_match_their_schemas() {
    let site = Site::new().await;
    let contract = Contract::new(Some(&ROOT.parse().unwrap())).unwrap();
    let claimed = site.claim("taskcluster-x", "{\"contact\": \"a@a.com\"}").send().await.good();
    site.claim("taskcluster-y", "{}").send().await.good();
    let namespace = site.get("/api/pulse/v1/namespace/taskcluster-x").send().await.good();
    let list = site.get("/api/pulse/v1/namespaces?limit=1").send().await.good();
    assert!(list["continuationToken"].is_string());
    for (schema, reply) in [
        ("v1/namespace-response.json#", claimed),
        ("v1/namespace.json#", namespace),
        ("v1/list-namespaces-response.json#", list),
    ] {
        assert_eq!(contract.validate(schema, &reply), Ok(()));
        let mut more = reply.clone();
        more["password"] = json!("x");
        assert!(contract.validate(schema, &more).is_err(), "{schema} would allow anything");
    }
}
