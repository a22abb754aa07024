//! Servers, images and commands for the tests. Helpers build; the tests say what must hold.

mod containerd;
mod line;
mod patience;
mod program;
mod sample;
mod server;
mod small_disk;
mod tree;

pub(crate) use containerd::Containerd;
pub(crate) use line::{Fault, Line};
pub(crate) use patience::{pause, wait_for, within};
pub(crate) use program::{Outcome, run, skopeo_push, slipway, start};
pub(crate) use sample::{Sample, noise};
pub(crate) use server::{Server, kill, mounts_below, worker_of};
pub(crate) use small_disk::SmallDisk;
pub(crate) use tree::{TreeEntry, read_tree};
