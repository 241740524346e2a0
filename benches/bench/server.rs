//! The program, running until it is no longer needed.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::Url;

use crate::measure;
use crate::world::{Database, World};

/// A process, ended with this value.
pub struct Running {
    process: Child,
    log: PathBuf,
}

impl Running {
    /// Starts the program with these arguments, and these variables besides those that it needs.
    pub fn start(
        world: &World,
        database: &Database,
        arguments: &[&str],
        variables: &[(&str, String)],
    ) -> Result<Running> {
        let log = world.log_path();
        let mut command: Command = world.program(database, arguments)?;
        command.stdout(File::create(&log)?).envs(variables.iter().map(|(name, value)| (name, value)));
        Ok(Running { process: command.spawn()?, log })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(peak) = measure::peak_of(self.id()) {
            eprintln!("bench: the process took {peak:.1} MiB at most");
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program serving.
pub struct Server {
    /// Its process.
    pub running: Running,
    /// Where it listens.
    pub root: Url,
}

impl Server {
    /// Starts it with these variables, and waits until it listens.
    pub fn start(world: &World, database: &Database, variables: &[(&str, String)]) -> Result<Server> {
        let mut running = Running::start(world, database, &["web"], variables)?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            let written = std::fs::read_to_string(&running.log)?;
            if let Some((_, rest)) = written.split_once("listening at ") {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !":/.".contains(c));
                let address = end.map(|end| &rest[..end]).context("an address")?;
                return Ok(Server { root: Url::parse(address)?, running });
            }
            if let Some(status) = running.process.try_wait()? {
                bail!("the server ended ({status}): {written}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("the server did not listen in time")
    }
}
