#!/bin/bash
# Measures cold and warm starts on a shaped network, beside containerd, and prints a table.
# BENCH_IMAGES  "small mid ml"; ml needs about 20 GB of disk in all
# BENCH_RUNS    3; of each measurement, the median is shown
# BENCH_RATES   "1gbit 100mbit", as tc writes them
# BENCH_DELAYS  "10 30"; milliseconds that the proxy adds to each round trip
# BENCH_WAYS    "containerd plain accelerated convert"
# The table goes to stdout and to build/bench/result.md, all figures to build/bench/result.json.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
need_root "the bench"
load_modules

read -ra images <<<"${BENCH_IMAGES:-small mid ml}"
scripts/make-images.sh "${images[@]}"
cargo build --release --locked -p slipway -p bench-tools
exec target/release/slipway-bench run --slipway target/release/slipway --images-dir build/images \
  --work build/bench --image "${images[@]}" --runs "${BENCH_RUNS:-3}" \
  --rates "${BENCH_RATES:-1gbit 100mbit}" --delays "${BENCH_DELAYS-10 30}" \
  --ways "${BENCH_WAYS:-containerd plain accelerated convert}"
