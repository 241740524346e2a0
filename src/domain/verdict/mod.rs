//! What a queue's history says about it, and the sentence that a person reads.
//!
//! The rules are those of Burrow (<https://github.com/linkedin/Burrow>, `calculatePartitionStatus`), read for RabbitMQ, with
//! what its issues taught: windows are stretches of time, not numbers of samples; a slope takes the place of "never
//! decreases"; a floor keeps small queues out; the size is that of now.

mod judge;

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::course::{Course, Way};
use crate::domain::history::Look;
use crate::domain::words::{count, moment, number, pace};

pub use judge::verdict;

/// What is the matter with a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Fine,
    /// It loses messages: its consumers catch up.
    Draining,
    /// It gains messages although it is read.
    Slow,
    /// There are consumers, and none was ever seen to acknowledge anything.
    Stalled,
    /// There are consumers, and they acknowledge nothing any more.
    Stopped,
    /// Nobody reads it.
    NoConsumer,
    /// The same messages are delivered again and again.
    Looping,
    /// Consumers hold many messages that they don't acknowledge.
    Hoarding,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 8] = [
        Kind::Fine,
        Kind::Draining,
        Kind::Slow,
        Kind::Stalled,
        Kind::Stopped,
        Kind::NoConsumer,
        Kind::Looping,
        Kind::Hoarding,
    ];

    /// The kind in a word, as the API and logs have it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Fine => "fine",
            Kind::Draining => "draining",
            Kind::Slow => "slow",
            Kind::Stalled => "stalled",
            Kind::Stopped => "stopped",
            Kind::NoConsumer => "no consumer",
            Kind::Looping => "looping",
            Kind::Hoarding => "hoarding",
        }
    }

    /// The kind of this word.
    pub fn from_word(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// By what a queue was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// By its consumers and by what the broker counts.
    Full,
    /// By its numbers of messages alone: the broker's statistics are off, or the queue is too small for a closer look.
    Totals,
}

/// How a queue is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Criteria {
    /// A queue with no more messages is fine, whatever its history says.
    pub floor: u64,
    /// So many unacknowledged messages are worth a verdict of their own.
    pub unacked: u64,
    /// How long a thing has to last until it is judged.
    pub settle: Duration,
    /// How many looks it takes.
    pub looks: usize,
    /// After so long without a look, the judgement begins anew.
    pub silence: Duration,
}

impl Criteria {
    /// The criteria for queues that are warned of above `alert` messages, and above `unacked` unacknowledged ones, by looks at
    /// intervals of `interval`. A queue is judged from an eighth of `alert` on.
    ///
    /// A trouble is judged after five and a half minutes, which are three or four looks at intervals of two minutes with some
    /// jitter: so it is told within ten.
    pub fn new(alert: u64, unacked: u64, interval: Duration) -> Criteria {
        Criteria {
            floor: alert / 8,
            unacked,
            settle: Duration::from_secs(330),
            looks: 3,
            silence: Duration::from_secs(900).max(interval * 4),
        }
    }
}

/// What was counted over the last minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Over how long.
    pub span: Duration,
    /// Messages that were acknowledged.
    pub acknowledged: u64,
    /// Messages that were delivered once more.
    pub redelivered: u64,
}

/// What a queue's history says about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// What is the matter.
    pub kind: Kind,
    /// Since when, as far as that was seen; `None` where the kind has no beginning.
    pub since: Option<Timestamp>,
    /// Whether it may be so for longer: it was so in the first look of the window.
    pub or_longer: bool,
    /// By what it was judged.
    pub evidence: Evidence,
    /// Which way it goes. It can go down whatever the kind: messages expire, too.
    pub course: Course,
    /// The last look.
    pub look: Look,
    /// How many consumers there are, as far as that was seen lately.
    pub consumers: Option<u32>,
    /// What was counted lately.
    pub counted: Option<Counted>,
}

impl Verdict {
    /// Whether it loses messages, for whatever reason.
    pub fn falls(&self) -> bool {
        self.course.way == Way::Down
    }

    /// The verdict in a sentence that follows the queue's name and a colon, without a full stop.
    pub fn sentence(&self, now: Timestamp) -> String {
        let messages = |n| count(n, "message", "messages");
        let hourly = self.course.trend.map_or(0.0, |trend| trend.hourly);
        let has = messages(self.look.total);
        let consumers = self.consumers.unwrap_or(0);
        let who = match consumers {
            1 => "its one consumer".to_owned(),
            many => format!("its {} consumers", number(many.into())),
        };
        let since = |what: &str| match self.since {
            Some(since) if self.or_longer => format!("{what} since {} or longer", moment(since, now)),
            Some(since) => format!("{what} since {}", moment(since, now)),
            None => what.to_owned(),
        };
        match self.kind {
            Kind::Fine if self.course.way == Way::Up => format!("fine: {has}, gaining {}", pace(hourly)),
            Kind::Fine => format!("fine: {has}"),
            Kind::Draining => format!("draining: {has}, losing {}", pace(hourly)),
            Kind::Slow if self.evidence == Evidence::Totals => {
                format!("{has}, gaining {}; {}", pace(hourly), UNKNOWN)
            }
            Kind::Slow => format!("{has}, gaining {}: more are published than are acknowledged", pace(hourly)),
            Kind::NoConsumer => since("no consumer"),
            Kind::Stopped if self.evidence == Evidence::Totals => {
                format!("{}; {UNKNOWN}", since("nothing was taken from it"))
            }
            Kind::Stalled if self.evidence == Evidence::Totals => {
                format!("{}; {UNKNOWN}", since("nothing moves in it"))
            }
            Kind::Stopped => since(&format!("{who} acknowledged nothing")),
            Kind::Stalled => since(&format!("{who} never acknowledged anything")),
            Kind::Looping => self.looping(),
            Kind::Hoarding => self.hoarding(),
        }
    }

    fn looping(&self) -> String {
        let Some(Counted { span, acknowledged, redelivered }) = self.counted else {
            return "the same messages are delivered again and again".to_owned();
        };
        let minutes = count(span.as_secs().div_ceil(60), "minute", "minutes");
        let done = if acknowledged == 0 { "none".to_owned() } else { number(acknowledged) };
        let again = count(redelivered, "message was", "messages were");
        format!("{again} delivered again in the last {minutes}, and {done} acknowledged: its consumer fails on them")
    }

    fn hoarding(&self) -> String {
        let held = count(self.look.unacked, "message", "messages");
        match (self.consumers, self.counted) {
            (Some(consumers @ 1..), Some(counted)) => {
                let who = match consumers {
                    1 => "one consumer holds".to_owned(),
                    many => format!("{} consumers hold", number(many.into())),
                };
                match counted.acknowledged {
                    0 => format!("{who} {held} without acknowledging any"),
                    done => {
                        let minutes = count(counted.span.as_secs().div_ceil(60), "minute", "minutes");
                        format!("{who} {held}, and acknowledged {} in the last {minutes}", number(done))
                    }
                }
            }
            _ => format!("{held} are held unacknowledged; {UNKNOWN}"),
        }
    }
}

/// What is said where a verdict had to do with the numbers of messages.
const UNKNOWN: &str = "its consumers are not known";

#[cfg(test)]
mod tests;
