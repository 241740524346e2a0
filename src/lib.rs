//! A namespace credential broker for RabbitMQ.

pub mod auth;
pub mod broker;
pub mod clock;
pub mod config;
pub mod domain;
pub mod hawk;
pub mod http;
pub mod notify;
pub mod process;
pub mod secret;
pub mod service;
pub mod store;
pub mod taskcluster;
pub mod telemetry;
pub mod tls;
