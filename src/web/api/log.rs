//! One log line for each request of the API: Taskcluster's `monitor.apiMethod`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use axum::http::StatusCode;
use axum::http::request::Parts;
use serde_json::json;
use url::form_urlencoded;

use super::counts::Counts;
use super::endpoint::Entry;
use crate::access::Caller;
use crate::web::edge::log::milliseconds;

/// The status that is logged where the caller hung up before there was one.
const HUNG_UP: u16 = 499;

/// What logs the requests of the API, as in Taskcluster, where it is a part of each service.
const TARGET: &str = concat!(env!("CARGO_CRATE_NAME"), "::api");

/// Who made a request without credentials that needed scopes, as Taskcluster calls it.
const NO_CLIENT: &str = "auth-failed:no-auth";

const BEWIT: &str = "bewit";

/// What is known so far of an API request. It is logged and counted when this is dropped: when the request is answered, and when its
/// caller hangs up.
pub(in crate::web) struct Record<'a> {
    entry: &'static Entry,
    parts: &'a Parts,
    counts: &'a Counts,
    began: Instant,
    /// Who sent it.
    pub source_ip: IpAddr,
    /// Who signed it.
    pub caller: Option<Caller>,
    /// Which of the scopes that it needs the caller has.
    pub satisfying: Vec<String>,
    /// The parameters of its query, once they are checked.
    pub query: BTreeMap<String, String>,
    /// How it was answered.
    pub status: Option<StatusCode>,
}

impl<'a> Record<'a> {
    /// Of a request that has just come from there.
    pub fn begin(entry: &'static Entry, parts: &'a Parts, counts: &'a Counts, source_ip: IpAddr) -> Record<'a> {
        let (caller, satisfying, query) = (None, Vec::new(), BTreeMap::new());
        Record { entry, parts, counts, began: Instant::now(), source_ip, caller, satisfying, query, status: None }
    }

    /// What is told of its query: what was checked, and whether there is a bewit, which is as good as a password.
    fn query(&self) -> BTreeMap<&str, &str> {
        let mut told: BTreeMap<_, _> = self.query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let given = self.parts.uri.query().unwrap_or_default();
        if form_urlencoded::parse(given.as_bytes()).any(|(name, _)| name == BEWIT) {
            told.insert(BEWIT, "...");
        }
        told
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        // The path as it is below the mount, and no query but what was checked: it may hold a bewit.
        let (method, resource) = (&self.parts.method, self.parts.uri.path());
        let status = self.status.map_or(HUNG_UP, |status| status.as_u16());
        self.counts.answered(self.entry, method, status, self.began.elapsed());
        let caller = self.caller.as_ref();
        tracing::info!(
            target: TARGET,
            r#type = "monitor.apiMethod",
            v = 2,
            name = self.entry.name,
            apiVersion = "v1",
            method = %method,
            resource,
            query = %json!(self.query()),
            statusCode = status,
            duration = milliseconds(self.began),
            public = self.entry.right.is_none(),
            authenticated = caller.is_some_and(Caller::is_known),
            clientId = caller.map_or("", |caller| caller.who.name().unwrap_or(NO_CLIENT)),
            expires = caller.and_then(|caller| caller.expires).map(|expires| expires.to_string()),
            satisfyingScopes = %json!(self.satisfying),
            sourceIp = %self.source_ip,
            "{method} {resource} {status}",
        );
    }
}
