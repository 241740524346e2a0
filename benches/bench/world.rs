//! What is measured on: a broker, two databases, and the program.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use taskcluster_pulse::clock::{Clock, SystemClock};
use taskcluster_pulse::domain::barred::Barred;
use taskcluster_pulse::domain::identity::USER_TAG;
use taskcluster_pulse::domain::name::{Name, Names, Slot};
use taskcluster_pulse::domain::namespace::{Namespace, Version};
use taskcluster_pulse::domain::rotation::{Login, Rotation};
use taskcluster_pulse::secret::{Password, PasswordHash};
use taskcluster_pulse::store::{self, Change, KeyRing, Record, Store, StoreLimits, Write};
use tempfile::TempDir;
use tokio_postgres::NoTls;

use crate::measure::{self, Run};
use crate::support::rabbitmq::RabbitMq;

const KEYS: &str = r#"[{"id": "bench", "algo": "aes-256", "key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}]"#;

/// How many rows or objects are written at once. A body of the management API may have 8 MB at most.
const CHUNK: usize = 1000;

/// A variable that `script/services` sets.
pub fn variable(name: &str) -> Result<String> {
    let name = format!("PULSE_TEST_{name}");
    std::env::var(&name).with_context(|| format!("{name} is not set: run script/bench, which starts the services"))
}

/// How everything here is named.
pub fn names() -> Names {
    Names::new("taskcluster-", "")
}

/// A database of either kind.
pub struct Database {
    /// The kind.
    pub name: &'static str,
    url: String,
    /// The program that runs on it, where it is not the one that is measured.
    program: Option<OsString>,
}

impl Database {
    /// The same one for the program of another build, that it is measured next to; `None` where none is given.
    pub fn of_baseline(&self) -> Option<Database> {
        let program = Some(std::env::var_os("PULSE_BENCH_BASELINE")?);
        Some(Database { name: self.name, url: self.url.clone(), program })
    }

    /// Opens it as the program does.
    pub async fn open(&self) -> Result<Arc<dyn Store>> {
        let limits = StoreLimits { timeout: Duration::from_secs(60), ..StoreLimits::default() };
        Ok(store::open(&self.url.parse()?, Some(KeyRing::parse(KEYS)?), limits).await?)
    }

    /// Writes all of these records, each over the version that it carries.
    pub async fn write(&self, namespaces: &[Namespace]) -> Result<()> {
        let store = self.open().await?;
        let change = |found: &Namespace| Change {
            record: Record::Namespace(found.clone()),
            notices: Vec::new(),
            audits: Vec::new(),
        };
        for chunk in namespaces.chunks(CHUNK) {
            let written = store.write(&chunk.iter().map(change).collect::<Vec<_>>()).await?;
            ensure!(written.iter().all(|write| *write == Write::Done), "a record was lost");
        }
        Ok(())
    }
}

/// Runs statements on a PostgreSQL.
pub async fn batch(url: &str, statements: &str) -> Result<()> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let connection = tokio::spawn(connection);
    client.batch_execute(statements).await?;
    drop(client);
    Ok(connection.await??)
}

/// Everything that is measured on.
pub struct World {
    folder: TempDir,
    rabbitmq: RabbitMq,
    postgres: String,
}

impl World {
    /// The services that the environment names.
    pub async fn new() -> Result<World> {
        let world = World::on(RabbitMq::from_env(), variable("POSTGRES")?)?;
        // Tests don't care what becomes of their data when the machine dies, deployments do, and SQLite syncs too.
        let syncing = "ALTER SYSTEM SET fsync = on; ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf()";
        for statement in syncing.split("; ") {
            world.postgres(statement).await?;
        }
        Ok(world)
    }

