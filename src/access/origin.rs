//! Where a request came from and where it was sent to, as its sender saw it: behind a proxy these are not the peer and
//! the port of our socket. The rules are those of Taskcluster's services.
//!
//! `X-Forwarded-Port` and `X-Forwarded-Proto` are believed from anybody, `X-Forwarded-For` only from a trusted proxy.
//! Whoever makes the first two up gains nothing. They choose the port that the signature must cover, and a signature
//! over any port needs the key. All that they allow is to make here a request that was signed for the same host, method and
//! path at another port; whoever captured it could make it there as well, and here too it counts once (see
//! [`super::replay`]). The third names an address for the log and for limits, and nobody is let in for an address. Where the
//! proxies are named in the settings, none of the three is believed from anybody else: `http` has removed them by then.

use std::net::IpAddr;

use url::Url;

/// Where a request was sent to, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The host that the request names, in lower case, without a port.
    pub host: String,
    /// The port that its sender connected to.
    pub port: u16,
    /// The sender's address, for the log, for Taskcluster, and for the limits of callers without credentials.
    pub source_ip: IpAddr,
}

/// Why a request's origin can't be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadOrigin {
    /// `Host` is missing, or something else than a host with or without a port.
    #[error("The Host header must be a host name or address, with a port where that is not 80.")]
    Host,
    /// `X-Forwarded-Port` does not begin with a port.
    #[error("The X-Forwarded-Port header must begin with a port number, at most 65535.")]
    Port,
}

/// The longest `Host` that is looked at, in bytes. A name has 253 at most, and a port six.
const LONGEST_HOST: usize = 512;

impl Origin {
    /// Reads the origin from the request's headers, which `header` returns by their names in lower case, and the
    /// address at the other end of the connection.
    pub fn read<'a>(
        header: impl Fn(&str) -> Option<&'a str>,
        peer: IpAddr,
        trust_proxy: bool,
    ) -> Result<Origin, BadOrigin> {
        let host = header("host").and_then(parse_host).ok_or(BadOrigin::Host)?;
        let port = match (header("x-forwarded-port"), header("x-forwarded-proto")) {
            (Some(port), _) => leading_port(port).ok_or(BadOrigin::Port)?,
            (None, Some("https")) => 443,
            (None, _) => host.port().unwrap_or(80),
        };
        let leftmost = header("x-forwarded-for").filter(|_| trust_proxy).and_then(|list| list.split(',').next());
        let source_ip = leftmost.and_then(|address| address.trim().parse().ok()).unwrap_or(peer).to_canonical();
        Ok(Origin { host: host.host_str().unwrap_or_default().to_owned(), port, source_ip })
    }
}

/// The header as a URL, which is how Taskcluster reads it.
fn parse_host(header: &str) -> Option<Url> {
    if header.len() > LONGEST_HOST || header.contains(['/', '\\', '?', '#', '@']) {
        return None;
    }
    Url::parse(&format!("http://{header}")).ok()
}

fn leading_port(header: &str) -> Option<u16> {
    let header = header.trim_start();
    let digits = header.find(|c: char| !c.is_ascii_digit()).unwrap_or(header.len());
    header[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &'static str)], trust_proxy: bool) -> Result<Origin, BadOrigin> {
        let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        Origin::read(header, IpAddr::from([10, 0, 0, 1]), trust_proxy)
    }

    #[test]
    fn a_host_is_read_as_a_url_reads_it() {
        for (header, host, port) in [
            ("Example.COM", "example.com", 80),
            ("example.com:8443", "example.com", 8443),
            ("127.0.0.1:80", "127.0.0.1", 80),
            ("[::1]:8080", "[::1]", 8080),
        ] {
            let origin = read(&[("host", header)], false).unwrap();
            assert_eq!((origin.host.as_str(), origin.port), (host, port), "{header}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = "a".repeat(LONGEST_HOST + 1).leak();
        for header in ["", " ", "a/b", "user@a", "a?b", "a#b", "a\\b", "a:x", "a:70000", "[::1", "a b", long] {
            assert_eq!(read(&[("host", header)], false), Err(BadOrigin::Host), "{header}");
        }
        assert_eq!(read(&[], false), Err(BadOrigin::Host));
    }

    #[test]
    fn a_forwarded_port_that_is_none_is_refused() {
        for header in ["", "x", "-1", "65536", "99999999999"] {
            let headers = [("host", "a"), ("x-forwarded-port", header), ("x-forwarded-proto", "https")];
            assert_eq!(read(&headers, true), Err(BadOrigin::Port), "{header}");
        }
    }

    #[test]
    fn only_a_trusted_proxy_says_who_the_sender_is_and_only_by_an_address() {
        for (header, trusted, source) in [
            ("1.2.3.4", false, "10.0.0.1"),
            (" 1.2.3.4 , 5.6.7.8", true, "1.2.3.4"),
            ("::ffff:1.2.3.4", true, "1.2.3.4"),
            ("2001:db8::1", true, "2001:db8::1"),
            ("unknown", true, "10.0.0.1"),
        ] {
            let origin = read(&[("host", "a"), ("x-forwarded-for", header)], trusted).unwrap();
            assert_eq!(origin.source_ip.to_string(), source, "{header}");
        }
    }
}
