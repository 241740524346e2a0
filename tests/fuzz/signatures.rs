//! Signed requests: whatever is changed in one, what is authenticated is what was signed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use regex::Regex;
use serde_json::{Value, json};
use taskcluster_pulse::access::clients::{AccessToken, Client, LocalDirectory};
use taskcluster_pulse::access::origin::Origin;
use taskcluster_pulse::access::roles::{Role, Roles};
use taskcluster_pulse::access::scope::any_satisfies;
use taskcluster_pulse::access::{Authenticator, Caller, Read, Refusal, SignedRequest, Who};
use taskcluster_pulse::clock::Timestamp;
use taskcluster_pulse::hawk::{Artifacts, Kind, hmac_sha256, mac};

use crate::driver::{Random, assert_hides, fuzz};

const NOW: Timestamp = Timestamp::from_millis(1_736_942_400_000);
const KEYS: &[&str] = &["canary-key-of-a", "canary-key-of-b"];
const HEADER_PARTS: &[&str] = &[
    "Hawk ",
    "id=\"b\"",
    "ts=\"1736942400\"",
    "nonce=\"x\"",
    "mac=\"",
    "hash=\"",
    "ext=\"e30=\"",
    "app=\"x\"",
    "dlg=\"x\"",
    ", ",
    "\", ",
    "=\"",
    "\"",
    "\\",
    "==",
    "hawk\t",
];
const TARGET_PARTS: &[&str] =
    &["?bewit=", "&bewit=", "bewit=", "&", "?", "/", "%2F", "..", "$", "#", "bewit=&", "?a=1", "%00", "é"];
const LETTERS: &[&str] = &["a", "b", "/", "-", "_", "0", "%20", "~", ".", "Z"];

/// A client who may do something, one who may do nothing, and what everybody may.
fn authenticator() -> Authenticator {
    let client = |id: &str, key: &str, scopes: &[&str]| Client {
        id: id.to_owned(),
        access_token: AccessToken::new(key.to_owned()),
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        expires: None,
    };
    let role = |id: &str, scope: &str| Role { id: id.to_owned(), scopes: vec![scope.to_owned()] };
    let roles = Roles::new(vec![role("anonymous", "everybody"), role("r:*", "granted:<..>")]).unwrap();
    let lender = &["a:*", "b", "assume:r:*", "auth:create-client:temporary"][..];
    Authenticator::new(LocalDirectory::new(vec![client("a", KEYS[0], lender), client("b", KEYS[1], &[])], roles))
}

/// A request as it may be changed on its way.
#[derive(Debug, Clone, PartialEq)]
struct Sent {
    method: String,
    resource: String,
    host: String,
    port: u16,
    header: Option<Vec<u8>>,
}

impl Sent {
    fn validate(&self, authenticator: &Authenticator) -> Result<Caller, Refusal> {
        let (host, source_ip) = (self.host.to_ascii_lowercase(), IpAddr::from([127, 0, 0, 1]));
        let origin = Origin { host, port: self.port, source_ip };
        let Sent { method, resource, header, .. } = self;
        let request = SignedRequest { method, resource, origin: &origin, authorization: header.as_deref() };
        let result = authenticator.validate(&Read::of(&request), NOW);
        if let Err(refusal) = &result {
            assert_hides(&format!("{refusal} {refusal:?}"), KEYS);
        }
        result
    }

    /// Changes something of it.
    fn mutate(&mut self, random: &mut Random) {
        match (random.below(8), &self.header) {
            (0, _) => self.method = random.pick(&["GET", "get", "HEAD", "POST", "post", "", "PUT"]).to_owned(),
            (1, _) => self.host = random.mutated_text(&self.host, &["A", "a.", "[::1]"]),
            (2, _) => self.port = random.pick(&[&0, &80, &443, &444, &65535]).to_owned(),
            (3, _) | (_, None) => self.resource = random.mutated_text(&self.resource, TARGET_PARTS),
            (_, Some(header)) => self.header = Some(random.mutated(header, HEADER_PARTS)),
        }
    }
}

/// Everything that a signature covers, at random.
struct Signed {
    ts: String,
    nonce: String,
    hash: String,
    ext: String,
    app: Option<(String, String)>,
}

impl Signed {
    fn new(random: &mut Random) -> Signed {
        let some = |random: &mut Random| format!("n{}", random.text(LETTERS, 5));
        Signed {
            ts: (NOW.millis() / 1000 + 800 - random.below(1600) as i64).to_string(),
            nonce: some(random),
            hash: if random.once_in(2) { some(random) } else { String::new() },
            ext: String::new(),
            app: random.once_in(3).then(|| (some(random), some(random))),
        }
    }

