//! Cleaning up: deletes what is left of namespaces that are gone, many of them at a time.
//!
//! Some namespaces are reserved by one write and given back by another, so that the store is not asked for each. Their users go
//! first (`clean_users`): without them nobody makes anew what is being deleted. Connections go with their users. "Already gone"
//! is success, if what says so is not a 404 for something that the broker lists; one bad thing does not stop the rest, and what
//! could not be deleted is tried again in the next run.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::{FutureExt, StreamExt, stream};
use tokio::sync::Semaphore;

use super::outcome::{Outcome, Step};
use super::{Deadline, IN_FLIGHT, Service, ServiceError};
use crate::broker::Deleted;
use crate::clock::Timestamp;
use crate::domain::action::{Action, Operation};
use crate::domain::audit::{Audit, By, Deed};
use crate::domain::namespace::{Gone, Namespace};
use crate::domain::plan::Planned;
use crate::domain::snapshot::Remains;
use crate::store::{Change, Record, Write};

/// How long one process has tombstones to itself while it cleans up. It begins no removal in the second half of that.
const CLEANING_LEASE: Duration = Duration::from_secs(120);

/// How many namespaces are reserved together at most, and with how many things; one alone may have more.
const NAMESPACES: usize = 32;
const THINGS: usize = 256;

/// How many such groups are under way at once, so that the broker has work while the store writes what became of one.
const GROUPS: usize = 2;

/// How many calls of each kind are under way at once, in all groups together. No kind waits for another one, which may hang.
pub(super) struct Places {
    pub(super) users: Semaphore,
    connections: Semaphore,
    queues: Semaphore,
    exchanges: Semaphore,
}

/// A namespace that is cleaned up.
pub(super) struct Cleaning<'a> {
    /// Which of the group it is.
    at: usize,
    /// As it is reserved.
    pub(super) tombstone: Namespace,
    pub(super) remains: &'a Remains,
    pub(super) reason: &'a str,
    /// Those of its users that were deleted.
    pub(super) deleted: BTreeSet<&'a str>,
    /// Of these a 404 says that they were gone.
    pub(super) absent: Remains,
    pub(super) failures: Vec<ServiceError>,
    audits: Vec<Audit>,
    /// Whether nobody else has a user of it, so that its queues and exchanges are ours.
    is_ours: bool,
}

/// A thing of the namespace with this place among those that are cleaned up together.
pub(super) type Thing<'a> = (usize, &'a str);

/// What became of each of some things.
pub(super) type Removals<'a> = Vec<(Thing<'a>, Result<Deleted, ServiceError>)>;

impl<'a> Cleaning<'a> {
    fn new(at: usize, tombstone: Namespace, remains: &'a Remains, reason: &'a str) -> Cleaning<'a> {
        let (deleted, absent, failures, audits) = Default::default();
        Cleaning { at, tombstone, remains, reason, deleted, absent, failures, audits, is_ours: true }
    }

    /// The connections that are left once the users are deleted: all, or none where each has gone with its user.
    fn connections(&self) -> &'a [String] {
        let gone = self.remains.connected.iter().all(|user| self.deleted.contains(user.as_str()));
        if gone { &[] } else { &self.remains.connections }
    }

    fn has_more_than_users(&self) -> bool {
        let Remains { queues, exchanges, .. } = self.remains;
        !(self.connections().is_empty() && queues.is_empty() && exchanges.is_empty())
    }
}

impl Service {
    /// Carries out clean-ups, and notes what became of each.
    pub(super) async fn clean_up(&self, planned: Vec<Planned>, outcome: &mut Outcome) {
        let place = || Semaphore::new(IN_FLIGHT);
        let places = &Places { users: place(), connections: place(), queues: place(), exchanges: place() };
        let groups = stream::iter(groups(planned));
        let cleaned = groups.map(|group| async move { (self.clean_group(&group, places).await, group) }.boxed());
        let mut cleaned = cleaned.buffer_unordered(GROUPS);
        while let Some((results, group)) = cleaned.next().await {
            for (planned, done) in group.iter().zip(results) {
                match done {
                    Ok(true) => outcome.done(&Step::from(planned)),
                    Ok(false) => {}
                    Err(error) => outcome.fail(&Step::from(planned), &error),
                }
            }
        }
    }

