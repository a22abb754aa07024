#!/bin/bash
# Runs every test: first those that any user can run, then those that need root, FUSE and mounts.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
need_root "running the privileged tests"
load_modules

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto} CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}
say "tests"
cargo test --workspace --locked --no-fail-fast
say "privileged tests (root, FUSE, mounts, runc)"
cargo test --workspace --locked --no-fail-fast -- --ignored privileged
