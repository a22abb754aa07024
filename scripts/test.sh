#!/bin/bash
# Runs every test: first those that any user can run, then those that need root, FUSE and mounts.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
need_root "running the privileged tests"
[ -e /dev/fuse ] || fail "/dev/fuse is not there" "the read path is tested through FUSE: load the fuse module"

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto} CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}
say "tests"
cargo test --workspace --locked --no-fail-fast
say "privileged tests (root, FUSE, mounts, runc)"
cargo test --workspace --locked --no-fail-fast -- --ignored privileged
