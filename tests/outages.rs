//! Outages: real processes on a RabbitMQ and a PostgreSQL of their own, which are stopped, frozen, cut off and wiped while
//! clients claim, log in, publish and consume.

#[path = "outages/broker.rs"]
mod broker;
#[path = "outages/cold.rs"]
mod cold;
#[path = "outages/database.rs"]
mod database;
#[path = "outages/disk.rs"]
mod disk;
#[path = "outages/load.rs"]
mod load;
#[path = "outages/stalls.rs"]
mod stalls;
mod support;
