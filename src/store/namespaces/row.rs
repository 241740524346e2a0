//! The table of namespaces, whose passwords are sealed.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::barred::{Barred, Revoked};
use crate::domain::name::{Name, Slot};
use crate::domain::namespace::{Gone, Namespace, Version};
use crate::domain::rotation::{Login, Pending, Rotation};
use crate::secret::Password;
use crate::store::error::StoreError;
use crate::store::namespaces::{accounts, lists};
use crate::store::seal::{KeyRing, Place};
use crate::store::table::{Foreign, millis, table};

table! {
    /// A namespace as it is stored: its passwords are sealed. Of a user, slot and password are both there or neither.
    #[derive(Clone)]
    NamespaceRow in "namespace" {
        name: String,
        contact: Foreign,
        created: i64,
        expires: i64,
        active_slot: Option<i16>,
        active_password: Option<String>,
        previous_slot: Option<i16>,
        previous_password: Option<String>,
        pending_slot: Option<i16>,
        pending_password: Option<String>,
        pending_since: Option<i64>,
        due: i64,
        grace: i64,
        gone_since: Option<i64>,
        cleaning_until: Option<i64>,
        warned: Option<i64>,
        version: i64,
        claimed_by: Option<String>,
        end_asked: Option<i64>,
        matures: Option<i64>,
        owners: Foreign,
        exemptions: Foreign,
        requests: Foreign,
        disabled: Option<String>,
        revoked_from: Option<i64>,
        revoking: bool,
        writing_until: Option<i64>,
        account: Option<String>,
    }
}

fn place<'a>(name: &'a str, column: &'a str) -> Place<'a> {
    Place { table: "namespace", row: name, column }
}

impl NamespaceRow {
    /// The row that takes the place of the one at which `namespace` was read.
    pub(in crate::store) fn seal(namespace: &Namespace, keys: &KeyRing) -> Result<NamespaceRow, StoreError> {
        let Namespace {
            name,
            contact,
            created,
            expires,
            rotation,
            gone,
            warned,
            claimed_by,
            end_asked,
            matures,
            owners,
            exemptions,
            requests,
            barred: Barred { disabled, revoked, writing_until },
            account,
            version,
        } = namespace;
        let seal = |login: Option<&Login>, column| -> Result<_, StoreError> {
            let Some(Login { slot, password }) = login else { return Ok((None, None)) };
            let password = keys.seal(place(name.as_str(), column), password.expose())?;
            Ok((Some(slot.number().into()), Some(password)))
        };
        let pending = rotation.pending.as_ref();
        let (active_slot, active_password) = seal(rotation.active.as_ref(), "active_password")?;
        let (previous_slot, previous_password) = seal(rotation.previous.as_ref(), "previous_password")?;
        let (pending_slot, pending_password) = seal(pending.map(|pending| &pending.login), "pending_password")?;
        Ok(NamespaceRow {
            active_slot,
            active_password,
            previous_slot,
            previous_password,
            pending_slot,
            pending_password,
            pending_since: pending.map(|pending| pending.since.millis()),
            name: name.as_str().to_owned(),
            contact: Foreign(contact.clone()),
            created: created.millis(),
            expires: expires.millis(),
            due: rotation.due.millis(),
            grace: millis(rotation.grace),
            gone_since: gone.map(|gone| gone.since.millis()),
            cleaning_until: gone.and_then(|gone| gone.cleaning_until).map(Timestamp::millis),
            warned: warned.map(Timestamp::millis),
            matures: matures.map(millis),
            version: version.next().0,
            claimed_by: claimed_by.clone(),
            end_asked: end_asked.map(Timestamp::millis),
            owners: Foreign(lists::owners_text(owners)),
            exemptions: Foreign(lists::exemptions_text(exemptions)),
            requests: Foreign(lists::requests_text(requests)),
            disabled: disabled.as_deref().map(lists::disabled_text),
            revoked_from: revoked.map(|revoked| revoked.from.millis()),
            revoking: revoked.is_some_and(|revoked| !revoked.done),
            writing_until: writing_until.map(Timestamp::millis),
            account: account.as_deref().map(accounts::text),
        })
    }

    /// Whether any of its passwords is sealed under another key than the newest one.
    pub(in crate::store) fn is_sealed_before(&self, keys: &KeyRing) -> bool {
        let sealed = [&self.active_password, &self.previous_password, &self.pending_password];
        sealed.into_iter().flatten().any(|sealed| !keys.sealed_newest(sealed))
    }

    /// The namespace, its passwords opened.
    pub(in crate::store) fn open(self, keys: &KeyRing) -> Result<Namespace, StoreError> {
        self.read_with(|place, sealed| keys.open(place, sealed))
    }

    /// The namespace, with an empty password in place of each sealed one.
    pub(super) fn blank(self) -> Result<Namespace, StoreError> {
        self.read_with(|_, _| Ok(String::new()))
    }

    fn read_with(
        self,
        unseal: impl Fn(Place<'_>, &str) -> Result<String, StoreError>,
    ) -> Result<Namespace, StoreError> {
        let open = |slot: Option<i16>, password: Option<String>, column| -> Result<Option<Login>, StoreError> {
            let (Some(slot), Some(password)) = (slot, password) else { return Ok(None) };
            let slot = Slot::from_number(slot.into())
                .ok_or_else(|| StoreError::Failed(format!("namespace {} has no slot {slot}", self.name)))?;
            let password = Password::from_stored(unseal(place(&self.name, column), &password)?);
            Ok(Some(Login { slot, password }))
        };
        let pending = open(self.pending_slot, self.pending_password, "pending_password")?;
        Ok(Namespace {
            rotation: Rotation {
                active: open(self.active_slot, self.active_password, "active_password")?,
                previous: open(self.previous_slot, self.previous_password, "previous_password")?,
                pending: pending
                    .zip(self.pending_since)
                    .map(|(login, since)| Pending { login, since: Timestamp::from_millis(since) }),
                due: Timestamp::from_millis(self.due),
                grace: Duration::from_millis(self.grace.unsigned_abs()),
            },
            name: Name::from_stored(self.name),
            contact: self.contact.0,
            created: Timestamp::from_millis(self.created),
            expires: Timestamp::from_millis(self.expires),
            gone: self.gone_since.map(|since| Gone {
                since: Timestamp::from_millis(since),
                cleaning_until: self.cleaning_until.map(Timestamp::from_millis),
            }),
            warned: self.warned.map(Timestamp::from_millis),
            claimed_by: self.claimed_by,
            end_asked: self.end_asked.map(Timestamp::from_millis),
            matures: self.matures.map(|matures| Duration::from_millis(matures.unsigned_abs())),
            owners: lists::owners(&self.owners.0)?,
            exemptions: lists::exemptions(&self.exemptions.0)?,
            requests: lists::requests(&self.requests.0)?,
            barred: Barred {
                disabled: self.disabled.as_deref().map(lists::disabled).transpose()?.map(Box::new),
                revoked: self
                    .revoked_from
                    .map(|from| Revoked { from: Timestamp::from_millis(from), done: !self.revoking }),
                writing_until: self.writing_until.map(Timestamp::from_millis),
            },
            account: accounts::read(self.account.as_ref())?.map(Box::new),
            version: Version(self.version),
        })
    }
}
