//! A namespace credential broker for RabbitMQ ("Pulse"): programs that hold Taskcluster credentials claim a namespace, and
//! get a connection string whose password rotates.
//!
//! # The map
//!
//! A module may use only what stands below it; `tests/layout.rs` checks that.
//!
//! * `main`: arguments, configuration, telemetry, one process, exit code.
//! * [`process`]: what each command runs: wiring, signals, loops.
//! * [`exec`]: a command that is run with current credentials.
//! * [`telemetry`]: log lines, for humans or as mozlog JSON.
//! * [`config`]: defaults, then `user-config.yml`, then the environment; one table of settings.
//! * [`http`]: the API: routes, the order of checks, errors, contracts. Never the store or the broker.
//! * [`auth`]: who is asking, and may they.
//! * [`service`]: the use cases. Store and broker meet only here, so only here does order matter.
//! * [`store`]: what is remembered, in SQLite or PostgreSQL; passwords are sealed.
//! * [`broker`]: RabbitMQ by its management API.
//! * [`notify`]: telling the owners of namespaces.
//! * [`client`]: for programs that use the service: current credentials, renewed in time.
//! * [`taskcluster`]: a client for Taskcluster's APIs, and for ours.
//! * [`domain`]: what the service is about, as pure functions.
//! * [`hawk`]: MACs, payload hashes, and signing.
//! * [`tls`], [`clock`], [`secret`]: cryptography is set up, time is asked for, and passwords are made there alone.
//!
//! ```text
//! request -> http (parse) -> auth (who, which scopes) -> domain (decide) -> service (store, then broker) -> response
//! tick    -> service (snapshot: broker, then store) -> domain (plan) -> service (apply, one by one) -> notify
//! ```
//!
//! # What always holds
//!
//! 1. A credential that is handed out logs in at once, and until the `reclaimAt` that came with it. It is handed out only
//!    after the broker has it and the store says so; see [`domain::rotation`].
//! 2. A claim of a known namespace never waits for the broker.
//! 3. Each change of a password is stored before the broker hears of it, and whoever finds it unfinished finishes with that
//!    same password.
//! 4. A record is written only over the version at which it was read.
//! 5. Nothing is deleted because it is absent from somewhere. There is a record that says that it is gone, the broker is read
//!    before the store, and one run removes at most so many things; see [`domain::plan`].
//! 6. What is not provably ours is never touched; [`domain::name::Names`] is asked.
//! 7. What has to be told is stored in the transaction of the change that it tells of, and delivered afterwards.
//! 8. No secret is stored in clear, logged, or shown in an error or by `Debug`.

pub mod auth;
pub mod broker;
pub mod client;
pub mod clock;
pub mod config;
pub mod domain;
pub mod exec;
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
