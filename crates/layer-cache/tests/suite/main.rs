//! The promises of the cache, with and without crashes.

mod cache;
mod crash;
mod small_layer;
