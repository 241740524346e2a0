//! Disasters, and the way out of each that docs/recovery.md describes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::fake_broker::{FakeBroker, Queue};
use crate::support::postgres::TestDatabase;
use crate::support::processes::{Answer, CRYPTO_KEY, Deployment, Ended};
use crate::support::rabbitmq::eventually;
use crate::support::world::{BrokerKind, Side, StoreKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use taskcluster_pulse::clock::{Clock as _, SystemClock};
use taskcluster_pulse::domain::inventory::QueueKind;
use taskcluster_pulse::taskcluster::TaskclusterError;

const NAME: &str = "taskcluster-x";
const QUEUE: &str = "queue/taskcluster-x/all";

/// Short enough to be waited for, and long enough to do something before it is over.
const INTERVAL: &str = "12 s";

fn fake(deployment: &Deployment) -> &FakeBroker {
    match &deployment.side {
        Side::Fake(fake) => fake,
        Side::Real(_) => panic!("the fake broker was asked for"),
    }
}

/// One claim, at a web process that is started for it.
async fn claim(deployment: &Deployment) -> Result<Answer, TaskclusterError> {
    let (_web, url) = deployment.serve(&["web"]).await;
    deployment.claim(&url, NAME, &json!({"expires": "2099-01-01T00:00:00Z"})).await
}

async fn logs_in(deployment: &Deployment, answer: &Answer) -> bool {
    deployment.try_login(&answer.connection_string).await.is_ok()
}

/// Rotates as soon as it is due, and gives what claims return from then on.
async fn rotated(deployment: &Deployment, before: &Answer) -> Answer {
    let (_web, url) = deployment.serve(&["web"]).await;
    let expires = json!({"expires": "2099-01-01T00:00:00Z"});
    eventually("a rotation", async || {
        succeeds(deployment, &["rotate-namespaces"]).await;
        let answer = deployment.claim(&url, NAME, &expires).await.unwrap();
        (answer.connection_string != before.connection_string).then_some(answer)
    })
    .await
}

async fn succeeds(deployment: &Deployment, arguments: &[&str]) -> Ended {
    let ended = deployment.run(arguments).await;
    assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
    ended
}

/// Puts a queue of the namespace to the broker, as its owner does.
fn declare_queue(deployment: &Deployment) {
    let queue = Queue { kind: QueueKind::Classic, messages: 7, owner: None };
    fake(deployment).state().queues.insert(QUEUE.to_owned(), queue);
}

fn has_queue(deployment: &Deployment) -> bool {
    fake(deployment).state().queues.contains_key(QUEUE)
}

fn file(deployment: &Deployment, name: &str) -> PathBuf {
    deployment.folder.path().join("data").join(name)
}

/// The files of the database, as they are while nobody has it open.
const FILES: [&str; 3] = ["pulse.sqlite", "pulse.sqlite-wal", "pulse.sqlite-shm"];

/// Copies the database into a folder, or back.
fn copy(deployment: &Deployment, back: bool) {
    let backup = deployment.folder.path().join("backup");
    fs::create_dir_all(&backup).unwrap();
    for name in FILES {
        let (live, kept) = (file(deployment, name), backup.join(name));
        let (from, to) = if back { (kept, live) } else { (live, kept) };
        let _ = fs::remove_file(&to);
        if from.exists() {
            fs::copy(from, to).unwrap();
        }
    }
}

async fn with_interval(store: StoreKind) -> Deployment {
    let mut deployment = Deployment::new(store, BrokerKind::Fake).await;
    deployment.set("NAMESPACE_ROTATION_INTERVAL", INTERVAL);
    deployment.set("WORKER_ROTATE_INTERVAL", "1 s");
    deployment.set("RABBIT_REQUEST_TIMEOUT", "1200 ms");
    deployment
}

#[tokio::test]
async fn after_rabbitmq_was_wiped_one_run_of_monitor_rabbit_makes_the_users_with_the_passwords_that_clients_hold() {
    let deployment = with_interval(StoreKind::Sqlite).await;
    let older = claim(&deployment).await.unwrap();
    let newer = rotated(&deployment, &older).await;
    fake(&deployment).restart_empty();
    // Claims are answered as ever, with what logs in again once the users are there.
    let claimed = claim(&deployment).await.unwrap();
    assert_eq!(claimed.connection_string, newer.connection_string);
    assert!(!logs_in(&deployment, &newer).await);
    succeeds(&deployment, &["monitor-rabbit"]).await;
    for answer in [&older, &newer] {
        assert!(logs_in(&deployment, answer).await);
    }
}

#[tokio::test]
async fn after_an_old_backup_is_restored_rotating_first_gives_strings_that_log_in_and_cuts_one_user_alone() {
    let mut deployment = with_interval(StoreKind::Sqlite).await;
    let first = claim(&deployment).await.unwrap();
    copy(&deployment, false);
    let second = rotated(&deployment, &first).await;
    let third = rotated(&deployment, &second).await;
    assert!(logs_in(&deployment, &second).await && logs_in(&deployment, &third).await);

    copy(&deployment, true);
    // This is why nobody should be served yet: the store believes in a password that is long gone.
    let stale = claim(&deployment).await.unwrap();
    assert_eq!(stale.connection_string, first.connection_string);
    assert!(!logs_in(&deployment, &stale).await);

    // Nobody may be served yet, so there is no web process that rotation could wait for.
    deployment.set("MAX_ROTATION_HOLD", "0s");
    succeeds(&deployment, &["rotate-namespaces"]).await;
    let fourth = claim(&deployment).await.unwrap();
    assert!(logs_in(&deployment, &fourth).await);
    assert!(logs_in(&deployment, &third).await, "the other user is left alone for now");
    assert!(!logs_in(&deployment, &second).await, "its user is the one that was given a password");

    // Once every string from before has passed its reclaimAt, the rest is made to agree.
    succeeds(&deployment, &["monitor-rabbit"]).await;
    assert!(logs_in(&deployment, &fourth).await);
    assert!(!logs_in(&deployment, &third).await);
}

#[tokio::test]
async fn after_an_old_backup_is_restored_what_was_claimed_since_is_not_expired_once_it_was_claimed_again() {
    let mut deployment = with_interval(StoreKind::Sqlite).await;
    deployment.set("NAMESPACES_EXPIRATION_DELAY", "0 s");
    {
        let (_web, url) = deployment.serve(&["web"]).await;
        let soon = json!({"expires": SystemClock.now().plus(Duration::from_secs(1)).to_string()});
        deployment.claim(&url, NAME, &soon).await.unwrap();
    }
    copy(&deployment, false);
    claim(&deployment).await.unwrap();
    declare_queue(&deployment);

    copy(&deployment, true);
    {
        // Only time in which programs could claim brings the end nearer.
        let (_web, _) = deployment.serve(&["web"]).await;
        let planned = eventually("the end that the backup knows", async || {
            let planned = succeeds(&deployment, &["expire-namespaces", "--dry-run"]).await;
            planned.stdout.contains("expire namespace").then_some(())
        });
        planned.await;
    }
    deployment.set("MAX_ROTATION_HOLD", "0s");
    succeeds(&deployment, &["rotate-namespaces"]).await;
    claim(&deployment).await.unwrap();
    let planned = succeeds(&deployment, &["expire-namespaces", "--dry-run"]).await;
    assert!(!planned.stdout.contains("expire namespace"), "{planned:?}");
    succeeds(&deployment, &["expire-namespaces"]).await;
    assert!(has_queue(&deployment));
}

#[tokio::test]
async fn after_the_database_is_lost_nothing_is_deleted_and_a_claim_brings_a_namespace_back_once_its_users_are_taken_over()
 {
    let mut deployment = with_interval(StoreKind::Postgres).await;
    let before = claim(&deployment).await.unwrap();
    declare_queue(&deployment);

    let empty = TestDatabase::new().await;
    deployment.set("DATABASE_URL", empty.url());
    succeeds(&deployment, &["migrate"]).await;
    for task in ["rotate-namespaces", "monitor-rabbit", "expire-namespaces"] {
        succeeds(&deployment, &[task]).await;
    }
    assert!(logs_in(&deployment, &before).await && has_queue(&deployment), "what is unknown is left alone");
    let told = succeeds(&deployment, &["monitor-rabbit", "--dry-run"]).await;
    assert!(told.stdout.contains("not in the store (1): taskcluster-x"), "{told:?}");

    // Nobody can tell that the users are ours; the operator can.
    let refused = claim(&deployment).await.map(drop).unwrap_err();
    assert!(matches!(&refused, TaskclusterError::Refused { status: 409, .. }), "{refused}");
    let planned = succeeds(&deployment, &["take-over-users"]).await;
    let former = planned.stdout.lines().find_map(|line| line.split("it is of ").nth(1)).unwrap().to_owned();
    assert!(planned.stdout.contains("taskcluster-x-1") && planned.stdout.contains("changed 0"), "{planned:?}");
    let taken = succeeds(&deployment, &["take-over-users", "--from", &former]).await;
    assert!(taken.stdout.contains("changed 2"), "{taken:?}");
    assert!(logs_in(&deployment, &before).await, "what clients hold is as it was");

    let after = claim(&deployment).await.unwrap();
    assert!(logs_in(&deployment, &after).await && has_queue(&deployment));
    assert!(!logs_in(&deployment, &before).await, "the claim gives the users new passwords");
}

/// What `openssl rand -base64 32` prints, in the form of `DB_CRYPTO_KEYS`.
fn another_key(id: &str) -> String {
    let key = STANDARD.encode(rand::random::<[u8; 32]>());
    json!([{"id": id, "algo": "aes-256", "key": key}]).to_string()
}

async fn lost_keys_are_replaced_and_nobody_is_cut_off(deployment: Deployment) {
    let older = claim(&deployment).await.unwrap();
    let newer = rotated(&deployment, &older).await;
    let mut deployment = deployment;
    match deployment.database {
        Some(_) => deployment.set("DB_CRYPTO_KEYS", another_key("another")),
        None => {
            let key = file(&deployment, "pulse.sqlite.key");
            fs::remove_file(&key).unwrap();
            let ended = deployment.run(&["serve"]).await;
            assert!(ended.code == Some(1) && ended.stderr.contains("is missing"), "{ended:?}");
            fs::write(&key, another_key("another")).unwrap();
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
    assert!(matches!(claim(&deployment).await, Err(TaskclusterError::Refused { status: 500, .. })));

    // Whoever claimed before the rotation may rely on it for a while.
    let planned = succeeds(&deployment, &["replace-lost-passwords", "--dry-run"]).await;
    assert!(planned.stdout.contains("taskcluster-x is left until"), "{planned:?}");
    let ended = eventually("the end of that while", async || {
        let ended = succeeds(&deployment, &["replace-lost-passwords"]).await;
        assert!(logs_in(&deployment, &older).await && logs_in(&deployment, &newer).await);
        ended.stdout.contains("changed 1").then_some(ended)
    })
    .await;
    assert!(ended.stdout.contains("replace-lost-passwords: seen 1, changed 1, failed 0"), "{ended:?}");

    let fresh = claim(&deployment).await.unwrap();
    assert!(logs_in(&deployment, &fresh).await && fresh.connection_string != newer.connection_string);
    assert!(logs_in(&deployment, &newer).await, "whoever claimed after the last rotation is not cut off");
    succeeds(&deployment, &["monitor-rabbit"]).await;
    assert!(logs_in(&deployment, &newer).await, "nor is it by a repair");
    fake(&deployment).restart_empty();
    succeeds(&deployment, &["monitor-rabbit"]).await;
    for answer in [&newer, &fresh] {
        assert!(logs_in(&deployment, answer).await, "not even where RabbitMQ is wiped too");
    }
    let again = rotated(&deployment, &fresh).await;
    assert!(logs_in(&deployment, &fresh).await && logs_in(&deployment, &again).await);
    let nothing = succeeds(&deployment, &["replace-lost-passwords"]).await;
    assert!(nothing.stdout.contains("seen 0, changed 0"), "{nothing:?}");
}

#[tokio::test]
async fn after_the_keys_are_lost_passwords_are_replaced_and_nobody_is_cut_off_on_postgresql() {
    lost_keys_are_replaced_and_nobody_is_cut_off(with_interval(StoreKind::Postgres).await).await;
}

#[tokio::test]
async fn after_the_key_file_is_lost_passwords_are_replaced_and_nobody_is_cut_off_on_sqlite() {
    lost_keys_are_replaced_and_nobody_is_cut_off(with_interval(StoreKind::Sqlite).await).await;
}

#[tokio::test]
async fn whoever_can_not_wait_for_lost_passwords_to_be_replaced_cuts_off_the_oldest_strings_alone() {
    let mut deployment = with_interval(StoreKind::Postgres).await;
    let older = claim(&deployment).await.unwrap();
    let newer = rotated(&deployment, &older).await;
    deployment.set("DB_CRYPTO_KEYS", another_key("another"));
    succeeds(&deployment, &["replace-lost-passwords", "--now"]).await;
    let fresh = claim(&deployment).await.unwrap();
    assert!(logs_in(&deployment, &fresh).await && logs_in(&deployment, &newer).await);
    assert!(!logs_in(&deployment, &older).await);
}

#[tokio::test]
async fn keys_that_are_found_again_open_what_was_not_replaced() {
    let mut deployment = with_interval(StoreKind::Postgres).await;
    let before = claim(&deployment).await.unwrap();
    deployment.set("DB_CRYPTO_KEYS", another_key("another"));
    assert!(claim(&deployment).await.is_err());
    deployment.set("DB_CRYPTO_KEYS", json!([{"id": "a", "algo": "aes-256", "key": CRYPTO_KEY}]).to_string());
    assert_eq!(claim(&deployment).await.unwrap().connection_string, before.connection_string);
}

#[tokio::test]
async fn after_everything_is_lost_namespaces_come_back_as_they_are_claimed() {
    let mut deployment = with_interval(StoreKind::Postgres).await;
    let before = claim(&deployment).await.unwrap();
    let empty = TestDatabase::new().await;
    deployment.set("DATABASE_URL", empty.url());
    deployment.set("DB_CRYPTO_KEYS", another_key("another"));
    fake(&deployment).restart_empty();
    succeeds(&deployment, &["migrate"]).await;
    let after = claim(&deployment).await.unwrap();
    assert!(logs_in(&deployment, &after).await && !logs_in(&deployment, &before).await);
    succeeds(&deployment, &["monitor-rabbit"]).await;
    assert!(logs_in(&deployment, &after).await);
}
