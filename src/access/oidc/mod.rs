//! Signing in by OpenID Connect: the authorization code flow with PKCE, state and nonce, at any provider that publishes how it
//! is called (discovery).
//!
//! * `settings`: how this deployment is known there; `provider`: what the provider publishes, and calls to it.
//! * `token`: whether an ID token is right; `verifier` is how signatures are checked.

mod provider;
mod settings;
mod token;
mod verifier;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use url::Url;

use self::provider::Provider;
pub use self::settings::Settings;
use self::token::{Claims, Expected};
use super::attempt::{Attempt, Returned, SignInError, logged};
use crate::clock::Timestamp;
use crate::domain::owner::Owner;
use crate::domain::session::Person;

/// A provider by which people sign in.
pub struct Oidc {
    settings: Settings,
    provider: Provider,
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Oidc({})", self.settings.issuer)
    }
}

impl Oidc {
    /// Calls nobody yet.
    ///
    /// # Errors
    /// A sentence, where the HTTP client can't be made.
    pub fn new(settings: Settings) -> Result<Oidc, String> {
        verifier::install();
        let provider = Provider::new(settings.issuer.clone(), &settings.trust)?;
        Ok(Oidc { settings, provider })
    }

    /// The provider's name for people.
    pub fn name(&self) -> &str {
        self.settings.issuer.host_str().unwrap_or("the identity provider")
    }

    /// Where the browser goes to sign in.
    ///
    /// # Errors
    /// [`SignInError::Provider`].
    pub async fn authorize(&self, attempt: &Attempt) -> Result<Url, SignInError> {
        let known = self.provider.known().await.map_err(|why| logged(&why, SignInError::Provider))?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(attempt.verifier.as_bytes()));
        let mut url = known.authorization_endpoint.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("response_mode", "query")
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("redirect_uri", &self.settings.redirect)
            .append_pair("scope", &self.settings.scopes)
            .append_pair("state", &attempt.state)
            .append_pair("nonce", &attempt.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        Ok(url)
    }

    /// Who comes back from the provider.
    ///
    /// # Errors
    /// Why nobody is signed in.
    pub async fn finish(&self, attempt: &Attempt, back: &Returned, now: Timestamp) -> Result<Person, SignInError> {
        back.is_of(attempt)?;
        let known = self.provider.known().await.map_err(|why| logged(&why, SignInError::Provider))?;
        if !back.issuer.is_empty() && back.issuer != known.issuer {
            return Err(logged("the answer is that of another issuer", SignInError::Unverified));
        }
        let tokens = self.provider.redeem(&known, &self.settings, &back.code, &attempt.verifier).await;
        let tokens = tokens.map_err(|why| logged(&why, SignInError::Provider))?;
        let expected =
            Expected { issuer: &known.issuer, client_id: &self.settings.client_id, nonce: &attempt.nonce, now };
        let mut claims = match self.checked(&tokens.id_token, &expected).await {
            Ok(claims) => claims,
            Err(why) => return Err(logged(&why, SignInError::Unverified)),
        };
        if claims.email.is_none()
            && let Some(url) = &known.userinfo_endpoint
        {
            // Some providers put nothing but the subject into the token.
            let more = self.provider.userinfo(url, &tokens.access_token).await;
            match more.map(|more| claims.add(more)) {
                Ok(true) => {}
                Ok(false) => return Err(logged("the provider tells of somebody else", SignInError::Unverified)),
                Err(why) => return Err(logged(&why, SignInError::Provider)),
            }
        }
        Ok(self.person(&known.issuer, &claims))
    }

    /// The claims of a token that is right. A key that is not known yet is fetched, once in a while.
    async fn checked(&self, token: &str, expected: &Expected<'_>) -> Result<Claims, String> {
        let keys = self.provider.keys(false).await?;
        if token::has_key(token, &keys) {
            return token::check(token, &keys, expected);
        }
        token::check(token, &*self.provider.keys(true).await?, expected)
    }

    fn person(&self, issuer: &str, claims: &Claims) -> Person {
        let address = claims.verified_address().and_then(|address| match Owner::parse(address) {
            Ok(Owner::Address(address)) => Some(address),
            _ => None,
        });
        let mut groups = claims.texts(&self.settings.groups_claim);
        // What can be no owner would never be asked for.
        groups.retain(|group| Owner::parse(&format!("group:{group}")).is_ok());
        Person { subject: format!("{issuer}|{}", claims.sub), address, groups, scopes: Vec::new() }
    }
}
