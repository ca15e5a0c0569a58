#!/bin/sh
# Builds the program with one published ev-node in it: tests/interop/generations/build.sh GENERATION OUT
# GENERATION is a, b, c, c1, e or f: each has a go.mod and a go.sum of its own, and minutes to compile the first time. Go asks no
# checksum database, which does not know every one of these modules: go.*.sum has their hashes.
set -eu
if [ $# -ne 2 ]; then
	echo "usage: tests/interop/generations/build.sh GENERATION OUT" >&2
	exit 2
fi
command -v go >/dev/null || {
	echo "error: Go is missing; install Go 1.25.8 or newer (https://go.dev/dl)" >&2
	exit 10
}
case $2 in /*) out=$2 ;; *) out=$PWD/$2 ;; esac
cd "$(dirname "$0")"
export GOFLAGS=-mod=readonly
go build -buildvcs=false -modfile="go.$1.mod" -tags "$1" -o "$out" .
