//! Calls to identity providers: each has a time-out, follows no redirection, and reads no more than it needs.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, redirect};
use serde::de::DeserializeOwned;

use crate::tls::Trust;

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(8);
/// The longest answer that is read, in bytes.
const LONGEST: usize = 512 * 1024;

/// What makes them.
pub(super) fn client(trust: &Trust) -> Result<Client, String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("the HTTP client for identity providers can't be made: {error}");
    let builder = Client::builder().timeout(TIMEOUT).redirect(redirect::Policy::none());
    let builder = trust.http(builder).map_err(|error| failed(&error))?;
    builder.build().map_err(|error| failed(&error))
}

/// An answer in JSON. What goes wrong is told without what was sent.
pub(super) async fn answer<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, String> {
    let failed = |error: reqwest::Error| format!("the identity provider does not answer: {}", error.without_url());
    let mut response = request.header("accept", "application/json").send().await.map_err(failed)?;
    let (status, path) = (response.status(), response.url().path().to_owned());
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LONGEST {
            return Err(format!("the identity provider's answer from {path} is too long"));
        }
    }
    if !status.is_success() {
        return Err(format!("the identity provider answers {status} from {path}"));
    }
    // The error would show what is in it, which may be a token.
    serde_json::from_slice(&bytes)
        .map_err(|_| format!("the identity provider's answer from {path} can't be understood"))
}
