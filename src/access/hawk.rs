//! Hawk as the verifying side sees it: reading an `Authorization` header or a bewit, and checking it with the key.
//!
//! What is read, what is refused and in which words is what npm's `hawk` 9 does, which Taskcluster's auth service runs.
//! A time that is no decimal number is refused here and let through there; see `seconds`.

use std::net::Ipv6Addr;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use super::base64::decode_base64;
use super::origin::Origin;
use super::request::SignedRequest;
use crate::clock::Timestamp;
use crate::hawk::{Artifacts, Kind, mac};

/// The longest header, or target of a request with a bewit, that is looked at, in bytes.
const LONGEST: usize = 4096;
/// How far a header's time may be from ours, either way.
pub(super) const SKEW: Duration = Duration::from_secs(15 * 60);
/// The attributes that a header may have.
const ATTRIBUTES: [&str; 8] = ["id", "ts", "nonce", "hash", "ext", "mac", "app", "dlg"];
/// What a header says in each of [`ATTRIBUTES`].
type Given = [Option<String>; ATTRIBUTES.len()];

/// Why a header or a bewit is refused, in Taskcluster's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The header is longer than 4096 bytes.
    #[error("Bad Request: Header length too long")]
    HeaderTooLong,
    /// The header is not a scheme followed by something.
    #[error("Bad Request: Invalid header syntax")]
    HeaderSyntax,
    /// The header is of another scheme, or the bewit stands where none is found.
    #[error("Unauthorized: Unauthorized")]
    Unauthorized,
    /// An attribute that Hawk doesn't have.
    #[error("Bad Request: Unknown attribute: {0}")]
    UnknownAttribute(String),
    /// An attribute's value is empty or holds a character that it may not.
    #[error("Bad Request: Bad attribute value: {0}")]
    BadAttribute(String),
    /// An attribute that was there already.
    #[error("Bad Request: Duplicate attribute: {0}")]
    DuplicateAttribute(String),
    /// Something else than attributes with commas between them.
    #[error("Bad Request: Bad header format")]
    HeaderFormat,
    /// One of `id`, `ts`, `nonce` and `mac` is missing.
    #[error("Bad Request: Missing attributes")]
    MissingAttributes,
    /// The target of a request with a bewit is longer than 4096 bytes.
    #[error("Bad Request: Resource path exceeds max length")]
    ResourceTooLong,
    /// `bewit=` without a value.
    #[error("Unauthorized: Empty bewit")]
    EmptyBewit,
    /// A bewit in a request that is neither GET nor HEAD.
    #[error("Unauthorized: Invalid method")]
    Method,
    /// The bewit is not base64url.
    #[error("Bad Request: Invalid bewit encoding")]
    BewitEncoding,
    /// The bewit is not of four parts.
    #[error("Bad Request: Invalid bewit structure")]
    BewitStructure,
    /// The bewit lacks its id, its expiry or its MAC.
    #[error("Bad Request: Missing bewit attributes")]
    MissingBewitAttributes,
    /// The MAC is not the one that the key gives.
    #[error("Unauthorized: Bad mac")]
    BadMac,
    /// The header's time is too far from ours.
    #[error("Unauthorized: Stale timestamp")]
    Stale,
    /// The bewit has expired.
    #[error("Unauthorized: Access expired")]
    Expired,
}

/// What a request says of its sender. Nothing of it is true before [`Proof::verify`] says so.
pub struct Proof {
    kind: Kind,
    /// The client's name.
    pub id: String,
    /// The sender's `ext`.
    pub ext: Option<String>,
    /// The hash of the payload.
    pub hash: Option<String>,
    ts: String,
    nonce: String,
    mac: String,
    app: Option<String>,
    dlg: Option<String>,
    method: String,
    resource: String,
}

impl Proof {
    /// Reads the header where there is one, else the bewit; `None` where there is neither.
    pub fn read(request: &SignedRequest<'_>) -> Result<Option<Proof>, Error> {
        match request.authorization.filter(|header| !header.is_empty()) {
            Some(header) => Proof::from_header(header, request).map(Some),
            None if has_bewit(request.resource) => Proof::from_bewit(request).map(Some),
            None => Ok(None),
        }
    }

    fn from_header(header: &[u8], request: &SignedRequest<'_>) -> Result<Proof, Error> {
        let [id, ts, nonce, hash, ext, mac, app, dlg] = attributes(header)?;
        let (Some(id), Some(ts), Some(nonce), Some(mac)) = (id, ts, nonce, mac) else {
            return Err(Error::MissingAttributes);
        };
        Ok(Proof {
            kind: Kind::Header,
            id,
            ext,
            hash,
            ts,
            nonce,
            mac,
            app,
            dlg,
            method: request.method.to_owned(),
            resource: request.resource.to_owned(),
        })
    }

