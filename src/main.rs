//! The program `taskcluster-pulse`.

fn main() {}
