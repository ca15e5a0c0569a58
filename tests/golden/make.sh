#!/bin/sh
# Makes the golden files again with real Badger: tests/golden/make.sh [CASE|--dirs]
# Needs Go. The result differs from run to run (ranges, frames, timing), so
# make only what has to change, and commit it with a reason.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tool=$(mktemp -d)
trap 'rm -rf "$tool"' EXIT
"$here/../interop/build.sh" "$tool/interop"
case ${1-} in
--dirs) "$tool/interop" golden --out "$here" --dirs ;;
*) "$tool/interop" golden --out "$here" ${1:+--case "$1"} ;;
esac
