//! Content encodings: what undoes and makes them, and the compression of replies for those who like that.
//!
//! Bodies are whole here, so a reply keeps its length, `HEAD` tells the same as `GET`, and what is compressed at a time, and
//! waits for it, is bounded. A reply that streams passes as it is.
//!
//! The layer of tower-http (0.7.1) chooses among codings as we do, but does not keep what
//! `long_replies_are_compressed_as_the_caller_likes_and_hold_the_same` asks: what it compresses has no `Content-Length`, to `HEAD`
//! neither, and who refuses each coding (`br;q=0, gzip;q=0.0, *;q=0`, `identity;q=0`) is answered 406 once the request is done.
//! A layer around it could take the refusals out of what it sees; but it compresses as it writes, on the threads that answer, and
//! nothing bounds how many replies it works at. To collect and bound what it makes would take as much code as is here.

use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use brotli::enc::BrotliEncoderParams;
use flate2::Compression;
use flate2::read::{GzEncoder, MultiGzDecoder, ZlibDecoder, ZlibEncoder};
use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;

use super::around::{Edge, face, room_for};

/// The shortest body that is compressed, in bytes (Taskcluster).
const SHORTEST: u64 = 1024;
/// Of 11. Above this, brotli takes much longer for little.
const BROTLI_QUALITY: i32 = 4;
/// The window's size, as a power of two: room for the whole body, or for a whole page of namespaces. Memory of twice its size is
/// taken and filled with zeros.
const BROTLI_WINDOWS: RangeInclusive<u32> = 12..=19;
/// What a coding reads at a time, in bytes.
const BUFFER: usize = 8192;

/// How many bodies are inflated at a time, and how many replies compressed: each takes up to some MiB meanwhile, and the
/// runtime would do hundreds at once.
pub(in crate::web) const AT_A_TIME: usize = 4;
static COMPRESSING: Semaphore = Semaphore::const_new(AT_A_TIME);

/// In the extensions of a response: it holds a secret, so it is not compressed. The length of what is compressed tells
/// something of it to whoever chose a part of it, as the caller does with an expiry. (Replies that show a whole payload are
/// errors, and hold none.)
#[derive(Clone, Copy)]
pub(in crate::web) struct Secret;

/// A way of compressing; those further down are liked better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::web) enum Coding {
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
    pub fn named(name: &str) -> Option<Coding> {
        let name = if name.eq_ignore_ascii_case("x-gzip") { "gzip" } else { name };
        Coding::ALL.into_iter().find(|coding| coding.name().eq_ignore_ascii_case(name))
    }

    pub fn compress(self, plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut compressed = Vec::new();
        match self {
            Coding::Deflate => ZlibEncoder::new(plain, Compression::fast()).read_to_end(&mut compressed)?,
            Coding::Gzip => GzEncoder::new(plain, Compression::fast()).read_to_end(&mut compressed)?,
            Coding::Brotli => {
                let window = plain.len().checked_ilog2().unwrap_or(0) + 1;
                let window = window.clamp(*BROTLI_WINDOWS.start(), *BROTLI_WINDOWS.end());
                let (quality, lgwin) = (BROTLI_QUALITY, window.cast_signed());
                let params = BrotliEncoderParams { quality, lgwin, size_hint: plain.len(), ..Default::default() };
                brotli::BrotliCompress(&mut &*plain, &mut compressed, &params)?
            }
        };
        Ok(compressed)
    }

    /// Inflates as far as the limit, and one byte more where there is more.
    pub fn inflate(self, compressed: &[u8], limit: usize) -> io::Result<Vec<u8>> {
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
pub(in crate::web) async fn compress(State(edge): State<Arc<Edge>>, request: Request, next: Next) -> Response {
    let preferred = preferred(request.headers());
    let response = next.run(request).await;
    let length = axum::body::HttpBody::size_hint(response.body()).lower();
    let Some(coding) = preferred.filter(|_| length >= SHORTEST) else { return response };
    if response.headers().contains_key(header::CONTENT_ENCODING) || response.extensions().get::<Secret>().is_some() {
        return response;
    }
    // It waits for a permit with others, and they must not take more than there is meanwhile.
    let _room = match room_for(&edge, usize::try_from(length).unwrap_or(usize::MAX)) {
        Ok(room) => room,
        Err(overload) => return (face(&response).refuse)(&overload),
    };
    let (mut parts, body) = response.into_parts();
    // It is in memory, so this can't fail.
    let plain = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let source = plain.clone();
    let _permit = COMPRESSING.acquire().await;
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
}
