//! Where the management API is, as whom it is used, and what may be wrong with that.

use std::time::Duration;

use url::Url;

use super::token::Tokens;
use crate::secret::Password;
use crate::tls::Trust;

/// A user of the management API. It needs the tag `administrator`, and permission to configure in the virtual host.
#[derive(Clone)]
pub struct Account {
    /// Its name.
    pub username: String,
    /// Its password.
    pub password: Password,
}

/// Where the management API is and as whom to use it.
pub struct ManagementConfig {
    /// `http` or `https`, host, and where needed port and path, with or without `/api` at its end; one, or those of several nodes
    /// of one cluster.
    pub base_urls: Vec<Url>,
    /// Whom calls trust, and the certificate that they show.
    pub trust: Trust,
    /// The management account.
    pub account: Account,
    /// The one that is used while the broker refuses the other.
    pub fallback: Option<Account>,
    /// How to log in by tokens instead, without either account.
    pub tokens: Option<Tokens>,
    /// The root of the Prometheus plugin, if queues are to be looked at by it.
    pub metrics: Option<Url>,
    /// The virtual host that everything happens in.
    pub vhost: String,
    /// How long a call may take that concerns one thing, its repetition included.
    pub timeout: Duration,
    /// How long a list may take.
    pub listing_timeout: Duration,
}

/// What is wrong with a [`ManagementConfig`]; it shows nothing of it.
#[derive(Debug, thiserror::Error)]
pub enum BadManagement {
    /// The URL.
    #[error(
        "the management API's URL should look like http://host:15672 or https://host/path, without a user, a password, \
         a query or a fragment"
    )]
    Url,
    /// The account's name.
    #[error("the management account's name can't be sent: it should have no colon")]
    Username,
    /// TLS.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
}
