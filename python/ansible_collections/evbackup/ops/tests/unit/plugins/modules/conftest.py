# Copyright (c) the evbackup authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the modules stand on: a real store, real segments, and a module run as Ansible runs it."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

import evbackup

BLOCKS = 60


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """A folder with a full segment, an increment, and the store that they are of; nobody writes to it."""
    folder = tmp_path_factory.mktemp("demo")
    program = [sys.executable, "-m", "evbackup", "demo", "--dir", str(folder), "--blocks", str(BLOCKS)]
    subprocess.run(program, check=True, capture_output=True, timeout=120)
    return folder


@pytest.fixture(scope="session")
def store(demo):
    """The store."""
    return demo / "node"


@pytest.fixture(scope="session")
def segments(demo):
    """The full segment and the increment."""
    return [str(demo / "full.badger"), str(demo / "inc1.badger")]


@pytest.fixture
def folder(store, tmp_path):
    """A folder with a full segment and an increment without news."""
    made = tmp_path / "backups"
    made.mkdir()
    evbackup.backup(store, made)
    evbackup.backup(store, made, since="auto")
    return made


@pytest.fixture
def server(store):
    """Serves the store; where."""
    with evbackup.serve(store, "127.0.0.1:0") as running:
        yield running.address


@pytest.fixture
def run(capfd, monkeypatch):
    """Runs a module with arguments; its result, and whether it failed."""
    # What AnsibleModule keeps from one module to the next in a process.
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", None, raising=False)
    for name in [name for name in os.environ if name.startswith("EVBACKUP_")]:
        monkeypatch.delenv(name)

    def with_arguments(module, check=False, diff=False, **arguments):
        given = dict(arguments, _ansible_check_mode=check, _ansible_diff=diff)
        capfd.readouterr()
        with patch_module_args(given), pytest.raises(SystemExit) as ended:
            module.main()
        said = capfd.readouterr()
        assert said.err == ""
        result = json.loads(said.out)
        assert bool(result.get("failed")) == (ended.value.code != 0)
        assert isinstance(result.get("changed", False), bool)
        return result

    return with_arguments


@pytest.fixture
def tree():
    """What is in a folder, to be compared."""

    def look(folder):
        return {
            str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")
        }

    return look


@pytest.fixture
def torn(segments, tmp_path):
    """The full segment as a node that was writing would have given it: whole up to height 35 alone."""
    path = tmp_path / "torn.badger"
    for suffix in ("", ".json", ".keys"):
        shutil.copy(segments[0] + suffix, str(path) + suffix)
    with evbackup.open(path) as segment:
        block = segment.block(35).index_hash.hex()
    reseal(
        path,
        complete_version=35,
        next_since=35,
        complete_height=35,
        block_version=35,
        complete_hash=block,
        pinned=False,
    )
    return str(path)


def reseal(segment, **said):
    """Lets the manifest of a segment say something else."""
    manifest = pathlib.Path("%s.json" % segment)
    content = dict(json.loads(manifest.read_text()), **said)
    del content["manifest_sha256"]
    body = json.dumps(content, indent=2)[:-2] + ",\n"
    digest = hashlib.sha256(body.encode()).hexdigest()
    manifest.write_text(body + '  "manifest_sha256": "%s"\n}\n' % digest)
