#!/bin/sh
# Fetches and builds the third-party C libraries that are not Debian packages, into one folder that all presets share.
#
#   scripts/fetch_deps.sh [folder]      default: build/deps below the checkout
#
# The build calls it at configure time; it returns at once when everything is there. Sources come from Rust's package
# registry at the version and hash that third_party/rust/Cargo.lock pins. A build that has succeeded once works offline:
# the sources stay in <folder>/vendor, the result in <folder>/aws-lc. Two builds may call this at the same time: the
# second one waits.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
deps=${1:-$root/build/deps}
manifest=$root/third_party/rust/Cargo.toml

mkdir -p "$deps"
deps=$(cd "$deps" && pwd)

# What the result depends on; a change of any of it builds anew.
key=$(cat "$root/third_party/rust/Cargo.lock" "$0" | sha256sum | cut -c1-16)
stamp=$deps/aws-lc/built-$key
[ -e "$stamp" ] && exit 0

exec 9>"$deps/.lock"
flock 9
[ -e "$stamp" ] && exit 0

vendor_crates() {
  pinned=$(sha256sum <"$root/third_party/rust/Cargo.lock" | cut -c1-16)
  [ -e "$deps/vendor/.vendored-$pinned" ] && return 0
  command -v cargo >/dev/null || { echo "fetch_deps: cargo is missing; run scripts/setup.sh build" >&2; return 1; }
  rm -rf "$deps/vendor" "$deps/vendor.partial"
  # --locked refuses anything but the pinned versions and hashes.
  cargo vendor --quiet --locked --manifest-path "$manifest" "$deps/vendor.partial" >/dev/null 9>&-
  mv "$deps/vendor.partial" "$deps/vendor"
  : >"$deps/vendor/.vendored-$pinned"
}

# The first of the given programs that is installed.
first_of() {
  for program; do
    command -v "$program" && return 0
  done
  return 1
}

build_aws_lc() {
  source=$deps/vendor/aws-lc-sys/aws-lc
  work=$deps/aws-lc.build
  partial=$deps/aws-lc.partial
  log=$deps/aws-lc.log
  rm -rf "$work" "$partial"

  launcher=
  if ccache=$(command -v ccache); then
    launcher="-DCMAKE_C_COMPILER_LAUNCHER=$ccache -DCMAKE_CXX_COMPILER_LAUNCHER=$ccache"
  fi
  # shellcheck disable=SC2086  # $launcher is two words on purpose
  if ! {
    cmake -G Ninja -S "$source" -B "$work" $launcher \
      -DCMAKE_C_COMPILER="$(first_of clang-19 clang gcc)" -DCMAKE_CXX_COMPILER="$(first_of clang++-19 clang++ g++)" \
      -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS="-ffunction-sections -fdata-sections" \
      -DCMAKE_CXX_FLAGS="-ffunction-sections -fdata-sections" \
      -DBUILD_TESTING=OFF -DBUILD_TOOL=OFF -DDISABLE_GO=ON -DDISABLE_PERL=ON -DDISABLE_CPU_JITTER_ENTROPY=ON -DBUILD_SHARED_LIBS=OFF &&
      ninja -C "$work" -j "${SLUICE_JOBS:-$(nproc)}" crypto ssl
  } >"$log" 2>&1 9>&-; then
    tail -n 30 "$log" >&2
    echo "fetch_deps: building AWS-LC failed; the whole log is $log" >&2
    return 1
  fi

  mkdir -p "$partial/lib"
  cp -R "$source/include" "$partial/include"
  cp "$work/crypto/libcrypto.a" "$work/ssl/libssl.a" "$partial/lib/"
  cp "$source/LICENSE" "$partial/"
  : >"$partial/built-$key"
  rm -rf "$deps/aws-lc"
  mv "$partial" "$deps/aws-lc"
  rm -rf "$work"
}

echo "Fetching and building AWS-LC into $deps (once, about two minutes of CPU)" >&2
vendor_crates
build_aws_lc
