//! From a page to a response.

use askama::Template;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::frame::{Frame, Part};
use super::trouble::Trouble;
use crate::web::api::error::ApiError;
use crate::web::edge::limits::Overload;
use crate::web::edge::reply::{Face, etag};

/// What answers a visit.
pub(super) type Answer = Result<Response, Trouble>;

/// As of when a part of a page is that is asked for again and again, in milliseconds.
const AS_OF: HeaderName = HeaderName::from_static("x-as-of");
/// How long ago that is, in milliseconds.
const AGE: HeaderName = HeaderName::from_static("x-age");
/// Why that is long ago.
const BANNER: HeaderName = HeaderName::from_static("x-banner");

/// The face of pages. They run no script and load no style but ours, and nothing of others; and no other page frames them.
pub(in crate::web) const FACE: Face = Face {
    policy: "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
             base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    refuse: |overload: &Overload| trouble(&overload.clone().into(), None),
};

#[derive(Template)]
#[template(path = "trouble.html")]
struct TroublePage<'a> {
    frame: Frame,
    trouble: &'a Trouble,
}

fn render(page: &impl Template) -> Result<String, Trouble> {
    page.render().map_err(|error| ApiError::internal(&error).into())
}

fn html(status: StatusCode, html: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
    ];
    (status, headers, html).into_response()
}

/// A page with this status.
pub(super) fn page(status: StatusCode, page: &impl Template) -> Answer {
    Ok(html(status, render(page)?))
}

/// A page.
pub(super) fn shown(template: &impl Template) -> Answer {
    page(StatusCode::OK, template)
}

/// The part of a page that changes, for its script, which has the one before perhaps.
pub(super) fn part(template: &impl Template, frame: &Frame) -> Answer {
    let text = render(template)?;
    let etag = etag(&text);
    let mut response = html(StatusCode::OK, text);
    let as_of = frame.as_of.map(|as_of| as_of.0.millis().to_string()).unwrap_or_default();
    let banner = frame.banner.clone().unwrap_or_default();
    let age = frame.age().to_string();
    for (name, value) in [(header::ETAG, etag), (AS_OF, as_of), (AGE, age), (BANNER, banner)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// A redirection to a page of ours, to be asked for by `GET`.
pub(super) fn see(path: &str) -> Response {
    let path = HeaderValue::try_from(path).unwrap_or_else(|_| HeaderValue::from_static("/console"));
    let headers = [(header::LOCATION, path), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// The page that tells of a trouble.
pub(super) fn trouble(trouble: &Trouble, frame: Option<Frame>) -> Response {
    let frame = frame.unwrap_or_else(|| Frame::plain(Part::None, trouble.title));
    let frame = Frame { title: trouble.title.to_owned(), ..frame };
    let mut response = page(trouble.status, &TroublePage { frame, trouble })
        .unwrap_or_else(|_| (trouble.status, trouble.text.clone()).into_response());
    if let Some(seconds) = trouble.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
