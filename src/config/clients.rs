//! Who may call, where that is configured locally: clients with their keys and scopes, and roles.
//!
//! The rules for client ids, access tokens and scopes are those of Taskcluster's auth service.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::json;
use super::kinds::{Kind, Wrong, slip, slip_of_quotes};
use crate::clock::Timestamp;
use crate::secret::Secret;

/// A client that may call this service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its name.
    pub client_id: String,
    /// Its key, with which it signs its requests.
    pub access_token: Secret,
    /// What it may do, before roles are expanded.
    pub scopes: Vec<String>,
    /// When it ceases to be valid; `None` for never.
    pub expires: Option<Timestamp>,
}

/// The local clients.
pub(super) const CLIENTS: Kind<Vec<Client>> = Kind {
    expected: "a list, or a JSON array, of `{clientId, accessToken, scopes, expires}` (`expires` may be left out)",
    secret: true,
    parse: clients,
};

/// The local roles.
pub(super) const ROLES: Kind<BTreeMap<String, Vec<String>>> = Kind {
    expected: "a map, or a JSON object, from the id of each role to the list of its scopes",
    secret: false,
    parse: roles,
};

/// A text from the environment is JSON; a value from the file is taken as it is.
pub(super) fn parsed(value: &Value) -> Result<Value, Wrong> {
    match value {
        Value::String(text) => match slip_of_quotes(text.trim()) {
            Some(slip) => Err(Wrong::because(slip)),
            // An error of the parser tells the place alone, and nothing of the text.
            None => json::read(text).map_err(|error| Wrong::because(format!("is not JSON as it must be: {error}"))),
        },
        other => Ok(other.clone()),
    }
}

fn clients(value: &Value) -> Result<Vec<Client>, Wrong> {
    let value = parsed(value)?;
    let list = value.as_array().ok_or(Wrong::Unexpected)?;
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    let mut clients = Vec::new();
    for (index, entry) in list.iter().enumerate() {
        let id = entry.get("clientId").and_then(Value::as_str).filter(|id| is_client_id(id));
        let place = id.map_or(format!("client {}", index + 1), |id| format!("client {} (`{id}`)", index + 1));
        match entry.as_object().ok_or_else(|| vec!["is not a map".to_owned()]).and_then(client) {
            Ok(client) => clients.push(client),
            Err(found) => problems.extend(found.into_iter().map(|problem| format!("{place}: {problem}"))),
        }
        if id.is_some_and(|id| !seen.insert(id)) {
            problems.push(format!("{place}: this clientId stands twice; give each client once"));
        }
    }
    if problems.is_empty() { Ok(clients) } else { Err(Wrong::Because(problems)) }
}

/// Reads one client, or tells everything that is wrong with it.
fn client(entry: &Map<String, Value>) -> Result<Client, Vec<String>> {
    let mut problems = Vec::new();
    for key in entry.keys() {
        // Taskcluster's own list of static clients has descriptions, which nobody reads.
        if !["clientId", "accessToken", "scopes", "expires", "description"].contains(&key.as_str()) {
            problems.push(format!("unknown key `{key}`; there are clientId, accessToken, scopes and expires"));
        }
    }
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    let client_id = text("clientId").filter(|id| is_client_id(id));
    if client_id.is_none() {
        problems.push("clientId must be a text of one or more of `[A-Za-z0-9!@/:.+|_-]`".to_owned());
    }
    let access_token = text("accessToken").filter(|token| is_access_token(token));
    if access_token.is_none() {
        problems.push("accessToken must be a text of 22 to 66 of `[A-Za-z0-9_-]`".to_owned());
    }
    if entry.get("description").is_some_and(|text| !text.is_string() && !text.is_null()) {
        problems.push("description must be a text, or be left out".to_owned());
    }
    let scopes = entry.get("scopes").and_then(scopes);
    if scopes.is_none() {
        problems.push(format!("scopes must be a list of texts, each {NAME}"));
    }
    let expires = match entry.get("expires") {
        None | Some(Value::Null) => Some(None),
        Some(date) => date.as_str().and_then(Timestamp::parse).map(Some),
    };
    if expires.is_none() {
        problems.push("expires must be a date such as `2030-01-31T12:00:00Z`, or be left out".to_owned());
    }
    match (client_id, access_token, scopes, expires) {
        (Some(client_id), Some(access_token), Some(scopes), Some(expires)) if problems.is_empty() => {
            Ok(Client { client_id: client_id.to_owned(), access_token: Secret::new(access_token), scopes, expires })
        }
        _ => Err(problems),
    }
}

