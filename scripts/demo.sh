#!/bin/bash
# Shows the whole road on this machine: push, convert, start cold both ways, run it without Slipway.
# Everything it makes lies under build/demo and is removed at the end (KEEP=1 leaves it).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
need_root "the demo"
load_modules

scripts/make-images.sh mid
say "building Slipway"
cargo build --release --locked -p slipway
slipway=$PWD/target/release/slipway
mkdir -p build/demo
dir=$(mktemp -d "$PWD/build/demo/XXXXXX")
data=$dir/data
server=
cleanup() {
  stop "$server"
  [ -n "${KEEP:-}" ] || rm -rf --one-file-system "$dir" || true
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say "starting registry, converter and node: slipway up"
"$slipway" up --data "$data" --listen 127.0.0.1:0 >"$dir/up.out" 2>"$dir/up.log" &
server=$!
is_up() { grep -q '^ready' "$dir/up.out" || gone "$server"; }
wait_for 30 is_up || true
grep -q '^ready' "$dir/up.out" || fail "slipway up did not start: $(tail -3 "$dir/up.log")"
host=$(awk '$1 == "registry" {sub("http://", "", $2); print $2; exit}' "$dir/up.out")
image=$host/demo/mid:latest

say "switching image acceleration on, then pushing with skopeo"
"$slipway" --data "$data" repo accelerate demo/mid on
skopeo copy --quiet --dest-tls-verify=false oci:build/images/mid:latest "docker://$image"
say "the push became a conversion task"
timeout 600 "$slipway" --data "$data" task list --watch
has_tag() { skopeo inspect --raw --tls-verify=false "docker://$1" >"$2" 2>/dev/null; }
has_tag "$image" "$dir/plain.manifest" || fail "$image cannot be read back"
wait_for 10 has_tag "${image}_accelerated" "$dir/accelerated.manifest" ||
  fail "the conversion did not finish" "its error: $("$slipway" --data "$data" task list | tail -1)"

# cold NAME REFERENCE: starts the image with nothing cached, and writes NAME.out, NAME.timeline, NAME.ms.
cold() {
  local start end
  "$slipway" --data "$data" cache prune --all >/dev/null
  drop_caches
  say "starting cold: $2"
  start=$(date +%s%N)
  "$slipway" --data "$data" run --rm --network none --timeline=json "$2" >"$dir/$1.out" 2>"$dir/$1.err" ||
    fail "the container failed: $(tail -3 "$dir/$1.err")"
  end=$(date +%s%N)
  cat "$dir/$1.out"
  tail -1 "$dir/$1.err" >"$dir/$1.timeline"
  echo $(((end - start) / 1000000)) >"$dir/$1.ms"
}
cold plain "$image"
cold accelerated "${image}_accelerated"

say "the same accelerated tag with podman: an ordinary image, no Slipway on this side"
drop_caches
start=$(date +%s%N)
timeout 300 podman --root "$dir/podman" --runroot "$dir/podman.run" --runtime runc \
  --cgroup-manager cgroupfs run --rm --quiet --tls-verify=false --network host \
  --ulimit nofile=4096:4096 --ulimit nproc=4096:4096 "${image}_accelerated" | tee "$dir/podman.out"
echo $((($(date +%s%N) - start) / 1000000)) >"$dir/podman.ms"
podman --root "$dir/podman" --runroot "$dir/podman.run" rmi --all --force >/dev/null
for way in plain accelerated podman; do
  grep -q 'hello 200' "$dir/$way.out" || fail "the container of $way did not answer its request"
done

ms() { cat "$dir/$1.ms"; }
size() { jq '[.layers[].size] | add' "$dir/$1.manifest"; }
fetched() { jq '.bytes_fetched' "$dir/$1.timeline"; }
row() { # NAME MILLISECONDS BYTES_FETCHED BYTES
  awk -v name="$1" -v ms="$2" -v fetched="$3" -v size="$4" \
    'BEGIN {printf "%-34s %12.2f s %12.1f MB %12.1f MB\n", name, ms / 1e3, fetched / 1e6, size / 1e6}'
}
printf '\n%-34s %14s %15s %15s\n' "cold start of demo/mid" "first answer" "bytes fetched" "image size"
row "slipway run, plain" "$(ms plain)" "$(fetched plain)" "$(size plain)"
row "slipway run, accelerated" "$(ms accelerated)" "$(fetched accelerated)" "$(size accelerated)"
row "podman run, accelerated tag" "$(ms podman)" "$(size accelerated)" "$(size accelerated)"
