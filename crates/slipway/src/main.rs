//! Slipway: container images that start before they have arrived.

fn main() {}
