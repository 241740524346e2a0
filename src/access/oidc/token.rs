//! Whether an ID token is right (OpenID Connect Core 1.0, section 3.1.3.7).

use std::collections::BTreeMap;

use jsonwebtoken::jwk::{Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::Value;

use super::verifier::ALLOWED;
use crate::clock::Timestamp;

/// How far the provider's clock may be from ours, in seconds.
const LEEWAY: u64 = 60;
/// How old a token may be that was made for who signs in now, in seconds.
const OLDEST: i64 = 900;

/// What a token must say.
pub(super) struct Expected<'a> {
    pub issuer: &'a str,
    pub client_id: &'a str,
    pub nonce: &'a str,
    pub now: Timestamp,
}

/// What a token says.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub sub: String,
    aud: Value,
    azp: Option<String>,
    nonce: Option<String>,
    iat: i64,
    pub email: Option<String>,
    email_verified: Option<Value>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// What the provider tells besides.
#[derive(Debug, Deserialize)]
pub(super) struct More {
    sub: String,
    email: Option<String>,
    email_verified: Option<Value>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

impl Claims {
    /// Adds what the provider tells besides, which must be of the same person.
    pub fn add(&mut self, more: More) -> bool {
        if more.sub != self.sub {
            return false;
        }
        (self.email, self.email_verified) = (more.email, more.email_verified);
        for (name, value) in more.rest {
            self.rest.entry(name).or_insert(value);
        }
        true
    }

    /// The address, where the provider says that it is the person's. (Some say so in a text.)
    pub fn verified_address(&self) -> Option<&str> {
        let verified = match &self.email_verified {
            Some(Value::Bool(verified)) => *verified,
            Some(Value::String(text)) => text == "true",
            _ => false,
        };
        self.email.as_deref().filter(|_| verified)
    }

    /// The texts of a claim: a list of them, or one.
    pub fn texts(&self, claim: &str) -> Vec<String> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        match self.rest.get(claim) {
            Some(Value::Array(all)) => all.iter().filter_map(text).collect(),
            Some(one) => text(one).into_iter().collect(),
            None => Vec::new(),
        }
    }
}

/// The key that a token names, or the only one that it can have.
fn key<'a>(header: &Header, keys: &'a JwkSet) -> Option<&'a Jwk> {
    let signs = |key: &&Jwk| !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption));
    let mut all = keys.keys.iter().filter(signs);
    match &header.kid {
        Some(id) => all.find(|key| key.common.key_id.as_ref() == Some(id)),
        None => all.next().filter(|_| all.next().is_none()),
    }
}

/// Whether these keys have that of a token.
pub(super) fn has_key(token: &str, keys: &JwkSet) -> bool {
    decode_header(token).is_ok_and(|header| key(&header, keys).is_some())
}

/// Whether a key that says for which algorithm it is says this one.
fn is_for(key: &Jwk, algorithm: Algorithm) -> bool {
    key.common.key_algorithm.is_none_or(|of| {
        matches!(
            (of, algorithm),
            (KeyAlgorithm::RS256, Algorithm::RS256)
                | (KeyAlgorithm::PS256, Algorithm::PS256)
                | (KeyAlgorithm::ES256, Algorithm::ES256)
                | (KeyAlgorithm::EdDSA, Algorithm::EdDSA)
        )
    })
}

/// The claims of a token that is right; why it is not.
pub(super) fn check(token: &str, keys: &JwkSet, expected: &Expected<'_>) -> Result<Claims, String> {
    let header = decode_header(token).map_err(|error| format!("the ID token can't be read: {error}"))?;
    if !ALLOWED.contains(&header.alg) {
        return Err(format!("the ID token is signed by {:?}, which is not allowed", header.alg));
    }
    let jwk = key(&header, keys).ok_or("the ID token is signed with a key that the provider does not publish")?;
    if !is_for(jwk, header.alg) {
        return Err("the ID token is signed by another algorithm than its key is for".to_owned());
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|error| format!("the provider's key can't be used: {error}"))?;
    let mut validation = Validation::new(header.alg);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.set_issuer(&[expected.issuer]);
    validation.set_audience(&[expected.client_id]);
    let claims = decode::<Claims>(token, &key, &validation);
    let claims = claims.map_err(|error| format!("the ID token is not right: {error}"))?.claims;
    let many = claims.aud.as_array().is_some_and(|all| all.len() > 1);
    if claims.azp.as_deref().map_or(many, |azp| azp != expected.client_id) {
        return Err("the ID token was made for somebody else".to_owned());
    }
    if claims.nonce.as_deref() != Some(expected.nonce) {
        return Err("the ID token has not the nonce that was asked for".to_owned());
    }
    let age = expected.now.millis() / 1000 - claims.iat;
    if !(-i64::try_from(LEEWAY).unwrap_or(0)..=OLDEST).contains(&age) {
        return Err(format!("the ID token was made {age} s ago"));
    }
    if claims.sub.is_empty() || claims.sub.len() > 255 {
        return Err("the ID token has no subject of a usual length".to_owned());
    }
    Ok(claims)
}
