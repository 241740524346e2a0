//! Signatures that are good, as clients make them.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use taskcluster_pulse::clock::{Clock, Timestamp};
use taskcluster_pulse::hawk::{Artifacts, Kind, hmac_sha256, mac};

use super::site::{Site, access_token};
use crate::support::world::HOUR;

/// A certificate of the client `issuer` for `scopes`, for the next hour, and the key that goes with it; with a name for
/// credentials of their own name.
pub fn temporary(site: &Site, name: Option<&str>, scopes: &[&str]) -> (Value, String) {
    let seed = "s".repeat(44);
    let now = site.world.clock.now();
    let (start, expiry) = (now.millis(), now.plus(HOUR).millis());
    let named = name.map(|name| format!("clientId:{name}\nissuer:issuer\n")).unwrap_or_default();
    let scope_lines = scopes.join("\n");
    let text = format!("version:1\n{named}seed:{seed}\nstart:{start}\nexpiry:{expiry}\nscopes:\n{scope_lines}");
    let issuer_key = access_token("issuer");
    let mut certificate = json!({
        "version": 1, "scopes": scopes, "start": start, "expiry": expiry, "seed": seed,
        "signature": STANDARD.encode(hmac_sha256(&issuer_key, &text)),
    });
    if name.is_some() {
        certificate["issuer"] = json!("issuer");
    }
    (json!({"certificate": certificate}), URL_SAFE_NO_PAD.encode(hmac_sha256(&issuer_key, &seed)))
}

#[tokio::test]
async fn temporary_credentials_claim_what_their_certificate_grants() {
    let site = Site::new().await;
    let post = |name: &str| site.ask(Method::POST, &format!("/api/pulse/v1/namespace/{name}")).json("{}");
    for name in [None, Some("temporary")] {
        let id = name.unwrap_or("issuer");
        let (ext, key) = temporary(&site, name, &["pulse:namespace:taskcluster-x"]);
        post("taskcluster-x").signed_with(id, &key).ext(&ext).send().await.good();
        let other = post("taskcluster-y").signed_with(id, &key).ext(&ext).send().await;
        assert_eq!(other.verdict(), (403, "InsufficientScopes"), "{}", other.text);
        let issuers_key = post("taskcluster-x").signed_with(id, &access_token("issuer")).ext(&ext).send().await;
        assert_eq!(issuers_key.verdict(), (401, "AuthenticationFailed"));

        let (too_much, key) = temporary(&site, name, &["pulse:namespace:*"]);
        let refused = post("taskcluster-x").signed_with(id, &key).ext(&too_much).send().await;
        assert_eq!(refused.verdict(), (401, "AuthenticationFailed"), "{}", refused.text);
    }
    let (ext, key) = temporary(&site, None, &["pulse:namespace:taskcluster-x"]);
    site.world.clock.advance(HOUR + Duration::from_secs(6 * 60));
    let late = post("taskcluster-x").signed_with("issuer", &key).ext(&ext).send().await;
    assert_eq!(late.verdict(), (401, "AuthenticationFailed"), "{}", late.text);
}

#[tokio::test]
async fn authorized_scopes_narrow_what_a_client_may() {
    let site = Site::new().await;
    let claim = |name: &str| {
        let ask = site.ask(Method::POST, &format!("/api/pulse/v1/namespace/{name}")).json("{}").signed("test-client");
        ask.ext(&json!({"authorizedScopes": ["pulse:namespace:taskcluster-x"]}))
    };
    claim("taskcluster-x").send().await.good();
    let other = claim("taskcluster-y").send().await;
    assert_eq!(other.verdict(), (403, "InsufficientScopes"));
    assert!(
        other.message().starts_with("Client ID test-client does not have sufficient scopes"),
        "{}",
        other.message()
    );
}

#[tokio::test]
async fn a_clock_may_be_a_quarter_of_an_hour_off() {
    let site = Site::new().await;
    let (now, skew) = (site.world.clock.now(), Duration::from_secs(14 * 60));
    for at in [now.minus(skew), now.plus(skew)] {
        site.claim("taskcluster-x", "{}").signed_at(at).send().await.good();
    }
}

/// A signature need not cover the body: JavaScript's clients leave it out.
#[tokio::test]
async fn a_signature_may_leave_the_body_out() {
    let site = Site::new().await;
    let ask = site.ask(Method::POST, "/api/pulse/v1/namespace/taskcluster-x").signed("test-client");
    ask.json("{\"contact\": \"a@a.com\"}").send().await.good();
}

/// A hash covers the text that is left when the encoding is undone.
#[tokio::test]
async fn a_byte_order_mark_is_no_part_of_what_is_signed() {
    let site = Site::new().await;
    let claim = || site.claim("taskcluster-x", "\u{feff}{}");
    claim().signed_for("{}").send().await.good();
    assert_eq!(claim().send().await.verdict(), (401, "AuthenticationFailed"));
}

