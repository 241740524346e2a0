//! Tokens by which we log in to the management API instead of a password that is stored: signed by a key of our own, good for five
//! minutes, and for reading alone where that is enough. RabbitMQ's plugin `rabbitmq_auth_backend_oauth2` checks them by the public
//! part of the key.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::HeaderValue;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::secret::Secret;

/// How long a token is good, and how long it is used: clocks differ, and calls take their time.
const GOOD: Duration = Duration::from_secs(300);
const USED: Duration = Duration::from_secs(120);

/// Stands before a token.
const BEARER: &str = "Bearer ";

/// What is named in a token for reading: with it, the virtual host counts as one of ours. There is no such thing.
const NOTHING: &str = "taskcluster-pulse.nothing";

/// What precedes the 65 bytes of a public key of P-256 in DER (RFC 5480).
const SPKI: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The only algorithm.
const ALGORITHM: &str = "ES256";

/// What is wrong with keys; it shows nothing of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadKeys(String);

/// A key that signs tokens.
#[derive(Clone)]
pub struct TokenKey {
    id: String,
    pair: Arc<EcdsaKeyPair>,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({})", self.id)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    id: String,
    algo: String,
    key: Zeroizing<String>,
}

impl TokenKey {
    /// The keys of a JSON array of `{"id", "algo": "ES256", "key": <base64 of PKCS #8>}`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(text: &str) -> Result<Vec<TokenKey>, BadKeys> {
        let bad = |why: &str| BadKeys(why.to_owned());
        let stored: Vec<Stored> = serde_json::from_str(text).map_err(|_| {
            bad("the keys must be a JSON array of {\"id\", \"algo\": \"ES256\", \"key\"}, as `keys make` prints them")
        })?;
        let mut keys: Vec<TokenKey> = Vec::new();
        for Stored { id, algo, key } in stored {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            if id.is_empty() || !id.chars().all(plain) || keys.iter().any(|key| key.id == id) {
                return Err(bad("each key needs an id of its own, of letters, digits, - and _"));
            }
            if algo != ALGORITHM {
                return Err(bad("the algo of each key must be ES256"));
            }
            let key = STANDARD.decode(key.trim()).map(Zeroizing::new).ok();
            let pair = key.and_then(|key| {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key, &SystemRandom::new()).ok()
            });
            let Some(pair) = pair else {
                return Err(BadKeys(format!("the key {id} is not one that `keys make` prints")));
            };
            keys.push(TokenKey { id, pair: Arc::new(pair) });
        }
        if keys.is_empty() { Err(bad("there is no key: `keys make` prints one")) } else { Ok(keys) }
    }

    /// A new key, as it is given to [`TokenKey::parse`] in an array.
    ///
    /// # Errors
    /// A system without random numbers.
    pub fn make(id: &str) -> Result<Secret, BadKeys> {
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let made = made.map_err(|_| BadKeys("the system gives no random numbers".to_owned()))?;
        let key = Zeroizing::new(STANDARD.encode(made.as_ref()));
        Ok(Secret::new(json!({"id": id, "algo": ALGORITHM, "key": *key}).to_string()))
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its public part, as PEM.
    pub fn public(&self) -> String {
        let text = STANDARD.encode([SPKI, self.pair.public_key().as_ref()].concat());
        let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Whatever an administrator may do, and anything in the virtual host.
    Administer,
    /// What the tag `monitoring` may see.
    Read,
}

/// How tokens are made.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// One for each key; the last one is tried first.
    pub keys: Vec<TokenKey>,
    /// RabbitMQ's `auth_oauth2.resource_server_id`.
    pub audience: String,
    /// By which name RabbitMQ knows whom a token lets in.
    pub subject: String,
}

/// A key, and the tokens that it has signed lately.
pub(super) struct Signer {
    key: TokenKey,
    audience: String,
    subject: String,
    vhost: String,
    kept: Mutex<[Option<(Timestamp, HeaderValue)>; 2]>,
}

impl Signer {
    /// Of each key, the last one first.
    pub(super) fn all(tokens: &Tokens, vhost: &str) -> Vec<Signer> {
        let signer = |key: &TokenKey| Signer {
            key: key.clone(),
            audience: tokens.audience.clone(),
            subject: tokens.subject.clone(),
            vhost: utf8_percent_encode(vhost, NON_ALPHANUMERIC).to_string(),
            kept: Mutex::default(),
        };
        tokens.keys.iter().rev().map(signer).collect()
    }

    /// Whose token it is, for the log.
    pub(super) fn name(&self) -> String {
        format!("{} by the key {}", self.subject, self.key.id)
    }

