#!/bin/bash
# Starts containers again and again while the node's worker is killed with SIGKILL; each must answer.
# SOAK_MINUTES (10), SOAK_KILL_SECONDS (0.3: the pause between two kills).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
need_root "the soak"
load_modules

scripts/make-images.sh mid
cargo build --release --locked -p slipway
slipway=$PWD/target/release/slipway
mkdir -p build/soak
dir=$(mktemp -d "$PWD/build/soak/XXXXXX")
server=
killer=
cleanup() {
  stop "$killer"
  stop "$server"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

"$slipway" up --data "$dir/data" --listen 127.0.0.1:0 >"$dir/up.out" 2>"$dir/up.log" &
server=$!
wait_for 30 grep -q '^ready' "$dir/up.out" || fail "slipway up did not start: $(tail -3 "$dir/up.log")"
host=$(awk '$1 == "registry" {sub("http://", "", $2); print $2; exit}' "$dir/up.out")
"$slipway" --data "$dir/data" repo accelerate soak/mid on
skopeo copy --quiet --dest-tls-verify=false oci:build/images/mid:latest "docker://$host/soak/mid:latest"
timeout 600 "$slipway" --data "$dir/data" task list --watch >/dev/null

# The worker is a descendant of the server whose command line names it.
descendants() {
  local child
  for child in $(ps -o pid= --ppid "$1"); do
    echo "$child"
    descendants "$child"
  done
}
workers() {
  for pid in $(descendants "$server"); do
    if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -Eq 'slipway .*worker'; then echo "$pid"; fi
  done
}
[ -n "$(workers)" ] || fail "no worker process was found below process $server"
while sleep "${SOAK_KILL_SECONDS:-0.3}"; do
  [ ! -e "$dir/hold" ] || continue
  for pid in $(workers); do kill -KILL "$pid" 2>/dev/null && echo "$pid" >>"$dir/killed"; done
done &
killer=$!

run() { timeout 120 "$slipway" --data "$dir/data" run --rm --network none "$@" >"$dir/out" 2>"$dir/err"; }
end=$((SECONDS + ${SOAK_MINUTES:-10} * 60))
starts=0
while [ "$SECONDS" -lt "$end" ]; do
  "$slipway" --data "$dir/data" cache prune --all >/dev/null
  # A plain image comes whole, and a layer that a killed worker had not finished begins again: no kills meanwhile.
  touch "$dir/hold"
  run "$host/soak/mid:latest" true || fail "the plain image could not be loaded: $(tail -3 "$dir/err")"
  rm "$dir/hold"
  drop_caches
  for tag in latest latest_accelerated; do
    run "$host/soak/mid:$tag" ||
      fail "start $starts of $tag failed: $(tail -3 "$dir/err")" "the server's log: $dir/up.log"
    grep -q 'hello 200' "$dir/out" || fail "start $starts of $tag did not answer: $(cat "$dir/out")"
    starts=$((starts + 1))
  done
done
say "$starts containers answered while $(wc -l <"$dir/killed") workers were killed"
cleanup
rm -rf --one-file-system "$dir"
