//! The rules of the ladder.

use std::time::Duration;

use super::{Act, Exemption, Held, Mail, Measure, Policy, Situation, Stage, Step, Thresholds, Watch};
use crate::clock::Timestamp;
use crate::domain::course::Way;
use crate::domain::forecast::{Forecast, forecast};
use crate::domain::history::Look;
use crate::domain::verdict::Kind;

/// What to do about a queue now. Without a fresh look at it, that is nothing.
pub fn ladder(at: &Situation<'_>, now: Timestamp, policy: &Policy) -> Step {
    let look = at.verdict.look;
    let urgency = look.total;
    if now.since(look.at) >= policy.interval {
        return Step { act: Act::Nothing, shown_only: false, watch: at.watch.cloned(), held: None, urgency };
    }
    let exempt = at.exemption.is_some_and(|exemption| exemption.holds(look.total, now));
    let marks = marks(at.thresholds, at.exemption, now);
    let grows = at.verdict.course.way == Way::Up && look.total <= marks.delete;
    let forecast = grows.then(|| forecast(at.history, marks.delete, at.silence, now)).flatten();
    let rung = Rung { at, now, policy, look, marks, exempt, forecast };
    let mut watch = rung.known();
    let (act, held) = rung.climb(&mut watch);
    let allowed = matches!(policy.measure, Measure::Purge | Measure::Delete);
    let shown_only = match act {
        Act::Nothing => false,
        Act::Tell(_) => policy.measure == Measure::Observe,
        _ => !allowed,
    };
    let watch = Some(watch).filter(|watch| !watch.is_over(policy.memory, now));
    Step { act, shown_only, watch, held, urgency }
}

/// The thresholds that hold for a queue now.
pub(super) struct Marks {
    /// From so many messages on, a trouble that has a cause is told.
    pub(super) trouble: u64,
    pub(super) alert: u64,
    pub(super) delete: u64,
}

/// Whether a queue that is about to be removed still has as many messages as it takes, by a fresh look at it alone. Lists
/// may be old.
pub fn still_deserved(look: &Look, thresholds: Thresholds, exemption: Option<Exemption>, now: Timestamp) -> bool {
    look.total > marks(thresholds, exemption, now).delete
}

/// Of a queue that may grow, nothing is told below its bound, but that it will soon be reached.
pub(super) fn marks(base: Thresholds, exemption: Option<Exemption>, now: Timestamp) -> Marks {
    let Thresholds { alert, delete, .. } = base;
    match exemption.filter(|exemption| exemption.until.is_none_or(|until| now < until)) {
        None => Marks { trouble: base.trouble(), alert, delete },
        Some(Exemption { up_to, .. }) => {
            let bound = up_to.unwrap_or(u64::MAX).max(delete);
            Marks { trouble: bound, alert: bound, delete: bound }
        }
    }
}

/// Whether a cause is more than a size.
pub(super) fn is_hard(cause: Kind) -> bool {
    !matches!(cause, Kind::Fine | Kind::Draining | Kind::Slow)
}

/// A queue, with what follows from its situation at once.
pub(super) struct Rung<'a> {
    pub(super) at: &'a Situation<'a>,
    pub(super) now: Timestamp,
    pub(super) policy: &'a Policy,
    pub(super) look: Look,
    /// The thresholds that hold for it.
    pub(super) marks: Marks,
    pub(super) exempt: bool,
    /// When it is above the limit.
    pub(super) forecast: Option<Forecast>,
}

