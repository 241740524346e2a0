//! The queues and exchanges of a namespace, as callers of the API meet them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::future::join_all;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Value, json};
use taskcluster_pulse::domain::inventory::QueueKind;
use taskcluster_pulse::web::api::routes::ROUTES;

use super::recorder;
use super::site::Site;
use crate::support::fake_broker::{Connection, Failure, Fault, Queue, VHOST};
use crate::support::world::{HOUR, World};

const X: &str = "/api/pulse/v1/namespace/taskcluster-x";

/// Names that are hard to write, after what each of the namespace begins with.
const ODD: [&str; 14] = [
    "a/b",
    "a%2Fb",
    "a b ",
    " ",
    "a+b?c#d&e=f;g",
    "%",
    "%zz",
    "\t",
    "\0\u{1}\u{7f}",
    "ü日本💌",
    "\"a\\b'<c>",
    "..",
    "../../taskcluster-y/z",
    "*",
];

async fn site() -> Site {
    let manager: (&str, &str, &[&str]) = ("manager", "canary-access-token-of-manager", &["pulse:manage:taskcluster-x"]);
    let site = Site::wish(|wishes| wishes.client = Some(manager)).await;
    site.world.claim_for("taskcluster-x", "me@example.com", 9 * HOUR).await;
    site
}

fn fill(world: &World, queue: &str, messages: u64) {
    world.fake().state().queues.insert(queue.to_owned(), Queue::classic(messages));
}

