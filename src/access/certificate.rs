//! A request's `ext`: temporary credentials by a certificate, and `authorizedScopes`.
//!
//! Whoever holds a key can sign a certificate that lends some of its scopes to a key derived from it, either under its
//! own name or, with the scope `auth:create-client:<name>`, under another: then the certificate names its `issuer`. The
//! checks, their order and their texts are those of Taskcluster's auth service.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;
use subtle::ConstantTimeEq;

use super::base64::decode_base64;
use super::clients::{AccessToken, Client};
use super::scope;
use crate::clock::Timestamp;
use crate::hawk::hmac_sha256;

/// How far a certificate's start and expiry may be off, in milliseconds.
const SKEW: f64 = 5.0 * 60.0 * 1000.0;
/// The longest time for which a certificate may hold, in milliseconds.
const LONGEST: f64 = 31.0 * 24.0 * 3600.0 * 1000.0;
/// The length of a certificate's seed, in UTF-16 units.
const SEED_LENGTH: usize = 44;

/// Why an `ext` is refused, in Taskcluster's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not base64 of JSON.
    #[error("Failed to parse ext")]
    Ext,
    /// It is JSON's `null`.
    #[error("Cannot read properties of null (reading 'certificate')")]
    Null,
    /// A field is not what it must be.
    #[error("ext.{0}")]
    Field(&'static str),
    /// The issuer may not create the client that the request names.
    #[error("ext.certificate issuer `{issuer}` doesn't have `{scope}` for supplied clientId.")]
    MayNotCreate {
        /// The issuer.
        issuer: String,
        /// The scope that it lacks.
        scope: String,
    },
    /// The issuer lends what it doesn't have.
    #[error(
        "ext.certificate issuer `{issuer}` doesn't satisfy all certificate scopes {scopes}.  The temporary credentials \
         were not generated correctly."
    )]
    MayNotLend {
        /// The issuer.
        issuer: String,
        /// The certificate's scopes, with commas between them.
        scopes: String,
    },
    /// `authorizedScopes` asks for what the credentials don't have.
    #[error(
        "Supplied credentials do not satisfy authorizedScopes; credentials have scopes:\n\n```\n{held}\n```\n\n\
         authorizedScopes are:\n\n```\n{authorized}\n```"
    )]
    NotSatisfied {
        /// The credentials' scopes, one a line.
        held: String,
        /// `authorizedScopes`, one a line.
        authorized: String,
    },
}

/// What a request is verified with, and what it may do then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The key.
    pub key: AccessToken,
    /// The scopes; those of a certificate as they stand in it.
    pub scopes: Vec<String>,
    /// Until when; `None` for ever.
    pub expires: Option<Timestamp>,
}

/// A request's `ext`.
pub struct Ext(Value);

impl Ext {
    /// Reads an `ext`, in either base64 alphabet. None at all is an empty one.
    pub fn parse(ext: Option<&str>) -> Result<Ext, Error> {
        let Some(text) = ext else { return Ok(Ext(Value::Object(Default::default()))) };
        let json = decode_base64(text).and_then(|bytes| serde_json::from_slice(&bytes).ok());
        match json.ok_or(Error::Ext)? {
            Value::Null => Err(Error::Null),
            json => Ok(Ext(json)),
        }
    }

    fn certificate(&self) -> Option<&Value> {
        given(&self.0, "certificate")
    }

    /// The name of the client that issued the certificate, where that is another one than `id`, which the request
    /// names.
    pub fn issuer(&self, id: &str) -> Result<Option<&str>, Error> {
        let Some(issuer) = self.certificate().and_then(|certificate| given(certificate, "issuer")) else {
            return Ok(None);
        };
        let issuer = issuer.as_str().ok_or(Error::Field("certificate.issuer must be a string"))?;
        if issuer == id {
            return Err(Error::Field("certificate.issuer must differ from the supplied clientId"));
        }
        Ok(Some(issuer))
    }

    /// The credentials of the request's sender, who calls itself `id`: those of `client`, the issuer of the certificate
    /// if there is one, as far as that lends them. Nothing proves yet that the sender has their key.
    pub fn grant(&self, id: &str, client: &Client, now: Timestamp) -> Result<Grant, Error> {
        let Some(certificate) = self.certificate() else {
            let Client { access_token, scopes, expires, .. } = client;
            return Ok(Grant { key: access_token.clone(), scopes: scopes.clone(), expires: *expires });
        };
        let certificate = Certificate::read(certificate)?;
        certificate.check_dates(now)?;
        certificate.check_issuer(id, client)?;
        certificate.check_signature(id, client)?;
        let expiry = Timestamp::from_millis(certificate.expiry as i64);
        Ok(Grant {
            key: AccessToken::new(certificate.temporary_key(client)),
            scopes: certificate.scopes,
            expires: Some(client.expires.map_or(expiry, |expires| expires.min(expiry))),
        })
    }

