//! Reads the bodies of the management API's answers. Each list's rule about items that can't be read is told at its
//! method of [`Broker`](super::Broker).
//!
//! Errors say where and what is missing, never what stood there: it might be the hash of a password.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;
use crate::domain::history::Counters;
use crate::domain::inspection::{Content, Published};
use crate::domain::inventory::{
    Binding, Bound, BrokerConnection, BrokerExchange, BrokerPermissions, BrokerQueue, BrokerUser, Consumer, Publisher,
    QueueDetail, QueueKind, Right,
};
use crate::domain::name::Permissions;
use crate::secret::PasswordHash;

/// What is wrong with a body.
pub(super) type Unreadable = String;

/// What is said of a user's hash that is not ours to compare. It isn't base64 of anything, so no password verifies.
const FOREIGN_HASH: &str = "unreadable";

/// The only hashing algorithm that we use.
pub(super) const HASHING_ALGORITHM: &str = "rabbit_password_hashing_sha256";

/// The tags of the last user of a list: nearly all have the same ones, and share them.
#[derive(Default)]
pub(super) struct KnownTags(Option<Arc<[String]>>);

/// One user of a list.
pub(super) fn listed_user(item: &Value, known: &mut KnownTags) -> Result<BrokerUser, Unreadable> {
    let mut user = read_user(item)?;
    match &known.0 {
        Some(tags) if *tags == user.tags => user.tags = tags.clone(),
        _ => known.0 = Some(user.tags.clone()),
    }
    Ok(user)
}

pub(super) fn user(body: &[u8]) -> Result<BrokerUser, Unreadable> {
    read_user(&parse(body)?)
}

fn read_user(item: &Value) -> Result<BrokerUser, Unreadable> {
    let (name, hash) = (text(item, "name")?, text(item, "password_hash").unwrap_or(FOREIGN_HASH.into()));
    let ours = item["hashing_algorithm"].as_str().is_none_or(|algorithm| algorithm == HASHING_ALGORITHM);
    let hash = if ours || hash.is_empty() { hash } else { FOREIGN_HASH.into() };
    Ok(BrokerUser { name, tags: tags(&item["tags"]).into(), hash: PasswordHash::from_broker(hash) })
}

/// Users and virtual hosts, of a list of permissions or of permissions on topics.
pub(super) fn rights(body: &[u8], topic: bool) -> Result<Vec<Right>, Unreadable> {
    list(body, |item| right(item, topic))
}

