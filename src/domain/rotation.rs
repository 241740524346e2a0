//! Rotation: which of a namespace's two users is active, which password comes next, and how long a password works. A
//! *switch* is one rotation of one namespace.
//!
//! ```text
//! user-1: AAAAASSSSSAAAAA..      A active, S standby
//! user-2: SSSSSAAAAASSSSS..      at each switch the standby user gets a new password and becomes active
//! time-->   X    Y  Z            a claim at X returns user-1, due at Y, reclaimAt Z
//! ```
//!
//! Every change of a password takes three steps: [`Rotation::begin`] chooses it, and we store that; we tell the broker;
//! [`Rotation::settle`] promotes it, and we store that. A process that finds a pending password finishes with *that*
//! password. So first creation, rotation and crash recovery are one path, and we return a password only after the
//! broker has it.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::name::Slot;
use crate::secret::Password;

/// A user's slot and its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Which of the two users.
    pub slot: Slot,
    /// The password it logs in with.
    pub password: Password,
}

/// The next password, while we don't know yet whether the broker has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The user, and its new password.
    pub login: Login,
    /// When it was chosen. An old pending password belongs to a process that died.
    pub since: Timestamp,
}

/// The passwords of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// What claims return. `None` until the first password is settled.
    pub active: Option<Login>,
    /// What claims returned before the last switch. It logs in until the next one. `None` until the first switch,
    /// because the standby user can't log in before.
    pub previous: Option<Login>,
    /// The password that is on its way to the broker.
    pub pending: Option<Pending>,
    /// When the next switch may begin.
    pub due: Timestamp,
    /// How long after `due` a claim of `active` is valid: half the interval that was configured when it was settled. It
    /// is stored with the password, so that no promise is broken if the configured interval changes.
    pub grace: Duration,
}

/// When a switch is due that comes only when somebody asks for it: at the end of the year 9999.
pub const NEVER: Timestamp = Timestamp::from_millis(253_402_300_799_000);

impl Rotation {
    /// No passwords, and nothing that is due.
    pub fn none() -> Rotation {
        Rotation { active: None, previous: None, pending: None, due: NEVER, grace: Duration::ZERO }
    }

    /// The same without the pending password, which nobody will put in force.
    #[must_use]
    pub fn without_pending(&self) -> Rotation {
        Rotation { pending: None, ..self.clone() }
    }

    /// Promotes the pending password as [`Rotation::settle`] does, where the next switch comes when somebody asks for it.
    #[must_use]
    pub fn settle_until_asked(&self) -> Rotation {
        Rotation { due: NEVER, grace: Duration::ZERO, ..self.settle(NEVER, Duration::ZERO) }
    }

    /// The rotation of a new namespace: `first` is pending for user 1, and user 2 can't log in.
    pub fn first(first: Password, now: Timestamp) -> Rotation {
        let login = Login { slot: Slot::One, password: first };
        Rotation {
            active: None,
            previous: None,
            pending: Some(Pending { login, since: now }),
            due: now,
            grace: Duration::ZERO,
        }
    }

    /// Chooses `fresh` as the standby user's next password. Changes nothing if one is pending.
    pub fn begin(&self, fresh: Password, now: Timestamp) -> Rotation {
        if self.pending.is_some() {
            return self.clone();
        }
        let slot = self.active.as_ref().map_or(Slot::One, |active| active.slot.other());
        let pending = Pending { login: Login { slot, password: fresh }, since: now };
        Rotation { pending: Some(pending), ..self.clone() }
    }

    /// Promotes the pending password, which the broker has by `now`, and sets the next switch one interval `every`
    /// later. Changes nothing if none is pending.
    ///
    /// The next switch overwrites the password that was active until now. Claims returned that one with a `reclaimAt`
    /// of at most `grace` after `due` or `now`, whichever is later. (A claim that is stored before the promotion, but
    /// after `now` was read, writes the record, so the promotion loses.) The next switch comes at least two `grace`
    /// after `due` or `now`. So clocks may differ, whatever `every` is by now.
    pub fn settle(&self, now: Timestamp, every: Duration) -> Rotation {
        let Some(pending) = &self.pending else { return self.clone() };
        Rotation {
            active: Some(pending.login.clone()),
            previous: self.active.clone().or_else(|| self.previous.clone()),
            pending: None,
            due: now.max(self.due).plus(every.max(self.grace * 2)),
            grace: every / 2,
        }
    }

