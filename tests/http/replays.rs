//! Requests that are made twice.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use taskcluster_pulse::access::clients::{AccessToken, Client, LocalDirectory};
use taskcluster_pulse::access::origin::Origin;
use taskcluster_pulse::access::replay::RETRY_WINDOW;
use taskcluster_pulse::access::roles::Roles;
use taskcluster_pulse::access::{Authenticator, Read, Refusal, SignedRequest, hawk};
use taskcluster_pulse::clock::Clock;
use taskcluster_pulse::service::Sightings;
use taskcluster_pulse::store::{Store, StoreError};

use super::site::{Answer, BrokenStore, Site, access_token};
use crate::support::world::HOUR;

const PATH: &str = "/api/pulse/v1/namespace/taskcluster-x";

/// A claim with this payload, signed by a header that is given.
async fn claim(site: &Site, authorization: &str, payload: &str) -> Answer {
    site.ask(Method::POST, PATH).json(payload).header("authorization", authorization).send().await
}

/// A header for that claim; with `None` for one whose signature leaves out the body, as JavaScript's clients make it.
fn sign(site: &Site, payload: Option<&str>) -> String {
    site.sign("test-client", "POST", &site.url.join(PATH).unwrap(), payload)
}

fn assert_refused(answer: &Answer, text: &str) {
    assert_eq!(answer.verdict(), (401, "AuthenticationFailed"), "{}", answer.text);
    assert!(answer.message().contains(text), "{}", answer.message());
}

#[tokio::test]
async fn a_claim_that_is_repeated_as_it_is_gets_the_same_answer_for_a_while() {
    let site = Site::new().await;
    let header = sign(&site, Some("{}"));
    let first = claim(&site, &header, "{}").await.good();
    site.world.clock.advance(RETRY_WINDOW);
    let second = claim(&site, &header, "{}").await.good();
    assert_eq!(second["connectionString"], first["connectionString"]);
    site.world.clock.advance(Duration::from_millis(1));
    assert_refused(&claim(&site, &header, "{}").await, "was made before");
    let fresh = sign(&site, Some("{}"));
    claim(&site, &fresh, "{}").await.good();
}

#[tokio::test]
async fn a_claim_can_not_be_repeated_with_another_payload() {
    let site = Site::new().await;
    let header = sign(&site, None);
    claim(&site, &header, "{}").await.good();
    let payload = r#"{"contact": "a@a.com"}"#;
    assert_refused(&claim(&site, &header, payload).await, "with another payload");
    assert_eq!(site.until_stored("taskcluster-x", |_| true).await.contact, "");
    claim(&site, &header, "{}").await.good();
}

#[tokio::test]
async fn a_repetition_does_not_get_the_password_of_a_later_switch() {
    let site = Site::new().await;
    claim(&site, &sign(&site, None), "{}").await.good();
    site.world.clock.advance(HOUR - Duration::from_secs(20));
    let header = sign(&site, None);
    let first = claim(&site, &header, "{}").await.good();
    site.world.clock.advance(Duration::from_secs(30));
    assert_eq!(site.world.service().rotate(false).await.unwrap().failed, 0);
    assert_refused(&claim(&site, &header, "{}").await, "was made before");
    let later = sign(&site, None);
    let fresh = claim(&site, &later, "{}").await.good();
    assert_ne!(fresh["connectionString"], first["connectionString"]);
    assert_eq!(claim(&site, &later, "{}").await.good()["connectionString"], fresh["connectionString"]);
}

/// Whoever is refused for want of scopes has used up the signature all the same.
#[tokio::test]
async fn a_refused_claim_counts_as_made() {
    let site = Site::new().await;
    let header = site.sign("weak", "POST", &site.url.join(PATH).unwrap(), None);
    assert_eq!(claim(&site, &header, "{}").await.status, 403);
    site.world.clock.advance(2 * RETRY_WINDOW);
    assert_refused(&claim(&site, &header, "{}").await, "was made before");
}

/// Another process that serves the same deployment, on this store.
fn other_process(store: Arc<dyn Store>) -> Authenticator {
    let access_token = AccessToken::new(access_token("test-client"));
    let client = Client { id: "test-client".into(), access_token, scopes: vec!["*".into()], expires: None };
    Authenticator::new(LocalDirectory::new(vec![client], Roles::default())).remembering_in(Sightings::new(store))
}

#[tokio::test]
async fn processes_on_one_store_know_what_each_has_seen() {
    let site = Site::new().await;
    let header = sign(&site, None);
    claim(&site, &header, "{}").await.good();
    let began = site.world.clock.now();
    let origin = Origin::read(|name| (name == "host").then(|| site.url.authority()), [127, 0, 0, 1].into(), false);
    let origin = origin.unwrap();
    let authorization = Some(header.as_bytes());
    let request = SignedRequest { method: "POST", resource: PATH, origin: &origin, authorization };
    let other = other_process(site.world.store.clone());
    assert_eq!(other.first_seen(&Read::of(&request), b"{}", began.plus(RETRY_WINDOW)).await, Ok(Some(began)));
    let late = began.plus(2 * RETRY_WINDOW);
    assert_eq!(other.first_seen(&Read::of(&request), b"{}", late).await, Err(Refusal::Replayed { first: began }));
    let third = other_process(site.world.store.clone());
    assert_eq!(third.first_seen(&Read::of(&request), b"[]", late).await, Err(Refusal::Rewritten { first: began }));

    // While the store does not answer, a process knows what it has seen itself.
    let alone = other_process(Arc::new(BrokenStore(|| StoreError::Unavailable("down".into()))));
    assert_eq!(alone.first_seen(&Read::of(&request), b"{}", began).await, Ok(None));
    assert_eq!(alone.first_seen(&Read::of(&request), b"{}", late).await, Err(Refusal::Replayed { first: began }));
}

/// The auth service lets a time that is no number pass, and it would never end to be fresh.
#[tokio::test]
async fn what_can_not_be_remembered_is_refused_and_a_bewit_need_not_be() {
    let site = Site::new().await;
    let origin = Origin { host: "a".into(), port: 80, source_ip: [127, 0, 0, 1].into() };
    let authenticator = other_process(site.world.store.clone());
    let ask = async |resource: &str, authorization: Option<&str>| {
        let authorization = authorization.map(str::as_bytes);
        let request = SignedRequest { method: "GET", resource, origin: &origin, authorization };
        authenticator.first_seen(&Read::of(&request), b"", site.world.clock.now()).await
    };
    let timeless = ask("/", Some(r#"Hawk id="a", ts="Infinity", nonce="b", mac="c""#)).await;
    assert_eq!(timeless, Err(Refusal::Hawk(hawk::Error::Stale)));
    let bewit = URL_SAFE_NO_PAD.encode("a\\1\\mac\\");
    for _ in 0..2 {
        let target = format!("/?bewit={bewit}");
        assert_eq!(ask(&target, None).await, Ok(None));
        assert_eq!(ask("/", None).await, Ok(None));
    }
}
