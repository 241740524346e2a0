//! Retiring: deletes a user of somebody else that was adopted, once its owner has moved on. It is stored first, so that it is done
//! in the end however often the broker is away, and it is looked at right before: what was changed since is left alone.

use super::accounts::not_such;
use super::{Service, ServiceError};
use crate::domain::account::{Account, Adopted};
use crate::domain::adoption::fits;
use crate::domain::audit::{By, Deed};
use crate::domain::name::Name;
use crate::domain::namespace::Namespace;

impl Service {
    /// Ends the user that an account was made of. `false` where the broker could not do it yet: then a sweep does.
    ///
    /// # Errors
    /// [`ServiceError::NoNamespace`]; [`ServiceError::NotSuch`] where there is none, or nobody has moved on from it;
    /// [`ServiceError::Changed`] where it is not what was adopted; those of the store.
    pub async fn retire(&self, name: &Name, by: &By) -> Result<bool, ServiceError> {
        let _lock = self.locks.lock(name).await;
        self.change_account(name, |found, account| {
            let adopted = match &account.adopted {
                None => return Err(not_such(name, "has no adopted user any more")),
                Some(Adopted { moved: None, .. }) => {
                    return Err(not_such(name, "has no other credentials yet: move on first"));
                }
                Some(adopted) => adopted.clone(),
            };
            if adopted.retired.is_some() {
                return Ok((found.clone(), None));
            }
            let used =
                adopted.used.map_or("never seen in use".to_owned(), |used| format!("last seen in use at {used}"));
            let audit = self.audit(by, Deed::Retire, Some(name), name.as_str(), &format!("as asked; it was {used}"));
            let adopted = Some(Adopted { retired: Some(self.now()), ..adopted });
            let account = Account { adopted, ..account.clone() };
            Ok((Namespace { account: Some(account.into()), ..found.clone() }, Some(audit)))
        })
        .await?;
        match self.finish_retiring(name).await {
            Ok(_) => Ok(true),
            Err(ServiceError::Broker(error)) => {
                tracing::warn!(namespace = %name, "the retired user could not be deleted yet: {error}");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether there is a user that was adopted; it still is what may be.
    ///
    /// # Errors
    /// [`ServiceError::Changed`] where it is not; those of the broker.
    pub(super) async fn is_as_adopted(&self, user: &str) -> Result<bool, ServiceError> {
        let Some(found) = self.broker.user(user).await? else { return Ok(false) };
        let (granted, elsewhere) =
            tokio::try_join!(self.broker.permissions(), self.broker.rights_elsewhere(Some(user)))?;
        let granted = granted.into_iter().find(|granted| granted.user == user).map(|granted| granted.permissions);
        fits(&found, granted.as_ref(), !elsewhere.is_empty())
            .map_err(|why| ServiceError::Changed { user: user.to_owned(), why })?;
        Ok(true)
    }

    /// Deletes a user that is to be retired, and forgets it. `false` where there is nothing to do any more.
    pub(super) async fn finish_retiring(&self, name: &Name) -> Result<bool, ServiceError> {
        let is_retired = |found: &Namespace| found.adopted().is_some_and(|adopted| adopted.retired.is_some());
        if !is_retired(&self.account(name).await?) {
            return Ok(false);
        }
        // That there is none is said only by a node that was seen to be up.
        self.broker.ping().await?;
        if self.is_as_adopted(name.as_str()).await? {
            self.broker.delete_user(name.as_str()).await?;
        }
        self.change_account(name, |found, account| {
            if !is_retired(found) {
                return Ok((found.clone(), None));
            }
            let expires = found.expires.min(self.now().plus(self.policy.accounts.lifetime));
            let account = Account { adopted: None, ..account.used_at(self.now()) };
            Ok((Namespace { account: Some(account.into()), expires, matures: None, ..found.clone() }, None))
        })
        .await?;
        Ok(true)
    }
}
