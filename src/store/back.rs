//! Ways back: what takes each migration out of a schema again, and what of the data goes with that.
//!
//! A migration `V<n>` has its way back in `migrations/back/V<n>.sql`, in SQL that either backend takes, or in a file for each. A line
//! `-- Loses <what>: <query>` there says what is lost, and counts it. The first version of the schema has none.

use crate::store::error::StoreError;
use crate::store::schema::{self, Applied};

/// A way back that both backends take.
macro_rules! both {
    ($version:literal) => {{
        const SQL: &str = include_str!(concat!("migrations/back/V", $version, ".sql"));
        Back { version: $version, sqlite: SQL, postgres: SQL }
    }};
}

/// The way back of a migration, for each backend.
struct Back {
    version: i32,
    sqlite: &'static str,
    postgres: &'static str,
}

/// The ways back of all migrations, by their versions.
const BACK: &[Back] = &[
    both!(2),
    both!(3),
    both!(4),
    both!(5),
    both!(6),
    both!(7),
    both!(8),
    both!(9),
    both!(10),
    both!(11),
    Back {
        version: 12,
        sqlite: include_str!("migrations/back/V12.sqlite.sql"),
        postgres: include_str!("migrations/back/V12.postgres.sql"),
    },
    both!(13),
    both!(14),
    both!(15),
    both!(16),
];

/// Whose statements are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backend {
    /// SQLite's.
    Sqlite,
    /// PostgreSQL's.
    Postgres,
}

/// The way back of one migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    /// The migration's name.
    pub(super) name: String,
    /// What is lost, and the query that counts it.
    pub(super) loses: Vec<(&'static str, &'static str)>,
    /// The statements.
    pub(super) sql: &'static str,
}

/// The ways back from the schema that is `applied` to version `to`, in their order.
///
/// # Errors
/// [`StoreError::Schema`] for a schema that this program doesn't know, and where there is no such way.
pub(super) fn ways(backend: Backend, applied: &[Applied], to: u32) -> Result<Vec<Way>, StoreError> {
    let runner = match backend {
        Backend::Sqlite => schema::sqlite::migrations::runner(),
        Backend::Postgres => schema::postgres::migrations::runner(),
    };
    schema::standing(&runner, applied)?;
    let newest = applied.last().map_or(0, |(version, _)| *version);
    let to = i32::try_from(to).unwrap_or(i32::MAX);
    if to < 1 || to > newest {
        return Err(StoreError::Schema(format!(
            "the database's schema has version {newest}: name one from 1 to {newest} to go back to, or none to bring it up to date"
        )));
    }
    let way = |(version, _): &Applied| {
        let known = runner.get_migrations().iter().find(|known| known.version() == *version).map(ToString::to_string);
        let back = BACK.iter().find(|back| back.version == *version);
        let (name, back) = known.zip(back).ok_or_else(|| {
            StoreError::Schema(format!("there is no way back from version {version} of the database's schema"))
        })?;
        let sql = if backend == Backend::Sqlite { back.sqlite } else { back.postgres };
        let lines = sql.lines().filter_map(|line| line.strip_prefix("-- Loses ")?.split_once(": "));
        Ok(Way { name, loses: lines.collect(), sql })
    };
    applied.iter().rev().take_while(|(version, _)| *version > to).map(way).collect()
}

/// Fails where something is `lost`, unless it is `forced`.
pub(super) fn require_no_loss(lost: &[(i64, &str)], forced: bool) -> Result<(), StoreError> {
    let lost: Vec<_> =
        lost.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if lost.is_empty() || forced {
        return Ok(());
    }
    Err(StoreError::Schema(format!(
        "going back would lose: {}. Nothing was changed. Back the database up, and give --force",
        lost.join("; ")
    )))
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// Everything in a database, but for how its statements are written.
    fn shape(connection: &Connection) -> Vec<String> {
        let query = "SELECT m.type || ' ' || m.name || ' ' || coalesce(group_concat(c.name || ' ' || c.type || ' ' || c.\"notnull\" \
                     || ' ' || coalesce(c.dflt_value, '')), coalesce(m.sql, '')) FROM sqlite_schema m \
                     LEFT JOIN pragma_table_info(m.name) c GROUP BY m.type, m.name ORDER BY 1";
        let mut statement = connection.prepare(query).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    fn migrated(to: u32) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        let runner = schema::sqlite::migrations::runner().set_target(refinery::Target::Version(to.try_into().unwrap()));
        runner.run(&mut connection).unwrap();
        connection
    }

    #[test]
    fn each_migration_but_the_first_has_a_way_back_to_the_schema_before_it() {
        for runner in [schema::sqlite::migrations::runner(), schema::postgres::migrations::runner()] {
            let mut versions: Vec<_> = runner.get_migrations().iter().map(refinery::Migration::version).collect();
            versions.sort_unstable();
            assert_eq!(versions[1..], BACK.iter().map(|back| back.version).collect::<Vec<_>>());
        }
        for Back { version, sqlite, .. } in BACK {
            let (before, after) = (version - 1, migrated(u32::try_from(*version).unwrap()));
            after.execute_batch(sqlite).unwrap();
            assert_eq!(shape(&after), shape(&migrated(u32::try_from(before).unwrap())), "back from {version}");
        }
    }

    #[test]
    fn a_way_that_is_none_is_refused() {
        let runner = schema::sqlite::migrations::runner();
        let mut applied: Vec<_> =
            runner.get_migrations().iter().map(|known| (known.version(), known.checksum().to_string())).collect();
        applied.sort();
        let version = |before: usize| u32::try_from(applied[applied.len() - 1 - before].0).unwrap();
        let newest = version(0);
        assert_eq!(ways(Backend::Sqlite, &applied, newest).unwrap(), []);
        assert_eq!(ways(Backend::Sqlite, &applied, version(2)).unwrap().len(), 2);
        for to in [0, newest + 1, u32::MAX] {
            assert!(ways(Backend::Sqlite, &applied, to).unwrap_err().to_string().contains("name one from 1 to"));
        }
        assert!(ways(Backend::Sqlite, &[(1, "1".to_owned())], 1).is_err(), "it is another's");
    }

    #[test]
    fn what_is_lost_is_named_and_refused_unless_forced() {
        let lost = [(0, "lists of owners"), (3, "records of the audit trail")];
        let error = require_no_loss(&lost, false).unwrap_err().to_string();
        assert!(error.contains("3 records") && !error.contains("owners") && error.contains("--force"), "{error}");
        assert!(require_no_loss(&lost, true).is_ok() && require_no_loss(&lost[..1], false).is_ok());
    }
}
