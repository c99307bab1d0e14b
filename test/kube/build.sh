#!/usr/bin/env bash
# Builds etcd, kube-apiserver and kubectl from their published Go modules, once,
# into a directory outside the checkout: $SLUICE_KUBE_DIR, default
# ~/.cache/sluice-test/kube. A stamp of go.sum makes a second run free.
#
#   test/kube/build.sh [etcd|kube-apiserver|kubectl]...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
dir=${SLUICE_KUBE_DIR:-$HOME/.cache/sluice-test/kube}
mkdir -p "$dir"
exec 9>"$dir/.lock"
flock 9
stamp=$(cat go.mod go.sum build.sh cmd/*/main.go | sha256sum | cut -d' ' -f1)
version=$(sed -n 's#^\tk8s.io/kubernetes \(v[0-9.]*\)$#\1#p' go.mod | head -1)
minor=${version#v1.}
minor=${minor%%.*}
v=k8s.io/component-base/version
flags="-s -w -X $v.gitVersion=$version -X $v.gitMajor=1 -X $v.gitMinor=$minor -X $v.gitTreeState=clean"
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:--p=2}"
[ $# -gt 0 ] || set -- etcd kube-apiserver kubectl
for name; do
  if [ -x "$dir/$name" ] && [ "$(cat "$dir/$name.stamp" 2>/dev/null)" = "$stamp" ]; then continue; fi
  echo "building $name into $dir"
  nice -n 10 go build -trimpath -ldflags "$flags" -o "$dir/$name" "./cmd/$name"
  echo "$stamp" >"$dir/$name.stamp"
done
