//! What happens to queues, as people report it.

use taskcluster_pulse::domain::ladder::Exemption;

use super::world::{Does, World, start};
use std::time::Duration;

/// What happens at the beginning of a minute.
pub type Script = Box<dyn Fn(&mut World, usize)>;

/// What happens to one queue.
pub struct Trace {
    pub name: &'static str,
    pub what: &'static str,
    pub minutes: usize,
    /// Whether the queue is to be removed before the end.
    pub deserves: bool,
    pub exemption: Option<Exemption>,
    pub script: Script,
    /// Whether nothing more happens once the queue was removed; otherwise the script goes on.
    pub ends_there: bool,
}

const HOUR: usize = 60;
const DAY: usize = 24 * HOUR;

/// Two consumers that keep up with what is published.
fn healthy(world: &mut World) {
    world.inflow = 60.0;
    world.consumers(2, Some(20), Does::Work(300.0));
}

fn noisy(world: &mut World, inflow: f64) {
    world.inflow = inflow * (0.5 + world.random(1000) as f64 / 1000.0);
}

fn goes(world: &mut World, minute: usize, at: usize) {
    match minute {
        0 => healthy(world),
        _ if minute == at => world.leave(),
        _ => {}
    }
}

/// The consumer dies after half an hour; with 60 a minute, there are 8,000 messages after 134 minutes more.
fn died(world: &mut World, minute: usize) {
    goes(world, minute, 30);
}

pub fn trace(
    name: &'static str,
    what: &'static str,
    minutes: usize,
    script: impl Fn(&mut World, usize) + 'static,
) -> Trace {
    Trace { name, what, minutes, deserves: false, exemption: None, script: Box::new(script), ends_there: false }
}

fn ends(trace: Trace) -> Trace {
    Trace { deserves: true, ..trace }
}

pub fn traces() -> Vec<Trace> {
    let mut traces = bursts();
    traces.extend(deaths());
    traces.extend(sizes());
    traces.extend(restarts());
    traces.extend(hoarders());
    traces.extend(conditions());
    traces
}

fn bursts() -> Vec<Trace> {
    vec![
        trace(
            "burst",
            "12,000 messages at once; the consumers are done with them in 50 minutes",
            3 * HOUR,
            |world, minute| match minute {
                0 => healthy(world),
                30 => world.publish(12_000),
                _ => {}
            },
        ),
        trace(
            "long burst",
            "2,000 a minute for 7 minutes, of which 300 are consumed at once",
            4 * HOUR,
            |world, minute| match minute {
                0 => healthy(world),
                30 => world.inflow = 2000.0,
                37 => world.inflow = 60.0,
                _ => {}
            },
        ),
        trace(
            "burst that drains late",
            "20,000 at once; the consumers are done with them in 10 minutes",
            2 * HOUR,
            |world, minute| match minute {
                0 => {
                    world.inflow = 60.0;
                    world.consumers(8, Some(100), Does::Work(2000.0));
                }
                30 => world.publish(20_000),
                _ => {}
            },
        ),
        trace(
            "hourly batch",
            "9,000 at once each hour, consumed within 25 minutes, for two days",
            2 * DAY,
            |world, minute| match minute {
                0 => world.consumers(4, Some(50), Does::Work(400.0)),
                _ if minute % HOUR == 10 => world.publish(9000),
                _ => {}
            },
        ),
        trace("weekly batch", "15,000 at once each week, consumed within three hours", 8 * DAY, |world, minute| {
            match minute {
                0 => world.consumers(1, Some(50), Does::Work(100.0)),
                _ if minute % (7 * DAY) == DAY / 2 => world.publish(15_000),
                _ => {}
            }
        }),
        trace(
            "slow drain",
            "20,000 messages, of which 20 a minute more are consumed than come, unsteadily",
            10 * HOUR,
            |world, minute| {
                if minute == 0 {
                    world.consumers(4, Some(50), Does::Work(220.0));
                    world.publish(20_000);
                }
                world.inflow = 160.0 + world.random(81) as f64;
            },
        ),
        ends(trace(
            "five times the limit at once",
            "40,000 at once, and nobody reads them",
            2 * HOUR,
            |world, minute| {
                if minute == 10 {
                    world.publish(40_000);
                }
            },
        )),
        trace(
            "late consumer",
            "9,000 at once with no consumer; after 20 minutes one comes and reads 300 a minute",
            2 * HOUR,
            |world, minute| match minute {
                10 => world.publish(9000),
                30 => world.consumers(1, Some(50), Does::Work(300.0)),
                _ => {}
            },
        ),
        trace(
            "late and slow consumer",
            "10,000 at once with no consumer; after 21 minutes one comes and reads 25 a minute",
            4 * HOUR,
            |world, minute| match minute {
                10 => world.publish(10_000),
                31 => world.consumers(1, Some(50), Does::Work(25.0)),
                _ => {}
            },
        ),
        trace(
            "messages that expire",
            "9,500 at once, nobody reads them, 60 a minute expire",
            3 * HOUR,
            |world, minute| match minute {
                10 => world.publish(9500),
                14 => world.expiring = 60.0,
                _ => {}
            },
        ),
        trace("polled without consumers", "6,000 at once; a script fetches 100 a minute", 3 * HOUR, |world, minute| {
            match minute {
                10 => {
                    world.consumers(1, None, Does::Fetch(100.0));
                    world.publish(6000);
                }
                _ => world.inflow = 30.0,
            }
        }),
    ]
}

