//! The body of a request: read within limits of size and time, and decoded and parsed where it is JSON.
//!
//! All of that is done for anybody, because a signature covers the text of a body, and malformed JSON is reported before it is
//! known who sent it (Taskcluster). So an endpoint takes no longer body than its payload needs.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Value, json};

use super::app::Settings;
use super::error::{ApiError, excerpt};
use crate::web::edge::limits::{BodyRoom, SMALL};
use crate::web::edge::reply::header_text;

/// Reads a body of at most `limit` bytes. One that says at once that it is too long is not even begun.
///
/// # Errors
/// It is longer than allowed, takes too long, ends early, or there is no room for it.
pub(in crate::web) async fn read(
    body: Body,
    limit: usize,
    settings: &Settings,
    room: &mut BodyRoom,
) -> Result<Bytes, ApiError> {
    if usize::try_from(axum::body::HttpBody::size_hint(&body).lower()).map_or(true, |length| length > limit) {
        return Err(ApiError::too_large(limit));
    }
    let read = collect(Limited::new(body, limit), limit, room);
    tokio::time::timeout(settings.body_timeout, read).await.unwrap_or_else(|_| Err(ApiError::body_timeout()))
}

async fn collect(mut body: Limited<Body>, limit: usize, room: &mut BodyRoom) -> Result<Bytes, ApiError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.is::<LengthLimitError>() {
            true => ApiError::too_large(limit),
            false => ApiError::malformed_payload("The request's body was cut off."),
        })?;
        if let Ok(data) = frame.into_data() {
            room.grow(bytes.len() + data.len())?;
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.into())
}

/// What a value takes in memory at most, in bytes: its own, and its share of the object or list that holds it.
const VALUE: usize = 256;

/// How many bytes a text takes together with what is parsed of it, at most. A value can take a hundred times the room of its
/// text.
pub(super) fn weight(text: &str) -> usize {
    // Each value but the first comes after one of these.
    let values = text.bytes().filter(|byte| matches!(byte, b',' | b':' | b'[' | b'{')).count();
    text.len() + VALUE * values
}

/// Whether the request says that its body is JSON. Other types that end in `+json` don't count (Taskcluster).
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let content_type = header_text(headers, header::CONTENT_TYPE).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// Whether there is a body, be it an empty one.
pub(super) fn is_framed(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING)
}

/// Whether a body comes that is larger than a few packets, or may be.
pub(super) fn is_large(headers: &HeaderMap) -> bool {
    let length = header_text(headers, header::CONTENT_LENGTH).and_then(|length| length.parse::<usize>().ok());
    is_framed(headers) && length.is_none_or(|length| length > SMALL)
}

/// Parses a text into `payload`, which is left as it is where there is none. What
/// can't be parsed is put there as text, to be shown to its sender.
///
/// # Errors
/// It is not JSON, or neither an object nor an array.
pub(super) fn parse(text: &str, payload: &mut Value) -> Result<(), ApiError> {
    if text.is_empty() {
        return Ok(());
    }
    *payload = serde_json::from_str(text).map_err(|error| {
        *payload = json!(text);
        ApiError::malformed_payload(format!("Failed to parse JSON: {error}"))
    })?;
    if !payload.is_object() && !payload.is_array() {
        return Err(ApiError::malformed_payload("Failed to parse JSON: Must be an object or array"));
    }
    Ok(())
}

/// The text of a body whose content encoding is undone: what is parsed, and what a signed hash covers. What is no UTF-8 in it
/// is replaced, and a byte order mark at its beginning left out, as Taskcluster does.
///
/// # Errors
/// It is in a charset that we don't read.
pub(super) fn decode(headers: &HeaderMap, body: &[u8]) -> Result<String, ApiError> {
    let charset = charset(header_text(headers, header::CONTENT_TYPE).unwrap_or_default());
    match charset.to_ascii_lowercase().as_str() {
        "" | "utf-8" | "utf8" | "us-ascii" => {
            let text = String::from_utf8_lossy(body);
            Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned())
        }
        "iso-8859-1" | "latin1" => Ok(body.iter().copied().map(char::from).collect()),
        _ => Err(ApiError::unsupported(format!(
            "The charset {} is not supported: send the body as utf-8",
            excerpt(charset)
        ))),
    }
}

/// The `charset` of a content type; empty where it has none.
fn charset(content_type: &str) -> &str {
    let parameters = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let mut charsets = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    charsets.next().map_or("", |(_, value)| value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    /// What is made of this body, and what is shown of it.
    fn parsed(content_type: &'static str, body: &[u8]) -> (Result<(), ApiError>, Value) {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        let mut payload = json!({});
        let result = decode(&headers, body).and_then(|text| parse(&text, &mut payload));
        (result, payload)
    }

    #[test]
    fn only_an_object_or_an_array_is_a_payload() {
        let json = "application/json";
        for (body, payload) in [
            (&b""[..], json!({})),
            ("\u{feff}".as_bytes(), json!({})),
            (b"[1]", json!([1])),
            ("\u{feff}{\"a\":1,\"a\":2}".as_bytes(), json!({"a": 2})),
            (b"{\"a\":\"\xff\"}", json!({"a": "\u{fffd}"})),
        ] {
            assert_eq!(parsed(json, body), (Ok(()), payload));
        }
        for (body, shown, complaint) in [
            (&b"\"x\""[..], json!("x"), "Failed to parse JSON: Must be an object or array"),
            (b"{x", json!("{x"), "Failed to parse JSON: "),
            (b"{} {}", json!("{} {}"), "Failed to parse JSON: "),
        ] {
            let (result, payload) = parsed(json, body);
            let error = result.unwrap_err();
            assert_eq!((error.code, payload), ("MalformedPayload", shown));
            assert!(error.message.starts_with(complaint), "{}", error.message);
        }
        let deep = "[".repeat(100_000);
        assert_eq!(parsed(json, deep.as_bytes()).0.unwrap_err().code, "MalformedPayload");
    }

    #[test]
    fn a_body_is_read_in_the_charset_that_it_names() {
        for content_type in ["application/json;charset=UTF-8", "application/json; a=b; Charset=\"utf-8\""] {
            assert_eq!(parsed(content_type, "{\"a\":\"é\"}".as_bytes()), (Ok(()), json!({"a": "é"})), "{content_type}");
        }
        assert_eq!(parsed("application/json; charset=latin1", b"{\"a\":\"\xe9\"}"), (Ok(()), json!({"a": "é"})));
        let error = parsed("application/json; charset=x-what", b"{}").0.unwrap_err();
        assert_eq!((error.status.as_u16(), error.code), (415, "UnsupportedMediaType"));
    }
}
