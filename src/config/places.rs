//! The kinds of values that say where something is: ports, hosts and URLs.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use serde_json::Value;
use url::Url;

use super::kinds::{Kind, Wrong, from_text, from_words, number, only, own, secret};
use crate::notify::smtp::is_ehlo_name;
use crate::secret::Secret;

/// A TCP port to connect to.
pub(super) const PORT: Kind<u16> = Kind {
    expected: "a port from 1 to 65535",
    secret: false,
    parse: |value| number(value).filter(|port| *port > 0).ok_or(Wrong::Unexpected),
};

/// A TCP port to listen at.
pub(super) const LISTEN_PORT: Kind<u16> = Kind {
    expected: "a port from 1 to 65535, or 0 for any that is free",
    secret: false,
    parse: |value| number(value).ok_or(Wrong::Unexpected),
};

/// An address to listen at.
pub(super) const ADDRESS: Kind<IpAddr> = Kind {
    expected: "an IP address, such as `0.0.0.0`, `127.0.0.1` or `::`",
    secret: false,
    parse: |value| from_text(value, |text| text.parse().ok()),
};

/// Networks.
pub(super) const NETWORKS: Kind<Vec<IpNet>> = Kind {
    expected: "IP addresses or networks, separated by commas, such as `10.0.0.0/8, 192.0.2.7`",
    secret: false,
    parse: |value| {
        from_words(value, |text| {
            let networks = text.split(',').map(str::trim).filter(|_| !text.trim().is_empty());
            networks.map(|text| text.parse().or_else(|_| text.parse().map(IpAddr::into)).ok()).collect()
        })
    },
};

/// A host without port; an IPv6 address is given back as it stands in a URL, between brackets.
pub(super) const HOST: Kind<String> = Kind {
    expected: "the name or address of a host alone, without protocol and port",
    secret: false,
    parse: |value| {
        from_text(value, |text| {
            let host = text.parse::<Ipv6Addr>().map_or(text.to_owned(), |address| format!("[{address}]"));
            let alone = !host.contains([':', '/', '@']) || host.starts_with('[');
            (text.is_empty() || alone && url::Host::parse(&host).is_ok()).then_some(host)
        })
    },
};

/// The protocol of a connection string, with its slashes.
pub(super) const AMQP_PROTOCOL: Kind<String> = Kind {
    expected: "`amqps://` or `amqp://`",
    secret: false,
    parse: |value| {
        from_text(value, |text| match text.trim_end_matches('/').trim_end_matches(':') {
            protocol @ ("amqp" | "amqps") => Some(format!("{protocol}://")),
            _ => None,
        })
    },
};

/// What ends a connection string.
pub(super) const SUFFIX: Kind<String> = Kind {
    expected: "nothing, or the query of a URL, such as `?frameMax=0`",
    secret: false,
    parse: |value| {
        own(value, |text| text.is_empty() || text.starts_with('?') && only(&text[1..], "-._~!$&'()*+,;=:@/?%"))
    },
};

/// Where an HTTP service is; without the slashes at its end.
pub(super) const HTTP_URL: Kind<String> = Kind {
    expected: "a URL that begins with `https://` or `http://`, such as `https://host.example.com`",
    secret: false,
    parse: |value| http_url(&from_text(value, |text| Some(text.to_owned()))?),
};

/// Where the nodes of one HTTP service are, each without the slashes at its end.
pub(super) const HTTP_URLS: Kind<Vec<String>> = Kind {
    expected: "a URL that begins with `https://` or `http://`, such as `https://host.example.com`, or several, separated by commas",
    secret: false,
    parse: |value| {
        let texts = match value {
            Value::Array(list) => list.iter().map(|item| from_text(item, |text| Some(text.to_owned()))).collect(),
            value => {
                from_text(value, |text| Some(text.split(',').map(|text| text.trim_matches(' ').to_owned()).collect()))
            }
        };
        let texts: Vec<String> = texts?;
        if texts.iter().all(String::is_empty) {
            return Ok(Vec::new());
        }
        let urls: Vec<_> = texts.iter().map(|text| http_url(text)).collect::<Result<_, _>>()?;
        let twice = urls.iter().enumerate().any(|(at, url)| urls[..at].contains(url));
        if twice || urls.iter().any(String::is_empty) { Err(Wrong::Unexpected) } else { Ok(urls) }
    },
};

fn http_url(text: &str) -> Result<String, Wrong> {
    let text = text.trim_end_matches('/');
    if text.contains('@') {
        return Err(Wrong::because("holds a user name or password; give these in their own settings"));
    }
    let good = |url: Url| matches!(url.scheme(), "http" | "https") && url.query().or(url.fragment()).is_none();
    let good = text.is_empty() || !holds_blanks(text) && Url::parse(text).is_ok_and(good);
    if good { Ok(text.to_owned()) } else { Err(Wrong::Unexpected) }
}

/// Where the store is.
pub(super) const DATABASE_URL: Kind<Secret> = Kind {
    expected: "`sqlite:<path>` or `postgres://<user>:<password>@<host>/<database>`",
    secret: true,
    parse: |value| {
        let file = |text: &str| text.strip_prefix("sqlite:").is_some_and(|path| !path.is_empty());
        secret(value, |text| {
            text.is_empty() || file(text) || text.starts_with("postgres://") || text.starts_with("postgresql://")
        })
    },
};

