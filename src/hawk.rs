//! Hawk, as both ends need it: the MAC over a request, the hash of a payload, and signing a request.
//!
//! The README of the npm package `hawk` describes the scheme. Where it and the code of that package differ, the code
//! counts, because Taskcluster's auth service runs it. Verification is in `access::hawk`.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use url::Url;

use crate::clock::Timestamp;

/// The kind of Hawk authentication that a MAC belongs to. Each kind has its own first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An `Authorization` header.
    Header,
    /// A `bewit` in the query.
    Bewit,
}

/// The parts of a request that a MAC covers.
#[derive(Debug, Clone, Copy)]
pub struct Artifacts<'a> {
    /// Seconds since the Unix epoch, as sent; for a bewit, when it expires.
    pub ts: &'a str,
    /// The sender's random text; empty in a bewit.
    pub nonce: &'a str,
    /// The HTTP method, in any case.
    pub method: &'a str,
    /// The request target as sent: path and query.
    pub resource: &'a str,
    /// The host's name, in any case, without a port.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// The payload's hash as sent; empty if none was sent.
    pub hash: &'a str,
    /// The sender's `ext` as sent; empty if none was sent.
    pub ext: &'a str,
    /// The `app` as sent, with its `dlg`.
    pub app: Option<(&'a str, &'a str)>,
}

/// The text that is signed: one line for each part, `app` and `dlg` only if an `app` was sent.
pub fn normalized(kind: Kind, of: &Artifacts<'_>) -> String {
    let kind = match kind {
        Kind::Header => "hawk.1.header",
        Kind::Bewit => "hawk.1.bewit",
    };
    let Artifacts { ts, nonce, resource, port, hash, .. } = of;
    let (method, host) = (of.method.to_ascii_uppercase(), of.host.to_ascii_lowercase());
    let ext = of.ext.replace('\\', "\\\\").replace('\n', "\\n");
    let mut text = format!("{kind}\n{ts}\n{nonce}\n{method}\n{resource}\n{host}\n{port}\n{hash}\n{ext}\n");
    if let Some((app, dlg)) = of.app {
        text.push_str(&format!("{app}\n{dlg}\n"));
    }
    text
}

/// The MAC, in base64.
pub fn mac(kind: Kind, key: &str, of: &Artifacts<'_>) -> String {
    STANDARD.encode(hmac_sha256(key, &normalized(kind, of)))
}

/// The HMAC-SHA256 of `text` under `key`.
pub fn hmac_sha256(key: &str, text: &str) -> [u8; 32] {
    let mut hmac =
        Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap_or_else(|_| unreachable!("HMAC takes any key"));
    hmac.update(text.as_bytes());
    hmac.finalize().into_bytes().into()
}

/// The hash of a payload, in base64. Of the content type, only the part before a `;` counts, in lower case.
pub fn payload_hash(content_type: &str, body: &[u8]) -> String {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let hash = Sha256::new()
        .chain_update("hawk.1.payload\n")
        .chain_update(kind)
        .chain_update("\n")
        .chain_update(body)
        .chain_update("\n");
    STANDARD.encode(hash.finalize())
}

/// Who signs a request.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// The client's name.
    pub id: &'a str,
    /// Its key.
    pub key: &'a str,
    /// Its `ext`, in base64, if it needs one.
    pub ext: Option<&'a str>,
}

impl Signer<'_> {
    /// The `Authorization` header for a request to `url` at `now`. If there is a payload (content type and body), the
    /// header covers its hash. Each call makes a new nonce, so sign again for each attempt.
    pub fn header(&self, method: &str, url: &Url, payload: Option<(&str, &[u8])>, now: Timestamp) -> String {
        let resource = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let ts = (now.millis() / 1000).to_string();
        let nonce = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 9]>());
        let hash = payload.map(|(content_type, body)| payload_hash(content_type, body)).unwrap_or_default();
        let artifacts = Artifacts {
            ts: &ts,
            nonce: &nonce,
            method,
            resource: &resource,
            host: url.host_str().unwrap_or_default(),
            port: url.port_or_known_default().unwrap_or_default(),
            hash: &hash,
            ext: self.ext.unwrap_or_default(),
            app: None,
        };
        let mac = mac(Kind::Header, self.key, &artifacts);
        let mut header = format!(r#"Hawk id="{}", ts="{ts}", nonce="{nonce}", mac="{mac}""#, self.id);
        for (name, value) in [("hash", hash.as_str()), ("ext", artifacts.ext)] {
            if !value.is_empty() {
                header.push_str(&format!(r#", {name}="{value}""#));
            }
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of Taskcluster's own vectors; the whole table is in `tests/vectors`.
    #[test]
    fn the_mac_is_taskclusters() {
        let artifacts = Artifacts {
            ts: "1491183061",
            nonce: "RVnYzW",
            method: "get",
            resource: "/v1/namespaces",
            host: "PULSE.taskcluster.net",
            port: 443,
            hash: "",
            ext: "",
            app: None,
        };
        assert_eq!(mac(Kind::Header, "tok", &artifacts), "1kqRT9EoxiZ9AA/ayOCXB+AcjfK/BoJ+n7z0gfvZotQ=");
    }

    #[test]
    fn a_signed_header_carries_what_its_mac_covers() {
        let signer = Signer { id: "me", key: "key", ext: Some("e30=") };
        let url = Url::parse("https://tc.example.com/api/x?a=1").unwrap();
        let now = Timestamp::from_millis(1_736_942_400_999);
        let header = signer.header("POST", &url, Some(("application/json", b"{}")), now);
        let value = |name: &str| header.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap();
        let artifacts = Artifacts {
            ts: "1736942400",
            nonce: value("nonce"),
            method: "POST",
            resource: "/api/x?a=1",
            host: "tc.example.com",
            port: 443,
            hash: "vNZvU+y3rJKqH4hu1yxrNuaijNPgIJ2Rgj/sHzsQhXY=",
            ext: "e30=",
            app: None,
        };
        assert_eq!(value("mac"), mac(Kind::Header, "key", &artifacts));
        assert_eq!((value("id"), value("ts"), value("hash")), ("me", artifacts.ts, artifacts.hash));
        assert_ne!(header, signer.header("POST", &url, Some(("application/json", b"{}")), now));
    }
}
