//! Signing in by Taskcluster's third-party login: an OAuth 2 code flow whose resource is credentials. The person has the scopes that
//! these have, as a program has.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Method};
use serde::Deserialize;
use url::Url;

use super::attempt::{Attempt, Returned, SignInError, logged};
use super::calls::{self, answer};
use crate::clock::Clock;
use crate::domain::session::Person;
use crate::taskcluster::{ClientCredentials, RetryPolicy, Taskcluster};
use crate::tls::Trust;

/// How long the auth service may take to tell the scopes of somebody.
const TIMEOUT: Duration = Duration::from_secs(8);

/// How this service is registered at the deployment.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The deployment.
    pub root_url: Url,
    /// Our client id there, one of its `REGISTERED_CLIENTS`.
    pub client_id: String,
    /// Where people are led back to.
    pub redirect: String,
    /// The scopes that are asked for: those that are registered.
    pub scopes: String,
    /// Whom calls to it trust.
    pub trust: Trust,
}

/// A Taskcluster deployment by which people sign in.
pub struct ThirdParty {
    settings: Settings,
    clock: Arc<dyn Clock>,
    http: Client,
}

impl fmt::Debug for ThirdParty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ThirdParty({})", self.settings.root_url)
    }
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

#[derive(Deserialize)]
struct Given {
    credentials: Credentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Credentials {
    client_id: String,
    access_token: String,
    certificate: Option<String>,
}

#[derive(Deserialize)]
struct Scopes {
    scopes: Vec<String>,
}

impl ThirdParty {
    /// Calls nobody yet.
    ///
    /// # Errors
    /// A sentence, where the HTTP client can't be made.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Result<ThirdParty, String> {
        let http = calls::client(&settings.trust)?;
        Ok(ThirdParty { settings, clock, http })
    }

    /// The deployment's name for people.
    pub fn name(&self) -> String {
        format!("Taskcluster at {}", self.settings.root_url.host_str().unwrap_or_default())
    }

    fn url(&self, path: &str) -> String {
        format!("{}/login/oauth/{path}", self.settings.root_url.as_str().trim_end_matches('/'))
    }

    /// Where the browser goes to sign in.
    ///
    /// # Errors
    /// [`SignInError::Provider`] where the root URL is none.
    pub fn authorize(&self, attempt: &Attempt) -> Result<Url, SignInError> {
        let mut url = Url::parse(&self.url("authorize")).map_err(|_| SignInError::Provider)?;
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("redirect_uri", &self.settings.redirect)
            .append_pair("scope", &self.settings.scopes)
            .append_pair("state", &attempt.state)
            .append_pair("expires", "1 day");
        Ok(url)
    }

    /// Who comes back from there.
    ///
    /// # Errors
    /// Why nobody is signed in.
    pub async fn finish(&self, attempt: &Attempt, back: &Returned) -> Result<Person, SignInError> {
        back.is_of(attempt)?;
        let found = self.redeem(&back.code).await;
        found.map_err(|why| logged(&why, SignInError::Provider))
    }

    async fn redeem(&self, code: &str) -> Result<Person, String> {
        let Settings { client_id, redirect, root_url, trust, .. } = &self.settings;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect.as_str()),
            ("client_id", client_id.as_str()),
        ];
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self.http.post(self.url("token")).header("content-type", "application/x-www-form-urlencoded");
        let token: Token = answer(request.body(body)).await?;
        let given: Given = answer(self.http.get(self.url("credentials")).bearer_auth(token.access_token)).await?;
        let Credentials { client_id: named, access_token, certificate } = given.credentials;
        let subject = identity(&named, client_id).ok_or("the deployment gave credentials of another name")?.to_owned();
        let credentials = ClientCredentials { client_id: named, access_token, certificate };
        let limits = RetryPolicy { total: TIMEOUT, ..RetryPolicy::default() };
        let taskcluster = Taskcluster::new(root_url.clone(), Some(credentials), self.clock.clone(), limits)
            .and_then(|taskcluster| taskcluster.trusting(trust));
        let taskcluster = taskcluster.map_err(|error| format!("the credentials can't be used: {error}"))?;
        let reply = taskcluster.call(Method::GET, "auth", "scopes/current", None).await;
        let reply = reply.map_err(|error| format!("the scopes can't be asked for: {error}"))?;
        let Scopes { scopes } =
            serde_json::from_value(reply.body).map_err(|error| format!("the scopes can't be read: {error}"))?;
        Ok(Person { subject: format!("taskcluster|{subject}"), address: None, groups: Vec::new(), scopes })
    }
}

/// Who a client `<identity>/<our client id>-<6 characters>` belongs to.
fn identity<'a>(named: &'a str, own: &str) -> Option<&'a str> {
    let (identity, client) = named.rsplit_once('/')?;
    let made = client.strip_prefix(own)?.strip_prefix('-')?;
    (!identity.is_empty() && !made.is_empty() && !made.contains('-')).then_some(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_who_the_credentials_were_made_for() {
        let of = |named| identity(named, "pulse");
        assert_eq!(of("mozilla-auth0/ad|Mozilla-LDAP|name/pulse-a1B2c3"), Some("mozilla-auth0/ad|Mozilla-LDAP|name"));
        for other in [
            "github/1234|name/other-a1B2c3",
            "pulse-a1B2c3",
            "/pulse-a1B2c3",
            "x/pulse-",
            "x/pulse",
            "x/pulse-other-a1B2c3",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
