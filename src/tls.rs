//! TLS, what all clients share: the implementation of its cryptography, whom they trust, and the certificate that they show.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use reqwest::ClientBuilder;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Makes `ring` the process's implementation of TLS's cryptography, which an HTTP client needs before it is built.
/// Calling it again changes nothing.
pub fn install_crypto_provider() {
    // It fails only where one is installed already.
    let _ = ring::default_provider().install_default();
}

/// What is wrong with a certificate, a key, or TLS as a whole; it shows nothing of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadTls(String);

impl BadTls {
    /// With another way out.
    pub fn adding(self, advice: &str) -> BadTls {
        BadTls(format!("{}, {advice}", self.0))
    }
}

/// Whom a client trusts, and the certificate that it shows where the other end asks for one. By default it trusts the system's
/// authorities, and has no certificate.
#[derive(Clone, Default)]
pub struct Trust {
    /// Those that are trusted in place of the system's.
    authorities: Option<Arc<Authorities>>,
    own: Option<Arc<Own>>,
}

/// Certificates of authorities, as they are and as they are used.
struct Authorities {
    certificates: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
}

/// A certificate, with those between it and its authority, and its key.
struct Own {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (authorities, own) = (self.authorities.is_some(), self.own.is_some());
        f.debug_struct("Trust").field("authorities", &authorities).field("own", &own).finish()
    }
}

impl Trust {
    /// Reads PEM files, each of which may be left out as an empty path: authorities that are trusted in place of the system's,
    /// and a certificate with its key.
    ///
    /// # Errors
    /// Which file can't be used, and why.
    pub fn read(authorities: &Path, certificate: &Path, key: &Path) -> Result<Trust, BadTls> {
        let given = |path: &Path| !path.as_os_str().is_empty();
        let authorities = given(authorities).then(|| read_authorities(authorities)).transpose()?;
        let own = match (given(certificate), given(key)) {
            (false, false) => None,
            (true, true) => Some(Arc::new(read_own(certificate, key)?)),
            _ => {
                return Err(BadTls(
                    "a certificate to show needs its key, and the other way round: give both".to_owned(),
                ));
            }
        };
        let trust = Trust { authorities: authorities.map(Arc::new), own };
        // A key of another certificate is noticed here.
        trust.config().map(|_| trust)
    }

    /// Whether it is anything but the default.
    pub fn is_given(&self) -> bool {
        self.authorities.is_some() || self.own.is_some()
    }

    /// The certificates that are trusted in place of the system's authorities, if any.
    pub fn authorities(&self) -> &[CertificateDer<'static>] {
        self.authorities.as_ref().map_or(&[], |authorities| &authorities.certificates)
    }

    /// Those that are trusted.
    ///
    /// # Errors
    /// A system that has none.
    pub fn roots(&self) -> Result<Arc<RootCertStore>, BadTls> {
        if let Some(authorities) = &self.authorities {
            return Ok(authorities.roots.clone());
        }
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        match added {
            0 => {
                Err(BadTls("the system has no certificates of authorities: install them (ca-certificates)".to_owned()))
            }
            _ => Ok(Arc::new(roots)),
        }
    }

