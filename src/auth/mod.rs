//! Who is asking, and what may they do: verification of requests as Taskcluster's auth service does it.
//!
//! * [`origin`]: which host and port a request was signed for, behind proxies.
//! * [`hawk`]: the `Authorization` header or the bewit, its MAC and its time.
//! * [`certificate`]: temporary credentials and `authorizedScopes`.
//! * [`clients`]: where keys and scopes come from, where we have them ourselves.
//! * [`remote`]: asking Taskcluster's auth service, which has the others.
//! * [`replay`]: which requests were made before, and which of them may be made again.
//! * [`roles`]: what `assume:<role>` brings with it.
//! * [`scope`]: scopes, sets of them, and expressions over them.
//!
//! [`Authenticator::authenticate`] turns a request into a [`Caller`]. Then [`Caller::verify_payload`] checks that the
//! body is the one that was signed, and [`Caller::require`] whether the caller may do what it asks for.
//!
//! [`Authenticator::first_seen`] refuses requests that were made before.
//!
//! Results and texts are Taskcluster's, checked against its own cases, but for these differences, all of them
//! deliberate:
//!
//! * `authorizedScopes` is looked at after the MAC, not before. Its error lists all scopes of the client, and whoever
//!   can't sign has no business to learn them.
//! * A time (`ts`, or the expiry of a bewit) that is no decimal number is stale or expired. In Taskcluster it is fresh
//!   for ever.
//! * The text about a wrong payload hash names the hash that was sent, where Taskcluster's says `{{hash}}`.
//! * A bewit whose client name has control characters is refused as badly structured.
//! * An `ext` with characters that are not base64 can't be read; Taskcluster passes over them.
//! * A forwarded source address that is no address is passed over, and a `Host` with a user, a query or a fragment is
//!   refused; Taskcluster answers the first with an error of its own and cuts the second down to its host.
//! * A `Host` that the auth service takes for no host name is an error of the caller's and told as such, and an auth service
//!   that does not answer makes ours unavailable for the moment. Taskcluster's services fail internally at both.
//! * A request that was made before is refused, but for a while; see [`replay`]. Taskcluster remembers none.
//! * Roles that grant each other are allowed as long as they come to an end; see [`roles::MOST_GRANTED`].

pub mod certificate;
pub mod clients;
pub mod hawk;
pub mod origin;
pub mod remote;
pub mod replay;
pub mod roles;
pub mod scope;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use self::certificate::{Credentials, Ext};
use self::clients::Directory;
use self::hawk::Proof;
use self::origin::Origin;
use self::remote::{AuthService, Unanswered};
use self::replay::Replays;
use self::scope::Expression;
use crate::clock::Timestamp;
use crate::hawk::payload_hash;
use crate::store::Store;

/// What everybody has, signed or not.
const ANONYMOUS: &str = "assume:anonymous";
/// For how long an anonymous caller's scopes are good.
const ANONYMOUS_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// What is verified of a request. It can be replayed for a while by whoever sees it, so it has no `Debug`.
#[derive(Clone, Copy)]
pub struct SignedRequest<'a> {
    /// The HTTP method, in any case.
    pub method: &'a str,
    /// The request target exactly as received: path and query.
    pub resource: &'a str,
    /// Where it was sent to.
    pub origin: &'a Origin,
    /// The `Authorization` header.
    pub authorization: Option<&'a [u8]>,
}

/// Someone who made a request, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The client's name, as signed; `None` for a request without credentials.
    pub client_id: Option<String>,
    /// The caller's scopes with all that roles grant, those of the role `anonymous` included. The auth service expands the
    /// scopes of those it knows, and our own roles add nothing to them.
    pub scopes: Vec<String>,
    /// Until when the credentials are good; `None` for ever.
    pub expires: Option<Timestamp>,
    /// The hash of the payload, if one was signed; [`Caller::verify_payload`] compares it.
    pub hash: Option<String>,
}

