#!/bin/sh
# Builds a node out of the released ev-node, and two programs beside it: tests/interop/evnode/build.sh OUT
# OUT is the node, OUT-da the DA layer (`tools/local-da` of the same module), OUT-reads asks and answers the read RPCs.
# go.sum has the hashes of all modules, so Go asks no checksum database, which does not know every one of them
# (github.com/evstack/ev-node/core v1.1.0). Some 500 packages: minutes the first time.
set -eu
if [ $# -ne 1 ]; then
	echo "usage: tests/interop/evnode/build.sh OUT" >&2
	exit 2
fi
command -v go >/dev/null || {
	echo "error: Go is missing; install Go 1.25.8 or newer (https://go.dev/dl)" >&2
	exit 10
}
case $1 in /*) out=$1 ;; *) out=$PWD/$1 ;; esac
cd "$(dirname "$0")"
export GOFLAGS=-mod=readonly
go list -deps . ./reads github.com/evstack/ev-node/tools/local-da >/dev/null || {
	echo "error: the modules of ev-node cannot be had; see above" >&2
	exit 11
}
go build -buildvcs=false -o "$out" .
go build -buildvcs=false -o "$out-da" github.com/evstack/ev-node/tools/local-da
go build -buildvcs=false -o "$out-reads" ./reads