    /// The scopes to which a sender who has `held` limits its request; `None` where it doesn't. These may be any that
    /// it has, those of the anonymous role included.
    pub fn authorized_scopes(&self, held: &[String]) -> Result<Option<Vec<String>>, Error> {
        let Some(authorized) = given(&self.0, "authorizedScopes") else { return Ok(None) };
        let authorized = scopes(
            authorized,
            "authorizedScopes must be an array",
            "authorizedScopes must be an array of valid scopes",
        )?;
        if !authorized.iter().all(|scope| scope::any_satisfies(held, scope)) {
            return Err(Error::NotSatisfied { held: held.join("\n"), authorized: authorized.join("\n") });
        }
        Ok(Some(authorized))
    }
}

/// A certificate whose fields have the right types.
struct Certificate<'a> {
    issuer: bool,
    client_id: bool,
    seed: &'a str,
    /// In milliseconds since the Unix epoch, like `expiry`. These are JavaScript's numbers.
    start: f64,
    expiry: f64,
    scopes: Vec<String>,
    signature: &'a str,
}

impl<'a> Certificate<'a> {
    fn read(json: &'a Value) -> Result<Certificate<'a>, Error> {
        let field = |name| json.get(name).unwrap_or(&Value::Null);
        if !json.is_object() && !json.is_array() {
            return Err(Error::Field("certificate must be a JSON object"));
        }
        if field("version").as_f64() != Some(1.0) {
            return Err(Error::Field("certificate.version must be 1"));
        }
        let seed = field("seed").as_str().ok_or(Error::Field("certificate.seed must be a string"))?;
        if seed.encode_utf16().count() != SEED_LENGTH {
            return Err(Error::Field("certificate.seed must be 44 characters"));
        }
        Ok(Certificate {
            seed,
            start: field("start").as_f64().ok_or(Error::Field("certificate.start must be a number"))?,
            expiry: field("expiry").as_f64().ok_or(Error::Field("certificate.expiry must be a number"))?,
            scopes: scopes(
                field("scopes"),
                "certificate.scopes must be an array",
                "certificate.scopes must be an array of valid scopes",
            )?,
            issuer: given(json, "issuer").is_some(),
            client_id: json.get("clientId").is_some(),
            signature: field("signature").as_str().unwrap_or_default(),
        })
    }

    fn check_dates(&self, now: Timestamp) -> Result<(), Error> {
        let now = now.millis() as f64;
        if self.start > now + SKEW {
            return Err(Error::Field("certificate.start > now"));
        }
        if self.expiry < now - SKEW {
            return Err(Error::Field("certificate.expiry < now"));
        }
        if self.expiry - self.start > LONGEST {
            return Err(Error::Field("certificate cannot last longer than 31 days!"));
        }
        Ok(())
    }

    fn check_issuer(&self, id: &str, issuer: &Client) -> Result<(), Error> {
        if self.issuer {
            let create = format!("auth:create-client:{id}");
            if !scope::any_satisfies(&issuer.scopes, &create) {
                return Err(Error::MayNotCreate { issuer: issuer.id.clone(), scope: create });
            }
        } else if self.client_id {
            return Err(Error::Field("certificate.clientId must only be used with ext.certificate.issuer"));
        }
        if !self.scopes.iter().all(|scope| scope::any_satisfies(&issuer.scopes, scope)) {
            return Err(Error::MayNotLend { issuer: issuer.id.clone(), scopes: self.scopes.join(", ") });
        }
        Ok(())
    }

    /// The comparison takes the same time wherever the signatures differ.
    fn check_signature(&self, id: &str, issuer: &Client) -> Result<(), Error> {
        let text = self.signed_text(id, &issuer.id);
        let expected = STANDARD.encode(hmac_sha256(issuer.access_token.expose(), &text));
        match (expected.as_bytes().ct_eq(self.signature.as_bytes()).into(), self.issuer) {
            (true, _) => Ok(()),
            (false, false) => Err(Error::Field("certificate.signature is not valid")),
            (false, true) => Err(Error::Field("certificate.signature is not valid, or wrong clientId provided")),
        }
    }

    /// What the issuer signs: lines with nothing behind the last one.
    fn signed_text(&self, id: &str, issuer: &str) -> String {
        let names = if self.issuer { format!("clientId:{id}\nissuer:{issuer}\n") } else { String::new() };
        let Certificate { seed, start, expiry, .. } = self;
        let mut text = format!("version:1\n{names}seed:{seed}\nstart:{start}\nexpiry:{expiry}\nscopes:");
        for scope in &self.scopes {
            text.push('\n');
            text.push_str(scope);
        }
        text
    }

    fn temporary_key(&self, issuer: &Client) -> String {
        URL_SAFE_NO_PAD.encode(hmac_sha256(issuer.access_token.expose(), self.seed))
    }
}

/// A field that counts as given in JavaScript, where `null`, `false`, `0` and the empty text don't.
fn given<'a>(json: &'a Value, name: &str) -> Option<&'a Value> {
    json.get(name).filter(|value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        _ => true,
    })
}

