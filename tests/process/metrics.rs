//! Metrics as Prometheus scrapes them: what is counted, what nobody can multiply, and what comes while a neighbour is down.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};
use url::Url;

use crate::support::processes::{Deployment, Program, get};
use crate::support::services::{Part, exclusive};
use crate::support::world::{BrokerKind, StoreKind};

/// Where a process says that its metrics are.
async fn metrics_of(program: &Program) -> Url {
    program.says("metrics are at ").await;
    let (stdout, mark) = (program.stdout(), "metrics are at ");
    let at = stdout.find(mark).unwrap() + mark.len();
    stdout[at..].split(['"', '\n', ' ']).next().unwrap().parse().unwrap()
}

async fn scrape(url: &Url) -> String {
    let (status, text) = get(url, "/metrics").await;
    assert_eq!(status, 200, "{text}");
    text
}

/// The value of one series.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// The series of a scrape, without their values.
fn series(text: &str) -> BTreeSet<&str> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, _)| name)
        .collect()
}

/// The names of the metrics in a scrape.
fn names(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).map(str::to_owned).collect()
}

async fn deployment() -> Deployment {
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    deployment.set("METRICS_ADDRESS", "127.0.0.1:0");
    deployment
}

#[tokio::test]
async fn claims_and_requests_are_counted_by_what_they_are() {
    let deployment = deployment().await;
    let (program, url) = deployment.serve(&["serve"]).await;
    let metrics = metrics_of(&program).await;
    for _ in 0..3 {
        deployment.claim(&url, "taskcluster-a", &json!({})).await.unwrap();
    }
    let text = scrape(&metrics).await;
    deployment.shown("the metrics", text.as_str());
    for (series, expected) in [
        (r#"pulse_claims_total{result="given",source="broker"}"#, 1.0),
        (r#"pulse_claims_total{result="given",source="store"}"#, 2.0),
        (r#"pulse_claims_total{result="given",source="memory"}"#, 0.0),
        (r#"http_requests_total{method="POST",name="claimNamespace",status="200",service="pulse"}"#, 3.0),
        (
            r#"http_request_duration_seconds_count{method="POST",name="claimNamespace",status="200",service="pulse"}"#,
            3.0,
        ),
        (r#"pulse_claim_duration_seconds_count{outcome="given"}"#, 3.0),
        (r#"pulse_authentications_total{result="proven"}"#, 3.0),
        (r#"pulse_namespaces{state="live"}"#, 1.0),
        (r#"pulse_neighbour_up{neighbour="database"}"#, 1.0),
        ("pulse_service_metrics_up", 1.0),
        ("pulse_rotation_interval_seconds", 3600.0),
        (r#"pulse_task_interval_seconds{task="monitor-rabbit"}"#, 120.0),
        (r#"pulse_broker_call_duration_seconds_count{call="PUT users",outcome="ok"}"#, 2.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}:\n{text}");
    }
    let version = format!("pulse_build_info{{version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&version), "{text}");
    assert!(value(&text, "pulse_credentials_earliest_end_timestamp_seconds").unwrap() > 1.7e9, "{text}");
    let (status, text) = get(&metrics, "/healthz").await;
    assert_eq!((status, text.as_str(), get(&metrics, "/else").await.0), (200, "OK", 404));
    assert_eq!(get(&url, "/metrics").await.0, 404, "clients do not see them");
}

#[tokio::test]
async fn nobody_makes_a_series_by_calling_the_service_in_odd_ways() {
    let deployment = deployment().await;
    let (program, url) = deployment.serve(&["web"]).await;
    let metrics = metrics_of(&program).await;
    deployment.claim(&url, "taskcluster-first", &json!({})).await.unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let odd = async |n: usize| {
        let _ = deployment.claim(&url, &format!("taskcluster-{n}"), &json!({})).await;
        let _ = deployment.claim(&url, &format!("not-ours-{n}"), &json!({})).await;
        for path in [format!("/v1/nope-{n}"), format!("/v1/namespace/taskcluster-{n}"), format!("/console/{n}")] {
            for method in ["GET", "HEAD", "PATCH", "BREW"] {
                let request = http.request(method.parse().unwrap(), url.join(&path).unwrap());
                let wrong = format!("Hawk id=\"client-{n}\", ts=\"1\", nonce=\"{n}\", mac=\"x\"");
                let _ = request.header("authorization", wrong).header("user-agent", format!("agent-{n}")).send().await;
            }
        }
    };
    for n in 0..3 {
        odd(n).await;
    }
    let before = scrape(&metrics).await;
    for n in 3..40 {
        odd(n).await;
    }
    // What is told of the whole service is a few seconds old at most.
    sleep(Duration::from_secs(6)).await;
    let after = scrape(&metrics).await;
    let new: Vec<_> = series(&after).difference(&series(&before)).copied().collect();
    // A bucket that was not there before can only come with a call of RabbitMQ or of a web process's own.
    let made: Vec<_> = new
        .iter()
        .filter(|name| !name.starts_with("pulse_broker_call") && !name.starts_with("pulse_store_call"))
        .collect();
    assert!(made.is_empty(), "{made:?}");
    for text in ["taskcluster-7", "not-ours", "nope-", "client-", "agent-", "BREW", "PATCH"] {
        assert!(!after.contains(text), "{text} is in the metrics:\n{after}");
    }
    assert!(series(&after).len() < 2000, "{}", series(&after).len());
    assert!(value(&after, r#"pulse_authentications_total{result="proven"}"#).unwrap() >= 41.0);
}

#[tokio::test]
async fn each_kind_of_process_tells_its_metrics_and_taskclusters_setting_names_port_and_prefix() {
    let mut deployment = deployment().await;
    deployment.set("PROMETHEUS_CONFIG", r#"{"prefix": "tc-test", "server": {"ip": "0.0.0.0", "port": 1}}"#);
    for arguments in [&["worker"][..], &["rotate-namespaces", "--every", "1 s"]] {
        let worker = deployment.start(arguments);
        let metrics = metrics_of(&worker).await;
        let until = Instant::now() + Duration::from_secs(30);
        let name = r#"tc_test_iterate_duration_seconds_count{name="rotate-namespaces",status="success"}"#;
        let text = loop {
            let text = scrape(&metrics).await;
            if value(&text, name).is_some() || Instant::now() > until {
                break text;
            }
            sleep(Duration::from_millis(100)).await;
        };
        assert!(value(&text, name).is_some_and(|runs| runs >= 1.0), "{text}");
        let foreign: Vec<_> = names(&text).into_iter().filter(|name| !name.starts_with("tc_test_")).collect();
        assert!(foreign.is_empty(), "{foreign:?}");
        assert!(!text.contains("http_requests_total"), "a worker answers no requests:\n{text}");
    }
}

#[tokio::test]
async fn a_scrape_comes_in_time_while_the_database_stands_still_and_says_so() {
    let (_turn, services) = exclusive().await;
    let mut deployment = Deployment::on(services).await;
    deployment.set("METRICS_ADDRESS", "127.0.0.1:0");
    deployment.set("STORE_QUERY_TIMEOUT", "19 s");
    let (program, url) = deployment.serve(&["web"]).await;
    let metrics = metrics_of(&program).await;
    deployment.claim(&url, "taskcluster-a", &json!({})).await.unwrap();
    assert_eq!(value(&scrape(&metrics).await, "pulse_service_metrics_up"), Some(1.0));
    services.freeze(Part::Postgres);
    let until = Instant::now() + Duration::from_secs(40);
    loop {
        let began = Instant::now();
        let text = scrape(&metrics).await;
        assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
        assert!(value(&text, r#"pulse_claims_total{result="given",source="broker"}"#) == Some(1.0), "{text}");
        let (up, database) = ("pulse_service_metrics_up", r#"pulse_neighbour_up{neighbour="database"}"#);
        if (value(&text, up), value(&text, database)) == (Some(0.0), Some(0.0)) {
            assert!(!text.contains("pulse_namespaces{"), "{text}");
            break;
        }
        assert!(Instant::now() < until, "{text}");
    }
    services.thaw();
    let until = Instant::now() + Duration::from_secs(60);
    while value(&scrape(&metrics).await, "pulse_service_metrics_up") != Some(1.0) {
        assert!(Instant::now() < until, "it is not told that the database is back");
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn the_table_of_metrics_in_the_documentation_is_complete_and_true() {
    let deployment = deployment().await;
    let (program, url) = deployment.serve(&["serve"]).await;
    let metrics = metrics_of(&program).await;
    deployment.claim(&url, "taskcluster-a", &json!({})).await.unwrap();
    let told = names(&scrape(&metrics).await);
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md")).unwrap();
    let part = page.split("\n## Metrics and alerts\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = part.lines().filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next());
    let described: BTreeSet<_> = rows.filter(|name| name.contains('_')).map(str::to_owned).collect();
    assert_eq!(described, told);
}
