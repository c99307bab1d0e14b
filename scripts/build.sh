#!/usr/bin/env bash
# Configures and builds one preset: scripts/build.sh PRESET [TARGET …]   (release, debug, asan, tsan, fuzz)
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release}
shift || true
cmake --preset "$preset" --log-level=WARNING >/dev/null
cmake --build --preset "$preset" -- -k 1 ${*:+"$@"} | tail -n 3
