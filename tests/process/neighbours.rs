//! Two deployments at one RabbitMQ, whose users are global to it.

use serde_json::{Value, json};
use taskcluster_pulse::domain::inventory::Right;

use crate::support::processes::{Deployment, Ended, get};
use crate::support::world::{BrokerKind, Side, StoreKind};

const NAME: &str = "taskcluster-x";

async fn succeeds(deployment: &Deployment, arguments: &[&str]) -> Ended {
    let ended = deployment.run(arguments).await;
    assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
    ended
}

#[tokio::test]
async fn two_deployments_on_two_virtual_hosts_of_one_rabbitmq_leave_each_others_users_alone() {
    let mut production = Deployment::new(StoreKind::Postgres, BrokerKind::Real).await;
    let mut staging = Deployment::new(StoreKind::Sqlite, BrokerKind::Real).await;
    let (Side::Real(vhost), Side::Real(other)) = (&production.side, &staging.side) else { panic!("both are real") };
    let (rabbitmq, prefix, elsewhere) = (vhost.rabbitmq.clone(), vhost.prefix.clone(), other.name.clone());
    for deployment in [&mut production, &mut staging] {
        deployment.set("USERNAME_PREFIX", prefix.as_str());
        deployment.set("MONITOR_DELETE_ORPHANS", "true");
        deployment.set("MONITOR_ORPHAN_GRACE", "1 ms");
        deployment.set("NAMESPACES_EXPIRATION_DELAY", "0 s");
    }
    let claimed = {
        let (_web, url) = production.serve(&["web"]).await;
        production.claim(&url, NAME, &json!({"expires": "2099-01-01T00:00:00Z"})).await.unwrap()
    };
    let user = format!("{prefix}{NAME}-1");
    let before = rabbitmq.user(&user).await;
    assert!(before["tags"][0].as_str().unwrap().starts_with("taskcluster-pulse-"), "{before}");

    // The same namespace at the other deployment: refused, told, and nothing is written.
    let (web, url) = staging.serve(&["web"]).await;
    let refused = staging.claim(&url, NAME, &json!({"expires": "2020-01-01T00:00:00Z"})).await;
    let refused = refused.map(drop).unwrap_err().to_string();
    assert!(refused.contains("409") && refused.contains(&user), "{refused}");
    web.says_times(&user, 1).await;
    let (status, body) = get(&url, "/__heartbeat__").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200, "{body}");
    let users = &body["details"]["users"];
    assert_eq!((&users["status"], &users["level"]), (&json!("warning"), &json!(30)), "{body}");
    assert!(users["messages"][0].as_str().unwrap().contains(&user), "{body}");
    // One of its own, so that it knows a live namespace.
    staging.claim(&url, "taskcluster-staging", &json!({"expires": "2099-01-01T00:00:00Z"})).await.unwrap();
    for _ in 0..2 {
        for task in ["monitor-rabbit", "expire-namespaces", "rotate-namespaces"] {
            succeeds(&staging, &[task]).await;
        }
    }
    assert_eq!(rabbitmq.user(&user).await, before);
    production.try_login(&claimed.connection_string).await.unwrap();

    // Not even where it is told to take over, because the user has rights on the other virtual host.
    let tag = before["tags"][0].as_str().unwrap();
    let taken = succeeds(&staging, &["take-over-users", "--from", tag]).await;
    assert!(taken.stdout.contains(&format!("{user} is left")), "{taken:?}");
    assert_eq!(rabbitmq.user(&user).await, before);
    production.try_login(&claimed.connection_string).await.unwrap();

    // What somebody gave to a user of ours on the other virtual host is found, shown, and taken away.
    rabbitmq.grant(&Right { user: user.clone(), vhost: elsewhere, topic: false }).await;
    let planned = succeeds(&production, &["monitor-rabbit", "--dry-run"]).await;
    assert!(planned.stdout.contains("revoke rights"), "{planned:?}");
    succeeds(&production, &["monitor-rabbit"]).await;
    let planned = succeeds(&production, &["monitor-rabbit", "--dry-run"]).await;
    assert!(!planned.stdout.contains("revoke rights"), "{planned:?}");
    assert_eq!(rabbitmq.user(&user).await, before);
    production.try_login(&claimed.connection_string).await.unwrap();
}
