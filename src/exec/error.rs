//! Why the command did not run.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::client::Trouble;

/// Why the command did not run, or why we stopped waiting for it.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The first claim was refused.
    #[error("{0}")]
    Refused(Trouble),
    /// The first claim did not succeed in time.
    #[error("the namespace could not be claimed within {}: {why}", humantime::format_duration(*.wait))]
    NotClaimed {
        /// How long we tried.
        wait: Duration,
        /// The last problem.
        why: String,
    },
    /// The file could not be written.
    #[error("{} can't be written: {error}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The command could not be started.
    #[error("{} can't be started: {error}", .command.display())]
    Start {
        /// The program.
        command: OsString,
        /// Why not.
        error: io::Error,
    },
    /// The operating system refused something else.
    #[error("signals and child processes can't be waited for: {0}")]
    System(#[from] io::Error),
}
