#!/usr/bin/env bash
# Installs what the tests need, builds, and runs all of them: unit tests (release and with ASan+UBSan; what crosses threads
# also with TSan), then the integration tests against the real binary (release and ASan+UBSan); clang-tidy; and each fuzz
# target for ten seconds. The last line counts them.
#
#   scripts/test.sh            everything
#   scripts/test.sh -k NAME    only the integration tests that match, against the release build
set -uo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "test: $1" >&2
  echo "0 passed, 1 failed"
  exit 1
}

scripts/setup.sh test || fail "setup failed"
python=build/venv/bin/python
if [ ! -x $python ] || ! cmp -s test/requirements.txt build/venv/requirements.txt; then
  python3 -m venv build/venv && $python -m pip install --quiet --disable-pip-version-check -r test/requirements.txt ||
    fail "cannot install the Python packages of test/requirements.txt"
  cp test/requirements.txt build/venv/requirements.txt
fi

passed=0
failed=0
count() {  # passed failed
  passed=$((passed + $1))
  failed=$((failed + $2))
}

unit() {  # preset, ctest arguments
  local preset=$1 output
  shift
  echo "== unit tests ($preset)"
  output=$(ctest --test-dir "build/$preset" --output-on-failure -j2 "$@" 2>&1)
  local total bad
  bad=$(sed -n 's/.* \([0-9]*\) tests failed out of \([0-9]*\)/\1/p' <<<"$output")
  total=$(sed -n 's/.* \([0-9]*\) tests failed out of \([0-9]*\)/\2/p' <<<"$output")
  [ -n "$total" ] || { echo "$output" | tail -20; count 0 1; return; }
  [ "$bad" = 0 ] || echo "$output" | grep -vE '^ *[0-9]+/[0-9]+ .*Passed|^ *Start' | tail -150
  echo "$preset: $((total - bad)) passed, $bad failed"
  count $((total - bad)) "$bad"
}

integration() {  # preset, pytest arguments
  local preset=$1 output good bad
  shift
  echo "== integration tests ($preset)"
  output=$(SLUICE_BINARY=$PWD/build/$preset/sluice timeout 2400 $python -m pytest -q -p no:cacheprovider --timeout=180 test "$@" 2>&1)
  echo "$output" | tail -n 60
  good=$(grep -oE '[0-9]+ passed' <<<"$output" | tail -1 | cut -d' ' -f1)
  bad=$(grep -oE '[0-9]+ (failed|error)' <<<"$output" | tail -2 | cut -d' ' -f1 | paste -sd+ | bc 2>/dev/null)
  [ -n "$good$bad" ] || bad=1
  count "${good:-0}" "${bad:-0}"
}

# Each source is a test. Without the static analyzer, which takes three times as long as all other checks together.
tidy() {
  echo "== clang-tidy"
  local sources total bad
  sources=$(git ls-files 'src/*.cc' | grep -v '_test\.cc$')
  total=$(wc -l <<<"$sources")
  xargs -P2 -n1 clang-tidy-19 -p build/release --quiet '--checks=-clang-analyzer-*' <<<"$sources" >build/tidy.log 2>build/tidy.err
  bad=$(grep -E '^[^ ]+:[0-9]+:[0-9]+: (warning|error): ' build/tidy.log | cut -d: -f1 | sort -u | wc -l)
  [ "$bad" = 0 ] || grep -E -A3 '^[^ ]+: (warning|error): ' build/tidy.log | head -n 60
  if [ "$bad" = 0 ] && grep -qE '^Error|error:' build/tidy.err; then
    tail -n 20 build/tidy.err
    bad=1
  fi
  echo "clang-tidy: $((total - bad)) passed, $bad failed"
  count $((total - bad)) "$bad"
}

# Each target is a test; the first that finds something ends the run.
fuzz() {  # seconds for each
  echo "== fuzzing"
  local total good
  total=$(grep -c '^sluice_fuzzer(' fuzz/CMakeLists.txt)
  scripts/fuzz.sh "$1" >build/fuzz.log 2>&1
  good=$(grep -cE '^[a-z0-9_]+: [0-9]+ executions$' build/fuzz.log)
  if [ "$good" = "$total" ]; then grep executions build/fuzz.log; else tail -n 60 build/fuzz.log; fi
  echo "fuzz: $good passed, $((total - good)) failed"
  count "$good" $((total - good))
}

if [ $# -gt 0 ]; then
  scripts/build.sh release sluice || fail "the release build failed"
  integration release "$@"
  echo "$passed passed, $failed failed"
  [ "$failed" = 0 ]
  exit
fi

echo "== style"
if python3 scripts/check_includes.py; then count 1 0; else count 0 1; fi
if git ls-files 'src/*.h' 'src/*.cc' 'fuzz/*.h' 'fuzz/*.cc' | xargs clang-format-19 --dry-run -Werror 2>&1 | tail -n 20; then
  count 1 0
else
  count 0 1
fi
scripts/build.sh release all || fail "the release build failed"
unit release
integration release
# The fuzz preset is the ASan preset with coverage: one build serves both.
scripts/build.sh fuzz all || fail "the build with ASan+UBSan failed"
unit fuzz
integration fuzz
scripts/build.sh tsan event_test proxy_test || fail "the TSan build failed"
unit tsan -R '^(event|proxy)\.'
tidy
fuzz 10

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
