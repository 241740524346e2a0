//! How this deployment is known to its provider.

use url::Url;

use crate::secret::Secret;
use crate::tls::Trust;

/// How this deployment is known to its provider.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The provider's issuer.
    pub issuer: Url,
    /// Our client id there.
    pub client_id: String,
    /// Our secret there; empty where the client is a public one.
    pub client_secret: Secret,
    /// Where the provider leads people back to.
    pub redirect: String,
    /// The scopes that are asked for.
    pub scopes: String,
    /// The claim that has a person's groups.
    pub groups_claim: String,
    /// Whom calls to it trust.
    pub trust: Trust,
}
