//! Sweeps of a very large deployment, next to a stand-in for the broker that has its answers ready: what they cost by themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use taskcluster_pulse::domain::name::Slot;
use taskcluster_pulse::domain::namespace::Namespace;
use tokio::net::TcpListener;

use crate::measure::{self, Samples};
use crate::report::Report;
use crate::world::{Database, World, names, namespaces};

const NAMESPACES: usize = 100_000;
const QUEUES: usize = 50_000;

/// Measures what memory and time `monitor-rabbit` takes with very many namespaces, and with many queues.
pub async fn measure(world: &World, repeat: u32, report: &mut Report) -> Result<()> {
    let all = namespaces(NAMESPACES, Duration::from_secs(36_000), Duration::from_secs(36_000));
    for database in &world.databases("large", &all).await? {
        let tag = database.open().await?.tag().await?;
        let quiet = answers(&all, tag.as_str(), &[]);
        sweep(world, database, quiet, format!("sweep, {NAMESPACES} namespaces"), repeat, report).await?;
    }
    let few = &all[..QUEUES / 100];
    for database in &world.databases("many_queues", few).await? {
        let tag = database.open().await?.tag().await?;
        let queues: Vec<_> = few.iter().flat_map(|found| (0..100).map(move |number| queue(found, number))).collect();
        sweep(world, database, answers(few, tag.as_str(), &queues), format!("sweep, {QUEUES} queues"), repeat, report)
            .await?;
    }
    Ok(())
}

async fn sweep(
    world: &World,
    database: &Database,
    answers: Answers,
    what: String,
    repeat: u32,
    report: &mut Report,
) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let answers = Arc::new(answers);
    let answer = move |request: Request<Body>| {
        let answers = answers.clone();
        async move { answers.to(request.uri().path()) }
    };
    let serving = tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    let [mut ours, mut before] = [(); 2].map(|()| Samples::default());
    let run = async |database: &Database| {
        let mut command = world.program(database, &["monitor-rabbit", "--json"])?;
        command.env("RABBIT_BASE_URL", &url);
        let run = tokio::task::spawn_blocking(|| measure::run(command)).await??;
        let outcome: Value = serde_json::from_str(&run.output)?;
        anyhow::ensure!(outcome["changed"] == 0 && outcome["failed"] == 0, "a sweep went wrong: {outcome}");
        anyhow::Ok(run)
    };
    for _ in 0..repeat {
        ours.add(&run(database).await?);
        if let Some(baseline) = database.of_baseline() {
            before.add(&run(&baseline).await?);
        }
    }
    serving.abort();
    ours.report(report, &format!("{what}, {}", database.name), "baseline", &before);
    Ok(())
}

/// The answers to listings, by their paths.
struct Answers(BTreeMap<&'static str, Bytes>);

impl Answers {
    fn to(&self, path: &str) -> Response {
        match self.0.get(path.trim_start_matches("/api/")) {
            Some(body) => ([("content-type", "application/json")], body.clone()).into_response(),
            None => (StatusCode::NOT_FOUND, r#"{"error":"Object Not Found"}"#).into_response(),
        }
    }
}

fn queue(found: &Namespace, number: usize) -> Value {
    json!({
        "name": format!("queue/{}/tasks-{number}", found.name), "messages": 0, "messages_unacknowledged": 0,
        "type": "classic", "exclusive": false, "arguments": {},
    })
}

/// What a broker answers that holds the users of these namespaces, and these queues.
fn answers(namespaces: &[Namespace], tag: &str, queues: &[Value]) -> Answers {
    let (mut users, mut may_here, mut rights) = (Vec::new(), Vec::new(), Vec::new());
    for (found, slot) in namespaces.iter().flat_map(|found| Slot::BOTH.map(|slot| (found, slot))) {
        let name = names().user(&found.name, slot);
        let hash = found.rotation.password_of(slot).map(|password| password.hash().as_str().to_owned());
        users.push(json!({
            "name": name, "password_hash": hash, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": [tag],
        }));
        let may = names().permissions(&found.name);
        may_here.push(json!({"user": name, "configure": may.configure, "write": may.write, "read": may.read}));
        rights.push(json!({"user": name, "vhost": "/"}));
    }
    let body = |value: Value| Bytes::from(value.to_string());
    Answers(BTreeMap::from([
        ("vhosts/%2F", body(json!({"name": "/", "cluster_state": {"a": "running"}}))),
        ("overview", body(json!({"rabbitmq_version": "3.10.8", "node": "a"}))),
        ("nodes", body(json!([{"name": "a", "running": true, "partitions": []}]))),
        ("whoami", body(json!({"name": "bench", "tags": ["administrator"]}))),
        ("users", body(users.into())),
        ("vhosts/%2F/permissions", body(may_here.into())),
        ("permissions", body(rights.into())),
        ("topic-permissions", body(json!([]))),
        ("queues/%2F", body(queues.into())),
        ("exchanges/%2F", body(json!([{"name": ""}]))),
        ("vhosts/%2F/connections", body(json!([]))),
        ("health/checks/alarms", body(json!({"status": "ok"}))),
        ("operator-policies/%2F", body(json!([]))),
        ("user-limits", body(json!([]))),
        ("global-parameters", body(json!([]))),
    ]))
}
