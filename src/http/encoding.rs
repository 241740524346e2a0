//! Content encodings, both ways: bodies of requests are inflated, and replies of the API are compressed for those who like
//! that. Bodies are whole here, so a reply keeps its length, and `HEAD` tells the same as `GET`.

use std::io::{self, Read};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use brotli::enc::BrotliEncoderParams;
use flate2::Compression;
use flate2::read::{GzEncoder, MultiGzDecoder, ZlibDecoder, ZlibEncoder};
use http_body_util::BodyExt as _;

use super::error::ApiError;
use super::header_text;

/// The shortest body that is compressed, in bytes (Taskcluster).
const SHORTEST: u64 = 1024;
/// Of 11. Above this, brotli takes much longer for little.
const BROTLI_QUALITY: i32 = 4;
/// The window's size, as a power of two: room for a whole page of namespaces.
const BROTLI_WINDOW: i32 = 19;
/// What a coding reads at a time, in bytes.
const BUFFER: usize = 8192;

/// In the extensions of a response: it holds a secret, so it is not compressed. The length of what is compressed tells
/// something of it to whoever chose a part of it, as the caller does with an expiry. (Replies that show a whole payload are
/// errors, and hold none.)
#[derive(Clone, Copy)]
pub(super) struct Secret;

/// A way of compressing; those further down are liked better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Coding {
    Deflate,
    Gzip,
    Brotli,
}

impl Coding {
    const ALL: [Coding; 3] = [Coding::Deflate, Coding::Gzip, Coding::Brotli];

    fn name(self) -> &'static str {
        match self {
            Coding::Deflate => "deflate",
            Coding::Gzip => "gzip",
            Coding::Brotli => "br",
        }
    }

    /// By its name in a header. (RFC 9110, section 8.4.1.3, has `x-gzip`.)
    fn named(name: &str) -> Option<Coding> {
        let name = if name.eq_ignore_ascii_case("x-gzip") { "gzip" } else { name };
        Coding::ALL.into_iter().find(|coding| coding.name().eq_ignore_ascii_case(name))
    }

    fn compress(self, plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut compressed = Vec::new();
        match self {
            Coding::Deflate => ZlibEncoder::new(plain, Compression::fast()).read_to_end(&mut compressed)?,
            Coding::Gzip => GzEncoder::new(plain, Compression::fast()).read_to_end(&mut compressed)?,
            Coding::Brotli => {
                let (quality, lgwin) = (BROTLI_QUALITY, BROTLI_WINDOW);
                let params = BrotliEncoderParams { quality, lgwin, size_hint: plain.len(), ..Default::default() };
                brotli::BrotliCompress(&mut &*plain, &mut compressed, &params)?
            }
        };
        Ok(compressed)
    }

    /// Inflates as far as the limit, and one byte more where there is more.
    fn inflate(self, compressed: &[u8], limit: usize) -> io::Result<Vec<u8>> {
        let reader: Box<dyn Read + '_> = match self {
            Coding::Deflate => Box::new(ZlibDecoder::new(compressed)),
            Coding::Gzip => Box::new(MultiGzDecoder::new(compressed)),
            // An extension of the format, which would have the decoder take up to a gigabyte for its window.
            Coding::Brotli if compressed.first().is_some_and(|first| first & 0x7f == 0x11) => {
                return Err(io::ErrorKind::InvalidData.into());
            }
            Coding::Brotli => Box::new(brotli::Decompressor::new(compressed, BUFFER)),
        };
        let mut plain = Vec::new();
        reader.take(u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut plain)?;
        Ok(plain)
    }
}

fn content_encoding(headers: &HeaderMap) -> &str {
    header_text(headers, header::CONTENT_ENCODING).unwrap_or_default().trim()
}

/// Whether a request says that its body has a content encoding.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    let name = content_encoding(headers);
    !name.is_empty() && !name.eq_ignore_ascii_case("identity")
}