fn scopes(json: &Value, no_array: &'static str, invalid: &'static str) -> Result<Vec<String>, Error> {
    let array = json.as_array().ok_or(Error::Field(no_array))?;
    let valid = |value: &Value| value.as_str().filter(|text| scope::is_valid(text)).map(str::to_owned);
    array.iter().map(valid).collect::<Option<_>>().ok_or(Error::Field(invalid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Vector {
        description: String,
        issuer_access_token: String,
        client_id: String,
        issuer: Option<String>,
        string_to_sign: String,
        signature: String,
        temporary_access_token: String,
    }

    #[test]
    fn certificates_are_signed_and_keys_derived_as_other_clients_do_it() {
        let vectors: Vec<Value> =
            serde_json::from_str(include_str!("../../tests/vectors/temporary_credentials.json")).unwrap();
        assert_eq!(vectors.len(), 4);
        for json in vectors {
            let vector: Vector = serde_json::from_value(json.clone()).unwrap();
            let mut json = json;
            json["version"] = 1.into();
            let object = json.as_object_mut().unwrap();
            object.remove("clientId");
            let issuer = Client {
                id: vector.issuer.unwrap_or_else(|| vector.client_id.clone()),
                access_token: AccessToken::new(vector.issuer_access_token),
                scopes: vec!["*".into()],
                expires: None,
            };
            let certificate = Certificate::read(&json).unwrap();
            assert_eq!(
                certificate.signed_text(&vector.client_id, &issuer.id),
                vector.string_to_sign,
                "{}",
                vector.description
            );
            assert_eq!(certificate.check_signature(&vector.client_id, &issuer), Ok(()), "{}", vector.description);
            assert_eq!(certificate.temporary_key(&issuer), vector.temporary_access_token, "{}", vector.description);
            assert_eq!(certificate.signature, vector.signature);
            let start = Timestamp::from_millis(certificate.start as i64);
            assert_eq!(certificate.check_dates(start), Ok(()), "{}", vector.description);
            assert_eq!(certificate.check_issuer(&vector.client_id, &issuer), Ok(()), "{}", vector.description);
        }
    }

    #[test]
    fn an_ext_is_read_in_either_alphabet_and_refused_where_it_is_no_json() {
        let scopes = Some(vec!["a?>~".to_owned()]);
        for ext in ["eyJhdXRob3JpemVkU2NvcGVzIjpbImE/Pn4iXX0=", "eyJhdXRob3JpemVkU2NvcGVzIjpbImE_Pn4iXX0"] {
            let ext = Ext::parse(Some(ext)).unwrap();
            assert_eq!(ext.authorized_scopes(&["*".into()]), Ok(scopes.clone()));
        }
        for ext in ["", "!", "e30", "e", "====", "Zm9v", "e30=e30="] {
            let read = Ext::parse(Some(ext)).err();
            assert_eq!(read, (ext != "e30").then_some(Error::Ext), "{ext}");
        }
        assert_eq!(Ext::parse(Some("bnVsbA==")).err(), Some(Error::Null));
    }

    #[test]
    fn what_counts_as_nothing_in_javascript_is_not_given() {
        let json: Value = serde_json::json!({"a": null, "b": false, "c": 0, "d": "", "e": -0.0, "f": [], "g": "0"});
        let found: Vec<&str> =
            ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().filter(|name| given(&json, name).is_some()).collect();
        assert_eq!(found, ["f", "g"]);
        assert!(given(&Value::from(5), "a").is_none());
    }
}
