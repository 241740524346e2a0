//! What happens to each request of the console: it is limited like any other, it is found out who makes it, and then the page
//! is made, in a task of its own, so that what was begun is done to its end even if the browser goes.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use super::answer::{self, Answer};
use super::frame::{Frame, Part};
use super::page::Page;
use super::trouble::Trouble;
use super::visit::{Fields, Visit};
use super::{cookie, sender};
use crate::access::origin::Origin;
use crate::access::sessions::SessionId;
use crate::domain::session::Session;
use crate::service::ServiceError;
use crate::web::api::app::App;
use crate::web::api::body;
use crate::web::api::error::ApiError;
use crate::web::edge::around::{Admitted, RequestId};
use crate::web::edge::limits::{Limit, Place};
use crate::web::edge::peer::{Crowded, Peer};
use crate::web::edge::reply::header_text;

/// The longest form, in bytes: a thousand names of queues.
const LONGEST_FORM: usize = 512 * 1024;
/// The longest form of somebody who has not signed in.
const LONGEST_OPEN_FORM: usize = 4 * 1024;
/// By this header the script of a page asks for the part of it that changes.
const LIVE: HeaderName = HeaderName::from_static("x-live");
/// The longest path with its query to which somebody is led back after sign-in, in bytes.
const LONGEST_RETURN: usize = 2000;

/// A request that has its place among those that are worked at.
struct Let {
    place: Place,
    late: Instant,
    session: Option<(SessionId, Session)>,
}

/// Answers a request for `page`.
pub(super) async fn handle(app: Arc<App>, page: &'static Page, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match enter(&app, page, &parts).await {
        Ok(entered) => visit(app, page, (parts, body), entered).await,
        Err(trouble) => answer::trouble(&trouble, None),
    }
}

/// Lets a request in, and finds out who makes it.
async fn enter(app: &Arc<App>, page: &Page, parts: &Parts) -> Result<Let, Trouble> {
    if page.changes() && !sender::is_own_page(&parts.headers) {
        return Err(Trouble::foreign_page());
    }
    let gate = &app.edge.gate;
    if let Some(crowded) = parts.extensions.get::<Crowded>() {
        gate.count(Limit::Connections);
        return Err(ApiError::unavailable(crowded.message(), 1).into());
    }
    gate.look()?;
    let address = source(app, parts);
    let mut place = gate.enter(address)?;
    let late = Instant::now() + app.settings.request_timeout;
    let slow = |_| Trouble::from(ApiError::unavailable("The service needs too long for this. Try again.", 5));
    timeout_at(late, gate.turn(&mut place)).await.map_err(slow)??;
    let sent = cookie::read(&app.settings.console.people, &parts.headers);
    let session = match &sent {
        // The page that tells how things are is there without the store, too.
        Some(id) => match timeout_at(late, session(app, page, id)).await.map_err(slow)? {
            Err(_) if page.open => None,
            found => found?.map(|session| (id.clone(), session)),
        },
        None => None,
    };
    if sent.is_some() && session.is_none() {
        gate.failed(address);
    }
    let person = session.as_ref().map(|(_, session)| format!("person {}", session.person.subject));
    gate.admit(&mut place, person.as_deref(), address)?;
    Ok(Let { place, late, session })
}

/// The session of this id. Whoever only looks may do so while the store fails, too.
async fn session(app: &Arc<App>, page: &Page, id: &SessionId) -> Result<Option<Session>, ServiceError> {
    match page.changes() {
        true => app.context.service.session(&id.hash()).await,
        false => app.context.service.session_to_look(&id.hash()).await,
    }
}

/// Where a request comes from, as far as our proxies tell.
fn source(app: &App, parts: &Parts) -> IpAddr {
    let peer = parts.extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0);
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    Origin::read(header, peer, app.settings.edge.trust_proxy).map_or(peer, |origin| origin.source_ip)
}

/// Makes the page.
async fn visit(app: Arc<App>, page: &'static Page, (parts, body): (Parts, Body), entered: Let) -> Response {
    let Let { place, late, session } = entered;
    let signed_in = session.is_some();
    let sent = cookie::read(&app.settings.console.people, &parts.headers).is_some();
    let mut visit = Visit {
        now: app.clock.now(),
        path: parts.uri.path().to_owned(),
        target: target(&parts),
        query: Fields::read(parts.uri.query().unwrap_or_default().as_bytes()),
        form: Fields::default(),
        live: parts.headers.contains_key(LIVE),
        session,
        headers: parts.headers.clone(),
        request: parts.extensions.get::<RequestId>().map(|id| id.0.clone()),
        app: app.clone(),
    };
    let frame = Frame::of(&visit, Part::None, "");
    let answered = async {
        if !page.open && !signed_in {
            return match parts.method {
                Method::GET | Method::HEAD if visit.live => Err(Trouble::signed_out()),
                Method::GET | Method::HEAD => Ok(answer::see(&sign_in_path(&visit.target))),
                _ => Err(Trouble::signed_out()),
            };
        }
        let mut room = app.edge.gate.body();
        if page.changes() {
            let limit = if signed_in { LONGEST_FORM } else { LONGEST_OPEN_FORM };
            visit.form = form(&app, &parts, body, limit, &mut room).await?;
        }
        let work = async move {
            let answer = (page.handler)(visit).await;
            drop((place, room));
            answer
        };
        let task = tokio::spawn(work.in_current_span());
        match timeout_at(late, task).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(panic)) => Err(ApiError::internal(&panic).into()),
            Err(_) => {
                let text = "The service needs too long for this. It goes on with it: look again in a while.";
                Err(ApiError::unavailable(text, 5).into())
            }
        }
    };
    let answered: Answer = answered.await;
    let mut response = answered.unwrap_or_else(|trouble| answer::trouble(&trouble, Some(frame)));
    if sent && !signed_in && !response.headers().contains_key(header::SET_COOKIE) {
        // It is of no use any more.
        cookie::set(&app.settings.console.people, None)
            .map(|cookie| response.headers_mut().insert(header::SET_COOKIE, cookie));
    }
    if signed_in || !response.status().is_client_error() {
        response.extensions_mut().insert(Admitted);
    }
    if parts.method == Method::POST && response.status() == StatusCode::PAYLOAD_TOO_LARGE {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Its path and query, below the root.
fn target(parts: &Parts) -> String {
    let below = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    format!("/console{}", below.trim_end_matches('/'))
}

/// Where somebody signs in who is led back to `target` then.
pub(super) fn sign_in_path(target: &str) -> String {
    if target.len() > LONGEST_RETURN {
        return "/console/sign-in".to_owned();
    }
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("to", target).finish();
    format!("/console/sign-in?{query}")
}

/// What the form of a request holds.
async fn form(
    app: &App,
    parts: &Parts,
    body: Body,
    limit: usize,
    room: &mut crate::web::edge::limits::BodyRoom,
) -> Result<Fields, Trouble> {
    let kind = header_text(&parts.headers, header::CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(ApiError::unsupported("Only forms of this console are taken.").into());
    }
    let bytes = body::read(body, limit, &app.settings, room).await?;
    Ok(Fields::read(&bytes))
}