/// One of them.
pub(super) fn right(item: &Value, topic: bool) -> Result<Right, Unreadable> {
    Ok(Right { user: text(item, "user")?, vhost: text(item, "vhost")?, topic })
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

pub(super) fn permission(item: &Value) -> Result<BrokerPermissions, Unreadable> {
    let (configure, write, read) = (text(item, "configure")?, text(item, "write")?, text(item, "read")?);
    Ok(BrokerPermissions { user: text(item, "user")?, permissions: Permissions { configure, write, read } })
}

/// The first page of a list of queues that is asked for page by page.
pub(super) fn queue_page(body: &[u8]) -> Result<Vec<BrokerQueue>, Unreadable> {
    #[derive(Deserialize)]
    struct Page<'a> {
        #[serde(borrow)]
        items: Vec<&'a RawValue>,
    }
    each(&deserialize::<Page<'_>>(body)?.items, listed_queue)
}

/// The names of such a page.
pub(super) fn name_page(body: &[u8]) -> Result<Vec<String>, Unreadable> {
    #[derive(Deserialize)]
    struct Page<'a> {
        #[serde(borrow)]
        items: Vec<&'a RawValue>,
    }
    each(&deserialize::<Page<'_>>(String::from_utf8_lossy(body).as_bytes())?.items, |item| text(item, "name"))
}

/// Messages that were taken out of a queue.
pub(super) fn messages(body: &[u8]) -> Result<Vec<Published>, Unreadable> {
    list(body, |item| {
        let payload = text(item, "payload")?;
        let is_text = item["payload_encoding"] == "string";
        // Without properties, RabbitMQ gives an empty list.
        let properties = item["properties"].as_object().filter(|all| !all.is_empty());
        Ok(Published {
            exchange: text(item, "exchange")?,
            routing_key: text(item, "routing_key")?,
            bytes: item["payload_bytes"].as_u64().unwrap_or(0),
            content: if is_text { Content::Text(payload) } else { Content::Bytes(payload) },
            properties: properties.map(|all| serde_json::json!(all).to_string()).unwrap_or_default(),
            left: item["message_count"].as_u64().unwrap_or(0),
        })
    })
}

pub(super) fn queue(body: &[u8]) -> Result<BrokerQueue, Unreadable> {
    listed_queue(&parse(body)?)
}

/// `exclusive` is null for quorum queues and streams, which can't be. Where it is missing for another reason, taking it
/// for false costs a refused deletion.
pub(super) fn listed_queue(item: &Value) -> Result<BrokerQueue, Unreadable> {
    let kind = match item["type"].as_str() {
        Some("classic") => QueueKind::Classic,
        Some("quorum") => QueueKind::Quorum,
        Some("stream") => QueueKind::Stream,
        _ => QueueKind::Other,
    };
    let exclusive = item["exclusive"].as_bool().unwrap_or(false);
    let fingerprint = fingerprint(item);
    let (messages, unacked) = (item["messages"].as_u64(), item["messages_unacknowledged"].as_u64());
    Ok(BrokerQueue { name: text(item, "name")?, messages, unacked, fingerprint, kind, exclusive })
}

/// A hash of a queue's kind and arguments, whatever their order. Without arguments, RabbitMQ gives an empty object or list.
fn fingerprint(item: &Value) -> u64 {
    let arguments: BTreeMap<_, _> = item["arguments"].as_object().into_iter().flatten().collect();
    let told = format!("{} {}", item["type"].as_str().unwrap_or_default(), serde_json::json!(arguments));
    Sha256::digest(told.as_bytes()).iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// What a closer look shows. Where the broker counts anything of a queue, what it does not show did not happen.
pub(super) fn queue_detail(body: &[u8]) -> Result<QueueDetail, Unreadable> {
    let item = parse(body)?;
    let counters = item["message_stats"].as_object().map(|stats| {
        let count = |key: &str| stats.get(key).and_then(Value::as_u64).unwrap_or(0);
        let delivered = ["deliver", "deliver_no_ack", "get", "get_no_ack"].map(count).iter().sum();
        Counters {
            acknowledged: ["ack", "deliver_no_ack", "get_no_ack"].map(count).iter().sum(),
            delivered,
            redelivered: count("redeliver"),
        }
    });
    let consumers = item["consumers"].as_u64().map(|consumers| u32::try_from(consumers).unwrap_or(u32::MAX));
    let details = item["consumer_details"].as_array().into_iter().flatten().filter_map(read_consumer).collect();
    let lately = listed_queue(&item).ok().filter(|queue| queue.messages.is_some() && queue.unacked.is_some());
    Ok(QueueDetail { consumers, counters, details, traits: traits(&item), lately })
}

/// What a queue was declared with.
fn traits(item: &Value) -> Vec<(String, String)> {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), String::from);
    let mut traits: Vec<_> = ["durable", "auto_delete"]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), item[key].as_bool()?.to_string())))
        .collect();
    let named = ["policy", "operator_policy"].into_iter();
    traits
        .extend(named.filter_map(|key| Some((key.to_owned(), text(item, key).ok().filter(|name| !name.is_empty())?))));
    traits.extend(item["arguments"].as_object().into_iter().flatten().map(|(key, value)| (key.clone(), plain(value))));
    traits
}

/// How many messages were published to an exchange, and by whom. One who can't be read is left out.
pub(super) fn publishers(body: &[u8]) -> Result<(Option<u64>, Vec<Publisher>), Unreadable> {
    let item: Value = deserialize(String::from_utf8_lossy(body).as_bytes())?;
    let read = |of: &Value| {
        let channel = &of["channel_details"];
        let address = text(channel, "peer_host").ok().map(|host| match channel["peer_port"].as_u64() {
            Some(port) => format!("{host}:{port}"),
            None => host,
        });
        Some(Publisher {
            connection: text(channel, "connection_name").ok()?,
            user: text(channel, "user").ok()?,
            address: address.unwrap_or_default(),
            messages: of["stats"]["publish"].as_u64().unwrap_or(0),
        })
    };
    let publishers = item["incoming"].as_array().into_iter().flatten().filter_map(read).collect();
    Ok((item["message_stats"]["publish_in"].as_u64(), publishers))
}

/// How many messages the channels of a connection have published.
pub(super) fn published_by(body: &[u8]) -> Result<u64, Unreadable> {
    let all = list(body, |channel| Ok(channel["message_stats"]["publish"].as_u64().unwrap_or(0)))?;
    Ok(all.iter().sum())
}

/// What is bound to an exchange.
pub(super) fn bound(body: &[u8]) -> Result<Vec<Bound>, Unreadable> {
    list(body, |item| {
        let (kind, name) = (text(item, "destination_type")?, text(item, "destination")?);
        Ok(Bound { kind, name, routing_key: text(item, "routing_key")? })
    })
}

