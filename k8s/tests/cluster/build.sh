#!/usr/bin/env bash
# Builds a control plane from its Go modules, once: etcd, the API server, the controllers and the scheduler of Kubernetes, and
# kwok, which plays the nodes. Some ten minutes on two cores.
#
#   k8s/tests/cluster/build.sh OUT v1.34.4
set -euo pipefail

out=$1 kubernetes=$2
etcd=v3.6.13 kwok=v0.8.0
mkdir -p "$out/bin" "$out/stages"
GOBIN=$(cd "$out/bin" && pwd)
export GOBIN

has() { [ -x "$GOBIN/$1" ]; }

# As a dependency: its own module cannot be installed from outside, it replaces others by directories beside it.
if ! has etcd; then
    mkdir -p "$out/etcd"
    cat > "$out/etcd/go.mod" <<EOF
module etcd
go 1.26
require go.etcd.io/etcd/server/v3 $etcd
EOF
    cat > "$out/etcd/main.go" <<'EOF'
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
EOF
    (cd "$out/etcd" && go mod tidy && go build -trimpath -ldflags "-s -w" -o "$GOBIN/etcd" .)
fi

if ! has kube-scheduler; then
    mkdir -p "$out/kubernetes"
    module=$(go mod download -json "k8s.io/kubernetes@$kubernetes" | sed -n 's/^\t"GoMod": "\(.*\)",\?$/\1/p')
    {
        printf 'module kubernetes\ngo 1.26\nrequire k8s.io/kubernetes %s\nreplace (\n' "$kubernetes"
        # What it takes from its own tree has no version there: the published ones are v0 of the same.
        sed -n 's/^\s*\(k8s\.io\/\S*\) v0\.0\.0$/\1 => \1 v0'"${kubernetes#v1}"'/p' "$module"
        printf ')\n'
    } > "$out/kubernetes/go.mod"
    cat > "$out/kubernetes/tools.go" <<'EOF'
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
)
EOF
    version=k8s.io/component-base/version
    (
        cd "$out/kubernetes" && go mod tidy
        # The scheduler last: it tells that all are there.
        for command in kube-apiserver kube-controller-manager kube-scheduler; do
            go build -trimpath -ldflags "-s -w -X $version.gitVersion=$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=$(cut -d. -f2 <<< "$kubernetes")" \
                -o "$GOBIN/$command" "k8s.io/kubernetes/cmd/$command"
        done
    )
fi

if ! has kwok; then
    go install -trimpath -ldflags "-s -w" "sigs.k8s.io/kwok/cmd/kwok@$kwok"
fi
stages=$(go mod download -json "sigs.k8s.io/kwok@$kwok" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')/kustomize/stage
cp "$stages"/pod/fast/pod-{ready,complete,delete}.yaml "$stages"/node/fast/node-initialize.yaml "$out/stages"
cp "$stages"/node/heartbeat/node-heartbeat.yaml "$out/stages"
chmod u+w "$out"/stages/*
