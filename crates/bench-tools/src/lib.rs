//! What `make bench` is made of: a proxy that makes round trips longer, and the driver.
//!
//! The driver puts a registry, a node and containerd into a network namespace whose loopback is
//! shaped, starts images cold and warm, and writes down how long that took and how many bytes
//! crossed the loopback. It talks to everything as a user would: by command line.
//!
//! Times are taken from outside, from the start of a command to its end.

pub mod bench;
pub mod containerd;
pub mod image;
pub mod machine;
pub mod namespace;
pub mod process;
pub mod proxy;
pub mod registry;
pub mod report;
pub mod slipway;
