//! Who is asking, and what may they do: verification of requests as Taskcluster's auth service does it.
//!
//! * `request`, `read`, `caller`, `refusal`: what is asked, what it says, and what is told: who made it, or why that is not told.
//! * [`origin`]: which host and port a request was signed for, behind proxies.
//! * [`hawk`]: the `Authorization` header or the bewit, its MAC and its time.
//! * [`certificate`]: temporary credentials and `authorizedScopes`.
//! * [`clients`]: where keys and scopes come from, where we have them ourselves.
//! * [`remote`]: asking Taskcluster's auth service, which has the others.
//! * [`replay`]: which requests were made before, and which of them may be made again.
//! * [`roles`]: what `assume:<role>` brings with it.
//! * [`attempt`]: attempts to sign in; [`oidc`]: by OpenID Connect; [`third_party`]: by Taskcluster; `calls`: what these ask.
//! * `counts`: what is counted of all that.
//! * [`people`]: how people sign in; [`sessions`]: the ids of their sessions.
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
//! * An address of IPv6 is verified however it is written in what is signed: with brackets or without, shortened or not.
//! * A request that was made before is refused, but for a while; see [`replay`]. Taskcluster remembers none.
//! * Roles that grant each other are allowed as long as they come to an end; see [`roles::MOST_GRANTED`].

pub mod attempt;
mod base64;
mod caller;
mod calls;
pub mod certificate;
pub mod clients;
mod counts;
pub mod hawk;
pub mod oidc;
pub mod origin;
pub mod people;
mod read;
mod refusal;
pub mod remote;
pub mod replay;
mod request;
pub mod roles;
pub mod scope;
pub mod sessions;
pub mod third_party;

use std::time::Duration;

use self::certificate::{Ext, Grant};
use self::clients::Directory;
use self::counts::Counts;
use self::remote::AuthService;
use self::replay::Replays;
use crate::clock::Timestamp;
use crate::service::Sightings;
use crate::telemetry::metrics::Registry;

pub use self::caller::{Caller, Insufficient, Who};
pub use self::read::Read;
pub use self::refusal::{Failure, Refusal, Unanswered};
pub use self::request::SignedRequest;

/// What everybody has, signed or not.
const ANONYMOUS: &str = "assume:anonymous";
/// What the auth service says of a request that is right but for its time.
const STALE: &str = "Stale timestamp";
/// For how long an anonymous caller's scopes are good.
const ANONYMOUS_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Tells callers by the clients and roles of a directory, and may ask the auth service for all others.
pub struct Authenticator {
    directory: Box<dyn Directory>,
    service: Option<AuthService>,
    replays: Replays,
    counts: Counts,
}

impl Authenticator {
    /// An authenticator for the clients of `directory` alone.
    pub fn new(directory: impl Directory + 'static) -> Authenticator {
        Authenticator {
            directory: Box::new(directory),
            service: None,
            replays: Replays::default(),
            counts: Counts::default(),
        }
    }

    /// The same one, which asks `service` about every request that doesn't name a client of the directory.
    pub fn asking(self, service: AuthService) -> Authenticator {
        Authenticator { service: Some(service), ..self }
    }

    /// The same one, which shares what it has seen with all processes whose sightings these are.
    pub fn remembering_in(self, sightings: Sightings) -> Authenticator {
        Authenticator { replays: Replays::shared(sightings), ..self }
    }

    /// When a request that repeats an earlier one was first seen; `None` for all others. To be asked once about each request
    /// that is authenticated. `body` is its body. What can't be read of a request is not held against it: whoever
    /// authenticated it has read it, and the auth service refuses what we do.
    ///
    /// # Errors
    /// It may not be repeated any more; see [`replay`].
    pub async fn first_seen(
        &self,
        request: &Read<'_>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Refusal> {
        let Some(proof) = request.readable() else { return Ok(None) };
        let Some(fingerprint) = proof.fingerprint()? else { return Ok(None) };
        let first = self.replays.first_seen(fingerprint, body, now).await;
        self.counts.seen(&first);
        first
    }

