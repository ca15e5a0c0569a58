# Copyright (c) the evbackup authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import shutil

import evbackup
from ansible_collections.evbackup.ops.plugins.modules import align, datastore_info, segment_info, verify


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
