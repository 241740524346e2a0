//! Putting off the end of a namespace because an owner asks for it, as a claim with a later `expires` does.

use std::time::Duration;

use super::accounts::not_such;
use super::{Service, ServiceError};
use crate::clock::Timestamp;
use crate::domain::audit::{By, Deed};
use crate::domain::name::Name;
use crate::domain::namespace::Namespace;

/// So far from now an end can be put off at once: longer than that, nobody remembers what it was for.
pub const LONGEST_EXTENSION: Duration = Duration::from_secs(366 * 86_400);

impl Service {
    /// Has a namespace or an account end at `expires`, which is later than it ends now.
    ///
    /// # Errors
    /// [`ServiceError::NoNamespace`]; [`ServiceError::NotSuch`] where it has no end; [`ServiceError::BadEnd`]; those of the store.
    pub async fn extend(&self, name: &Name, expires: Timestamp, by: &By) -> Result<Timestamp, ServiceError> {
        let now = self.now();
        if expires > now.plus(LONGEST_EXTENSION) {
            return Err(ServiceError::BadEnd("it can be put off by a year at most"));
        }
        let changed = self.change_namespace(name, |found| {
            if found.adopted().is_some() {
                return Err(not_such(name, "has no end as long as the user that it was made of is there"));
            }
            if expires <= found.expires {
                return Err(ServiceError::BadEnd(
                    "it can only be put off: name a day after the one on which it ends now",
                ));
            }
            let reason = format!("from {} to {expires}", found.expires);
            let audit = self.audit(by, Deed::Extend, Some(name), name.as_str(), &reason);
            let matures = if found.is_on_demand() { None } else { self.matures(expires, now) };
            Ok(Some((Namespace { expires, matures, ..found.clone() }, audit, Vec::new())))
        });
        Ok(changed.await?.expires)
    }
}
