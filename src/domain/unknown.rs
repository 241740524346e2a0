//! What the broker has in the name of a namespace that the store does not know: how a tombstone is made for it, by which it is
//! cleaned up, and when somebody may ask for one.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::barred::Barred;
use crate::domain::name::{Name, Names};
use crate::domain::namespace::{Gone, Namespace, Version};
use crate::domain::rotation::Rotation;
use crate::domain::snapshot::{Snapshot, remains};

/// A tombstone of a namespace that the store does not know, which counts from the `grace` time on: until then a claim revives
/// it. `now` is the time by the clock that all share, and `served` the [served time](crate::domain::hold) then, if there is one.
pub fn tombstone(name: &Name, now: Timestamp, served: Option<Duration>, grace: Duration) -> Namespace {
    Namespace {
        name: name.clone(),
        contact: String::new(),
        created: now,
        expires: now,
        rotation: Rotation { active: None, previous: None, pending: None, due: now, grace: Duration::ZERO },
        gone: Some(Gone { since: now.plus(grace), cleaning_until: None }),
        warned: None,
        claimed_by: None,
        owners: Vec::new(),
        exemptions: Vec::new(),
        requests: Vec::new(),
        barred: Barred::default(),
        account: None,
        end_asked: None,
        matures: served.map(|served| served.saturating_add(grace)),
        version: Version::new_at(now),
    }
}

/// Why what is in the name of a namespace is not deleted as unknown, in a sentence without its full stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotUnknown {
    /// The store knows it.
    #[error("the database knows the namespace {0}: release it instead")]
    Known(Name),
    /// Somebody else has a user of it.
    #[error(
        "RabbitMQ's user {user} is somebody else's, so that all that is named as that of {name} may be theirs: it is left alone"
    )]
    Theirs {
        /// The namespace.
        name: Name,
        /// The user.
        user: String,
    },
    /// There is nothing of it.
    #[error("RabbitMQ has nothing in the name of an unknown namespace {0}")]
    Nothing(Name),
    /// The store may be the wrong one.
    #[error(
        "the database knows no live namespace, so that it may be the wrong one: nothing is deleted because it is unknown to it"
    )]
    NoneLive,
}

/// How what is in the name of a namespace is deleted that the store does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndUnknown {
    /// By this tombstone, which stands for so many things.
    Write(Box<Namespace>, usize),
    /// It is being cleaned up already, and so many things are left.
    Underway(usize),
}

/// Decides whether what `seen` shows in the name of a namespace may be deleted because somebody asks for it. `now` and `served` are as
/// for [`tombstone`].
///
/// # Errors
/// Why not.
pub fn end_unknown(
    name: &Name,
    seen: &Snapshot,
    names: &Names,
    now: Timestamp,
    served: Option<Duration>,
) -> Result<EndUnknown, NotUnknown> {
    let things = remains(&seen.inventory, names, |found| found == name).remove(name);
    let things = things.map_or(0, |things| things.count());
    let found = seen.namespaces.iter().find(|found| found.name == *name);
    if found.is_some_and(|found| found.gone.is_none()) {
        return Err(NotUnknown::Known(name.clone()));
    }
    let is_its = |user: &&String| names.owner_of_user(user).is_some_and(|(owner, _)| owner == *name);
    if let Some(user) = seen.others.users.iter().find(is_its) {
        return Err(NotUnknown::Theirs { name: name.clone(), user: user.clone() });
    }
    match found.and_then(|found| Some((found, found.gone?))) {
        // What had a password in force once was known, and has no grace time.
        Some((found, gone)) if gone.since <= now || !found.rotation.grace.is_zero() => Ok(EndUnknown::Underway(things)),
        // An expiry run saw it, and waits for the grace time.
        Some((found, gone)) => {
            let gone = Some(Gone { since: now, ..gone });
            Ok(EndUnknown::Write(Box::new(Namespace { gone, matures: served, ..found.clone() }), things))
        }
        None if things == 0 => Err(NotUnknown::Nothing(name.clone())),
        None if seen.namespaces.iter().all(|namespace| namespace.gone.is_some()) => Err(NotUnknown::NoneLive),
        None => Ok(EndUnknown::Write(Box::new(tombstone(name, now, served, Duration::ZERO)), things)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::inventory::{BrokerQueue, QueueKind};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn name(text: &str) -> Name {
        Name::from_stored(text.to_owned())
    }

    fn queue(name: &str) -> BrokerQueue {
        let (kind, fingerprint) = (QueueKind::Classic, 0);
        BrokerQueue { name: name.into(), messages: Some(1), unacked: None, kind, exclusive: false, fingerprint }
    }

    fn live(text: &str) -> Namespace {
        Namespace { gone: None, ..tombstone(&name(text), at(0), None, Duration::ZERO) }
    }

    #[test]
    fn what_is_unknown_is_ended_at_once_unless_it_is_known_or_somebody_elses_or_the_store_may_be_the_wrong_one() {
        let names = Names::new("taskcluster-", "");
        let mut seen = Snapshot { namespaces: vec![live("taskcluster-a")], ..Snapshot::default() };
        seen.inventory.queues =
            ["queue/taskcluster-a/q", "queue/taskcluster-lost/q", "queue/taskcluster-lost/r"].map(queue).into();
        let (now, served) = (at(100), Some(Duration::from_secs(7)));
        let end = |seen: &Snapshot, text: &str| end_unknown(&name(text), seen, &names, now, served);
        let lost = name("taskcluster-lost");
        let expected = tombstone(&lost, now, served, Duration::ZERO);
        assert_eq!((expected.gone.unwrap().since, expected.matures), (now, served));
        assert_eq!(end(&seen, "taskcluster-lost"), Ok(EndUnknown::Write(Box::new(expected), 2)));
        assert_eq!(end(&seen, "taskcluster-a"), Err(NotUnknown::Known(name("taskcluster-a"))));
        assert_eq!(end(&seen, "taskcluster-b"), Err(NotUnknown::Nothing(name("taskcluster-b"))));
        let mut theirs = seen.clone();
        theirs.others.users.insert("taskcluster-lost-2".to_owned());
        let user = "taskcluster-lost-2".to_owned();
        assert_eq!(end(&theirs, "taskcluster-lost"), Err(NotUnknown::Theirs { name: lost.clone(), user }));
        let waiting = tombstone(&lost, at(50), served, Duration::from_secs(1000));
        seen.namespaces.push(waiting.clone());
        let sooner = Namespace { gone: Some(Gone { since: now, cleaning_until: None }), matures: served, ..waiting };
        assert_eq!(end(&seen, "taskcluster-lost"), Ok(EndUnknown::Write(Box::new(sooner.clone()), 2)));
        seen.namespaces[1] = sooner;
        assert_eq!(end(&seen, "taskcluster-lost"), Ok(EndUnknown::Underway(2)), "asking again does no harm");
        seen.namespaces.clear();
        assert_eq!(end(&seen, "taskcluster-lost"), Err(NotUnknown::NoneLive));
        seen.namespaces.push(tombstone(&name("taskcluster-c"), at(0), None, Duration::ZERO));
        assert_eq!(end(&seen, "taskcluster-lost"), Err(NotUnknown::NoneLive), "a tombstone proves nothing");
    }
}
