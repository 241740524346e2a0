//! What administrators do, as callers of the API meet it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use taskcluster_pulse::access::sessions::SessionId;
use taskcluster_pulse::clock::{Clock as _, Timestamp};
use taskcluster_pulse::domain::audit::{AuditFilter, By};
use taskcluster_pulse::domain::inventory::QueueKind;
use taskcluster_pulse::domain::notice::Notice;
use taskcluster_pulse::domain::session::Person;
use taskcluster_pulse::store::{Change, Keep, Record, Write};
use taskcluster_pulse::web::api::contract::Contract;
use taskcluster_pulse::web::api::routes::ROUTES;

use super::site::Site;
use crate::support::world::HOUR;

const ROOT: &str = "/api/pulse/v1";
const EVENTS: &str = "exchange/taskcluster-x/events";

/// A site whose brakes let one run remove two things.
async fn site() -> Site {
    let site = Site::wish(|wishes| {
        wishes.client = Some(("admin", "canary-access-token-of-admin", &["pulse:admin"]));
        wishes.settings.console.tasks.expiry.brakes.most = 2;
    })
    .await;
    site.world.claim_for("taskcluster-x", "me@example.com", 900 * HOUR).await;
    site
}

/// The answer to a request of the client `who`, with its status. A good one is by its schema.
async fn call(site: &Site, who: &str, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let ask = site.ask(method, &format!("{ROOT}{path}"));
    let ask = if let Some(body) = body { ask.json(body.to_string()) } else { ask };
    let answer = match who {
        "admin" => ask.signed_with("admin", "canary-access-token-of-admin"),
        "" => ask,
        who => ask.signed(who),
    };
    let answer = answer.send().await;
    (answer.status.as_u16(), answer.body)
}

/// What an administrator gets, by the schema of that endpoint.
async fn get(site: &Site, path: &str, name: &str) -> Value {
    good(name, call(site, "admin", Method::GET, path, None).await)
}

async fn post(site: &Site, path: &str, name: &str, body: Value) -> Value {
    good(name, call(site, "admin", Method::POST, path, Some(body)).await)
}

#[track_caller]
fn good(name: &str, (status, body): (u16, Value)) -> Value {
    assert_eq!(status, 200, "{name}: {body}");
    let schema = ROUTES.iter().find(|entry| entry.name == name).unwrap().output.unwrap();
    assert_eq!(Contract::new(None).unwrap().validate(schema, &body), Ok(()), "{name}: {body}");
    body
}

fn why() -> Value {
    json!({"reason": "it is a test"})
}

async fn actions(site: &Site) -> Vec<(String, String)> {
    let found = site.world.store.audits(&AuditFilter::default(), 100).await.unwrap();
    found.into_iter().map(|of| (of.action, of.by.actor.to_string())).collect()
}

#[tokio::test]
async fn what_only_administrators_may_is_refused_to_others() {
    let site = site().await;
    let run = json!({"mayRemove": 5, "reason": "x"});
    let look = json!({"exchanges": [{"exchange": EVENTS}]});
    for (name, method, path, body) in [
        ("inspect", Method::POST, "/inspect", Some(look)),
        ("listUnknown", Method::GET, "/unknown", None),
        ("deleteUnknown", Method::POST, "/namespace/taskcluster-x/delete-unknown", Some(why())),
        ("listPeople", Method::GET, "/people", None),
        ("signOutPerson", Method::DELETE, "/people/a/sessions", None),
        ("disablePerson", Method::POST, "/people/a/disable", Some(why())),
        ("enablePerson", Method::POST, "/people/a/enable", Some(why())),
        ("listTasks", Method::GET, "/tasks", None),
        ("planTask", Method::GET, "/tasks/expire-namespaces/plan", None),
        ("runTask", Method::POST, "/tasks/expire-namespaces/run", Some(run)),
        ("listUndelivered", Method::GET, "/undelivered", None),
        ("rabbitmq", Method::GET, "/rabbitmq", None),
        ("listDisabledNamespaces", Method::GET, "/namespaces/disabled", None),
        ("listAllExemptions", Method::GET, "/exemptions", None),
    ] {
        let entry = ROUTES.iter().find(|entry| entry.name == name).unwrap();
        assert!(entry.category != "Administration" || entry.scopes() == Some(vec!["pulse:admin"]), "{name}");
        let before = site.world.fake().all_requests();
        for who in ["only-x", "weak"] {
            let (status, refused) = call(&site, who, method.clone(), path, body.clone()).await;
            assert_eq!((status, &refused["code"]), (403, &json!("InsufficientScopes")), "{who} {name}");
        }
        assert_eq!(call(&site, "", method, path, body).await.0, 403, "{name}");
        assert_eq!(site.world.fake().all_requests(), before, "the broker is asked nothing: {name}");
    }
    let administration = ROUTES.iter().filter(|entry| entry.category == "Administration").count();
    assert_eq!(administration, 11, "each is among those above");
}

