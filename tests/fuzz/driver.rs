//! What drives the targets: seeds, and mutations that leave most of an input as it was.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

/// No case may take longer. Cases take milliseconds; the rest is for a machine that is busy.
const LONGEST: Duration = Duration::from_secs(20);

/// A case's source of randomness.
pub struct Random(StdRng);

/// The seed and the number of cases for a target each of whose cases is worth `cost` of the cheapest.
pub fn cases(cost: u64) -> std::ops::Range<u64> {
    let number = |variable: &str| std::env::var(variable).ok().map(|text| text.parse::<u64>().expect("a number"));
    let first = number("PULSE_TEST_SEED").unwrap_or_else(|| rand::random::<u32>().into());
    first..first + (number("PULSE_TEST_FUZZ").unwrap_or(20_000) / cost).max(1)
}

/// Tries `case` with many seeds.
pub fn fuzz(cost: u64, mut case: impl FnMut(&mut Random)) {
    for seed in cases(cost) {
        let running = Case::begin(seed);
        case(&mut Random::new(seed));
        running.end();
    }
}

/// A case that is running. If it fails, its seed is printed.
pub struct Case {
    seed: u64,
    began: Instant,
}

impl Case {
    /// The case of this seed begins.
    pub fn begin(seed: u64) -> Case {
        Case { seed, began: Instant::now() }
    }

    /// It ended in time.
    pub fn end(self) {
        let took = self.began.elapsed();
        assert!(took < LONGEST, "it took {took:?}");
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("PULSE_TEST_FUZZ=1 PULSE_TEST_SEED={}", self.seed);
        }
    }
}

/// Fails if `text` shows one of `secrets`.
#[track_caller]
pub fn assert_hides(text: &str, secrets: &[&str]) {
    for secret in secrets {
        assert!(!text.contains(secret), "{secret:?} is shown in {text:?}");
    }
}

impl Random {
    /// The randomness of this seed.
    pub fn new(seed: u64) -> Random {
        Random(StdRng::seed_from_u64(seed))
    }

    /// A number below `end`; zero where there is none.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { self.0.random_range(0..end) }
    }

    /// Once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    pub fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// A text of at most `parts` of `alphabet`.
    pub fn text(&mut self, alphabet: &[&str], parts: usize) -> String {
        (0..self.below(parts + 1)).map(|_| self.pick(alphabet)).collect()
    }

    /// A byte that something may hang on, or any.
    fn byte(&mut self) -> u8 {
        const TELLING: &[u8] = b"\0\t\n\r \"%&'*+,-./:;<=>?@[\\]_{}~\x7f\x80\xc3\xff0aAzZ";
        if self.once_in(4) { self.0.random() } else { TELLING[self.below(TELLING.len())] }
    }

    /// `input` with one to four changes, into which parts of `dictionary` may come.
    pub fn mutated(&mut self, input: &[u8], dictionary: &[&str]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..=self.below(4) {
            self.mutate(&mut bytes, dictionary);
        }
        bytes
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>, dictionary: &[&str]) {
        let at = self.below(bytes.len() + 1);
        let end = at + self.below((bytes.len() - at).min(16) + 1);
        match self.below(9) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.insert(at, self.byte()),
            3 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            4 => drop(bytes.splice(at..end, self.pick(dictionary).bytes())),
            5 => drop(bytes.splice(at..at, self.pick(dictionary).bytes())),
            6 => {
                let many = self.pick(&[&2, &100, &5000]);
                bytes.splice(at..at, [self.byte()].repeat(*many));
            }
            _ if at == bytes.len() => {}
            7 => bytes[at] ^= 1 << self.below(8),
            _ => bytes[at] = self.byte(),
        }
    }

    /// The same of a text.
    pub fn mutated_text(&mut self, input: &str, dictionary: &[&str]) -> String {
        String::from_utf8_lossy(&self.mutated(input.as_bytes(), dictionary)).into_owned()
    }

    /// `value` with one to three of its parts replaced, removed, doubled or wrapped.
    pub fn mutated_json(&mut self, mut value: Value) -> Value {
        for _ in 0..=self.below(3) {
            self.mutate_json(&mut value);
        }
        value
    }

    fn mutate_json(&mut self, value: &mut Value) {
        match value {
            Value::Object(map) if !map.is_empty() && !self.once_in(5) => {
                let key = map.keys().nth(self.below(map.len())).cloned().unwrap_or_default();
                match self.below(6) {
                    0 => drop(map.remove(&key)),
                    1 => {
                        let renamed = self.mutated_text(&key, &["_", "constructor", "__proto__"]);
                        let moved = map.remove(&key).unwrap_or_default();
                        map.insert(renamed, moved);
                    }
                    _ => self.mutate_json(&mut map[&key]),
                }
            }
            Value::Array(list) if !list.is_empty() && !self.once_in(5) => {
                let at = self.below(list.len());
                match self.below(5) {
                    0 => drop(list.remove(at)),
                    1 => list.push(list[at].clone()),
                    _ => self.mutate_json(&mut list[at]),
                }
            }
            Value::String(text) if !self.once_in(3) => {
                *text = self.mutated_text(text, &["*", "\0", "é", "\u{1f600}", "2030-01-01T00:00:00Z"]);
            }
            other => *other = self.json(other.take()),
        }
    }

    /// A value that something may hang on; `old` may be a part of it.
    fn json(&mut self, old: Value) -> Value {
        match self.below(14) {
            0 => json!(null),
            1 => json!(false),
            2 => json!(true),
            3 => json!(0),
            4 => json!(-1),
            5 => json!(i64::MAX),
            6 => json!(u64::MAX),
            7 => json!(1e300),
            8 => json!(0.5),
            9 => json!(""),
            10 => json!([]),
            11 => json!({}),
            12 => (0..self.below(200)).fold(old, |inner, _| json!([inner])),
            _ => json!({ "a": old }),
        }
    }
}
