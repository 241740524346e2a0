//! The schema: numbered migrations, and whether a database has those that this program knows.
//!
//! `migrations/` holds the same versions for either backend. One that was released is never changed; a new one must leave
//! the programs before it working, for they go on running while it is applied.

use refinery::{Migration, Runner, error::Kind};

use crate::store::error::StoreError;

/// PostgreSQL's migrations.
pub(super) mod postgres {
    refinery::embed_migrations!("src/store/migrations/postgres");
}

/// SQLite's migrations.
pub(super) mod sqlite {
    refinery::embed_migrations!("src/store/migrations/sqlite");
}

/// The table in which `refinery` notes what was applied.
pub(super) const HISTORY_TABLE: &str = "refinery_schema_history";
/// Reads what was applied, as [`Applied`].
pub(super) const HISTORY: &str = "SELECT version, checksum FROM refinery_schema_history ORDER BY version";

/// Forgets that migrations after a version were applied.
pub(super) const FORGET: &str = "DELETE FROM refinery_schema_history WHERE version > $1";

/// The version and checksum of an applied migration.
pub(super) type Applied = (i32, String);

/// How a schema that this program can work with stands to the one that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is the one.
    Current,
    /// Migrations are to be applied; the number is that of the last one that is there, zero where none is.
    Behind(i32),
}

/// Compares what `runner` knows with what is `applied`, in the order of their versions.
///
/// # Errors
/// [`StoreError::Schema`] where the schema is newer, or was made by somebody else.
pub(super) fn standing(runner: &Runner, applied: &[Applied]) -> Result<Standing, StoreError> {
    let mut known: Vec<&Migration> = runner.get_migrations().iter().collect();
    known.sort();
    let newest_known = known.last().map_or(0, |migration| migration.version());
    let newest = applied.last().map_or(0, |(version, _)| *version);
    let foreign = |(known, (version, checksum)): &(&&Migration, &Applied)| {
        known.version() != *version || known.checksum().to_string() != *checksum
    };
    if let Some((_, (version, _))) = known.iter().zip(applied).find(foreign) {
        return Err(StoreError::Schema(format!(
            "version {version} of the database's schema is not the one that this program knows: \
             another or a changed program migrated it, use an empty database or that program"
        )));
    }
    if newest > newest_known {
        return Err(StoreError::Schema(format!(
            "the database's schema has version {newest}, and this program knows versions up to {newest_known} only: \
             run the newer program that migrated it"
        )));
    }
    Ok(if newest == newest_known { Standing::Current } else { Standing::Behind(newest) })
}

/// Refuses to make tables in a database that holds `others` already, without a history of ours.
pub(super) fn require_empty(others: impl Iterator<Item = String>) -> Result<(), StoreError> {
    let others: Vec<_> = others.collect();
    if others.is_empty() {
        return Ok(());
    }
    Err(StoreError::Schema(format!(
        "the database belongs to something else, for it holds {}, and no history of this program's migrations: give an empty \
         one; nothing in it was changed",
        others.join(", ")
    )))
}

/// Refuses a schema that is not current.
pub(super) fn require_current(runner: &Runner, applied: &[Applied]) -> Result<(), StoreError> {
    match standing(runner, applied)? {
        Standing::Current => Ok(()),
        Standing::Behind(0) => {
            Err(StoreError::Unmigrated("the database has no schema yet: run `taskcluster-pulse migrate`".to_owned()))
        }
        Standing::Behind(version) => Err(StoreError::Unmigrated(format!(
            "the database's schema has version {version}, which is older than this program: run `taskcluster-pulse migrate`"
        ))),
    }
}

/// Why a migration failed, in words. `inner` words an error of the backend.
pub(super) fn failure<E: std::error::Error + 'static>(
    error: &refinery::Error,
    inner: impl FnOnce(&E) -> StoreError,
) -> StoreError {
    match error.kind() {
        Kind::Connection(_, cause) => {
            cause.downcast_ref::<E>().map_or_else(|| StoreError::Failed(format!("a migration failed: {cause}")), inner)
        }
        other => StoreError::Schema(format!("the database can't be migrated: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(count: usize) -> Runner {
        let migration = |n| Migration::unapplied(&format!("V{n}__step"), &format!("SELECT {n}")).unwrap();
        Runner::new(&(1..=count).rev().map(migration).collect::<Vec<_>>())
    }

    fn applied(count: usize) -> Vec<Applied> {
        let mut applied: Vec<_> =
            runner(count).get_migrations().iter().map(|m| (m.version(), m.checksum().to_string())).collect();
        applied.sort();
        applied
    }

    #[test]
    fn an_older_schema_is_to_be_migrated_and_refused_until_then() {
        assert_eq!(standing(&runner(3), &applied(2)).unwrap(), Standing::Behind(2));
        for count in [0, 2] {
            let error = require_current(&runner(3), &applied(count)).unwrap_err().to_string();
            assert!(error.contains("run `taskcluster-pulse migrate`"), "{error}");
        }
        assert_eq!(require_current(&runner(3), &applied(3)).map_err(|e| e.to_string()), Ok(()));
    }

    #[test]
    fn a_newer_or_foreign_schema_is_refused() {
        let error = standing(&runner(2), &applied(3)).unwrap_err().to_string();
        assert!(error.contains("has version 3") && error.contains("up to 2"), "{error}");
        let mut foreign = applied(2);
        foreign[0].1 = "1".to_owned();
        let error = standing(&runner(3), &foreign).unwrap_err().to_string();
        assert!(error.contains("version 1 of the database's schema is not the one"), "{error}");
    }
}
