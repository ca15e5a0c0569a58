# Copyright (c) the evbackup authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest

import evbackup
from ansible_collections.evbackup.ops.plugins.modules import restore


def arguments(segments, dest, **more):
    return dict(dict(paths=segments, dest=str(dest), engine="rocksdb"), **more)


def test_the_plan_is_check_mode(run, segments, tmp_path, tree):
    result = run(restore, check=True, diff=True, **arguments(segments, tmp_path / "copy"))
    assert result["changed"] is True
    assert result["restored"]["dry_run"] is True
    assert json.loads(result["diff"]["after"])["segments"] == segments
    assert result["diff"]["before"] == ""
    assert tree(tmp_path) == {}


def test_a_restore_and_a_second_one(run, segments, store, tmp_path):
    dest = tmp_path / "copy"
    result = run(restore, **arguments(segments, dest))
    assert result["changed"] is True
    assert result["restored"]["replaced"] is None
    assert evbackup.digest(dest) == evbackup.digest(store)
    for more in (dict(), dict(overwrite=True), dict(compare="height")):
        for check in (True, False):
            again = run(restore, check=check, **arguments(segments, dest, **more))
            assert again["changed"] is False
            assert again["datastore"]["tip_height"] == result["restored"]["tip_height"]
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_a_badger_directory_and_a_second_one(run, segments, store, tmp_path):
    dest = tmp_path / "copy"
    result = run(restore, paths=segments, dest=str(dest))
    assert result["restored"]["engine"] == "badger"
    for more in (dict(), dict(engine="badger"), dict(overwrite=True)):
        again = run(restore, paths=segments, dest=str(dest), **more)
        assert again["changed"] is False
        assert again["datastore"]["engine"] == "badger"
    assert run(restore, **arguments(segments, dest))["code"] == "exists"


def test_a_folder_stands_for_its_newest_chain(run, folder, store, tmp_path):
    result = run(restore, **arguments([str(folder)], tmp_path / "copy"))
    assert len(result["restored"]["segments"]) == 2
    assert evbackup.digest(tmp_path / "copy") == evbackup.digest(store)


def test_other_data_is_replaced_only_when_asked(run, segments, store, tmp_path):
    dest = tmp_path / "copy"
    run(restore, **arguments(segments[:1], dest))
    before = evbackup.digest(dest)
    for check in (True, False):
        failed = run(restore, check=check, **arguments(segments, dest))
        assert failed["code"] == "exists"
        assert failed["changed"] is False
    assert evbackup.digest(dest) == before
    planned = run(restore, check=True, diff=True, **arguments(segments, dest, overwrite=True))
    assert planned["changed"] is True
    assert json.loads(planned["diff"]["before"])["engine"] == "rocksdb"
    assert evbackup.digest(dest) == before
    made = run(restore, **arguments(segments, dest, overwrite=True))
    assert made["changed"] is True
    assert evbackup.digest(made["restored"]["replaced"]) == before
    assert evbackup.digest(dest) == evbackup.digest(store)


def test_never_to_compare_is_to_restore_each_time(run, segments, tmp_path):
    for _time in range(2):
        result = run(restore, **arguments(segments, tmp_path / "copy", compare="never", overwrite=True))
        assert result["changed"] is True


def test_where_nothing_is_said_the_engine_is_the_librarys_choice(run, segments, tmp_path, monkeypatch):
    seen = []

    def look(paths, dest, **options):
        seen.append(options)
        raise evbackup.IoError("seen")

    monkeypatch.setattr(evbackup, "restore", look)
    run(restore, paths=segments, dest=str(tmp_path / "copy"))
    run(restore, **arguments(segments, tmp_path / "copy"))
    assert [options.get("engine") for options in seen] == [None, "rocksdb"]
    assert "engine" not in seen[0]


@pytest.mark.parametrize(
    ("paths", "code"), [(["/nowhere/full.badger"], "missing"), ([1], "missing"), (["/"], "missing")]
)
def test_a_failure_is_the_librarys_text(run, tmp_path, tree, paths, code):
    paths = [str(tmp_path / "empty") if path == "/" else path for path in paths]
    (tmp_path / "empty").mkdir()
    before = tree(tmp_path)
    result = run(restore, **arguments(paths, tmp_path / "copy"))
    assert (result["failed"], result["changed"], result["code"]) == (True, False, code)
    assert "Traceback" not in json.dumps(result)
    assert tree(tmp_path) == before


def test_a_folder_that_is_no_datastore_is_not_replaced(run, segments, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letters").write_text("mine")
    result = run(restore, **arguments(segments, tmp_path / "mine", overwrite=True))
    assert result["code"] == "exists"
    assert (tmp_path / "mine" / "letters").read_text() == "mine"


def test_changed_tells_the_truth_after_a_failure(run, segments, tmp_path, monkeypatch):
    def half(_paths, dest, **_options):
        (tmp_path / "copy").mkdir()
        raise evbackup.IoError("%s: could not be synced" % dest)

    monkeypatch.setattr(evbackup, "restore", half)
    result = run(restore, **arguments(segments, tmp_path / "copy"))
    assert (result["failed"], result["changed"]) == (True, True)


def test_a_cut_at_a_height_and_a_second_one(run, segments, tmp_path):
    given = dict(paths=segments, dest=str(tmp_path / "cut"), engine="badger", at_height=20, role="follower")
    planned = run(restore, check=True, **given)
    assert (planned["changed"], planned["restored"]["cut_height"]) == (True, 20)
    assert not (tmp_path / "cut").exists()
    made = run(restore, **given)
    assert (made["changed"], made["restored"]["tip_height"]) == (True, 20)
    assert run(restore, **given)["changed"] is False
    nowhere = run(restore, paths=segments, dest=str(tmp_path / "no"), at_height=10_000)
    assert (nowhere["failed"], nowhere["changed"], nowhere["code"]) == (True, False, "invalid-argument")
