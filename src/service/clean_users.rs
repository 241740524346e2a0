//! Deleting the users of namespaces that are gone, a few by one call. Each is looked at right before, and none is deleted twice
//! without a look in between.

use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;

use super::clean::{Cleaning, Places, Removals, Thing, things};
use super::{Deadline, Service, ServiceError};
use crate::broker::{BrokerError, Deleted};

/// How many users are deleted by one call. RabbitMQ deletes them one after the other, and carries out several calls at once.
const USERS: usize = 8;

/// How long after it was looked at a user may be deleted.
const LOOKED_AT: Duration = Duration::from_secs(5);

impl Service {
    /// Deletes the users of all.
    pub(super) async fn delete_users(&self, cleanings: &mut [Cleaning<'_>], deadline: Deadline, places: &Places) {
        let users = things(cleanings, |of| &of.remains.users);
        let some = users.chunks(USERS).map(|some| self.delete_some_users(some, cleanings, deadline, places).boxed());
        let removals: Vec<_> = join_all(some).await.into_iter().flatten().collect();
        for ((at, user), removed) in removals {
            let Cleaning { deleted, absent, failures, .. } = &mut cleanings[at];
            match removed {
                Ok(Deleted::Done) => _ = deleted.insert(user),
                Ok(Deleted::Absent) => absent.users.push(user.to_owned()),
                Err(error) => failures.push(error),
            }
        }
    }

    /// Deletes these users by one call. Where that fails, some of them may be gone, and each is deleted alone.
    async fn delete_some_users<'a>(
        &self,
        users: &[Thing<'a>],
        cleanings: &[Cleaning<'a>],
        deadline: Deadline,
        places: &Places,
    ) -> Removals<'a> {
        let fresh = Deadline::after(LOOKED_AT, self.clock.now(), "a clean-up");
        let looks = users.iter().map(|thing| async move {
            let _place = places.users.acquire().await;
            (*thing, self.look_for_user(thing, &cleanings[thing.0]).await)
        });
        let (mut done, mut ours) = (Removals::new(), Vec::new());
        for (thing, found) in join_all(looks).await {
            match found {
                Ok(true) => ours.push(thing),
                Ok(false) => done.push((thing, Ok(Deleted::Absent))),
                Err(error) => done.push((thing, Err(error))),
            }
        }
        let told = join_all(ours.iter().map(|thing| self.tell(thing, &cleanings[thing.0], deadline, places))).await;
        let together = self.delete_together(&ours, deadline, fresh, places).await;
        let deleted = join_all(ours.iter().map(|thing| async move {
            match together {
                true => Ok(Deleted::Done),
                false => self.delete_alone(thing, &cleanings[thing.0], deadline, places).await,
            }
        }));
        for ((thing, deleted), told) in ours.iter().zip(deleted.await).zip(told) {
            done.push((*thing, deleted.and_then(|deleted| told.map(|()| deleted))));
        }
        done
    }

    /// Whether a user is there, and ours.
    async fn look_for_user(&self, (_, user): &Thing<'_>, of: &Cleaning<'_>) -> Result<bool, ServiceError> {
        let Some((_, slot)) = self.policy.names.parts_of_user(user) else { return Ok(false) };
        Ok(self.look(&of.tombstone, slot).await?.is_some())
    }

    /// Closes the connections of a user that was seen to have any. They would be closed with it all the same, but not told why.
    async fn tell(
        &self,
        (_, user): &Thing<'_>,
        of: &Cleaning<'_>,
        deadline: Deadline,
        places: &Places,
    ) -> Result<(), ServiceError> {
        if of.remains.connected.contains(*user) {
            let _place = places.users.acquire().await;
            deadline.check(self.clock.now())?;
            self.broker.close_connections_of(user, of.reason).await?;
        }
        Ok(())
    }

    /// Deletes users by one call, if they were looked at just before; whether that is done.
    async fn delete_together(&self, users: &[Thing<'_>], deadline: Deadline, fresh: Deadline, places: &Places) -> bool {
        let names: Vec<_> = users.iter().map(|(_, user)| (*user).to_owned()).collect();
        let _place = places.users.acquire().await;
        let now = self.clock.now();
        if names.len() < 2 || deadline.check(now).is_err() || fresh.check(now).is_err() {
            return false;
        }
        let failed = |why: BrokerError| tracing::debug!("users are deleted one by one: {why}");
        self.broker.delete_users(&names).await.map_err(failed).is_ok()
    }

    /// Deletes a user after a look.
    async fn delete_alone(
        &self,
        thing: &Thing<'_>,
        of: &Cleaning<'_>,
        deadline: Deadline,
        places: &Places,
    ) -> Result<Deleted, ServiceError> {
        let _place = places.users.acquire().await;
        deadline.check(self.clock.now())?;
        if !self.look_for_user(thing, of).await? {
            return Ok(Deleted::Absent);
        }
        deadline.check(self.clock.now())?;
        Ok(self.broker.delete_user(thing.1).await?)
    }
}
