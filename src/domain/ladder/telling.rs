//! What is told, and when.

use super::rules::{Rung, is_hard};
use super::{Act, Mail, Measure, Policy, Stage, Telling, Told, Topic, Watch};
use crate::clock::Timestamp;
use crate::domain::history::Look;
use crate::domain::verdict::Kind;

/// Whether two causes are told in the same words, more or less.
fn is_same(one: Kind, other: Kind) -> bool {
    let stopped = |cause| matches!(cause, Kind::Stalled | Kind::Stopped);
    one == other || (stopped(one) && stopped(other))
}

impl Rung<'_> {
    /// What is told, if anything.
    pub(super) fn tell(&self, watch: &mut Watch) -> Act {
        let concern = self.concern(watch.told.map(|told| told.cause));
        let quiet_before = watch.quiet;
        let told_cause = watch.told.map_or(Kind::Fine, |told| told.cause);
        let quiet = concern.is_none() && (self.look.total <= self.recovered(told_cause) || self.at.verdict.falls());
        watch.quiet = quiet.then(|| quiet_before.unwrap_or(self.now));
        let calm = if is_hard(told_cause) { self.policy.calm } else { self.policy.calm_size };
        let calm = self.policy.doubled(calm, watch.relapses);
        let calmed = quiet_before.is_some_and(|since| self.now.since(since) >= calm);
        match (concern, watch.told) {
            (None, None) => Act::Nothing,
            (None, Some(told)) => {
                let over = calmed && quiet && self.look.total <= self.recovered(told.cause);
                if over { self.normal(watch, told) } else { self.last_call(watch, told) }
            }
            (Some(cause), None) => {
                let pause = self.policy.doubled(self.policy.calm, watch.relapses.saturating_sub(1));
                match watch.last_told {
                    Some(last) if self.now.since(last) < pause => Act::Nothing,
                    _ => self.warn(watch, cause),
                }
            }
            (Some(cause), Some(told)) if is_hard(cause) && calmed && told.mail != Mail::Waiting => {
                self.warn(watch, cause)
            }
            (Some(cause), Some(told)) => self.tell_again(watch, told, cause),
        }
    }

    /// What is told of a trouble that was told before.
    fn tell_again(&self, watch: &mut Watch, told: Told, cause: Kind) -> Act {
        let since = self.now.since(told.at);
        match told.mail {
            // Somebody can be told now.
            Mail::Nobody if self.mails() => return self.warn(watch, cause),
            // One message is under way. What a mail server has lost is sent again.
            Mail::Waiting if since < self.policy.reminder => return Act::Nothing,
            Mail::Waiting => return self.say(watch, Topic::Reminder, cause),
            _ => {}
        }
        let worse = is_hard(cause) && !is_hard(told.cause);
        let other = is_hard(cause) && !is_same(cause, told.cause);
        let may_change = since >= self.policy.doubled(self.policy.calm, watch.changes);
        if worse || (other && may_change) {
            watch.changes += u32::from(!worse);
            return self.say(watch, Topic::Change, cause);
        }
        if since >= self.policy.reminder && !self.at.muted {
            return self.say(watch, Topic::Reminder, cause);
        }
        self.last_call(watch, told)
    }

    /// A warning that was withdrawn, or is long ago, is told once more before the queue is removed.
    fn last_call(&self, watch: &mut Watch, told: Told) -> Act {
        let above = self.at.history.run(self.policy.gap, |look| look.total > self.marks.delete);
        let above = above.is_some_and(|(since, _)| self.look.at.since(since) >= self.at.settle);
        let near = self.forecast.is_some_and(|forecast| forecast.earliest <= self.now.plus(self.policy.lead));
        let needed = if watch.warned.is_none() { above } else { self.is_stale(watch) && (above || near) };
        let paused = self.now.since(told.at) < self.policy.doubled(self.policy.calm, watch.changes);
        let grace = self.policy.grace(self.at.alarm);
        // What follows when who hoards is gone shows soon, and is told.
        let closed = watch.closed.is_some_and(|closed| self.now < closed.plus(grace));
        if !needed || paused || closed || told.mail == Mail::Waiting || self.catches_up(grace) {
            return Act::Nothing;
        }
        watch.changes += 1;
        watch.warned = None;
        let cause = self.concern(Some(told.cause)).unwrap_or(told.cause);
        self.say(watch, Topic::LastCall, cause)
    }

    fn warn(&self, watch: &mut Watch, cause: Kind) -> Act {
        watch.relapses += u32::from(watch.last_told.is_some());
        watch.warned = None;
        watch.enter(Stage::Warned, self.now);
        self.say(watch, Topic::Warning, cause)
    }

    fn say(&self, watch: &mut Watch, topic: Topic, cause: Kind) -> Act {
        let (now, messages) = (self.now, self.look.total);
        let mail = if self.mails() { Mail::Waiting } else { Mail::Nobody };
        if mail == Mail::Nobody {
            watch.warned = watch.warned.or(Some(now));
        }
        watch.told = Some(Told { at: now, cause, messages, mail });
        watch.last_told = Some(now);
        let Rung { forecast, .. } = *self;
        Act::Tell(Telling { topic, cause, forecast, removal: self.earliest_removal(watch) })
    }

    fn normal(&self, watch: &mut Watch, told: Told) -> Act {
        (watch.told, watch.warned, watch.quiet) = (None, None, None);
        watch.enter(Stage::Watched, self.now);
        if told.mail == Mail::Nobody || self.exempt {
            return Act::Nothing;
        }
        let telling = Telling { topic: Topic::Normal, cause: told.cause, forecast: None, removal: None };
        Act::Tell(telling)
    }

    /// When the queue may be removed at the earliest: after the grace time, and once it was above the limit for long enough.
    pub(super) fn earliest_removal(&self, watch: &Watch) -> Option<Timestamp> {
        let Policy { measure, gap, over, .. } = *self.policy;
        let may = matches!(measure, Measure::Purge | Measure::Delete) && !self.exempt;
        let above = self.at.history.run(gap, |look| look.total > self.marks.delete).map(|(since, _)| since);
        let above = above.or(self.forecast.map(|forecast| forecast.earliest))?;
        let warned = watch.warned.unwrap_or(self.now).plus(self.policy.grace(self.at.alarm));
        may.then(|| above.plus(over).max(warned).max(self.now))
    }

    /// What is the matter that its owner has to know, if anything. What was told is over only once it is clearly so.
    fn concern(&self, told: Option<Kind>) -> Option<Kind> {
        let Look { total, unacked, .. } = self.look;
        let kind = self.at.verdict.kind;
        let ease = |mark: u64| if told.is_some_and(is_hard) { mark / 2 } else { mark };
        let hoards = kind == Kind::Hoarding && unacked >= ease(self.at.thresholds.unacked_alert);
        if hoards || (is_hard(kind) && total >= ease(self.marks.trouble)) {
            return Some(kind);
        }
        let soon = self.forecast.is_some_and(|forecast| forecast.earliest <= self.now.plus(self.policy.lead));
        let grows = soon && total >= self.at.thresholds.trouble();
        let large = self.is_large(told.is_some()) && !self.at.verdict.falls();
        (grows || large).then_some(match kind {
            Kind::Draining => Kind::Fine,
            kind => kind,
        })
    }

    /// Whether it went above the alert threshold some looks ago, and did not clearly come back since. Where it has just begun
    /// to, it is given a look more, or two.
    fn is_large(&self, told: bool) -> bool {
        const MORE: usize = 2;
        let recovered = self.recovered(Kind::Fine);
        let run = self.at.history.window(self.at.silence).take_while(|sample| sample.look.total > recovered);
        let first = run.filter(|sample| sample.look.total > self.marks.alert).last();
        let latest: Vec<_> = self.at.history.looks().rev().take(MORE + 1).map(|look| look.total).collect();
        let falls = latest.windows(2).take_while(|two| !told && two[0] < two[1] - two[1] / 100).count();
        let settle = self.at.settle + self.policy.interval * u32::try_from(falls).unwrap_or(0);
        first.is_some_and(|first| self.look.at.since(first.look.at) >= settle)
    }
}
