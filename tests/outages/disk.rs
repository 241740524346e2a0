//! A full disk below SQLite.

use std::process::Command;

use serde_json::json;

use super::load::{is_unavailable, shown};
use crate::support::processes::{Deployment, Program};
use crate::support::world::{BrokerKind, StoreKind};

/// Lets no file of the process grow beyond so many bytes, or any number.
fn limit_files(program: &Program, bytes: &str) {
    let limit = [format!("--pid={}", program.id()), format!("--fsize={bytes}:")];
    assert!(Command::new("prlimit").args(limit).status().unwrap().success());
}

#[tokio::test]
async fn while_the_disk_below_sqlite_is_full_nothing_is_answered_that_was_not_stored_and_then_all_is_good() {
    let deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let (mut serve, url) = deployment.serve(&["serve"]).await;
    let same = json!({"expires": "2099-01-01T00:00:00Z"});
    let known = deployment.claim(&url, "taskcluster-known", &same).await.unwrap();

    limit_files(&serve, "0");
    for _ in 0..3 {
        let claimed = deployment.claim(&url, "taskcluster-new", &json!({})).await;
        assert!(is_unavailable(&claimed), "{}", shown(&claimed));
        // It asks for nothing new, so nothing has to be written.
        let again = deployment.claim(&url, "taskcluster-known", &same).await.unwrap();
        assert_eq!(again.connection_string, known.connection_string);
    }
    assert!(serve.is_alive());

    limit_files(&serve, "unlimited");
    let answer = deployment.claim(&url, "taskcluster-new", &json!({})).await.unwrap();
    for good in [&answer, &known] {
        deployment.try_login(&good.connection_string).await.unwrap();
    }
}
