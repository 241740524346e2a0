//! What is told of its connection with each request.

use std::net::IpAddr;

/// The address at the other end of a connection; the server puts it into each request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// In the extensions of a request: it came on a connection more than are taken, and is the last one there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::web) enum Crowded {
    /// There are as many as the service takes.
    Service,
    /// There are as many as one address has.
    Address,
}

impl Crowded {
    /// What its sender is told.
    pub fn message(self) -> &'static str {
        match self {
            Crowded::Service => "The service has too many connections at the moment. Try again.",
            Crowded::Address => "Your address has too many connections here. Try again.",
        }
    }
}
