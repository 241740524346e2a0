//! A namespace credential broker for RabbitMQ.

pub mod auth;
pub mod broker;
pub mod clock;
pub mod config;
pub mod domain;
pub mod hawk;
pub mod notify;
pub mod secret;
pub mod store;
pub mod telemetry;
pub mod taskcluster;
pub mod tls;