    /// The header for a request of `id`, signed under `key`.
    fn header(&self, id: &str, key: &str, sent: &Sent) -> Vec<u8> {
        let Sent { method, resource, host, port, .. } = sent;
        let app = self.app.as_ref().map(|(app, dlg)| (app.as_str(), dlg.as_str()));
        let (ts, nonce, hash, ext) = (&self.ts, &self.nonce, &self.hash, &self.ext);
        let mac = mac(Kind::Header, key, &Artifacts { ts, nonce, method, resource, host, port: *port, hash, ext, app });
        let mut header = format!("Hawk id=\"{id}\", ts=\"{ts}\", nonce=\"{nonce}\", mac=\"{mac}\"");
        let (app, dlg) = app.unwrap_or_default();
        for (name, value) in [("hash", hash.as_str()), ("ext", ext), ("app", app), ("dlg", dlg)] {
            if !value.is_empty() {
                header += &format!(", {name}=\"{value}\"");
            }
        }
        header.into_bytes()
    }
}

fn sent(random: &mut Random) -> Sent {
    let query = if random.once_in(2) { format!("?{}", random.text(LETTERS, 4)) } else { String::new() };
    Sent {
        method: random.pick(&["GET", "POST", "HEAD", "PUT"]).to_owned(),
        resource: format!("/{}{query}", random.text(LETTERS, 8)),
        host: random.pick(&["pulse.example.com", "127.0.0.1", "[::1]", "h"]).to_owned(),
        port: random.pick(&[&80, &443, &8080]).to_owned(),
        header: None,
    }
}

