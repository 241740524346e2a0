//! What Taskcluster's auth service finds out when a service asks it who made a request.

use serde_json::{Value, json};
use taskcluster_pulse::access::origin::Origin;
use taskcluster_pulse::access::{Authenticator, Caller, Read, SignedRequest, Who};
use taskcluster_pulse::clock::{Clock, SystemClock};

/// The answer of `authenticate-hawk` to a question, by a service that has these clients.
pub fn find_out(clients: &Authenticator, question: &Value) -> Value {
    let text = |key: &str| question[key].as_str().unwrap().to_owned();
    let port = u16::try_from(question["port"].as_u64().unwrap()).unwrap();
    let origin = Origin { host: text("host"), port, source_ip: text("sourceIp").parse().unwrap() };
    let authorization = question["authorization"].as_str().map(str::as_bytes);
    let request =
        SignedRequest { method: &text("method"), resource: &text("resource"), origin: &origin, authorization };
    match clients.validate(&Read::of(&request), SystemClock.now()) {
        Err(refusal) => json!({"status": "auth-failed", "message": refusal.to_string()}),
        Ok(Caller { who: Who::Anonymous, scopes, .. }) => {
            json!({"status": "no-auth", "scheme": "none", "scopes": scopes, "expires": "2099-01-01T00:00:00.000Z"})
        }
        Ok(Caller { who: Who::Machine { client_id }, scopes, hash, .. }) => json!({
            "status": "auth-success", "scheme": "hawk", "clientId": client_id, "scopes": scopes,
            "expires": "2099-01-01T00:00:00.000Z", "hash": hash
        }),
    }
}