fn escaped(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// The answer to a request of the client `who`, with its status.
async fn call(site: &Site, who: &str, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let ask = site.ask(method, path);
    let ask = if let Some(body) = body { ask.json(body.to_string()) } else { ask };
    let answer = match who {
        "manager" => ask.signed_with("manager", "canary-access-token-of-manager"),
        "" => ask,
        who => ask.signed(who),
    };
    let answer = answer.send().await;
    (answer.status.as_u16(), answer.body)
}

async fn get(site: &Site, path: &str) -> Value {
    let (status, body) = call(site, "only-x", Method::GET, &format!("{X}/{path}"), None).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

async fn listed(site: &Site, query: &str) -> Vec<String> {
    names(&get(site, &format!("queues{query}")).await, "queues", "queue")
}

fn names(body: &Value, list: &str, key: &str) -> Vec<String> {
    body[list].as_array().unwrap().iter().map(|item| item[key].as_str().unwrap().to_owned()).collect()
}

/// How often the broker was asked for all queues.
fn listings(site: &Site) -> usize {
    site.world.fake().requests("GET", &format!("/api/queues/{VHOST}"))
}

/// How many listings there may be since then: one is shared for five seconds.
fn due(began: Instant) -> usize {
    1 + began.elapsed().as_secs() as usize / 5
}

/// The records of the trail about queues and exchanges, the oldest first: actor, action, object, reason.
async fn trail(site: &Site) -> Vec<[String; 4]> {
    let body = get(site, "audit").await;
    let text = |of: &Value| of.as_str().unwrap().to_owned();
    let all = body["records"].as_array().unwrap().iter().rev();
    let records = all.map(|record| ["actor", "action", "object", "reason"].map(|key| text(&record[key])));
    records.filter(|[_, action, ..]| action != "claim" && action != "refuse").collect()
}

fn message(body: &Value) -> &str {
    body["message"].as_str().unwrap().split("\n\n---").next().unwrap()
}

#[tokio::test]
async fn queues_are_listed_in_order_page_by_page_and_by_what_is_asked_for() {
    let (site, began) = (site().await, Instant::now());
    for (queue, messages) in [("b", 5), ("a", 0), ("C", 41), ("c/ü", 1000)] {
        fill(&site.world, &format!("queue/taskcluster-x/{queue}"), messages);
    }
    fill(&site.world, "queue/taskcluster-xy/a", 7);
    fill(&site.world, "queue/elsewhere", 7);
    let stream = Queue { kind: QueueKind::Stream, ..Queue::classic(9) };
    site.world.fake().state().queues.insert("queue/taskcluster-x/d".to_owned(), stream);
    site.world.fake().state().told.insert("queue/taskcluster-x/b".to_owned(), json!({"messages_unacknowledged": 2}));
    let whole = |short: &[&str]| short.iter().map(|name| format!("queue/taskcluster-x/{name}")).collect::<Vec<_>>();
    assert_eq!(listed(&site, "").await, whole(&["C", "a", "b", "c/ü", "d"]));
    let first = get(&site, "queues").await["queues"].clone();
    let b = json!({"queue": "queue/taskcluster-x/b", "kind": "classic", "exclusive": false, "state": "unknown",
        "total": 5, "unacked": 2, "ready": 3});
    assert_eq!((&first[2], first[1]["state"].as_str()), (&b, Some("fine")));
    let d = json!({"queue": "queue/taskcluster-x/d", "kind": "stream", "exclusive": false, "state": "unknown"});
    assert_eq!(first[4]["kind"], d["kind"]);
    assert_eq!(first[4].get("total"), None, "that of a stream is not told");
    assert_eq!(listed(&site, "?minMessages=5").await, whole(&["C", "b", "c/ü"]));
    assert_eq!(listed(&site, "?search=C").await, whole(&["C", "c/ü"]));
    assert_eq!(listed(&site, "?search=taskcluster").await, [""; 0], "that is in all of their names");
    assert_eq!(listed(&site, "?search=%C3%9C&minMessages=1000").await, whole(&["c/ü"]));
    assert_eq!(listed(&site, "?state=fine").await, whole(&["a"]));
    assert_eq!(listed(&site, "?state=no%20consumer").await, [""; 0]);
    for state in ["", "?state=unknown"] {
        let (mut query, mut paged) = (state.to_owned(), Vec::new());
        let and = if state.is_empty() { "?" } else { "&" };
        loop {
            let page = get(&site, &format!("queues{query}{}limit=2", if query.is_empty() { "?" } else { "&" })).await;
            paged.extend(names(&page, "queues", "queue"));
            let Some(token) = page["continuationToken"].as_str() else { break };
            query = format!("{state}{and}continuationToken={}", escaped(token));
        }
        assert_eq!(paged, listed(&site, state).await);
    }
    assert!(listings(&site) <= due(began), "{}", listings(&site));
    for bad in ["minMessages=x", "minMessages=-1", "state=bad", "search=", "other=1", "continuationToken=x"] {
        let (status, body) = call(&site, "only-x", Method::GET, &format!("{X}/queues?{bad}"), None).await;
        assert_eq!(status, 400, "{bad}: {body}");
    }
    let (status, body) =
        call(&site, "test-client", Method::GET, "/api/pulse/v1/namespace/taskcluster-no/queues", None).await;
    assert_eq!((status, message(&body)), (404, "No such namespace"));
}

#[tokio::test]
async fn everything_that_is_known_of_one_queue_is_shown() {
    let site = site().await;
    let queue = "queue/taskcluster-x/tasks";
    fill(&site.world, queue, 41);
    {
        let mut state = site.world.fake().state();
        let key = |exchange: &str, key: &str| (queue.to_owned(), exchange.to_owned(), key.to_owned());
        state.bindings = vec![key("exchange/b/v1", "#"), key("exchange/a/v1", "x.*")];
        let consumer = json!({"prefetch_count": 7, "channel_details": {"name": "c (1)", "connection_name": "c",
            "user": "taskcluster-x-1", "peer_host": "10.0.0.1", "peer_port": 4711}});
        let told = json!({"messages_unacknowledged": 1, "consumers": 1, "consumer_details": [consumer],
            "message_stats": {"deliver": 1}});
        state.told.insert(queue.to_owned(), told);
    }
    for _ in 0..10 {
        site.world.clock.advance(Duration::from_secs(120));
        fill(&site.world, queue, 41);
        site.world.service().sweep(&site.world.sweep_policy(), false).await.unwrap();
    }
    fill(&site.world, queue, 7);
    let exemption = json!({"upTo": 50_000, "reason": "a slow reader"});
    let path = format!("{X}/exemptions/{}", escaped(queue));
    assert_eq!(call(&site, "test-client", Method::PUT, &path, Some(exemption)).await.0, 200);
    let path = format!("queues/{}", escaped(queue));
    let shown = get(&site, &path).await;
    assert_eq!((&shown["total"], &shown["ready"], &shown["unacked"]), (&json!(7), &json!(6), &json!(1)), "{shown}");
    assert_eq!(shown["exemption"]["upTo"], 50_000);
    assert_eq!(
        shown["bindings"],
        json!([{"exchange": "exchange/a/v1", "routingKey": "x.*"}, {"exchange": "exchange/b/v1", "routingKey": "#"}])
    );
    let reader = json!({"connection": "c", "user": "taskcluster-x-1", "address": "10.0.0.1:4711", "prefetch": 7});
    assert_eq!((&shown["consumers"], &shown["readers"]), (&json!(1), &json!([reader])));
    let history = shown["history"].as_array().unwrap();
    assert_eq!((history.len(), &history[9]["total"]), (10, &json!(41)), "{history:?}");
    assert!(history.is_sorted_by_key(|look| look["time"].as_str()));
    assert_eq!((&shown["state"], &shown["stage"]), (&json!("stalled"), &json!("warned")), "{shown}");
    assert!(shown["verdict"].as_str().unwrap().contains("its one consumer never acknowledged anything"), "{shown}");
    assert_eq!(shown["judged"], history[9]["time"]);
    assert_eq!(listed(&site, "?state=stalled").await, [queue]);
    // Another queue of the same name was not looked at.
    let quorum = Queue { kind: QueueKind::Quorum, ..Queue::classic(3) };
    site.world.fake().state().queues.insert(queue.to_owned(), quorum);
    let shown = get(&site, &path).await;
    assert_eq!((&shown["state"], shown.get("stage"), &shown["history"]), (&json!("unknown"), None, &json!([])));
    let missing = format!("{X}/queues/{}", escaped("queue/taskcluster-x/no"));
    let (status, body) = call(&site, "only-x", Method::GET, &missing, None).await;
    assert_eq!((status, message(&body)), (404, "No such queue"));
    for elsewhere in ["queue/taskcluster-xy/a", "tasks", "queue/taskcluster-x", "exchange/taskcluster-x/a"] {
        let (status, body) =
            call(&site, "only-x", Method::GET, &format!("{X}/queues/{}", escaped(elsewhere)), None).await;
        assert_eq!(status, 400);
        assert_eq!(message(&body), "The name must begin with \"queue/taskcluster-x/\".");
    }
}

#[tokio::test]
async fn a_name_with_any_byte_works_in_every_path() {
    let site = site().await;
    for odd in ODD {
        fill(&site.world, &format!("queue/taskcluster-x/{odd}"), 3);
        site.world.fake().state().exchanges.insert(format!("exchange/taskcluster-x/{odd}"));
    }
    let mut whole = ODD.map(|odd| format!("queue/taskcluster-x/{odd}"));
    whole.sort();
    assert_eq!(listed(&site, "").await, whole);
    for (gone, odd) in ODD.into_iter().enumerate() {
        let (queue, exchange) = (format!("queue/taskcluster-x/{odd}"), format!("exchange/taskcluster-x/{odd}"));
        let path = format!("{X}/queues/{}", escaped(&queue));
        assert_eq!(get(&site, &format!("queues/{}", escaped(&queue))).await["queue"], queue);
        let of = |result: &str, messages: u64| json!({"queue": queue, "result": result, "messages": messages});
        let purged = call(&site, "manager", Method::DELETE, &format!("{path}/messages"), None).await;
        assert_eq!(purged, (200, of("emptied", 3)));
        assert_eq!(call(&site, "manager", Method::DELETE, &path, None).await, (200, of("deleted", 0)));
        assert_eq!(call(&site, "manager", Method::DELETE, &path, None).await.0, 404);
        let path = format!("{X}/exchanges/{}", escaped(&exchange));
        assert_eq!(call(&site, "manager", Method::DELETE, &path, None).await, (200, json!({})));
        assert_eq!(call(&site, "manager", Method::DELETE, &path, None).await.0, 404);
        let left = {
            let state = site.world.fake().state();
            (state.queues.len(), state.exchanges.len())
        };
        assert_eq!(left, (ODD.len() - gone - 1, ODD.len() - gone - 1 + 7), "{odd:?} alone");
    }
    // RabbitMQ would delete another one, without the line break.
    for name in ["queue/taskcluster-x/a", "queue/taskcluster-x/a\n"] {
        fill(&site.world, name, 1);
    }
    assert_eq!(get(&site, "queues/queue%2Ftaskcluster-x%2Fa%0A").await["queue"], "queue/taskcluster-x/a\n");
    for path in ["queue%2Ftaskcluster-x%2Fa%0A", "queue%2Ftaskcluster-x%2Fa%0A/messages"] {
        let (status, body) = call(&site, "manager", Method::DELETE, &format!("{X}/queues/{path}"), None).await;
        assert_eq!((status, message(&body).starts_with("RabbitMQ refuses this.")), (409, true), "{body}");
    }
    assert_eq!(site.world.fake().state().queues.len(), 2);
    for bad in ["%", "%zz", "%ff"] {
        let (status, body) = call(&site, "manager", Method::GET, &format!("{X}/queues/{bad}"), None).await;
        assert_eq!((status, &body["code"]), (400, &json!("InvalidRequestArguments")), "{bad}");
    }
}

#[tokio::test]
async fn only_who_may_sees_or_manages_queues() {
    let site = site().await;
    site.world.claim_for("taskcluster-y", "", 9 * HOUR).await;
    fill(&site.world, "queue/taskcluster-y/a", 1);
    site.world.fake().state().exchanges.insert("exchange/taskcluster-y/a".to_owned());
    let before = site.world.fake().all_requests();
    let of = |route: &str| {
        let route = route.replace("<namespace>", "taskcluster-y").replace("<queue>", &escaped("queue/taskcluster-y/a"));
        format!("/api/pulse/v1{}", route.replace("<exchange>", &escaped("exchange/taskcluster-y/a")))
    };
    let mut asked = BTreeSet::new();
    for entry in ROUTES.iter().filter(|entry| entry.category == "Queues") {
        asked.insert(entry.name);
        let method: Method = format!("{:?}", entry.verb).to_uppercase().parse().unwrap();
        let body = entry.input.map(|_| json!({"pattern": "queue/taskcluster-y/*"}));
        for who in ["", "weak", "only-x", "manager"] {
            let (status, body) = call(&site, who, method.clone(), &of(entry.route), body.clone()).await;
            assert_eq!((status, &body["code"]), (403, &json!("InsufficientScopes")), "{who} {}", entry.name);
        }
        // A scope of one namespace opens nothing of another by the name of a queue.
        let path = of(entry.route).replacen("taskcluster-y", "taskcluster-x", 1);
        if entry.args().len() == 2 || entry.input.is_some() {
            let (status, body) = call(&site, "manager", method.clone(), &path, body).await;
            assert_eq!(status, 400, "{}", entry.name);
            assert!(message(&body).contains("must begin with"), "{body}");
        }
    }
    assert_eq!(asked.len(), 8, "{asked:?}");
    assert_eq!(site.world.fake().all_requests(), before, "and the broker is not asked");
    assert_eq!(site.world.fake().state().queues.len(), 1);
}

#[tokio::test]
async fn fifty_callers_of_two_namespaces_share_one_listing() {
    let site = site().await;
    site.world.claim_for("taskcluster-y", "", 9 * HOUR).await;
    for namespace in ["x", "y"] {
        fill(&site.world, &format!("queue/taskcluster-{namespace}/a"), 1);
    }
    site.world.fake().fault(Fault::new(Failure::Hang).on("GET", "/api/queues/").times(1));
    let ask = async |number: usize| {
        let namespace = if number.is_multiple_of(2) { "x" } else { "y" };
        let path = format!("/api/pulse/v1/namespace/taskcluster-{namespace}/queues");
        names(&call(&site, "test-client", Method::GET, &path, None).await.1, "queues", "queue")
            == [format!("queue/taskcluster-{namespace}/a")]
    };
    let release = async {
        site.world.fake().received("GET", &format!("/api/queues/{VHOST}"), 1).await;
        site.world.fake().release();
    };
    let (answers, ()) = tokio::join!(join_all((0..50).map(ask)), release);
    assert!(answers.into_iter().all(|right| right));
    assert_eq!(listings(&site), 1);
    let exchanges = join_all((0..50).map(|_| get(&site, "exchanges"))).await;
    assert_eq!(exchanges.len(), 50);
    assert_eq!(site.world.fake().requests("GET", &format!("/api/exchanges/{VHOST}")), 1);
}

#[tokio::test]
async fn a_broker_that_fails_or_hangs_is_said_and_a_later_listing_knows_nothing_of_that() {
    let site = Site::wish(|wishes| wishes.settings.request_timeout = Duration::from_secs(2)).await;
    site.world.claim_for("taskcluster-x", "", 9 * HOUR).await;
    fill(&site.world, "queue/taskcluster-x/a", 1);
    let one = format!("{X}/queues/{}", escaped("queue/taskcluster-x/a"));
    let paths = [format!("{X}/queues"), format!("{X}/exchanges"), one.clone()];
    let fake = site.world.fake();
    for failure in [Failure::Close, Failure::Status(500), Failure::Malformed, Failure::Booting, Failure::Status(401)] {
        fake.fault(Fault::new(failure.clone()));
        for path in &paths {
            let (status, body) = call(&site, "only-x", Method::GET, path, None).await;
            assert_eq!((status, message(&body).starts_with("RabbitMQ does not ")), (503, true), "{failure:?} {body}");
        }
        fake.heal();
    }
    fake.down().await;
    let (status, body) = call(&site, "only-x", Method::GET, &paths[0], None).await;
    assert_eq!((status, message(&body).starts_with("RabbitMQ does not answer. Try again.")), (503, true), "{body}");
    fake.up();
    fake.fault(Fault::new(Failure::Hang).on("GET", "/api/queues/").times(1));
    let (began, before) = (Instant::now(), listings(&site));
    assert_eq!(call(&site, "only-x", Method::GET, &paths[0], None).await.0, 503);
    assert!(began.elapsed() < Duration::from_secs(8));
    // It is still waited for, by nobody else.
    assert_eq!(call(&site, "only-x", Method::GET, &one, None).await.0, 200);
    fake.release();
    assert_eq!(listed(&site, "").await, ["queue/taskcluster-x/a"]);
    assert_eq!(listings(&site) - before, 1);
    // Nothing is deleted that can't be looked at.
    fake.fault(Fault::new(Failure::Status(500)).on("GET", "/api/queues/"));
    assert_eq!(call(&site, "only-x", Method::DELETE, &one, None).await.0, 503);
    fake.heal();
    assert_eq!(listed(&site, "").await.len(), 1);
    assert_eq!(trail(&site).await, [[""; 4]; 0]);
}

#[tokio::test]
async fn queues_are_deleted_by_names_or_a_pattern_with_a_result_for_each() {
    let site = site().await;
    for queue in ["test/1", "test/2", "other", "test/ü*"] {
        fill(&site.world, &format!("queue/taskcluster-x/{queue}"), 2);
    }
    let delete = async |body: Value| {
        let path = format!("{X}/delete-queues");
        let ask = site.ask(Method::POST, &path).json(body.to_string());
        ask.signed_with("manager", "canary-access-token-of-manager").send().await
    };
    let tests = json!({"pattern": "queue/taskcluster-x/test/*", "dryRun": true});
    let dry = delete(tests.clone()).await.good();
    let result = |queue: &str, result: &str| json!({"queue": format!("queue/taskcluster-x/{queue}"), "result": result});
    let had = |queue: &str, what: &str| {
        let mut result = result(queue, what);
        result["messages"] = json!(2);
        result
    };
    let would = ["test/1", "test/2", "test/ü*"].map(|queue| had(queue, "would be deleted"));
    assert_eq!(dry, json!({"results": would, "left": 0}));
    assert_eq!((listed(&site, "").await.len(), trail(&site).await.len()), (4, 0));
    let failing = Fault::new(Failure::Status(400)).on("DELETE", "/test/2");
    site.world.fake().fault(failing);
    let names = ["test/2", "no", "test/ü*", "test/2"].map(|queue| format!("queue/taskcluster-x/{queue}"));
    let answer = delete(json!({"queues": names[..3], "reason": "leftovers"})).await;
    let id = answer.header("x-for-request-id").to_owned();
    let done = answer.good();
    assert_eq!((&done["results"][0], &done["results"][2]), (&result("no", "absent"), &had("test/ü*", "deleted")));
    let failed = &done["results"][1];
    assert_eq!((&failed["result"], &failed["code"]), (&json!("failed"), &json!("RequestConflict")), "{failed}");
    site.world.fake().heal();
    // It is gone at once, not only when the shared listing is too old.
    assert_eq!(listed(&site, "?search=%C3%BC").await, [""; 0]);
    let deleted = delete(tests.as_object().map(|all| json!({"pattern": all["pattern"]})).unwrap()).await.good();
    assert_eq!(deleted["results"], json!([had("test/1", "deleted"), had("test/2", "deleted")]));
    assert_eq!(listed(&site, "").await, ["queue/taskcluster-x/other"]);
    let found = trail(&site).await;
    let reasons: Vec<_> = found
        .iter()
        .map(|[_, action, object, reason]| {
            (action.as_str(), object.rsplit_once("taskcluster-x/").unwrap().1, reason.as_str())
        })
        .collect();
    let delete_of = |queue, reason| ("delete-queue", queue, reason);
    assert_eq!(
        reasons[..2],
        [delete_of("test/2", "it had 2 messages; leftovers"), delete_of("test/ü*", "it had 2 messages; leftovers")]
    );
    assert!(reasons[2].2.starts_with("it was not done: RabbitMQ refused DELETE"), "{reasons:?}");
    assert_eq!(reasons[3..], ["test/1", "test/2"].map(|queue| delete_of(queue, "it had 2 messages; on demand")));
    assert!(found.iter().all(|[actor, ..]| actor == "manager"));
    let line = recorder::line(&[("type", "audit".into()), ("requestId", json!(id))]).await;
    assert_eq!((&line["action"], &line["actor"]), (&json!("delete-queue"), &json!("manager")));
    for bad in [json!({}), json!({"queues": names[..1], "pattern": "queue/taskcluster-x/*"})] {
        let answer = delete(bad).await;
        assert_eq!((answer.verdict(), answer.message()), ((400, "InputError"), "Give either `queues` or a `pattern`."));
    }
    for bad in [json!({"queues": []}), json!({"queues": ["a", "a"]}), json!({"pattern": 1}), json!({"queue": "a"})] {
        assert_eq!(delete(bad).await.verdict(), (400, "InputValidationError"));
    }
    for elsewhere in [json!({"queues": ["queue/taskcluster-x/other", "queue/y/a"]}), json!({"pattern": "*"})] {
        assert_eq!(delete(elsewhere).await.verdict(), (400, "InputError"));
    }
    assert_eq!(listed(&site, "").await.len(), 1);
}

#[tokio::test]
async fn an_exclusive_queue_is_deleted_with_its_connection_but_takes_no_other_along_that_is_not_empty() {
    let site = site().await;
    let declare = |queue: &str, connection: &str, user: &str, messages| {
        let mut state = site.world.fake().state();
        let of = Connection { user: user.to_owned(), connected_at: 0, listed: true };
        state.connections.insert(connection.to_owned(), of);
        let queue = format!("queue/taskcluster-x/{queue}");
        state.queues.insert(queue, Queue { owner: Some(connection.to_owned()), ..Queue::classic(messages) });
    };
    for (queue, connection, messages) in [("a", "one", 1), ("b", "one", 2), ("empty", "one", 0), ("c", "two", 3)] {
        declare(queue, connection, "taskcluster-x-1", messages);
    }
    declare("foreign", "three", "somebody", 1);
    let path = |queue: &str| format!("{X}/queues/{}", escaped(&format!("queue/taskcluster-x/{queue}")));
    let delete = async |queue: &str| call(&site, "manager", Method::DELETE, &path(queue), None).await;
    let (status, body) = delete("a").await;
    assert_eq!(status, 409, "{body}");
    assert!(message(&body).contains("with its connection, queue/taskcluster-x/b would go, too"), "{body}");
    let (status, body) = delete("foreign").await;
    assert_eq!((status, message(&body).starts_with("RabbitMQ refuses this.")), (409, true), "{body}");
    assert!(site.world.fake().state().closed.is_empty());
    let (status, body) = call(&site, "manager", Method::DELETE, &format!("{}/messages", path("c")), None).await;
    assert_eq!((status, message(&body).contains("belongs to one connection")), (409, true), "{body}");
    assert_eq!(delete("c").await.0, 200);
    let both = json!({"queues": ["queue/taskcluster-x/a", "queue/taskcluster-x/b"]});
    let (status, body) = call(&site, "manager", Method::POST, &format!("{X}/delete-queues"), Some(both)).await;
    assert_eq!((status, &body["results"][0]["result"]), (200, &json!("deleted")), "{body}");
    assert_eq!(body["results"][1]["result"], "deleted");
    let left: Vec<_> = site.world.fake().state().queues.keys().cloned().collect();
    assert_eq!(left, ["queue/taskcluster-x/foreign"]);
    let closed: Vec<_> = site.world.fake().state().closed.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(closed, ["two", "one"]);
    assert_eq!(site.world.fake().state().closed[0].1, "the queue is deleted because client manager asked for it");
}

#[tokio::test]
async fn what_is_not_surely_ours_or_can_not_be_said_is_left_alone() {
    let site = site().await;
    let stream = Queue { kind: QueueKind::Stream, ..Queue::classic(9) };
    site.world.fake().state().queues.insert("queue/taskcluster-x/s".to_owned(), stream);
    fill(&site.world, "queue/taskcluster-x/a\u{fffd}", 1);
    site.world.fake().state().unspeakable.insert("queue/taskcluster-x/a\u{fffd}".to_owned());
    let path = |queue: &str| format!("{X}/queues/{}", escaped(&format!("queue/taskcluster-x/{queue}")));
    let (status, body) = call(&site, "manager", Method::DELETE, &format!("{}/messages", path("s")), None).await;
    assert_eq!(
        (status, message(&body)),
        (409, "The queue queue/taskcluster-x/s is left alone: a stream can't be emptied.")
    );
    let (status, body) = call(&site, "manager", Method::DELETE, &path("a\u{fffd}"), None).await;
    assert_eq!((status, message(&body).starts_with("RabbitMQ lists queue/taskcluster-x/a")), (409, true), "{body}");
    assert_eq!(
        call(&site, "manager", Method::DELETE, &path("s"), None).await.0,
        200,
        "a stream goes when it is asked for"
    );
    assert_eq!(trail(&site).await.last().unwrap()[3], "how many messages it had is not known; on demand");
    // Somebody else has a user of this name: the queues may be that one's.
    site.world.make_user("taskcluster-x-2", "administrator").await;
    fill(&site.world, "queue/taskcluster-x/b", 1);
    for (method, path) in [(Method::DELETE, path("b")), (Method::DELETE, format!("{}/messages", path("b")))] {
        let (status, body) = call(&site, "manager", method, &path, None).await;
        assert_eq!((status, message(&body).contains("has a user `taskcluster-x-2`")), (409, true), "{body}");
    }
    assert_eq!(site.world.fake().state().queues["queue/taskcluster-x/b"].messages, 1);
}

#[tokio::test]
async fn an_unknown_outcome_is_looked_at_and_nothing_is_deleted_twice() {
    let site = site().await;
    let path = format!("{X}/queues/{}", escaped("queue/taskcluster-x/a"));
    let delete = async || call(&site, "manager", Method::DELETE, &path, None).await.0;
    for (fault, status) in [
        // Carried out, and the answer was lost.
        (Fault::new(Failure::Close).after_doing(), 200),
        (Fault::new(Failure::Status(500)).after_doing(), 200),
        // Not carried out.
        (Fault::new(Failure::Close), 503),
        (Fault::new(Failure::Status(500)), 503),
        // Carried out, and declared anew before it was looked at.
        (
            Fault::new(Failure::Close).after_doing().then(|state| {
                state.queues.insert("queue/taskcluster-x/a".to_owned(), Queue::classic(7));
            }),
            503,
        ),
    ] {
        fill(&site.world, "queue/taskcluster-x/a", 1);
        let before = site.world.fake().requests("DELETE", &format!("/api/queues/{VHOST}/queue/taskcluster-x/a"));
        site.world.fake().fault(fault.on("DELETE", "/api/queues/").times(1));
        assert_eq!(delete().await, status);
        let after = site.world.fake().requests("DELETE", &format!("/api/queues/{VHOST}/queue/taskcluster-x/a"));
        assert_eq!(after - before, 1);
        assert_eq!(site.world.fake().state().queues.is_empty(), status == 200);
    }
    assert_eq!(site.world.fake().state().queues["queue/taskcluster-x/a"].messages, 7);
}

#[tokio::test]
async fn exchanges_are_listed_and_deleted() {
    let site = site().await;
    for exchange in ["exchange/taskcluster-x/b", "exchange/taskcluster-x/a", "exchange/taskcluster-y/a", "exchange/x"] {
        site.world.fake().state().exchanges.insert(exchange.to_owned());
    }
    let all = get(&site, "exchanges").await;
    assert_eq!(names(&all, "exchanges", "exchange"), ["exchange/taskcluster-x/a", "exchange/taskcluster-x/b"]);
    let a = json!({"exchange": "exchange/taskcluster-x/a", "kind": "topic", "durable": true, "autoDelete": false,
        "internal": false});
    assert_eq!(all["exchanges"][0], a);
    let first = get(&site, "exchanges?limit=1").await;
    let token = escaped(first["continuationToken"].as_str().unwrap());
    let second = get(&site, &format!("exchanges?limit=1&continuationToken={token}")).await;
    assert_eq!((&second["exchanges"][0], second.get("continuationToken")), (&all["exchanges"][1], None));
    assert_eq!(names(&get(&site, "exchanges?search=B").await, "exchanges", "exchange"), ["exchange/taskcluster-x/b"]);
    let path = format!("{X}/exchanges/{}?reason=old", escaped("exchange/taskcluster-x/a"));
    assert_eq!(call(&site, "manager", Method::DELETE, &path, None).await, (200, json!({})));
    assert_eq!(names(&get(&site, "exchanges").await, "exchanges", "exchange"), ["exchange/taskcluster-x/b"]);
    let (status, body) = call(&site, "manager", Method::DELETE, &path, None).await;
    assert_eq!((status, message(&body)), (404, "No such exchange"));
    let expected = ["manager", "delete-exchange", "exchange/taskcluster-x/a", "it was a topic exchange; old"];
    assert_eq!(trail(&site).await, [expected.map(str::to_owned)]);
    let long = format!("{X}/exchanges/{}?reason={}", escaped("exchange/taskcluster-x/b"), "x".repeat(501));
    assert_eq!(call(&site, "manager", Method::DELETE, &long, None).await.0, 400);
}

#[tokio::test]
async fn ten_thousand_queues_are_listed_by_pages_and_deleted_a_thousand_at_a_time() {
    let (site, began) = (site().await, Instant::now());
    for number in 0..10_000 {
        let owner = if number % 2 == 0 { "x" } else { "y" };
        fill(&site.world, &format!("queue/taskcluster-{owner}/{number:05}"), number % 3);
    }
    let (mut query, mut paged) = (String::new(), Vec::new());
    loop {
        let page = get(&site, &format!("queues{query}")).await;
        paged.extend(names(&page, "queues", "queue"));
        let Some(token) = page["continuationToken"].as_str() else { break };
        query = format!("?continuationToken={}", escaped(token));
    }
    assert!(paged.len() == 5000 && paged.is_sorted(), "{}", paged.len());
    assert_eq!(listed(&site, "?search=777&minMessages=1").await.len(), 1 + 2);
    assert!(listings(&site) <= due(began), "{}", listings(&site));
    let path = format!("{X}/delete-queues");
    let all = json!({"pattern": "queue/taskcluster-x/*", "dryRun": true});
    let (status, body) = call(&site, "manager", Method::POST, &path, Some(all)).await;
    assert_eq!((status, &body["left"], body["results"].as_array().map(Vec::len)), (200, &json!(4000), Some(1000)));
    let all = json!({"pattern": "queue/taskcluster-x/000*"});
    let (status, body) = call(&site, "manager", Method::POST, &path, Some(all)).await;
    assert_eq!((status, &body["left"], body["results"].as_array().map(Vec::len)), (200, &json!(0), Some(50)));
    assert!(body["results"].as_array().unwrap().iter().all(|one| one["result"] == "deleted"));
    assert_eq!(site.world.fake().state().queues.len(), 9950);
}
