//! Reading namespaces from PostgreSQL.

use std::sync::LazyLock;

use async_trait::async_trait;

use super::Postgres;
use super::pool::Repeat;
use super::text::escaped;
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

static ONE: LazyLock<String> = LazyLock::new(|| NamespaceRow::select("WHERE name = $1"));
static NAMED: LazyLock<String> = LazyLock::new(|| NamespaceRow::select("WHERE name = ANY($1::text[])"));
static ALL: LazyLock<String> = LazyLock::new(|| NamespaceRow::select("ORDER BY name"));
static PAGE: LazyLock<String> = LazyLock::new(|| NamespaceRow::select("WHERE name > $1 ORDER BY name LIMIT $2"));
static DUE: LazyLock<String> = LazyLock::new(|| {
    NamespaceRow::select(
        "WHERE gone_since IS NULL AND disabled IS NULL AND (due, name) > ($3, $4) \
         AND ((pending_since IS NULL AND due <= $1) OR pending_since <= $2 OR pending_since > $1 + 3600000) \
         ORDER BY due, name LIMIT $5",
    )
});
static SUMMARIES: LazyLock<String> =
    LazyLock::new(|| SummaryRow::select("WHERE gone_since IS NULL AND name > $1 ORDER BY name LIMIT $2"));
static UNOWNED: LazyLock<String> = LazyLock::new(|| {
    SummaryRow::select(
        "WHERE gone_since IS NULL AND contact = '' AND owners = '[]' AND name > $1 ORDER BY name LIMIT $2",
    )
});
static ACCOUNTS: LazyLock<String> = LazyLock::new(|| AccountRow::select("WHERE account IS NOT NULL ORDER BY name"));
static OUTLINES: LazyLock<String> = LazyLock::new(|| OutlineRow::select("WHERE gone_since IS NULL ORDER BY name"));
static SUMMARY: LazyLock<String> = LazyLock::new(|| SummaryRow::select("WHERE gone_since IS NULL AND name = $1"));
static CHANGED: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT version IS NOT NULL, {} FROM unnest($1::text[], $2::bigint[]) AS known (name, read_at) \
         LEFT JOIN namespace USING (name) WHERE version IS DISTINCT FROM read_at",
        NamespaceRow::columns()
    )
});

impl SealedRows for Postgres {
    fn keys(&self) -> &KeyRing {
        &self.keys
    }

    async fn rows(&self) -> Result<Vec<NamespaceRow>, StoreError> {
        self.database.query(Repeat::Safe, &ALL, &[]).await?.iter().map(|row| NamespaceRow::read(row, 0)).collect()
    }
}

#[async_trait]
impl Namespaces for Postgres {
    async fn namespace(&self, name: &Name) -> Result<Option<Namespace>, StoreError> {
        let found = self.database.query(Repeat::Safe, &ONE, &[&name.as_str()]).await?;
        found.first().map(|row| NamespaceRow::read(row, 0)?.open(&self.keys)).transpose()
    }

    async fn named(&self, names: &[Name]) -> Result<Vec<Named>, StoreError> {
        let wanted: Vec<_> = names.iter().map(Name::as_str).collect();
        let found = self.database.query(Repeat::Safe, &NAMED, &[&wanted]).await?;
        let rows = found.iter().map(|row| NamespaceRow::read(row, 0)).collect::<Result<_, _>>()?;
        Ok(namespaces::named(names, rows, &self.keys))
    }

    async fn summaries(&self, after: Option<&str>, limit: u32) -> Result<Vec<Summary>, StoreError> {
        let (after, limit) = (escaped(after.unwrap_or_default()), i64::from(limit));
        let found = self.database.query(Repeat::Safe, &SUMMARIES, &[&after, &limit]).await?;
        found.iter().map(namespaces::summary).collect()
    }

    async fn unowned(&self, after: Option<&str>, limit: u32) -> Result<Vec<Summary>, StoreError> {
        let (after, limit) = (after.unwrap_or_default(), i64::from(limit));
        let found = self.database.query(Repeat::Safe, &UNOWNED, &[&after, &limit]).await?;
        found.iter().map(namespaces::summary).collect()
    }

    async fn outlines(&self) -> Result<Vec<Outline>, StoreError> {
        let found = self.database.query(Repeat::Safe, &OUTLINES, &[]).await?;
        Ok(found.iter().filter_map(namespaces::outline).collect())
    }

    async fn summary(&self, name: &Name) -> Result<Option<Summary>, StoreError> {
        let found = self.database.query(Repeat::Safe, &SUMMARY, &[&name.as_str()]).await?;
        found.first().map(namespaces::summary).transpose()
    }

    async fn accounts(&self) -> Result<Vec<(Name, Account)>, StoreError> {
        let found = self.database.query(Repeat::Safe, &ACCOUNTS, &[]).await?;
        found.iter().filter_map(|row| namespaces::account(row).transpose()).collect()
    }

    async fn namespaces(&self, select: Select) -> Result<Vec<Namespace>, StoreError> {
        let Select::Due { now, abandoned, limit } = select else {
            return unreadable::selected(self.rows().await?, select, &self.keys, &self.told);
        };
        let mut pages = DuePages::new(limit);
        loop {
            let (due, name) = pages.after.clone();
            let (now, abandoned, limit) = (now.millis(), abandoned.millis(), i64::from(limit));
            let page = self.database.query(Repeat::Safe, &DUE, &[&now, &abandoned, &due, &name, &limit]).await?;
            let page = page.iter().map(|row| NamespaceRow::read(row, 0)).collect::<Result<_, _>>()?;
            if let Some(found) = pages.add(page, &self.keys) {
                self.told.tell(pages.unread);
                return Ok(found);
            }
        }
    }

    async fn namespaces_where(&self, wanted: Wanted<'_>) -> Result<Vec<Namespace>, StoreError> {
        let mut pages = AllPages::default();
        loop {
            let page = self.database.query(Repeat::Safe, &PAGE, &[&pages.after, &i64::from(unreadable::PAGE)]).await?;
            let page = page.iter().map(|row| NamespaceRow::read(row, 0)).collect::<Result<_, _>>()?;
            if pages.add(page, &self.keys, wanted) {
                self.told.tell(pages.unread);
                return Ok(pages.found);
            }
        }
    }

    async fn changed(&self, known: &[(Name, Version)]) -> Result<Vec<(Name, Option<Namespace>)>, StoreError> {
        let (names, versions): (Vec<_>, Vec<_>) =
            known.iter().map(|(name, version)| (name.as_str(), version.0)).unzip();
        let found = self.database.query(Repeat::Safe, &CHANGED, &[&names, &versions]).await?;
        let found = found.iter().map(unreadable::changed).collect::<Result<_, _>>()?;
        Ok(unreadable::readable_changes(found, &self.keys, &self.told))
    }
}
