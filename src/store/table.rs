//! Tables: each is described once, by [`table!`], and from that come its statements for either backend, what they are given,
//! and how its rows are read. A new column is one line there, and one migration a backend.

use std::collections::HashSet;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::namespace::Version;
use crate::store::error::StoreError;
use crate::store::postgres::Param;
use crate::store::postgres::text::escaped;

/// What either backend can read from a column.
pub(super) trait Field: rusqlite::types::FromSql + for<'a> tokio_postgres::types::FromSql<'a> {}

impl<T: rusqlite::types::FromSql + for<'a> tokio_postgres::types::FromSql<'a>> Field for T {}

/// A row of either backend.
pub(super) trait Row {
    /// The value of column `at`, counted from zero.
    fn field<T: Field>(&self, at: usize) -> Result<T, StoreError>;

    /// The text in column `at` that somebody outside has written.
    fn text(&self, at: usize) -> Result<String, StoreError>;

    /// The moment in column `at`.
    fn moment(&self, at: usize) -> Result<Timestamp, StoreError> {
        Ok(Timestamp::from_millis(self.field(at)?))
    }

    /// The moment in column `at`, if there is one.
    fn moment_or_none(&self, at: usize) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.field::<Option<i64>>(at)?.map(Timestamp::from_millis))
    }
}

/// A span of time as it is stored.
pub(super) fn millis(of: Duration) -> i64 {
    i64::try_from(of.as_millis()).unwrap_or(i64::MAX)
}

/// One column of many rows, as PostgreSQL takes it.
pub(super) type Array<'a> = Box<dyn Param + Send + 'a>;

/// The type of a column.
pub(super) trait Cell: rusqlite::ToSql + Sized + 'static {
    /// PostgreSQL's name of the type.
    const TYPE: &'static str;

    /// The cell in column `at` of `row`.
    fn read(row: &impl Row, at: usize) -> Result<Self, StoreError>;

    /// This column of all rows, for PostgreSQL.
    fn array<'a>(cells: impl Iterator<Item = &'a Self>) -> Array<'a>;
}

/// Text that somebody outside wrote, and that may hold any character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Foreign(pub(super) String);

impl AsRef<str> for Foreign {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Foreign {
    fn from(text: &str) -> Foreign {
        Foreign(text.to_owned())
    }
}

impl rusqlite::ToSql for Foreign {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

/// Makes cells of types: what PostgreSQL calls them, how they are read, and what of them goes into an array.
macro_rules! cells {
    ($($type:ty: $name:literal, $read:expr, $borrow:expr;)*) => {
        $(impl Cell for $type {
            const TYPE: &'static str = $name;

            fn read(row: &impl Row, at: usize) -> Result<$type, StoreError> {
                $read(row, at)
            }

            fn array<'a>(cells: impl Iterator<Item = &'a $type>) -> Array<'a> {
                Box::new(cells.map($borrow).collect::<Vec<_>>())
            }
        })*
    };
}

cells! {
    bool: "boolean", Row::field, |cell| *cell;
    i64: "bigint", Row::field, |cell| *cell;
    Option<i64>: "bigint", Row::field, |cell| *cell;
    Option<i16>: "smallint", Row::field, |cell| *cell;
    String: "text", Row::field, |cell| cell.as_str();
    Option<String>: "text", Row::field, |cell| cell.as_deref();
    Foreign: "text", |row: &_, at| Row::text(row, at).map(Foreign), |cell| escaped(&cell.0);
}

/// A row of a table, described by [`table!`]. Its first column is the table's key, which is text.
pub(super) trait Table: Sized + Send + Sync + 'static {
    /// The table's name.
    const NAME: &'static str;
    /// The names of the columns, and PostgreSQL's names of their types.
    const COLUMNS: &'static [(&'static str, &'static str)];

    /// Reads the columns from the one numbered `first` on, in the order of [`Table::COLUMNS`].
    fn read(row: &impl Row, first: usize) -> Result<Self, StoreError>;

    /// The key.
    fn key(&self) -> &str;

    /// The cells in the order of [`Table::COLUMNS`], for SQLite.
    fn cells(&self) -> Vec<&dyn rusqlite::ToSql>;

    /// The columns of `rows` in the order of [`Table::COLUMNS`], for PostgreSQL.
    fn arrays<'a>(rows: &[&'a Self]) -> Vec<Array<'a>>;

    /// The table's statements, which are made once.
    fn sql() -> &'static Statements;

    /// The names of the columns, as a list in SQL.
    fn columns() -> String {
        list(Self::COLUMNS, |_, (name, _)| (*name).to_owned())
    }

    /// A query for whole rows; `rest` is what follows the table's name.
    fn select(rest: &str) -> String {
        format!("SELECT {} FROM {} {rest}", Self::columns(), Self::NAME)
    }
}

