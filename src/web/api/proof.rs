//! Who made an API request, as far as that is proven.

use std::time::Duration;

use axum::extract::OriginalUri;
use axum::http::header;

use super::error::ApiError;
use super::head::{ANONYMOUS, Head};
use crate::access::origin::Origin;
use crate::access::{Caller, Failure, Read, SignedRequest};
use crate::clock::Timestamp;
use crate::web::edge::around::TraceId;
use crate::web::edge::limits::Place;
use crate::web::edge::reply::header_text;

/// How long who asks for what anybody may see is let wait until it is known who that is.
const LOOK: Duration = Duration::from_secs(2);

/// What is proven with its caller of a request that needs scopes.
pub(super) struct Proven {
    /// The client whose things are counted with those of the request.
    pub client: String,
    /// Where it repeats an earlier one, when that was first seen.
    pub first_seen: Option<Timestamp>,
}

impl Head<'_> {
    /// Who signed the request, whose body is covered by the signature if its hash is; and who asks by it.
    pub async fn authenticate(
        &self,
        origin: &Origin,
        body: &[u8],
        place: &mut Option<Place>,
    ) -> Result<(Caller, Proven), ApiError> {
        let Head { app, now, .. } = self;
        let signed = self.read(origin);
        if let Some(place) = place.as_mut().filter(|_| !app.authenticator.tells_by_itself(&signed)) {
            // Whoever waits for the auth service must not keep others from their turns.
            place.rest();
        }
        let caller = self.caller(&signed, body).await.inspect_err(|failure| {
            if matches!(failure, Failure::Refused(_)) {
                app.edge.gate.failed(origin.source_ip);
            }
        })?;
        let client = signed.signer().filter(|_| caller.is_known());
        if let Some(place) = place {
            app.edge.gate.admit(place, client, origin.source_ip)?;
        }
        let first_seen = app.authenticator.first_seen(&signed, body, *now).await?;
        Ok((caller, Proven { client: client.unwrap_or(ANONYMOUS).to_owned(), first_seen }))
    }

    /// What is signed of the request, and by whom, as it says.
    fn read<'s>(&'s self, origin: &'s Origin) -> Read<'s> {
        let Head { parts, .. } = self;
        // The signature covers the whole target as it was received; the mount is cut off by now.
        let target = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0);
        Read::of(&SignedRequest {
            method: parts.method.as_str(),
            resource: target.path_and_query().map_or("/", |target| target.as_str()),
            origin,
            authorization: parts.headers.get(header::AUTHORIZATION).map(|value| value.as_bytes()),
        })
    }

    /// Who signed the request and its body.
    async fn caller(&self, signed: &Read<'_>, body: &[u8]) -> Result<Caller, Failure> {
        let headers = &self.parts.headers;
        let trace = self.parts.extensions.get::<TraceId>().map_or("", |trace| trace.0.as_str());
        let content_type = header_text(headers, header::CONTENT_TYPE).unwrap_or_default();
        let caller = self.app.authenticator.authenticate(signed, trace, self.now).await;
        self.hear(signed, &caller);
        let caller = caller?;
        caller.verify_payload(content_type, body)?;
        Ok(caller)
    }

    /// Notes what a request that was signed correctly tells of our clock.
    fn hear(&self, signed: &Read<'_>, caller: &Result<Caller, Failure>) {
        let Head { app, now, .. } = self;
        let heard = match caller {
            Ok(caller) => {
                let client = signed.signer().filter(|_| caller.is_known()).map(str::to_owned);
                client.zip(app.authenticator.agrees(signed, *now))
            }
            Err(Failure::Refused(refusal)) => {
                app.authenticator.refused_for_its_time(signed, refusal, *now).map(|client| (client, false))
            }
            Err(Failure::Unanswered(_)) => None,
        };
        if let Some((client, agrees)) = heard {
            app.context.service.hear(&client, agrees);
        }
    }

    /// Who asks for what anybody may see, and may see more than that; `None` where that is not proven. Nobody is refused:
    /// Taskcluster looks at no signature here, and some of its clients sign wrongly what has a query. For the same reason a
    /// wrong one is not held against its address.
    pub async fn reader(&self, origin: &Origin, body: &[u8], place: &mut Place) -> Option<Caller> {
        let Head { app, now, .. } = self;
        let signed = self.read(origin);
        // Who does not sign is not told by anybody.
        signed.signer()?;
        let _share = match app.authenticator.tells_by_itself(&signed) {
            true => None,
            false => {
                place.rest();
                Some(app.edge.gate.look_up()?)
            }
        };
        let proven = async {
            let caller = self.caller(&signed, body).await.ok()?;
            app.authenticator.first_seen(&signed, body, *now).await.ok()?;
            caller.is_known().then_some(caller)
        };
        tokio::time::timeout(LOOK, proven).await.ok().flatten()
    }
}
