//! The command line of the bench.

fn main() {}
