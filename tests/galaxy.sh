#!/usr/bin/env bash
# The collection as Galaxy takes it: built with the address of the sources, which only its publisher knows, and read by Galaxy's own importer.
# `make galaxy REPOSITORY=https://…` runs it; the archive is in dist/ then.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bin=$1
repository=${2:-}
[[ $repository == https://* ]] || { echo "expected the address of the sources, such as \`make galaxy REPOSITORY=https://…\`, found '$repository'" >&2; exit 2; }

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export HOME=$folder PATH=$bin:$PATH LC_ALL=C.UTF-8
mkdir -p "$root/dist" "$folder/built"
cp -r "$root/python/ansible_collections/evbackup/ops" "$folder/ops"
printf 'repository: %s\n' "$repository" >> "$folder/ops/galaxy.yml"
ansible-galaxy collection build --output-path "$folder/built" "$folder/ops" > /dev/null
cd "$folder/built"
"$bin/python" -m galaxy_importer.main ./*.tar.gz > importer.log 2>&1 || { tail -30 importer.log; exit 1; }
! grep -E 'WARNING|ERROR' importer.log || exit 1
mv ./*.tar.gz "$root/dist/"
printf 'Galaxy takes %s\n' "$(cd "$root" && ls -t dist/evbackup-ops-*.tar.gz | head -1)"
