//! The registry as its clients see it.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod clients;
mod conversion;
mod durability;
mod faults;
mod pull;
mod push;
mod storage_full;
mod support;