/// Describes a table: a struct of its columns, in their order, the key first. What is read and written is a row as it is
/// stored; turning it into a value of the domain and back is left to the file that describes it.
macro_rules! table {
    ($(#[$doc:meta])* $row:ident in $name:literal { $key:ident: $key_type:ty, $($column:ident: $type:ty,)* }) => {
        $(#[$doc])*
        pub(in crate::store) struct $row {
            pub(in crate::store) $key: $key_type,
            $(pub(in crate::store) $column: $type,)*
        }

        impl $crate::store::table::Table for $row {
            const NAME: &'static str = $name;
            const COLUMNS: &'static [(&'static str, &'static str)] = &[
                (stringify!($key), <$key_type as $crate::store::table::Cell>::TYPE),
                $((stringify!($column), <$type as $crate::store::table::Cell>::TYPE),)*
            ];

            fn read(
                row: &impl $crate::store::table::Row,
                first: usize,
            ) -> Result<$row, $crate::store::error::StoreError> {
                let mut at = first..;
                let mut next = || at.next().unwrap_or(usize::MAX);
                Ok($row {
                    $key: $crate::store::table::Cell::read(row, next())?,
                    $($column: $crate::store::table::Cell::read(row, next())?,)*
                })
            }

            fn key(&self) -> &str {
                self.$key.as_ref()
            }

            fn cells(&self) -> Vec<&dyn rusqlite::ToSql> {
                vec![&self.$key, $(&self.$column,)*]
            }

            fn arrays<'a>(rows: &[&'a $row]) -> Vec<$crate::store::table::Array<'a>> {
                vec![
                    $crate::store::table::Cell::array(rows.iter().map(|row| &row.$key)),
                    $($crate::store::table::Cell::array(rows.iter().map(|row| &row.$column)),)*
                ]
            }

            fn sql() -> &'static $crate::store::table::Statements {
                static SQL: std::sync::LazyLock<$crate::store::table::Statements> =
                    std::sync::LazyLock::new($crate::store::table::Statements::of::<$row>);
                &SQL
            }
        }
    };
}

pub(super) use table;

/// The statements that write a table. A row that is there is replaced or removed only over the version at which it was read,
/// so that those which do that are for tables with a column `version`.
pub(super) struct Statements {
    /// For SQLite: inserts a row of [`Table::cells`], unless one with its key is there.
    pub(super) insert: String,
    /// For SQLite: replaces the row of the version before by [`Table::cells`].
    pub(super) replace: String,
    /// For SQLite: removes the row with this key and version.
    pub(super) remove: String,
    /// For PostgreSQL: inserts rows of [`Table::arrays`], but for those whose key is there. Gives the keys of the others.
    pub(super) insert_all: String,
    /// For PostgreSQL: replaces rows of the versions before by [`Table::arrays`]. Gives the keys of those.
    pub(super) replace_all: String,
    /// For PostgreSQL: removes the rows with these keys and versions. Gives the keys of those.
    pub(super) remove_all: String,
    /// For PostgreSQL: locks the rows with these keys, in the order of the keys.
    pub(super) lock_all: String,
}

impl Statements {
    /// Those of the table `T`.
    pub(super) fn of<T: Table>() -> Statements {
        let (table, columns) = (T::NAME, T::columns());
        let (&(key, _), others) = T::COLUMNS.split_first().unwrap_or((&("", ""), &[]));
        let values = list(T::COLUMNS, |number, _| format!("?{number}"));
        let version = T::COLUMNS.iter().position(|(name, _)| *name == "version").map_or(0, |at| at + 1);
        let arrays = list(T::COLUMNS, |number, (_, kind)| format!("${number}::{kind}[]"));
        let set = list(others, |_, (name, _)| format!("{name} = new.{name}"));
        Statements {
            insert: format!("INSERT INTO {table} ({columns}) VALUES ({values}) ON CONFLICT ({key}) DO NOTHING"),
            replace: format!(
                "UPDATE {table} SET ({columns}) = ({values}) WHERE {key} = ?1 AND version = ?{version} - 1"
            ),
            remove: format!("DELETE FROM {table} WHERE {key} = ?1 AND version = ?2"),
            insert_all: format!(
                "INSERT INTO {table} ({columns}) SELECT * FROM unnest({arrays}) ON CONFLICT ({key}) DO NOTHING \
                 RETURNING {key}"
            ),
            replace_all: format!(
                "UPDATE {table} AS old SET {set} FROM unnest({arrays}) AS new ({columns}) \
                 WHERE old.{key} = new.{key} AND old.version = new.version - 1 RETURNING old.{key}"
            ),
            remove_all: format!(
                "DELETE FROM {table} AS old USING unnest($1::text[], $2::bigint[]) AS read ({key}, version) \
                 WHERE old.{key} = read.{key} AND old.version = read.version RETURNING old.{key}"
            ),
            lock_all: format!("SELECT {key} FROM {table} WHERE {key} = ANY($1::text[]) ORDER BY {key} FOR UPDATE"),
        }
    }
}

