//! Reading namespaces from SQLite.

use std::sync::LazyLock;

use async_trait::async_trait;
use rusqlite::params;

use super::Sqlite;
use super::rows::query;
use crate::domain::account::Account;
use crate::domain::name::Name;
use crate::domain::namespace::{Namespace, Version};
use crate::store::error::StoreError;
use crate::store::namespaces::row::NamespaceRow;
use crate::store::namespaces::unreadable::{self, AllPages, DuePages};
use crate::store::namespaces::{
    self, AccountRow, Named, Namespaces, Outline, OutlineRow, Select, Summary, SummaryRow, Wanted,
};
use crate::store::rekey::SealedRows;
use crate::store::seal::KeyRing;
use crate::store::table::Table as _;

static ONE: LazyLock<String> = LazyLock::new(|| NamespaceRow::select("WHERE name = ?1"));
static ALL: LazyLock<String> = LazyLock::new(|| NamespaceRow::select("ORDER BY name"));
static PAGE: LazyLock<String> = LazyLock::new(|| NamespaceRow::select("WHERE name > ?1 ORDER BY name LIMIT ?2"));
static DUE: LazyLock<String> = LazyLock::new(|| {
    NamespaceRow::select(
        "WHERE gone_since IS NULL AND disabled IS NULL AND (due, name) > (?3, ?4) \
         AND ((pending_since IS NULL AND due <= ?1) OR pending_since <= ?2 OR pending_since > ?1 + 3600000) \
         ORDER BY due, name LIMIT ?5",
    )
});
static SUMMARIES: LazyLock<String> =
    LazyLock::new(|| SummaryRow::select("WHERE gone_since IS NULL AND name > ?1 ORDER BY name LIMIT ?2"));
static UNOWNED: LazyLock<String> = LazyLock::new(|| {
    SummaryRow::select(
        "WHERE gone_since IS NULL AND contact = '' AND owners = '[]' AND name > ?1 ORDER BY name LIMIT ?2",
    )
});
static ACCOUNTS: LazyLock<String> = LazyLock::new(|| AccountRow::select("WHERE account IS NOT NULL ORDER BY name"));
static OUTLINES: LazyLock<String> = LazyLock::new(|| OutlineRow::select("WHERE gone_since IS NULL ORDER BY name"));
static SUMMARY: LazyLock<String> = LazyLock::new(|| SummaryRow::select("WHERE gone_since IS NULL AND name = ?1"));
static CHANGED: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT version IS NOT NULL, {} FROM (SELECT value ->> 0 AS name, value ->> 1 AS read_at FROM json_each(?1)) \
         LEFT JOIN namespace USING (name) WHERE version IS NOT read_at",
        NamespaceRow::columns()
    )
});

impl SealedRows for Sqlite {
    fn keys(&self) -> &KeyRing {
        &self.keys
    }

    async fn rows(&self) -> Result<Vec<NamespaceRow>, StoreError> {
        self.read(|db| query(db, &ALL, [], |row| NamespaceRow::read(row, 0))).await
    }
}

#[async_trait]
impl Namespaces for Sqlite {
    async fn namespace(&self, name: &Name) -> Result<Option<Namespace>, StoreError> {
        let name = name.as_str().to_owned();
        let rows = self.read(move |db| query(db, &ONE, [name], |row| NamespaceRow::read(row, 0))).await?;
        rows.into_iter().next().map(|row| row.open(&self.keys)).transpose()
    }

    async fn named(&self, names: &[Name]) -> Result<Vec<Named>, StoreError> {
        let wanted: Vec<_> = names.iter().map(|name| name.as_str().to_owned()).collect();
        let read = self.read(move |db| {
            let one = |name: &String| query(db, &ONE, [name], |row| NamespaceRow::read(row, 0));
            wanted.iter().map(one).collect::<Result<Vec<_>, _>>()
        });
        Ok(namespaces::named(names, read.await?.into_iter().flatten().collect(), &self.keys))
    }

    async fn summaries(&self, after: Option<&str>, limit: u32) -> Result<Vec<Summary>, StoreError> {
        let after = after.unwrap_or_default().to_owned();
        self.read(move |db| query(db, &SUMMARIES, params![after, limit], |row| namespaces::summary(row))).await
    }

    async fn unowned(&self, after: Option<&str>, limit: u32) -> Result<Vec<Summary>, StoreError> {
        let after = after.unwrap_or_default().to_owned();
        self.read(move |db| query(db, &UNOWNED, params![after, limit], |row| namespaces::summary(row))).await
    }

    async fn outlines(&self) -> Result<Vec<Outline>, StoreError> {
        let found = self.read(|db| query(db, &OUTLINES, [], |row| Ok(namespaces::outline(row)))).await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn summary(&self, name: &Name) -> Result<Option<Summary>, StoreError> {
        let name = name.as_str().to_owned();
        let found = self.read(move |db| query(db, &SUMMARY, [name], |row| namespaces::summary(row))).await?;
        Ok(found.into_iter().next())
    }

    async fn accounts(&self) -> Result<Vec<(Name, Account)>, StoreError> {
        let found = self.read(|db| query(db, &ACCOUNTS, [], |row| namespaces::account(row))).await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn namespaces(&self, select: Select) -> Result<Vec<Namespace>, StoreError> {
        let Select::Due { now, abandoned, limit } = select else {
            return unreadable::selected(self.rows().await?, select, &self.keys, &self.told);
        };
        let mut pages = DuePages::new(limit);
        loop {
            let (due, name) = pages.after.clone();
            let params = (now.millis(), abandoned.millis(), due, name, limit);
            let page = self.read(move |db| query(db, &DUE, params, |row| NamespaceRow::read(row, 0))).await?;
            if let Some(found) = pages.add(page, &self.keys) {
                self.told.tell(pages.unread);
                return Ok(found);
            }
        }
    }

    async fn namespaces_where(&self, wanted: Wanted<'_>) -> Result<Vec<Namespace>, StoreError> {
        let mut pages = AllPages::default();
        loop {
            let params = (pages.after.clone(), unreadable::PAGE);
            let page = self.read(move |db| query(db, &PAGE, params, |row| NamespaceRow::read(row, 0))).await?;
            if pages.add(page, &self.keys, wanted) {
                self.told.tell(pages.unread);
                return Ok(pages.found);
            }
        }
    }

    async fn changed(&self, known: &[(Name, Version)]) -> Result<Vec<(Name, Option<Namespace>)>, StoreError> {
        let known: Vec<_> = known.iter().map(|(name, version)| (name.as_str(), version.0)).collect();
        let known = serde_json::json!(known).to_string();
        let found = self.read(move |db| query(db, &CHANGED, [known], |row| unreadable::changed(row))).await?;
        Ok(unreadable::readable_changes(found, &self.keys, &self.told))
    }
}