/// A mail server.
pub(super) const SMTP_URL: Kind<Secret> = Kind {
    expected: "`smtps://<user>:<password>@<host>:<port>`, or the same with `smtp://`",
    secret: true,
    parse: |value| {
        secret(value, |text| text.is_empty() || !holds_blanks(text) && Url::parse(text).is_ok_and(|url| smtp(&url)))
    },
};

/// Who sends mail.
pub(super) const MAILBOX: Kind<String> = Kind {
    expected: "an e-mail address, such as `Pulse <pulse@example.com>`",
    secret: false,
    // Its name may stand between quotes.
    parse: |value| {
        let good = |text: &str| text.is_empty() || text.parse::<lettre::message::Mailbox>().is_ok();
        from_words(value, |text| good(text).then(|| text.to_owned()))
    },
};

/// Whether `text` holds blanks or line breaks, of which the reader of URLs passes over some.
fn holds_blanks(text: &str) -> bool {
    text.contains(|c: char| c.is_whitespace() || c.is_control())
}
/// The name of a mail client.
pub(super) const EHLO_NAME: Kind<String> = Kind {
    expected: "the name of a host, such as `pulse.example.com`, or an address between brackets, such as `[192.0.2.1]`",
    secret: false,
    parse: |value| own(value, |text| text.is_empty() || is_ehlo_name(text)),
};

/// Whether this is a URL by which `lettre` finds a mail server.
fn smtp(url: &Url) -> bool {
    let tls = url.query_pairs().find(|(key, _)| key == "tls").map(|(_, how)| how.into_owned());
    let known = match url.scheme() {
        "smtps" => true,
        "smtp" => matches!(tls.as_deref(), None | Some("required" | "opportunistic" | "none")),
        _ => false,
    };
    known && url.has_host()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What `kind` makes of each of `texts`; `None` where it refuses one.
    fn read<T>(kind: &Kind<T>, texts: &[&str]) -> Vec<Option<T>> {
        texts.iter().map(|text| (kind.parse)(&json!(text)).ok()).collect()
    }

    #[test]
    fn a_port_is_not_zero_but_where_any_will_do() {
        assert_eq!(read(&PORT, &["5671", "0", "65536", "-1"]), [Some(5671), None, None, None]);
        assert_eq!(read(&LISTEN_PORT, &["0"]), [Some(0)]);
    }

    #[test]
    fn networks_are_a_list_of_addresses_and_ranges() {
        let networks = |texts: &[&str]| Some(texts.iter().map(|text| text.parse().unwrap()).collect());
        assert_eq!(
            read(
                &NETWORKS,
                &["", "192.0.2.7", "10.0.0.0/8, ::1", "10.0.0.0/33", "a", "10.0.0.1,", "10.0.0.1 10.0.0.2"]
            ),
            [networks(&[]), networks(&["192.0.2.7/32"]), networks(&["10.0.0.0/8", "::1/128"]), None, None, None, None]
        );
    }

    #[test]
    fn a_host_stands_alone_and_a_suffix_is_a_query() {
        let good = |kind: &Kind<String>, text: &str| (kind.parse)(&json!(text)).is_ok();
        for host in ["pulse.example.com", "localhost", "10.0.0.1", "[::1]", "::1", "2001:db8::7"] {
            assert!(good(&HOST, host), "{host}");
        }
        for host in
            ["amqps://pulse", "pulse:5671", "a b", "u@pulse", "[x]", "pulse/", "[::1]:5671", "fe80::1%eth0", "::1]"]
        {
            assert!(!good(&HOST, host), "{host}");
        }
        assert_eq!((HOST.parse)(&json!("::1")).ok().as_deref(), Some("[::1]"), "as it stands in a URL");
        assert!(good(&SUFFIX, "?frameMax=0") && !good(&SUFFIX, "frameMax=0") && !good(&SUFFIX, "?a b"));
    }

    #[test]
    fn a_protocol_is_read_with_and_without_its_slashes() {
        for text in ["amqps://", "amqps:", "amqps"] {
            assert_eq!((AMQP_PROTOCOL.parse)(&json!(text)).ok().as_deref(), Some("amqps://"));
        }
        assert_eq!(read(&AMQP_PROTOCOL, &["amqp", "https://", "amqps://x"]), [Some("amqp://".into()), None, None]);
    }

    #[test]
    fn urls_are_of_the_right_kind() {
        assert_eq!(read(&HTTP_URL, &["https://tc.example.com//"]), [Some("https://tc.example.com".into())]);
        for url in ["tc.example.com", "ftp://a", "https://", "https://a?b", "https://a#b", "https://u:p@a", "//a"] {
            assert!((HTTP_URL.parse)(&json!(url)).is_err(), "{url}");
        }
        for url in ["sqlite:x.sqlite", "postgres://u:p@h/d", "postgresql:///d?host=/run"] {
            assert!((DATABASE_URL.parse)(&json!(url)).is_ok(), "{url}");
        }
        for url in ["sqlite:", "mysql://h/d", "x.sqlite"] {
            assert!((DATABASE_URL.parse)(&json!(url)).is_err(), "{url}");
        }
        for url in ["smtp://h", "smtps://u:p@h:465", "smtp://h:587?tls=required", "smtp://h?tls=none"] {
            assert!((SMTP_URL.parse)(&json!(url)).is_ok(), "{url}");
        }
        for url in ["h:25", "http://h", "smtp://h?tls=maybe", "smtp:"] {
            assert!((SMTP_URL.parse)(&json!(url)).is_err(), "{url}");
        }
    }
}
