//! A history as bytes, as the store keeps it.
//!
//! A version byte, the incarnation, the samples of stretches, the looks; each a flag byte and numbers of variable length
//! (LEB128), times as seconds after the sample before. Typically that is 1 to 2 kB a queue.

use std::collections::VecDeque;

use super::{Counters, FINE_SAMPLES, History, Incarnation, Look, MOST_CONSUMERS, MOST_EVENTS, MOST_MESSAGES};
use super::{STRETCHES, Sample};
use crate::clock::Timestamp;

/// No history has more bytes: a look has at most 44, and a stretch 20.
pub const MAX_BYTES: usize = 6400;
const VERSION: u8 = 1;

const BEGINS: u8 = 1;
/// The total is not what is ready and what is unacknowledged.
const ODD_TOTAL: u8 = 2;
const CONSUMERS: u8 = 4;
const COUNTERS: u8 = 8;

/// The longest time between two samples, in seconds; what is more is as good as this.
const MOST_SECONDS: u64 = (1 << 28) - 1;

impl History {
    /// The history as bytes, at most [`MAX_BYTES`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        let Incarnation { first_seen, fingerprint } = self.incarnation;
        bytes.extend(first_seen.millis().to_le_bytes());
        bytes.extend(fingerprint.to_le_bytes());
        for samples in [&self.coarse, &self.fine] {
            write_samples(&mut bytes, samples);
        }
        bytes
    }

    /// Reads what [`to_bytes`](History::to_bytes) wrote; `None` where that is something else, or of a version that is not
    /// known.
    pub fn from_bytes(bytes: &[u8]) -> Option<History> {
        if bytes.len() > MAX_BYTES {
            return None;
        }
        let mut rest = bytes;
        let [VERSION] = take(&mut rest)? else { return None };
        let first_seen = read_time(&mut rest)?;
        let fingerprint = u64::from_le_bytes(take(&mut rest)?);
        let coarse = read_samples(&mut rest, STRETCHES)?;
        let fine = read_samples(&mut rest, FINE_SAMPLES)?;
        let incarnation = Incarnation { first_seen, fingerprint };
        (rest.is_empty() && !fine.is_empty()).then_some(History { incarnation, fine, coarse })
    }
}

fn write_samples(bytes: &mut Vec<u8>, samples: &VecDeque<Sample>) {
    write(bytes, samples.len() as u64);
    let Some(first) = samples.front() else { return };
    bytes.extend(first.look.at.millis().to_le_bytes());
    let mut before = (first.look.at, Counters::default());
    for Sample { look, begins } in samples {
        let odd = look.total != look.ready + look.unacked;
        let flags = [
            (*begins, BEGINS),
            (odd, ODD_TOTAL),
            (look.consumers.is_some(), CONSUMERS),
            (look.counters.is_some(), COUNTERS),
        ];
        bytes.push(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum());
        write(bytes, look.at.since(before.0).as_secs().min(MOST_SECONDS));
        write(bytes, look.ready);
        write(bytes, look.unacked);
        if odd {
            write(bytes, look.total);
        }
        if let Some(consumers) = look.consumers {
            write(bytes, consumers.into());
        }
        if *begins {
            before.1 = Counters::default();
        }
        if let Some(counters) = look.counters {
            // They don't fall within a window.
            write(bytes, counters.acknowledged.saturating_sub(before.1.acknowledged));
            write(bytes, counters.delivered.saturating_sub(before.1.delivered));
            write(bytes, counters.redelivered.saturating_sub(before.1.redelivered));
            before.1 = counters;
        }
        before.0 = look.at;
    }
}

fn read_samples(rest: &mut &[u8], most: usize) -> Option<VecDeque<Sample>> {
    let count = read(rest, most as u64)?;
    let mut samples = VecDeque::new();
    if count == 0 {
        return Some(samples);
    }
    let mut at = read_time(rest)?.millis();
    let mut counted = Counters::default();
    for _ in 0..count {
        let [flags] = take(rest)?;
        let is = |flag| flags & flag != 0;
        at = at.checked_add(i64::try_from(read(rest, MOST_SECONDS)? * 1000).ok()?)?;
        let (ready, unacked) = (read(rest, MOST_MESSAGES)?, read(rest, MOST_MESSAGES)?);
        let total = if is(ODD_TOTAL) { read(rest, MOST_MESSAGES)? } else { ready + unacked };
        let consumers = if is(CONSUMERS) { read(rest, MOST_CONSUMERS.into())?.try_into().ok() } else { None };
        if is(BEGINS) {
            counted = Counters::default();
        }
        let counters = if is(COUNTERS) {
            let mut more = |so_far: u64| Some(so_far + read(rest, MOST_EVENTS)?);
            let Counters { acknowledged, delivered, redelivered } = counted;
            let acknowledged = more(acknowledged)?;
            counted = Counters { acknowledged, delivered: more(delivered)?, redelivered: more(redelivered)? };
            Some(counted)
        } else {
            None
        };
        let at = Timestamp::from_millis(at);
        samples.push_back(Sample { look: Look { at, ready, unacked, total, consumers, counters }, begins: is(BEGINS) });
    }
    Some(samples)
}

