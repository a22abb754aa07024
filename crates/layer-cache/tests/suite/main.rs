//! The promises of the cache, with and without crashes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cache;
mod crash;
mod small_layer;
