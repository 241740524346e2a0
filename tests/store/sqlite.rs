//! The SQLite store's key file, and the opening of one file by many.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use taskcluster_pulse::domain::hold::Beat;
use taskcluster_pulse::store::{self, Select, Store, StoreError, StoreLimits};
use tempfile::TempDir;

use super::{insert, name, settled, stored};
use crate::support::rabbitmq::eventually;

/// A directory that isn't there yet, in one that is.
fn paths(directory: &TempDir) -> (PathBuf, PathBuf) {
    let data = directory.path().join("data");
    (data.join("pulse.sqlite"), data.join("pulse.sqlite.key"))
}

async fn open(directory: &TempDir) -> Result<Arc<dyn Store>, StoreError> {
    let url = format!("sqlite:{}", paths(directory).0.display()).parse().unwrap();
    store::open(&url, None, StoreLimits::default()).await
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
    let limits = StoreLimits { timeout: Duration::from_millis(200), ..StoreLimits::default() };
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
    assert!(matches!(refused, Err(StoreError::Unwritable(_))), "{refused:?}");
    // Readers don't wait for a writer.
    assert_eq!(store.namespace(&name("taskcluster-x")).await.unwrap(), None);
    other.execute_batch("COMMIT").unwrap();
    // Where it was just about to be given up, it may have got through all the same.
    store.write(&[super::put(&namespace)]).await.unwrap();
    assert_eq!(store.namespace(&namespace.name).await.unwrap(), Some(stored(&namespace)));
}

#[tokio::test]
async fn what_waited_too_long_behind_another_call_is_not_done_later() {
    let (_directory, store, other) = locked().await;
    let [first, behind] = ["taskcluster-first", "taskcluster-behind"].map(|name| [super::put(&settled(name, 1))]);
    let refused = tokio::join!(store.write(&first), store.write(&behind));
    assert!(matches!(refused, (Err(StoreError::Unwritable(_)), Err(StoreError::Unwritable(_)))), "{refused:?}");
    other.execute_batch("COMMIT").unwrap();
    insert(&*store, &[settled("taskcluster-x", 1)]).await;
    assert_eq!(store.namespace(&name("taskcluster-behind")).await.unwrap(), None);
}

#[tokio::test]
async fn readers_do_not_wait_for_a_writer_that_waits_for_a_lock() {
    let directory = tempfile::tempdir().unwrap();
    let (database, _) = paths(&directory);
    let url = format!("sqlite:{}", database.display()).parse().unwrap();
    let limits = StoreLimits { timeout: Duration::from_secs(20), ..StoreLimits::default() };
    let store = store::open(&url, None, limits).await.unwrap();
    insert(&*store, &[settled("taskcluster-x", 1)]).await;
    let other = rusqlite::Connection::open(&database).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let writer = store.clone();
    let writing = tokio::spawn(async move { insert(&*writer, &[settled("taskcluster-y", 1)]).await });
    for _ in 0..10 {
        let began = Instant::now();
        assert!(store.namespace(&name("taskcluster-x")).await.unwrap().is_some());
        store.summaries(None, 10).await.unwrap();
        store.ping().await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(5) && !writing.is_finished());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    other.execute_batch("COMMIT").unwrap();
    writing.await.unwrap();
    assert!(store.namespace(&name("taskcluster-y")).await.unwrap().is_some(), "and read what was written");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn beside(database: &Path, end: &str) -> PathBuf {
    PathBuf::from(format!("{}{end}", database.display()))
}

#[tokio::test]
async fn the_files_are_for_their_owner_alone_whatever_the_directory() {
    for directory_mode in [0o777, 0o1777, 0o755, 0o2775] {
        let directory = tempfile::tempdir().unwrap();
        let (database, key) = paths(&directory);
        fs::create_dir(database.parent().unwrap()).unwrap();
        fs::set_permissions(database.parent().unwrap(), fs::Permissions::from_mode(directory_mode)).unwrap();
        let store = open(&directory).await.unwrap();
        insert(&*store, &[settled("taskcluster-x", 1)]).await;
        let all = [database.clone(), beside(&database, "-wal"), beside(&database, "-shm"), key];
        for path in &all {
            assert_eq!(mode(path), 0o600, "{}", path.display());
        }
        // Those that an earlier version made for everybody are closed, while they are used too.
        for path in &all[..3] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o664)).unwrap();
        }
        store::migrate(&format!("sqlite:{}", database.display()).parse().unwrap()).await.unwrap();
        for path in &all {
            assert_eq!(mode(path), 0o600, "{}", path.display());
        }
    }
}