    /// What became of each of the group: `false` for what was revived, or where another process is at it.
    async fn clean_group(&self, group: &[Planned], places: &Places) -> Vec<Result<bool, ServiceError>> {
        // It counts from before the reservation, so that nothing is removed by one that others no longer heed.
        let deadline = Deadline::after(CLEANING_LEASE / 2, self.clock.now(), "a clean-up");
        let mut cleanings = match self.reserve(group).await {
            Ok(cleanings) => cleanings,
            Err(error) => return group.iter().map(|_| Err(error.again())).collect(),
        };
        self.delete_users(&mut cleanings, deadline, places).await;
        self.look_for_others(&mut cleanings, places).await;
        self.delete_the_rest(&mut cleanings, deadline, places).await;
        self.require_absence(&mut cleanings).await;
        let ended = self.end_cleaning(&cleanings).await;
        let mut done: Vec<_> = group.iter().map(|_| Ok(false)).collect();
        for Cleaning { at, failures, remains, .. } in cleanings {
            let failed = failures.len();
            done[at] = match (failures.into_iter().next(), &ended) {
                (Some(first), _) => Err(ServiceError::Partly { failed, of: remains.count(), first: Box::new(first) }),
                (None, Err(error)) => Err(error.again()),
                (None, Ok(())) => Ok(true),
            };
        }
        done
    }