fn deaths() -> Vec<Trace> {
    vec![
        ends(trace("dead consumer", "the consumer dies, 60 a minute go on coming", 5 * HOUR, died)),
        trace(
            "dead consumer of a small queue",
            "the consumer dies, and 900 messages come in the next five hours",
            5 * HOUR,
            |world, minute| {
                goes(world, minute, 30);
                if minute == 30 {
                    world.inflow = 3.0;
                }
            },
        ),
        ends(trace(
            "stuck consumer",
            "the consumer stays connected and acknowledges nothing any more",
            5 * HOUR,
            |world, minute| match minute {
                0 => healthy(world),
                30 => world.groups[0].does = Does::Hold,
                _ => {}
            },
        )),
        ends(trace(
            "stuck from the first",
            "a consumer connects and never acknowledges anything",
            5 * HOUR,
            |world, minute| {
                if minute == 0 {
                    world.inflow = 60.0;
                    world.consumers(1, Some(20), Does::Hold);
                }
            },
        )),
        ends(trace(
            "crash loop",
            "the consumer crashes at every third message, and is restarted",
            5 * HOUR,
            |world, minute| match minute {
                0 => healthy(world),
                30 => {
                    world.leave();
                    world.consumers(1, Some(50), Does::Crash(2));
                }
                _ => {}
            },
        )),
        ends(trace(
            "crash loop, one by one",
            "the same, with one message at a time: two are acknowledged for each that is delivered again",
            5 * HOUR,
            |world, minute| match minute {
                0 => healthy(world),
                30 => {
                    world.leave();
                    world.consumers(1, Some(1), Does::Crash(2));
                }
                _ => {}
            },
        )),
        ends(trace(
            "poison message",
            "the consumer crashes at the first message each time",
            5 * HOUR,
            |world, minute| match minute {
                0 => healthy(world),
                30 => {
                    world.leave();
                    world.consumers(1, Some(10), Does::Crash(0));
                }
                _ => {}
            },
        )),
        trace(
            "dead and back",
            "the consumer dies, comes back after an hour and drains, twice in a day",
            DAY,
            |world, minute| match minute % (12 * HOUR) {
                0 if minute == 0 => healthy(world),
                60 => world.leave(),
                120 => world.consumers(2, Some(20), Does::Work(300.0)),
                _ => {}
            },
        ),
        trace(
            "restart of a consumer",
            "a deployment takes four minutes, with 2,500 messages waiting",
            2 * HOUR,
            |world, minute| match minute {
                0 => healthy(world),
                30 => world.publish(2500),
                31 => world.leave(),
                35 => world.consumers(2, Some(20), Does::Work(300.0)),
                _ => {}
            },
        ),
        trace(
            "nightly pause",
            "the consumer pauses for 30 minutes each night, 600 messages wait",
            4 * DAY,
            |world, minute| match minute % DAY {
                0 if minute == 0 => {
                    world.inflow = 20.0;
                    world.consumers(1, Some(20), Does::Work(100.0));
                }
                120 => world.leave(),
                150 => world.consumers(1, Some(20), Does::Work(100.0)),
                _ => {}
            },
        ),
        trace("long tasks", "1,500 messages; four workers take twenty minutes for each", 8 * HOUR, |world, minute| {
            if minute == 0 {
                world.consumers(4, Some(1), Does::Work(0.0));
                world.publish(900);
            }
            if minute == 60 {
                world.publish(600);
            }
            world.groups[0].does = Does::Work(if minute % 20 == 19 { 4.0 } else { 0.0 });
        }),
    ]
}

