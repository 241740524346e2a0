//! Everything that is tested within one process, as one program: linking is what takes longest.

mod auth;
mod auth_remote;
mod broker;
mod claims;
mod cluster;
mod config;
mod console;
mod contract;
mod databases;
mod ends;
mod guard;
mod http;
mod layout;
mod notify;
mod outage;
mod store;
mod support;
mod tasks;
mod tls;
mod token;
