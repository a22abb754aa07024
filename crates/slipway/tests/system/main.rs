//! The whole program, as its users meet it: `slipway up` as a process, images pushed by skopeo, containers by runc.
//!
//! Every test starts servers of its own in a directory of its own, on ports that the kernel chooses.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod command_line;
mod container;
mod damage;
mod full_disk;
mod machine;
mod other_clients;
mod refused_image;
mod registry_line;
mod server;
mod support;
mod unpacked_tree;
mod worker;
