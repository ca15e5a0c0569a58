#!/bin/sh
# Builds the peers that really run Badger: tests/interop/build.sh OUT
# OUT has the Badger that ev-node uses, OUT-newest the newest release.
set -eu
if [ $# -ne 1 ]; then
	echo "usage: tests/interop/build.sh OUT" >&2
	exit 2
fi
command -v go >/dev/null || {
	echo "error: Go is missing; install Go 1.24 or newer (https://go.dev/dl)" >&2
	exit 10
}
case $1 in /*) out=$1 ;; *) out=$PWD/$1 ;; esac
cd "$(dirname "$0")"
export CGO_ENABLED=0 GOFLAGS=-mod=readonly
go build -buildvcs=false -trimpath -o "$out" .
go build -buildvcs=false -trimpath -modfile=go.newest.mod -o "$out-newest" .
