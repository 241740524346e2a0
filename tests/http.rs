//! The HTTP API as its callers meet it: a real server on a port of its own, on SQLite and the fake broker.

#[path = "http/connections.rs"]
mod connections;
#[path = "http/encodings.rs"]
mod encodings;
#[path = "http/faults.rs"]
mod faults;
#[path = "http/headers.rs"]
mod headers;
#[path = "http/limits.rs"]
mod limits;
#[path = "http/recorder.rs"]
mod recorder;
#[path = "http/refusals.rs"]
mod refusals;
#[path = "http/replays.rs"]
mod replays;
#[path = "http/replies.rs"]
mod replies;
#[path = "http/routing.rs"]
mod routing;
#[path = "http/signatures.rs"]
mod signatures;
#[path = "http/site.rs"]
mod site;
mod support;
