//! What a provider publishes about itself, and calls to it.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use reqwest::Client;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::settings::Settings;
use super::token::More;
use crate::access::calls::{self, answer};
use crate::tls::Trust;

/// How long what a provider publishes is believed.
const KNOWN_FOR: Duration = Duration::from_secs(3600);
/// So often its keys are fetched anew at most because a token has one that is not known.
const KEYS_AGAIN: Duration = Duration::from_secs(60);

/// What a provider publishes about itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Known {
    pub issuer: String,
    pub authorization_endpoint: Url,
    token_endpoint: Url,
    pub userinfo_endpoint: Option<Url>,
    jwks_uri: Url,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

/// What a code is redeemed for.
#[derive(Deserialize)]
pub(super) struct Tokens {
    pub id_token: String,
    #[serde(default)]
    pub access_token: String,
}

/// A value, and when it was fetched.
type Kept<T> = Mutex<Option<(Instant, Arc<T>)>>;

pub(super) struct Provider {
    issuer: Url,
    http: Client,
    known: Kept<Known>,
    keys: Kept<JwkSet>,
}

impl Provider {
    pub fn new(issuer: Url, trust: &Trust) -> Result<Provider, String> {
        Ok(Provider { issuer, http: calls::client(trust)?, known: Mutex::default(), keys: Mutex::default() })
    }

    /// What it publishes about itself.
    pub async fn known(&self) -> Result<Arc<Known>, String> {
        let mut kept = self.known.lock().await;
        if let Some((at, known)) = &*kept
            && at.elapsed() < KNOWN_FOR
        {
            return Ok(known.clone());
        }
        let url = format!("{}/.well-known/openid-configuration", self.issuer.as_str().trim_end_matches('/'));
        let known: Known = answer(self.http.get(&url)).await?;
        if known.issuer.trim_end_matches('/') != self.issuer.as_str().trim_end_matches('/') {
            return Err(format!("{url} is that of another issuer"));
        }
        let known = Arc::new(known);
        *kept = Some((Instant::now(), known.clone()));
        Ok(known)
    }

    /// The keys with which it signs; with `anew`, fetched again unless that was done lately.
    pub async fn keys(&self, anew: bool) -> Result<Arc<JwkSet>, String> {
        let known = self.known().await?;
        let mut kept = self.keys.lock().await;
        if let Some((at, keys)) = &*kept
            && at.elapsed() < if anew { KEYS_AGAIN } else { KNOWN_FOR }
        {
            return Ok(keys.clone());
        }
        let keys: Arc<JwkSet> = Arc::new(answer(self.http.get(known.jwks_uri.clone())).await?);
        *kept = Some((Instant::now(), keys.clone()));
        Ok(keys)
    }

    /// What a code is worth.
    pub async fn redeem(&self, known: &Known, own: &Settings, code: &str, verifier: &str) -> Result<Tokens, String> {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", own.redirect.as_str()),
            ("code_verifier", verifier),
        ];
        let (id, secret) = (own.client_id.as_str(), own.client_secret.expose());
        let methods = &known.token_endpoint_auth_methods_supported;
        // Where nothing is said, this is what every provider knows (OpenID Connect Discovery 1.0, section 3).
        let basic = methods.is_empty() || methods.iter().any(|method| method == "client_secret_basic");
        let mut request = self.http.post(known.token_endpoint.clone());
        if secret.is_empty() || !basic {
            form.push(("client_id", id));
            form.extend((!secret.is_empty()).then_some(("client_secret", secret)));
        } else {
            let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            request = request.basic_auth(encoded(id), Some(encoded(secret)));
        }
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        answer(request.header("content-type", "application/x-www-form-urlencoded").body(body)).await
    }

    /// What else it tells of who has this token.
    pub async fn userinfo(&self, url: &Url, access_token: &str) -> Result<More, String> {
        answer(self.http.get(url.clone()).bearer_auth(access_token)).await
    }
}