#[tokio::test]
async fn what_nobody_accounts_for_is_listed_and_deleted() {
    let site = site().await;
    site.world.fill("queue/taskcluster-lost/a", QueueKind::Classic, 3).await;
    site.world.make_user("taskcluster-theirs-1", "administrator").await;
    site.world.fill("queue/taskcluster-theirs/a", QueueKind::Classic, 3).await;
    let found = get(&site, "/unknown", "listUnknown").await;
    let of = |at: usize| (&found["namespaces"][at]["namespace"], &found["namespaces"][at]["theirs"]);
    assert_eq!(of(0), (&json!("taskcluster-lost"), &json!(false)));
    assert_eq!(of(1), (&json!("taskcluster-theirs"), &json!(true)));
    let end = |name: &str| format!("/namespace/{name}/delete-unknown");
    for bad in [json!({}), json!({"reason": ""})] {
        assert_eq!(call(&site, "admin", Method::POST, &end("taskcluster-lost"), Some(bad)).await.0, 400);
    }
    for (name, status, told) in [
        ("taskcluster-x", 409, "the database knows the namespace taskcluster-x: release it instead"),
        ("taskcluster-theirs", 409, "RabbitMQ's user taskcluster-theirs-1 is somebody else's"),
        ("taskcluster-none", 404, "RabbitMQ has nothing in the name of an unknown namespace taskcluster-none"),
    ] {
        let (found, refused) = call(&site, "admin", Method::POST, &end(name), Some(why())).await;
        let message = refused["message"].as_str().unwrap().to_lowercase();
        assert!(found == status && message.starts_with(&told.to_lowercase()), "{found} {message}");
    }
    let pending = post(&site, &end("taskcluster-lost"), "deleteUnknown", why()).await;
    assert_eq!(pending["state"], "pending");
    site.world.clock.advance(HOUR);
    site.world.service().expire(&site.world.expiry_policy(), false).await.unwrap();
    assert_eq!(site.world.queues().await, ["queue/taskcluster-theirs/a"]);
    let over = call(&site, "admin", Method::POST, &end("taskcluster-lost"), Some(why())).await;
    assert_eq!(over.0, 404, "nothing is left of it");
    assert!(actions(&site).await.contains(&("end-unknown".to_owned(), "client admin".to_owned())));
}

#[tokio::test]
async fn people_are_listed_signed_out_and_kept_from_signing_in() {
    let site = site().await;
    let subject = "https://idp.example.com/|a b";
    let path = |act: &str| format!("/people/https:%2F%2Fidp.example.com%2F%7Ca%20b/{act}");
    let enter = async || {
        let groups = vec!["releng".to_owned()];
        let person = Person {
            subject: subject.to_owned(),
            address: Some("who@example.com".to_owned()),
            groups,
            scopes: Vec::new(),
        };
        let (id, by) = (SessionId::random(), By::client("test"));
        site.world.service().sign_in(&id.hash(), person, "test", &by).await.map(|_| id)
    };
    let first = enter().await.unwrap();
    let second = enter().await.unwrap();
    let found = get(&site, "/people", "listPeople").await;
    let shown = &found["people"][0];
    assert_eq!((&shown["person"], &shown["name"]), (&json!(subject), &json!("who@example.com")));
    assert_eq!((shown["sessions"].as_array().unwrap().len(), &shown["groups"]), (2, &json!(["releng"])));
    let sign_out = async || call(&site, "admin", Method::DELETE, &path("sessions"), None).await;
    let out = good("signOutPerson", sign_out().await);
    assert_eq!(out, json!({"person": subject, "sessions": 2}));
    for id in [first, second] {
        assert!(site.world.service().session(&id.hash()).await.unwrap().is_none());
    }
    assert_eq!(sign_out().await.0, 404);
    for act in ["disable", "enable"] {
        assert_eq!(call(&site, "admin", Method::POST, &path(act), Some(why())).await.0, 404, "nobody is there: {act}");
    }
    enter().await.unwrap();
    assert_eq!(call(&site, "admin", Method::POST, &path("disable"), Some(json!({}))).await.0, 400, "with a reason");
    assert_eq!(post(&site, &path("disable"), "disablePerson", why()).await["sessions"], 1);
    assert!(enter().await.is_err());
    let found = get(&site, "/people", "listPeople").await;
    assert_eq!(found["people"][0]["disabled"]["reason"], "it is a test", "{found}");
    assert_eq!(found["people"][0]["disabled"]["by"], "client admin");
    post(&site, &path("enable"), "enablePerson", why()).await;
    enter().await.unwrap();
    let done = actions(&site).await;
    for action in ["sign-out", "disable-person", "enable-person"] {
        assert!(done.contains(&(action.to_owned(), "client admin".to_owned())), "{action}: {done:?}");
    }
}

