//! Reads the bodies of the management API's answers. Each list's rule about items that can't be read is told at its
//! method of [`Broker`](super::Broker).
//!
//! Errors say where and what is missing, never what stood there: it might be the hash of a password.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::domain::inventory::{BrokerConnection, BrokerPermissions, BrokerQueue, BrokerUser, QueueKind};
use crate::domain::name::Permissions;
use crate::secret::PasswordHash;

/// What is wrong with a body.
pub(super) type Unreadable = String;

/// What is said of a user's hash that is not ours to compare. It isn't base64 of anything, so no password verifies.
const FOREIGN_HASH: &str = "unreadable";

/// The only hashing algorithm that we use.
pub(super) const HASHING_ALGORITHM: &str = "rabbit_password_hashing_sha256";

pub(super) fn users(body: &[u8]) -> Result<Vec<BrokerUser>, Unreadable> {
    list(body, |item| {
        let (name, hash) = (text(item, "name")?, text(item, "password_hash").unwrap_or(FOREIGN_HASH.into()));
        let ours = item["hashing_algorithm"].as_str().is_none_or(|algorithm| algorithm == HASHING_ALGORITHM);
        let hash = if ours || hash.is_empty() { hash } else { FOREIGN_HASH.into() };
        Ok(BrokerUser { name, tags: tags(&item["tags"]), hash: PasswordHash::from_broker(hash) })
    })
}

/// A list of strings, or until RabbitMQ 3.8 one string with commas.
fn tags(value: &Value) -> Vec<String> {
    let split = |text: &str| text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(String::from).collect();
    match value {
        Value::String(text) => split(text),
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(String::from).collect(),
        _ => Vec::new(),
    }
}

pub(super) fn permissions(body: &[u8]) -> Result<Vec<BrokerPermissions>, Unreadable> {
    list(body, |item| {
        let (configure, write, read) = (text(item, "configure")?, text(item, "write")?, text(item, "read")?);
        Ok(BrokerPermissions { user: text(item, "user")?, permissions: Permissions { configure, write, read } })
    })
}

pub(super) fn queues(body: &[u8]) -> Result<Vec<BrokerQueue>, Unreadable> {
    list(body, read_queue)
}

/// The first page of a list of queues that is asked for page by page.
pub(super) fn queue_page(body: &[u8]) -> Result<Vec<BrokerQueue>, Unreadable> {
    #[derive(Deserialize)]
    struct Page<'a> {
        #[serde(borrow)]
        items: Vec<&'a RawValue>,
    }
    each(&deserialize::<Page<'_>>(body)?.items, read_queue)
}

pub(super) fn queue(body: &[u8]) -> Result<BrokerQueue, Unreadable> {
    read_queue(&parse(body)?)
}

/// `exclusive` is null for quorum queues and streams, which can't be. Where it is missing for another reason, taking it
/// for false costs a refused deletion.
fn read_queue(item: &Value) -> Result<BrokerQueue, Unreadable> {
    let kind = match item["type"].as_str() {
        Some("classic") => QueueKind::Classic,
        Some("quorum") => QueueKind::Quorum,
        Some("stream") => QueueKind::Stream,
        _ => QueueKind::Other,
    };
    let exclusive = item["exclusive"].as_bool().unwrap_or(false);
    Ok(BrokerQueue { name: text(item, "name")?, messages: item["messages"].as_u64(), kind, exclusive })
}

pub(super) fn queue_owner(body: &[u8]) -> Result<Option<String>, Unreadable> {
    Ok(text(&parse(body)?["owner_pid_details"], "name").ok().filter(|name| !name.is_empty()))
}

pub(super) fn exchanges(body: &[u8]) -> Result<Vec<String>, Unreadable> {
    list(body, |item| text(item, "name"))
}

/// All connections, and how many were left out for want of a name or a user.
pub(super) fn connections(body: &[u8]) -> Result<(Vec<BrokerConnection>, usize), Unreadable> {
    let all = list(body, |item| Ok(read_connection(item)))?;
    let seen = all.len();
    let readable: Vec<_> = all.into_iter().flatten().collect();
    let left_out = seen - readable.len();
    Ok((readable, left_out))
}

/// One connection; `None` where it has no name or no user.
pub(super) fn connection(body: &[u8]) -> Result<Option<BrokerConnection>, Unreadable> {
    Ok(read_connection(&parse(body)?))
}

fn read_connection(item: &Value) -> Option<BrokerConnection> {
    let (name, user) = (text(item, "name").ok()?, text(item, "user").ok()?);
    Some(BrokerConnection { name, user, connected: item["connected_at"].as_i64().map(Timestamp::from_millis) })
}

/// Whether some node of the cluster runs the virtual host.
pub(super) fn vhost_runs(body: &[u8]) -> Result<bool, Unreadable> {
    let vhost = parse(body)?;
    let states = vhost["cluster_state"].as_object().ok_or("it has no `cluster_state`")?;
    Ok(states.values().any(|state| state == "running"))
}

/// What the broker says is wrong: its `error` and its `reason`, which may be a string or a list, or the beginning of
/// the body where it is no such object. Empty for an empty body.
pub(super) fn complaint(body: &[u8]) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), String::from);
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(said)) => {
            ["error", "reason"].iter().filter_map(|key| said.get(*key)).map(plain).collect::<Vec<_>>().join(": ")
        }
        _ => String::from_utf8_lossy(body).trim().to_owned(),
    }
}

