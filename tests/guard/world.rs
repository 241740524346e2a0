//! A queue at a broker, its consumers, and what a look at it shows.

use std::time::Duration;

use taskcluster_pulse::clock::Timestamp;
use taskcluster_pulse::domain::history::{Counters, Look};

/// The world moves in steps of so many seconds.
pub const STEP: u64 = 10;

/// What a group of consumers does with its messages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Does {
    /// Acknowledges so many a minute.
    Work(f64),
    /// Acknowledges none.
    Hold,
    /// Acknowledges so many, then crashes and loses the others that it holds; each ten seconds.
    Crash(u64),
    /// Fetches so many a minute without being a consumer (`basic.get`).
    Fetch(f64),
}

/// Consumers that are alike.
#[derive(Debug, Clone)]
pub struct Group {
    pub count: u32,
    /// Of each; `None` is without limit.
    pub prefetch: Option<u64>,
    pub does: Does,
    pub held: u64,
    done: f64,
}

/// The queue and all around it.
#[derive(Debug, Clone)]
pub struct World {
    pub seconds: u64,
    pub exists: bool,
    /// Which queue of this name it is.
    pub born: u32,
    pub fingerprint: u64,
    pub ready: u64,
    pub counters: Counters,
    /// Messages that are published in a minute.
    pub inflow: f64,
    /// Messages that expire in a minute.
    pub expiring: f64,
    pub groups: Vec<Group>,
    /// Whether the broker shows consumers and counters.
    pub statistics: bool,
    /// Whether the queue is in the list.
    pub listed: bool,
    /// How many seconds old a list is.
    pub lag: u64,
    pub mail_up: bool,
    pub can_be_told: bool,
    /// Whether the owner's address refuses mail for good.
    pub refuses: bool,
    pub alarm: bool,
    pub kept_out: bool,
    parts: [f64; 2],
    random: u64,
    past: Vec<Option<Look>>,
}

pub fn start() -> Timestamp {
    Timestamp::parse("2026-11-02T00:00:00Z").unwrap()
}

impl World {
    pub fn new(seed: u64) -> World {
        World {
            seconds: 0,
            exists: true,
            born: 0,
            fingerprint: 7,
            ready: 0,
            counters: Counters::default(),
            inflow: 0.0,
            expiring: 0.0,
            groups: Vec::new(),
            statistics: true,
            listed: true,
            lag: 0,
            mail_up: true,
            can_be_told: true,
            refuses: false,
            alarm: false,
            kept_out: false,
            parts: [0.0; 2],
            random: seed,
            past: Vec::new(),
        }
    }

    pub fn now(&self) -> Timestamp {
        start().plus(Duration::from_secs(self.seconds))
    }

    /// A number below `below`, as good as random.
    pub fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33) % below
    }

    pub fn consumers(&mut self, count: u32, prefetch: Option<u64>, does: Does) {
        self.groups.push(Group { count, prefetch, does, held: 0, done: 0.0 });
    }

    /// All consumers go; what they hold is delivered again to the next ones.
    pub fn leave(&mut self) {
        self.groups.iter().for_each(|group| self.ready += group.held);
        self.groups.clear();
    }

    pub fn publish(&mut self, messages: u64) {
        if self.exists {
            self.ready += messages;
        }
    }

    /// The broker restarts: it counts anew, and durable messages stay.
    pub fn restart(&mut self) {
        self.ready += std::mem::take(&mut self.groups).iter().map(|group| group.held).sum::<u64>();
        self.counters = Counters::default();
    }

    /// Somebody deletes the queue and declares it anew.
    pub fn declare_anew(&mut self) {
        self.remove();
        self.exists = true;
        self.born += 1;
    }

    pub fn remove(&mut self) {
        self.exists = false;
        self.purge();
        self.counters = Counters::default();
    }

    pub fn purge(&mut self) {
        self.ready = 0;
        self.groups.iter_mut().for_each(|group| group.held = 0);
    }

    /// The connection that holds the most is closed. It comes back, if it may.
    pub fn close_hoarder(&mut self, keep_out: bool) {
        self.kept_out |= keep_out;
        let most = (0..self.groups.len()).max_by_key(|index| self.groups[*index].held);
        let Some(index) = most else { return };
        let held = std::mem::take(&mut self.groups[index].held);
        self.ready += held;
        if self.kept_out {
            self.groups.remove(index);
        }
    }

    pub fn unacked(&self) -> u64 {
        self.groups.iter().map(|group| group.held).sum()
    }

    pub fn total(&self) -> u64 {
        self.ready + self.unacked()
    }

    pub fn step(&mut self) {
        self.seconds += STEP;
        let share = STEP as f64 / 60.0;
        if self.exists {
            let come = whole(&mut self.parts[0], self.inflow * share);
            self.ready += come;
            let expired = whole(&mut self.parts[1], self.expiring * share);
            self.ready = self.ready.saturating_sub(expired);
            for index in 0..self.groups.len() {
                self.consume(index, share);
            }
        }
        let look = self.fresh_look();
        self.past.push(look);
    }

    fn consume(&mut self, index: usize, share: f64) {
        let World { groups, ready, counters, .. } = self;
        let group = &mut groups[index];
        let room = match (group.does, group.prefetch) {
            (Does::Fetch(rate), _) => {
                let fetched = whole(&mut group.done, rate * share).min(*ready);
                *ready -= fetched;
                counters.acknowledged += fetched;
                counters.delivered += fetched;
                return;
            }
            (_, None) => u64::MAX,
            (_, Some(each)) => each * u64::from(group.count),
        };
        // Who acknowledges gets more at once.
        let done = match group.does {
            Does::Work(rate) => whole(&mut group.done, rate * share).min(group.held + *ready),
            Does::Crash(each) => each.min(group.held + *ready),
            Does::Hold | Does::Fetch(_) => 0,
        };
        let taken = (room.saturating_add(done)).saturating_sub(group.held).min(*ready);
        *ready -= taken;
        counters.delivered += taken;
        counters.acknowledged += done;
        group.held = group.held + taken - done.min(group.held + taken);
        if let Does::Crash(_) = group.does {
            counters.redelivered += group.held;
            *ready += group.held;
            group.held = 0;
        }
    }

    fn fresh_look(&self) -> Option<Look> {
        let (ready, unacked) = (self.ready, self.unacked());
        let total = ready + unacked;
        // The cheap list shows no more of small queues.
        let closer = self.statistics && (total >= 1000 || unacked >= 100);
        let seen = |group: &&Group| !matches!(group.does, Does::Fetch(_));
        let consumers = self.groups.iter().filter(seen).map(|group| group.count).sum();
        self.exists.then_some(Look {
            at: self.now(),
            ready,
            unacked,
            total,
            consumers: closer.then_some(consumers),
            counters: closer.then_some(self.counters),
        })
    }

    /// What a look shows: `None` where the list has no such queue.
    pub fn look(&self) -> Option<Look> {
        let back = usize::try_from(self.lag / STEP).unwrap();
        let look = *self.past.get(self.past.len().checked_sub(back + 1)?)?;
        look.filter(|_| self.listed).map(|look| Look { at: self.now(), ..look })
    }
}

/// The whole part of what has come together.
fn whole(part: &mut f64, more: f64) -> u64 {
    *part += more;
    let whole = part.floor();
    *part -= whole;
    whole as u64
}
