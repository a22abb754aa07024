//! The registry as its clients see it.

mod clients;
mod conversion;
mod durability;
mod faults;
mod pull;
mod push;
mod storage_full;
mod support;
