#!/bin/bash
# Installs what the named groups need and what is missing: Debian's packages, by apt-get.
# usage: setup.sh [build] [images] [demo] [test] [check] [bench]
# When everything is there, nothing is asked of the network and root is not needed.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

# One line for each thing: what must be there (a command, or a path) and the package that brings it.
things_of() {
  case $1 in
  build) echo "cc:build-essential make:make pkg-config:pkg-config" \
    "/etc/ssl/certs/ca-certificates.crt:ca-certificates" ;;
  images) echo "buildah:buildah debootstrap:debootstrap jq:jq crun:crun" ;;
  demo) echo "runc:runc skopeo:skopeo podman:podman jq:jq mount:mount ps:procps" ;;
  test) echo "runc:runc skopeo:skopeo podman:podman buildah:buildah ctr:containerd jq:jq" \
    "/usr/share/doc/busybox-static:busybox-static mkfs.ext4:e2fsprogs script:bsdutils setpriv:util-linux" \
    "zstd:zstd fsck.erofs:erofs-utils losetup:mount setfattr:attr setcap:libcap2-bin ip:iproute2" ;;
  check) echo "shellcheck:shellcheck" ;;
  bench) echo "runc:runc skopeo:skopeo containerd:containerd jq:jq tc:iproute2 nsenter:util-linux" ;;
  *) fail "unknown group $1" "groups: build images demo test check bench" ;;
  esac
}

# Succeeds if `cargo` works and is at least the rust-version of Cargo.toml.
rust_is_there() {
  local have want
  have=$(cargo --version 2>/dev/null | awk '{print $2}') || return 1
  rustc --version >/dev/null 2>&1 || return 1
  want=$(awk -F'"' '/^rust-version/ {print $2; exit}' Cargo.toml)
  [ -n "$have" ] && [ "$(printf '%s\n' "$want" "$have" | sort -V | head -1)" = "$want" ]
}

missing=()
for group in "$@"; do
  for thing in $(things_of "$group"); do
    name=${thing%%:*}
    [ -e "$name" ] || command -v "$name" >/dev/null || missing+=("${thing##*:}")
  done
  case $group in
  build) rust_is_there || missing+=(rustc-web cargo-web) ;;
  check)
    if ! { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1; then
      # A toolchain of rustup gets its own parts; Debian's gets Debian's.
      rustup component add rustfmt clippy 2>/dev/null || missing+=(rustfmt-web rust-web-clippy)
    fi ;;
  esac
done

if [ ${#missing[@]} -gt 0 ]; then
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  say "installing: ${missing[*]}"
  need_root "installing packages"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq || say "the package lists could not be updated; trying with those at hand"
  # --no-remove: never take a package away that the owner of this machine chose.
  apt-get install -y -qq --no-install-recommends --no-remove "${missing[@]}" >/dev/null ||
    fail "apt-get could not install: ${missing[*]}" \
      "if it wanted to remove Debian's own rustc or rustup: remove it, or install a newer Rust with it"
fi
rust_is_there || case " $* " in
*" build "*) fail "the Rust here is older than Cargo.toml asks for" \
  "Debian 12 has a newer one as rustc-web and cargo-web in its security archive: is that among the apt sources?" ;;
esac
