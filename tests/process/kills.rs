//! The service, killed at random moments while it answers claims.

use std::time::Instant;

use futures::future::join_all;
use rand::RngExt as _;
use serde_json::json;
use tokio::time::sleep;

use super::seeded;
use crate::support::processes::Deployment;
use crate::support::world::{BrokerKind, StoreKind};

/// How often it is killed, on each store.
const KILLS: usize = 25;

/// How many claims of one new name are under way at each kill.
const AT_ONCE: usize = 2;

async fn no_kill_during_claims_leaves_dead_credentials(store: StoreKind) {
    let mut random = seeded();
    let deployment = Deployment::new(store, BrokerKind::Real).await;
    let (mut web, mut url) = deployment.serve(&["web"]).await;
    let mut answered = 0;
    for round in 0..KILLS {
        let name = format!("taskcluster-{round}");
        let began = Instant::now();
        deployment.claim(&url, &format!("{name}-before"), &json!({})).await.unwrap();

        // A first claim takes about as long as the one just now.
        let moment = began.elapsed().mul_f64(random.random_range(0.0..1.2));
        let claims = join_all((0..AT_ONCE).map(|_| async {
            let nothing = json!({});
            deployment.claim(&url, &name, &nothing).await
        }));
        let kill = async {
            sleep(moment).await;
            drop(web);
        };
        let (answers, ()) = tokio::join!(claims, kill);
        (web, url) = deployment.serve(&["web"]).await;

        let next = deployment.claim(&url, &name, &json!({})).await;
        let next = next.unwrap_or_else(|error| panic!("round {round}, killed after {moment:?}: {error}"));
        let answers: Vec<_> = answers.into_iter().flatten().collect();
        answered += answers.len();
        for answer in answers.iter().chain([&next]) {
            let welcome = deployment.try_login(&answer.connection_string).await;
            welcome.unwrap_or_else(|why| panic!("round {round}, killed after {moment:?}: {why}"));
            assert_eq!(answer.connection_string, next.connection_string);
        }
    }
    println!("{KILLS} kills: {answered} of {} claims were answered before", KILLS * AT_ONCE);
    assert!(answered < KILLS * AT_ONCE, "no kill came before an answer: is it still random?");
}

#[tokio::test]
async fn no_kill_during_claims_leaves_dead_credentials_on_sqlite() {
    no_kill_during_claims_leaves_dead_credentials(StoreKind::Sqlite).await;
}

#[tokio::test]
async fn no_kill_during_claims_leaves_dead_credentials_on_postgresql() {
    no_kill_during_claims_leaves_dead_credentials(StoreKind::Postgres).await;
}
