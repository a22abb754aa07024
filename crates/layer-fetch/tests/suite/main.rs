//! The promises of the read path, over sources and disks that fail.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod faults;
mod fixture;
mod reads;