impl Rung<'_> {
    pub(super) fn known(&self) -> Watch {
        let incarnation = self.at.history.incarnation();
        match self.at.watch {
            Some(watch) if watch.incarnation == incarnation => watch.clone(),
            Some(watch) => watch.declared_anew(incarnation, self.now),
            None => Watch::new(incarnation, self.now),
        }
    }

    fn climb(&self, watch: &mut Watch) -> (Act, Option<Held>) {
        self.reconsider(watch);
        let held = self.held(watch);
        if held == Some(None) {
            let known = watch.stage == Stage::Removing;
            watch.enter(Stage::Removing, self.now);
            return match self.policy.measure {
                Measure::Observe | Measure::Warn if known => (self.tell(watch), Some(Held::NotAllowed)),
                Measure::Purge => (Act::Purge, None),
                _ => (Act::Delete, None),
            };
        }
        if watch.stage == Stage::Removing {
            watch.enter(Stage::Warned, self.now);
        }
        (self.relieve(watch).unwrap_or_else(|| self.tell(watch)), held.flatten())
    }

    /// Withdraws a warning that no longer is one.
    fn reconsider(&self, watch: &mut Watch) {
        let now = self.now;
        let Some(told) = &mut watch.told else { return };
        if told.mail == Mail::Waiting && !self.mails() {
            told.mail = Mail::Nobody;
            watch.warned = watch.warned.or(Some(now));
        }
        // Who can be told now was not, whatever stood recorded.
        if told.mail == Mail::Nobody && self.mails() {
            watch.warned = None;
        }
        // Unseen for long, it may be another queue by now.
        let looks: Vec<_> = self.at.history.looks().map(|look| look.at).skip_while(|at| *at < told.at).collect();
        let unseen = looks.windows(2).any(|two| two[1].since(two[0]) > self.at.silence);
        // It has become small since: whatever comes is a new danger.
        if unseen || self.look.total <= self.recovered(told.cause).min(told.messages / 2) {
            watch.warned = None;
        }
    }

    /// Why a queue above the limit is not removed: `Some(None)` where nothing speaks for it any more; `None` below the limit.
    pub(super) fn held(&self, watch: &Watch) -> Option<Option<Held>> {
        let Policy { gap, looks, over, .. } = *self.policy;
        if self.exempt && self.look.total > self.at.thresholds.delete {
            return Some(Some(Held::Exempt));
        }
        let (since, seen) = self.at.history.run(gap, |look| look.total > self.marks.delete)?;
        let grace = self.policy.grace(self.at.alarm);
        let until = watch.warned.max(watch.closed).map(|warned| warned.plus(grace));
        Some(if seen < looks || self.look.at.since(since) < over {
            Some(Held::TooFewLooks)
        } else if self.catches_up(grace) {
            Some(Held::Draining)
        } else if self.at.verdict.kind == Kind::Hoarding && !watch.kept_out {
            Some(Held::Hoarder)
        } else {
            match until {
                _ if watch.told.is_none() || watch.warned.is_none() || self.is_stale(watch) => Some(Held::NotWarned),
                Some(until) if self.now < until => Some(Held::Until(until)),
                _ => None,
            }
        })
    }

    /// Whether it loses messages, or lost some over the grace time: then it is given as long again. Where consumers are at
    /// work, every message counts, and the last hour does too: what drains slowly and unsteadily has better and worse
    /// quarters of an hour.
    pub(super) fn catches_up(&self, grace: Duration) -> bool {
        const HOUR: Duration = Duration::from_secs(3600);
        let since = |time: Duration| self.at.history.looks().skip_while(move |look| self.look.at.since(look.at) > time);
        let clearly_less = |before: &Look| self.look.total < before.total - before.total / 100;
        let less = |before: &Look| self.look.total < before.total;
        let lately = since(grace).next().is_some_and(clearly_less);
        let works = !is_hard(self.at.verdict.kind);
        self.at.verdict.falls()
            || lately
            || (works && (since(grace).any(less) || since(HOUR).next().is_some_and(clearly_less)))
    }

    /// Closes the connection that hoards, where it is time to.
    fn relieve(&self, watch: &mut Watch) -> Option<Act> {
        let Policy { measure, gap, looks, over, closing_pause, closings, .. } = *self.policy;
        let unacked_limit = self.at.thresholds.unacked_limit;
        let too_many = |look: &Look| look.unacked > unacked_limit || look.total > self.marks.delete;
        let (since, seen) = self.at.history.run(gap, too_many)?;
        let lasts = seen >= looks && self.look.at.since(since) >= over;
        let hoards = self.at.verdict.kind == Kind::Hoarding && !self.exempt && !watch.kept_out;
        let due = watch.warned.is_some_and(|warned| self.now >= warned.plus(self.policy.grace(self.at.alarm)));
        let pause = self.policy.doubled(closing_pause, watch.closings.saturating_sub(1));
        // What is only shown is shown once.
        let shown = watch.closed.is_some() && matches!(measure, Measure::Observe | Measure::Warn);
        let paused = shown || watch.closed.is_some_and(|closed| self.now < closed.plus(pause));
        if !lasts || !hoards || !due || paused {
            return None;
        }
        watch.closed = Some(self.now);
        if watch.closings < closings {
            watch.closings += 1;
            return Some(Act::CloseHoarder);
        }
        // Nobody is left to read it, perhaps: that is told before anything is removed.
        (watch.kept_out, watch.warned) = (true, None);
        Some(Act::KeepOut)
    }

    /// With no more messages, a queue of which that was told has come back.
    pub(super) fn recovered(&self, cause: Kind) -> u64 {
        let Marks { alert, .. } = self.marks;
        if is_hard(cause) { alert } else { alert - alert / 4 }
    }

    /// Whether the last message that its owner got is too long ago to remove the queue after it. Once that has begun, it goes
    /// on.
    pub(super) fn is_stale(&self, watch: &Watch) -> bool {
        let newest = watch.told.map(|told| match told.mail {
            Mail::Accepted(at) => at,
            Mail::Nobody | Mail::Waiting => told.at,
        });
        watch.stage < Stage::Removing && newest.is_none_or(|newest| self.now.since(newest) > self.policy.stale)
    }

    /// Whether messages are sent.
    pub(super) fn mails(&self) -> bool {
        self.at.can_be_told && self.policy.measure != Measure::Observe
    }
}