#[tokio::test]
async fn a_task_is_planned_and_run_once_with_more_than_its_brakes_allow() {
    let site = site().await;
    for number in 0..5 {
        site.world.claim_for(&format!("taskcluster-{number}"), "", HOUR).await;
    }
    site.world.clock.advance(11 * HOUR);
    let plan = get(&site, "/tasks/expire-namespaces/plan", "planTask").await;
    assert_eq!((&plan["removals"], &plan["refused"], &plan["more"]), (&json!(5), &json!(5), &json!(0)), "{plan}");
    assert_eq!(plan["steps"].as_array().unwrap().len(), 5);
    assert!(plan["held"].as_str().unwrap().contains("may remove at most 2"), "{plan}");
    get(&site, "/tasks/rotate-namespaces/plan", "planTask").await;
    get(&site, "/tasks/monitor-rabbit/plan", "planTask").await;
    for (method, path, body, status) in [
        (Method::GET, "/tasks/deliver-notices/plan", None, 400),
        (Method::GET, "/tasks/no-such/plan", None, 404),
        (Method::POST, "/tasks/no-such/run", Some(json!({"mayRemove": 1, "reason": "x"})), 404),
        (Method::POST, "/tasks/rotate-namespaces/run", Some(json!({"mayRemove": 1, "reason": "x"})), 400),
        (Method::POST, "/tasks/expire-namespaces/run", Some(json!({"mayRemove": 5})), 400),
        (Method::POST, "/tasks/expire-namespaces/run", Some(json!({"mayRemove": 0, "reason": "x"})), 400),
    ] {
        assert_eq!(call(&site, "admin", method, path, body).await.0, status, "{path}");
    }
    let live = async || site.world.service().list(None, 10).await.unwrap().len();
    let run = async |most: u64| {
        let body = json!({"mayRemove": most, "reason": "tidy"});
        post(&site, "/tasks/expire-namespaces/run", "runTask", body).await
    };
    let too_few = run(4).await;
    assert_eq!((&too_few["changed"], &too_few["refused"], live().await), (&json!(0), &json!(5), 6), "{too_few}");
    let ran = run(5).await;
    assert_eq!((&ran["failed"], ran.get("held"), live().await), (&json!(0), None, 1), "{ran}");
    let tasks = get(&site, "/tasks", "listTasks").await;
    let of = tasks["tasks"].as_array().unwrap().iter().find(|of| of["task"] == "expire-namespaces").unwrap();
    assert_eq!((&of["removes"], &of["lastRun"]["good"]), (&json!(true), &json!(true)), "{of}");
    assert!(actions(&site).await.contains(&("run-task".to_owned(), "client admin".to_owned())));
}

