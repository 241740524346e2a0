//! Decides whether to believe the host's calendar.
//!
//! If somebody sets the calendar to a wrong time, everything seems to have expired, every password seems due, and every
//! correctly signed request is refused because it seems hours old. Two things reveal it:
//!
//! * The host's *uptime*, which nobody sets. The difference between calendar and uptime stays the same, except that
//!   time servers slew the calendar a little. Each heartbeat stores the difference, so that a process which starts
//!   after a jump knows of it.
//! * The *clients*, which have clocks of their own. A correctly signed request contains the time at which it was
//!   signed.
//!
//! In doubt, rotation and expiry wait, the process writes no heartbeat, and `/__heartbeat__` names `clock`. We believe
//! a calendar at once if it goes back to where it was. A calendar that stays where it was set may have been wrong
//! before. We believe it once it has accepted more clients than it refused for as long as any program may keep its
//! credentials; every program has claimed by then. If the former calendar refused clients that this one accepts, we
//! believe this one at once. If no client comes at all, we believe it after a longer time.
//!
//! A few clients with wrong clocks prove nothing while more are accepted. A captured request that somebody repeats
//! hours later proves nothing either: it does not count against a calendar that lately accepted its sender.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;

/// How many clients we remember. More would not help.
const MOST_CLIENTS: usize = 100;

/// The calendar may be slewed by one part in this many of the time that passes. Linux slews by one in two thousand,
/// `chronyd` by one in twelve.
const SLEW: i64 = 10;

/// What the two clocks show at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The time by the calendar.
    pub now: Timestamp,
    /// How long the host has run.
    pub uptime: Duration,
}

impl Reading {
    /// How far the calendar is ahead of the uptime, in milliseconds.
    pub fn ahead(self) -> i64 {
        self.now.millis().saturating_sub(millis(self.uptime))
    }

    /// What they show at this `uptime`, if nobody has set the calendar meanwhile.
    fn after(self, uptime: Duration) -> Reading {
        Reading { now: Timestamp::from_millis(millis(uptime).saturating_add(self.ahead())), uptime }
    }
}

/// How much a calendar may be off, and how long we doubt it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CalendarPolicy {
    /// How far the calendar may be off.
    pub borne: Duration,
    /// The time within which every program with a credential claims again.
    pub reclaim: Duration,
    /// How long we doubt it if no client comes; at least `reclaim`.
    pub longest: Duration,
}

/// Why we don't believe the calendar, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt(pub String);

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What one client's correctly signed request said about the calendar.
#[derive(Debug, Clone, Copy)]
struct Witness {
    agrees: bool,
    at: Reading,
}

/// The calendar of one process, and what we know about it.
#[derive(Debug)]
pub struct Calendar {
    /// How far it is ahead of the uptime if it is right.
    right: i64,
    /// The uptime at the last look.
    seen: Duration,
    /// The reading at which we first saw that it is off.
    jumped: Option<Reading>,
    /// Whether clients contradict it while we take it for right.
    denied: bool,
    clients: BTreeMap<String, Witness>,
}

impl Calendar {
    /// One that we believe, because we know nothing yet.
    pub fn new(at: Reading) -> Calendar {
        Calendar { right: at.ahead(), seen: at.uptime, jumped: None, denied: false, clients: BTreeMap::new() }
    }

    /// How far it is ahead of the uptime if it is right, in milliseconds; to be stored.
    pub fn right(&self) -> i64 {
        self.right
    }

    /// Sets [`Calendar::right`] to the value that the last heartbeat of the same boot of the host stored.
    pub fn learn(&mut self, right: i64) {
        self.right = right;
    }

    /// Takes note of a correctly signed request: whether its time `agrees` with the calendar.
    pub fn hear(&mut self, client: &str, agrees: bool, at: Reading, policy: &CalendarPolicy) {
        match self.clients.get_mut(client) {
            Some(known) if !agrees && known.agrees && known.counts(at, policy) => {}
            Some(known) => *known = Witness { agrees, at },
            None => {
                if self.clients.len() >= MOST_CLIENTS {
                    let oldest = self.clients.iter().min_by_key(|(_, known)| known.at.uptime);
                    let oldest = oldest.map(|(client, _)| client.clone());
                    oldest.and_then(|oldest| self.clients.remove(&oldest));
                }
                self.clients.insert(client.to_owned(), Witness { agrees, at });
            }
        }
    }

