#!/usr/bin/env bash
# All that Ansible's own tools say of the collection: sanity, integration against a real server and real files, lint, documentation, and the
# build for Galaxy. `make ansible` runs it; the unit tests and the example playbooks run with the other Python tests.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bin=$1
collection=$root/python/ansible_collections/evbackup/ops
version=$("$bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# Everything that the tools keep stays in the virtual environment, and no configuration of the machine counts.
export HOME=$root/.venv/ansible-home
export ANSIBLE_HOME=$HOME/.ansible
export PATH=$bin:$PATH
export LC_ALL=C.UTF-8
unset PYTHONPATH
mkdir -p "$HOME/.ansible/test/cache"
# ansible-test fetches the bootstrap script of pip from a host of its own; Python brings one.
printf 'import ensurepip\n\nensurepip.bootstrap(upgrade=True, default_pip=True)\n' > "$HOME/.ansible/test/cache/get_pip_24_2.py"

step() { printf '\n==> %s\n' "$*"; }

cd "$collection"
trap 'rm -rf "$collection/tests/output" "$HOME/galaxy"' EXIT

step ansible-test sanity
# One that is skipped counts for nothing, so it is said.
ansible-test sanity --venv --python "$version" --color no > "$HOME/sanity.log" 2>&1 || { grep -E '^(ERROR|FATAL|Running)' "$HOME/sanity.log"; exit 1; }
printf '%s tests, %s skipped\n' "$(grep -c '^Running sanity test' "$HOME/sanity.log")" "$(grep -c -i '^WARNING: Skipping' "$HOME/sanity.log" || true)"

step ansible-test integration
ansible-test integration --local --python "$version" --color no > "$HOME/integration.log" 2>&1 || { tail -60 "$HOME/integration.log"; exit 1; }
grep -E '^testhost ' "$HOME/integration.log"
rm -rf tests/output

step ansible-lint
ansible-lint --offline --nocolor -q
(cd "$root/examples/ansible" && ansible-lint --offline --nocolor -q -c "$collection/.ansible-lint" ./*.yml)

step changelog and documentation
antsibull-changelog lint
(cd "$root" && antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck "$collection")

step ansible-galaxy collection build
# Built as it would be published, installed elsewhere, and found there.
mkdir -p "$HOME/galaxy"
ansible-galaxy collection build --force --output-path "$HOME/galaxy" > /dev/null
ansible-galaxy collection install --offline -p "$HOME/galaxy/installed" "$HOME"/galaxy/*.tar.gz > /dev/null
test ! -e "$HOME/galaxy/installed/ansible_collections/evbackup/ops/tests/output"
ANSIBLE_COLLECTIONS_PATH=$HOME/galaxy/installed ansible-doc -l evbackup.ops
printf '\n==> make ansible: all good\n'
