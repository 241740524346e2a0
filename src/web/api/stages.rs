//! The stages of an API request, in Taskcluster's order of checks: the body is read and parsed, the caller is authenticated and
//! authorised, then the parameters of the path, the query and the payload are checked, and the handler runs. So malformed JSON
//! is reported to anybody, and nothing else is to a caller who may not.
//!
//! [`Received`], [`Admitted`], [`Authenticated`], [`Checked`]: each is made of the one before, and of nothing else.

use axum::body::{Body, Bytes};
use axum::http::header;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use super::body;
use super::endpoint::{Answer, Call, Handler, Params, Reply};
use super::error::{ApiError, excerpt};
use super::head::Head;
use super::log::Record;
use super::proof::Proven;
use super::{inflate, query};
use crate::access::Caller;
use crate::access::origin::{BadOrigin, Origin};
use crate::access::scope::{Expression, MissingParameter};
use crate::domain::name::Name;
use crate::domain::rights::Right;
use crate::service::ServiceError;
use crate::web::edge::limits::{BodyRoom, Limit, Place};
use crate::web::edge::peer::Crowded;
use crate::web::edge::reply::header_text;

/// What is told of a request however it is answered, in the log or in an error, and what it takes until then.
pub(super) struct Told<'a> {
    /// Its line in the log.
    pub record: Record<'a>,
    /// What its body holds, as far as that was read.
    pub payload: Value,
    /// The room of its body.
    pub room: BodyRoom,
}

/// A request that a stage refused.
struct Refused<'a> {
    error: ApiError,
    told: Box<Told<'a>>,
}

/// A request has come, and nothing is known of it but its head.
pub(super) struct Received<'a> {
    pub head: Head<'a>,
    pub told: Box<Told<'a>>,
    pub body: Body,
    pub params: Params,
    pub origin: Result<Origin, BadOrigin>,
}

/// Its body is read, and it has a place among those that are worked at.
struct Admitted<'a> {
    head: Head<'a>,
    told: Box<Told<'a>>,
    /// The body as its sender signed it.
    body: Bytes,
    params: Params,
    origin: Result<Origin, BadOrigin>,
    /// None for monitoring.
    place: Option<Place>,
    /// When its caller is told to come again.
    late: Instant,
}

/// Who sent it may do what it asks for.
struct Authenticated<'a> {
    head: Head<'a>,
    told: Box<Told<'a>>,
    params: Params,
    place: Option<Place>,
    late: Instant,
    proven: Option<Proven>,
    /// What its sender may do, but for a claim.
    scopes: Vec<String>,
}

/// It is right, and the handler is at work.
struct Checked<'a> {
    told: Box<Told<'a>>,
    answer: Answer,
    place: Option<Place>,
    late: Instant,
}

/// Everything, in order.
pub(super) async fn run(received: Received<'_>) -> (Reply, Box<Told<'_>>) {
    let checked = async {
        let admitted = received.admit().await?;
        let authenticated = admitted.authenticate().await?;
        authenticated.check().await
    };
    match checked.await {
        Ok(checked) => checked.answer().await,
        Err(Refused { error, told }) => (Err(error), told),
    }
}

impl<'a> Received<'a> {
    async fn admit(self) -> Result<Admitted<'a>, Refused<'a>> {
        let Received { head, mut told, body, params, origin } = self;
        match admit(head, &mut told, body).await {
            Ok((body, place, late)) => Ok(Admitted { head, told, body, params, origin, place, late }),
            Err(error) => Err(Refused { error, told }),
        }
    }
}

impl<'a> Admitted<'a> {
    async fn authenticate(self) -> Result<Authenticated<'a>, Refused<'a>> {
        let Admitted { head, mut told, body, params, origin, mut place, late } = self;
        let authenticated = match head.entry.scopes() {
            Some(scopes) => {
                let proven = prove(head, origin, &body, &mut place, late).await;
                proven.and_then(|(caller, proven)| {
                    authorise(head, caller, &scopes, &params, &mut told.record).map(|scopes| (Some(proven), scopes))
                })
            }
            None => look(head, origin, &body, (&mut place, late), &mut told).await.map(|scopes| (None, scopes)),
        };
        match authenticated {
            Ok((proven, scopes)) => Ok(Authenticated { head, told, params, place, late, proven, scopes }),
            Err(error) => Err(Refused { error, told }),
        }
    }
}

