//! The rules, in their order.

use std::time::Duration;

use super::{Counted, Criteria, Evidence, Kind, Verdict};
use crate::clock::Timestamp;
use crate::domain::course::{Course, Way, course};
use crate::domain::history::{Counters, History, Look};

/// Over how long events are counted.
const LATELY: Duration = Duration::from_secs(630);
/// Messages that are not acknowledged within this time are hoarded. It is what RabbitMQ allows a consumer by default.
const HELD_TOO_LONG: Duration = Duration::from_secs(1800);
/// So many more messages are delivered again than are acknowledged where a consumer fails on them.
const LOOP: u64 = 3;
/// One in so many is enough where the queue grows.
const FAILING: u64 = 4;
/// Fewer messages that are delivered again are no loop.
const FEWEST_AGAIN: u64 = 10;
/// How many times its longest pause a consumer may pause.
const PAUSES: u32 = 2;

struct Judge<'a> {
    /// What compares with the last look, the oldest first; never empty.
    looks: Vec<&'a Look>,
    last: &'a Look,
    criteria: &'a Criteria,
    course: Course,
}

/// What is the matter, and since when.
type Found = (Kind, Option<Timestamp>);

/// Judges a queue. `None` without any look.
pub fn verdict(history: &History, criteria: &Criteria) -> Option<Verdict> {
    let mut looks: Vec<_> = history.window(criteria.silence).map(|sample| &sample.look).collect();
    looks.reverse();
    let last = *looks.last()?;
    let small = last.total <= criteria.floor && last.unacked < criteria.unacked;
    let course = match small {
        // Whichever way it goes, it is fine.
        true => Course { way: Way::Level, trend: None },
        false => course(history, criteria.silence, criteria.looks),
    };
    let judge = Judge { last, criteria, course, looks };
    let evidence = judge.evidence();
    let (kind, since) = if small { (Kind::Fine, None) } else { judge.find(evidence) };
    Some(Verdict {
        kind,
        since,
        or_longer: since.is_some_and(|since| judge.looks.first().is_some_and(|first| since <= first.at)),
        evidence,
        course: judge.course,
        look: *last,
        consumers: judge.lately().filter_map(|look| look.consumers).last(),
        counted: judge.counted(),
    })
}

