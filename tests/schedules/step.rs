//! A schedule as data: how it is set up, then what happens step by step. One that is worth keeping is a file in `replays`:
//! one JSON value a line, the setup first.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::gate::Fate;

/// How the processes are configured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setup {
    /// Each process' rotation interval, in milliseconds.
    pub every: [u64; 3],
    /// How far each process' clock is ahead at first, in milliseconds.
    pub ahead: [i64; 3],
    /// How much one run may remove.
    pub most: usize,
    /// How long after it was seen what the store doesn't know is removed, in milliseconds.
    pub orphans_after: Option<u64>,
    /// Whether all claims name the same contact.
    pub one_contact: bool,
    /// Whether namespaces expire while it goes on, so that clocks must not be far apart.
    pub expiring: bool,
    /// Whether all processes are on one host, with a store that has no clock of its own, and beat.
    #[serde(default)]
    pub embedded: bool,
    /// Whether an account was made of a user of somebody else.
    #[serde(default)]
    pub adopted: bool,
}

/// What the service is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Claim a namespace, with an `expires` in milliseconds since the beginning.
    Claim {
        name: String,
        expires: Option<i64>,
        contact: Option<String>,
        #[serde(default)]
        client: Option<String>,
    },
    Rotate,
    Sweep,
    Expire,
    Deliver,
    /// Learn what others have stored, for the time when the store can't be reached.
    Refresh,
    /// Tell that claims can be served.
    Beat,
    /// Set the owners of a namespace beside its contact.
    Own {
        name: String,
        owners: Vec<String>,
    },
    /// Let all queues of a namespace grow without a bound, or no longer.
    Exempt {
        name: String,
        end: bool,
    },
    /// End a namespace.
    Release(String),
    /// Revoke the credentials of a namespace.
    Revoke(String),
    /// Let nobody claim a namespace.
    Disable(String),
    /// Let it be claimed again.
    Enable(String),
    /// Make an account.
    Account(String),
    /// Give an account other credentials, and end those before at once or not.
    Credentials {
        name: String,
        end_old: bool,
    },
    /// Move on from the user that an account was made of.
    MoveOn(String),
    /// End that user.
    Retire(String),
}

impl Work {
    /// The account that it gives credentials, if it does, and whether that ends those before at once.
    pub fn gives(&self) -> Option<(&str, bool)> {
        match self {
            Work::Account(name) | Work::MoveOn(name) => Some((name, false)),
            Work::Credentials { name, end_old } => Some((name, *end_old)),
            _ => None,
        }
    }

    /// The namespace whose earlier credentials it cuts off, if it does.
    pub fn cuts_off(&self) -> Option<&str> {
        match self {
            Work::Release(name) | Work::Revoke(name) | Work::Disable(name) => Some(name),
            _ => None,
        }
    }
}

/// What happens. A step that makes no sense when its turn comes does nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// So many milliseconds pass.
    Wait(u64),
    /// An operation begins in a process, and stands before its first call.
    Begin { op: usize, process: usize, work: Work },
    /// An operation goes on to this call, and that happens to it; to its end where it makes no such call.
    Call { op: usize, call: String, fate: Fate },
    /// An operation looks at the time.
    Wake(usize),
    /// Nobody waits for an operation any more: it ends where it stands.
    Cancel(usize),
    /// A process dies with all that it was doing, and another one begins in its place.
    Crash(usize),
    /// A process' clock is set: it is so many milliseconds ahead now.
    Clock { process: usize, ahead: i64 },
    /// A process has its heartbeat for so many milliseconds.
    Serve { process: usize, millis: u64 },
    /// The host is restarted with all processes, with a clock that is so many milliseconds ahead.
    Reboot(i64),
    /// The store, the broker, both or none can't be reached from now on.
    Down { store: bool, broker: bool },
    /// A client gives a queue so many messages, and declares it before where there is none.
    Fill { queue: String, messages: u64, exclusive: bool },
    /// A client deletes its queue.
    Drop(String),
    /// A client declares an exchange.
    Declare(String),
    /// A client of a namespace connects with what it was handed last.
    Connect(String),
    /// Nobody uses the user any more that an account was made of.
    Abandon,
    /// Somebody makes a queue that looks like ours, of a namespace that nobody claimed.
    Lost,
    /// A client has many namespaces that end then, in milliseconds since the beginning.
    Crowd(i64),
    /// The broker loses all that is ours.
    Wipe,
    /// Somebody changes a user of ours.
    Tamper(String),
    /// Somebody makes a user of its own under a name of ours, in the place of ours if that is there.
    Intrude(String),
    /// That one goes.
    Leave(String),
    /// A sweep of version 1.0.0 gives a user of ours the tag that it knows.
    Untag(String),
}

pub fn millis(of: Duration) -> u64 {
    of.as_millis().try_into().unwrap()
}

/// A schedule as the lines of a replay.
pub fn write(setup: &Setup, steps: &[Step]) -> String {
    let steps = steps.iter().map(|step| serde_json::to_string(step).unwrap() + "\n");
    std::iter::once(serde_json::to_string(setup).unwrap() + "\n").chain(steps).collect()
}

/// Reads the lines of a replay.
pub fn read(text: &str) -> (Setup, Vec<Step>) {
    let (setup, steps) = text.split_once('\n').expect("a setup and its steps");
    let setup = serde_json::from_str(setup).expect("a setup");
    (setup, steps.lines().map(|line| serde_json::from_str(line).expect(line)).collect())
}
