//! How a run goes on, and with how many namespaces.

/// How many namespaces are claimed, half of them by clients of either kind.
pub const NAMESPACES: usize = 48;

/// What can be down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    Broker,
    Database,
    Auth,
}

/// How the run goes on, with how many tenths of it each part takes.
pub const PHASES: [(&str, Option<Neighbour>, u32); 7] = [
    ("all up", None, 1),
    ("broker down", Some(Neighbour::Broker), 2),
    ("all up again", None, 1),
    ("database down", Some(Neighbour::Database), 2),
    ("all up again", None, 1),
    ("auth down", Some(Neighbour::Auth), 2),
    ("all up again", None, 1),
];
