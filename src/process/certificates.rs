//! When the certificates end of the addresses that we call, and at which we are called.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use crate::clock::Timestamp;
use crate::config::Config;
use crate::process::parts;
use crate::tls::Trust;

/// How long an address may take to show its certificate.
const PATIENCE: Duration = Duration::from_secs(5);

/// An address that speaks TLS.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// What is there, in a word.
    pub(super) name: &'static str,
    host: String,
    port: u16,
    /// Whose certificates are trusted there.
    trust: Trust,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What an address showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    /// When its certificate ends.
    pub(super) until: Timestamp,
    /// Why it is not trusted, if it is not.
    pub(super) refused: Option<String>,
}

/// All addresses of the settings that speak TLS.
pub(super) fn addresses(config: &Config) -> Vec<Address> {
    let rabbit = config.rabbit.base_url.iter().map(|url| ("rabbitmq", url));
    let others = [
        ("root-url", &config.taskcluster.root_url),
        ("console", &config.console.url),
        ("oidc", &config.console.oidc_issuer),
    ];
    // Files that can't be read are told of by whoever is to use them.
    let trust = |name: &str| match name {
        "rabbitmq" | "amqp" => parts::rabbit_trust(config).unwrap_or_default(),
        "oidc" => parts::oidc_trust(config).unwrap_or_default(),
        _ => parts::taskcluster_trust(config).unwrap_or_default(),
    };
    let of_url = |(name, url): (&'static str, &String)| {
        let url = Url::parse(url).ok().filter(|url| url.scheme() == "https")?;
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        Some(Address { name, host, port: url.port_or_known_default()?, trust: trust(name) })
    };
    let app = &config.app;
    let host = app.amqp_hostname.trim_matches(['[', ']']).to_owned();
    let amqp = Address { name: "amqp", host, port: app.amqp_port, trust: trust("amqp") };
    let amqp = (app.amqp_protocol == "amqps://" && !app.amqp_hostname.is_empty()).then_some(amqp);
    rabbit.chain(others).filter_map(of_url).chain(amqp).collect()
}

/// Looks at the certificate of an address.
///
/// # Errors
/// Why it shows none.
pub(super) async fn look(address: &Address) -> Result<Shown, String> {
    let seen = Arc::new(Seen::new(&address.trust)?);
    let provider = Arc::new(ring::default_provider());
    let config = address.trust.verifying(provider, seen.clone()).map_err(|error| error.to_string())?;
    let name = ServerName::try_from(address.host.clone()).map_err(|error| error.to_string())?;
    let look = async {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map(drop)
    };
    let looked = tokio::time::timeout(PATIENCE, look).await;
    let shown = seen.shown.lock().unwrap_or_else(PoisonError::into_inner).take();
    // One that ends the conversation because we have no certificate of our own has shown its own by then.
    shown.ok_or_else(|| match looked {
        Ok(Err(error)) => error.to_string(),
        Ok(Ok(())) => "it showed no certificate that can be read".to_owned(),
        Err(_) => format!("no answer within {PATIENCE:?}"),
    })
}

/// Takes any certificate, and notes when it ends and whether it is to be trusted. Nothing is said to whoever shows it.
#[derive(Debug)]
struct Seen {
    trusted: Arc<WebPkiServerVerifier>,
    shown: Mutex<Option<Shown>>,
}

impl Seen {
    fn new(trust: &Trust) -> Result<Seen, String> {
        let roots = trust.roots().map_err(|error| error.to_string())?;
        let trusted = WebPkiServerVerifier::builder_with_provider(roots, Arc::new(ring::default_provider())).build();
        Ok(Seen { trusted: trusted.map_err(|error| format!("no roots to trust: {error}"))?, shown: Mutex::default() })
    }
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judged = self.trusted.verify_server_cert(end, between, name, ocsp, now);
        if let Ok(certificate) = Certificate::from_der(end) {
            let until = certificate.tbs_certificate.validity.not_after.to_unix_duration();
            let until = Timestamp::from_millis(i64::try_from(until.as_millis()).unwrap_or(i64::MAX));
            let refused = judged.err().map(|error| error.to_string());
            *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(Shown { until, refused });
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trusted.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trusted.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trusted.supported_verify_schemes()
    }
}
