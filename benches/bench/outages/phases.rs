//! How a run goes on, and with how many namespaces.

/// How many namespaces are claimed, half of them by clients of either kind.
pub const NAMESPACES: usize = 48;

/// What can be down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    Broker,
    Database,
    Auth,
    /// A node of the cluster.
    Node(usize),
    /// The first of two databases, for ever; the other one takes over.
    Primary,
}

/// A part of the run: its name, what is down, and how many tenths of the run it takes.
pub type Phase = (&'static str, Option<Neighbour>, u32);

/// Where there is one of each.
pub const ALONE: &[Phase] = &[
    ("all up", None, 1),
    ("broker down", Some(Neighbour::Broker), 2),
    ("all up again", None, 1),
    ("database down", Some(Neighbour::Database), 2),
    ("all up again", None, 1),
    ("auth down", Some(Neighbour::Auth), 2),
    ("all up again", None, 1),
];

/// Where there are three nodes and two databases.
pub const CLUSTER: &[Phase] = &[
    ("all up", None, 1),
    ("first node down", Some(Neighbour::Node(0)), 1),
    ("all up again", None, 1),
    ("second node down", Some(Neighbour::Node(1)), 1),
    ("all up again", None, 1),
    ("third node down", Some(Neighbour::Node(2)), 1),
    ("all up again", None, 1),
    ("database failed over", Some(Neighbour::Primary), 2),
    ("all up again", None, 1),
];