#[tokio::test]
async fn what_an_administrator_looks_after_is_listed() {
    let site = site().await;
    let release = get(&site, "/rabbitmq", "rabbitmq").await;
    assert!(!release["version"].as_str().unwrap().is_empty(), "{release}");
    assert_eq!(get(&site, "/namespaces/disabled", "listDisabledNamespaces").await["namespaces"], json!([]));
    post(&site, "/namespace/taskcluster-x/disable", "disableNamespace", why()).await;
    let disabled = get(&site, "/namespaces/disabled", "listDisabledNamespaces").await;
    assert_eq!(disabled["namespaces"][0]["namespace"], "taskcluster-x");
    let exemption = json!({"upTo": 50_000, "reason": "slow"});
    let path = "/namespace/taskcluster-x/exemptions/queue%2Ftaskcluster-x%2Fa";
    good("setExemption", call(&site, "admin", Method::PUT, path, Some(exemption)).await);
    let all = get(&site, "/exemptions", "listAllExemptions").await;
    assert_eq!(
        (&all["exemptions"][0]["namespace"], &all["exemptions"][0]["upTo"]),
        (&json!("taskcluster-x"), &json!(50_000))
    );
    assert_eq!(get(&site, "/undelivered", "listUndelivered").await, json!({"messages": []}));
    give_up(&site).await;
    let lost = get(&site, "/undelivered?limit=10", "listUndelivered").await;
    let lost = &lost["messages"][0];
    assert_eq!(
        (&lost["to"], &lost["why"], &lost["namespace"]),
        (&json!("me@example.com"), &json!("no such box"), &json!("taskcluster-x"))
    );
    assert_eq!(call(&site, "admin", Method::GET, "/undelivered?after=x", None).await.0, 400);
}

/// A message that nobody got.
async fn give_up(site: &Site) {
    let (store, now) = (&site.world.store, site.world.clock.now());
    let name = site.world.name("taskcluster-x");
    let found = store.namespace(&name).await.unwrap().unwrap();
    let notice = Notice {
        id: "1".to_owned(),
        namespace: name,
        to: "me@example.com".to_owned(),
        subject: "a queue".to_owned(),
        text: "It is large.".to_owned(),
        created: now,
        attempts: 1,
        due: now,
        about: None,
        brief: None,
        instead_of: Vec::new(),
    };
    let change = Change { record: Record::Namespace(found), notices: vec![notice], audits: Vec::new() };
    assert_eq!(store.write(&[change]).await.unwrap(), [Write::Done]);
    let keep = Keep { since: Timestamp::from_millis(0), most: 20 };
    store.give_up_notice("1", now, "no such box", keep).await.unwrap();
}

#[tokio::test]
async fn messages_are_looked_at_for_a_while_or_until_there_are_enough() {
    let site = site().await;
    site.world.fake().state().exchanges.insert(EVENTS.to_owned());
    let look = async |exchange: &str, seconds: u64, messages: u64| {
        let exchanges = json!([{"exchange": exchange, "routingKey": "task.#"}]);
        let body = json!({"exchanges": exchanges, "seconds": seconds, "messages": messages});
        call(&site, "admin", Method::POST, "/inspect", Some(body)).await
    };
    let publish = async || {
        while site.world.fake().state().bindings.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for body in [r#"{"taskId": "a"}"#, "second", "third"] {
            site.world.fake().state().publish(EVENTS, "task.done", body);
        }
    };
    let (found, ()) = tokio::join!(look(EVENTS, 9, 2), publish());
    let found = good("inspect", found);
    let bodies: Vec<_> = found["messages"].as_array().unwrap().iter().map(|of| of["body"].as_str().unwrap()).collect();
    assert_eq!(bodies, [r#"{"taskId": "a"}"#, "second"]);
    assert_eq!((&found["messages"][0]["routingKey"], &found["leftOut"]), (&json!("task.done"), &json!(false)));
    assert_eq!(site.world.queues().await, [""; 0], "nothing is left of it");
    let nothing = good("inspect", look(EVENTS, 1, 5).await);
    assert_eq!(nothing, json!({"messages": [], "leftOut": false}));
    for (exchange, seconds, status) in
        [("amq.topic", 1, 400), ("exchange/taskcluster-x/no", 1, 404), (EVENTS, 11, 400), (EVENTS, 0, 400)]
    {
        assert_eq!(look(exchange, seconds, 1).await.0, status, "{exchange} {seconds}");
    }
    assert_eq!(call(&site, "admin", Method::POST, "/inspect", Some(json!({"exchanges": []}))).await.0, 400);
    assert_eq!(site.world.queues().await, [""; 0]);
    let record = site.world.store.audits(&AuditFilter::default(), 100).await.unwrap();
    let record = record.into_iter().find(|of| of.action == "inspect").unwrap();
    assert_eq!((record.by.actor.to_string(), record.object.as_str()), ("client admin".to_owned(), EVENTS));
}
