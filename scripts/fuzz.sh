#!/usr/bin/env bash
# Builds the fuzz targets and runs each for SECONDS (default 20). Stops at the first crash, hang or disagreement and says
# where the input is kept. What a target finds interesting stays in build/fuzz/corpus and is used again.
#
#   scripts/fuzz.sh [SECONDS] [TARGET …]      e.g. scripts/fuzz.sh 600 http1_request chunked
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-20}
shift || true

all=$(sed -n 's/^sluice_fuzzer(\([a-z0-9_]*\) .*/\1/p' fuzz/CMakeLists.txt)
targets=${*:-$all}
# shellcheck disable=SC2086  # names without spaces
scripts/build.sh fuzz $(printf '%s_fuzz ' $targets)

export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
for target in $targets; do
  binary=build/fuzz/fuzz/${target}_fuzz
  corpus=build/fuzz/corpus/$target
  crashes=build/fuzz/crashes/$target
  log=build/fuzz/$target.log
  mkdir -p "$corpus" "$crashes"
  inputs=("$corpus")
  [ ! -d "fuzz/seeds/$target" ] || inputs+=("fuzz/seeds/$target")
  [ "$target" != http2_server ] || "$binary" --seeds "$corpus"
  if ! "$binary" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=8192 -print_final_stats=1 \
      -artifact_prefix="$crashes/" "${inputs[@]}" >"$log" 2>&1; then
    tail -n 40 "$log"
    echo "fuzz: $target failed; the input is in $crashes, the whole log is $log" >&2
    exit 1
  fi
  echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions"
done