    /// Takes those of the group to ourselves that nobody else changed.
    async fn reserve<'a>(&self, group: &'a [Planned]) -> Result<Vec<Cleaning<'a>>, ServiceError> {
        let until = self.shared_time().await?.plus(CLEANING_LEASE);
        let parts: Vec<_> =
            group.iter().enumerate().filter_map(|(at, of)| Some((at, parts(of)?, &of.reason))).collect();
        let tombstones = parts.iter().map(|(_, (tombstone, _), _)| reserved(tombstone, Some(until))).collect();
        let reserved = self.replace_all(tombstones).await?;
        let cleanings = parts.into_iter().zip(reserved).filter_map(|((at, (_, remains), reason), reserved)| {
            Some(Cleaning::new(at, reserved.ok()?, remains, reason))
        });
        Ok(cleanings.collect())
    }

    /// Looks whether somebody else has a user of a namespace by now: what is left of it may be that one's.
    async fn look_for_others(&self, cleanings: &mut [Cleaning<'_>], places: &Places) {
        let looks = cleanings.iter().map(|of| async {
            if !of.has_more_than_users() {
                return Ok(());
            }
            let _place = places.users.acquire().await;
            self.look_at_both(&of.tombstone).await
        });
        let looked = join_all(looks).await;
        for (of, looked) in cleanings.iter_mut().zip(looked) {
            of.is_ours = looked.is_ok();
            of.failures.extend(looked.err());
        }
    }

    /// Deletes queues and exchanges, and closes the connections that have not gone with their users.
    async fn delete_the_rest(&self, cleanings: &mut [Cleaning<'_>], deadline: Deadline, places: &Places) {
        let of = &*cleanings;
        let closed = self.each(things(of, |of| of.connections()), &places.connections, deadline, |(at, connection)| {
            async move { Ok(self.broker.close_connection(connection, of[at].reason).await?) }.boxed()
        });
        let removed = self.each(things(of, |of| &of.remains.queues), &places.queues, deadline, |(at, queue)| {
            self.remove_queue(queue, Some(&of[at].tombstone), of[at].reason, deadline, |_| false).boxed()
        });
        let deleted =
            self.each(things(of, |of| &of.remains.exchanges), &places.exchanges, deadline, |(_, exchange)| {
                async move { Ok(self.broker.delete_exchange(exchange).await?) }.boxed()
            });
        let (closed, removed, deleted) = futures::join!(closed, removed, deleted);
        self.take_down(cleanings, closed, None, |absent| &mut absent.connections);
        self.take_down(cleanings, removed, Some(Deed::DeleteQueue), |absent| &mut absent.queues);
        self.take_down(cleanings, deleted, Some(Deed::DeleteExchange), |absent| &mut absent.exchanges);
    }

    /// Removes many things, some at a time and none after the deadline.
    async fn each<'a, 's>(
        &self,
        things: Vec<Thing<'a>>,
        places: &Semaphore,
        deadline: Deadline,
        remove: impl Fn(Thing<'a>) -> BoxFuture<'s, Result<Deleted, ServiceError>>,
    ) -> Removals<'a> {
        let mut removals = Vec::with_capacity(things.len());
        for thing in things {
            let removed = remove(thing);
            removals.push(async move {
                let _place = places.acquire().await;
                match deadline.check(self.clock.now()) {
                    Ok(()) => (thing, removed.await),
                    Err(late) => (thing, Err(late)),
                }
            });
        }
        stream::iter(removals).buffer_unordered(IN_FLIGHT).collect().await
    }

    /// Takes down what became of things of one kind: what a 404 says was gone, what went wrong, and for the audit trail what was done.
    fn take_down(
        &self,
        cleanings: &mut [Cleaning<'_>],
        removals: Removals<'_>,
        deed: Option<Deed>,
        absent: impl Fn(&mut Remains) -> &mut Vec<String>,
    ) {
        let task = By::task("expire-namespaces");
        for ((at, thing), removed) in removals {
            let of = &mut cleanings[at];
            match removed {
                Ok(Deleted::Absent) => absent(&mut of.absent).push(thing.to_owned()),
                Ok(Deleted::Done) => {
                    let audit = deed.map(|deed| self.audit(&task, deed, Some(&of.tombstone.name), thing, of.reason));
                    of.audits.extend(audit);
                }
                Err(error) => of.failures.push(error),
            }
        }
    }

    /// Looks whether the broker lists what a 404 says is gone.
    async fn require_absence(&self, cleanings: &mut [Cleaning<'_>]) {
        let mut absent = Remains::default();
        for of in cleanings.iter() {
            absent.extend(&of.absent);
        }
        let listed = self.listed(&absent).await;
        for of in cleanings.iter_mut().filter(|of| of.absent.count() > 0) {
            match &listed {
                Ok(left) => {
                    let left = left.iter().filter(|thing| of.absent.has(thing)).cloned();
                    of.failures.extend(left.map(ServiceError::StillListed));
                }
                Err(error) => of.failures.push(error.again()),
            }
        }
    }

    /// Gives the reservations back, and notes what was removed.
    async fn end_cleaning(&self, cleanings: &[Cleaning<'_>]) -> Result<(), ServiceError> {
        let change = |of: &Cleaning<'_>| {
            let record = Record::Namespace(reserved(&of.tombstone, None));
            Change { record, notices: Vec::new(), audits: of.audits.clone() }
        };
        let written = self.write(&cleanings.iter().map(change).collect::<Vec<_>>()).await?;
        let lost = cleanings.iter().zip(written).filter(|(_, written)| *written == Write::Lost);
        // Another process wrote it, and what was removed is removed.
        let audits: Vec<_> = lost.flat_map(|(of, _)| of.audits.clone()).collect();
        if audits.is_empty() { Ok(()) } else { self.note(&audits).await }
    }
}

/// The namespace that a step cleans up, and what is left of it.
fn parts(planned: &Planned) -> Option<(&Namespace, &Remains)> {
    match &planned.action {
        Action::Broker(Operation::Clean(tombstone, remains)) => Some((tombstone, remains)),
        _ => None,
    }
}

/// Those that are reserved together, in their order.
fn groups(planned: Vec<Planned>) -> Vec<Vec<Planned>> {
    let (mut groups, mut things): (Vec<Vec<Planned>>, usize) = (Vec::new(), 0);
    for planned in planned {
        let more = parts(&planned).map_or(0, |(_, remains)| remains.count());
        match groups.last_mut().filter(|group| group.len() < NAMESPACES && things + more <= THINGS) {
            Some(group) => group.push(planned),
            None => {
                things = 0;
                groups.push(vec![planned]);
            }
        }
        things += more;
    }
    groups
}

/// Things of one kind of all, but of those of which somebody else has a user.
pub(super) fn things<'a>(cleanings: &[Cleaning<'a>], kind: impl Fn(&Cleaning<'a>) -> &'a [String]) -> Vec<Thing<'a>> {
    let ours = cleanings.iter().enumerate().filter(|(_, of)| of.is_ours);
    ours.flat_map(|(at, of)| kind(of).iter().map(move |thing| (at, thing.as_str()))).collect()
}

/// The tombstone, to be left to one process until then.
fn reserved(tombstone: &Namespace, cleaning_until: Option<Timestamp>) -> Namespace {
    let gone = tombstone.gone.map(|gone| Gone { cleaning_until, ..gone });
    Namespace { gone, ..tombstone.clone() }
}
