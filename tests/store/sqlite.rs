//! The SQLite store's key file, and the opening of one file by many.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use taskcluster_pulse::store::{self, Limits, Select, Store, StoreError};
use tempfile::TempDir;

use super::{insert, name, settled, stored};

/// A directory that isn't there yet, in one that is.
fn paths(directory: &TempDir) -> (PathBuf, PathBuf) {
    let data = directory.path().join("data");
    (data.join("pulse.sqlite"), data.join("pulse.sqlite.key"))
}

async fn open(directory: &TempDir) -> Result<Arc<dyn Store>, StoreError> {
    let url = format!("sqlite:{}", paths(directory).0.display()).parse().unwrap();
    store::open(&url, None, Limits::default()).await
}

async fn refusal(directory: &TempDir) -> String {
    match open(directory).await.err() {
        Some(error @ StoreError::Setup(_)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn without_keys_one_is_made_beside_the_file_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (_, key) = paths(&directory);
    let namespace = settled("taskcluster-x", 1);
    insert(&*open(&directory).await.unwrap(), std::slice::from_ref(&namespace)).await;
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let json = fs::read_to_string(&key).unwrap();
    let found = open(&directory).await.unwrap().namespace(&namespace.name).await.unwrap();
    assert_eq!(found, Some(stored(&namespace)));
    assert_eq!(fs::read_to_string(&key).unwrap(), json);
    // The file has the same form as DB_CRYPTO_KEYS.
    store::KeyRing::parse(&json).unwrap();
}

#[tokio::test]
async fn a_key_file_that_others_can_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (_, key) = paths(&directory);
    open(&directory).await.unwrap();
    for mode in [0o640, 0o604, 0o620, 0o666] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let error = refusal(&directory).await;
        assert!(error.contains("chmod 600") && error.contains("pulse.sqlite.key"), "{error}");
    }
}

#[tokio::test]
async fn a_lost_key_file_is_not_replaced_while_the_database_holds_passwords() {
    let directory = tempfile::tempdir().unwrap();
    let (_, key) = paths(&directory);
    let store = open(&directory).await.unwrap();
    fs::remove_file(&key).unwrap();
    // Nothing is sealed yet.
    open(&directory).await.unwrap();
    insert(&*store, &[settled("taskcluster-x", 1)]).await;
    fs::remove_file(&key).unwrap();
    let error = refusal(&directory).await;
    assert!(error.contains("is missing") && error.contains("DB_CRYPTO_KEYS"), "{error}");
    assert!(!key.exists());
}

#[tokio::test]
async fn a_broken_key_file_is_refused_without_showing_what_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let (_, key) = paths(&directory);
    open(&directory).await.unwrap();
    let json = fs::read_to_string(&key).unwrap();
    let (_, secret) = json.trim_end_matches("\"}]\n").rsplit_once('"').unwrap();
    for broken in [json.replace("aes-256", "aes-128"), json.replace(']', ""), json.replace("=\"", "\"")] {
        fs::write(&key, &broken).unwrap();
        let error = refusal(&directory).await;
        assert!(error.contains("pulse.sqlite.key") && !error.contains(&secret[..43]), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_that_open_a_new_file_at_once_agree_on_one_schema_and_one_key() {
    for _ in 0..5 {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let openers: Vec<_> = (0..8)
            .map(|n| {
                let directory = directory.clone();
                tokio::spawn(async move {
                    let store = open(&directory).await.unwrap();
                    insert(&*store, &[settled(&format!("taskcluster-{n}"), 1)]).await;
                    store
                })
            })
            .collect();
        for opener in openers {
            opener.await.unwrap();
        }
        let store = open(&directory).await.unwrap();
        assert_eq!(store.namespaces(Select::All).await.unwrap().len(), 8);
        let left: Vec<_> =
            fs::read_dir(directory.path().join("data")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(
            left.iter().all(|name| name.to_str().is_some_and(|name| name.len() <= "pulse.sqlite.key".len())),
            "{left:?}"
        );
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (database, _) = paths(&directory);
    fs::create_dir(database.parent().unwrap()).unwrap();
    fs::write(&database, "x".repeat(4096)).unwrap();
    let error = open(&directory).await.err().unwrap().to_string();
    assert!(error.contains("not a database"), "{error}");
}

/// A store that waits for 200 ms, and who has its file locked until it commits.
async fn locked() -> (TempDir, Arc<dyn Store>, rusqlite::Connection) {
    let directory = tempfile::tempdir().unwrap();
    let (database, _) = paths(&directory);
    let url = format!("sqlite:{}", database.display()).parse().unwrap();
    let limits = Limits { timeout: std::time::Duration::from_millis(200), ..Limits::default() };
    let store = store::open(&url, None, limits).await.unwrap();
    let other = rusqlite::Connection::open(&database).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    (directory, store, other)
}

#[tokio::test]
async fn a_locked_file_is_unavailable_in_time_and_fine_afterwards() {
    let (_directory, store, other) = locked().await;
    let namespace = settled("taskcluster-x", 1);
    let refused = store.write(&[super::put(&namespace)]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    // Readers don't wait for a writer.
    assert_eq!(store.namespace(&name("taskcluster-x")).await.unwrap(), None);
    other.execute_batch("COMMIT").unwrap();
    insert(&*store, &[namespace]).await;
}

#[tokio::test]
async fn what_waited_too_long_behind_another_call_is_not_done_later() {
    let (_directory, store, other) = locked().await;
    let [first, behind] = ["taskcluster-first", "taskcluster-behind"].map(|name| [super::put(&settled(name, 1))]);
    let refused = tokio::join!(store.write(&first), store.write(&behind));
    assert!(matches!(refused, (Err(StoreError::Unavailable(_)), Err(StoreError::Unavailable(_)))), "{refused:?}");
    other.execute_batch("COMMIT").unwrap();
    insert(&*store, &[settled("taskcluster-x", 1)]).await;
    assert_eq!(store.namespace(&name("taskcluster-behind")).await.unwrap(), None);
}
