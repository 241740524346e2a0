//! A whole fleet that comes back at once, to the program as it is run.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::processes::{Deployment, PATIENCE};
use crate::support::world::{BrokerKind, StoreKind};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use taskcluster_pulse::clock::{Clock, SystemClock};
use taskcluster_pulse::hawk::Signer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use url::Url;

/// How many workers come back, where `PULSE_TEST_FLEET` doesn't say. Unoptimised, the program and its fleet take some
/// 10 ms of a processor for each.
const FLEET: usize = 1000;
/// How many namespaces they share.
const NAMESPACES: usize = 100;
/// How long Taskcluster's clients for JavaScript wait before each repetition, in milliseconds, as it was measured.
const PAUSES: [u64; 5] = [250, 460, 880, 1800, 3600];

const FLEETS_CLIENT: &str = "project/fleet";
const FLEETS_TOKEN: &str = "canary-token-of-the-fleet-0123456789abcdef";

/// Lets this process have as many connections as the fleet needs.
fn allow_connections(fleet: usize) {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum.map_or(Some(16_384), |most| Some(most.min(16_384)));
    setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum }).unwrap();
    assert!(current >= Some(2 * fleet as u64), "this needs more open files: ulimit -Hn {}", 2 * fleet);
}

/// One attempt, on a connection of its own and signed anew: the status, or why there is none.
async fn attempt(url: &Url, namespace: usize) -> Result<u16, String> {
    let url = url.join(&format!("/api/pulse/v1/namespace/taskcluster-{namespace}")).unwrap();
    let signer = Signer { id: FLEETS_CLIENT, key: FLEETS_TOKEN, ext: None };
    let authorization = signer.header("POST", &url, None, SystemClock.now());
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\
         Authorization: {authorization}\r\n\r\n{{}}",
        url.path(),
        url.authority()
    );
    let answer = async {
        let mut stream = TcpStream::connect((url.host_str().unwrap(), url.port().unwrap())).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map(|_| answer)
    };
    // What these clients wait for an answer.
    let answer = timeout(Duration::from_secs(30), answer).await.map_err(|_| "no answer".to_owned())?;
    let answer = answer.map_err(|error| error.to_string())?;
    let status = std::str::from_utf8(answer.get(9..12).unwrap_or_default()).unwrap_or_default();
    status.parse().map_err(|_| "an empty answer".to_owned())
}

/// A claim as those clients make it; how its attempts went.
async fn claim(url: Url, namespace: usize) -> Vec<String> {
    let mut went = Vec::new();
    for pause in PAUSES.into_iter().map(Some).chain([None]) {
        let outcome = attempt(&url, namespace).await;
        went.push(outcome.as_ref().map_or_else(Clone::clone, ToString::to_string));
        match (outcome, pause) {
            (Ok(500..) | Err(_), Some(pause)) => sleep(Duration::from_millis(pause)).await,
            _ => break,
        }
    }
    went
}

async fn a_fleet_comes_back_at_once(store: StoreKind) {
    let fleet_size = std::env::var("PULSE_TEST_FLEET").map_or(FLEET, |size| size.parse().unwrap());
    allow_connections(fleet_size);
    let mut deployment = Deployment::new(store, BrokerKind::Fake).await;
    deployment.add_secret(FLEETS_TOKEN);
    let client = json!([{"clientId": FLEETS_CLIENT, "accessToken": FLEETS_TOKEN, "scopes": ["pulse:namespace:*"]}]);
    deployment.set("STATIC_CLIENTS", client.to_string());
    // Which says where it listens.
    deployment.set("LEVEL", "root:warning process:info taskcluster_pulse:info");
    let (_program, url) = deployment.serve(&["web"]).await;
    for namespace in 0..NAMESPACES {
        assert_eq!(attempt(&url, namespace).await, Ok(200));
    }
    let mut fleet = JoinSet::new();
    for worker in 0..fleet_size {
        fleet.spawn(claim(url.clone(), worker % NAMESPACES));
    }
    let went = timeout(3 * PATIENCE, fleet.join_all()).await.expect("the fleet is not served");
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    went.iter().for_each(|went| *outcomes.entry(went.join(", ")).or_default() += 1);
    assert!(went.iter().all(|went| went.last().is_some_and(|last| last == "200")), "{outcomes:#?}");
}

#[tokio::test]
async fn a_fleet_that_comes_back_at_once_is_served_on_sqlite() {
    a_fleet_comes_back_at_once(StoreKind::Sqlite).await;
}

#[tokio::test]
async fn a_fleet_that_comes_back_at_once_is_served_on_postgresql() {
    a_fleet_comes_back_at_once(StoreKind::Postgres).await;
}