/// A list in SQL; `item` is given a column and its number, counted from one.
fn list(columns: &[(&str, &str)], item: impl Fn(usize, &(&str, &str)) -> String) -> String {
    (1..).zip(columns).map(|(number, column)| item(number, column)).collect::<Vec<_>>().join(", ")
}

/// What a batch of changes does to one table. Each row or key comes with the number of the change that it belongs to.
pub(super) struct TableChanges<R> {
    /// The rows that are new.
    pub(super) inserted: Vec<(usize, R)>,
    /// The rows that take the place of those of the version before.
    pub(super) replaced: Vec<(usize, R)>,
    /// The keys and versions of the rows that are removed.
    pub(super) removed: Vec<(usize, String, i64)>,
    keys: HashSet<String>,
}

impl<R> Default for TableChanges<R> {
    fn default() -> TableChanges<R> {
        let (inserted, replaced, removed) = (Vec::new(), Vec::new(), Vec::new());
        TableChanges { inserted, replaced, removed, keys: HashSet::new() }
    }
}

impl<R: Table> TableChanges<R> {
    /// Writes `row`, whose record was read at `version`. One that an earlier change writes already is left out.
    pub(super) fn put(&mut self, change: usize, version: Version, row: R) {
        if self.keys.insert(row.key().to_owned()) {
            let rows = if version.is_new() { &mut self.inserted } else { &mut self.replaced };
            rows.push((change, row));
        }
    }

    /// Removes the row with `key`, read at `version`; likewise.
    pub(super) fn remove(&mut self, change: usize, key: &str, version: Version) {
        if self.keys.insert(key.to_owned()) {
            self.removed.push((change, key.to_owned(), version.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    table! {
        /// A table for this test.
        ThingRow in "thing" { id: Foreign, size: Option<i64>, version: i64, }
    }

    #[test]
    fn statements_come_from_the_one_description() {
        let sql = ThingRow::sql();
        assert_eq!(ThingRow::select("WHERE id = ?1"), "SELECT id, size, version FROM thing WHERE id = ?1");
        for (made, meant) in [
            (&sql.insert, "INSERT INTO thing (id, size, version) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO NOTHING"),
            (&sql.replace, "UPDATE thing SET (id, size, version) = (?1, ?2, ?3) WHERE id = ?1 AND version = ?3 - 1"),
            (&sql.remove, "DELETE FROM thing WHERE id = ?1 AND version = ?2"),
            (
                &sql.insert_all,
                "INSERT INTO thing (id, size, version) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[]) \
                 ON CONFLICT (id) DO NOTHING RETURNING id",
            ),
            (
                &sql.replace_all,
                "UPDATE thing AS old SET size = new.size, version = new.version \
                 FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS new (id, size, version) \
                 WHERE old.id = new.id AND old.version = new.version - 1 RETURNING old.id",
            ),
            (
                &sql.remove_all,
                "DELETE FROM thing AS old USING unnest($1::text[], $2::bigint[]) AS read (id, version) \
                 WHERE old.id = read.id AND old.version = read.version RETURNING old.id",
            ),
            (&sql.lock_all, "SELECT id FROM thing WHERE id = ANY($1::text[]) ORDER BY id FOR UPDATE"),
        ] {
            assert_eq!(made, meant);
        }
    }

    #[test]
    fn of_two_changes_of_one_row_the_first_is_made() {
        let row = |version| ThingRow { id: "x".into(), size: None, version };
        let mut changes = TableChanges::default();
        changes.put(0, Version(1), row(2));
        changes.remove(1, "x", Version(1));
        changes.put(2, Version(0), row(1));
        assert_eq!((changes.inserted.len(), changes.replaced.len(), changes.removed.len()), (0, 1, 0));
    }
}
