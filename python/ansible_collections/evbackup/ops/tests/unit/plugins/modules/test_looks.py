# Copyright (c) the evbackup authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest

import evbackup
from ansible_collections.evbackup.ops.plugins.modules import (
    align,
    backup,
    datastore_info,
    restore,
    segment_info,
    verify,
)


def test_a_sound_chain(run, segments):
    for check in (True, False):
        result = run(verify, check=check, paths=segments)
        assert result["changed"] is False
        assert result["report"]["ok"] is True
        assert result["report"]["segments"] == segments


def test_a_folder_stands_for_its_newest_chain(run, folder):
    assert len(run(verify, paths=[str(folder)])["report"]["segments"]) == 2


def cut(segments, folder):
    """A copy of the full segment that lacks its last bytes."""
    for suffix in ("", ".json", ".keys"):
        shutil.copy(segments[0] + suffix, folder / ("cut.badger" + suffix))
    content = (folder / "cut.badger").read_bytes()
    (folder / "cut.badger").write_bytes(content[:-3])
    return str(folder / "cut.badger")


def test_damage_is_a_failure_with_the_report(run, segments, tmp_path):
    damaged = cut(segments, tmp_path)
    result = run(verify, paths=[damaged])
    assert (result["failed"], result["changed"], result["code"]) == (True, False, "damaged")
    assert result["report"]["ok"] is False
    assert result["report"]["findings"]
    assert damaged in result["msg"]
    assert "Traceback" not in json.dumps(result)
    looked = run(verify, paths=[damaged], fail_on_findings=False)
    assert "failed" not in looked
    assert looked["report"]["ok"] is False


def test_warnings_count_when_they_shall(run, segments, tmp_path):
    shutil.copy(segments[0], tmp_path / "bare.badger")
    assert run(verify, paths=[str(tmp_path / "bare.badger")])["report"]["ok"] is True
    assert run(verify, paths=[str(tmp_path / "bare.badger")], strict=True)["code"] == "damaged"


def test_what_is_not_there(run):
    for module, arguments in (
        (verify, dict(paths=["/nowhere"])),
        (segment_info, dict(path="/nowhere")),
        (datastore_info, dict(path="/nowhere")),
    ):
        result = run(module, **arguments)
        assert (result["failed"], result["changed"], result["code"]) == (True, False, "missing")


def test_a_segment(run, segments):
    result = run(segment_info, path=segments[0])
    assert result["changed"] is False
    assert result["segments"] == [result["newest"]]
    assert result["newest"]["sha256"] == evbackup.inspect(segments[0]).sha256
    assert result["chain"] == segments[:1]
    assert result["age"] >= 0


def test_a_folder(run, folder):
    result = run(segment_info, path=str(folder))
    assert [segment["kind"] for segment in result["segments"]] == ["full", "inc"]
    assert len(result["chain"]) == 2
    (folder / "lost").mkdir()
    shutil.move(result["chain"][0], folder / "lost")
    assert run(segment_info, path=str(folder))["chain"] == []
    assert run(segment_info, path=str(folder / "lost"))["segments"][0]["has_manifest"] is False


def test_a_datastore(run, store):
    result = run(datastore_info, path=str(store), digest=True)
    assert result["changed"] is False
    assert result["datastore"]["engine"] == "rocksdb"
    assert result["digest"] == evbackup.digest(store)
    assert "digest" not in run(datastore_info, path=str(store))


def test_a_segment_is_no_datastore(run, segments):
    result = run(datastore_info, path=segments[0])
    assert result["code"] == "invalid-argument"
    assert result["msg"].endswith("use segment_info")


def test_where_a_backup_fits_the_execution_layer(run, segments, folder, store):
    for paths in (segments, [str(folder)], [str(store)]):
        result = run(align, paths=paths, el_height=20)
        assert (result["changed"], result["alignment"]["at_height"]) == (False, 20)
    said = evbackup.align(segments, el_height=20)
    given = dict(el_height=20, el_timestamp=said.timestamp, el_state_root=said.state_root)
    assert run(align, paths=segments, **given)["alignment"]["compared"] == ["timestamp", "state_root"]
    other = run(align, paths=segments, **dict(given, el_timestamp=said.timestamp + 1))
    assert (other["failed"], other["changed"], other["code"]) == (True, False, "mismatch")
    assert run(align, paths=segments, el_height=10_000)["code"] == "mismatch"
    assert run(align, paths=segments, el_height=20, el_state_root="beef")["code"] == "invalid-argument"


