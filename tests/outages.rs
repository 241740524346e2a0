//! Outages: real processes on a RabbitMQ and a PostgreSQL of their own, which are stopped, frozen, cut off and wiped while
//! clients claim, log in, publish and consume.

mod broker;
mod cold;
mod database;
mod disk;
mod load;
mod stalls;