/// The attributes of a header, read in the simplest way there is. A `dlg` is signed only with an `app`.
fn attributes(header: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(header).into_owned();
    let (_, list) = text.split_at(4);
    static EACH: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"(\w+)="([^"]*)""#).unwrap());
    let mut found: BTreeMap<_, _> = EACH.captures_iter(list).map(|of| (of[1].to_owned(), of[2].to_owned())).collect();
    if !found.contains_key("app") {
        found.remove("dlg");
    }
    found
}

/// Whether two hosts of a URL are the same: an address of IPv6 has several spellings.
fn is_one_host(one: &str, other: &str) -> bool {
    let address = |host: &str| host.trim_matches(['[', ']']).parse::<std::net::Ipv6Addr>().ok();
    one.eq_ignore_ascii_case(other) || address(one).is_some_and(|one| Some(one) == address(other))
}

#[test]
fn a_changed_request_is_refused_or_means_the_same() {
    let authenticator = authenticator();
    fuzz(1, |random| {
        let (signed, mut original) = (Signed::new(random), sent(random));
        original.header = Some(signed.header("a", KEYS[0], &original));
        let known = original.validate(&authenticator).unwrap();
        let mut changed = original.clone();
        changed.mutate(random);
        let Ok(caller) = changed.validate(&authenticator) else { return };
        let Some(header) = changed.header.as_ref().filter(|header| !header.is_empty()) else {
            return assert_eq!(caller.who, Who::Anonymous);
        };
        assert_eq!(attributes(header), attributes(original.header.as_ref().unwrap()), "{changed:?}");
        assert_eq!(caller, known, "{changed:?}");
        assert!(changed.method.eq_ignore_ascii_case(&original.method), "{changed:?}");
        assert!(is_one_host(&changed.host, &original.host), "{changed:?}");
        assert_eq!((&changed.resource, changed.port), (&original.resource, original.port), "{changed:?}");
    });
}

#[test]
fn a_changed_bewit_is_refused_or_means_the_same() {
    let authenticator = authenticator();
    fuzz(1, |random| {
        let mut original = Sent { method: "GET".into(), ..sent(random) };
        let (unsigned, ts) =
            (original.resource.clone(), (NOW.millis() / 1000 + 1 + random.below(9) as i64).to_string());
        let ext = if random.once_in(3) { STANDARD.encode(r#"{"authorizedScopes":["b"]}"#) } else { String::new() };
        let Sent { host, port, .. } = &original;
        let of = Artifacts {
            ts: &ts,
            nonce: "",
            method: "GET",
            resource: &unsigned,
            host,
            port: *port,
            hash: "",
            ext: &ext,
            app: None,
        };
        let content = format!("a\\{ts}\\{}\\{ext}", mac(Kind::Bewit, KEYS[0], &of));
        let separator = if unsigned.contains('?') { '&' } else { '?' };
        original.resource = format!("{unsigned}{separator}bewit={}", URL_SAFE_NO_PAD.encode(&content));
        let known = original.validate(&authenticator).unwrap();
        let mut changed = original.clone();
        changed.mutate(random);
        let Ok(caller) = changed.validate(&authenticator) else { return };
        if !caller.is_known() {
            return;
        }
        assert_eq!(caller, known, "{changed:?}");
        assert!(["GET", "HEAD"].iter().any(|method| changed.method.eq_ignore_ascii_case(method)), "{changed:?}");
        assert!(is_one_host(&changed.host, &original.host) && changed.port == original.port, "{changed:?}");
        assert!(without_bewit(&changed.resource).contains(&unsigned), "{changed:?}");
    });
}

/// A target without one of its bewits, for each of them.
fn without_bewit(resource: &str) -> Vec<String> {
    let each = resource.match_indices("bewit=").filter(|(at, _)| *at > 0);
    each.map(|(at, _)| {
        let (before, value) = (&resource[..at - 1], &resource[at..]);
        match value.split_once('&') {
            Some((_, after)) => format!("{before}{}{after}", &resource[at - 1..at]),
            None => before.to_owned(),
        }
    })
    .collect()
}

/// Temporary credentials that `a` made: for itself, or for `temporary`.
struct Temporary {
    id: &'static str,
    key: String,
    certificate: Value,
    scopes: Vec<String>,
    expiry: i64,
}

impl Temporary {
    fn new(random: &mut Random) -> Temporary {
        let named = random.once_in(2);
        let seed = "s".repeat(44);
        let (start, expiry) = (NOW.millis() - 1000, NOW.millis() + 1000 * (1 + random.below(100) as i64));
        let mut scopes: Vec<String> = ["a:x", "a:y*", "b", "assume:r:q"]
            .iter()
            .filter(|_| random.once_in(2))
            .map(|&scope| scope.into())
            .collect();
        let names = if named { "clientId:temporary\nissuer:a\n" } else { "" };
        let mut text = format!("version:1\n{names}seed:{seed}\nstart:{start}\nexpiry:{expiry}\nscopes:");
        scopes.iter().for_each(|scope| text += &format!("\n{scope}"));
        let signature = STANDARD.encode(hmac_sha256(KEYS[0], &text));
        let mut certificate = json!({
            "version": 1, "seed": seed, "start": start, "expiry": expiry, "scopes": scopes, "signature": signature,
        });
        if named {
            certificate["issuer"] = json!("a");
        }
        // What `assume:r:q` brings with it.
        if scopes.iter().any(|scope| scope == "assume:r:q") {
            scopes.push("granted:q".into());
        }
        let (id, key) = (if named { "temporary" } else { "a" }, URL_SAFE_NO_PAD.encode(hmac_sha256(KEYS[0], &seed)));
        Temporary { id, key, certificate, scopes, expiry }
    }
}

/// Whoever holds temporary credentials can sign whatever `ext` they like.
#[test]
fn temporary_credentials_never_give_more_than_was_lent() {
    let authenticator = authenticator();
    fuzz(2, |random| {
        let temporary = Temporary::new(random);
        let (mut ext, mut signed, mut request) =
            (json!({ "certificate": temporary.certificate }), Signed::new(random), sent(random));
        let plain = STANDARD.encode(ext.to_string());
        signed.ext.clone_from(&plain);
        request.header = Some(signed.header(temporary.id, &temporary.key, &request));
        let known = request.validate(&authenticator).unwrap();
        assert_eq!(known.expires, Some(Timestamp::from_millis(temporary.expiry)));

        if random.once_in(2) {
            ext["authorizedScopes"] =
                json!([random.pick(&["a:x", "a:yes", "a:*", "b", "*", "assume:r:*", "everybody"])]);
        }
        let ext = random.mutated_json(ext).to_string();
        let bytes =
            if random.once_in(3) { random.mutated(ext.as_bytes(), &["\\u0000", "1e400", "[[["]) } else { ext.into() };
        signed.ext = if random.once_in(2) { STANDARD.encode(&bytes) } else { URL_SAFE_NO_PAD.encode(&bytes) };
        if random.once_in(5) {
            signed.ext = random.mutated_text(&plain, &["=", "-", "_", "+", "/"]);
        }
        let id = random.pick(&[temporary.id, temporary.id, temporary.id, "a", "b", "temporary", "other"]);
        let key = random.pick(&[temporary.key.as_str(), temporary.key.as_str(), KEYS[1]]);
        request.header = Some(signed.header(id, key, &request));
        let Ok(caller) = request.validate(&authenticator) else { return };
        let lent = if key == KEYS[1] { &[][..] } else { &temporary.scopes };
        for scope in &caller.scopes {
            let everybodys = ["assume:anonymous", "everybody"].contains(&scope.as_str());
            assert!(
                everybodys || any_satisfies(lent, scope),
                "{scope} was gained by {}",
                String::from_utf8_lossy(&bytes)
            );
        }
        if key == temporary.key {
            assert_eq!(caller.who.name(), Some(temporary.id));
            assert!(caller.expires <= known.expires && caller.expires.is_some(), "{caller:?}");
        }
    });
}

/// Taskcluster's own cases, changed in any way.
#[test]
fn a_mutated_vector_is_judged() {
    let file: Value = serde_json::from_str(include_str!("../vectors/validator.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    let authenticator = authenticator();
    fuzz(1, |random| {
        let request = &cases[random.below(cases.len())]["request"];
        let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
        let header = request["authorization"].as_str().map(|header| header.as_bytes().to_vec());
        let port = u16::try_from(request["port"].as_u64().unwrap_or(0)).unwrap_or(0);
        let mut request = Sent { method: text("method"), resource: text("resource"), host: text("host"), port, header };
        (0..=random.below(3)).for_each(|_| request.mutate(random));
        if let Ok(caller) = request.validate(&authenticator) {
            assert_eq!(caller.who, Who::Anonymous, "nobody here has the keys of the cases: {request:?}");
        }
    });
}