fn roles(value: &Value) -> Result<BTreeMap<String, Vec<String>>, Wrong> {
    let value = parsed(value)?;
    let mut problems = Vec::new();
    let mut roles = BTreeMap::new();
    for (id, list) in value.as_object().ok_or(Wrong::Unexpected)? {
        if id.is_empty() || !is_name(id) {
            problems.push(format!("role {id:?}: the id of a role must be {NAME}"));
        }
        match scopes(list) {
            Some(scopes) => drop(roles.insert(id.clone(), scopes)),
            None => problems.push(format!("role {id:?}: scopes must be a list of texts, each {NAME}")),
        }
    }
    if problems.is_empty() { Ok(roles) } else { Err(Wrong::Because(problems)) }
}

const NAME: &str = "made of printable ASCII characters, without blanks or quotes at its ends";

fn scopes(list: &Value) -> Option<Vec<String>> {
    let scope = |scope: &Value| scope.as_str().filter(|scope| is_name(scope)).map(str::to_owned);
    list.as_array()?.iter().map(scope).collect()
}

fn is_client_id(id: &str) -> bool {
    !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || "!@/:.+|_-".contains(c))
}

fn is_access_token(token: &str) -> bool {
    (22..=66).contains(&token.len()) && token.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-')
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|c| (0x20..=0x7e).contains(&c)) && slip(text).is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TOKEN: &str = "an-access-token-of-29-letters";

    fn problems<T>(parsed: Result<T, Wrong>) -> Vec<String> {
        match parsed {
            Ok(_) => Vec::new(),
            Err(Wrong::Unexpected) => vec!["unexpected".to_owned()],
            Err(Wrong::Because(problems)) => problems,
        }
    }

    #[test]
    fn clients_are_the_same_as_yaml_and_as_json() {
        let list = json!([
            {"clientId": "static/a", "accessToken": TOKEN, "scopes": ["pulse:namespace:*"]},
            {"clientId": "b", "accessToken": TOKEN, "scopes": [], "expires": "2030-01-31T12:00:00Z", "description": "B"},
        ]);
        let read = clients(&list).ok();
        assert_eq!(read, clients(&json!(list.to_string())).ok());
        let read = read.unwrap();
        assert_eq!((read[0].client_id.as_str(), read[0].expires), ("static/a", None));
        assert_eq!(read[0].access_token.expose(), TOKEN);
        assert_eq!(read[1].expires, Timestamp::parse("2030-01-31T12:00:00Z"));
    }

    #[test]
    fn every_problem_of_every_client_is_told_and_no_token_shown() {
        let told = problems(clients(&json!([
            {"clientId": "a b", "accessToken": "hunter2", "scopes": "x", "expires": "tomorrow", "scope": []},
            {"clientId": "c", "accessToken": TOKEN, "scopes": ["ä"]},
            {"clientId": "c", "accessToken": TOKEN, "scopes": []},
            "hunter2",
        ])));
        let expected = [
            "client 1: unknown key `scope`",
            "client 1: clientId must",
            "client 1: accessToken must",
            "client 1: scopes must",
            "client 1: expires must",
            "client 2 (`c`): scopes must",
            "client 3 (`c`): this clientId stands twice",
            "client 4: is not a map",
        ];
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected) && !told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn what_is_no_list_of_clients_is_refused_without_showing_it() {
        assert_eq!(problems(clients(&json!({"hunter2": 1}))), ["unexpected"]);
        let told = problems(clients(&json!("[hunter2]")));
        assert!(
            told.len() == 1 && told[0].starts_with("is not JSON as it must be") && !told[0].contains("hunter2"),
            "{told:?}"
        );
    }

    #[test]
    fn roles_map_an_id_to_scopes() {
        let map = json!({"hook-id:*": ["pulse:namespace:<..>"]});
        assert_eq!(roles(&map).ok(), roles(&json!(map.to_string())).ok());
        assert_eq!(roles(&map).ok().unwrap()["hook-id:*"], ["pulse:namespace:<..>"]);
        assert_eq!(problems(roles(&json!({"": [], "a": "b"}))).len(), 2);
        assert_eq!(problems(roles(&json!([]))), ["unexpected"]);
    }
}