    /// What a client is to do that verifies the other end.
    ///
    /// # Errors
    /// A system without authorities, and a key that does not fit its certificate.
    pub fn config(&self) -> Result<ClientConfig, BadTls> {
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots()?, provider.clone()).build();
        let verifier = verifier.map_err(|error| BadTls(format!("the authorities can't be used: {error}")))?;
        self.verifying(provider, verifier)
    }

    /// The same with another way to verify it.
    ///
    /// # Errors
    /// A key that does not fit its certificate.
    pub fn verifying(
        &self,
        provider: Arc<CryptoProvider>,
        verifier: Arc<dyn rustls::client::danger::ServerCertVerifier>,
    ) -> Result<ClientConfig, BadTls> {
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| BadTls(format!("TLS can't be used: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        match &self.own {
            None => Ok(config.with_no_client_auth()),
            Some(own) => config
                .with_client_auth_cert(own.chain.clone(), own.key.clone_key())
                .map_err(|error| BadTls(format!("the certificate to show and its key can't be used: {error}"))),
        }
    }

    /// Has an HTTP client trust them, and show that certificate.
    ///
    /// # Errors
    /// As for [`Trust::config`].
    pub fn http(&self, builder: ClientBuilder) -> Result<ClientBuilder, BadTls> {
        install_crypto_provider();
        // The system's own way to verify knows more than its list of authorities.
        if !self.is_given() { Ok(builder) } else { Ok(builder.tls_backend_preconfigured(self.config()?)) }
    }
}

fn contents(path: &Path) -> Result<Vec<u8>, BadTls> {
    fs::read(path).map_err(|error| BadTls(format!("{} can't be read: {error}", path.display())))
}

fn certificates(path: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>, BadTls> {
    let text = contents(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(BadTls(format!(
            "there is no {what} in {}: give PEM, which begins with -----BEGIN CERTIFICATE-----",
            path.display()
        ))),
        Err(_) => Err(BadTls(format!("{} is no good PEM: part of it is missing or wrong", path.display()))),
    }
}

fn read_authorities(path: &Path) -> Result<Authorities, BadTls> {
    let (mut roots, certificates) = (RootCertStore::empty(), certificates(path, "CA")?);
    for found in &certificates {
        roots
            .add(found.clone())
            .map_err(|error| BadTls(format!("a certificate in {} can't be used: {error}", path.display())))?;
    }
    Ok(Authorities { certificates, roots: Arc::new(roots) })
}

fn read_own(certificate: &Path, key: &Path) -> Result<Own, BadTls> {
    let chain = certificates(certificate, "certificate")?;
    let key = PrivateKeyDer::from_pem_slice(&contents(key)?)
        .map_err(|_| BadTls(format!("there is no private key in {}: give PEM, without a password", key.display())))?;
    Ok(Own { chain, key })
}

/// What to do about the failure of a connection, judged by its text, to follow that in brackets.
pub fn advice(failure: &str) -> Option<&'static str> {
    let has = |part: &str| failure.contains(part);
    if has("InvalidContentType") {
        Some("is this the https port? It does not speak TLS")
    } else if has("invalid HTTP version") || has("HTTP request was sent to HTTPS port") {
        Some("is this the https port? Then the URL begins with https://")
    } else if has("UnknownIssuer") || has("UnknownCA") {
        Some("its certificate is not of an authority that is trusted: is the CA file that of its authority?")
    } else if has("CertificateRequired") || has("No required SSL certificate") {
        Some("it wants a certificate of ours: give one with its key")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn made(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn files_that_hold_what_they_should_are_taken_and_others_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let none = PathBuf::new();
        let ((cert, key), (_, other)) = (made("a"), made("b"));
        let (ca, key, other) = (write("ca.pem", &cert), write("key.pem", &key), write("other.pem", &other));
        let empty = write("empty.pem", "nothing");
        let cut = write("cut.pem", &cert[..cert.len() / 2]);
        assert!(
            Trust::read(&ca, &ca, &key).unwrap().is_given() && !Trust::read(&none, &none, &none).unwrap().is_given()
        );
        for (files, says) in [
            ([&empty, &none, &none], "there is no CA in "),
            ([&key, &none, &none], "there is no CA in "),
            ([&cut, &none, &none], "cut.pem is no good PEM"),
            ([&folder.path().join("gone.pem"), &none, &none], "gone.pem can't be read: No such file"),
            ([&none, &ca, &none], "give both"),
            ([&none, &ca, &ca], "no private key in "),
            ([&ca, &ca, &other], "its key can't be used"),
        ] {
            let error = Trust::read(files[0], files[1], files[2]).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
