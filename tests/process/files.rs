//! The database as others leave it: locked, exchanged, read-only, or sealed under a key that is lost; and what people see on
//! their terminals.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskcluster_pulse::taskcluster::TaskclusterError;

use crate::support::fake_broker::Queue;
use crate::support::processes::{CRYPTO_KEY, Deployment, get};
use crate::support::world::{BrokerKind, Side, StoreKind};

/// What no claim may take that does not wait for the database. It is generous, because the machine may be busy.
const AT_ONCE: Duration = Duration::from_secs(7);

fn is_unavailable<T>(claimed: &Result<T, TaskclusterError>) -> bool {
    matches!(claimed, Err(TaskclusterError::Refused { status: 503, .. }))
}

fn database(deployment: &Deployment) -> PathBuf {
    deployment.folder.path().join("data/pulse.sqlite")
}

#[tokio::test]
async fn while_another_process_has_the_file_locked_known_namespaces_are_claimed_and_all_are_listed() {
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    // Longer than a claim may take at once, so that each that waits is noticed.
    deployment.set("STORE_QUERY_TIMEOUT", "10 s");
    let (web, url) = deployment.serve(&["web"]).await;
    let known = deployment.claim(&url, "taskcluster-known", &json!({})).await.unwrap();
    let other = rusqlite::Connection::open(database(&deployment)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The first one finds out.
    let changed = json!({"contact": "owner@example.com"});
    let found_out = deployment.claim(&url, "taskcluster-known", &changed).await.unwrap();
    assert_eq!(found_out.connection_string, known.connection_string);
    let (until, mut slowest) = (Instant::now() + Duration::from_secs(13), Duration::ZERO);
    while Instant::now() < until {
        let began = Instant::now();
        let claimed = deployment.claim(&url, "taskcluster-known", &changed).await.unwrap();
        assert_eq!(claimed.connection_string, known.connection_string);
        assert_eq!(get(&url, "/api/pulse/v1/namespaces").await.0, 200, "it can be read");
        assert_eq!(get(&url, "/api/pulse/v1/namespace/taskcluster-known").await.0, 200);
        slowest = slowest.max(began.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(slowest < AT_ONCE, "a claim and two reads took {slowest:?}");
    let (status, body) = get(&url, "/__heartbeat__").await;
    assert!(status == 502 && body.contains("database"), "{status} {body}");
    other.execute_batch("COMMIT").unwrap();
    web.says("claims are stored again").await;
    deployment.claim(&url, "taskcluster-new", &json!({})).await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_exchanged_while_it_is_open_is_named_and_not_written_to() {
    let deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let (web, url) = deployment.serve(&["web"]).await;
    let known = deployment.claim(&url, "taskcluster-known", &json!({})).await.unwrap();
    let (file, away) = (database(&deployment), deployment.folder.path().join("away"));
    fs::rename(&file, &away).unwrap();
    fs::copy(&away, &file).unwrap();
    let claimed = deployment.claim(&url, "taskcluster-new", &json!({})).await.map(drop);
    assert!(is_unavailable(&claimed), "{claimed:?}");
    let remembered = deployment.claim(&url, "taskcluster-known", &json!({"contact": ""})).await.unwrap();
    assert_eq!(remembered.connection_string, known.connection_string);
    let (status, body) = get(&url, "/__heartbeat__").await;
    assert!(status == 502 && body.contains("database"), "{status} {body}");
    web.says("was removed or replaced while this process has it open").await;
    fs::rename(&away, &file).unwrap();
    deployment.claim(&url, "taskcluster-new", &json!({})).await.unwrap();
}

#[tokio::test]
async fn a_database_that_can_only_be_read_is_listed_whatever_is_claimed() {
    let deployment = Deployment::new(StoreKind::Postgres, BrokerKind::Fake).await;
    let (web, url) = deployment.serve(&["web"]).await;
    deployment.claim(&url, "taskcluster-known", &json!({})).await.unwrap();
    let client = deployment.database.as_ref().unwrap().client().await;
    let name: String = client.query_one("SELECT current_database()::text", &[]).await.unwrap().get(0);
    let set = async |to: &str| {
        let alter = format!(
            "SET default_transaction_read_only = off; ALTER DATABASE {name} SET default_transaction_read_only = {to}"
        );
        client.batch_execute(&alter).await.unwrap();
        let cut =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()";
        client.query(cut, &[&name]).await.unwrap();
    };
    set("on").await;
    for number in 0..8 {
        let claimed = deployment.claim(&url, &format!("taskcluster-{number}"), &json!({})).await.map(drop);
        assert!(is_unavailable(&claimed), "{claimed:?}");
        let (status, body) = get(&url, "/api/pulse/v1/namespaces").await;
        assert!(status == 200 && body.contains("taskcluster-known"), "{status} {body}");
    }
    let (status, body) = get(&url, "/__heartbeat__").await;
    assert!(status == 502 && body.contains("database"), "{status} {body}");
    set("off").await;
    web.says("claims are stored again").await;
    deployment.claim(&url, "taskcluster-new", &json!({})).await.unwrap();
}

/// A process that is killed when its handle is dropped.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Who may do everything may also write to what is read-only, so that the process is somebody else then.
fn as_somebody_who_may_only_read(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    command
}

#[tokio::test]
async fn a_file_where_nothing_can_be_written_is_served_to_who_reads() {
    let deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let (web, url) = deployment.serve(&["web"]).await;
    deployment.claim(&url, "taskcluster-known", &json!({})).await.unwrap();
    web.signal("TERM");
    web.end().await;
    // First with what was left in the log, then with all of it in the file.
    assert_listed_where_nothing_can_be_written(&deployment).await;
    rusqlite::Connection::open(database(&deployment))
        .unwrap()
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    let beside = |end: &str| PathBuf::from(format!("{}{end}", database(&deployment).display()));
    for path in ["-wal", "-shm"].map(beside) {
        let _ = fs::remove_file(path);
    }
    assert_listed_where_nothing_can_be_written(&deployment).await;
}

async fn assert_listed_where_nothing_can_be_written(deployment: &Deployment) {
    let (folder, file) = (deployment.folder.path(), database(deployment));
    let program = folder.join("program");
    fs::copy(env!("CARGO_BIN_EXE_taskcluster-pulse"), &program).unwrap();
    let data = file.parent().unwrap();
    let set_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set_mode(folder, 0o755);
    for entry in fs::read_dir(data).unwrap() {
        set_mode(&entry.unwrap().path(), 0o444);
    }
    set_mode(data, 0o555);
    let client = json!([{"clientId": "a", "accessToken": "canary-access-token-of-somebody", "scopes": []}]);
    let keys = json!([{"id": "a", "algo": "aes-256", "key": CRYPTO_KEY}]);
    let mut command = as_somebody_who_may_only_read(&program);
    command.arg("web").current_dir(folder).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("RABBIT_USERNAME", "a").env("RABBIT_PASSWORD", "b").env("RABBIT_BASE_URL", "http://127.0.0.1:1");
    command.env("STATIC_CLIENTS", client.to_string()).env("DB_CRYPTO_KEYS", keys.to_string()).env("PORT", "0");
    command.env("DATA_DIR", data).env("LOG_FORMAT", "human");
    let mut web = Killed(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(web.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let listening = lines.find_map(|line| line.split_once("listening at ").map(|(_, url)| url.to_owned()));
    let Some(listening) = listening else {
        let mut said = String::new();
        web.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        panic!("it ended: {said}");
    };
    let (status, body) = get(&listening.parse().unwrap(), "/api/pulse/v1/namespaces").await;
    set_mode(data, 0o755);
    for entry in fs::read_dir(data).unwrap() {
        set_mode(&entry.unwrap().path(), 0o644);
    }
    assert!(status == 200 && body.contains("taskcluster-known"), "{status} {body}");
}

#[tokio::test]
async fn after_the_loss_of_a_key_a_run_says_so_in_one_line() {
    for store in [StoreKind::Sqlite, StoreKind::Postgres] {
        let mut deployment = Deployment::new(store, BrokerKind::Fake).await;
        let (web, url) = deployment.serve(&["web"]).await;
        for number in 0..9 {
            deployment.claim(&url, &format!("taskcluster-{number}"), &json!({})).await.unwrap();
        }
        web.signal("TERM");
        web.end().await;
        let key = "Y2FuYXJ5LW5ldy1rZXktMDEyMzQ1Njc4OWFiY2RlZmc=";
        deployment.set("DB_CRYPTO_KEYS", json!([{"id": "b", "algo": "aes-256", "key": key}]).to_string());
        deployment.set("LOG_FORMAT", "json");
        for (command, log) in [("monitor-rabbit", 1), ("expire-namespaces", 1), ("rotate-namespaces", 0), ("rekey", 1)]
        {
            let ended = deployment.run(&[command]).await;
            let lines: Vec<_> = ended.stderr.lines().filter(|line| line.contains("in the key ring")).collect();
            assert!(lines.len() == log, "{command}: {lines:#?}");
            assert!(lines.iter().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{command}: {lines:#?}");
        }
    }
}

#[tokio::test]
async fn names_of_queues_steer_no_terminal() {
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    deployment.set("LOG_FORMAT", "human");
    let (_web, url) = deployment.serve(&["web"]).await;
    deployment.claim(&url, "taskcluster-a", &json!({"contact": "a@example.com"})).await.unwrap();
    let Side::Fake(fake) = &deployment.side else { panic!("the fake broker was asked for") };
    let name = "queue/taskcluster-a/\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}\u{2066}\nnote: all is well\r";
    fake.state().queues.insert(name.to_owned(), Queue::classic(9000));
    for arguments in
        [&["monitor-rabbit", "--dry-run"][..], &["monitor-rabbit", "--dry-run", "--json"], &["monitor-rabbit"]]
    {
        let ended = deployment.run(arguments).await;
        for text in [&ended.stdout, &ended.stderr] {
            assert!(text.chars().all(|c| c == '\n' || !c.is_control() && !"\u{202e}\u{2066}".contains(c)), "{text:?}");
            assert!(!text.lines().any(|line| line.starts_with("note: all")), "{text}");
        }
        if arguments.contains(&"--json") {
            let json: Value = serde_json::from_str(&ended.stdout).unwrap();
            assert!(json["verdicts"].to_string().contains(json!(name).to_string().trim_matches('"')), "{json}");
        }
    }
}