/// A body without its content encoding. It is inflated no further than `limit` bytes.
///
/// # Errors
/// The encoding is not known, the data is not in it, or there is more than `limit` of it.
pub(super) async fn inflate(headers: &HeaderMap, body: Bytes, limit: usize) -> Result<Bytes, ApiError> {
    if body.is_empty() || !is_encoded(headers) {
        return Ok(body);
    }
    let name = content_encoding(headers).to_owned();
    let Some(coding) = Coding::named(&name) else {
        let message = format!(
            "The content-encoding {name} is not supported: send the body as it is, or in one of gzip, deflate and br"
        );
        return Err(ApiError::unsupported(message));
    };
    // It takes a while, and other requests must not wait for it.
    let inflated = tokio::task::spawn_blocking(move || coding.inflate(&body, limit)).await;
    match inflated.map_err(|panic| ApiError::internal(&panic))? {
        Ok(plain) if plain.len() > limit => Err(ApiError::too_large(limit)),
        Ok(plain) => Ok(plain.into()),
        Err(_) => Err(ApiError::malformed_payload(format!(
            "The request's body is not what its content-encoding says: it is no whole {name} data."
        ))),
    }
}

/// Which way of compressing the caller likes best; `None` for none. (RFC 9110, section 12.5.3.) Where even none is refused,
/// it is none all the same, as in Taskcluster: the request is done by then.
fn preferred(headers: &HeaderMap) -> Option<Coding> {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let given: Vec<_> = values.flat_map(|value| value.split(',')).map(weighed).collect();
    let exactly =
        |name: &str| given.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, weight)| *weight);
    let any = exactly("*");
    let plain = exactly("identity").unwrap_or(0);
    let liked = Coding::ALL.into_iter().map(|coding| (exactly(coding.name()).or(any).unwrap_or(0), coding));
    let (weight, best) = liked.max()?;
    (weight > 0 && weight >= plain).then_some(best)
}

/// A name and its weight in thousandths; what is no weight counts as a refusal.
fn weighed(item: &str) -> (&str, u16) {
    let mut parts = item.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let thousandths = |weight: f32| (weight.clamp(0.0, 1.0) * 1000.0).round() as u16;
    (name, weight.map_or(1000, |weight| weight.parse().map_or(0, thousandths)))
}

