//! Bodies of requests without their content encoding.

use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use tokio::sync::Semaphore;

use super::error::{ApiError, excerpt};
use crate::web::edge::encoding::{AT_A_TIME, Coding};
use crate::web::edge::reply::header_text;

static INFLATING: Semaphore = Semaphore::const_new(AT_A_TIME);

fn content_encoding(headers: &HeaderMap) -> &str {
    header_text(headers, header::CONTENT_ENCODING).unwrap_or_default().trim()
}

/// Whether a request says that its body has a content encoding.
pub(in crate::web) fn is_encoded(headers: &HeaderMap) -> bool {
    let name = content_encoding(headers);
    !name.is_empty() && !name.eq_ignore_ascii_case("identity")
}

/// A body without its content encoding. It is inflated no further than `limit` bytes.
///
/// # Errors
/// The encoding is not known, the data is not in it, or there is more than `limit` of it.
pub(in crate::web) async fn inflate(headers: &HeaderMap, body: Bytes, limit: usize) -> Result<Bytes, ApiError> {
    if body.is_empty() || !is_encoded(headers) {
        return Ok(body);
    }
    let name = content_encoding(headers).to_owned();
    let Some(coding) = Coding::named(&name) else {
        let message = format!(
            "The content-encoding {} is not supported: send the body as it is, or in one of gzip, deflate and br",
            excerpt(&name)
        );
        return Err(ApiError::unsupported(message));
    };
    // It takes a while, and other requests must not wait for it.
    let _permit = INFLATING.acquire().await;
    let inflated = tokio::task::spawn_blocking(move || coding.inflate(&body, limit)).await;
    match inflated.map_err(|panic| ApiError::internal(&panic))? {
        Ok(plain) if plain.len() > limit => Err(ApiError::too_large(limit)),
        Ok(plain) => Ok(plain.into()),
        Err(_) => Err(ApiError::malformed_payload(format!(
            "The request's body is not what its content-encoding says: it is no whole {name} data."
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_ENCODING, name.parse().unwrap())])
    }

    #[tokio::test]
    async fn a_body_is_inflated_as_it_says() {
        let plain = Bytes::from_static(b"{\"a\": 1}");
        for (name, coding) in
            [("gzip", Coding::Gzip), ("X-Gzip", Coding::Gzip), ("deflate", Coding::Deflate), ("BR", Coding::Brotli)]
        {
            let encoded = headers(name);
            let compressed = Bytes::from(coding.compress(&plain).unwrap());
            assert_eq!(inflate(&encoded, compressed.clone(), 8).await, Ok(plain.clone()), "{name}");
            assert_eq!(inflate(&encoded, compressed, 7).await, Err(ApiError::too_large(7)), "{name}");
            assert_eq!(inflate(&encoded, Bytes::new(), 8).await, Ok(Bytes::new()), "{name}");
            let error = inflate(&encoded, plain.clone(), 8).await.unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (400, "MalformedPayload"), "{name}");
        }
        for name in ["", "identity", "Identity"] {
            assert_eq!(inflate(&headers(name), plain.clone(), 8).await, Ok(plain.clone()));
        }
        for name in ["zstd", "gzip, gzip", "compress"] {
            let error = inflate(&headers(name), plain.clone(), 8).await.unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (415, "UnsupportedMediaType"), "{name}");
        }
    }
}
