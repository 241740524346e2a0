//! What is counted of requests: by Taskcluster's own names, so that its dashboards show this service beside its others.

use std::time::Duration;

use axum::http::Method;

use super::endpoint::{Entry, Verb};
use super::routes::ROUTES;
use crate::domain::rights::Right;
use crate::telemetry::metrics::{Counter, Labels, Registry, Table, Times};

/// The bounds of Taskcluster's times of requests, in seconds.
const REQUEST_TIMES: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
/// Those of claims, which are quicker, and are to take no more than two seconds.
const CLAIM_TIMES: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

/// The statuses that are counted for themselves; all others are `other`. Of all that the API answers with, none is missing.
const STATUSES: [u16; 26] = [
    200, 201, 202, 204, 304, 400, 401, 403, 404, 405, 406, 408, 409, 410, 411, 413, 415, 422, 423, 424, 429, 499, 500,
    501, 502, 503,
];

/// A request, as it is counted.
type Request = (&'static str, &'static str, u16);

/// What is counted of the requests of the API.
pub(in crate::web) struct Counts {
    requests: Table<Request, Counter>,
    times: Table<Request, Times>,
    claims: Table<&'static str, Times>,
}

/// The methods by which an endpoint is called.
fn methods(entry: &Entry) -> &'static [&'static str] {
    match entry.verb {
        Verb::Get => &["GET", "HEAD"],
        Verb::Post => &["POST"],
        Verb::Put => &["PUT"],
        Verb::Delete => &["DELETE"],
    }
}

/// How a claim ended, by its status.
fn class(status: u16) -> &'static str {
    match status {
        200..400 => "given",
        499 => "gone",
        400..500 => "refused",
        _ => "failed",
    }
}

impl Counts {
    pub fn new() -> Counts {
        let keys = ROUTES.iter().flat_map(|entry| methods(entry).iter().map(|method| (entry.name, *method)));
        let keys: Vec<(Request, Labels)> = keys
            .flat_map(|(name, method)| STATUSES.into_iter().chain([0]).map(move |status| (name, method, status)))
            .map(|key @ (name, method, status)| {
                let status = if status == 0 { "other".to_owned() } else { status.to_string() };
                let labels = vec![
                    ("method", method.into()),
                    ("name", name.into()),
                    ("status", status.into()),
                    ("service", "pulse".into()),
                ];
                (key, labels)
            })
            .collect();
        let claims = ["given", "gone", "refused", "failed"].map(|word| (word, vec![("outcome", word.into())]));
        Counts {
            requests: Table::new(keys.clone(), Counter::default).sparse(),
            times: Table::new(keys, || Times::new(REQUEST_TIMES)).sparse(),
            claims: Table::new(claims, || Times::new(CLAIM_TIMES)),
        }
    }

    /// Counts a request that was answered, or whose caller hung up.
    pub fn answered(&self, entry: &'static Entry, method: &Method, status: u16, took: Duration) {
        let Some(method) = methods(entry).iter().find(|known| **known == method.as_str()) else { return };
        let known = if STATUSES.contains(&status) { status } else { 0 };
        let key = (entry.name, *method, known);
        self.requests.count(&key);
        if let Some(times) = self.times.get(&key) {
            times.observe(took);
        }
        if entry.right == Some(Right::Claim)
            && let Some(times) = self.claims.get(&class(status))
        {
            times.observe(took);
        }
    }

    pub fn register(&self, registry: &mut Registry) {
        registry.register("http_requests", "Requests of the API, by endpoint and status", self.requests.clone());
        registry.register("http_request_duration_seconds", "How long they took", self.times.clone());
        let help = "How long claims took until they were answered, by what became of them";
        registry.register("pulse_claim_duration_seconds", help, self.claims.clone());
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text::encode;

    use super::*;

    #[test]
    fn each_request_is_one_of_a_set_that_no_caller_can_make_larger() {
        let counts = Counts::new();
        let claim = ROUTES.iter().find(|entry| entry.right == Some(Right::Claim)).unwrap();
        for (method, status) in [("POST", 200), ("POST", 503), ("POST", 777), ("BREW", 200), ("GET", 200)] {
            counts.answered(claim, &method.parse().unwrap(), status, Duration::from_millis(3));
        }
        let mut registry = Registry::default();
        counts.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let requests: Vec<_> = text.lines().filter(|line| line.starts_with("http_requests_total{")).collect();
        let line = |status: &str| {
            let name = claim.name;
            format!("http_requests_total{{method=\"POST\",name=\"{name}\",status=\"{status}\",service=\"pulse\"}} 1")
        };
        assert_eq!(requests, ["200", "503", "other"].map(line));
        assert!(text.contains("pulse_claim_duration_seconds_count{outcome=\"given\"} 1"), "{text}");
    }
}