    /// When the active password replaced another one, or a later time if the interval has changed since. `None` for the
    /// first password.
    pub fn switched(&self) -> Option<Timestamp> {
        self.previous.as_ref().map(|_| self.due.minus(self.grace * 2))
    }

    /// Until when a claim that returns the active password at `now` may rely on it. Always after `now`: an overdue
    /// switch can come at any moment, but the password then still works for one more interval.
    pub fn reclaim_at(&self, now: Timestamp) -> Timestamp {
        self.due.max(now).plus(self.grace)
    }

    /// Whether a switch should begin, or another process should finish a switch that began at least `abandoned` ago.
    pub fn is_due(&self, now: Timestamp, abandoned: Duration) -> bool {
        match &self.pending {
            Some(pending) => pending.since.plus(abandoned) <= now,
            None => self.due <= now,
        }
    }

    /// From when on we may replace the standby user's password ahead of the next switch. Until then, programs that
    /// claimed before the last switch may rely on it; see [`Rotation::settle`]. A process that is settling a password
    /// gets `budget` to finish.
    pub fn standby_is_free(&self, budget: Duration) -> Timestamp {
        let pending = self.pending.as_ref().map(|pending| pending.since.plus(budget));
        let promised = self.active.as_ref().map(|_| self.due.minus(self.grace));
        pending.max(promised).unwrap_or(self.due)
    }

    /// The credentials that claims returned last: the active ones, or the previous ones while a lost password is being
    /// replaced.
    pub fn handed_out(&self) -> Option<&Login> {
        self.active.as_ref().or(self.previous.as_ref())
    }

    /// Whether a password of it was ever in force, be it revoked by now.
    pub fn was_in_force(&self) -> bool {
        self.handed_out().is_some() || !self.grace.is_zero()
    }

    /// The rotation that continues after the passwords of this one are lost. The user whose credentials were returned
    /// last keeps its password at the broker, `kept`, so programs that hold it can log in until the next switch but
    /// one. The other user gets `fresh`. We can't return `kept` any more, so nothing is active until `fresh` is
    /// settled.
    pub fn replace_lost(&self, kept: Option<Password>, fresh: Password, now: Timestamp) -> Rotation {
        let Some(&Login { slot, .. }) = self.handed_out() else { return Rotation::first(fresh, now) };
        Rotation {
            active: None,
            previous: kept.map(|password| Login { slot, password }),
            pending: Some(Pending { login: Login { slot: slot.other(), password: fresh }, since: now }),
            ..self.clone()
        }
    }