    /// Why we don't believe it at the moment, or `None` if we do.
    pub fn doubt(&mut self, at: Reading, policy: &CalendarPolicy) -> Option<Doubt> {
        let (accepted, refused) = self.heard(at, policy);
        self.follow(at, policy, accepted, refused);
        let why = match self.jumped {
            Some(_) => format!(
                "this host's clock shows {}, and by its uptime it is {}: it was set, or is wrong",
                at.now,
                self.by_uptime(at)
            ),
            None if refused > 0 && refused >= accepted => format!(
                "this host's clock shows {}, and correctly signed requests of {refused} clients are refused for their \
                 time alone, where {accepted} are accepted: it may be wrong",
                at.now
            ),
            None => return None,
        };
        Some(Doubt(why))
    }

    /// The best guess of the time: by the calendar if it is where it was or clients confirm it, else by the uptime since
    /// clients last confirmed one.
    pub fn now(&self, at: Reading, policy: &CalendarPolicy) -> Timestamp {
        if self.right.abs_diff(at.ahead()) <= unsigned(policy.borne) || self.is_confirmed(at, policy) {
            return at.now;
        }
        // However long ago that was: of the calendar that a process began with nothing was ever known.
        let agreed = self.clients.values().filter(|known| known.agrees).map(|known| known.at);
        let latest = agreed.filter(|then| self.is_confirmed(*then, policy)).max_by_key(|then| then.uptime);
        latest.map_or_else(|| self.by_uptime(at), |then| then.after(at.uptime).now)
    }

    /// Whether more clients accepted than refused this calendar.
    fn is_confirmed(&self, at: Reading, policy: &CalendarPolicy) -> bool {
        let (accepted, refused) = self.heard(at, policy);
        accepted > refused
    }

    fn by_uptime(&self, at: Reading) -> Timestamp {
        Timestamp::from_millis(millis(at.uptime).saturating_add(self.right))
    }

    /// How many clients the present calendar accepted and refused.
    fn heard(&self, at: Reading, policy: &CalendarPolicy) -> (usize, usize) {
        let heard: Vec<_> = self.clients.values().filter(|heard| heard.counts(at, policy)).collect();
        let accepted = heard.iter().filter(|heard| heard.agrees).count();
        (accepted, heard.len() - accepted)
    }

    /// Notices whether it jumped, is back, or may be believed anyway.
    fn follow(&mut self, at: Reading, policy: &CalendarPolicy, accepted: usize, refused: usize) {
        let off = at.ahead().saturating_sub(self.right);
        let passed = millis(at.uptime.saturating_sub(self.seen));
        self.seen = at.uptime;
        if off.unsigned_abs() <= unsigned(policy.borne) {
            self.jumped = None;
            if accepted + refused > 0 {
                self.denied = refused >= accepted;
            }
            self.right += off.clamp(-passed / SLEW, passed / SLEW);
            return;
        }
        let again = |jumped: &Reading| jumped.ahead().abs_diff(at.ahead()) > unsigned(policy.borne);
        let jumped = match self.jumped {
            Some(jumped) if !again(&jumped) => jumped,
            _ => *self.jumped.insert(at),
        };
        let lasted = at.uptime.saturating_sub(jumped.uptime);
        let unheard = accepted + refused == 0 && lasted >= policy.longest.max(policy.reclaim);
        if unheard || (accepted > refused && (self.denied || lasted >= policy.reclaim)) {
            (self.jumped, self.denied, self.right) = (None, false, at.ahead());
        }
    }
}

impl Witness {
    /// Whether it is about the present calendar, and recent enough.
    fn counts(&self, now: Reading, policy: &CalendarPolicy) -> bool {
        let age = now.uptime.saturating_sub(self.at.uptime);
        age <= policy.reclaim.saturating_mul(2) && self.at.ahead().abs_diff(now.ahead()) <= unsigned(policy.borne)
    }
}

