//! What to run, and how.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

/// What to run, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program; looked up in `PATH` if it has no slash.
    pub command: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// What happens on a new connection string.
    pub on_reclaim: OnReclaim,
    /// How long the command and its whole process group may take to end after SIGTERM before we kill it.
    pub stop_timeout: Duration,
    /// The file that always contains the current connection string, and nothing else. Only its owner can read it. We
    /// replace it in one step, and remove it at the end.
    pub file: Option<PathBuf>,
    /// How long we try the first claim if the service can't be reached.
    pub wait: Duration,
    /// The variables of our own environment that we don't pass on to the command.
    pub withheld: Vec<&'static str>,
}

/// What happens to the command on a new connection string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReclaim {
    /// We stop it and start it again.
    Restart,
    /// We write the file, and then send it this signal.
    Signal(Signal),
}