impl<'a> Authenticated<'a> {
    async fn check(self) -> Result<Checked<'a>, Refused<'a>> {
        let Authenticated { head, mut told, params, place, late, proven, scopes } = self;
        let begun = begin(head, &mut told, &params, proven, scopes).await;
        match begun {
            Ok(answer) => Ok(Checked { told, answer, place, late }),
            Err(error) => Err(Refused { error, told }),
        }
    }
}

impl<'a> Checked<'a> {
    /// Waits for the answer. It is made in a task of its own, so that it is made to its end even if the caller hangs up, or
    /// is told to come again.
    async fn answer(self) -> (Reply, Box<Told<'a>>) {
        let Checked { told, answer, place, late } = self;
        let answer = async move {
            let reply = answer.await;
            drop(place);
            reply
        };
        let task = tokio::spawn(answer.in_current_span());
        let reply = match timeout_at(late, task).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(panic)) => Err(ApiError::internal(&panic)),
            Err(_) => {
                Err(ApiError::unavailable("The service needs too long for this. It goes on with it. Try again.", 5))
            }
        };
        (reply, told)
    }
}

/// Reads the body, and waits for the request's turn.
async fn admit(head: Head<'_>, told: &mut Told<'_>, body: Body) -> Result<(Bytes, Option<Place>, Instant), ApiError> {
    let gate = &head.app.edge.gate;
    if !head.entry.is_monitoring() {
        if let Some(crowded) = head.parts.extensions.get::<Crowded>() {
            gate.count(Limit::Connections);
            return Err(ApiError::unavailable(crowded.message(), 1));
        }
        gate.look()?;
    }
    let body = read(head, told, body).await?;
    let late = Instant::now() + head.app.settings.request_timeout;
    let mut place = if head.entry.is_monitoring() { None } else { Some(gate.enter(told.record.source_ip)?) };
    if let Some(place) = &mut place {
        timeout_at(late, gate.turn(place)).await.map_err(|_| too_slow())??;
    }
    Ok((body, place, late))
}

/// The body as its sender signed it: the text of what is JSON. Anything else is not read, and counts as empty (Taskcluster).
async fn read(head: Head<'_>, told: &mut Told<'_>, body: Body) -> Result<Bytes, ApiError> {
    let (headers, settings, room) = (&head.parts.headers, &head.app.settings, &mut told.room);
    if !body::is_json(headers) {
        return Ok(Bytes::new());
    }
    let limit = head.entry.longest_body.min(settings.body_limit);
    let body = body::read(body, limit, settings, room).await?;
    if inflate::is_encoded(headers) {
        room.grow(body.len() + limit)?;
    }
    let text = body::decode(headers, &inflate::inflate(headers, body, limit).await?)?;
    room.fit(body::weight(&text))?;
    body::parse(&text, &mut told.payload)?;
    Ok(text.into())
}

async fn prove(
    head: Head<'_>,
    origin: Result<Origin, BadOrigin>,
    body: &[u8],
    place: &mut Option<Place>,
    late: Instant,
) -> Result<(Caller, Proven), ApiError> {
    let origin = origin.map_err(|bad| ApiError::input(bad.to_string()))?;
    timeout_at(late, head.authenticate(&origin, body, place)).await.map_err(|_| too_slow())?
}

/// Checks that the caller has one of `scopes`. All that it has, for a handler that decides more.
fn authorise(
    head: Head<'_>,
    caller: Caller,
    scopes: &[&str],
    params: &Params,
    record: &mut Record<'_>,
) -> Result<Vec<String>, ApiError> {
    let caller = record.caller.insert(caller);
    let required = required_scopes(scopes, params).map_err(|missing| ApiError::internal(&missing))?;
    let satisfying = caller.require(&required);
    let caller = &*caller;
    record.satisfying = satisfying.map_err(|insufficient| {
        head.refused(caller, params);
        ApiError::insufficient_scopes(insufficient.to_string())
    })?;
    // A claim is decided by now, and some callers have thousands.
    Ok(if head.entry.right == Some(Right::Claim) { Vec::new() } else { caller.scopes.clone() })
}