/// Everything about the files in a directory, but when they were read.
fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>, u32, std::time::SystemTime)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = entries
        .map(|path| {
            (path.clone(), fs::read(&path).unwrap(), mode(&path), fs::metadata(&path).unwrap().modified().unwrap())
        })
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_left_as_it_is() {
    let made =
        |sql: &'static str| move |path: &Path| rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
    let history = "CREATE TABLE refinery_schema_history (version INTEGER PRIMARY KEY, name TEXT, applied_on TEXT, checksum TEXT);";
    let foreign_history = format!("{history} INSERT INTO refinery_schema_history VALUES (1, 'a', '', '7');");
    let empty_history = format!("{history} CREATE TABLE things (a);");
    type Make = Box<dyn Fn(&Path)>;
    let files: [(&str, Make, &str); 9] = [
        ("a table", Box::new(made("CREATE TABLE things (a)")), "things"),
        ("a table of a name of ours", Box::new(made("CREATE TABLE namespace (a)")), "namespace"),
        ("a view", Box::new(made("CREATE VIEW seen AS SELECT 1")), "seen"),
        ("in WAL mode", Box::new(made("PRAGMA journal_mode = WAL; CREATE TABLE things (a)")), "things"),
        (
            "another program's history",
            Box::new(move |path| made_of(path, &foreign_history)),
            "version 1 of the database",
        ),
        ("an empty history", Box::new(move |path| made_of(path, &empty_history)), "things"),
        ("no database", Box::new(|path| fs::write(path, "x".repeat(4096)).unwrap()), "not a database"),
        ("a short text", Box::new(|path| fs::write(path, "secret=1\n").unwrap()), "not a database"),
        ("a database of others with a key", Box::new(made("CREATE TABLE a (b); CREATE INDEX c ON a (b)")), "a, c"),
    ];
    for (what, make, expected) in files {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pulse.sqlite");
        make(&path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let before = contents(directory.path());
        let url: store::DatabaseUrl = format!("sqlite:{}", path.display()).parse().unwrap();
        let migrated = store::migrate(&url).await.map(drop);
        let opened = store::open(&url, None, StoreLimits::default()).await.map(drop);
        for refused in [migrated, opened] {
            let Err(StoreError::Schema(why) | StoreError::Setup(why)) = refused else { panic!("{what}: {refused:?}") };
            assert!(why.contains(expected), "{what}: {why}");
        }
        assert!(contents(directory.path()) == before, "{what} was touched");
    }
}

fn made_of(path: &Path, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test]
async fn a_newer_database_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (database, _) = paths(&directory);
    drop(open(&directory).await.unwrap());
    // Whoever closes it last leaves no log, but for those who close it at the same moment.
    eventually("the database is closed", async || {
        made_of(&database, "SELECT count(*) FROM namespace");
        (!beside(&database, "-wal").exists()).then_some(())
    })
    .await;
    made_of(&database, "INSERT INTO refinery_schema_history VALUES (99, 'later', '2030-01-01T00:00:00Z', '1')");
    fs::set_permissions(&database, fs::Permissions::from_mode(0o640)).unwrap();
    let url = format!("sqlite:{}", database.display()).parse().unwrap();
    let before = fs::read(&database).unwrap();
    assert!(matches!(store::migrate(&url).await, Err(StoreError::Schema(_))));
    assert_eq!((fs::read(&database).unwrap(), mode(&database)), (before, 0o640));
}

#[tokio::test]
async fn a_file_that_is_exchanged_while_it_is_open_is_noticed_by_every_call() {
    type Exchange = fn(&Path);
    let exchanges: [(&str, Exchange); 5] = [
        ("renamed", |path| fs::rename(path, path.with_extension("old")).unwrap()),
        ("removed", |path| fs::remove_file(path).unwrap()),
        ("replaced", |path| {
            fs::copy(path, path.with_extension("copy")).unwrap();
            fs::rename(path.with_extension("copy"), path).unwrap();
        }),
        ("without its log", |path| fs::remove_file(beside(path, "-wal")).unwrap()),
        ("without what is shared", |path| fs::remove_file(beside(path, "-shm")).unwrap()),
    ];
    for (what, exchange) in exchanges {
        let directory = tempfile::tempdir().unwrap();
        let (database, _) = paths(&directory);
        let store = open(&directory).await.unwrap();
        insert(&*store, &[settled("taskcluster-x", 1)]).await;
        exchange(&database);
        let read = store.namespace(&name("taskcluster-x")).await.map(drop);
        let written = store.write(&[super::put(&settled("taskcluster-y", 1))]).await.map(drop);
        let second = Duration::from_secs(1);
        let beat = Beat { now: super::at(1), gap: second, elapsed: second, boot: None };
        let beaten = store.beat(&beat).await.map(drop);
        for failed in [read, written, beaten, store.ping().await] {
            let Err(StoreError::Unavailable(why) | StoreError::Unwritable(why)) = failed else {
                panic!("{what}: {failed:?}")
            };
            assert!(why.contains("was removed or replaced"), "{what}: {why}");
        }
        // What is put back is as good as it was.
        if what == "renamed" {
            fs::rename(database.with_extension("old"), &database).unwrap();
            assert!(store.namespace(&name("taskcluster-y")).await.unwrap().is_none(), "nothing was written meanwhile");
            insert(&*store, &[settled("taskcluster-y", 1)]).await;
        }
    }
}

#[tokio::test]
async fn a_database_that_is_a_link_is_followed_and_its_exchange_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let (link, real) = (directory.path().join("pulse.sqlite"), directory.path().join("real.sqlite"));
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let url = format!("sqlite:{}", link.display()).parse().unwrap();
    let store = store::open(&url, None, StoreLimits::default()).await.unwrap();
    insert(&*store, &[settled("taskcluster-x", 1)]).await;
    assert_eq!([mode(&real), mode(&beside(&real, "-wal"))], [0o600; 2]);
    fs::remove_file(&link).unwrap();
    fs::write(&link, "").unwrap();
    assert!(store.ping().await.unwrap_err().to_string().contains("was removed or replaced"));
}

#[tokio::test]
async fn what_is_no_file_is_refused_and_keeps_its_mode() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let url = format!("sqlite:{}", path.display()).parse().unwrap();
    let refused = store::open(&url, None, StoreLimits::default()).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("is no file"), "{refused}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
}
