//! Reading namespaces.

mod accounts;
mod lists;
pub(super) mod row;
pub(super) mod unreadable;

use std::collections::HashMap;

use async_trait::async_trait;

use self::row::NamespaceRow;
use crate::clock::Timestamp;
use crate::domain::account::Account;
use crate::domain::exemption::{Exempted, Requested};
use crate::domain::name::Name;
use crate::domain::namespace::{Namespace, Version};
use crate::domain::owner::Owner;
use crate::store::error::StoreError;
use crate::store::seal::KeyRing;
use crate::store::table::{Foreign, Row, Table as _, table};

/// Which namespaces to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Select {
    /// Every one, tombstones too.
    All,
    /// Those with passwords that can't be opened. Each password is given as an empty one.
    Sealed,
    /// At most `limit` live ones that are not disabled and whose rotation is due at `now`, or pending since `abandoned` or earlier, or since more than an
    /// hour after `now`, by a clock that was ahead; the longest due first.
    Due {
        /// The current time.
        now: Timestamp,
        /// A password pending since then or earlier belongs to a process that died.
        abandoned: Timestamp,
        /// How many at most.
        limit: u32,
    },
}

/// What anybody may know of a namespace; it holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its name.
    pub name: Name,
    /// Whom the last claim that named somebody wants to be told of its troubles; empty for nobody.
    pub contact: String,
    /// Who manages it, beside the contact.
    pub owners: Vec<Owner>,
    /// When it was created.
    pub created: Timestamp,
    /// When it expires.
    pub expires: Timestamp,
}

/// What the console shows of a namespace in a list; it holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// What anybody may know of it, and who manages it.
    pub summary: Summary,
    /// Which of its queues may grow.
    pub exemptions: Vec<Exempted>,
    /// For which of them that is asked for.
    pub requests: Vec<Requested>,
    /// The client whose claim made it; `None` where that is not known, and for accounts.
    pub claimed_by: Option<String>,
    /// Whether nobody may claim it.
    pub disabled: bool,
    /// What it is beyond that if it is an account.
    pub account: Option<Account>,
}

/// Which namespaces are kept of all that are read.
pub type Wanted<'a> = &'a mut (dyn FnMut(&Namespace) -> bool + Send);

/// The record of one of several names; its own error where it can't be opened.
pub type Named = Result<Option<Namespace>, StoreError>;

/// The rows as the records of `names`.
pub(super) fn named(names: &[Name], rows: Vec<NamespaceRow>, keys: &KeyRing) -> Vec<Named> {
    let found: HashMap<_, _> = rows.into_iter().map(|row| (row.name.clone(), row)).collect();
    let open = |name: &Name| found.get(name.as_str()).map(|row| row.clone().open(keys)).transpose();
    names.iter().map(open).collect()
}

/// The namespaces of the service. They are written by [`Records`](crate::store::Records).
#[async_trait]
pub trait Namespaces: Send + Sync {
    /// The namespace's record, be it a tombstone.
    async fn namespace(&self, name: &Name) -> Result<Option<Namespace>, StoreError>;

    /// The records of the namespaces of these names, in their order, be they tombstones. One that can't be opened hides no other.
    async fn named(&self, names: &[Name]) -> Result<Vec<Named>, StoreError>;

    /// Live namespaces in the order of their names, at most `limit`, from the first one after `after` on. Opens no secret.
    async fn summaries(&self, after: Option<&str>, limit: u32) -> Result<Vec<Summary>, StoreError>;

    /// The same of those that nobody owns, and that have no contact either.
    async fn unowned(&self, after: Option<&str>, limit: u32) -> Result<Vec<Summary>, StoreError>;

    /// All live namespaces in the order of their names. Opens no secret. A record that can't be read is logged and left out.
    async fn outlines(&self) -> Result<Vec<Outline>, StoreError>;

    /// The live namespace's summary. Opens no secret.
    async fn summary(&self, name: &Name) -> Result<Option<Summary>, StoreError>;

    /// All accounts, tombstones too, with what each is beyond a namespace. Opens no secret.
    async fn accounts(&self) -> Result<Vec<(Name, Account)>, StoreError>;

    /// Many namespaces. A record that can't be opened does not hide the others: it is logged and left out, but by
    /// [`Select::Sealed`].
    async fn namespaces(&self, select: Select) -> Result<Vec<Namespace>, StoreError>;

    /// All namespaces that are `wanted`, tombstones too, in the order of their names. They are read in pages, and no others are kept in
    /// memory. One that is made meanwhile may be missing. A record that can't be opened is logged and left out.
    async fn namespaces_where(&self, wanted: Wanted<'_>) -> Result<Vec<Namespace>, StoreError>;

    /// Of namespaces that were read at these versions, those whose record has another one by now; `None` for one whose
    /// record is gone. A record that can't be opened is logged and left out.
    async fn changed(&self, known: &[(Name, Version)]) -> Result<Vec<(Name, Option<Namespace>)>, StoreError>;
}

table! {
    /// What a [`Summary`] has of a namespace's row.
    SummaryRow in "namespace" {
        name: String,
        contact: Foreign,
        created: i64,
        expires: i64,
        owners: Foreign,
    }
}

table! {
    /// What an [`Outline`] has of a namespace's row.
    OutlineRow in "namespace" {
        name: String,
        contact: Foreign,
        created: i64,
        expires: i64,
        owners: Foreign,
        exemptions: Foreign,
        requests: Foreign,
        claimed_by: Option<String>,
        disabled: Option<String>,
        account: Option<String>,
    }
}

table! {
    /// What of a namespace's row says that it is an account.
    AccountRow in "namespace" {
        name: String,
        account: Option<String>,
    }
}

/// Reads the columns of an [`AccountRow`]; `None` where it is none.
pub(super) fn account(row: &impl Row) -> Result<Option<(Name, Account)>, StoreError> {
    let AccountRow { name, account } = AccountRow::read(row, 0)?;
    let account = accounts::read(account.as_ref())?;
    Ok(account.map(|account| (Name::from_stored(name), account)))
}

/// Reads the columns of a [`SummaryRow`].
pub(super) fn summary(row: &impl Row) -> Result<Summary, StoreError> {
    let SummaryRow { name, contact, created, expires, owners } = SummaryRow::read(row, 0)?;
    let (created, expires) = (Timestamp::from_millis(created), Timestamp::from_millis(expires));
    let owners = lists::owners(&owners.0)?;
    Ok(Summary { name: Name::from_stored(name), contact: contact.0, owners, created, expires })
}

/// Reads the columns of an [`OutlineRow`], which begin with those of a [`SummaryRow`]. One that can't be read hides no other: it
/// is logged and left out.
pub(super) fn outline(row: &impl Row) -> Option<Outline> {
    let read = || {
        let OutlineRow { exemptions, requests, claimed_by, disabled, account, .. } = OutlineRow::read(row, 0)?;
        let (summary, exemptions) = (summary(row)?, lists::exemptions(&exemptions.0)?);
        let (requests, account) = (lists::requests(&requests.0)?, accounts::read(account.as_ref())?);
        Ok::<_, StoreError>(Outline {
            summary,
            exemptions,
            requests,
            claimed_by,
            disabled: disabled.is_some(),
            account,
        })
    };
    read().inspect_err(|error| tracing::warn!("a namespace is left out of a list: {error}")).ok()
}