    /// Gives what is counted of callers to a registry.
    pub fn register(&self, registry: &mut Registry) {
        self.counts.register(registry);
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
    pub async fn authenticate(&self, request: &Read<'_>, trace: &str, now: Timestamp) -> Result<Caller, Failure> {
        let caller = self.tell(request, trace, now).await;
        self.counts.proved(&caller);
        caller
    }

    async fn tell(&self, request: &Read<'_>, trace: &str, now: Timestamp) -> Result<Caller, Failure> {
        let SignedRequest { resource, authorization, .. } = request.request;
        let query = resource.split_once('?').map_or("", |(_, query)| query);
        let bewit =
            url::form_urlencoded::parse(query.as_bytes()).any(|(key, value)| key == "bewit" && !value.is_empty());
        if bewit && authorization.is_some_and(|header| !header.is_empty()) {
            return Err(Refusal::TwoSchemes.into());
        }
        match &self.service {
            Some(service) if !self.is_ours_to_tell(request) => service.authenticate(&request.request, trace).await,
            _ => Ok(self.validate(request, now)?),
        }
    }

    /// Whether an authenticated request says that it was signed at about `now`; `None` where it doesn't say when that was. The
    /// auth service has a clock of its own, and may take what we would not.
    pub fn agrees(&self, request: &Read<'_>, now: Timestamp) -> Option<bool> {
        request.request.authorization.filter(|header| !header.is_empty())?;
        if self.tells_by_itself(request) {
            return Some(true);
        }
        let signed_at = request.readable()?.signed_at()?;
        Some(is_fresh(signed_at, now))
    }

    /// The client that has signed a request correctly which was refused at `now`, for its time alone: as of the time at which
    /// it was signed, it is right. `None` for all others. The auth service says that itself.
    pub fn refused_for_its_time(&self, request: &Read<'_>, refusal: &Refusal, now: Timestamp) -> Option<String> {
        let signed_at = request.readable()?.signed_at()?;
        let right = match refusal {
            Refusal::Remote(why) => why.contains(STALE),
            _ if is_fresh(signed_at, now) || !self.tells_by_itself(request) => false,
            _ => self.validate(request, signed_at).is_ok(),
        };
        request.signer().filter(|_| right).map(str::to_owned)
    }

    /// Whether it can be told here who made a request, without asking the auth service.
    pub fn tells_by_itself(&self, request: &Read<'_>) -> bool {
        self.service.is_none() || self.is_ours_to_tell(request)
    }

    /// Whether the request names a client of the directory, or one that such a client issued a certificate for. That proves
    /// nothing: it only chooses who checks the request, and both check all of it.
    fn is_ours_to_tell(&self, request: &Read<'_>) -> bool {
        request.signer().is_some_and(|signer| self.directory.knows(signer))
    }

    /// Who made this request at `now`, as Taskcluster's auth service finds out when a service asks it: a bewit next to
    /// a header is a part of the target like any other.
    pub fn validate(&self, request: &Read<'_>, now: Timestamp) -> Result<Caller, Refusal> {
        let anonymous = [ANONYMOUS.to_owned()];
        let Some(proof) = request.proof.as_ref().map_err(Clone::clone)? else {
            let (scopes, expires) = (self.directory.expand(&anonymous), now.plus(ANONYMOUS_LIFETIME));
            return Ok(Caller { who: Who::Anonymous, scopes, expires: Some(expires), hash: None });
        };
        let ext = Ext::parse(proof.ext.as_deref())?;
        let issuer = ext.issuer(&proof.id)?;
        let client = self.directory.client(issuer.unwrap_or(&proof.id), now).map_err(Refusal::Client)?;
        let Grant { key, scopes, expires } = ext.grant(&proof.id, client, now)?;
        proof.verify(key.expose(), request.request.origin, now)?;
        let mut scopes = self.directory.expand(&scope::merge(&scopes, &anonymous));
        if let Some(authorized) = ext.authorized_scopes(&scopes)? {
            scopes = self.directory.expand(&scope::merge(&authorized, &anonymous));
        }
        Ok(Caller { who: Who::Machine { client_id: proof.id.clone() }, scopes, expires, hash: proof.hash.clone() })
    }
}

fn is_fresh(signed_at: Timestamp, now: Timestamp) -> bool {
    signed_at.since(now).max(now.since(signed_at)) <= hawk::SKEW
}