fn sizes() -> Vec<Trace> {
    vec![
        ends(trace("slow growth", "120 an hour more come than are consumed, for days", 4 * DAY, |world, minute| {
            if minute == 0 {
                world.publish(500);
                world.consumers(2, Some(20), Does::Work(60.0));
            }
            noisy(world, 62.0);
        })),
        ends(trace("quick growth", "300 a minute come, 100 are consumed", 2 * HOUR, |world, minute| {
            if minute == 0 {
                world.inflow = 300.0;
                world.consumers(2, Some(20), Does::Work(100.0));
            }
        })),
        trace("flapping", "between 3,800 and 4,200 messages for two days", 2 * DAY, |world, minute| {
            level(world, minute, 4000, 200, 14)
        }),
        trace("flapping at random", "about 3,800 to 4,200 messages, for two days", 2 * DAY, |world, minute| {
            let noise = world.random(401);
            hold_at(world, minute, 3800 + noise);
        }),
        trace("flapping at the limit", "between 7,910 and 8,090 messages for two days", 2 * DAY, |world, minute| {
            level(world, minute, 8000, 90, 14)
        }),
        trace(
            "wide swings",
            "between 2,000 and 6,000 messages, each 90 minutes, for two days",
            2 * DAY,
            |world, minute| level(world, minute, 4000, 2000, 90),
        ),
        ends(trace(
            "sawtooth above the limit",
            "between 9,000 and 10,000 messages, each 20 minutes",
            5 * HOUR,
            |world, minute| match minute {
                0..30 => hold_at(world, minute, 300 * minute as u64 + 500),
                _ => hold_at(world, minute, 9000 + (minute as u64 % 20) * 50),
            },
        )),
        trace(
            "large and exempted",
            "12,000 messages that its owner knows of; up to 15,000 are allowed",
            6 * HOUR,
            |world, minute| {
                goes(world, minute, 30);
                if minute == 30 {
                    world.publish(9000);
                    world.inflow = 10.0;
                }
            },
        )
        .exempted(15_000, 99 * DAY),
        ends(trace(
            "above its exemption",
            "up to 10,000 messages are allowed, and more come",
            8 * HOUR,
            |world, minute| {
                if minute == 0 {
                    world.publish(7000);
                    world.inflow = 20.0;
                }
            },
        ))
        .exempted(10_000, 99 * DAY),
        ends(trace("exemption that ends", "12,000 messages are allowed for two hours", 5 * HOUR, |world, minute| {
            if minute == 10 {
                world.publish(12_000);
            }
        }))
        .exempted(20_000, 2 * HOUR),
    ]
}