fn write(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        // The lowest seven bits, and that more follow.
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// A number that is no larger than `most`.
fn read(rest: &mut &[u8], most: u64) -> Option<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let [byte] = take(rest)?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return (number <= most).then_some(number);
        }
    }
    None
}

fn read_time(rest: &mut &[u8]) -> Option<Timestamp> {
    Some(Timestamp::from_millis(i64::from_le_bytes(take(rest)?)))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, more) = rest.split_first_chunk::<N>()?;
    *rest = more;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_look() -> impl Strategy<Value = (Look, u64)> {
        let count = || prop_oneof![0..20_000u64, any::<u64>()];
        let counters = (count(), count(), count());
        let counters = counters.prop_map(|(acknowledged, delivered, redelivered)| Counters {
            acknowledged,
            delivered,
            redelivered,
        });
        let numbers = (count(), count(), count(), any::<bool>());
        let details = (proptest::option::of(any::<u32>()), proptest::option::of(counters));
        (prop_oneof![1..300u64, any::<u32>().prop_map(u64::from)], numbers, details).prop_map(
            |(later, (ready, unacked, total, odd), (consumers, counters))| {
                let total = if odd { total } else { ready.saturating_add(unacked) };
                let at = Timestamp::from_millis(0);
                (Look { at, ready, unacked, total, consumers, counters }, later)
            },
        )
    }

    fn history(looks: Vec<(Look, u64)>) -> History {
        let mut at = Timestamp::from_millis(1_780_000_000_000);
        let mut history: Option<History> = None;
        for (look, later) in looks {
            at = at.plus(std::time::Duration::from_secs(later));
            let look = Look { at, ..look };
            match &mut history {
                None => history = Some(History::begin(look, 9)),
                Some(history) => _ = history.add(look, 9),
            }
        }
        history.unwrap()
    }

    #[test]
    fn the_worst_history_has_no_more_bytes_than_are_promised() {
        let largest = |n: u64| Counters { acknowledged: MOST_EVENTS, delivered: n % 2 * MOST_EVENTS, redelivered: n };
        let mut at = Timestamp::from_millis(1_780_000_000_000);
        let look =
            |at| Look { at, ready: u64::MAX, unacked: u64::MAX, total: u64::MAX, consumers: None, counters: None };
        let mut history = History::begin(look(at), u64::MAX);
        for n in 0..12_000 {
            at = at.plus(std::time::Duration::from_secs(120));
            history.add(Look { consumers: Some(u32::MAX), counters: Some(largest(n)), ..look(at) }, u64::MAX);
        }
        let bytes = history.to_bytes();
        assert!(bytes.len() <= MAX_BYTES, "{}", bytes.len());
        assert_eq!(History::from_bytes(&bytes), Some(history));
    }

    #[test]
    fn the_usual_history_is_short() {
        let mut at = Timestamp::from_millis(1_780_000_000_000);
        let look = |at, n: u64| Look {
            at,
            ready: 3000 + n % 500,
            unacked: 40,
            total: 3040 + n % 500,
            consumers: Some(3),
            counters: Some(Counters { acknowledged: n * 1000, delivered: n * 1010, redelivered: n }),
        };
        let mut history = History::begin(look(at, 0), 1);
        for n in 1..15 * 720 {
            at = at.plus(std::time::Duration::from_secs(120));
            history.add(look(at, n), 1);
        }
        let bytes = history.to_bytes().len();
        assert!((1000..2000).contains(&bytes), "{bytes}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_bounded(looks in proptest::collection::vec(any_look(), 1..120)) {
            let history = history(looks);
            let bytes = history.to_bytes();
            prop_assert!(bytes.len() <= MAX_BYTES, "{}", bytes.len());
            prop_assert_eq!(History::from_bytes(&bytes), Some(history));
        }

        #[test]
        fn garbage_is_no_history(
            looks in proptest::collection::vec(any_look(), 1..9),
            at in any::<proptest::sample::Index>(),
            byte in any::<u8>(),
            noise in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut bytes = history(looks).to_bytes();
            prop_assert_eq!(History::from_bytes(&bytes[..at.index(bytes.len())]), None);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            // Whatever is read can be used and written.
            for bytes in [bytes, noise] {
                if let Some(read) = History::from_bytes(&bytes) {
                    let _ = (read.last(), read.run(std::time::Duration::MAX, |look| look.total > 5), read.to_bytes());
                }
            }
        }
    }
}
