//! What is the same for all that is served.
//!
//! * [`server`], [`connection`]: connections: time-outs, limits, draining; `seats`: how many, and whose.
//! * [`peer`]: what is told of its connection with each request; `forwarded`: what proxies say, where they are ours.
//! * [`around`]: what goes around every request: ids, headers, `forceSSL`, conditions, the room of replies.
//! * [`reply`]: replies in JSON; [`stream`]: how long and how large a reply may get; `encoding`: compression.
//! * [`limits`]: how much is done at a time, and for whom; `pace`: what is left for monitoring.
//! * `log`: one line for each request.

pub mod around;
pub mod connection;
pub(super) mod encoding;
pub(super) mod forwarded;
pub mod limits;
pub(super) mod log;
pub(super) mod pace;
pub mod peer;
pub mod reply;
mod seats;
pub mod server;
pub mod stream;
