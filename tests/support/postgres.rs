//! A PostgreSQL database for each test, dropped with it.

use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls};
use uuid::Uuid;

use super::pooler::pooler;

/// Names the server, as a superuser's URL.
const SERVER: &str = "PULSE_TEST_POSTGRES";

/// An empty database of its own.
pub struct TestDatabase {
    server: String,
    name: String,
    /// The pooler that the service is to use it by, if any.
    pooler: Option<&'static str>,
}

impl TestDatabase {
    /// Makes a database on the server of the test run.
    pub async fn new() -> TestDatabase {
        let server = std::env::var(SERVER).unwrap_or_else(|_| {
            panic!("{SERVER} names no PostgreSQL server: run the tests by script/test, which starts one")
        });
        TestDatabase::at(server).await
    }

    /// Makes a database on the server that a superuser's URL names.
    pub async fn at(server: String) -> TestDatabase {
        let name = format!("pulse_test_{}", Uuid::new_v4().simple());
        let create = format!("CREATE DATABASE {name} ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
        connect(&server, None).await.batch_execute(&create).await.expect("a new database");
        TestDatabase { server, name, pooler: None }
    }

    /// The same, to be used through PgBouncer in transaction mode, which drops settings of connections, or refuses them.
    pub async fn behind_a_pooler(drops: bool) -> TestDatabase {
        let mut database = TestDatabase::new().await;
        database.pooler = Some(pooler(&database.address(), drops).await);
        database
    }

    /// The URL by which the service uses it.
    pub fn service_url(&self) -> String {
        match self.pooler {
            Some(pooler) => format!("postgres://postgres@{pooler}/{}", self.name),
            None => self.url(),
        }
    }

    /// The URL of the database, as `DATABASE_URL` has it.
    pub fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').expect("a URL that ends in /<database>");
        format!("{server}/{}", self.name)
    }

    /// The server's address, as `host:port`.
    pub fn address(&self) -> String {
        let url = self.url();
        let (_, rest) = url.split_once("://").expect("a URL");
        let (authority, _) = rest.split_once('/').expect("a URL that ends in /<database>");
        authority.rsplit_once('@').map_or(authority, |(_, address)| address).to_owned()
    }

    /// A connection of the test's own.
    pub async fn client(&self) -> Client {
        connect(&self.server, Some(&self.name)).await
    }
}

impl Drop for TestDatabase {
    /// Runs on a thread of its own, since a test's runtime can't wait here; after a test that failed, too.
    fn drop(&mut self) {
        let (server, drop_it) = (self.server.clone(), format!("DROP DATABASE {} WITH (FORCE)", self.name));
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { connect(&server, None).await.batch_execute(&drop_it).await })
        });
        if !matches!(dropped.join(), Ok(Ok(()))) {
            eprintln!("the database {} was not dropped", self.name);
        }
    }
}

async fn connect(server: &str, database: Option<&str>) -> Client {
    let mut config: Config = server.parse().unwrap_or_else(|error| panic!("{SERVER}: {error}"));
    config.connect_timeout(Duration::from_secs(10));
    if let Some(database) = database {
        config.dbname(database);
    }
    let (client, connection) = config.connect(NoTls).await.unwrap_or_else(|error| {
        panic!("{SERVER} names a PostgreSQL server that can't be used ({error}): run the tests by script/test")
    });
    tokio::spawn(connection);
    client
}
