#!/usr/bin/env bash
# Installs what the tests need, builds, and runs all of them: unit tests (release and with ASan+UBSan; what crosses threads
# also with TSan), then the integration tests against the real binary (release and ASan+UBSan). The last line counts them.
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
scripts/build.sh asan all || fail "the ASan build failed"
unit asan
integration asan
scripts/build.sh tsan event_test proxy_test || fail "the TSan build failed"
unit tsan -R '^(event|proxy)\.'

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