    /// These.
    pub fn on(rabbitmq: RabbitMq, postgres: String) -> Result<World> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Under `target`, which is on a disk where `/tmp` may be in memory, and syncs cost nothing.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        Ok(World { folder, rabbitmq, postgres })
    }

    /// The management API, of a cluster that of the first node.
    fn api(&self) -> Result<&str> {
        self.rabbitmq.apis().next().context("the URL of an API")
    }

    async fn postgres(&self, statement: &str) -> Result<()> {
        batch(&self.postgres, statement).await
    }

    /// Two new databases with the current schema and the same rows.
    pub async fn databases(&self, purpose: &str, namespaces: &[Namespace]) -> Result<[Database; 2]> {
        let name = format!("bench_{purpose}");
        self.postgres(&format!("CREATE DATABASE {name}")).await?;
        let (server, _) = self.postgres.rsplit_once('/').context("a URL that ends in /<database>")?;
        let file = self.folder.path().join(&name).join("pulse.sqlite");
        let databases = [
            Database { name: "PostgreSQL", url: format!("{server}/{name}"), program: None },
            Database { name: "SQLite", url: format!("sqlite:{}", file.display()), program: None },
        ];
        std::fs::create_dir(self.folder.path().join(&name))?;
        for database in &databases {
            store::migrate(&database.url.parse()?).await?;
            database.write(namespaces).await?;
        }
        Ok(databases)
    }

    /// Runs statements on a database itself, whatever the service has in it.
    pub async fn execute(&self, database: &Database, statements: &str) -> Result<()> {
        match database.url.strip_prefix("sqlite:") {
            Some(file) => Ok(rusqlite::Connection::open(file)?.execute_batch(statements)?),
            None => batch(&database.url, statements).await,
        }
    }

    /// A new file for what a process writes.
    pub fn log_path(&self) -> PathBuf {
        self.folder.path().join(format!("{}.log", uuid::Uuid::new_v4()))
    }

    /// The program, with these databases and arguments, and nothing else of our environment.
    pub fn program(&self, database: &Database, arguments: &[&str]) -> Result<Command> {
        let built = env!("CARGO_BIN_EXE_taskcluster-pulse");
        let ours = || std::env::var_os("PULSE_BENCH_PROGRAM").unwrap_or_else(|| built.into());
        let mut command = Command::new(database.program.clone().unwrap_or_else(ours));
        command.env_clear().current_dir(self.folder.path()).args(arguments);
        command.stdin(Stdio::null()).stderr(std::fs::File::create(self.log_path())?);
        command.envs([
            ("DATABASE_URL", database.url.as_str()),
            ("DB_CRYPTO_KEYS", KEYS),
            ("RABBIT_BASE_URL", &self.rabbitmq.api),
            ("RABBIT_USERNAME", &self.rabbitmq.username),
            ("RABBIT_PASSWORD", &self.rabbitmq.password),
            ("SERVER_ADDRESS", "127.0.0.1"),
            ("PORT", "0"),
            // Claims are compared with pings; both are to be as fast as they can.
            ("SERVER_SPARE_RATE", "1000000"),
            ("SERVER_CLIENT_RATE", "1000000"),
            ("NAMESPACES_PER_CLIENT", "1000000"),
            // An expiry run may remove all that it sees.
            ("MONITOR_MAX_REMOVALS", "1000000"),
            ("MONITOR_MAX_REMOVAL_SHARE", "100%"),
            ("MONITOR_MAX_OWNER_SHARE", "100%"),
        ]);
        Ok(command)
    }

    /// Runs a task of the program once; it must have changed so many things, and failed at none.
    pub fn task(&self, database: &Database, task: &str, changed: usize) -> Result<Run> {
        let run = measure::run(self.program(database, &[task, "--json"])?)?;
        let outcome: Value = serde_json::from_str(&run.output)?;
        ensure!(outcome["changed"] == changed && outcome["failed"] == 0, "{task} went wrong: {outcome}");
        Ok(run)
    }

    /// Asks the management API.
    pub async fn admin(&self, method: Method, path: &str, body: &Value) -> Result<()> {
        let url = format!("{}/api/{path}", self.api()?);
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?;
        let sent = client
            .request(method, url)
            .basic_auth(&self.rabbitmq.username, Some(&self.rabbitmq.password))
            .json(body)
            .send()
            .await?;
        let (status, text) = (sent.status(), sent.text().await?);
        ensure!(status.is_success(), "{path}: {status} {text}");
        Ok(())
    }

    /// Makes the users of these namespaces at the broker, as version 1.0.0 would have.
    pub async fn make_users(&self, namespaces: &[Namespace]) -> Result<()> {
        self.make_tagged_users(namespaces, USER_TAG).await
    }

    /// Makes the users of these namespaces at the broker, as the service with this tag would have.
    pub async fn make_tagged_users(&self, namespaces: &[Namespace], tag: &str) -> Result<()> {
        let names = names();
        for chunk in namespaces.chunks(CHUNK) {
            let (mut users, mut permissions) = (Vec::new(), Vec::new());
            for (namespace, slot) in chunk.iter().flat_map(|found| Slot::BOTH.map(|slot| (found, slot))) {
                let name = names.user(&namespace.name, slot);
                let hash = namespace.rotation.password_of(slot).map_or_else(PasswordHash::blocked, Password::hash);
                let may = names.permissions(&namespace.name);
                users.push(json!({
                    "name": name, "password_hash": hash.as_str(), "tags": tag,
                    "hashing_algorithm": "rabbit_password_hashing_sha256",
                }));
                permissions.push(json!({
                    "user": name, "vhost": "/", "configure": may.configure, "write": may.write, "read": may.read,
                }));
            }
            self.define(&json!({"users": users, "permissions": permissions})).await?;
        }
        Ok(())
    }

    /// Makes what these definitions say.
    pub async fn define(&self, definitions: &Value) -> Result<()> {
        self.admin(Method::POST, "definitions", definitions).await
    }

    /// Deletes all users whose names begin with `prefix`.
    pub async fn delete_users_of(&self, prefix: &str) -> Result<()> {
        let url = format!("{}/api/users?columns=name", self.api()?);
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?;
        let listed: Value = client
            .get(url)
            .basic_auth(&self.rabbitmq.username, Some(&self.rabbitmq.password))
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        let names = listed.as_array().into_iter().flatten().filter_map(|user| user["name"].as_str());
        let users: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
        for chunk in users.chunks(CHUNK) {
            self.admin(Method::POST, "users/bulk-delete", &json!({"users": chunk})).await?;
        }
        Ok(())
    }

    /// Deletes the users of these namespaces.
    pub async fn delete_users(&self, namespaces: &[Namespace]) -> Result<()> {
        let user = |found: &Namespace| Slot::BOTH.map(|slot| names().user(&found.name, slot));
        let users: Vec<_> = namespaces.iter().flat_map(user).collect();
        self.admin(Method::POST, "users/bulk-delete", &json!({"users": users})).await
    }
}

/// The name of the namespace with this number.
pub fn name(number: usize) -> Name {
    Name::from_stored(format!("taskcluster-bench-{number}"))
}

/// Namespaces that have been rotated once, and are due again after `due`.
pub fn namespaces(count: usize, due: Duration, expires: Duration) -> Vec<Namespace> {
    let now = SystemClock.now();
    let login = |slot| Some(Login { slot, password: Password::random() });
    let namespace = |number| Namespace {
        name: name(number),
        contact: "owner@example.com".to_owned(),
        created: now,
        expires: now.plus(expires),
        rotation: Rotation {
            active: login(Slot::One),
            previous: login(Slot::Two),
            pending: None,
            due: now.plus(due),
            grace: Duration::from_secs(1800),
        },
        gone: None,
        warned: None,
        claimed_by: None,
        owners: Vec::new(),
        exemptions: Vec::new(),
        requests: Vec::new(),
        barred: Barred::default(),
        account: None,
        end_asked: None,
        matures: None,
        version: Version::new_at(now),
    };
    (0..count).map(namespace).collect()
}
