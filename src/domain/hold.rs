//! Whether rotation and expiry have to wait: because programs can't claim, or because a clock is wrong.
//!
//! A program that can't claim keeps its password, which may be that of the standby user. The next switch would
//! overwrite that password. So rotation waits while clients can't reach the API. It also waits for a while after the
//! API is back, so that these programs can claim first. Such a program can't extend its namespace either, so expiry
//! waits too, without a limit. We know of this from the web processes: each writes a heartbeat to the store while it
//! can serve claims.
//!
//! If no heartbeat was ever stored, nothing waits: then nobody runs a web process that writes one.
//!
//! Both also wait while a clock is in doubt; see [`calendar`](crate::domain::calendar). That check fails if the host
//! boots with a wrong calendar and nobody has called yet. Then rotation continues, but expiry, which can't be undone,
//! has another check: the *served time*. It is the total time in which programs could claim, by all heartbeats
//! together, and no calendar changes it. Each claim stores the served time at which the namespace's life is over. A
//! namespace ends only when the calendar has reached its date and the served time has reached that value. So the time
//! in which programs could not claim extends the life of their namespaces.

use std::time::Duration;

use crate::clock::Timestamp;

/// When programs could claim, by the clock of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// When the last beat of any web process came.
    pub last: Timestamp,
    /// Since when no pause was longer than the silence that we tolerate; long ago if there never was one.
    pub since: Timestamp,
    /// For how long programs could claim, by all beats together.
    pub served: Duration,
}

/// One beat of a web process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// The time by the calendar of the process.
    pub now: Timestamp,
    /// A longer pause than this begins a new [`Heartbeat::since`], and adds only this much to [`Heartbeat::served`].
    pub gap: Duration,
    /// For how long the process had a heartbeat since its last beat, by its uptime; zero for its first beat.
    pub elapsed: Duration,
    /// The boot of the host that the process runs in, and how far a right calendar is ahead of the uptime of that boot,
    /// in milliseconds.
    pub boot: Option<(String, i64)>,
}

/// What the store knows about the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vitals {
    /// The time by the clock of the store, which all processes share.
    pub now: Timestamp,
    /// The heartbeat of the web processes; `None` if there never was one.
    pub heartbeat: Option<Heartbeat>,
    /// What the last beat from this boot of the caller's host stored about its calendar.
    pub right: Option<Right>,
}

/// What a beat stored about the calendar of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// How far a right calendar is ahead of the host's uptime, in milliseconds.
    pub ahead: i64,
    /// When the beat came.
    pub told: Timestamp,
}

/// What rotation and expiry tolerate, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldPolicy {
    /// Rotation waits after this long without a heartbeat, and for this long after the heartbeat is back.
    pub silence: Duration,
    /// How long after the last heartbeat rotation continues anyway, because a password that never changes is bad, too.
    pub longest: Duration,
    /// How far the clock of a process may be from the store's. A process whose clock differs more does not rotate.
    pub skew: Duration,
}

/// Whether to rotate, or to end namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Going {
    /// Yes.
    Free,
    /// Yes, although nobody can claim: rotation has waited as long as it may. The text says so.
    Despite(String),
    /// Not now. The text says why.
    Held(String),
}

impl HoldPolicy {
    /// Whether to rotate, as far as the heartbeat shows.
    pub fn rotating(&self, Vitals { now, heartbeat, .. }: Vitals) -> Going {
        let HoldPolicy { silence, longest, .. } = *self;
        let Some(Heartbeat { last, since, .. }) = heartbeat else { return Going::Free };
        if last > now.plus(silence) {
            return Going::Held(format!("the last heartbeat came at {last}, which is not yet: a clock was wrong"));
        }
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

    /// Whether to end namespaces, as far as the heartbeat shows. What we remove does not come back, so this waits for
    /// as long as nobody can claim.
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

/// By how much our clock differs from the store's at least. The store read `theirs` between two moments at which ours
/// showed these times.
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

    fn vitals(now: i64, last: i64, since: i64) -> Vitals {
        let heartbeat = Some(Heartbeat { last: at(last), since: at(since), served: Duration::ZERO });
        Vitals { now: at(now), heartbeat, right: None }
    }

    fn rotating(now: i64, last: i64, since: i64) -> Going {
        let policy = HoldPolicy { silence: SILENCE, longest: LONGEST, skew: SILENCE };
        policy.rotating(vitals(now, last, since))
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
        let rotating = |last, since| policy.rotating(vitals(1000, last, since));
        assert_eq!(rotating(1000, 1000), Going::Free);
        assert!(matches!(rotating(879, 0), Going::Despite(_)));
    }

    #[test]
    fn without_any_heartbeat_rotation_is_free_and_with_one_from_the_future_it_waits_for_the_next() {
        let policy = HoldPolicy { silence: SILENCE, longest: LONGEST, skew: SILENCE };
        assert_eq!(policy.rotating(Vitals { now: at(1), heartbeat: None, right: None }), Going::Free);
        assert_eq!(rotating(1000, 1120, 0), Going::Free, "clocks may differ");
        assert!(matches!(rotating(1000, 1121, 0), Going::Held(why) if why.contains(&at(1121).to_string())));
    }

    #[test]
    fn a_clock_is_suspected_of_no_more_than_the_round_trip_leaves_room_for() {
        assert_eq!(skew([at(10), at(20)], at(15)), Duration::ZERO);
        assert_eq!(skew([at(10), at(20)], at(7)), Duration::from_secs(3));
        assert_eq!(skew([at(10), at(20)], at(24)), Duration::from_secs(4));
        assert_eq!(skew([at(20), at(10)], at(15)), Duration::ZERO, "ours was set back meanwhile");
    }
}
