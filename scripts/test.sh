#!/bin/bash
# Runs every test: first those that any user can run, then those that need root, FUSE and mounts.
# The last line counts both.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
need_root "running the privileged tests"
load_modules

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto} CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
run() { # NAME CARGO_TEST_ARGUMENTS...
  say "$1"
  shift
  cargo test --workspace --locked --no-fail-fast "$@" | tee -a "$log" || status=$?
}
run "tests"
# Documents have no privileged examples.
run "privileged tests (root, FUSE, mounts, runc)" --lib --bins --tests -- --ignored privileged

# A test that the first run left out ran in the second.
awk '/^test result:/ {gsub(/[;.]/, ""); for (i = 2; i <= NF; i++) n[$i] += $(i - 1)}
  END {printf "\ntests: %d passed, %d failed\n", n["passed"], n["failed"]}' "$log"
exit "$status"
