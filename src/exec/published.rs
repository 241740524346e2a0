//! The file with the current connection string.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::ExecError;
use crate::client::Credentials;

/// A file with the current connection string, removed on drop. Its path is absolute, because the command may use
/// another working directory.
pub(super) struct Published(PathBuf);

impl Published {
    /// Writes it for the first time.
    ///
    /// # Errors
    /// [`ExecError::File`], also if there is something else than a file.
    pub fn new(path: &Path, credentials: &Credentials) -> Result<Published, ExecError> {
        let write = || {
            let path = std::path::absolute(path)?;
            // We only replace a regular file, and not a device or a link to one.
            if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
                return Err(io::Error::other("there is something else than a file"));
            }
            replace(&path, credentials)?;
            Ok(Published(path))
        };
        write().map_err(|error| ExecError::File { path: path.to_owned(), error })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Replaces its content.
    ///
    /// # Errors
    /// Those of the file system. The file keeps its former content then.
    pub fn replace(&self, credentials: &Credentials) -> io::Result<()> {
        replace(&self.0, credentials)
    }
}

/// Replaces the file at `path` in one step, by a new one that is written beside it.
fn replace(path: &Path, credentials: &Credentials) -> io::Result<()> {
    let mut name = OsString::from(".");
    name.push(path.file_name().ok_or(ErrorKind::IsADirectory)?);
    name.push(format!(".{:016x}", rand::random::<u64>()));
    let beside = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = file
        .write_all(credentials.connection_string.expose().as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // Report the first error, not this one.
        let _ = fs::remove_file(&beside);
    }
    written
}

impl Drop for Published {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!("{} can't be removed: {error}", self.0.display());
        }
    }
}
