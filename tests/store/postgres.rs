//! PostgreSQL's connections: late, dead, hanging, encrypted.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use taskcluster_pulse::domain::namespace::Namespace;
use taskcluster_pulse::domain::renewal::Renewal;
use taskcluster_pulse::store::{self, DatabaseUrl, KeyRing, Store, StoreError, StoreLimits, Write};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::{KEY_A, TestDatabase, at, insert, name, put, settled, stored};

fn keys() -> Option<KeyRing> {
    Some(KeyRing::parse(&format!("[{KEY_A}]")).unwrap())
}

async fn open(url: &str, timeout: Duration) -> Result<Arc<dyn Store>, StoreError> {
    store::open(&url.parse().unwrap(), keys(), StoreLimits { timeout, ..StoreLimits::default() }).await
}

/// Generous where a call shall succeed.
const ENOUGH: Duration = Duration::from_secs(20);
/// Short where a call shall not.
const SHORT: Duration = Duration::from_millis(300);

/// A way to the database that can be cut.
struct Proxy {
    database: TestDatabase,
    address: String,
    is_open: watch::Sender<bool>,
}

impl Proxy {
    /// Drops every connection until it is opened.
    async fn new() -> Proxy {
        let database = TestDatabase::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, server) = (listener.local_addr().unwrap().to_string(), database.address());
        let (is_open, mut changes) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                if *changes.borrow_and_update() {
                    let (mut server, mut changes) = (TcpStream::connect(&server).await.unwrap(), changes.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            _ = copy_bidirectional(&mut client, &mut server) => {}
                            _ = changes.changed() => {}
                        }
                    });
                }
            }
        });
        Proxy { database, address, is_open }
    }

    fn url(&self) -> String {
        self.database.url().replace(&self.database.address(), &self.address)
    }

    fn open(&self) {
        self.is_open.send(true).unwrap();
    }

    /// Cuts all connections, and makes no new ones.
    fn cut(&self) {
        self.is_open.send(false).unwrap();
    }
}