    /// The password of the user in `slot`, once everything stored has reached the broker. `None` for a user that can't
    /// log in.
    pub fn password_of(&self, slot: Slot) -> Option<&Password> {
        let pending = self.pending.as_ref().map(|pending| &pending.login);
        [pending, self.active.as_ref(), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|held| held.slot == slot)
            .map(|held| &held.password)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn the_first_password_goes_to_user_1_and_user_2_stays_blocked() {
        let password = Password::random();
        let rotation = Rotation::first(password.clone(), at(0)).settle(at(1), HOUR);
        assert_eq!(rotation.active, Some(Login { slot: Slot::One, password }));
        assert_eq!(rotation.password_of(Slot::Two), None);
        assert_eq!(rotation.due, at(3601));
        assert_eq!(rotation.reclaim_at(at(10)), at(3601 + 1800));
    }

    #[test]
    fn a_switch_keeps_the_former_password_and_the_one_after_overwrites_it() {
        let first = Rotation::first(Password::random(), at(0)).settle(at(0), HOUR);
        let second = first.begin(Password::random(), at(3600)).settle(at(3601), HOUR);
        assert_eq!(second.previous, first.active);
        assert_eq!((first.switched(), second.switched()), (None, Some(at(3601))));
        assert_eq!(second.active.as_ref().unwrap().slot, Slot::Two);
        let third = second.begin(Password::random(), at(7201));
        assert_eq!(third.pending.as_ref().unwrap().login.slot, Slot::One);
        assert_ne!(third.password_of(Slot::One), Some(&first.active.as_ref().unwrap().password));
    }

    #[test]
    fn a_pending_password_is_never_replaced() {
        let begun = Rotation::first(Password::random(), at(0));
        assert_eq!(begun.begin(Password::random(), at(5)), begun);
        let settled = begun.settle(at(1), HOUR);
        assert_eq!(settled.settle(at(2), HOUR), settled);
    }

    #[test]
    fn reclaim_at_is_in_the_future_and_the_password_outlives_it() {
        let first = Rotation::first(Password::random(), at(0)).settle(at(0), HOUR);
        for (claimed, switched) in [(10, 3600), (3600, 3600), (50_000, 50_000), (3599, 90_000)] {
            let promised = first.reclaim_at(at(claimed));
            assert!(promised > at(claimed));
            let second = first.begin(Password::random(), at(switched)).settle(at(switched), HOUR);
            assert!(second.due >= promised, "claimed at {claimed}, switched at {switched}");
        }
    }

    #[test]
    fn a_shorter_interval_breaks_no_promise_made_under_the_longer_one() {
        let slow = Rotation::first(Password::random(), at(0)).settle(at(0), 10 * HOUR);
        let promised = slow.reclaim_at(at(36_000));
        let fast = slow.begin(Password::random(), at(36_000)).settle(at(36_000), HOUR);
        assert!(fast.due >= promised.plus(HOUR), "clocks may differ");
        assert_eq!(fast.grace, HOUR / 2);
    }

    #[test]
    fn lost_passwords_are_replaced_without_breaking_what_was_promised() {
        let first = Rotation::first(Password::random(), at(0)).settle(at(0), HOUR);
        let second = first.begin(Password::random(), at(3600)).settle(at(3600), HOUR);
        let (promised, free) = (first.reclaim_at(at(3600)), second.standby_is_free(Duration::ZERO));
        assert!(free >= promised && free < second.due, "{free}");
        let promised = second.reclaim_at(free);
        let held = Password::behind(&second.active.as_ref().unwrap().password.hash()).unwrap();
        let lost = second.replace_lost(Some(held.clone()), Password::random(), free);
        assert_eq!((lost.password_of(Slot::Two), lost.active.as_ref()), (Some(&held), None));
        let third = lost.settle(free, HOUR);
        assert_eq!(third.active.as_ref().unwrap().slot, Slot::One);
        assert_eq!(third.password_of(Slot::Two), Some(&held));
        assert!(third.due >= promised, "the next switch overwrites what is held until {promised}");
    }

    #[test]
    fn a_lost_password_that_was_never_handed_out_is_replaced_once_nobody_is_at_it() {
        let begun = Rotation::first(Password::random(), at(0));
        assert_eq!(begun.standby_is_free(HOUR), at(3600));
        let fresh = Password::random();
        assert_eq!(begun.replace_lost(None, fresh.clone(), at(7200)), Rotation::first(fresh, at(7200)));
        let switching = begun.settle(at(0), HOUR).begin(Password::random(), at(3600));
        assert_eq!(switching.standby_is_free(HOUR), at(7200));
    }

    #[test]
    fn what_was_kept_when_passwords_were_lost_is_kept_when_they_are_lost_again() {
        let (kept, fresh) = (Password::random(), Password::random());
        let once = Rotation::first(Password::random(), at(0)).settle(at(0), HOUR);
        let once = once.replace_lost(Some(kept.clone()), Password::random(), at(100));
        assert_eq!(once.handed_out().map(|last| last.slot), Some(Slot::One));
        let twice = once.replace_lost(Some(kept.clone()), fresh.clone(), at(200));
        assert_eq!((twice.password_of(Slot::One), twice.password_of(Slot::Two)), (Some(&kept), Some(&fresh)));
        assert_eq!(twice.active, None);
    }

    #[test]
    fn a_pending_password_is_left_to_its_owner_for_a_while() {
        let settled = Rotation::first(Password::random(), at(0)).settle(at(0), HOUR);
        assert!(!settled.is_due(at(3599), HOUR));
        assert!(settled.is_due(at(3600), HOUR));
        let begun = settled.begin(Password::random(), at(3600));
        assert!(!begun.is_due(at(3629), Duration::from_secs(30)));
        assert!(begun.is_due(at(3630), Duration::from_secs(30)));
    }
}