/// Why a request is not authenticated. Its text is for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is a header as well as a bewit.
    #[error(
        "Cannot use two authentication schemes at once this request has both bewit in querystring and 'authorization' \
         header"
    )]
    TwoSchemes,
    /// The header or the bewit is wrong.
    #[error(transparent)]
    Hawk(#[from] hawk::Error),
    /// The client is not known, or may not be used.
    #[error("{0}")]
    Client(String),
    /// What the auth service has against it, in its words.
    #[error("{0}")]
    Remote(String),
    /// The `ext` is wrong.
    #[error(transparent)]
    Ext(#[from] certificate::Error),
    /// The request was made before.
    #[error(
        "This request was made before, at {first}, and a signature counts once. Sign each request anew, with a time and a \
         nonce of its own."
    )]
    Replayed {
        /// When it was first seen.
        first: Timestamp,
    },
    /// The request was made before, with another body.
    #[error(
        "This request was made before, at {first}, with another payload. Sign each request anew, with a time and a nonce \
         of its own."
    )]
    Rewritten {
        /// When it was first seen.
        first: Timestamp,
    },
    /// The payload is not the one that was signed.
    #[error(
        "Invalid payload hash: {signed}\nComputed payload hash: {computed}\nThis happens when your request carries a \
         signed hash of the payload and the hash doesn't match the hash we've computed on the server-side."
    )]
    Payload {
        /// The hash that was signed.
        signed: String,
        /// The hash of what came.
        computed: String,
    },
}

/// Why it can't be told who made a request.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The request is not authenticated.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The auth service would have to tell, and doesn't.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
}

/// A caller lacks scopes. The text is Taskcluster's, for the caller; it tells what is missing, not what the caller has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insufficient {
    /// The caller's name, if it has one.
    pub client_id: Option<String>,
    /// What it needs.
    pub required: Expression,
    /// What it lacks of that.
    pub missing: Expression,
}

impl fmt::Display for Insufficient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Insufficient { client_id, required, missing } = self;
        match client_id {
            Some(id) => write!(
                f,
                "Client ID {id} does not have sufficient scopes and is missing the following scopes:\n\n\
                 ```\n{missing}\n```\n\n\
                 This request requires the client to satisfy the following scope expression:\n\n```\n{required}\n```"
            ),
            None => write!(
                f,
                "This request requires Taskcluster credentials that satisfy the following scope expression:\n\n\
                 ```\n{required}\n```"
            ),
        }
    }
}

impl std::error::Error for Insufficient {}

/// Tells callers by the clients and roles of a directory, and may ask the auth service for all others.
pub struct Authenticator {
    directory: Box<dyn Directory>,
    service: Option<AuthService>,
    replays: Replays,
}

impl Authenticator {
    /// An authenticator for the clients of `directory` alone.
    pub fn new(directory: impl Directory + 'static) -> Authenticator {
        Authenticator { directory: Box::new(directory), service: None, replays: Replays::default() }
    }

    /// The same one, which asks `service` about every request that doesn't name a client of the directory.
    pub fn asking(self, service: AuthService) -> Authenticator {
        Authenticator { service: Some(service), ..self }
    }

    /// The same one, which shares with all others on `store` what it has seen.
    pub fn remembering_in(self, store: Arc<dyn Store>) -> Authenticator {
        Authenticator { replays: Replays::shared(store), ..self }
    }

    /// The client under whose key a request says that it is signed: with temporary credentials, the one that issued them.
    pub fn signer(&self, request: &SignedRequest<'_>) -> Option<String> {
        let proof = Proof::read(request).ok().flatten()?;
        let ext = Ext::parse(proof.ext.as_deref()).ok();
        let issuer = ext.as_ref().and_then(|ext| ext.issuer(&proof.id).ok().flatten());
        Some(issuer.unwrap_or(&proof.id).to_owned())
    }

    /// When a request that repeats an earlier one was first seen; `None` for all others. To be asked once about each request
    /// that is authenticated. `body` is its body. What can't be read of a request is not held against it: whoever
    /// authenticated it has read it, and the auth service refuses what we do.
    ///
    /// # Errors
    /// It may not be repeated any more; see [`replay`].
    pub async fn first_seen(
        &self,
        request: &SignedRequest<'_>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Refusal> {
        let Ok(Some(proof)) = Proof::read(request) else { return Ok(None) };
        let Some(fingerprint) = proof.fingerprint()? else { return Ok(None) };
        self.replays.first_seen(fingerprint, body, now).await
    }

    /// Whether the auth service answers within `patience`, and if not, why; `None` where it is not asked about anybody.
    pub async fn health(&self, patience: Duration) -> Option<Result<(), String>> {
        let answer = tokio::time::timeout(patience, self.service.as_ref()?.ping()).await;
        let late = |_| Err(format!("no answer within {patience:?}"));
        Some(answer.map_or_else(late, |answer| answer.map_err(|error| error.to_string())))
    }