impl Judge<'_> {
    fn find(&self, evidence: Evidence) -> Found {
        let found = match evidence {
            Evidence::Full => self
                .no_consumer()
                .or_else(|| self.looping().filter(|_| self.course.way != Way::Down))
                .or_else(|| self.stopped())
                .or_else(|| self.hoarding()),
            Evidence::Totals => None,
        };
        let found = found.or_else(|| (self.course.way == Way::Down).then_some((Kind::Draining, None)));
        // Where consumers have just gone, it takes some looks to say so.
        let gone = || self.lately().filter_map(|look| look.consumers).last() == Some(0);
        let found = found.or_else(|| match self.counted() {
            Some(_) => None,
            None if gone() => None,
            None => self.by_totals(),
        });
        let was_small = || self.within(self.criteria.settle).iter().any(|look| look.total <= self.criteria.floor);
        found.unwrap_or_else(|| match self.course.way {
            Way::Up if !was_small() => (Kind::Slow, None),
            _ => (Kind::Fine, None),
        })
    }

    /// Nobody was there to read, in any of the last looks, and nothing was fetched by who is no consumer (`basic.get`).
    fn no_consumer(&self) -> Option<Found> {
        let away = |look: &Look| look.consumers.is_none_or(|consumers| consumers == 0);
        let away_run = self.trailing(|look| self.busy(look) && away(look));
        let first = away_run.iter().position(|look| look.consumers.is_some())?;
        let run = &away_run[first..];
        let known = run.iter().filter(|look| look.consumers.is_some()).count();
        let counted: Vec<_> = run.iter().filter_map(|look| look.counters).collect();
        let fetched = match (counted.first(), counted.last()) {
            (Some(first), Some(last)) => last.acknowledged > first.acknowledged,
            _ => self.course.way == Way::Down,
        };
        // Cheaper looks, too, may have shown that nothing was taken. Both are the end of the window.
        let untaken = self.untaken();
        let untaken = if untaken.len() < away_run.len() { untaken } else { away_run };
        if self.last.consumers == Some(0) && self.lasts(untaken) && !fetched {
            return Some((Kind::NoConsumer, Some(untaken.first()?.at)));
        }
        let lasts = known >= self.criteria.looks && self.lasts(run);
        // They may have been away before the queue had messages.
        let since = self.trailing(away).iter().find(|look| look.consumers.is_some()).map(|look| look.at);
        (lasts && !fetched).then_some((Kind::NoConsumer, since))
    }

    /// Consumers are there, and acknowledge nothing: for longer than they ever paused. If they hold most of the messages,
    /// they hoard.
    fn stopped(&self) -> Option<Found> {
        let busy = self.trailing(|look| self.busy(look));
        // Where it isn't counted, a queue that has fewer messages was read.
        let moved = |two: &&[&Look]| match (two[0].counters, two[1].counters) {
            (Some(before), Some(after)) => after.acknowledged > before.acknowledged,
            _ => two[1].total < two[0].total,
        };
        let rises: Vec<_> = busy.windows(2).filter(moved).map(|two| two[1].at).collect();
        let quiet = |look: &&&Look| look.counters.is_some() && rises.last().is_none_or(|rise| look.at >= *rise);
        let quiet: Vec<_> = busy.iter().filter(quiet).copied().collect();
        let known: Vec<_> =
            quiet.iter().filter_map(|look| look.consumers.map(|consumers| (*look, consumers > 0))).collect();
        let returns: Vec<_> = known.windows(2).filter(|two| !two[0].1 && two[1].1).map(|two| two[1].0.at).collect();
        let (_, there) = known.last()?;
        // Who has just come is given time, but for those who come and go.
        let since = match returns[..] {
            [] if *there => known.first()?.0.at,
            [once] if *there => once,
            [] | [_] => return None,
            _ => known.iter().find(|(_, there)| *there)?.0.at,
        };
        let present: Vec<_> = quiet.iter().copied().filter(|look| look.at >= since).collect();
        if !self.lasts(&present) {
            return None;
        }
        let paused = rises.windows(2).map(|two| two[1].since(two[0])).max().unwrap_or_default();
        if self.last.at.since(since) < paused * PAUSES {
            return None;
        }
        let Look { unacked, total, .. } = *self.last;
        if unacked > self.criteria.floor && unacked >= total / 2 {
            return Some((Kind::Hoarding, Some(since)));
        }
        // Before the queue had a backlog, too, they may have been seen at work.
        let worked = self.looks.iter().filter_map(|look| look.counters).map(|counters| counters.acknowledged);
        let worked = worked.fold((u64::MAX, 0), |(least, most), count| (count.min(least), count.max(most)));
        let kind = if worked.0 < worked.1 { Kind::Stopped } else { Kind::Stalled };
        Some((kind, Some(since)))
    }

    /// More messages are held than are acknowledged in the time that a message may be held for, and they don't get fewer.
    fn hoarding(&self) -> Option<Found> {
        let Criteria { unacked, .. } = *self.criteria;
        let run = self.trailing(|look| look.unacked >= unacked && look.unacked >= look.total / 2);
        let counted: Vec<_> = run.iter().filter_map(|look| look.counters.map(|counters| (look, counters))).collect();
        let ((first, before), (last, after)) = (counted.first()?, counted.last()?);
        let span = last.at.since(first.at).as_secs();
        let done = after.acknowledged.saturating_sub(before.acknowledged);
        let kept_up = u128::from(done) * u128::from(HELD_TOO_LONG.as_secs());
        let too_long = u128::from(last.unacked) * u128::from(span) > kept_up;
        let shrinks = last.unacked < first.unacked - first.unacked / 50;
        (self.lasts(run) && counted.len() >= self.criteria.looks && too_long && !shrinks)
            .then_some((Kind::Hoarding, Some(run.first()?.at)))
    }

    /// Messages are delivered again in most of the stretches between looks, and far more than are acknowledged, or not far
    /// fewer while the queue grows. (Those that
    /// one consumer had when it went are delivered again once.)
    fn looping(&self) -> Option<Found> {
        let counted: Vec<Counters> = self.lately().filter_map(|look| look.counters).collect();
        let Counted { span, acknowledged, redelivered } = self.counted()?;
        let again = counted.windows(2).filter(|two| two[1].redelivered > two[0].redelivered).count();
        let often = again >= 2 && again * 2 >= counted.len() - 1;
        let lasts = counted.len() >= self.criteria.looks && span >= self.criteria.settle;
        // A consumer that fails on some messages only, and lags behind by that.
        let fails = self.course.way == Way::Up && redelivered >= acknowledged / FAILING;
        let loops = redelivered > FEWEST_AGAIN && (fails || redelivered >= acknowledged.saturating_mul(LOOP));
        (lasts && often && loops).then_some((Kind::Looping, None))
    }

    /// What the numbers of messages alone say.
    fn by_totals(&self) -> Option<Found> {
        let Criteria { unacked, .. } = *self.criteria;
        // Looks at which nothing was less than at the look before.
        let held = self.run_by(|before, look| look.unacked >= unacked && look.unacked >= before.unacked);
        let (first, last) = (held.first()?, self.last);
        if self.lasts(held) && last.unacked >= last.total / 2 && last.unacked > first.unacked {
            return Some((Kind::Hoarding, Some(first.at)));
        }
        let untaken =
            self.run_by(|before, look| look.unacked == 0 && before.unacked == 0 && look.ready >= before.ready);
        if self.lasts(untaken) && last.unacked == 0 {
            return Some((Kind::Stopped, Some(untaken.first()?.at)));
        }
        let same = self.run_by(|before, look| look.ready == before.ready && look.unacked == before.unacked);
        (self.lasts(same) && last.unacked > 0).then_some((Kind::Stalled, Some(same.first()?.at)))
    }

    /// The last looks in which nobody held a message, and none was taken.
    fn untaken(&self) -> &[&Look] {
        self.run_by(|before, look| look.unacked == 0 && before.unacked == 0 && look.ready >= before.ready)
    }

    fn evidence(&self) -> Evidence {
        let known = |look: &&Look| look.consumers.is_some() || look.counters.is_some();
        if self.within(self.criteria.settle).iter().any(known) { Evidence::Full } else { Evidence::Totals }
    }

    fn busy(&self, look: &Look) -> bool {
        look.total > self.criteria.floor
    }

    fn lasts(&self, run: &[&Look]) -> bool {
        let long = run.first().is_some_and(|first| self.last.at.since(first.at) >= self.criteria.settle);
        long && run.len() >= self.criteria.looks
    }

    /// The last looks that are all so.
    fn trailing(&self, so: impl Fn(&Look) -> bool) -> &[&Look] {
        let count = self.looks.iter().rev().take_while(|look| so(look)).count();
        &self.looks[self.looks.len() - count..]
    }

    /// The last looks above the floor that are so beside the one before each, and the look before them.
    fn run_by(&self, so: impl Fn(&Look, &Look) -> bool) -> &[&Look] {
        let so = |two: &&[&Look]| self.busy(two[0]) && self.busy(two[1]) && so(two[0], two[1]);
        let count = self.looks.windows(2).rev().take_while(so).count();
        &self.looks[self.looks.len() - 1 - count..]
    }

    fn within(&self, time: Duration) -> &[&Look] {
        self.trailing(|look| self.last.at.since(look.at) <= time)
    }

    fn lately(&self) -> impl Iterator<Item = &Look> {
        self.within(LATELY).iter().copied()
    }

    fn counted(&self) -> Option<Counted> {
        let counted: Vec<_> = self.lately().filter_map(|look| Some((look.at, look.counters?))).collect();
        let ((since, before), (until, after)) = (counted.first()?, counted.last()?);
        Some(Counted {
            span: until.since(*since),
            acknowledged: after.acknowledged.saturating_sub(before.acknowledged),
            redelivered: after.redelivered.saturating_sub(before.redelivered),
        })
    }
}
