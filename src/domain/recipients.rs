//! Who can't be told, because an address refuses our mail for good, and who wants no reminders.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::namespace::Namespace;
use crate::domain::words::{count, moment};

/// For so long after an address refused a mail for good nobody can be told there. Then it is tried again: somebody may have
/// mended it.
pub const REFUSED_FOR: Duration = Duration::from_secs(86_400);

/// Reminders that are not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mute {
    /// When that was said.
    pub since: Timestamp,
    /// Until when it holds; `None` without an end.
    pub until: Option<Timestamp>,
}

/// What is known of those who are to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recipients {
    /// When each address last refused a mail for good. One that took a mail since is not among them.
    pub refusals: BTreeMap<String, Timestamp>,
    /// Of which queues, and of all queues of which namespaces, no reminders are sent, by their names.
    pub mutes: BTreeMap<String, Mute>,
}

impl Recipients {
    /// Since when `address` can't be told, if it can't.
    pub fn refused(&self, address: &str, now: Timestamp) -> Option<Timestamp> {
        // A time that lies ahead is that of a clock that was ahead.
        let lately = |at: &Timestamp| now.since(*at) < REFUSED_FOR && at.since(now) < REFUSED_FOR;
        self.refusals.get(address).copied().filter(lately)
    }

    /// One report of the queues in trouble of which nobody can be told, because their `addresses` refuse our mail. Each queue's
    /// is among them.
    pub fn report<'a>(&self, addresses: impl Iterator<Item = &'a str>, now: Timestamp) -> Option<String> {
        let mut refused: BTreeMap<&str, (Timestamp, u64)> = BTreeMap::new();
        for address in addresses {
            if let Some(since) = self.refused(address, now) {
                refused.entry(address).or_insert((since, 0)).1 += 1;
            }
        }
        let (first, (since, queues)) = refused.first_key_value()?;
        let more = match refused.len() as u64 - 1 {
            0 => String::new(),
            more => format!("; so it is with {}", count(more, "other address", "other addresses")),
        };
        let (since, queues) = (moment(*since, now), count(*queues, "queue", "queues"));
        Some(format!(
            "{first} refused our mail for good at {since}, so nobody can be told of {queues} in trouble{more}"
        ))
    }

    /// Whether no reminders of a queue of `owner` are sent. What was said before the namespace began anew does not count: that
    /// was another one.
    pub fn mute(&self, queue: &str, owner: &Namespace, now: Timestamp) -> Option<Mute> {
        let mutes = [queue, owner.name.as_str()].into_iter().filter_map(|name| self.mutes.get(name).copied());
        let holds = |mute: &Mute| mute.since >= owner.created && mute.until.is_none_or(|until| now < until);
        // The one that lasts longest.
        mutes.filter(holds).max_by_key(|mute| (mute.until.is_none(), mute.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::barred::Barred;
    use crate::domain::name::Name;
    use crate::domain::namespace::Version;
    use crate::domain::rotation::Rotation;
    use crate::secret::Password;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_mute_is_of_a_queue_or_its_namespace_and_ends_with_its_time_or_the_namespace() {
        let owner = |created| Namespace {
            name: Name::from_stored("taskcluster-x".into()),
            contact: String::new(),
            created: at(created),
            expires: at(100_000),
            rotation: Rotation::first(Password::random(), at(0)),
            gone: None,
            warned: None,
            claimed_by: None,
            owners: Vec::new(),
            exemptions: Vec::new(),
            requests: Vec::new(),
            barred: Barred::default(),
            account: None,
            end_asked: None,
            matures: None,
            version: Version(1),
        };
        let mute = |since, until: Option<i64>| Mute { since: at(since), until: until.map(at) };
        let mutes = BTreeMap::from([
            ("queue/taskcluster-x/a".to_owned(), mute(100, Some(200))),
            ("queue/taskcluster-x/b".to_owned(), mute(100, None)),
            ("taskcluster-x".to_owned(), mute(10, Some(150))),
        ]);
        let recipients = Recipients { mutes, ..Recipients::default() };
        let muted = |queue: &str, created, now| {
            let found = recipients.mute(&format!("queue/taskcluster-x/{queue}"), &owner(created), at(now));
            found.map(|mute| mute.until)
        };
        assert_eq!(
            ["a", "b", "c"].map(|queue| muted(queue, 10, 149)),
            [Some(Some(at(200))), Some(None), Some(Some(at(150)))]
        );
        assert_eq!(["a", "b", "c"].map(|queue| muted(queue, 10, 200)), [None, Some(None), None]);
        assert_eq!(["a", "b", "c"].map(|queue| muted(queue, 101, 149)), [None; 3], "it began anew");
    }

    #[test]
    fn an_address_that_refused_is_tried_again_after_a_day() {
        let recipients =
            Recipients { refusals: BTreeMap::from([("a@a.com".to_owned(), at(100_000))]), ..Recipients::default() };
        let refused = |address, seconds| recipients.refused(address, at(seconds)).is_some();
        assert_eq!([100_000, 186_399, 186_400].map(|now| refused("a@a.com", now)), [true, true, false]);
        assert_eq!([13_601, 13_600].map(|now| refused("a@a.com", now)), [true, false], "its clock was ahead");
        assert!(!refused("b@a.com", 100_000));
    }
}
