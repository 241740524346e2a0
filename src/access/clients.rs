//! Where keys and scopes come from: [`Directory`], and the local list of clients and roles that is one.
//!
//! Taskcluster's auth service is none, because it never tells a key: it verifies whole requests. For what the local list
//! doesn't know, [`Authenticator`](super::Authenticator) asks it by [`remote`](super::remote).

use std::collections::HashMap;
use std::fmt;

use zeroize::Zeroizing;

use super::roles::Roles;
use crate::clock::Timestamp;

/// A client's key. `Debug` shows nothing of it, there is no `Display`, and it is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(Zeroizing<String>);

impl AccessToken {
    /// The key with this text.
    pub fn new(text: String) -> AccessToken {
        AccessToken(Zeroizing::new(text))
    }

    /// The key itself, to make or check a signature with; for nothing that is shown or logged.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(..)")
    }
}

/// Someone who may sign requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its name.
    pub id: String,
    /// Its key.
    pub access_token: AccessToken,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Until when; `None` for ever.
    pub expires: Option<Timestamp>,
}

/// Who the clients are, and what roles grant.
pub trait Directory: Send + Sync {
    /// Whether there is a client with this name, be it that it may not be used.
    fn knows(&self, id: &str) -> bool;

    /// The client with this name, its scopes expanded, if it may be used at `now`. Otherwise why not, in the words that
    /// the caller is told.
    fn client(&self, id: &str, now: Timestamp) -> Result<&Client, String>;

    /// The set of `scopes` and all that roles grant to who has them.
    fn expand(&self, scopes: &[String]) -> Vec<String>;
}

/// The clients and roles of our own configuration.
#[derive(Debug)]
pub struct LocalDirectory {
    clients: HashMap<String, Client>,
    roles: Roles,
}

impl LocalDirectory {
    /// These clients, each with a name of its own, and these roles.
    pub fn new(clients: Vec<Client>, roles: Roles) -> LocalDirectory {
        let expanded = |client: Client| {
            let scopes = roles.expand(&client.scopes);
            (client.id.clone(), Client { scopes, ..client })
        };
        LocalDirectory { clients: clients.into_iter().map(expanded).collect(), roles }
    }
}

impl Directory for LocalDirectory {
    fn knows(&self, id: &str) -> bool {
        self.clients.contains_key(id)
    }

    /// A name is looked up in a table. How long that takes depends on the name, which is no secret, and on no key.
    fn client(&self, id: &str, now: Timestamp) -> Result<&Client, String> {
        match self.clients.get(id) {
            None => Err(format!("Client with clientId '{id}' not found")),
            Some(client) if client.expires.is_some_and(|expires| expires < now) => {
                Err(format!("Client with clientId: '{id}' has expired"))
            }
            Some(client) => Ok(client),
        }
    }

    fn expand(&self, scopes: &[String]) -> Vec<String> {
        self.roles.expand(scopes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::roles::Role;

    fn client(expires: Option<i64>) -> Client {
        Client {
            id: "me".into(),
            access_token: AccessToken::new("s3cret-s3cret-s3cret-1".into()),
            scopes: vec!["assume:dev".into()],
            expires: expires.map(Timestamp::from_millis),
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let directory = LocalDirectory::new(vec![client(None)], Roles::default());
        let shown = format!("{directory:?}");
        assert!(shown.contains("AccessToken(..)") && !shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn a_client_comes_with_what_its_roles_grant_until_it_expires() {
        let roles = Roles::new(vec![Role { id: "dev".into(), scopes: vec!["a:*".into()] }]).unwrap();
        let directory = LocalDirectory::new(vec![client(Some(10))], roles);
        let scopes = |now| directory.client("me", Timestamp::from_millis(now)).map(|found| found.scopes.clone());
        assert_eq!(scopes(10), Ok(vec!["a:*".to_owned(), "assume:dev".to_owned()]));
        assert_eq!(scopes(11), Err("Client with clientId: 'me' has expired".to_owned()));
        let unknown = directory.client("you", Timestamp::from_millis(0)).unwrap_err();
        assert_eq!(unknown, "Client with clientId 'you' not found");
    }
}