#[tokio::test]
async fn a_signature_is_for_the_host_and_port_that_the_client_called() {
    let site = Site::new().await;
    let target = "/api/pulse/v1/namespace/taskcluster-x";
    for (called, headers) in [
        (
            format!("https://pulse.taskcluster.net{target}"),
            "Host: pulse.taskcluster.net\r\nX-Forwarded-Proto: https\r\n",
        ),
        (format!("https://a.example:8443{target}"), "Host: A.example\r\nX-Forwarded-Port: 8443\r\n"),
        (
            format!("http://a.example{target}"),
            "Host: a.example\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n",
        ),
        (format!("http://taskcluster-pulse{target}"), "Host: taskcluster-pulse\r\n"),
    ] {
        let url = called.parse().unwrap();
        let authorization = site.sign("test-client", "POST", &url, Some("{}"));
        for (headers, status) in [(headers, "200"), ("Host: b.example\r\n", "401")] {
            let request = format!(
                "POST {target} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Type: application/json\r\n\
                 Content-Length: 2\r\nAuthorization: {authorization}\r\n\r\n{{}}"
            );
            let answer = site.raw(&request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{called}, {headers}: {answer}");
        }
    }
}

#[tokio::test]
async fn requests_that_real_clients_made_are_answered() {
    struct At(Timestamp);
    impl Clock for At {
        fn now(&self) -> Timestamp {
            self.0
        }
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Recorded {
        client: String,
        method: String,
        resource: String,
        content_type: String,
        body: String,
        authorization: String,
        host: String,
        port: u16,
    }
    let recorded: Vec<Recorded> =
        serde_json::from_str(include_str!("../vectors/recorded_client_requests.json")).unwrap();
    assert!(recorded.len() >= 3);
    for request in recorded {
        let ts = request.authorization.split("ts=\"").nth(1).unwrap().split('"').next().unwrap();
        let at = Timestamp::from_millis(ts.parse::<i64>().unwrap() * 1000);
        let site = Site::wish(|wishes| {
            wishes.clock = Some(Arc::new(At(at)));
            wishes.client = Some(("me", "tok-tok-tok-tok-tok-22", &["pulse:namespace:*"]));
        });
        let site = site.await;
        let Recorded { method, resource, content_type, body, authorization, host, port, client } = request;
        let send = async |body: &str| {
            let length = body.len();
            site.raw(&format!(
                "{method} {resource} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\
                 Content-Type: {content_type}\r\nContent-Length: {length}\r\nAuthorization: {authorization}\r\n\r\n{body}"
            ))
            .await
        };
        let answer = send(&body).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{client}: {answer}");
        assert!(answer.contains("\"connectionString\": \"amqp://taskcluster-x-1:"), "{client}: {answer}");
        if authorization.contains("hash=") {
            let altered = send("{}").await;
            assert!(altered.starts_with("HTTP/1.1 401 "), "{client}: {altered}");
        }
    }
}

/// In a URL an address of IPv6 stands in brackets. Some clients sign them, most do not, and some sign what a URL makes of an
/// address and some what was written.
#[tokio::test]
async fn an_address_of_ipv6_is_verified_however_it_is_signed() {
    let site = Site::new().await;
    let target = "/api/pulse/v1/namespace/taskcluster-x";
    for (number, (sent, signed, port, status)) in [
        ("[::1]:8080", "::1", 8080, 200),
        ("[::1]:8080", "[::1]", 8080, 200),
        ("[::1]", "::1", 80, 200),
        ("[0:0:0:0:0:0:0:1]:8080", "0:0:0:0:0:0:0:1", 8080, 200),
        ("[0:0:0:0:0:0:0:1]:8080", "[0:0:0:0:0:0:0:1]", 8080, 200),
        ("[2001:DB8::A]:8080", "2001:db8::a", 8080, 200),
        ("[2001:DB8::A]:8080", "2001:DB8::A", 8080, 200),
        ("[2001:0db8:0000:0000:0000:0000:0000:000a]", "2001:0db8:0000:0000:0000:0000:0000:000a", 80, 200),
        ("[::ffff:127.0.0.1]:8080", "::ffff:127.0.0.1", 8080, 200),
        ("[::1]:8080", "::2", 8080, 401),
        ("[::1]:8080", "::1", 8081, 401),
        ("[::1]:8080", "", 8080, 401),
        ("127.0.0.1:8080", "[127.0.0.1]", 8080, 401),
    ]
    .into_iter()
    .enumerate()
    {
        let (ts, nonce) = ((site.world.clock.now().millis() / 1000).to_string(), number.to_string());
        let of = Artifacts {
            ts: &ts,
            nonce: &nonce,
            method: "POST",
            resource: target,
            host: signed,
            port,
            hash: "",
            ext: "",
            app: None,
        };
        let mac = mac(Kind::Header, &access_token("test-client"), &of);
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: {sent}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\
             Connection: close\r\n\
             Authorization: Hawk id=\"test-client\", ts=\"{ts}\", nonce=\"{nonce}\", mac=\"{mac}\"\r\n\r\n{{}}"
        );
        let answer = site.raw(&request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{sent} signed as {signed}: {answer}");
    }
}
