#!/bin/sh
# The API server of Kubernetes and its etcd, for tests/deployment/test_chart_on_a_server.py: fifteen minutes of one core
# and 4 GB of Go's cache, so that tools.sh leaves it out. It is built from Kubernetes' own Go modules; what its go.mod
# has beside itself in one repository is replaced by what was released of it.
set -eu
cd "$(dirname "$0")/../.."

RELEASE=36.3 # of Kubernetes 1
TOOLS=$PWD/.onetake/tools
VERSION=k8s.io/component-base/version

say() { printf '%-14s %s\n' kube-apiserver "$*" >&2; }

command -v etcd >/dev/null || apt-get install -y -qq --no-install-recommends etcd-server
mkdir -p "$TOOLS/bin" "$TOOLS/kube-apiserver"
cd "$TOOLS/kube-apiserver"
printf 'module build\n\ngo 1.26.0\n' >go.mod
listed=$(go mod download -json "k8s.io/kubernetes@v1.$RELEASE" | sed -n 's/^.*"GoMod": "\(.*\)",*$/\1/p')
sed -n 's/^[[:space:]]*\(k8s.io\/[a-z-]*\) v0.0.0$/\1/p' "$listed" | sort -u | while read -r part; do
    printf 'replace %s => %s v0.%s\n' "$part" "$part" "$RELEASE"
done >>go.mod
say "building; see go.mod in $PWD"
go get -tool "k8s.io/kubernetes/cmd/kube-apiserver@v1.$RELEASE"
go build -p 1 -o "$TOOLS/bin/kube-apiserver" \
    -ldflags "-s -w -X $VERSION.gitVersion=v1.$RELEASE -X $VERSION.gitMajor=1 -X $VERSION.gitMinor=${RELEASE%.*}" \
    k8s.io/kubernetes/cmd/kube-apiserver
say "ready: $("$TOOLS/bin/kube-apiserver" --version)"