/// The scopes of who asks for what anybody may see.
async fn look(
    head: Head<'_>,
    origin: Result<Origin, BadOrigin>,
    body: &[u8],
    (place, late): (&mut Option<Place>, Instant),
    told: &mut Told<'_>,
) -> Result<Vec<String>, ApiError> {
    let (Some(place), record) = (place, &mut told.record) else { return Ok(Vec::new()) };
    head.app.edge.gate.admit(place, None, record.source_ip)?;
    if let (true, Ok(origin)) = (head.entry.is_personal(), &origin) {
        record.caller = head.reader(origin, body, place).await;
    }
    if head.entry.lists() {
        timeout_at(late, head.app.edge.gate.list(place)).await.map_err(|_| too_slow())??;
    }
    Ok(record.caller.as_ref().map(|caller| caller.scopes.clone()).unwrap_or_default())
}

/// Checks the path, the query and the payload, and has the handler begin.
async fn begin(
    head: Head<'_>,
    told: &mut Told<'_>,
    params: &Params,
    proven: Option<Proven>,
    scopes: Vec<String>,
) -> Result<Answer, ApiError> {
    let call = |told: &mut Told<'_>| {
        let query = query::check(head.parts.uri.query().unwrap_or_default(), head.entry.query)?;
        told.record.query = query.clone();
        check_payload(head, &told.payload)?;
        let by = head.by(told.record.caller.as_ref());
        let (client, first_seen) = proven.map(|proven| (proven.client, proven.first_seen)).unzip();
        let payload = told.payload.clone();
        Ok::<_, ApiError>(Call {
            params: params.clone(),
            query,
            payload,
            client,
            by,
            first_seen: first_seen.flatten(),
            scopes,
        })
    };
    let context = head.app.context.clone();
    Ok(match head.entry.handler {
        Handler::Whole(handler) => handler(context, call(told)?),
        Handler::Namespace(handler) => {
            let name = namespace(head, params).await?;
            handler(context, name, call(told)?)
        }
    })
}

fn check_payload(head: Head<'_>, payload: &Value) -> Result<(), ApiError> {
    let Some(schema) = head.entry.input else { return Ok(()) };
    let headers = &head.parts.headers;
    if !body::is_json(headers) || !body::is_framed(headers) {
        let given = header_text(headers, header::CONTENT_TYPE).unwrap_or("null");
        let message =
            format!("Payload must be JSON with content-type: application/json got content-type: {}", excerpt(given));
        return Err(ApiError::malformed_payload(message));
    }
    head.app.contract.validate(schema, payload).map_err(ApiError::input_validation)
}

/// The namespace in the path, or the account.
async fn namespace(head: Head<'_>, params: &Params) -> Result<Name, ApiError> {
    let text = params.get("namespace").and_then(Value::as_str).unwrap_or_default();
    head.app.context.service.name(text).await.map_err(|error| match error {
        ServiceError::BadName(bad) => {
            // The two blanks are Taskcluster's.
            let line = format!("URL parameter 'namespace' given  as '{text}' is not valid: {bad}");
            ApiError::invalid_arguments(format!("Invalid URL patterns:\n{line}"))
        }
        other => other.into(),
    })
}

fn too_slow() -> ApiError {
    ApiError::unavailable("The service needs too long for this, and has not begun with it. Try again.", 5)
}

/// One of `scopes`, with the values of `params` put in.
fn required_scopes(scopes: &[&str], params: &Params) -> Result<Expression, MissingParameter> {
    let values: Vec<_> =
        params.iter().filter_map(|(name, value)| value.as_str().map(|value| (name.as_str(), value))).collect();
    let templates = scopes.iter().map(|scope| Expression::Scope((*scope).to_owned())).collect::<Vec<_>>();
    // A single one is shown as Taskcluster's endpoints show theirs.
    let wrap = if templates.len() == 1 { Expression::AllOf } else { Expression::AnyOf };
    wrap(templates).with(&values)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_scope_is_filled_in_with_the_parameters_of_the_path() {
        let params = Params::from_iter([("namespace".to_owned(), json!("a<b>"))]);
        let all_of = Expression::AllOf(vec![Expression::Scope("pulse:namespace:a<b>".to_owned())]);
        assert_eq!(required_scopes(&["pulse:namespace:<namespace>"], &params), Ok(all_of));
        assert!(required_scopes(&["pulse:namespace:<name>"], &params).is_err());
    }
}
