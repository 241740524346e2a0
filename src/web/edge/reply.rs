//! Replies in JSON, and what a part of what is served has of its own about its replies.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::limits::Overload;

/// What the replies of one part have of their own. It stands in their extensions.
#[derive(Clone, Copy)]
pub struct Face {
    /// Their content security policy.
    pub policy: &'static str,
    /// How it is said that there is no room for one.
    pub refuse: fn(&Overload) -> Response,
}

/// The face of what programs read, as Taskcluster has it.
pub const JSON: Face = Face {
    policy: "report-uri /__cspreport__;default-src 'none';frame-ancestors 'none';",
    refuse: |overload| {
        let body = json!({"code": Overload::CODE, "message": overload.message});
        let mut refusal = json_response(StatusCode::SERVICE_UNAVAILABLE, &body);
        refusal.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(overload.retry_after));
        refusal
    },
};

/// What Taskcluster answers to a path that it doesn't know, and to a method that a path doesn't have.
pub(in crate::web) async fn not_found() -> Response {
    json_response(StatusCode::NOT_FOUND, &json!({"error": "Not found"}))
}

/// The longest error that is indented, in bytes. An error repeats what was sent, which may be nested so deep that its
/// indentation is a hundred times as long.
const LONGEST_INDENTED: usize = 16 * 1024;

/// A JSON response as Taskcluster writes it, with a weak `ETag`.
pub(in crate::web) fn json_response(status: StatusCode, body: &Value) -> Response {
    let text = json_text(status, body);
    let tag = [(header::ETAG, etag(&text))];
    (status, tag, JSON_TYPE, text).into_response()
}

/// The same without an `ETag`, for what nobody asks for again by one: what is no good reply to GET or HEAD.
pub(in crate::web) fn untagged_json_response(status: StatusCode, body: &Value) -> Response {
    (status, JSON_TYPE, json_text(status, body)).into_response()
}

const JSON_TYPE: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];

/// A JSON value as Taskcluster writes it: with two blanks of indentation.
fn json_text(status: StatusCode, body: &Value) -> String {
    let longest = if status.is_success() { usize::MAX } else { LONGEST_INDENTED };
    let text = Bounded::write(longest, |text| serde_json::to_writer_pretty(text, body));
    text.unwrap_or_else(|| body.to_string())
}

/// Whether a value takes at most so many bytes as JSON.
pub(in crate::web) fn is_short(value: &Value, most: usize) -> bool {
    Bounded::write(most, |text| serde_json::to_writer(text, value)).is_some()
}

/// A value as indented JSON, unless that takes more than so many bytes.
pub(in crate::web) fn indented(value: &Value, most: usize) -> Option<String> {
    Bounded::write(most, |text| serde_json::to_writer_pretty(text, value))
}

/// A text that is written no further than to a limit.
struct Bounded {
    text: Vec<u8>,
    most: usize,
}

impl Bounded {
    /// What is written; `None` where that is more than `most` bytes.
    fn write<E>(most: usize, write: impl FnOnce(&mut Bounded) -> Result<(), E>) -> Option<String> {
        let mut bounded = Bounded { text: Vec::new(), most };
        write(&mut bounded).ok()?;
        String::from_utf8(bounded.text).ok()
    }
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.text.len() + bytes.len() > self.most {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(in crate::web) fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The `ETag` of a body. It stands beside `Cache-Control: no-store` in what the API answers to GET, as Taskcluster's services have it.
/// No cache may use it then; but programs may keep the tag themselves, and are answered 304 without a body where they ask with
/// `If-None-Match`. That is what those get who did so with the former service, and it spares whoever looks at all namespaces again
/// and again the whole list.
pub(in crate::web) fn etag(body: &str) -> String {
    let hash = Sha256::digest(body.as_bytes());
    format!("W/\"{:x}-{}\"", body.len(), STANDARD_NO_PAD.encode(&hash[..20]))
}
