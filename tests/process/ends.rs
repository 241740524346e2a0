//! Ends on demand and going back to an earlier schema, from the command line.

use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn namespaces_are_revoked_disabled_and_released_from_the_command_line() {
    let deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Real).await;
    let (_web, url) = deployment.serve(&["web"]).await;
    let claim = async || deployment.claim(&url, "taskcluster-x", &json!({})).await;
    let before = claim().await.unwrap();
    let string = before.connection_string;
    deployment.try_login(&string).await.unwrap();
    let why = ["taskcluster-x", "--reason", "it was leaked"];
    let end = async |command: &str, more: &[&str]| {
        let ended = deployment.run(&[&[command][..], &why, more].concat()).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout
    };
    let revoked: Value = serde_json::from_str(&end("revoke", &["--json"]).await).unwrap();
    assert_eq!(revoked, json!({"namespace": "taskcluster-x", "state": "done"}));
    assert!(deployment.try_login(&string).await.is_err());
    let after = claim().await.unwrap();
    deployment.try_login(&after.connection_string).await.unwrap();
    assert_eq!(end("disable", &[]).await, "disable taskcluster-x: done\n");
    let refused = claim().await.err().expect("it is disabled").to_string();
    assert!(refused.contains("it was leaked"), "{refused}");
    let enabled = end("enable", &[]).await;
    assert!(
        enabled.starts_with("enable taskcluster-x: stored, and carried out as soon as possible; now it can be"),
        "{enabled}"
    );
    end("release", &[]).await;
    let trail = deployment.run(&["audit", "--namespace", "taskcluster-x", "--json"]).await.stdout;
    let records = trail.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let actions: Vec<_> = records.map(|record| record["action"].as_str().unwrap().to_owned()).collect();
    assert_eq!(actions, ["release", "enable", "disable", "revoke", "claim"]);
    let unknown = deployment.run(&["revoke", "taskcluster-no", "--reason", "why"]).await;
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert!(unknown.stderr.contains("there is no namespace taskcluster-no"), "{}", unknown.stderr);
    assert_eq!(deployment.run(&["revoke", "taskcluster-x"]).await.code, Some(2), "a reason is needed");
}

#[tokio::test]
async fn a_schema_goes_back_where_nothing_is_lost_or_it_is_forced_to() {
    let deployment = Deployment::new(StoreKind::Postgres, BrokerKind::Fake).await;
    {
        let (_web, url) = deployment.serve(&["web"]).await;
        deployment.claim(&url, "taskcluster-x", &json!({})).await.unwrap();
    }
    let refused = deployment.run(&["migrate", "--to", "3"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("would lose: 1 records of the audit trail; "), "{}", refused.stderr);
    let back = deployment.run(&["migrate", "--to", "3", "--force"]).await;
    assert_eq!(back.code, Some(0), "{back:?}");
    assert!(
        back.stdout.starts_with("Took out V") && back.stdout.ends_with("schema has version 3.\n"),
        "{}",
        back.stdout
    );
    let older = deployment.run(&["rotate-namespaces"]).await;
    assert!(older.stderr.contains("has version 3, which is older than this program"), "{}", older.stderr);
    assert_eq!(deployment.run(&["migrate", "--to", "4"]).await.code, Some(1), "it goes back alone");
    assert_eq!(deployment.run(&["migrate", "--force"]).await.code, Some(2));
    assert_eq!(deployment.run(&["migrate"]).await.code, Some(0));
    let (_web, url) = deployment.serve(&["web"]).await;
    deployment.claim(&url, "taskcluster-x", &json!({})).await.unwrap();
}