fn unavailable<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(error @ StoreError::Unavailable(_)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_missing_key_ring_is_refused_in_the_operators_words() {
    let url: DatabaseUrl = "postgres://u:hunter2@127.0.0.1:1/d".parse().unwrap();
    let error = store::open(&url, None, StoreLimits::default()).await.err().unwrap();
    assert!(matches!(error, StoreError::Setup(_)));
    let error = error.to_string();
    assert!(error.contains("DB_CRYPTO_KEYS") && !error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn each_call_on_a_database_without_schema_is_refused_in_one_sentence_until_it_is_migrated() {
    let database = TestDatabase::new().await;
    let store = open(&database.url(), ENOUGH).await.unwrap();
    let error = store.ping().await.unwrap_err();
    assert!(matches!(error, StoreError::Unmigrated(_)), "{error:?}");
    assert_eq!(error.to_string(), "the database has no schema yet: run `taskcluster-pulse migrate`");
    store::migrate(&database.url().parse().unwrap()).await.unwrap();
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_or_database_is_refused_and_not_shown() {
    let database = TestDatabase::new().await;
    let url = database.url().replace("/pulse_test_", "/hunter2_");
    let error = open(&url, ENOUGH).await.err().unwrap();
    assert!(matches!(error, StoreError::Failed(_)), "{error:?}");
    let nobody = format!("postgres://nobody:hunter2@{}/postgres", database.address());
    let error = open(&nobody, ENOUGH).await.err().unwrap();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn the_store_opens_before_its_database_is_there_and_checks_the_schema_when_it_is() {
    let proxy = Proxy::new().await;
    let store = open(&proxy.url(), ENOUGH).await.unwrap();
    unavailable(store.ping().await);
    unavailable(store::migrate(&proxy.url().parse().unwrap()).await);
    proxy.open();
    for result in [store.ping().await, store.namespace(&name("taskcluster-x")).await.map(drop)] {
        assert!(matches!(result, Err(StoreError::Unmigrated(_))), "{result:?}");
    }
    store::migrate(&proxy.url().parse().unwrap()).await.unwrap();
    store.ping().await.unwrap();
}

#[tokio::test]
async fn dead_connections_are_replaced() {
    let proxy = Proxy::new().await;
    proxy.open();
    store::migrate(&proxy.url().parse().unwrap()).await.unwrap();
    let store = open(&proxy.url(), ENOUGH).await.unwrap();
    let namespace = settled("taskcluster-x", 1);
    insert(&*store, std::slice::from_ref(&namespace)).await;
    for turn in 0..10 {
        // As many connections as there may be.
        let pings: JoinSet<_> = (0..20)
            .map(|_| {
                let store = store.clone();
                async move { store.ping().await }
            })
            .collect();
        assert!(pings.join_all().await.into_iter().all(|ping| ping.is_ok()));
        if turn % 2 == 0 {
            proxy.cut();
            proxy.open();
        } else {
            let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                          WHERE pid <> pg_backend_pid() AND datname = current_database()";
            proxy.database.client().await.execute(others, &[]).await.unwrap();
        }
        assert_eq!(store.namespace(&namespace.name).await.unwrap(), Some(stored(&namespace)));
    }
    proxy.cut();
    unavailable(store.ping().await);
    proxy.open();
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_call_that_hangs_ends_in_time_and_hinders_no_other() {
    let database = TestDatabase::new().await;
    store::migrate(&database.url().parse().unwrap()).await.unwrap();
    let limits = StoreLimits { timeout: SHORT, connections: 1 };
    let store = store::open(&database.url().parse().unwrap(), keys(), limits).await.unwrap();
    let namespace = settled("taskcluster-x", 1);
    insert(&*store, std::slice::from_ref(&namespace)).await;
    let other = database.client().await;
    other.batch_execute("BEGIN; SELECT 1 FROM namespace FOR UPDATE").await.unwrap();
    let batches = [vec![put(&stored(&namespace))], vec![put(&stored(&namespace)), put(&settled("taskcluster-y", 1))]];
    for changes in batches {
        let began = Instant::now();
        unavailable(store.write(&changes).await);
        assert!(began.elapsed() < SHORT * 60);
        // The only connection is free again.
        assert_eq!(store.namespace(&namespace.name).await.unwrap(), Some(stored(&namespace)));
    }
    other.batch_execute("COMMIT").await.unwrap();
    insert(&*store, &[stored(&namespace)]).await;
}

#[tokio::test]
async fn a_server_that_never_answers_is_unavailable_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://u:hunter2@{}/d", listener.local_addr().unwrap());
    let began = Instant::now();
    let store = open(&url, SHORT).await.unwrap();
    let error = unavailable(store.lease("task", "holder", at(0), at(1)).await);
    assert!(began.elapsed() < SHORT * 60 && !error.contains("hunter2"), "{error}");
}

/// A server that refuses every session, saying whether it was asked over TLS.
async fn greet(mut socket: TcpStream, tls: Option<TlsAcceptor>) -> std::io::Result<()> {
    let mut length = [0; 8];
    socket.read_exact(&mut length).await?;
    let is_ssl_request = length == [0, 0, 0, 8, 4, 210, 22, 47];
    match tls {
        Some(tls) if is_ssl_request => {
            socket.write_all(b"S").await?;
            refuse(tls.accept(socket).await?, "reached over TLS").await
        }
        _ => {
            if is_ssl_request {
                socket.write_all(b"N").await?;
            }
            refuse(socket, "reached in clear").await
        }
    }
}

/// PostgreSQL's ErrorResponse: severity, code (too many connections) and message.
async fn refuse(mut socket: impl AsyncRead + AsyncWrite + Unpin, message: &str) -> std::io::Result<()> {
    let fields = format!("SFATAL\0VFATAL\0C53300\0M{message}\0\0");
    let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
    socket.write_all(&[b"E", &length[..], fields.as_bytes()].concat()).await?;
    socket.flush().await?;
    // Left open until the client has read it and goes.
    while socket.read(&mut [0; 256]).await? > 0 {}
    Ok(())
}

/// What a store with these URL parameters meets at a server with or without TLS (and a certificate of its own making).
async fn meets(parameters: &str, with_tls: bool) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], made.signing_key.into())
        .unwrap();
    let tls = with_tls.then(|| TlsAcceptor::from(Arc::new(config)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://u:hunter2@localhost:{}/d{parameters}", listener.local_addr().unwrap().port());
    let server = tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(greet(socket, tls.clone()));
        }
    });
    let met = match open(&url, ENOUGH).await {
        Ok(store) => unavailable(store.ping().await),
        Err(error) => error.to_string(),
    };
    server.abort();
    assert!(!met.contains("hunter2"), "{met}");
    met
}

#[tokio::test]
async fn connections_are_encrypted_as_the_url_says() {
    for (parameters, with_tls, without) in [
        ("", "reached over TLS", "reached in clear"),
        ("?sslmode=prefer", "reached over TLS", "reached in clear"),
        ("?sslmode=disable", "reached in clear", "reached in clear"),
        ("?sslmode=require", "reached over TLS", "does not support TLS"),
        ("?ssl=1", "reached over TLS", "does not support TLS"),
    ] {
        let met = [meets(parameters, true).await, meets(parameters, false).await];
        assert!(met[0].contains(with_tls) && met[1].contains(without), "{parameters}: {met:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused_where_it_is_to_be_verified() {
    for parameters in ["?sslmode=verify-full", "?ssl=authorized"] {
        for with_tls in [true, false] {
            let met = meets(parameters, with_tls).await;
            assert!(met.contains("certificate") || !with_tls, "{met}");
            assert!(!met.contains("reached"), "{met}");
        }
    }
}

#[tokio::test]
async fn a_database_that_holds_something_else_is_left_as_it_is() {
    let names = "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1";
    let history =
        "CREATE TABLE refinery_schema_history (version int4 PRIMARY KEY, name text, applied_on text, checksum text);";
    for (sql, told) in [
        ("CREATE TABLE things (a int)", "things"),
        ("CREATE VIEW seen AS SELECT 1", "seen"),
        ("CREATE SEQUENCE counted", "counted"),
        ("CREATE TABLE namespace (a int)", "namespace"),
        (&format!("{history} CREATE TABLE things (a int)"), "things"),
        (
            &format!("{history} INSERT INTO refinery_schema_history VALUES (1, 'a', '', '7')"),
            "version 1 of the database",
        ),
        (&format!("{history} INSERT INTO refinery_schema_history VALUES (99, 'a', '', '7')"), "version 99"),
    ] {
        let database = TestDatabase::new().await;
        let client = database.client().await;
        client.batch_execute(sql).await.unwrap();
        let found =
            async || -> Vec<String> { client.query(names, &[]).await.unwrap().iter().map(|row| row.get(0)).collect() };
        let before = found().await;
        match store::migrate(&database.url().parse().unwrap()).await {
            Err(StoreError::Schema(why)) => assert!(why.contains(told), "{sql}: {why}"),
            other => panic!("{sql}: {other:?}"),
        }
        assert_eq!(found().await, before, "{sql}");
    }
    let database = TestDatabase::new().await;
    let elsewhere = "CREATE SCHEMA other; CREATE TABLE other.things (a int)";
    database.client().await.batch_execute(elsewhere).await.unwrap();
    store::migrate(&database.url().parse().unwrap()).await.unwrap();
}

#[tokio::test]
async fn of_many_ends_that_are_moved_at_once_none_waits_for_a_row_that_somebody_holds() {
    let database = TestDatabase::new().await;
    store::migrate(&database.url().parse().unwrap()).await.unwrap();
    let store = open(&database.url(), ENOUGH).await.unwrap();
    let all = ["a", "b", "c"].map(|name| settled(name, 100));
    insert(&*store, &all).await;
    let renewals = all.each_ref().map(|before| {
        let before = stored(before);
        let after = Namespace { expires: at(500), ..before.clone() };
        Renewal::between(&before, &after).unwrap()
    });
    let other = database.client().await;
    other.batch_execute("BEGIN; SELECT 1 FROM namespace WHERE name = 'b' FOR UPDATE").await.unwrap();
    assert_eq!(store.renew(&renewals).await.unwrap(), [Write::Done, Write::Lost, Write::Done]);
    // Alone it waits.
    let mut waits = std::pin::pin!(store.renew(&renewals[1..2]));
    assert!(tokio::time::timeout(SHORT, &mut waits).await.is_err());
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(waits.await.unwrap(), [Write::Done]);
}