    /// A bewit is `id\expiry\mac\ext` in base64url. Its MAC covers the target without it, always as of a GET.
    fn from_bewit(request: &SignedRequest<'_>) -> Result<Proof, Error> {
        if request.resource.len() > LONGEST {
            return Err(Error::ResourceTooLong);
        }
        let (before, separator, bewit, after) = split_at_bewit(request.resource).ok_or(Error::Unauthorized)?;
        if bewit.is_empty() {
            return Err(Error::EmptyBewit);
        }
        if !["GET", "HEAD"].iter().any(|method| request.method.eq_ignore_ascii_case(method)) {
            return Err(Error::Method);
        }
        if !bewit.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
            return Err(Error::BewitEncoding);
        }
        let bytes = decode_base64(bewit).ok_or(Error::BewitEncoding)?;
        let text: String = bytes.into_iter().map(char::from).collect();
        let parts: Vec<&str> = text.split('\\').collect();
        let [id, expiry, mac, ext] = parts[..] else { return Err(Error::BewitStructure) };
        // In a header it can't hold anything else, and what goes to logs and errors had better not.
        if !id.bytes().all(is_printable) {
            return Err(Error::BewitStructure);
        }
        if id.is_empty() || expiry.is_empty() || mac.is_empty() {
            return Err(Error::MissingBewitAttributes);
        }
        let separator = if after.is_empty() { "" } else { separator };
        Ok(Proof {
            kind: Kind::Bewit,
            id: id.to_owned(),
            ext: Some(ext.to_owned()).filter(|ext| !ext.is_empty()),
            hash: None,
            ts: expiry.to_owned(),
            nonce: String::new(),
            mac: mac.to_owned(),
            app: None,
            dlg: None,
            method: "GET".to_owned(),
            resource: format!("{before}{separator}{after}"),
        })
    }

    /// A hash of what no other request has; `None` for a bewit, which is meant to be used again and again. To be asked for
    /// once the request is verified. The MAC covers everything but the client's name, and is in it because short nonces
    /// alone collide.
    ///
    /// # Errors
    /// [`Error::Stale`] where the header's time is none.
    pub fn fingerprint(&self) -> Result<Option<[u8; 32]>, Error> {
        if self.kind == Kind::Bewit {
            return Ok(None);
        }
        seconds(&self.ts).ok_or(Error::Stale)?;
        let text = [&self.id, &self.ts, &self.nonce, &self.mac].map(String::as_str).join("\n");
        Ok(Some(Sha256::digest(text).into()))
    }

    /// When the sender says that it signed the header; `None` for a bewit, which doesn't say.
    pub fn signed_at(&self) -> Option<Timestamp> {
        let seconds = seconds(&self.ts).filter(|_| self.kind == Kind::Header)?;
        Some(Timestamp::from_millis((seconds * 1000.0) as i64))
    }

    /// Checks the MAC with the client's key, then the time. The MAC's comparison takes the same time wherever it
    /// differs.
    pub fn verify(&self, key: &str, origin: &Origin, now: Timestamp) -> Result<(), Error> {
        let is_signed_for = |host: &str| {
            let of = Artifacts {
                ts: &self.ts,
                nonce: &self.nonce,
                method: &self.method,
                resource: &self.resource,
                host,
                port: origin.port,
                hash: self.hash.as_deref().unwrap_or_default(),
                ext: self.ext.as_deref().unwrap_or_default(),
                app: self.app.as_deref().map(|app| (app, self.dlg.as_deref().unwrap_or_default())),
            };
            bool::from(mac(self.kind, key, &of).as_bytes().ct_eq(self.mac.as_bytes()))
        };
        if !is_signed_for(&origin.host) && !spellings(&origin.host).iter().any(|host| is_signed_for(host)) {
            return Err(Error::BadMac);
        }
        let ahead = seconds(&self.ts).map(|seconds| seconds * 1000.0 - now.millis() as f64);
        match self.kind {
            Kind::Header if ahead.is_none_or(|ahead| ahead.abs() > SKEW.as_secs_f64() * 1000.0) => Err(Error::Stale),
            Kind::Bewit if ahead.is_none_or(|ahead| ahead <= 0.0) => Err(Error::Expired),
            _ => Ok(()),
        }
    }
}