/// A consumer; `None` of a stream's, which has no channel.
fn read_consumer(item: &Value) -> Option<Consumer> {
    let channel = &item["channel_details"];
    let of = |key: &str| text(channel, key).ok().filter(|text| !text.is_empty());
    let address = of("peer_host").map(|host| match channel["peer_port"].as_u64() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    });
    Some(Consumer {
        channel: of("name")?,
        connection: of("connection_name")?,
        user: of("user")?,
        address: address.unwrap_or_default(),
        prefetch: item["prefetch_count"].as_u64().unwrap_or(0),
    })
}

pub(super) fn channel_unacked(body: &[u8]) -> Result<Option<u64>, Unreadable> {
    Ok(parse(body)?["messages_unacknowledged"].as_u64())
}

pub(super) fn queue_owner(body: &[u8]) -> Result<Option<String>, Unreadable> {
    Ok(text(&parse(body)?["owner_pid_details"], "name").ok().filter(|name| !name.is_empty()))
}

/// The name of what is listed.
pub(super) fn listed_name(item: &Value) -> Result<String, Unreadable> {
    text(item, "name")
}

pub(super) fn exchange_details(body: &[u8]) -> Result<Vec<BrokerExchange>, Unreadable> {
    list(body, |item| {
        let is = |key: &str| item[key].as_bool().unwrap_or(false);
        let kind = text(item, "type").unwrap_or_default();
        let (durable, auto_delete, internal) = (is("durable"), is("auto_delete"), is("internal"));
        Ok(BrokerExchange { name: text(item, "name")?, kind, durable, auto_delete, internal })
    })
}

/// The bindings of a queue, but for that to the default exchange, whose name is empty.
pub(super) fn bindings(body: &[u8]) -> Result<Vec<Binding>, Unreadable> {
    let all =
        list(body, |item| Ok(Binding { exchange: text(item, "source")?, routing_key: text(item, "routing_key")? }));
    Ok(all?.into_iter().filter(|binding| !binding.exchange.is_empty()).collect())
}

/// So much is kept of what a program calls itself, in characters.
const LONGEST_PROGRAM: usize = 100;

/// All connections, and how many were left out for want of a name or a user.
pub(super) fn connections(body: &[u8]) -> Result<(Vec<BrokerConnection>, usize), Unreadable> {
    let all = list(body, |item| Ok(listed_connection(item)))?;
    let seen = all.len();
    let readable: Vec<_> = all.into_iter().flatten().collect();
    let left_out = seen - readable.len();
    Ok((readable, left_out))
}

/// One connection; `None` where it has no name or no user.
pub(super) fn connection(body: &[u8]) -> Result<Option<BrokerConnection>, Unreadable> {
    Ok(listed_connection(&parse(body)?))
}

pub(super) fn listed_connection(item: &Value) -> Option<BrokerConnection> {
    let (name, user) = (text(item, "name").ok()?, text(item, "user").ok()?);
    // Of a new connection, the broker tells the name alone, which begins with the address and the port.
    let named = || name.split_once(" -> ").and_then(|(peer, _)| peer.rsplit_once(':')).map(|(host, _)| host.to_owned());
    let address = text(item, "peer_host").ok().or_else(named).unwrap_or_default();
    let connected = item["connected_at"].as_i64().map(Timestamp::from_millis);
    Some(BrokerConnection { name, user, connected, address, program: program(item) })
}

/// What a program calls itself: the name that it gave its connection, or its library with the version.
fn program(item: &Value) -> String {
    let said = |of: &Value| of.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let of = &item["client_properties"];
    let library = || {
        let (product, version) = (said(&of["product"])?, said(&of["version"]).unwrap_or_default());
        Some(format!("{product} {version}").trim_end().to_owned())
    };
    let program = said(&item["user_provided_name"]).or_else(library).unwrap_or_default();
    program.chars().take(LONGEST_PROGRAM).collect()
}

/// Whether some node of the cluster runs the virtual host.
pub(super) fn vhost_runs(body: &[u8]) -> Result<bool, Unreadable> {
    runs(&parse(body)?)
}

/// The same of the one of this name, in a list of all.
pub(super) fn runs_among_vhosts(body: &[u8], name: &str) -> Result<bool, Unreadable> {
    let found = list(body, |vhost| Ok((text(vhost, "name")? == name).then(|| vhost.clone())))?;
    found.iter().flatten().next().map_or(Ok(false), runs)
}

