#!/bin/sh
# Makes the golden files again with real Badger: tests/golden/make.sh [CASE|--dirs|--evnode GENERATION]
# Needs Go. The result differs from run to run (ranges, frames, timing), so
# make only what has to change, and commit it with a reason.
# With --evnode, the published ev-node of that generation (a, b, c, c1, e, f) makes the chain of the cases evnode-GENERATION and
# evnode-GENERATION-follower; compiling it takes minutes the first time.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tool=$(mktemp -d)
trap 'rm -rf "$tool"' EXIT
"$here/../interop/build.sh" "$tool/interop"

evnode() {
	"$here/../interop/generations/build.sh" "$1" "$tool/generation"
	"$tool/generation" --home "$tool/sequencer" --follow "$tool/follower" >"$tool/paper.json"
	"$tool/interop" golden --out "$here" --case "evnode-$1" --from "$tool/sequencer/data/testapp" \
		--written-by "$tool/paper.json" --shows "$2: a sequencer's database"
	"$tool/interop" golden --out "$here" --case "evnode-$1-follower" --from "$tool/follower/data/testapp" \
		--written-by "$tool/paper.json" --shows "$2: the database of a follower that took the same chain from the DA layer"
}

case ${1-} in
--dirs) "$tool/interop" golden --out "$here" --dirs ;;
--evnode)
	case ${2-} in
	a) evnode a "rollkit v1.0.0-beta.2" ;;
	b) evnode b "ev-node v1.0.0-beta.8" ;;
	c) evnode c "ev-node v1.0.0-beta.9" ;;
	c1) evnode c1 "ev-node v1.0.0-rc.1" ;;
	e) evnode e "ev-node v1.1.4" ;;
	f) evnode f "ev-node v1.2.2" ;;
	*)
		echo "error: expected a, b, c, c1, e or f behind --evnode" >&2
		exit 2
		;;
	esac
	;;
*) "$tool/interop" golden --out "$here" ${1:+--case "$1"} ;;
esac
