# Copyright (c) the evbackup authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path

import pytest

import evbackup
from ansible_collections.evbackup.ops.plugins.module_utils import common
from ansible_collections.evbackup.ops.plugins.modules import backup

TOKEN = "a token of 32 characters, or so.."


def test_a_backup_is_taken(run, server, tmp_path):
    path = tmp_path / "full.badger"
    result = run(backup, addr=server, path=str(path))
    assert result["changed"] is True
    assert result["backup"]["path"] == result["segment"]["path"] == str(path)
    assert "diff" not in result
    evbackup.verify(path).raise_for_findings()


def test_check_mode_touches_nothing_and_asks_nobody(run, tmp_path, tree):
    # Nobody listens there.
    result = run(backup, check=True, diff=True, addr="127.0.0.1:1", path=str(tmp_path / "new") + "/", since="auto")
    assert result["changed"] is True
    assert "a new segment at" in result["diff"]["after"]
    assert tree(tmp_path) == {}


def test_a_second_run_changes_nothing(run, store, tmp_path, tree):
    (tmp_path / "backups").mkdir()
    arguments = dict(addr=str(store), path=str(tmp_path / "backups"), since="auto", max_age="6h")
    first = run(backup, **arguments)
    before = tree(tmp_path)
    for check in (True, False):
        again = run(backup, check=check, **arguments)
        assert again["changed"] is False
        assert again["segment"] == first["segment"]
        assert "backup" not in again
    assert tree(tmp_path) == before


def test_what_is_older_than_max_age_is_continued(run, store, folder):
    result = run(backup, addr=str(store), path=str(folder), since="auto", max_age="0")
    assert result["changed"] is True
    assert result["backup"]["kind"] == "inc"


def test_a_segment_that_is_young_stays(run, store, tmp_path):
    path = str(tmp_path / "full.badger")
    assert run(backup, addr=str(store), path=path, max_age="1d")["changed"] is True
    assert run(backup, addr=str(store), path=path, max_age="1d")["changed"] is False
    failed = run(backup, addr=str(store), path=path)
    assert failed["failed"]
    assert failed["code"] == "exists"
    assert run(backup, check=True, addr=str(store), path=path)["code"] == "exists"
    assert run(backup, addr=str(store), path=path, overwrite=True)["changed"] is True


def test_a_stray_file_is_in_nobodys_way(run, store, folder):
    (folder / "stray.badger").write_text("not a segment")
    assert run(backup, addr=str(store), path=str(folder), since="auto", max_age="6h")["changed"] is False
    assert run(backup, addr=str(store), path=str(folder), since="auto")["changed"] is True


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (dict(addr="127.0.0.1:1"), "unavailable"),
        (dict(addr="/nowhere"), "missing"),
        (dict(addr="http://a@b"), "invalid-argument"),
        (dict(addr="127.0.0.1:1", tls_ca="/nowhere/ca.pem"), None),
    ],
)
def test_a_failure_is_the_librarys_text(run, tmp_path, tree, arguments, code):
    result = run(backup, path=str(tmp_path / "full.badger"), connect_timeout=5, **arguments)
    assert result["failed"] is True
    assert result["changed"] is False
    assert "Traceback" not in json.dumps(result)
    if code is not None:
        assert result["code"] == code
    assert result["msg"]
    assert tree(tmp_path) == {}


def test_a_hint_is_part_of_the_message(run, store, tmp_path):
    result = run(backup, addr=str(store), path=str(tmp_path / "inc.badger"), since="12345678")
    assert result["failed"] is True
    assert result["hint"]
    assert result["msg"].endswith(result["hint"])


def test_changed_tells_the_truth_after_a_failure(run, store, tmp_path, monkeypatch):
    def half(*_args, **_options):
        Path(tmp_path / "full.badger").write_text("written")
        raise evbackup.IoError("the disk went away")

    monkeypatch.setattr(evbackup, "backup", half)
    result = run(backup, addr=str(store), path=str(tmp_path / "full.badger"))
    assert result["failed"] is True
    assert result["changed"] is True


def test_a_token_shows_nowhere(run, store, tmp_path):
    secret = tmp_path / "token"
    secret.write_text(TOKEN + "\n")
    secret.chmod(0o600)
    with evbackup.serve(store, "127.0.0.1:0", token=TOKEN) as server:
        results = [
            run(backup, addr=server.address, path=str(tmp_path / "a.badger"), token=TOKEN),
            run(backup, addr=server.address, path=str(tmp_path / "b.badger"), token_file=str(secret)),
            run(backup, addr=server.address, path=str(tmp_path / "c.badger"), token=TOKEN[::-1]),
            run(backup, addr=server.address, path=str(tmp_path / "d.badger"), token=TOKEN, headers={"x-mine": TOKEN}),
        ]
    assert [bool(result.get("failed")) for result in results] == [False, False, True, False]
    assert results[2]["code"] == "denied"
    for result in results:
        assert TOKEN not in json.dumps(result)
        assert TOKEN[::-1] not in json.dumps(result)


def test_a_token_that_everybody_may_read_is_refused(run, tmp_path):
    secret = tmp_path / "token"
    secret.write_text(TOKEN)
    secret.chmod(0o644)
    for check in (True, False):
        result = run(backup, check=check, addr="127.0.0.1:1", path=str(tmp_path / "a.badger"), token_file=str(secret))
        assert "expected a file that only its owner and group may read, found mode 0644" in result["msg"]


@pytest.mark.parametrize("text", ["soon", "1x", ""])
def test_a_length_of_time_is_one(run, store, folder, text):
    result = run(backup, addr=str(store), path=str(folder), max_age=text)
    assert result["code"] == "invalid-argument"
    assert "expected a length of time such as 90m" in result["msg"]


def test_lengths_of_time():
    assert [common.seconds(text, "x") for text in ("90", "6h", "1d12h", "90m")] == [90, 21600, 129600, 5400]


def test_a_library_that_is_missing(run, monkeypatch):
    monkeypatch.setattr(common, "evbackup", None)
    monkeypatch.setattr(common, "IMPORT_ERROR", "ImportError: no evbackup")
    result = run(backup, addr="a", path="b")
    assert result["failed"] is True
    assert "Failed to import the required Python library (evbackup)" in result["msg"]


def test_a_library_that_is_old(run, monkeypatch):
    monkeypatch.setattr(evbackup, "__version__", "0.0.9")
    result = run(backup, addr="a", path="b")
    assert result["msg"].startswith("expected evbackup 0.1.0 or newer, found 0.0.9")


def test_a_wrong_type_is_ansibles_own_failure(run):
    result = run(backup, addr="a", path="b", target_height="high")
    assert result["failed"] is True
    assert "target_height" in result["msg"]
