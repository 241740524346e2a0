//! What integration tests share.
// Each file under `tests/` is a program of its own with a copy of this module, and uses a part of it.
#![allow(dead_code)]

pub mod authority;
pub mod cluster;
pub mod fake_auth;
pub mod fake_broker;
pub mod line;
pub mod nginx;
pub mod pooler;
pub mod postgres;
pub mod processes;
pub mod pulse;
pub mod rabbitmq;
pub mod replicas;
pub mod services;
pub mod world;