def test_a_store_is_proven(run, store, tmp_path):
    evbackup.restore(store, tmp_path / "directory")
    for path in (store, tmp_path / "directory"):
        report = run(verify, paths=[str(path)])["report"]
        assert (report["ok"], report["paths"]) == (True, [str(path)])
        assert report["chain"]["tip"] == 60


def test_a_node_is_held_against_its_backup(run, server, segments, folder, store):
    for against in (None, segments, [str(folder)], [str(store)]):
        result = run(verify, paths=["http://%s" % server], against=against, sample=5)
        assert (result["report"]["ok"], result["report"]["paths"]) == (True, [])
    assert run(verify, paths=[server])["report"]["ok"] is True
    assert run(verify, paths=["127.0.0.1:1"], connect_timeout=5)["code"] == "unavailable"
    assert run(verify, paths=segments, against=segments)["code"] == "invalid-argument"


def test_how_to_reach_a_node_does_not_matter_to_a_path(run, segments, monkeypatch):
    monkeypatch.setenv("EVBACKUP_TOKEN", "a token")
    assert run(verify, paths=segments[:1])["report"]["ok"] is True
    assert run(verify, paths=["/nowhere"])["code"] == "missing"


def test_how_a_node_is_reached(run, segments, tmp_path, monkeypatch):
    seen = []

    def look(paths, **options):
        seen.append((paths, options))
        raise evbackup.IoError("seen")

    monkeypatch.setattr(evbackup, "verify", look)
    token = tmp_path / "token"
    token.write_text("a token")
    token.chmod(0o600)
    reach = dict(
        token_file=str(token), tls_ca="/ca.pem", headers={"a": 1}, insecure=True, connect_timeout=1, idle_timeout=2
    )
    run(verify, paths=["https://node:7331"], **reach)
    run(verify, paths=segments, **dict(reach, token_file="/nowhere"))
    paths, options = seen[0]
    assert (paths, options["token"], options["tls"].ca) == ("https://node:7331", "a token", "/ca.pem")
    assert (options["headers"], options["insecure"]) == ({"a": "1"}, True)
    assert (options["connect_timeout_s"], options["idle_timeout_s"]) == (1, 2)
    # Nobody is reached for a file.
    assert (seen[1][0], "token" in seen[1][1]) == (segments, False)


def test_what_is_known_of_the_blocks(run, segments, tmp_path):
    with evbackup.open(segments) as chain:
        good = chain.block(20)
    said = evbackup.align(segments, el_height=20)
    given = dict(
        trusted=dict(height=20, hash=good.hash.hex()),
        signatures="unverified",
        was_based=True,
        el_height=20,
        el_timestamp=said.timestamp,
        el_state_root=said.state_root,
    )
    report = run(verify, paths=segments, **given)["report"]
    assert (report["ok"], report["chain"]["signatures"]) == (True, 0)
    assert run(verify, paths=segments)["report"]["chain"]["signatures"] > 0
    for wrong in (
        dict(trusted=dict(height=20, hash="00" * 32)),
        dict(el_height=20, el_timestamp=said.timestamp + 1),
        dict(el_height=20, el_state_root="00" * 32),
    ):
        assert run(verify, paths=segments, **wrong)["code"] in ("damaged", "mismatch")
    assert run(verify, paths=segments, genesis=str(tmp_path / "no.json"))["code"] == "missing"


def test_a_datastore_is_counted_when_asked(run, store):
    assert run(datastore_info, path=str(store))["datastore"]["chain"]["families"] is None
    assert run(datastore_info, path=str(store), count=True)["datastore"]["chain"]["families"]


def test_the_digest_of_a_version(run, store):
    for which in (dict(at=40), dict(history=True), dict(now=1), dict(at=40, history=True)):
        assert run(datastore_info, path=str(store), digest=True, **which)["digest"] == evbackup.digest(store, **which)
    assert evbackup.digest(store, at=40) != evbackup.digest(store)