/// The names of what is listed.
pub(super) fn names(body: &[u8]) -> Result<Vec<String>, Unreadable> {
    list(body, listed_name)
}

/// The name and the tags of who asks.
pub(super) fn who(body: &[u8]) -> Result<(String, Vec<String>), Unreadable> {
    let item = parse(body)?;
    Ok((text(&item, "name")?, tags(&item["tags"])))
}

/// Whether it is one thing of this name.
pub(super) fn is_named(body: &[u8], name: &str) -> bool {
    parse(body).is_ok_and(|item| item["name"] == name)
}

/// The name of the node that answers, of an overview.
pub(super) fn node(body: &[u8]) -> Result<String, Unreadable> {
    text(&parse(body)?, "node")
}

/// RabbitMQ's version, of an overview.
pub(super) fn version(body: &[u8]) -> Result<String, Unreadable> {
    text(&parse(body)?, "rabbitmq_version")
}

/// Whether statistics are kept, of an overview. Only one that says so has them off.
pub(super) fn keeps_statistics(body: &[u8]) -> Result<bool, Unreadable> {
    Ok(parse(body)?["disable_stats"] != true)
}

fn runs(vhost: &Value) -> Result<bool, Unreadable> {
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

/// One item of a list. A name that is not UTF-8 must not make it unreadable.
pub(super) fn item(text: &[u8]) -> Result<Value, Unreadable> {
    parse(String::from_utf8_lossy(text).as_bytes())
}

/// One name that is not UTF-8 must not make the whole list unreadable, however it is written.
pub(super) fn list<T>(body: &[u8], read: impl Fn(&Value) -> Result<T, Unreadable>) -> Result<Vec<T>, Unreadable> {
    each(&deserialize::<Vec<&RawValue>>(String::from_utf8_lossy(body).as_bytes())?, read)
}

/// Parses one item after the other: as values, all items of a long list together take many times the memory of its text.
fn each<T>(items: &[&RawValue], read: impl Fn(&Value) -> Result<T, Unreadable>) -> Result<Vec<T>, Unreadable> {
    let read = |item: &RawValue| read(&parse(item.get().as_bytes())?);
    items.iter().enumerate().map(|(at, item)| read(item).map_err(|e| format!("item {at}: {e}"))).collect()
}

pub(super) fn text(item: &Value, key: &str) -> Result<String, Unreadable> {
    item[key].as_str().map(String::from).ok_or_else(|| format!("it has no `{key}` that is a string"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Password;

    #[test]
    fn a_connection_tells_of_its_program_by_the_name_that_it_was_given_or_by_the_library() {
        let program = |body: &str| connection(body.as_bytes()).unwrap().unwrap().program;
        let of = |rest: &str| format!(r#"{{"name":"a:1 -> b:2","user":"u"{rest}}}"#);
        let library = r#","client_properties":{"product":"pika","version":"1.3.2"}"#;
        assert_eq!(program(&of(library)), "pika 1.3.2");
        assert_eq!(program(&of(&format!(r#"{library},"user_provided_name":"worker 7""#))), "worker 7");
        assert_eq!(program(&of(r#","client_properties":{"product":7}"#)), "");
        assert_eq!(program(&of("")), "");
        assert_eq!(
            program(&of(&format!(r#","user_provided_name":"{}""#, "é".repeat(500)))).chars().count(),
            LONGEST_PROGRAM
        );
    }

    fn users(body: &[u8]) -> Result<Vec<BrokerUser>, Unreadable> {
        let known = std::cell::RefCell::new(KnownTags::default());
        list(body, |item| listed_user(item, &mut known.borrow_mut()))
    }

    fn queues(body: &[u8]) -> Result<Vec<BrokerQueue>, Unreadable> {
        list(body, listed_queue)
    }

    fn exchanges(body: &[u8]) -> Result<Vec<String>, Unreadable> {
        list(body, listed_name)
    }

    fn permissions(body: &[u8]) -> Result<Vec<BrokerPermissions>, Unreadable> {
        list(body, permission)
    }

    #[test]
    fn tags_are_read_as_a_list_and_as_a_string() {
        let body = br#"[{"name":"a","password_hash":"","tags":["x","y"]},{"name":"b","password_hash":"","tags":"x, y"},
            {"name":"c","password_hash":"","tags":""},{"name":"d","password_hash":""}]"#;
        let read: Vec<_> = users(body).unwrap().into_iter().map(|user| user.tags.to_vec()).collect();
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
        assert_eq!(exchanges(b"[{\"name\":\"a\xff\"},{\"name\":\"b\"}]").unwrap(), ["a\u{fffd}", "b"]);
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