impl Trace {
    fn exempted(self, up_to: u64, minutes: usize) -> Trace {
        let until = start().plus(Duration::from_secs(60 * minutes as u64));
        Trace { exemption: Some(Exemption { up_to: Some(up_to), until: Some(until) }), ..self }
    }
}

/// A queue that goes up and down around a size, with consumers at work.
fn level(world: &mut World, minute: usize, middle: u64, swing: u64, period: usize) {
    let phase = (minute % period) as f64 / period as f64 * std::f64::consts::TAU;
    hold_at(world, minute, (middle as f64 + phase.sin() * swing as f64) as u64);
}

/// Consumers at work, and so many messages.
fn hold_at(world: &mut World, minute: usize, total: u64) {
    if minute == 0 {
        world.inflow = 100.0;
        world.consumers(2, Some(20), Does::Work(100.0));
    }
    world.ready = total.saturating_sub(world.unacked());
}

fn restarts() -> Vec<Trace> {
    vec![
        trace(
            "restart of the broker",
            "3,000 messages drain; the broker is away for six minutes and counts anew",
            3 * HOUR,
            |world, minute| match minute {
                0 => {
                    world.inflow = 50.0;
                    world.consumers(2, Some(20), Does::Work(60.0));
                    world.publish(3000);
                }
                60 => {
                    world.restart();
                    world.listed = false;
                }
                66 => {
                    world.listed = true;
                    world.consumers(2, Some(20), Does::Work(60.0));
                }
                _ => {}
            },
        ),
        ends(trace(
            "restart while warned of",
            "the consumer died; the broker restarts two hours later",
            5 * HOUR,
            |world, minute| {
                died(world, minute);
                match minute {
                    150 => {
                        world.restart();
                        world.listed = false;
                    }
                    156 => world.listed = true,
                    _ => {}
                }
            },
        )),
        ends(trace(
            "declared anew, seen",
            "warned of, deleted for five minutes, declared anew, and filled at once",
            4 * HOUR,
            |world, minute| match minute {
                10 => world.publish(7000),
                90 => world.remove(),
                95 => {
                    world.declare_anew();
                    world.publish(9000);
                }
                _ => {}
            },
        )),
        ends(trace(
            "declared anew, unseen",
            "warned of, declared anew between two looks, and filled slowly",
            8 * HOUR,
            |world, minute| {
                died(world, minute);
                if minute == 150 {
                    world.declare_anew();
                }
            },
        )),
        ends(trace(
            "declared anew as another",
            "warned of, declared anew with other arguments, and filled at once",
            4 * HOUR,
            |world, minute| match minute {
                10 => world.publish(7000),
                90 => {
                    world.declare_anew();
                    world.fingerprint = 8;
                    world.publish(9000);
                }
                _ => {}
            },
        )),
    ]
}

fn hoarders() -> Vec<Trace> {
    vec![
        ends(trace(
            "hoarder",
            "a consumer without a prefetch limit takes 200 a minute and acknowledges none; it comes back",
            6 * HOUR,
            |world, minute| match minute {
                0 => world.inflow = 200.0,
                5 => world.consumers(1, None, Does::Hold),
                150 => world.inflow = 0.0,
                _ => {}
            },
        )),
        trace(
            "hoarder of a backlog",
            "41,000 messages are taken at once by one consumer without a prefetch limit",
            90,
            |world, minute| match minute {
                8 => {
                    world.publish(41_000);
                    world.consumers(1, None, Does::Hold);
                }
                9 => world.inflow = 5.0,
                _ => {}
            },
        ),
        trace("hoarder among others", "one hoards half of what comes, another one works", 5 * HOUR, |world, minute| {
            match minute {
                0 => {
                    world.inflow = 100.0;
                    world.consumers(1, Some(20), Does::Work(500.0));
                }
                30 => {
                    world.publish(6000);
                    world.consumers(1, None, Does::Hold);
                }
                // It takes no more than it has.
                31 => world.groups.last_mut().unwrap().prefetch = None,
                _ => {}
            }
        }),
    ]
}

