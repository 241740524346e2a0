//! Connecting to PostgreSQL: to the first of its hosts that can be used, directly or through a pooler.
//!
//! A pooler hands one connection of its own to many clients, one transaction each (pgbouncer's `pool_mode=transaction`). There, no
//! setting of a session and no statement with a name outlives a transaction; worse, a name may be that of another client's statement.
//! It is found out by a setting that is made as the connection begins: PostgreSQL makes it, and a pooler refuses it or drops it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_postgres::Connect;
use futures::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;
use uuid::Uuid;

/// Made at the beginning of each connection, with a value of its own.
const MARK: &str = "pulse.connection";

/// How connections come about.
pub(super) struct Reach {
    /// One for each host, in the order in which they were given.
    hosts: Vec<Config>,
    tls: MakeRustlsConnect,
    /// How long one host may take, where there are others.
    share: Duration,
    /// What PostgreSQL is to know of every connection.
    settings: String,
    /// The host that could be used last.
    good: AtomicUsize,
    pooled: Arc<AtomicBool>,
}

impl Reach {
    /// To these hosts, with statements that may take `limit`. It notes in `pooled` that there is a pooler.
    pub(super) fn new(hosts: &[Config], tls: MakeRustlsConnect, limit: Duration, pooled: Arc<AtomicBool>) -> Reach {
        let millis = limit.as_millis();
        // The server gives up when the client does: nobody waits for the answer any more.
        let settings = format!("-c statement_timeout={millis} -c idle_in_transaction_session_timeout={millis}");
        let share = limit / u32::try_from(hosts.len() + 1).unwrap_or(u32::MAX);
        Reach { hosts: hosts.to_vec(), tls, share, settings, good: AtomicUsize::new(0), pooled }
    }

    /// Connects to the host that could be used last, or to the next one that can.
    async fn connected(&self) -> Result<(Client, JoinHandle<()>), Error> {
        let first = self.good.load(Ordering::Relaxed);
        for next in 0..self.hosts.len() {
            let at = (first + next) % self.hosts.len();
            let host = &self.hosts[at];
            let is_last = next + 1 == self.hosts.len();
            let tried = match is_last {
                true => Some(self.connect_to(host).await),
                false => timeout(self.share, self.connect_to(host)).await.ok(),
            };
            match tried {
                Some(Ok(connected)) => {
                    if self.good.swap(at, Ordering::Relaxed) != at {
                        tracing::warn!(
                            r#type = "monitor.database",
                            "another host of PostgreSQL is used from now on: the {}.",
                            at + 1
                        );
                    }
                    return Ok(connected);
                }
                Some(Err(error)) if is_last => return Err(error),
                Some(Err(error)) => tracing::debug!("PostgreSQL's host {} can't be used: {error}", at + 1),
                None => tracing::debug!("PostgreSQL's host {} does not answer", at + 1),
            }
        }
        // There is a host, and so a last one.
        self.connect_to(&self.hosts[first]).await
    }

    async fn connect_to(&self, host: &Config) -> Result<(Client, JoinHandle<()>), Error> {
        if !self.pooled.load(Ordering::Relaxed) {
            match self.connect_directly(host).await {
                Ok(Some(connected)) => return Ok(connected),
                Ok(None) => self.found_pooler("drops"),
                Err(error) if is_of_pooler(&error) => self.found_pooler("refuses"),
                Err(error) => return Err(error),
            }
        }
        open(host, &self.tls).await
    }

    /// `None` where a pooler dropped the mark.
    async fn connect_directly(&self, host: &Config) -> Result<Option<(Client, JoinHandle<()>)>, Error> {
        let mark = Uuid::new_v4().simple().to_string();
        let own = host.get_options().unwrap_or_default();
        let mut marked = host.clone();
        marked.options(format!("{own} {} -c {MARK}={mark}", self.settings).trim_start());
        let (client, task) = open(&marked, &self.tls).await?;
        let found = client.simple_query(&format!("SELECT current_setting('{MARK}', true)")).await?;
        let is_marked = found.iter().any(|row| match row {
            SimpleQueryMessage::Row(row) => row.get(0) == Some(&mark),
            _ => false,
        });
        Ok(is_marked.then_some((client, task)))
    }

    fn found_pooler(&self, does: &str) {
        if !self.pooled.swap(true, Ordering::Relaxed) {
            tracing::info!(
                r#type = "monitor.database",
                "a pooler such as pgbouncer stands in front of PostgreSQL ({does} settings of a connection): statements get no names, and \
                 PostgreSQL does not stop late ones by itself"
            );
        }
    }
}

/// Whether a pooler refused what PostgreSQL takes.
fn is_of_pooler(error: &Error) -> bool {
    let refused = |text: &str| text.contains("startup parameter");
    error
        .as_db_error()
        .is_some_and(|answer| *answer.code() == SqlState::PROTOCOL_VIOLATION && refused(answer.message()))
}

async fn open(host: &Config, tls: &MakeRustlsConnect) -> Result<(Client, JoinHandle<()>), Error> {
    let (client, connection) = host.connect(tls.clone()).await?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("a connection to PostgreSQL ended: {error}");
        }
    });
    Ok((client, task))
}

impl Connect for Reach {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        Box::pin(self.connected())
    }
}

/// Whether a pooler stands between us and the first host that can be used.
pub(super) async fn is_pooled(hosts: &[Config], tls: MakeRustlsConnect, limit: Duration) -> Result<bool, Error> {
    let pooled = Arc::new(AtomicBool::new(false));
    Reach::new(hosts, tls, limit, pooled.clone()).connected().await?;
    Ok(pooled.load(Ordering::Relaxed))
}
