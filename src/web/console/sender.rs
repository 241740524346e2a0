//! Where a request that changes something was sent from: refused unless it was one of our own pages. Browsers say so
//! themselves in `Sec-Fetch-Site`, which no page can set; those that don't yet send an `Origin` with each such request.

use axum::http::{HeaderMap, header};
use url::{Host, Url};

use crate::web::edge::reply::header_text;

/// Whether a page of this very origin sent it, as far as the browser tells.
pub(super) fn is_own_page(headers: &HeaderMap) -> bool {
    match headers.get("sec-fetch-site") {
        Some(site) => site == "same-origin",
        None => header_text(headers, header::ORIGIN)
            .and_then(host_of)
            .zip(header_text(headers, header::HOST))
            .is_some_and(|(from, to)| from.eq_ignore_ascii_case(to)),
    }
}

/// Whether a request was sent to this machine by a name that only this machine has. A page of somebody else may have its own
/// name lead here, and is then of the same origin.
pub(super) fn is_for_loopback(headers: &HeaderMap) -> bool {
    let url = header_text(headers, header::HOST).and_then(|host| Url::parse(&format!("http://{host}")).ok());
    url.is_some_and(|url| match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    })
}

/// The host of an origin, with its port where that is not the scheme's.
fn host_of(origin: &str) -> Option<String> {
    let url = Url::parse(origin).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_lead_to_the_development_account() {
        let local = |host: &str| is_for_loopback(&HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]));
        assert!(
            ["localhost", "LOCALHOST:8080", "pulse.localhost:80", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080"]
                .into_iter()
                .all(local)
        );
        let others =
            ["evil.example.com", "localhost.example.com", "127.0.0.1.example.com:8080", "10.0.0.1", "[::2]", "", "a b"];
        assert!(!others.into_iter().any(local) && !is_for_loopback(&HeaderMap::new()));
    }

    #[test]
    fn only_our_own_pages_send_what_changes_something() {
        let own = |pairs: &[(&'static str, &str)]| {
            let all = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            is_own_page(&HeaderMap::from_iter(all))
        };
        let host = ("host", "Pulse.example.com");
        assert!(own(&[host, ("sec-fetch-site", "same-origin")]));
        assert!(own(&[host, ("origin", "https://pulse.example.com")]));
        assert!(own(&[("host", "localhost:8080"), ("origin", "http://localhost:8080")]));
        for other in ["cross-site", "same-site", "none", "", "Same-Origin, same-origin"] {
            assert!(!own(&[host, ("sec-fetch-site", other), ("origin", "https://pulse.example.com")]), "{other}");
        }
        for other in
            ["null", "", "https://evil.example.com", "https://pulse.example.com:8443", "file://pulse.example.com"]
        {
            assert!(!own(&[host, ("origin", other)]), "{other}");
        }
        assert!(!own(&[host]) && !own(&[("origin", "https://pulse.example.com")]));
    }
}
