#!/bin/bash
# Everything that can be said about the code without running it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
export CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}

say "format"
cargo fmt --all --check
say "file sizes, headers, words, links"
cargo run --quiet --locked -p xtask -- tidy
say "crate order"
cargo run --quiet --locked -p xtask -- check-layers
if command -v shellcheck >/dev/null; then
  say "shell scripts"
  shellcheck -x scripts/*.sh .ci/run
fi
say "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings

say "dependencies: licences, bans, sources"
if ! cargo deny --version >/dev/null 2>&1; then
  # Kept outside the checkout: it is built once for a user, not once for a clone. Not optimised: it is built
  # for longer than it runs.
  tools=${XDG_CACHE_HOME:-$HOME/.cache}/slipway/tools
  PATH="$tools/bin:$PATH"
  [ -x "$tools/bin/cargo-deny" ] || CARGO_PROFILE_DEV_DEBUG=0 \
    cargo install --debug --quiet cargo-deny --locked --version 0.20.2 --root "$tools"
fi
# Not `advisories`: they come from a database on the network and change without a change here.
cargo deny --log-level error check bans licenses sources
