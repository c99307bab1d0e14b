#!/usr/bin/env bash
# Installs what a fresh Debian 12 machine needs, builds the gateway, and starts it on the example configuration with its
# built-in demo backend. Prints commands to try. Ctrl-C stops it.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh build
scripts/build.sh release sluice

cat <<'TEXT'

Sluice serves examples/quickstart on port 8080. Try, in another terminal:

  curl -i -H 'Host: foo.bar.com' http://127.0.0.1:8080/foo
  curl -H 'Host: httpbin.org' 'http://127.0.0.1:8080/get?hello=world'
  curl http://127.0.0.1:15020/stats/prometheus
  build/release/sluice explain --config examples/quickstart --request 'GET http://foo.bar.com/foo/1'

Then edit examples/quickstart/demo.yaml (a path, say) and repeat: the change is live when the file is saved.

TEXT
exec build/release/sluice serve --config examples/quickstart --demo