/// The other ways in which clients write a host in what they sign, where it is an address of IPv6: most leave out the brackets
/// that stand around it in a URL, and some sign it as it was written there. They all mean the same host.
fn spellings(host: &str) -> Vec<String> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let Some(address) = bare.and_then(|bare| bare.parse::<Ipv6Addr>().ok()) else { return Vec::new() };
    let segments = address.segments();
    let long = segments.map(|segment| format!("{segment:x}")).join(":");
    let full = segments.map(|segment| format!("{segment:04x}")).join(":");
    let bare = [bare.unwrap_or_default().to_owned(), address.to_string(), long, full];
    let bracketed = bare.each_ref().map(|bare| format!("[{bare}]"));
    bare.into_iter().chain(bracketed).collect()
}

/// Whether a request for `resource` is to be taken for one with a bewit.
fn has_bewit(resource: &str) -> bool {
    resource.starts_with('/') && (resource.contains("?bewit=") || resource.contains("&bewit="))
}

/// A target with a bewit as what stands before it, `?` or `&`, the bewit, and what follows it. Of several bewits it is
/// the last. One with a `$` is none, nor is one with a `&` and nothing behind it.
fn split_at_bewit(resource: &str) -> Option<(&str, &str, &str, &str)> {
    const NAME: &str = "bewit=";
    resource.rmatch_indices(NAME).find_map(|(at, _)| {
        let before = resource[..at].strip_suffix(['?', '&'])?;
        let value = &resource[at + NAME.len()..];
        let (bewit, after) = match value.split_once('&') {
            Some((_, "")) => return None,
            Some(both) => both,
            None => (value, ""),
        };
        (!bewit.contains('$')).then_some((before, &resource[before.len()..at], bewit, after))
    })
}

/// The attributes of a Hawk header. Where several things are wrong with it, the last wrong attribute is named.
fn attributes(header: &[u8]) -> Result<Given, Error> {
    if header.len() > LONGEST {
        return Err(Error::HeaderTooLong);
    }
    let (scheme, list) = header.split_at(word_length(header));
    if scheme.is_empty() || list.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
        return Err(Error::HeaderSyntax);
    }
    if !scheme.eq_ignore_ascii_case(b"hawk") {
        return Err(Error::Unauthorized);
    }
    let mut rest = list.trim_ascii_start();
    if rest.is_empty() {
        return Err(Error::HeaderSyntax);
    }
    let (mut given, mut wrong, mut not_understood) = (Given::default(), None, false);
    while !rest.is_empty() {
        let Some((name, value, behind)) = leading_attribute(rest) else {
            not_understood = true;
            rest = &rest[word_length(rest).max(1)..];
            continue;
        };
        rest = behind;
        let known = ATTRIBUTES.iter().position(|attribute| attribute.as_bytes() == name);
        let error = match known.map(|at| &mut given[at]) {
            None => Error::UnknownAttribute,
            Some(_) if value.is_empty() || !value.iter().copied().all(is_printable) => Error::BadAttribute,
            Some(Some(_)) => Error::DuplicateAttribute,
            Some(none) => {
                *none = Some(String::from_utf8_lossy(value).into_owned());
                continue;
            }
        };
        wrong = Some(error(String::from_utf8_lossy(name).into_owned()));
    }
    match wrong {
        Some(wrong) => Err(wrong),
        None if not_understood => Err(Error::HeaderFormat),
        None => Ok(given),
    }
}

/// The attribute with which `text` begins, as its name, its value, and what follows it and its comma. A value holds no
/// `"` and no backslash.
fn leading_attribute(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name, rest) = text.split_at(word_length(text));
    let rest = rest.strip_prefix(b"=\"").filter(|_| !name.is_empty())?;
    let (value, rest) = rest.split_at(rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?);
    match rest.strip_prefix(b"\"")?.trim_ascii_start() {
        [] => Some((name, value, &[])),
        [b',', behind @ ..] => Some((name, value, behind.trim_ascii_start())),
        _ => None,
    }
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

fn word_length(text: &[u8]) -> usize {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    text.iter().position(|byte| !is_word(byte)).unwrap_or(text.len())
}

/// A time in seconds, as a decimal number with or without blanks around it, a sign, a fraction and an exponent. Taskcluster
/// lets a signed text that is no number (`NaN`) pass as if it were always fresh, and takes JavaScript's other spellings (`0x10`).
/// No client writes these, and what can't be compared must not count as fresh, so here they are none.
fn seconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let decimal = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    decimal.then(|| text.parse().ok()).flatten().filter(|seconds: &f64| seconds.is_finite())
}
