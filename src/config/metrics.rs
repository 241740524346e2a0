//! Where metrics are served.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::Value;

use super::clients::parsed;
use super::kinds::{Kind, Wrong};

/// What Taskcluster's `PROMETHEUS_CONFIG` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prometheus {
    /// Where to listen.
    pub server: Option<SocketAddr>,
    /// What the names of all metrics begin with, and an underscore; empty for nothing.
    pub prefix: String,
}

/// The port and the address of Taskcluster's services, where only the other is given.
const PORT: u16 = 9100;
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An address with its port, or nothing.
pub(super) const LISTEN_ADDRESS: Kind<Option<SocketAddr>> = Kind {
    expected: "an IP address with a port, such as `127.0.0.1:9100`, `0.0.0.0:9100` or `[::]:9100`, or nothing",
    secret: false,
    parse: |value| match value.as_str().ok_or(Wrong::Unexpected)?.trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| Wrong::Unexpected),
    },
};

/// Taskcluster's configuration of its monitor for Prometheus.
pub(super) const PROMETHEUS: Kind<Prometheus> = Kind {
    expected: "a map, or a JSON object, such as `{\"server\": {\"ip\": \"0.0.0.0\", \"port\": 9100}, \"prefix\": \"tc\"}`",
    secret: false,
    parse: prometheus,
};

fn prometheus(value: &Value) -> Result<Prometheus, Wrong> {
    let value = parsed(value)?;
    let map = value.as_object().ok_or(Wrong::Unexpected)?;
    let mut problems = Vec::new();
    let mut read = Prometheus::default();
    // `push` is for jobs that end before they are scraped.
    for key in map.keys().filter(|key| !["server", "prefix", "push"].contains(&key.as_str())) {
        problems.push(format!("unknown key `{key}`; there are server, prefix and push"));
    }
    match map.get("prefix") {
        None | Some(Value::Null) => {}
        // As Taskcluster makes a name of it.
        Some(Value::String(prefix)) => read.prefix = prefix.replace('-', "_").to_lowercase(),
        Some(_) => problems.push("prefix must be a text".to_owned()),
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !read.prefix.chars().all(fits) || read.prefix.starts_with(|c: char| c.is_ascii_digit()) {
        problems.push("prefix must be of `[A-Za-z0-9_-]`, and must not begin with a digit".to_owned());
    }
    match map.get("server") {
        None | Some(Value::Null) => {}
        Some(Value::Object(server)) => {
            let ip = server.get("ip").map_or(Some(ADDRESS), |ip| ip.as_str()?.parse().ok());
            let port = server.get("port").map_or(Some(PORT), |port| u16::try_from(port.as_u64()?).ok());
            match ip.zip(port) {
                Some((ip, port)) => read.server = Some(SocketAddr::new(ip, port)),
                None => problems.push("server must have an IP address as `ip` and a number as `port`".to_owned()),
            }
            for key in server.keys().filter(|key| !["ip", "port"].contains(&key.as_str())) {
                problems.push(format!("unknown key `server.{key}`; there are ip and port"));
            }
        }
        Some(_) => problems.push("server must be a map".to_owned()),
    }
    if problems.is_empty() { Ok(read) } else { Err(Wrong::Because(problems)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Option<Prometheus> {
        prometheus(value).ok()
    }

    #[test]
    fn it_is_what_taskclusters_services_are_given() {
        let given = json!({"prefix": "tc-Web", "server": {"ip": "0.0.0.0", "port": 9100}, "push": {"gateway": "x"}});
        let expected = Prometheus { server: Some("0.0.0.0:9100".parse().unwrap()), prefix: "tc_web".to_owned() };
        assert_eq!(read(&given).as_ref(), Some(&expected));
        assert_eq!(read(&json!(given.to_string())), Some(expected));
        assert_eq!(read(&json!({"server": {}})).unwrap().server, Some("127.0.0.1:9100".parse().unwrap()));
        assert_eq!(read(&json!("{}")), Some(Prometheus::default()));
    }

    #[test]
    fn what_is_wrong_with_it_is_told() {
        for wrong in [
            json!({"prefix": 1}),
            json!({"prefix": "a b"}),
            json!({"prefix": "1a"}),
            json!({"server": 9100}),
            json!({"server": {"port": 70000}}),
            json!({"server": {"ip": "localhost"}}),
            json!({"server": {"host": "::"}}),
            json!({"sever": {}}),
            json!([]),
        ] {
            assert_eq!(read(&wrong), None, "{wrong}");
        }
        assert_eq!((LISTEN_ADDRESS.parse)(&json!("[::1]:9100")).ok().flatten(), "[::1]:9100".parse().ok());
        assert!(
            (LISTEN_ADDRESS.parse)(&json!("localhost:9100")).is_err()
                && (LISTEN_ADDRESS.parse)(&json!("9100")).is_err()
        );
    }
}
