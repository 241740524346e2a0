//! A request, as far as it is signed.

use super::origin::Origin;

/// What is verified of a request. It can be replayed for a while by whoever sees it, so it has no `Debug`.
#[derive(Clone, Copy)]
pub struct SignedRequest<'a> {
    /// The HTTP method, in any case.
    pub method: &'a str,
    /// The request target exactly as received: path and query.
    pub resource: &'a str,
    /// Where it was sent to.
    pub origin: &'a Origin,
    /// The `Authorization` header.
    pub authorization: Option<&'a [u8]>,
}
