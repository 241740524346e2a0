//! Connections to PostgreSQL: made when they are needed, encrypted as the URL says, and replaced when they die.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::url::Server;
use crate::store::{Limits, StoreError, schema};

/// How often one call is tried where PostgreSQL undid it for the sake of another.
const TRIES: u32 = 3;

/// Whether a call may be made again when it is unknown whether it took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It reads, or writes what it would write again.
    Safe,
    /// It would see its own effect as that of somebody else.
    Never,
}

/// The connections of this process. The first one that is used checks the schema, once.
pub(super) struct Database {
    pool: Pool,
    timeout: Duration,
    schema_is_current: AtomicBool,
}

impl Database {
    /// Connects to nothing yet.
    pub(super) fn new(server: &Server, limits: Limits) -> Result<Database, StoreError> {
        let millis = limits.timeout.as_millis();
        // The server gives up when the client does: nobody waits for the answer any more.
        let settings = format!("SET statement_timeout = {millis}; SET idle_in_transaction_session_timeout = {millis}");
        let hook = Hook::async_fn(move |client, _| {
            let settings = settings.clone();
            Box::pin(async move { client.batch_execute(&settings).await.map_err(HookError::Backend) })
        });
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(*server.config.clone(), tls(server)?, recycling);
        let pool =
            Pool::builder(manager).max_size(limits.connections).runtime(Runtime::Tokio1).post_create(hook).build();
        let pool = pool.map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Database { pool, timeout: limits.timeout, schema_is_current: AtomicBool::new(false) })
    }

    /// Runs one statement, which is prepared once a connection.
    pub(super) async fn query(
        &self,
        repeat: Repeat,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        let mut call = self.call(repeat);
        loop {
            let client = call.connection().await?;
            let work = async { client.query(&client.prepare_cached(sql).await?, params).await };
            let worked = timeout_at(call.deadline, work).await;
            if let Some(rows) = call.settle(client, worked)? {
                return Ok(rows);
            }
        }
    }

    /// Begins a call, whose time is running from now on.
    pub(super) fn call(&self, repeat: Repeat) -> Call<'_> {
        Call { database: self, repeat, deadline: Instant::now() + self.timeout, tries: 0 }
    }

    async fn connection(&self, deadline: Instant) -> Result<Object, StoreError> {
        let got = timeout_at(deadline, self.pool.get()).await.map_err(|_| self.late())?;
        let client = got.map_err(|error| match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => failure(&error),
            other => StoreError::Unavailable(other.to_string()),
        })?;
        if !self.schema_is_current.load(Ordering::Relaxed) {
            let Ok(applied) = timeout_at(deadline, applied(&client)).await else {
                drop(Object::take(client));
                return Err(self.late());
            };
            schema::require_current(&schema::postgres::migrations::runner(), &applied?)?;
            self.schema_is_current.store(true, Ordering::Relaxed);
        }
        Ok(client)
    }

    fn late(&self) -> StoreError {
        StoreError::Unavailable(format!("PostgreSQL did not answer within {:?}", self.timeout))
    }
}

/// One call, which may take several tries.
pub(super) struct Call<'a> {
    database: &'a Database,
    repeat: Repeat,
    /// When the caller stops waiting.
    pub(super) deadline: Instant,
    tries: u32,
}

impl Call<'_> {
    /// A connection for the next try.
    pub(super) async fn connection(&mut self) -> Result<Object, StoreError> {
        self.tries += 1;
        self.database.connection(self.deadline).await
    }

    /// What became of a try on `client`: `None` where another one is to be made, because PostgreSQL undid this one for the
    /// sake of another transaction, or because the connection had died while it was idle and the call may be repeated.
    pub(super) fn settle<T>(
        &self,
        client: Object,
        worked: Result<Result<T, Error>, Elapsed>,
    ) -> Result<Option<T>, StoreError> {
        let Ok(worked) = worked else {
            // The connection may hang for ever, so nobody else shall get it.
            drop(Object::take(client));
            return Err(self.database.late());
        };
        let error = match worked {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        let again = if is_broken(&error) {
            // Every connection that was idle may have died with the server, but a new one tells how things are.
            let was_idle = Object::metrics(&client).recycle_count > 0;
            drop(Object::take(client));
            was_idle && self.repeat == Repeat::Safe
        } else {
            was_undone(&error) && self.tries < TRIES
        };
        if again { Ok(None) } else { Err(failure(&error)) }
    }
}

/// What was applied to the database, nothing where it has no history.
pub(super) async fn applied(client: &Client) -> Result<Vec<schema::Applied>, StoreError> {
    match client.query(schema::HISTORY, &[]).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(Vec::new()),
        Err(error) => Err(failure(&error)),
        Ok(rows) => rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<Result<_, Error>>()
            .map_err(|error| StoreError::Failed(error.to_string())),
    }
}

/// Says what PostgreSQL said, but for the details, in which it may show whole rows.
pub(super) fn failure(error: &Error) -> StoreError {
    let Some(answer) = error.as_db_error() else {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        return StoreError::Unavailable(format!("{error}{cause}"));
    };
    let what = format!("{} ({})", answer.message(), answer.code().code());
    // Classes 08: connection, 25: a read-only standby, 40: undone, 53: out of resources, 55: locked, 57: stopped.
    match answer.code().code().get(..2) {
        Some("08" | "25" | "40" | "53" | "55" | "57") => StoreError::Unavailable(what),
        _ => StoreError::Failed(what),
    }
}

/// Whether the connection is of no more use.
fn is_broken(error: &Error) -> bool {
    let stopped = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT];
    error.as_db_error().is_none_or(|answer| stopped.contains(answer.code()))
}

/// Whether PostgreSQL undid the transaction for the sake of another one.
fn was_undone(error: &Error) -> bool {
    let undone = [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE];
    error.code().is_some_and(|code| undone.contains(code))
}

/// How to encrypt connections to `server`, if they are.
pub(super) fn tls(server: &Server) -> Result<MakeRustlsConnect, StoreError> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Failed(format!("TLS can't be used: {error}")))?;
    let config = if server.verified {
        config.with_root_certificates(system_roots()?)
    } else {
        config.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    };
    Ok(MakeRustlsConnect::new(config.with_no_client_auth()))
}

fn system_roots() -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err(StoreError::Setup(
            "the system has no root certificates to verify PostgreSQL's with: install them (ca-certificates), or give \
             sslmode=require to encrypt without verifying"
                .to_owned(),
        ));
    }
    Ok(roots)
}

/// Takes any certificate, as `sslmode` `prefer` and `require` do. The server must still prove that it has the key of the
/// certificate that it shows.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