@pytest.mark.parametrize("module", [align, datastore_info])
def test_how_a_directory_is_read(run, store, module, monkeypatch):
    seen = []

    def look(*_args, **options):
        seen.append(options)
        raise evbackup.IoError("seen")

    verb = "align" if module is align else "inspect"
    given = dict(path=str(store)) if verb == "inspect" else dict(paths=[str(store)], el_height=20)
    monkeypatch.setattr(evbackup, verb, look)
    reading = dict(offline=True, staging="/tmp", any_file_system=True, max_rate=1000)
    run(module, **reading, **given)
    assert seen[0].items() >= reading.items()


def test_what_kind_of_folder_it_is_is_seen_quickly(run, store, folder, monkeypatch):
    counted = []
    inspect = evbackup.inspect

    def look(path, *, count=True, **options):
        counted.append(count)
        return inspect(path, count=count, **options)

    monkeypatch.setattr(evbackup, "inspect", look)
    run(align, paths=[str(store)], el_height=20)
    assert counted == [False]


@pytest.mark.parametrize("module", [verify, align, restore])
def test_a_folder_without_a_chain(run, tmp_path, module):
    more = {"align": dict(el_height=1), "restore": dict(dest=str(tmp_path / "copy"))}
    (tmp_path / "empty").mkdir()
    result = run(module, paths=[str(tmp_path / "empty")], **more.get(module.__name__.rpartition(".")[2], {}))
    assert result["code"] == "missing"
    assert "expected a datastore, or a full segment" in result["msg"]


@pytest.mark.parametrize(
    ("module", "number"),
    [
        (restore, dict(at_height=-1)),
        (restore, dict(max_rate=-1)),
        (restore, dict(memory_mib=-1)),
        (restore, dict(trusted=dict(height=-1, hash="00" * 32))),
        (backup, dict(max_rate=-1)),
        (backup, dict(target_height=-1)),
        (backup, dict(connect_timeout=-1.0)),
        (verify, dict(el_height=-1)),
        (verify, dict(trusted=dict(height=1 << 70, hash="00" * 32))),
        (align, dict(el_height=-1)),
        (align, dict(max_rate=-1)),
        (datastore_info, dict(max_rate=-1)),
        (datastore_info, dict(at=-1, digest=True)),
        (datastore_info, dict(now=-1, digest=True)),
    ],
)
def test_a_number_that_cannot_be_meant(run, store, server, tmp_path, tree, module, number):
    name = module.__name__.rpartition(".")[2]
    given = {
        "restore": dict(paths=[str(store)], dest=str(tmp_path / "copy"), engine="rocksdb"),
        "backup": dict(addr=server, path=str(tmp_path / "full.badger")),
        "verify": dict(paths=[str(store)]),
        "align": dict(paths=[str(store)], el_height=20),
        "datastore_info": dict(path=str(store)),
    }[name]
    result = run(module, **dict(given, **number))
    assert (result["failed"], result["changed"]) == (True, False)
    assert result["msg"]
    assert tree(tmp_path) == {}


def test_what_may_not_be_looked_at(run, store, tmp_path, monkeypatch):
    (tmp_path / "backups").mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path) == str(tmp_path / "backups"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    given = dict(addr=str(store), path=str(tmp_path / "backups"), since="auto")
    monkeypatch.setattr(os, "scandir", refuse)
    result = run(backup, **given)
    assert (result["failed"], result["changed"]) == (True, False)
    assert "Permission denied" in result["msg"]
    assert "Permission denied" in run(segment_info, path=given["path"])["msg"]
    monkeypatch.setattr(os, "scandir", scandir)

    def half(*_args, **_options):
        monkeypatch.setattr(os, "scandir", refuse)
        raise evbackup.IoError("the disk went away")

    monkeypatch.setattr(evbackup, "backup", half)
    # Nobody can say any more that it is as it was.
    assert run(backup, **given)["changed"] is True


def test_a_token_that_is_no_text(run, tmp_path):
    secret = tmp_path / "token"
    secret.write_bytes(b"\xff\xfe secret")
    secret.chmod(0o600)
    result = run(backup, addr="127.0.0.1:1", path=str(tmp_path / "a.badger"), token_file=str(secret))
    assert (result["failed"], result["changed"], result["code"]) == (True, False, "invalid-argument")
    assert result["msg"] == "%s: expected a token in UTF-8, found other bytes" % secret
