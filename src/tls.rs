//! TLS, what all clients share: the implementation of its cryptography.

/// Makes `ring` the process's implementation of TLS's cryptography, which an HTTP client needs before it is built.
/// Calling it again changes nothing.
pub fn install_crypto_provider() {
    // It fails only where one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
