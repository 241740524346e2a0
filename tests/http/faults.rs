//! Parts that fail: the broker, the store, and our own code.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use taskcluster_pulse::store::StoreError;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;
use url::Url;

use super::recorder;
use super::site::{Answer, BrokenStore, SOON, Site};
use crate::support::fake_broker::{Failure, Fault};
use crate::support::rabbitmq::eventually;
use crate::support::world::{BrokerKind, StoreKind, World};

/// That an answer asks to come again, and tells nothing of what is inside.
#[track_caller]
fn assert_comes_again(answer: &Answer) {
    assert_eq!(answer.verdict(), (503, "ServiceUnavailable"), "{}", answer.text);
    let after: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&after));
    for internal in ["http://", "127.0.0.1:", "management-account", "/api/users", "os error", "PUT"] {
        assert!(!answer.text.contains(internal), "{}", answer.text);
    }
}

#[tokio::test]
async fn while_the_broker_is_down_known_namespaces_are_claimed_and_new_ones_must_wait() {
    let site = Site::new().await;
    let known = site.claim("taskcluster-x", "{}").send().await.good();
    site.world.fake().down().await;
    let began = Instant::now();
    let first = site.claim("taskcluster-y", "{}").send().await;
    assert_comes_again(&first);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(site.claim("taskcluster-x", "{}").send().await.good(), known);
    assert_eq!(site.get("/v1/namespace/taskcluster-x").send().await.status, 200);

    let incident = first.message().split("incidentId ").nth(1).unwrap().trim_end_matches(')');
    let line = recorder::line(&[("incidentId", json!(incident))]).await;
    assert_eq!(line["requestId"], first.header("x-for-request-id"));
    assert!(line["message"].as_str().unwrap().contains("RabbitMQ's management API is not available"), "{line}");

    site.world.fake().up();
    let string = site.claim("taskcluster-y", "{}").send().await.good()["connectionString"].clone();
    assert!(site.world.logs_in(string.as_str().unwrap()).await);
}

#[tokio::test]
async fn a_broker_that_hangs_keeps_a_first_claim_waiting_for_some_seconds_only() {
    let site = Site::new().await;
    site.world.fake().fault(Fault::new(Failure::Hang));
    let began = Instant::now();
    assert_comes_again(&site.claim("taskcluster-x", "{}").send().await);
    assert!(began.elapsed() < SOON * 2, "{:?}", began.elapsed());
    site.world.fake().heal();
    let string = site.claim("taskcluster-x", "{}").send().await.good()["connectionString"].clone();
    assert!(site.world.logs_in(string.as_str().unwrap()).await);
}

#[tokio::test]
async fn a_first_claim_comes_again_where_the_broker_refuses_us() {
    let site = Site::new().await;
    site.world.fake().fault(Fault::new(Failure::Status(401)));
    let answer = site.claim("taskcluster-x", "{}").send().await;
    assert_comes_again(&answer);
    assert!(answer.text.contains("incidentId") && !answer.text.contains("management"), "{}", answer.text);
}

