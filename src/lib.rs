//! A namespace credential broker for RabbitMQ ("Pulse"). Programs with Taskcluster credentials claim a namespace, and get a
//! connection string whose password rotates.
//!
//! `docs/architecture.md` follows a claim, a rotation and a sweep through these modules.
//!
//! # The map
//!
//! A module may use only what stands below it; `tests/layout.rs` checks that.
//!
//! * `main`: arguments, configuration, telemetry, one process, exit code; `commands`: for people at a shell.
//! * [`process`]: what each command runs: wiring, signals, loops.
//! * [`exec`]: runs a command with current credentials.
//! * [`config`]: defaults, then `user-config.yml`, then the environment; one table of settings.
//! * [`web`]: everything that listens: connections, the API, pages for people, monitoring. Never the store or the broker.
//! * [`access`]: who is asking, and may they.
//! * [`service`]: the use cases. Store and broker meet only here, so only here does order matter.
//! * [`store`]: the database, SQLite or PostgreSQL; passwords in it are encrypted.
//! * [`broker`]: RabbitMQ, by its management API.
//! * [`notify`]: sends messages to the owners of namespaces.
//! * [`client`]: for programs that use the service: current credentials, renewed in time.
//! * [`taskcluster`]: a client for Taskcluster's APIs, and for ours.
//! * [`domain`]: the rules of the service, as pure functions.
//! * [`hawk`]: MACs, payload hashes, and signing.
//! * [`telemetry`]: log lines, for humans or as mozlog JSON; metrics.
//! * [`tls`], [`clock`], [`secret`], [`yaml`], [`terminal`]: the only places that set up cryptography, read the time, make
//!   passwords, read YAML, and make text of others safe to print.
//!
//! ```text
//! request -> web (edge, then api or console) -> access (who, which scopes) -> domain (decide) -> service (store, then broker) -> response
//! tick    -> service (snapshot: broker, then store) -> domain (plan) -> service (apply, one by one) -> notify
//! ```
//!
//! # What always holds
//!
//! 1. A credential that we return logs in at once, and until the `reclaimAt` that came with it. We return it only after the
//!    broker has it and the store says so; see [`domain::rotation`].
//! 2. A claim of a known namespace never waits for the broker.
//! 3. Each change of a password is stored before the broker hears of it. If a process dies in between, the next one finishes with
//!    that same password.
//! 4. A record is written only over the version at which it was read.
//! 5. Nothing is deleted because it is absent from somewhere. A deletion needs a record that says so, the broker is read before
//!    the store, and one run removes only a limited number of things; see [`domain::plan`].
//! 6. A namespace ends only when its date has come and programs were able to claim for as long as it was to live, by a clock
//!    that is not in doubt; see [`domain::hold`] and [`domain::calendar`].
//! 7. What is not provably ours is never touched. [`domain::name::Names`] decides by name, and [`domain::identity`] decides about
//!    a user right before we write or delete it.
//! 8. A message to an owner is stored in the transaction of the change that it tells of, and delivered afterwards.
//! 9. What is done to somebody's things is in the audit trail, which is stored in the transaction of the change, too.
//! 10. No secret is stored in clear, logged, or shown in an error or by `Debug`.

pub mod access;
pub mod broker;
pub mod client;
pub mod clock;
pub mod config;
pub mod domain;
pub mod exec;
pub mod hawk;
pub mod notify;
pub mod process;
pub mod secret;
pub mod service;
pub mod store;
pub mod taskcluster;
pub mod telemetry;
pub mod terminal;
pub mod tls;
pub mod web;
pub mod yaml;