    /// What logs in, for this use. `None` where it can't be signed.
    pub(super) fn login(&self, of: Use) -> Option<HeaderValue> {
        let now = SystemClock.now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut kept[usize::from(of == Use::Read)];
        if let Some((made, login)) = slot
            && *made <= now
            && now.since(*made) < USED
        {
            return Some(login.clone());
        }
        let token = Zeroizing::new(format!("{BEARER}{}", *self.sign(of, now)?));
        let mut login = HeaderValue::try_from(token.as_str()).ok()?;
        login.set_sensitive(true);
        *slot = Some((now, login.clone()));
        Some(login)
    }

    /// The tokens that are used.
    pub(super) fn secrets(&self) -> Vec<Zeroizing<String>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let token =
            |(_, login): &(_, HeaderValue)| Some(Zeroizing::new(login.to_str().ok()?.strip_prefix(BEARER)?.into()));
        kept.iter().flatten().filter_map(token).collect()
    }

    fn sign(&self, of: Use, now: Timestamp) -> Option<Zeroizing<String>> {
        let Signer { key, audience, subject, vhost, .. } = self;
        let scopes = match of {
            Use::Administer => vec![
                format!("{audience}.tag:administrator"),
                format!("{audience}.configure:{vhost}/*/*"),
                format!("{audience}.write:{vhost}/*/*"),
                format!("{audience}.read:{vhost}/*/*"),
            ],
            Use::Read => {
                vec![format!("{audience}.tag:monitoring"), format!("{audience}.read:{vhost}/{NOTHING}/{NOTHING}")]
            }
        };
        let seconds = now.millis() / 1000;
        let claims = json!({
            "sub": subject, "aud": audience, "scope": scopes,
            "iat": seconds, "exp": seconds + i64::try_from(GOOD.as_secs()).unwrap_or(0),
        });
        let header = json!({"alg": ALGORITHM, "typ": "JWT", "kid": key.id});
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = key.pair.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
        Some(Zeroizing::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use serde_json::Value;

    use super::*;

    fn made(id: &str) -> String {
        TokenKey::make(id).unwrap().expose().to_owned()
    }

    #[test]
    fn a_key_that_was_made_signs_what_its_public_part_verifies_and_nothing_is_shown_of_it() {
        let stored = made("a");
        let keys = TokenKey::parse(&format!("[{}, {stored}]", made("b"))).unwrap();
        let tokens = Tokens { keys, audience: "rabbitmq".into(), subject: "pulse".into() };
        let signers = Signer::all(&tokens, "a/b");
        assert_eq!(signers[0].key.id, "a", "the last one is tried first");
        let token = signers[0].sign(Use::Read, Timestamp::from_millis(10_000)).unwrap();
        let parts: Vec<_> = token.split('.').collect();
        let decoded = |at: usize| URL_SAFE_NO_PAD.decode(parts[at]).unwrap();
        let claims: Value = serde_json::from_slice(&decoded(1)).unwrap();
        assert_eq!((&claims["exp"], &claims["iat"]), (&json!(310), &json!(10)));
        assert_eq!(claims["scope"][0], "rabbitmq.tag:monitoring");
        assert!(claims["scope"][1].as_str().unwrap().starts_with("rabbitmq.read:a%2Fb/"));
        let pem = signers[0].key.public();
        let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let point = STANDARD.decode(der).unwrap().split_off(SPKI.len());
        let signed = format!("{}.{}", parts[0], parts[1]);
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed.as_bytes(), &decoded(2)).unwrap();
        assert_eq!(format!("{tokens:?}").matches("TokenKey(").count(), 2);
        let login = signers[0].login(Use::Read).unwrap();
        assert_eq!(login, signers[0].login(Use::Read).unwrap(), "it is signed now and then");
        assert_ne!(login, signers[0].login(Use::Administer).unwrap());
        assert_eq!(signers[0].secrets().len(), 2);
    }

    #[test]
    fn keys_that_can_not_be_used_are_refused_and_not_shown() {
        let good = made("a");
        for (text, says) in [
            ("", "JSON array"),
            ("[]", "there is no key"),
            (&format!("[{good}, {good}]"), "an id of its own"),
            (&format!("[{}]", good.replace("ES256", "aes-256")), "must be ES256"),
            (r#"[{"id": "a", "algo": "ES256", "key": "hunter2"}]"#, "the key a is not one"),
            (r#"[{"id": "a b", "algo": "ES256", "key": "hunter2"}]"#, "an id of its own"),
        ] {
            let error = TokenKey::parse(text).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("hunter2"), "{error}");
        }
    }
}