fn conditions() -> Vec<Trace> {
    vec![
        ends(trace(
            "mail server down",
            "the consumer dies; no mail is accepted for four hours",
            7 * HOUR,
            |world, minute| {
                died(world, minute);
                world.mail_up = !(20..4 * HOUR).contains(&minute);
            },
        )),
        trace(
            "mail server down for good",
            "the consumer dies, and no mail is ever accepted",
            7 * HOUR,
            |world, minute| {
                died(world, minute);
                world.mail_up = false;
            },
        ),
        ends(trace("nobody to tell", "the consumer dies; the namespace has no contact", 5 * HOUR, |world, minute| {
            died(world, minute);
            world.can_be_told = false;
        })),
        ends(trace(
            "address refuses",
            "the consumer dies, and the owner's mail server knows no such address",
            5 * HOUR,
            |world, minute| {
                died(world, minute);
                world.refuses = true;
            },
        )),
        ends(trace(
            "address mended",
            "nobody reads 5,000 messages, the owner's address refuses mail for 20 hours, and after 27 hours there are 12,000",
            30 * HOUR,
            |world, minute| {
                world.refuses = minute < 20 * HOUR;
                match minute {
                    30 => world.publish(5000),
                    _ if minute == 27 * HOUR => world.publish(7000),
                    _ => {}
                }
            },
        )),
        ends(trace(
            "contact set late",
            "the consumer dies; the contact is set when there are 7,900 messages",
            5 * HOUR,
            |world, minute| {
                died(world, minute);
                world.can_be_told = minute >= 162;
            },
        )),
        ends(trace(
            "broker in alarm",
            "12,000 messages at once, nobody reads them, the broker is in memory alarm",
            HOUR,
            |world, minute| {
                if minute == 10 {
                    world.publish(12_000);
                    world.alarm = true;
                }
            },
        )),
        ends(trace(
            "short lists",
            "the consumer dies, and a third of the lists lack the queue",
            5 * HOUR,
            |world, minute| {
                died(world, minute);
                world.listed = world.random(3) > 0;
            },
        )),
        trace(
            "lists that lag",
            "12,000 messages at once, consumed in 40 minutes; lists are two minutes old",
            3 * HOUR,
            |world, minute| {
                world.lag = 120;
                match minute {
                    0 => healthy(world),
                    30 => world.publish(12_000),
                    _ => {}
                }
            },
        ),
        trace("our own pause", "healthy at 3,000 messages; no look for two hours", 5 * HOUR, |world, minute| {
            hold_at(world, minute, 3000);
            world.listed = !(60..180).contains(&minute);
        }),
        ends(trace(
            "statistics off: dead consumer",
            "as above, and only numbers of messages are known",
            5 * HOUR,
            |world, minute| {
                died(world, minute);
                world.statistics = false;
            },
        )),
        trace(
            "statistics off: burst",
            "12,000 at once, and only numbers of messages are known",
            3 * HOUR,
            |world, minute| {
                world.statistics = false;
                match minute {
                    0 => healthy(world),
                    30 => world.publish(12_000),
                    _ => {}
                }
            },
        ),
        ends(trace(
            "statistics off: stuck consumer",
            "the consumer holds its 20 messages; nothing more comes at 9,000",
            5 * HOUR,
            |world, minute| {
                world.statistics = false;
                match minute {
                    0 => healthy(world),
                    30 => {
                        world.groups[0].does = Does::Hold;
                        world.publish(9000);
                        world.inflow = 0.0;
                    }
                    _ => {}
                }
            },
        )),
        ends(trace(
            "statistics off: hoarder",
            "a consumer without a prefetch limit takes 200 a minute for an hour",
            4 * HOUR,
            |world, minute| {
                world.statistics = false;
                match minute {
                    0 => world.inflow = 200.0,
                    5 => world.consumers(1, None, Does::Hold),
                    60 => world.inflow = 2.0,
                    _ => {}
                }
            },
        )),
    ]
}
