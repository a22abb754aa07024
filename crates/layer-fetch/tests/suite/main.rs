//! The promises of the read path, over sources and disks that fail.

mod faults;
mod fixture;
mod reads;