    /// Who made this request at `now`, as a Taskcluster service finds out: a request with both a header and a bewit is
    /// refused, anything else is validated, here or by the auth service. `trace` is the id of the story that the request is
    /// a part of.
    pub async fn authenticate(
        &self,
        request: &SignedRequest<'_>,
        trace: &str,
        now: Timestamp,
    ) -> Result<Caller, Failure> {
        let query = request.resource.split_once('?').map_or("", |(_, query)| query);
        let bewit =
            url::form_urlencoded::parse(query.as_bytes()).any(|(key, value)| key == "bewit" && !value.is_empty());
        if bewit && request.authorization.is_some_and(|header| !header.is_empty()) {
            return Err(Refusal::TwoSchemes.into());
        }
        match &self.service {
            Some(service) if !self.is_ours_to_tell(request) => service.authenticate(request, trace).await,
            _ => Ok(self.validate(request, now)?),
        }
    }

    /// Whether it can be told here who made a request, without asking the auth service.
    pub fn tells_by_itself(&self, request: &SignedRequest<'_>) -> bool {
        self.service.is_none() || self.is_ours_to_tell(request)
    }

    /// Whether the request names a client of the directory, or one that such a client issued a certificate for. That proves
    /// nothing: it only chooses who checks the request, and both check all of it.
    fn is_ours_to_tell(&self, request: &SignedRequest<'_>) -> bool {
        self.signer(request).is_some_and(|signer| self.directory.knows(&signer))
    }

    /// Who made this request at `now`, as Taskcluster's auth service finds out when a service asks it: a bewit next to
    /// a header is a part of the target like any other.
    pub fn validate(&self, request: &SignedRequest<'_>, now: Timestamp) -> Result<Caller, Refusal> {
        let anonymous = [ANONYMOUS.to_owned()];
        let Some(proof) = Proof::read(request)? else {
            let (scopes, expires) = (self.directory.expand(&anonymous), now.plus(ANONYMOUS_LIFETIME));
            return Ok(Caller { client_id: None, scopes, expires: Some(expires), hash: None });
        };
        let ext = Ext::parse(proof.ext.as_deref())?;
        let issuer = ext.issuer(&proof.id)?;
        let client = self.directory.client(issuer.unwrap_or(&proof.id), now).map_err(Refusal::Client)?;
        let Credentials { key, scopes, expires } = ext.credentials(&proof.id, client, now)?;
        proof.verify(key.expose(), request.origin, now)?;
        let mut scopes = self.directory.expand(&scope::merge(&scopes, &anonymous));
        if let Some(authorized) = ext.authorized_scopes(&scopes)? {
            scopes = self.directory.expand(&scope::merge(&authorized, &anonymous));
        }
        Ok(Caller { client_id: Some(proof.id), scopes, expires, hash: proof.hash })
    }
}

impl Caller {
    /// Checks that the body is the one whose hash was signed, if one was. `content_type` is the header's value, empty
    /// where there is none; `body` is what is left after undoing a content encoding and a charset.
    pub fn verify_payload(&self, content_type: &str, body: &[u8]) -> Result<(), Refusal> {
        let Some(signed) = &self.hash else { return Ok(()) };
        let computed = payload_hash(content_type, body);
        if *signed == computed { Ok(()) } else { Err(Refusal::Payload { signed: signed.clone(), computed }) }
    }

    /// Checks that the caller has what `required` needs, and returns which of its scopes that was, for the log.
    pub fn require(&self, required: &Expression) -> Result<Vec<String>, Insufficient> {
        required.satisfying(&self.scopes).ok_or_else(|| Insufficient {
            client_id: self.client_id.clone(),
            required: required.clone(),
            missing: required.missing(&self.scopes).unwrap_or_else(|| required.clone()),
        })
    }
}

/// Decodes base64 of either alphabet, padded or not, as Node does: bits left over at the end are dropped.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &URL_SAFE,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::RequireNone),
    );
    let to_url_safe = |byte| match byte {
        b'+' => b'-',
        b'/' => b'_',
        other => other,
    };
    let mut digits: Vec<u8> = text.trim_end_matches('=').bytes().map(to_url_safe).collect();
    if digits.len() % 4 == 1 {
        digits.pop();
    }
    LENIENT.decode(digits).ok()
}