#[tokio::test]
async fn heartbeats_name_what_fails() {
    let mut world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    world.store = Arc::new(BrokenStore(|| StoreError::Unavailable("postgres://somewhere".into())));
    let no_store = Site::on(world, |_| ()).await;
    let no_broker = Site::new().await;
    no_broker.world.fake().down().await;
    for (site, failing) in [(&no_store, "database"), (&no_broker, "rabbitmq")] {
        for target in ["/__heartbeat__", "/api/pulse/v1/__heartbeat__"] {
            let answer = site.get(target).send().await;
            assert_eq!(answer.status, 502);
            assert_eq!((&answer.body["error"], &answer.body["failing"]), (&json!("Not healthy"), &json!([failing])));
            assert_eq!((&answer.body["status"], &answer.body["checks"][failing]), (&json!("error"), &json!("error")));
            assert_eq!(answer.body["details"][failing]["level"], 40);
            assert!(!answer.body.to_string().contains("somewhere"), "{}", answer.body);
        }
        assert_eq!(site.get("/__lbheartbeat__").send().await.status, 200);
        assert_eq!(site.get("/v1/ping").send().await.status, 200);
    }
    let hanging = Site::new().await;
    hanging.world.fake().fault(Fault::new(Failure::Hang));
    let began = Instant::now();
    assert_eq!(hanging.get("/__heartbeat__").send().await.body["failing"], json!(["rabbitmq"]));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_heartbeat_tells_what_bites_with_the_release_of_rabbitmq() {
    let site = Site::new().await;
    let well = json!({
        "status": "ok", "checks": {"clock": "ok", "database": "ok", "rabbitmq": "ok", "users": "ok"},
        "details": {"rabbitmq": {"status": "ok", "level": 0, "messages": ["RabbitMQ 3.13.7 was found"]}},
    });
    assert_eq!(site.get("/__heartbeat__").send().await.good(), well);
    let site = Site::new().await;
    {
        let mut state = site.world.fake().state();
        state.version = "4.0.5".into();
        state.deprecated = vec!["global_qos".into(), "management_metrics_collection".into()];
    }
    let details = async || site.get("/__heartbeat__").send().await.good()["details"]["rabbitmq"].clone();
    let told =
        eventually("a release that is known", async || Some(details().await).filter(|told| told["level"] == 30)).await;
    assert_eq!((&told["status"], &told["level"]), (&json!("warning"), &json!(30)), "{told}");
    let message = told["messages"][0].as_str().unwrap();
    assert!(message.contains("RabbitMQ 4.0.5") && message.contains(": global_qos;"), "{message}");
    let looks = site.world.fake().requests("GET", "/api/overview");
    assert_eq!(details().await, told);
    assert_eq!(site.world.fake().requests("GET", "/api/overview"), looks, "it is not asked at each heartbeat");
}

async fn with_store(error: fn() -> StoreError) -> Site {
    let mut world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    world.store = Arc::new(BrokenStore(error));
    Site::on(world, |_| ()).await
}

#[tokio::test]
async fn a_store_that_is_away_asks_to_come_again() {
    let site = with_store(|| StoreError::Unavailable("http://inside".into())).await;
    assert_comes_again(&site.claim("taskcluster-x", "{}").send().await);
    assert_comes_again(&site.get("/v1/namespaces").send().await);
    assert_comes_again(&site.get("/v1/namespace/taskcluster-x").send().await);
    assert_eq!(site.world.fake().all_requests(), 0);
}

/// The caller gets an id, and the log has the story under it.
async fn assert_incident(site: &Site, story: &str) {
    for ask in [site.claim("taskcluster-x", "{}"), site.get("/v1/namespaces"), site.get("/v1/namespace/taskcluster-x")]
    {
        let answer = ask.send().await;
        assert_eq!(answer.verdict(), (500, "InternalServerError"));
        let incident = answer.message().strip_prefix("Internal Server Error, incidentId ").unwrap();
        let incident = incident.strip_suffix('.').unwrap();
        assert!(!answer.text.contains(story), "{}", answer.text);
        let line = recorder::line(&[("incidentId", json!(incident))]).await;
        assert!(line["message"].as_str().unwrap().contains(story), "{line}");
        assert_eq!((&line["level"], &line["type"]), (&json!("ERROR"), &json!("monitor.error")));
        assert_eq!(line["requestId"], answer.header("x-for-request-id"));
    }
    assert_eq!(site.get("/v1/ping").send().await.status, 200);
}

#[tokio::test]
async fn a_store_that_fails_is_an_incident() {
    assert_incident(&with_store(|| StoreError::Failed("the inner story".into())).await, "the inner story").await;
}

#[tokio::test]
async fn code_that_panics_is_an_incident() {
    assert_incident(&with_store(|| panic!("the inner story")).await, "the inner story").await;
}

const PUT_USER: &str = "/api/users/taskcluster-x-1";

#[tokio::test]
async fn a_claim_runs_to_its_end_when_its_caller_hangs_up() {
    let site = Site::new().await;
    site.world.fake().fault(Fault::new(Failure::Hang).on("PUT", PUT_USER));
    let url = format!("{}v1/namespace/taskcluster-x", site.url).parse().unwrap();
    let authorization = site.sign("test-client", "POST", &url, Some("{}"));
    let mut caller = site.connect().await;
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\
         x-taskcluster-trace-id: hangs-up\r\nAuthorization: {authorization}\r\n\r\n{{}}",
        url.path(),
        url.authority(),
    );
    caller.write_all(request.as_bytes()).await.unwrap();
    site.world.fake().received("PUT", PUT_USER, 1).await;
    drop(caller);
    // The service has noticed, and nobody waits for the claim any more.
    let line = recorder::line(&[("traceId", json!("hangs-up")), ("type", json!("monitor.apiMethod"))]).await;
    assert_eq!(line["statusCode"], 499);
    assert!(
        site.until_stored("taskcluster-x", |found| found.rotation.pending.is_some()).await.rotation.active.is_none()
    );

    site.world.fake().heal();
    site.world.fake().release();
    let stored = site.until_stored("taskcluster-x", |found| found.rotation.active.is_some()).await;
    let asked = site.world.fake().all_requests();
    let claimed = site.claim("taskcluster-x", "{}").send().await.good();
    let string = claimed["connectionString"].as_str().unwrap();
    assert!(string.contains(stored.rotation.active.unwrap().password.expose()));
    assert!(site.world.logs_in(string).await);
    assert_eq!(site.world.fake().all_requests(), asked, "the second claim had nothing left to do");
}