/// Compresses the reply where its caller likes that, it is long enough, and it is neither secret nor encoded already.
pub(super) async fn compress(request: Request, next: Next) -> Response {
    let preferred = preferred(request.headers());
    let response = next.run(request).await;
    let length = axum::body::HttpBody::size_hint(response.body()).lower();
    let Some(coding) = preferred.filter(|_| length >= SHORTEST) else { return response };
    if response.headers().contains_key(header::CONTENT_ENCODING) || response.extensions().get::<Secret>().is_some() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // It is in memory, so this can't fail.
    let plain = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let source = plain.clone();
    match tokio::task::spawn_blocking(move || coding.compress(&source)).await {
        Ok(Ok(compressed)) => {
            parts.headers.remove(header::CONTENT_LENGTH);
            parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
            Response::from_parts(parts, Body::from(compressed))
        }
        failed => {
            tracing::error!("a reply could not be compressed: {failed:?}");
            Response::from_parts(parts, Body::from(plain))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_caller_says_what_it_likes_best_and_brotli_is_preferred_among_equals() {
        for (accepted, best) in [
            (&[][..], None),
            (&[""], None),
            (&["identity"], None),
            (&["gzip"], Some(Coding::Gzip)),
            (&["GZIP"], Some(Coding::Gzip)),
            (&["deflate, gzip, br"], Some(Coding::Brotli)),
            (&["deflate", "gzip"], Some(Coding::Gzip)),
            (&["gzip;q=0.9, br ; q=0.8"], Some(Coding::Gzip)),
            (&["br;q=0, gzip;q=0.001"], Some(Coding::Gzip)),
            (&["br;q=0, gzip; q=0.000"], None),
            (&["*"], Some(Coding::Brotli)),
            (&["*;q=0"], None),
            (&["br;q=0, *"], Some(Coding::Gzip)),
            (&["gzip;q=1, *;q=0.5"], Some(Coding::Gzip)),
            (&["identity, gzip;q=0.5"], None),
            (&["identity;q=0.5, gzip"], Some(Coding::Gzip)),
            (&["identity;q=0, deflate;q=0.1"], Some(Coding::Deflate)),
            (&["identity;q=0"], None),
            (&["zstd, compress"], None),
            (&["gzip;q=x, deflate"], Some(Coding::Deflate)),
            (&["gzip;q=NaN"], None),
        ] {
            assert_eq!(preferred(&headers(header::ACCEPT_ENCODING, accepted)), best, "{accepted:?}");
        }
    }

    #[test]
    fn what_is_compressed_inflates_to_the_same_up_to_the_limit_and_is_shorter() {
        let plain = b"0123456789abcdef".repeat(4096);
        for coding in Coding::ALL {
            let compressed = coding.compress(&plain).unwrap();
            assert!(compressed.len() < plain.len() / 20, "{coding:?}: {}", compressed.len());
            assert_eq!(coding.inflate(&compressed, plain.len()).unwrap(), plain, "{coding:?}");
            assert_eq!(coding.inflate(&compressed, 100).unwrap(), plain[..101], "{coding:?}");
            for broken in [&compressed[..compressed.len() - 1], &plain, &compressed[1..], b"\n"] {
                assert!(coding.inflate(broken, plain.len()).is_err(), "{coding:?}");
            }
        }
    }

    /// The decoder would take such a window.
    #[test]
    fn brotli_with_a_large_window_is_refused() {
        let params = BrotliEncoderParams { quality: 4, large_window: true, lgwin: 28, ..Default::default() };
        let (plain, mut compressed) = (vec![b' '; 1 << 20], Vec::new());
        brotli::BrotliCompress(&mut &*plain, &mut compressed, &params).unwrap();
        let mut inflated = Vec::new();
        brotli::Decompressor::new(&*compressed, BUFFER).read_to_end(&mut inflated).unwrap();
        assert_eq!(inflated, plain, "the decoder itself takes it");
        assert!(Coding::Brotli.inflate(&compressed, plain.len()).is_err());
    }

    #[tokio::test]
    async fn a_body_is_inflated_as_it_says() {
        let plain = Bytes::from_static(b"{\"a\": 1}");
        for (name, coding) in
            [("gzip", Coding::Gzip), ("X-Gzip", Coding::Gzip), ("deflate", Coding::Deflate), ("BR", Coding::Brotli)]
        {
            let encoded = headers(header::CONTENT_ENCODING, &[name]);
            let compressed = Bytes::from(coding.compress(&plain).unwrap());
            assert_eq!(inflate(&encoded, compressed.clone(), 8).await, Ok(plain.clone()), "{name}");
            assert_eq!(inflate(&encoded, compressed, 7).await, Err(ApiError::too_large(7)), "{name}");
            assert_eq!(inflate(&encoded, Bytes::new(), 8).await, Ok(Bytes::new()), "{name}");
            let error = inflate(&encoded, plain.clone(), 8).await.unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (400, "MalformedPayload"), "{name}");
        }
        for name in ["", "identity", "Identity"] {
            assert_eq!(inflate(&headers(header::CONTENT_ENCODING, &[name]), plain.clone(), 8).await, Ok(plain.clone()));
        }
        for name in ["zstd", "gzip, gzip", "compress"] {
            let error = inflate(&headers(header::CONTENT_ENCODING, &[name]), plain.clone(), 8).await.unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (415, "UnsupportedMediaType"), "{name}");
        }
    }
}