fn millis(of: Duration) -> i64 {
    i64::try_from(of.as_millis()).unwrap_or(i64::MAX)
}

fn unsigned(of: Duration) -> u64 {
    u64::try_from(of.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    const POLICY: CalendarPolicy = CalendarPolicy {
        borne: Duration::from_secs(15 * 60),
        reclaim: Duration::from_secs(90 * 60),
        longest: Duration::from_secs(86_400),
    };

    /// The calendar `off` by so much, `after` so long; both in milliseconds.
    fn at(after: i64, off: i64) -> Reading {
        let uptime = Duration::from_millis(after.unsigned_abs());
        Reading { now: Timestamp::from_millis(1_800_000_000_000 + after + off), uptime }
    }

    fn doubt(calendar: &mut Calendar, after: i64, off: i64) -> Option<String> {
        calendar.doubt(at(after, off), &POLICY).map(|Doubt(why)| why)
    }

    #[test]
    fn a_calendar_that_is_set_by_any_amount_is_doubted_until_it_is_back() {
        for off in [16 * MINUTE, 6 * HOUR, 100_000 * HOUR, -16 * MINUTE, -6 * HOUR, -100_000 * HOUR] {
            let mut calendar = Calendar::new(at(0, 0));
            assert_eq!(doubt(&mut calendar, MINUTE, 0), None);
            assert!(doubt(&mut calendar, 2 * MINUTE, off).unwrap().contains("by its uptime"), "{off}");
            assert!(doubt(&mut calendar, HOUR, off).is_some(), "{off}");
            assert_eq!(doubt(&mut calendar, HOUR + 1, 0), None, "{off}");
        }
    }

    #[test]
    fn what_time_it_is_the_uptime_tells_until_clients_tell_otherwise() {
        let mut calendar = Calendar::new(at(0, 0));
        let now = |calendar: &Calendar, after, off| calendar.now(at(after, off), &POLICY);
        assert_eq!(now(&calendar, MINUTE, 14 * MINUTE), at(MINUTE, 14 * MINUTE).now);
        assert_eq!(now(&calendar, MINUTE, -6 * HOUR), at(MINUTE, 0).now);
        calendar.hear("a", true, at(MINUTE, -6 * HOUR), &POLICY);
        assert_eq!(now(&calendar, MINUTE, -6 * HOUR), at(MINUTE, -6 * HOUR).now);
        // If it is set again before a client comes, what clients said last counts, and by that it is six hours earlier.
        assert_eq!(now(&calendar, 2 * MINUTE, 6 * HOUR), at(2 * MINUTE, -6 * HOUR).now);
        calendar.hear("b", false, at(MINUTE, -6 * HOUR), &POLICY);
        assert_eq!(now(&calendar, MINUTE, -6 * HOUR), at(MINUTE, 0).now);
        assert_eq!(now(&calendar, 2 * MINUTE, 6 * HOUR), at(2 * MINUTE, 0).now);
    }

    #[test]
    fn small_steps_add_up_and_slewing_does_not() {
        let mut calendar = Calendar::new(at(0, 0));
        assert_eq!(doubt(&mut calendar, MINUTE, 14 * MINUTE), None);
        assert!(doubt(&mut calendar, 2 * MINUTE, 28 * MINUTE).is_some());
        let mut calendar = Calendar::new(at(0, 0));
        for minute in 1..1000 {
            assert_eq!(doubt(&mut calendar, minute * MINUTE, minute * MINUTE / 12), None);
        }
    }

    #[test]
    fn a_calendar_that_was_corrected_is_believed_once_clients_are_accepted_by_it() {
        let mut calendar = Calendar::new(at(0, 0));
        assert!(doubt(&mut calendar, MINUTE, 6 * HOUR).is_some());
        calendar.hear("a", true, at(2 * MINUTE, 6 * HOUR), &POLICY);
        assert!(doubt(&mut calendar, HOUR, 6 * HOUR).is_some(), "others may still come and be refused");
        assert_eq!(doubt(&mut calendar, MINUTE + 90 * MINUTE, 6 * HOUR), None);
        assert_eq!(calendar.right(), at(0, 6 * HOUR).ahead());
        assert!(doubt(&mut calendar, 3 * HOUR, 0).is_some(), "that is what is right now");
    }

    #[test]
    fn where_clients_spoke_against_the_former_calendar_the_new_one_is_believed_as_soon_as_they_are_accepted() {
        let mut calendar = Calendar::new(at(0, 6 * HOUR));
        calendar.hear("a", false, at(MINUTE, 6 * HOUR), &POLICY);
        assert!(doubt(&mut calendar, MINUTE, 6 * HOUR).is_some());
        assert!(doubt(&mut calendar, 2 * MINUTE, 0).is_some());
        calendar.hear("a", true, at(3 * MINUTE, 0), &POLICY);
        assert_eq!(doubt(&mut calendar, 3 * MINUTE, 0), None);
        assert_eq!(calendar.right(), at(0, 0).ahead());
    }

    #[test]
    fn a_calendar_that_no_client_tells_of_is_believed_after_the_longest_doubt() {
        let mut calendar = Calendar::new(at(0, 0));
        assert!(doubt(&mut calendar, 0, 6 * HOUR).is_some());
        assert!(doubt(&mut calendar, 24 * HOUR - 1, 6 * HOUR).is_some());
        assert_eq!(doubt(&mut calendar, 24 * HOUR, 6 * HOUR), None);
        // Each jump is doubted anew.
        assert!(doubt(&mut calendar, 25 * HOUR, 9 * HOUR).is_some());
        assert!(doubt(&mut calendar, 48 * HOUR, 99 * HOUR).is_some());
        assert!(doubt(&mut calendar, 50 * HOUR, 99 * HOUR).is_some());
    }

    #[test]
    fn clients_that_are_refused_for_their_time_speak_against_it_unless_more_are_accepted() {
        let mut calendar = Calendar::new(at(0, 0));
        calendar.hear("a", false, at(1, 0), &POLICY);
        assert!(doubt(&mut calendar, 2, 0).unwrap().contains("of 1 clients are refused"));
        calendar.hear("b", true, at(HOUR, 0), &POLICY);
        assert!(doubt(&mut calendar, HOUR, 0).is_some());
        calendar.hear("c", true, at(HOUR, 0), &POLICY);
        assert_eq!(doubt(&mut calendar, HOUR, 0), None);
        // A client that was accepted lately can't be made to speak against it by what it signed long ago.
        calendar.hear("b", false, at(2 * HOUR, 0), &POLICY);
        assert_eq!(doubt(&mut calendar, 2 * HOUR, 0), None);
        // It is heard for a while.
        calendar.hear("d", false, at(9 * HOUR, 0), &POLICY);
        assert!(doubt(&mut calendar, 12 * HOUR, 0).is_some());
        assert_eq!(doubt(&mut calendar, 12 * HOUR + 1, 0), None);
    }

    #[test]
    fn what_clients_told_of_a_calendar_that_was_set_since_tells_nothing() {
        let mut calendar = Calendar::new(at(0, 0));
        for client in ["a", "b", "c"] {
            calendar.hear(client, true, at(1, 0), &POLICY);
        }
        calendar.hear("a", false, at(MINUTE, 6 * HOUR), &POLICY);
        calendar.learn(at(0, 6 * HOUR).ahead());
        assert!(doubt(&mut calendar, MINUTE, 6 * HOUR).unwrap().contains("where 0 are accepted"));
        assert_eq!(doubt(&mut calendar, MINUTE, 0), None, "the others were accepted by this one");
    }

    #[test]
    fn no_more_clients_are_remembered_than_tell_anything() {
        let mut calendar = Calendar::new(at(0, 0));
        for client in 0..300 {
            calendar.hear(&client.to_string(), true, at(client, 0), &POLICY);
        }
        assert_eq!(calendar.clients.len(), MOST_CLIENTS);
        assert!(calendar.clients.contains_key("299") && !calendar.clients.contains_key("0"));
    }
}
