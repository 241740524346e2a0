//! The files of a SQLite database: for their owner alone, and the same ones for as long as they are open.
//!
//! A file that is renamed, replaced or removed while it is open goes on taking in what is written, and nobody finds it there:
//! after a restore, say. So each call makes sure that the files that are open are still those that have the names.

use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::store::error::StoreError;

/// What SQLite keeps beside the file while it is open, by the ends of their names.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// What tells one file from another: its device and its number there.
type Identity = (u64, u64);

fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn beside(path: &Path) -> impl Iterator<Item = PathBuf> {
    // SQLite follows links, and puts them beside the file itself.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    BESIDE.into_iter().map(move |end| {
        let mut name = OsString::from(path.as_os_str());
        name.push(end);
        name.into()
    })
}

/// The files of a database that is open.
pub(super) struct Files(Vec<(PathBuf, Identity)>);

impl Files {
    /// Those of the database at `path`.
    pub(super) fn of(path: &Path) -> Files {
        let paths = [path.to_owned()].into_iter().chain(beside(path));
        Files(paths.filter_map(|path| identity(&path).map(|found| (path, found))).collect())
    }

    /// Makes sure that they are still those that have the names.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] says which is not.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.0.iter().find(|(path, known)| identity(path) != Some(*known)) {
            None => Ok(()),
            Some((path, _)) => Err(StoreError::Unavailable(format!(
                "the file {} was removed or replaced while this process has it open; put it back, or restart every process \
                 that uses it",
                path.display()
            ))),
        }
    }
}

/// Whether the file at `path` holds all that was written to it: nothing is left in the log beside it.
pub(super) fn is_complete(path: &Path) -> bool {
    beside(path).filter_map(|path| fs::metadata(path).ok()).all(|log| log.len() == 0)
}

/// Makes an empty file at `path`, for its owner alone whatever the umask, where there is none. What keeps it from that, SQLite
/// finds out too.
pub(super) fn make(path: &Path) {
    if let Ok(file) = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        let _ = file.set_permissions(Permissions::from_mode(0o600));
    }
}

/// Whether something is at `path` that can't hold a database, such as a device, a directory or a FIFO.
pub(super) fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file())
}

/// Takes from others the right to use the database at `path`, which is ours.
pub(super) fn close_to_others(path: &Path) {
    for path in [path.to_owned()].into_iter().chain(beside(path)) {
        let Ok(file) = fs::metadata(&path) else { continue };
        if file.is_file()
            && file.mode() & 0o077 != 0
            && let Err(error) = fs::set_permissions(&path, Permissions::from_mode(file.mode() & 0o700))
        {
            tracing::warn!("others than its owner may use {}, and it can't be closed to them: {error}", path.display());
        }
    }
}
