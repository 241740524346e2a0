//! The clients that claim, as the auth service and the program's own list know them.

/// Who claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    /// A client of the program's own list.
    Local,
    /// A client that the auth service knows.
    Remote,
}

impl Caller {
    pub const BOTH: [Caller; 2] = [Caller::Local, Caller::Remote];

    pub fn of(namespace: usize) -> Caller {
        Caller::BOTH[namespace % 2]
    }

    pub fn id(self) -> &'static str {
        if self == Caller::Local { "bench/local" } else { "bench/remote" }
    }

    pub fn key(self) -> &'static str {
        if self == Caller::Local { "a-key-of-a-local-client" } else { "a-key-of-a-remote-client" }
    }
}