#[tokio::test]
async fn a_caller_is_not_let_wait_for_ever_and_its_claim_goes_on() {
    let site = Site::wish(|wishes| wishes.settings.request_timeout = Duration::from_millis(200)).await;
    site.world.fake().fault(Fault::new(Failure::Hang).on("PUT", PUT_USER));
    let answer = site.claim("taskcluster-x", "{}").send().await;
    assert_comes_again(&answer);
    site.world.fake().heal();
    site.world.fake().release();
    site.until_stored("taskcluster-x", |found| found.rotation.active.is_some()).await;
    site.claim("taskcluster-x", "{}").send().await.good();
}

/// A claim of `taskcluster-x`, made meanwhile.
fn start_claim(site: &Site) -> JoinHandle<reqwest::Result<reqwest::Response>> {
    let url: Url = format!("{}v1/namespace/taskcluster-x", site.url).parse().unwrap();
    let authorization = site.sign("test-client", "POST", &url, Some("{}"));
    let claim = reqwest::Client::new().post(url).header("authorization", authorization);
    tokio::spawn(claim.header("content-type", "application/json").body("{}").send())
}

#[tokio::test]
async fn when_the_service_stops_what_is_under_way_is_finished_and_nothing_new_begun() {
    let mut site = Site::new().await;
    site.world.fake().fault(Fault::new(Failure::Hang).on("PUT", PUT_USER));
    let claim = start_claim(&site);
    let mut idle = site.connect().await;
    site.world.fake().received("PUT", PUT_USER, 1).await;

    site.stop();
    assert_eq!(super::site::until_closed(&mut idle).await, "", "what is idle is closed");
    let refused = async {
        while tokio::net::TcpStream::connect(("127.0.0.1", site.url.port().unwrap())).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, refused).await.expect("new connections are accepted");
    site.world.fake().heal();
    site.world.fake().release();
    let answer = claim.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    let claimed: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert!(site.world.logs_in(claimed["connectionString"].as_str().unwrap()).await);
    site.stopped().await;
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_cut_off_when_the_service_stops() {
    let mut site = Site::wish(|wishes| wishes.connections.drain = Duration::from_millis(100)).await;
    site.world.fake().fault(Fault::new(Failure::Hang).on("PUT", PUT_USER));
    let claim = start_claim(&site);
    site.world.fake().received("PUT", PUT_USER, 1).await;
    site.stop();
    site.stopped().await;
    claim.abort();
}
