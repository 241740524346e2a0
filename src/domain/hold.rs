//! Whether rotation and expiry have to wait: because programs can't claim, or because a clock is wrong.
//!
//! A program that can't claim keeps the password that it has, which may be that of the standby user. The next switch would
//! overwrite that one, so rotation waits while the API is out of its clients' reach, and for a while after it came back,
//! so that those who were cut off can claim first. Nor could such a program put off the end of its namespace, so expiry
//! waits too, without end. The web processes' heartbeat in the store tells: each beats while it can serve claims.
//!
//! Nothing waits where no heartbeat was ever stored: then nobody runs a web process that has one.

use std::time::Duration;

use crate::clock::Timestamp;

/// When programs could claim, by the store's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// When the last beat came, of whichever web process.
    pub last: Timestamp,
    /// Since when no pause was longer than the silence that is borne; long ago where there was none yet.
    pub since: Timestamp,
}

/// What the store tells of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vitals {
    /// What time it is by the store's clock, which all processes share.
    pub now: Timestamp,
    /// The heartbeat of the web processes; `None` where there never was one.
    pub heartbeat: Option<Heartbeat>,
}

/// What is borne, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldPolicy {
    /// After how long without a heartbeat rotation waits, and for how long it does so after the heartbeat is back.
    pub silence: Duration,
    /// How long after the last heartbeat rotation goes on all the same. A password that never changes is no good either.
    pub longest: Duration,
    /// How far the clock of a process may be from the store's. A process whose clock is further off does not rotate.
    pub skew: Duration,
}

/// Whether to rotate, or to end namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Going {
    /// Nothing speaks against it.
    Free,
    /// Nobody can claim, but rotation waited for as long as it may; in words.
    Despite(String),
    /// Not now; why, in words.
    Held(String),
}

impl HoldPolicy {
    /// Whether to rotate, as far as the heartbeat tells.
    pub fn rotating(&self, Vitals { now, heartbeat }: Vitals) -> Going {
        let HoldPolicy { silence, longest, .. } = *self;
        let Some(Heartbeat { last, since }) = heartbeat else { return Going::Free };
        if now.since(last) > longest.max(silence) {
            return Going::Despite(format!("going on although {}", nobody_claims(last)));
        }
        if now.since(last) > silence {
            return Going::Held(nobody_claims(last));
        }
        let until = since.plus(silence.min(longest));
        if now < until {
            return Going::Held(format!("programs can claim again since {since}, and are given time until {until}"));
        }
        Going::Free
    }

    /// Whether to end namespaces, as far as the heartbeat tells. What is removed does not come back, so this waits for as long
    /// as nobody can claim.
    pub fn expiring(&self, vitals: Vitals) -> Going {
        match (self.rotating(vitals), vitals.heartbeat) {
            (Going::Despite(_), Some(Heartbeat { last, .. })) => Going::Held(nobody_claims(last)),
            (going, _) => going,
        }
    }
}

fn nobody_claims(since: Timestamp) -> String {
    format!("no web process was able to serve all claims since {since}")
}

/// How far a clock is from the store's at least: the store read `theirs` between two moments at which ours showed these.
pub fn skew(ours: [Timestamp; 2], theirs: Timestamp) -> Duration {
    let [one, other] = ours;
    one.min(other).since(theirs).max(theirs.since(one.max(other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(120);
    const LONGEST: Duration = Duration::from_secs(3600);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn rotating(now: i64, last: i64, since: i64) -> Going {
        let policy = HoldPolicy { silence: SILENCE, longest: LONGEST, skew: SILENCE };
        policy.rotating(Vitals { now: at(now), heartbeat: Some(Heartbeat { last: at(last), since: at(since) }) })
    }

    #[test]
    fn rotation_waits_for_the_heartbeat_but_not_for_ever() {
        assert_eq!(rotating(10_000, 9_880, 0), Going::Free);
        assert!(matches!(rotating(10_000, 9_879, 0), Going::Held(why) if why.contains(&at(9_879).to_string())));
        assert!(matches!(rotating(10_000, 6_400, 0), Going::Held(_)));
        assert!(matches!(rotating(10_000, 6_399, 0), Going::Despite(why) if why.contains(&at(6_399).to_string())));
    }

    #[test]
    fn those_who_were_cut_off_can_claim_before_rotation_goes_on() {
        assert!(matches!(rotating(10_000, 9_999, 9_881), Going::Held(why) if why.contains(&at(10_001).to_string())));
        assert_eq!(rotating(10_000, 9_999, 9_880), Going::Free);
        // After the longest pause, too.
        assert!(matches!(rotating(10_000, 9_999, 9_990), Going::Held(_)));
    }

    #[test]
    fn where_waiting_is_switched_off_nothing_waits_for_long() {
        let policy = HoldPolicy { silence: SILENCE, longest: Duration::ZERO, skew: SILENCE };
        let rotating =
            |last, since| policy.rotating(Vitals { now: at(1000), heartbeat: Some(Heartbeat { last, since }) });
        assert_eq!(rotating(at(1000), at(1000)), Going::Free);
        assert!(matches!(rotating(at(879), at(0)), Going::Despite(_)));
    }

    #[test]
    fn without_any_heartbeat_and_with_one_from_the_future_rotation_is_free() {
        let policy = HoldPolicy { silence: SILENCE, longest: LONGEST, skew: SILENCE };
        assert_eq!(policy.rotating(Vitals { now: at(1), heartbeat: None }), Going::Free);
        assert_eq!(rotating(1000, 5000, 0), Going::Free, "the store's clock was set back");
    }

    #[test]
    fn a_clock_is_suspected_of_no_more_than_the_round_trip_leaves_room_for() {
        assert_eq!(skew([at(10), at(20)], at(15)), Duration::ZERO);
        assert_eq!(skew([at(10), at(20)], at(7)), Duration::from_secs(3));
        assert_eq!(skew([at(10), at(20)], at(24)), Duration::from_secs(4));
        assert_eq!(skew([at(20), at(10)], at(15)), Duration::ZERO, "ours was set back meanwhile");
    }
}