fn deserialize<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Unreadable> {
    serde_json::from_slice(body).map_err(|e| {
        if e.is_data() {
            return "it is no list, or no page of one".to_owned();
        }
        format!("it is no JSON (line {}, column {})", e.line(), e.column())
    })
}

fn parse(body: &[u8]) -> Result<Value, Unreadable> {
    deserialize(body)
}

fn list<T>(body: &[u8], read: impl Fn(&Value) -> Result<T, Unreadable>) -> Result<Vec<T>, Unreadable> {
    each(&deserialize::<Vec<&RawValue>>(body)?, read)
}

/// Parses one item after the other: as values, all items of a long list together take many times the memory of its text.
fn each<T>(items: &[&RawValue], read: impl Fn(&Value) -> Result<T, Unreadable>) -> Result<Vec<T>, Unreadable> {
    let read = |item: &RawValue| read(&parse(item.get().as_bytes())?);
    items.iter().enumerate().map(|(at, item)| read(item).map_err(|e| format!("item {at}: {e}"))).collect()
}

fn text(item: &Value, key: &str) -> Result<String, Unreadable> {
    item[key].as_str().map(String::from).ok_or_else(|| format!("it has no `{key}` that is a string"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Password;

    #[test]
    fn tags_are_read_as_a_list_and_as_a_string() {
        let body = br#"[{"name":"a","password_hash":"","tags":["x","y"]},{"name":"b","password_hash":"","tags":"x, y"},
            {"name":"c","password_hash":"","tags":""},{"name":"d","password_hash":""}]"#;
        let read: Vec<_> = users(body).unwrap().into_iter().map(|user| user.tags).collect();
        assert_eq!(read, [vec!["x", "y"], vec!["x", "y"], vec![], vec![]]);
    }

    #[test]
    fn a_hash_by_another_algorithm_or_none_at_all_is_not_taken_for_ours_nor_for_blocked() {
        let ours = Password::from_stored("p".into()).hash();
        let of = |fields: &str| users(format!(r#"[{{"name":"a"{fields}}}]"#).as_bytes()).unwrap().remove(0).hash;
        assert_eq!(of(&format!(r#","password_hash":"{}""#, ours.as_str())), ours);
        for fields in [
            format!(r#","password_hash":"{}","hashing_algorithm":"rabbit_password_hashing_md5""#, ours.as_str()),
            r#","password_hash":null"#.into(),
            String::new(),
        ] {
            assert!(!of(&fields).is_blocked() && of(&fields) != ours, "{fields}");
            assert!(!of(&fields).verifies(&Password::from_stored("p".into())));
        }
        assert!(of(r#","password_hash":"","hashing_algorithm":"rabbit_password_hashing_md5""#).is_blocked());
    }

    #[test]
    fn what_is_not_told_of_a_queue_is_unknown_and_not_zero() {
        let read = queues(br#"[{"name":"a"},{"name":"b","type":"x","exclusive":null,"messages":null}]"#).unwrap();
        for queue in read {
            assert_eq!((queue.messages, queue.kind, queue.exclusive), (None, QueueKind::Other, false));
        }
    }

    #[test]
    fn an_item_without_its_name_makes_the_list_unreadable_rather_than_shorter() {
        for body in [&br#"[{"name":"a"},{"messages":1}]"#[..], br#"[{"name":"a"},7]"#, br#"[{"name":["a"]}]"#] {
            assert!(queues(body).unwrap_err().contains("no `name`"));
            assert!(exchanges(body).is_err() && users(body).is_err());
        }
        assert!(permissions(br#"[{"user":"a","configure":"","write":""}]"#).unwrap_err().contains("`read`"));
        for body in [&b""[..], b"<html>", b"{}", b"[", b"\xff"] {
            assert!(queues(body).is_err() && connections(body).is_err() && queue_page(body).is_err());
        }
    }

    #[test]
    fn a_connection_without_a_name_is_left_out_and_counted() {
        let body = br#"[{"user":"u"},{"name":"n","user":"u","connected_at":7},{"name":"m","user":"u"}]"#;
        let (read, left_out) = connections(body).unwrap();
        assert_eq!(left_out, 1);
        assert_eq!(read[0].connected, Some(Timestamp::from_millis(7)));
        assert_eq!((read[1].name.as_str(), read[1].connected), ("m", None));
    }

    #[test]
    fn the_owner_is_none_where_it_is_not_told() {
        assert_eq!(queue_owner(br#"{"owner_pid_details":{"name":"c"}}"#).unwrap(), Some("c".into()));
        // With none of the columns there, RabbitMQ answers an empty list in place of an object.
        for body in [&b"[]"[..], b"{}", br#"{"owner_pid_details":""}"#, br#"{"owner_pid_details":{"name":""}}"#] {
            assert_eq!((queue_owner(body).unwrap(), connection(body).unwrap()), (None, None));
        }
    }

    #[test]
    fn a_complaint_is_read_in_every_form() {
        assert_eq!(complaint(br#"{"error":"bad_request","reason":"not_json"}"#), "bad_request: not_json");
        assert_eq!(complaint(br#"{"error":"bad_request","reason":["a",[1]]}"#), r#"bad_request: ["a",[1]]"#);
        assert_eq!(complaint(b" <html> "), "<html>");
        assert_eq!(complaint(b""), "");
    }
}
