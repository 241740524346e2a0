//! What proxies say of a request, in `X-Forwarded-*` headers: left in it only where it is one of ours that says so.
//!
//! Where no proxies are named, the headers stay as they came, and are believed as far as Taskcluster's services do; see
//! [`crate::access::origin`]. Then whoever reaches us without the proxy may choose the port that a signature must cover, and
//! get past `forceSSL`, so nobody else should reach us.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

use super::peer::Peer;

const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";
const PORT: &str = "x-forwarded-port";
/// What a proxy may say beside: the id of the request.
const ID: &str = "x-request-id";

/// Makes one line of each of these headers, as Node does, which Taskcluster's services run on: of two schemes, neither is the
/// one that was used.
pub(in crate::web) fn join(headers: &mut HeaderMap) {
    for name in [FOR, PROTO, PORT] {
        let lines: Vec<_> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        if lines.len() > 1
            && let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b", "[..]))
        {
            headers.insert(name, joined);
        }
    }
}

/// Removes what can't be believed, where `proxies` are all that can. Of the addresses, the one that is left is the last
/// that is not one of them: those before it are what the sender says of itself.
pub(in crate::web) fn sift(request: &mut Request, proxies: &[IpNet]) {
    if proxies.is_empty() {
        return;
    }
    let is_ours = |address: &IpAddr| proxies.iter().any(|proxies| proxies.contains(&address.to_canonical()));
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    let headers = request.headers_mut();
    let sender = sender(headers, is_ours);
    headers.remove(FOR);
    if !peer.is_some_and(|peer| is_ours(&peer)) {
        headers.remove(PROTO);
        headers.remove(PORT);
        headers.remove(ID);
    } else if let Some(sender) = sender.and_then(|sender| HeaderValue::try_from(sender.to_string()).ok()) {
        headers.insert(FOR, sender);
    }
}

/// Who sent it, as far as our proxies can tell.
fn sender(headers: &HeaderMap, is_ours: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
    let list = String::from_utf8_lossy(headers.get(FOR)?.as_bytes());
    let mut hops: Vec<_> = list.split(',').map(|hop| hop.trim().parse().ok()).collect();
    hops.reverse();
    hops.into_iter().find(|hop| hop.as_ref().is_none_or(|hop| !is_ours(hop))).flatten()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn lines_of_one_header_are_one_list() {
        let mut headers = HeaderMap::new();
        for (name, value) in [(FOR, "a, b"), (FOR, "c"), (PROTO, "https"), (PROTO, "http"), (PORT, "443"), ("x-a", "d")]
        {
            headers.append(name, HeaderValue::from_static(value));
        }
        join(&mut headers);
        let lines = |name| headers.get_all(name).iter().map(|line| line.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!((lines(FOR), lines(PROTO), lines(PORT)), (vec!["a, b, c"], vec!["https, http"], vec!["443"]));
    }

    #[test]
    fn only_our_proxies_are_believed_and_of_them_the_last_that_saw_a_stranger() {
        let ours: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        for (peer, given, left) in [
            ("10.0.0.1", &["192.0.2.1"][..], Some("192.0.2.1")),
            ("::ffff:10.0.0.1", &["192.0.2.1"], Some("192.0.2.1")),
            ("fd00::1", &["2001:db8::1, 10.0.0.2"], Some("2001:db8::1")),
            ("10.0.0.1", &["203.0.113.9, 192.0.2.1, 10.0.0.2"], Some("192.0.2.1")),
            ("10.0.0.1", &["203.0.113.9", "192.0.2.1"], Some("192.0.2.1")),
            ("10.0.0.1", &["\u{e9}", "192.0.2.1"], Some("192.0.2.1")),
            ("10.0.0.1", &["192.0.2.1, unknown"], None),
            ("10.0.0.1", &["10.0.0.3"], None),
            ("10.0.0.1", &[], None),
            ("11.0.0.1", &["192.0.2.1"], None),
        ] {
            let mut request = Request::new(Body::empty());
            request.extensions_mut().insert(Peer(peer.parse().unwrap()));
            for value in given {
                request.headers_mut().append(FOR, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            for name in [PROTO, PORT, ID] {
                request.headers_mut().insert(name, HeaderValue::from_static("x"));
            }
            join(request.headers_mut());
            let untouched = request.headers().clone();
            sift(&mut request, &[]);
            assert_eq!(*request.headers(), untouched);
            sift(&mut request, &ours);
            let headers = request.headers();
            assert_eq!(headers.get(FOR).map(|value| value.to_str().unwrap()), left, "{peer} {given:?}");
            for name in [PROTO, PORT, ID] {
                assert_eq!(headers.contains_key(name), peer != "11.0.0.1", "{peer} {name}");
            }
        }
    }
}
