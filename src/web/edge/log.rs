//! One log line for each request that no part has logged itself.

use std::time::Instant;

use axum::extract::Request;
use axum::http::{Method, header};
use axum::response::Response;

/// In the extensions of a response: its request is logged already.
#[derive(Clone, Copy)]
pub(in crate::web) struct Logged;

/// Logs a request, unless it was logged.
pub(in crate::web) fn other(method: &Method, path: &str, began: Instant, response: &Response) {
    if response.extensions().get::<Logged>().is_none() {
        let status = response.status().as_u16();
        tracing::info!(
            r#type = "monitor.request",
            method = %method,
            resource = path,
            statusCode = status,
            duration = milliseconds(began),
            "{method} {path} {status}",
        );
    }
}

/// What is told of a request in Mozilla's form, which is read before it is answered.
pub(in crate::web) struct Summary {
    agent: String,
    lang: String,
    method: String,
    path: String,
    id: String,
}

/// The longest of what a caller says of itself that is logged, in bytes.
const LONGEST: usize = 512;

impl Summary {
    /// Of a request of this id.
    pub fn of(request: &Request, id: &str) -> Summary {
        let header = |name: header::HeaderName| {
            let text = request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            text[..text.floor_char_boundary(LONGEST)].to_owned()
        };
        Summary {
            agent: header(header::USER_AGENT),
            lang: header(header::ACCEPT_LANGUAGE),
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            id: id.to_owned(),
        }
    }

    /// Logs it. Nothing is told of who asks: that is personal, and stands in the other line. The query is left out.
    pub fn log(&self, began: Instant, response: &Response) {
        let Summary { agent, lang, method, path, id } = self;
        let code = response.status().as_u16();
        let errno = if response.status().is_server_error() { code } else { 0 };
        let t = began.elapsed().as_millis() as u64;
        tracing::info!(r#type = "request.summary", errno, code, agent, lang, method, path, rid = id, t, "");
    }
}

/// For how long, in milliseconds with their fractions, as Taskcluster logs it.
pub(in crate::web) fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
