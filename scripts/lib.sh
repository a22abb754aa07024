# shellcheck shell=bash
# What every script here shares. Sourced, not run: `. scripts/lib.sh` from the top of the checkout.
set -euo pipefail

# A Rust that rustup put into the home directory counts, whether or not the shell's profile was read.
if [ -d "${CARGO_HOME:-$HOME/.cargo}/bin" ]; then
  PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
fi
# Debian keeps runc, debootstrap, tc and others here; `su` without a dash leaves it out.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

say() { printf '== %s\n' "$*" >&2; }
fail() {
  printf 'error: %s\n' "$1" >&2
  shift
  for hint in "$@"; do printf 'hint: %s\n' "$hint" >&2; done
  exit 1
}
need_root() {
  [ "$(id -u)" = 0 ] || fail "$1 needs root" "run it again as root"
}

# What the read path needs of the kernel, where it is a module and not loaded yet.
load_modules() {
  local module
  for module in fuse loop erofs overlay; do modprobe --quiet "$module" 2>/dev/null || true; done
  [ -e /dev/fuse ] || fail "/dev/fuse is not there" \
    "load the module: modprobe fuse" "in a container, hand the device in: --device /dev/fuse"
}

# wait_for SECONDS COMMAND...: tries the command until it succeeds; fails after SECONDS.
wait_for() {
  local left=$(($1 * 10))
  shift
  until "$@"; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || return 1
    sleep 0.1
  done
}

# stop PID: asks the process to end, and waits; after 20 seconds it is killed.
stop() {
  [ -n "$1" ] && kill -TERM "$1" 2>/dev/null || return 0
  wait_for 20 gone "$1" || kill -KILL "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}
# A child that ended and was not waited for yet is a zombie: it is gone, too.
gone() {
  local state
  state=$(awk '/^State:/ {print $2}' "/proc/$1/status" 2>/dev/null) || return 0
  [ -z "$state" ] || [ "$state" = Z ]
}

# Cold means: nothing that the kernel kept.
drop_caches() {
  sync
  echo 3 >/proc/sys/vm/drop_caches
}
