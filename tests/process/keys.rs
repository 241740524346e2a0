//! Changing the key under which the database holds passwords, while the service runs.

use serde_json::json;

use crate::support::processes::{CRYPTO_KEY, Deployment};
use crate::support::world::{BrokerKind, StoreKind};

const NEW_KEY: &str = "Y2FuYXJ5LW5ldy1rZXktMDEyMzQ1Njc4OWFiY2RlZmc=";

#[tokio::test]
async fn the_key_is_changed_step_by_step_without_an_outage() {
    let mut deployment = Deployment::new(StoreKind::Postgres, BrokerKind::Real).await;
    deployment.add_secret(NEW_KEY);
    let ring = |keys: &[(&str, &str)]| {
        json!(keys.iter().map(|(id, key)| json!({"id": id, "algo": "aes-256", "key": key})).collect::<Vec<_>>())
    };
    let (old, new) = (("a", CRYPTO_KEY), ("b", NEW_KEY));
    let (mut before, mut url) = deployment.serve(&["web"]).await;
    for n in 0..5 {
        deployment.claim(&url, &format!("taskcluster-{n}"), &json!({})).await.unwrap();
    }
    // While processes are restarted one after the other, those with the key ring of the step before serve too.
    for step in [ring(&[new, old]), ring(&[old, new])] {
        deployment.set("DB_CRYPTO_KEYS", step.to_string());
        let (after, next) = deployment.serve(&["web"]).await;
        for n in 0..6 {
            for url in [&next, &url, &next] {
                let claimed = deployment.claim(url, &format!("taskcluster-{n}"), &json!({})).await.unwrap();
                deployment.try_login(&claimed.connection_string).await.unwrap();
            }
        }
        before.signal("TERM");
        before.end().await;
        (before, url) = (after, next);
    }
    let rekeyed = deployment.run(&["rekey"]).await;
    assert_eq!(rekeyed.code, Some(0), "{rekeyed:?}");
    assert!(rekeyed.stdout.ends_with("No older key is needed any more.\n"), "{rekeyed:?}");
    deployment.set("DB_CRYPTO_KEYS", ring(&[new]).to_string());
    let (_web, url) = deployment.serve(&["web"]).await;
    for n in 0..6 {
        let claimed = deployment.claim(&url, &format!("taskcluster-{n}"), &json!({})).await.unwrap();
        deployment.try_login(&claimed.connection_string).await.unwrap();
    }
}

#[tokio::test]
async fn rekey_seals_what_an_older_key_sealed_and_says_what_it_can_not_open() {
    let mut deployment = Deployment::new(StoreKind::Postgres, BrokerKind::Fake).await;
    deployment.add_secret(NEW_KEY);
    let (_web, url) = deployment.serve(&["web"]).await;
    for name in ["taskcluster-a", "taskcluster-b"] {
        deployment.claim(&url, name, &json!({})).await.unwrap();
    }
    let (old, new) = (
        json!({"id": "a", "algo": "aes-256", "key": CRYPTO_KEY}),
        json!({"id": "b", "algo": "aes-256", "key": NEW_KEY}),
    );
    deployment.set("DB_CRYPTO_KEYS", json!([old, new]).to_string());
    let rekeyed = deployment.run(&["rekey"]).await;
    let done = "Sealed 2 namespaces under the newest key.\nNo older key is needed any more.\n";
    assert_eq!((rekeyed.code, rekeyed.stdout.as_str()), (Some(0), done), "{rekeyed:?}");
    deployment.set("DB_CRYPTO_KEYS", json!([old]).to_string());
    let rekeyed = deployment.run(&["rekey"]).await;
    assert_eq!(rekeyed.code, Some(1), "{rekeyed:?}");
    assert!(rekeyed.stdout.contains("2 can't be opened: they need a key that is not in the key ring."), "{rekeyed:?}");
}
