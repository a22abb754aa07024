//! What is served and mounted, against the kernel. Needs root, FUSE and EROFS.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers fail as the test does"
)]

mod erofs;
mod keeper;
mod reference_tree;
mod support;
