//! The program as its users run it: real processes, on real services.

mod client;
mod exec;
mod outages;
mod overload;
mod process;
mod proxy;
mod recovery;
mod support;
