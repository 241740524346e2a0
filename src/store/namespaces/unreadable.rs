//! Namespaces whose passwords can't be opened do not hide the others.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::row::NamespaceRow;
use super::{Select, Wanted};
use crate::domain::name::Name;
use crate::domain::namespace::Namespace;
use crate::store::error::StoreError;
use crate::store::seal::KeyRing;
use crate::store::table::{Row, Table as _};

/// Rows that can't be opened. After the loss of a key these are all, so that they are counted, and told of together.
#[derive(Default)]
pub(in crate::store) struct Unread {
    count: usize,
    first: Option<(String, StoreError)>,
}

impl Unread {
    fn add(&mut self, name: String, error: StoreError) {
        self.count += 1;
        self.first.get_or_insert((name, error));
    }
}

/// How often the same is told of rows that can't be opened, at most: runs of tasks read them again and again.
const TOLD_EVERY: Duration = Duration::from_secs(30);

/// What was told last of rows that can't be opened, and when.
#[derive(Default)]
pub(in crate::store) struct Told(Mutex<Option<(Instant, usize, String)>>);

impl Told {
    /// Tells of rows that can't be opened and are left out, if there are any and the same was not just told.
    pub(in crate::store) fn tell(&self, unread: Unread) {
        let Unread { count, first: Some((namespace, error)) } = unread else { return };
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |(at, before, first): &(Instant, usize, String)| {
            at.elapsed() < TOLD_EVERY && *before == count && *first == namespace
        };
        if !last.as_ref().is_some_and(same) {
            tracing::error!(namespace, %error, "{count} namespaces can't be read and are left out, {namespace} first: {error}");
            *last = Some((Instant::now(), count, namespace));
        }
    }
}

/// Opens `rows`. Those that can't be opened are left out, and noted.
fn readable(
    rows: impl IntoIterator<Item = NamespaceRow>,
    keys: &KeyRing,
    unread: &mut Unread,
) -> impl Iterator<Item = Namespace> {
    rows.into_iter().filter_map(|row| {
        let name = row.name.clone();
        row.open(keys).map_err(|error| unread.add(name, error)).ok()
    })
}

/// Reads whether there is such a record, and the columns of a [`NamespaceRow`], which are empty but for the name where there
/// is none.
pub(in crate::store) fn changed(row: &impl Row) -> Result<(Name, Option<NamespaceRow>), StoreError> {
    let found = row.field::<bool>(0)?.then(|| NamespaceRow::read(row, 1)).transpose()?;
    Ok((Name::from_stored(row.field(1)?), found))
}

/// Opens rows of [`changed`]. Those that can't be opened are left out, and told of.
pub(in crate::store) fn readable_changes(
    rows: Vec<(Name, Option<NamespaceRow>)>,
    keys: &KeyRing,
    told: &Told,
) -> Vec<(Name, Option<Namespace>)> {
    let mut unread = Unread::default();
    let open = |(name, row)| match row {
        Some(row) => readable([row], keys, &mut unread).next().map(|found| (name, Some(found))),
        None => Some((name, None)),
    };
    let found = rows.into_iter().filter_map(open).collect();
    told.tell(unread);
    found
}

/// What `select` asks for of the rows of all namespaces.
pub(in crate::store) fn selected(
    rows: Vec<NamespaceRow>,
    select: Select,
    keys: &KeyRing,
    told: &Told,
) -> Result<Vec<Namespace>, StoreError> {
    if select == Select::Sealed {
        return sealed(rows, keys);
    }
    let mut unread = Unread::default();
    let found = readable(rows, keys, &mut unread).collect();
    told.tell(unread);
    Ok(found)
}

/// Those of `rows` that can't be opened, with an empty password in place of each sealed one.
fn sealed(rows: Vec<NamespaceRow>, keys: &KeyRing) -> Result<Vec<Namespace>, StoreError> {
    let sealed = rows.into_iter().filter(|row| matches!(row.clone().open(keys), Err(StoreError::Sealed(_))));
    sealed.map(NamespaceRow::blank).collect()
}

/// How many rows a page of all namespaces has.
pub(in crate::store) const PAGE: u32 = 1000;

/// All namespaces that are wanted, read in pages.
#[derive(Default)]
pub(in crate::store) struct AllPages {
    /// The name in the last row so far.
    pub(in crate::store) after: String,
    pub(in crate::store) found: Vec<Namespace>,
    pub(in crate::store) unread: Unread,
}

impl AllPages {
    /// Adds a page of at most [`PAGE`] rows. Whether it was the last one.
    pub(in crate::store) fn add(&mut self, rows: Vec<NamespaceRow>, keys: &KeyRing, wanted: Wanted<'_>) -> bool {
        let complete = rows.len() < PAGE as usize;
        if let Some(last) = rows.last() {
            self.after = last.name.clone();
        }
        self.found.extend(readable(rows, keys, &mut self.unread).filter(wanted));
        complete
    }
}

/// The namespaces that are due, read in pages: rows that can't be opened stay due for ever, and would otherwise take the
/// places of all others once there are as many of them as the limit.
pub(in crate::store) struct DuePages {
    /// The last row so far, in the order of `due` and name.
    pub(in crate::store) after: (i64, String),
    limit: usize,
    found: Vec<Namespace>,
    pub(in crate::store) unread: Unread,
}

impl DuePages {
    pub(in crate::store) fn new(limit: u32) -> DuePages {
        DuePages {
            after: (i64::MIN, String::new()),
            limit: limit as usize,
            found: Vec::new(),
            unread: Unread::default(),
        }
    }

    /// Adds a page of at most `limit` rows. The namespaces once they are complete, `None` where one more page is needed.
    pub(in crate::store) fn add(&mut self, rows: Vec<NamespaceRow>, keys: &KeyRing) -> Option<Vec<Namespace>> {
        let complete = rows.len() < self.limit;
        if let Some(last) = rows.last() {
            self.after = (last.due, last.name.clone());
        }
        let missing = self.limit - self.found.len();
        self.found.extend(readable(rows, keys, &mut self.unread).take(missing));
        (complete || self.found.len() == self.limit).then(|| std::mem::take(&mut self.found))
    }
}
