//! The command `claim`: a client for people and scripts.

use std::fs::OpenOptions;

use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::support::processes::{Deployment, Ended};
use crate::support::world::{BrokerKind, StoreKind};

fn assert_fails(ended: &Ended, code: i32, words: &str) {
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{ended:?}");
    assert!(ended.stderr.contains(words), "{ended:?}");
}

#[tokio::test]
async fn claim_prints_the_connection_string_and_nothing_else() {
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Real).await;
    let (_web, url) = deployment.serve(&["web"]).await;
    deployment.set("TASKCLUSTER_ROOT_URL", url.as_str());
    deployment.set("LEVEL", "info");

    let ended = deployment.run(&["claim", "taskcluster-cli"]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let printed = ended.stdout.strip_suffix('\n').unwrap();
    deployment.try_login(printed).await.unwrap();
    let claimed = deployment.claim(&url, "taskcluster-cli", &json!({})).await.unwrap();
    assert_eq!(printed, claimed.connection_string);

    let expires = "2100-01-02T03:04:05.678Z";
    let arguments = ["claim", "taskcluster-cli", "--json", "--expires", expires, "--contact", "owner@example.com"];
    let ended = deployment.run(&arguments).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&answer["namespace"], &answer["expires"]), (&json!("taskcluster-cli"), &json!(expires)));
    assert_eq!(answer["connectionString"], printed);

    let ended = deployment.run(&["claim", "taskcluster-cli", "--json", "--expires", "2 days"]).await;
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert!(answer["expires"].as_str().unwrap() < expires, "{answer}");
}

#[tokio::test]
async fn claim_tells_by_its_exit_code_what_went_wrong() {
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let (_web, url) = deployment.serve(&["web"]).await;
    assert_fails(&deployment.run(&["claim", "taskcluster-x"]).await, 2, "TASKCLUSTER_ROOT_URL");
    deployment.set("TASKCLUSTER_ROOT_URL", url.as_str());

    assert_fails(&deployment.run(&["claim"]).await, 2, "<NAMESPACE>");
    assert_fails(&deployment.run(&["claim", "taskcluster-x", "--expires", "soon"]).await, 2, "\"4 hours\"");
    assert_fails(&deployment.run(&["claim", ".."]).await, 2, "can't be the path");
    assert_fails(&deployment.run(&["claim", "other-x"]).await, 3, "400");
    assert_fails(&deployment.run(&["claim", "taskcluster-x", "--contact", "nobody"]).await, 3, "400");

    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_fails(&deployment.run_into(&["claim", "taskcluster-x"], full.into()).await, 1, "can't be written");

    deployment.set("TASKCLUSTER_ACCESS_TOKEN", "another-canary-access-token-0123456789");
    deployment.add_secret("another-canary-access-token-0123456789");
    assert_fails(&deployment.run(&["claim", "taskcluster-x"]).await, 3, "401");

    // Bound, so that nobody else takes it, and not listening, so that connections are refused.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    deployment.set("TASKCLUSTER_ROOT_URL", format!("http://{}", nobody.local_addr().unwrap()));
    assert_fails(&deployment.run(&["claim", "taskcluster-x"]).await, 1, "can't be reached");
}
