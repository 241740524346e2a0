//! The HTTP API as its callers meet it: a real server on a port of its own, on SQLite and the fake broker.

mod accounts;
mod administration;
mod connections;
mod contacts;
mod encodings;
mod ends;
mod faults;
mod headers;
mod limits;
mod owners;
mod parts;
mod queues;
mod recorder;
mod refusals;
mod replays;
mod replies;
mod routing;
mod signatures;
pub mod site;
mod strangers;
mod streams;
