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


def test_a_cut_with_the_history_is_refused_the_second_time_as_well(run, segments, tmp_path):
    dest = tmp_path / "node"
    given = dict(compare="height", at_height=40)
    both = dict(given, history=True)
    failed = run(restore, **arguments(segments, dest, **both))
    assert failed["code"] == "invalid-argument"
    assert run(restore, **arguments(segments, dest, **given))["changed"] is True
    assert run(restore, **arguments(segments, dest, **given))["changed"] is False
    for check in (False, True):
        assert run(restore, check=check, **arguments(segments, dest, **both))["code"] == failed["code"]


def test_was_based_with_nothing_known_is_refused_the_second_time_as_well(run, segments, tmp_path):
    dest = tmp_path / "copy"
    failed = run(restore, **arguments(segments, dest, was_based=True))
    assert failed["code"] == "invalid-argument"
    run(restore, **arguments(segments, dest))
    for check in (True, False):
        assert run(restore, check=check, **arguments(segments, dest, was_based=True))["code"] == failed["code"]


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


CUT = dict(engine="badger", at_height=30, overwrite=True, keep_replaced=False)


@pytest.mark.parametrize(
    ("compare", "before", "after"),
    [
        ("digest", dict(role="follower"), dict(role="aggregator", drop_queue=True)),
        ("height", dict(role="follower"), dict(role="aggregator", drop_queue=True)),
        ("digest", dict(drop_queue=True), dict()),
        ("digest", dict(), dict(drop_queue=True)),
        ("height", dict(), dict(drop_queue=True)),
        ("digest", dict(drop_queue=True), dict(requeue=True)),
    ],
)
def test_another_cut_at_the_same_height_is_another_datastore(run, segments, tmp_path, compare, before, after):
    given = dict(paths=segments, dest=str(tmp_path / "cut"), compare=compare, **CUT)
    run(restore, **given, **before)
    held = evbackup.digest(tmp_path / "cut", offline=True)
    for check in (True, False):
        again = run(restore, check=check, **given, **after)
        assert again["changed"] is True, again
    assert evbackup.digest(tmp_path / "cut", offline=True) != held


@pytest.mark.parametrize(
    "options", [dict(), dict(role="aggregator"), dict(drop_queue=True), dict(role="follower", force=True)]
)
@pytest.mark.parametrize("engine", ["badger", "rocksdb"])
@pytest.mark.parametrize("compare", ["digest", "height"])
def test_the_same_cut_twice(run, segments, tmp_path, tree, options, engine, compare):
    given = dict(paths=segments, dest=str(tmp_path / "cut"), compare=compare, **dict(CUT, engine=engine), **options)
    assert run(restore, **given)["changed"] is True
    before = sorted(path.name for path in tmp_path.iterdir())
    for check in (True, False):
        again = run(restore, check=check, **given)
        assert (again["changed"], again["datastore"]["tip_height"]) == (False, 30)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_what_was_queued_again_is_not_known(run, segments, tmp_path):
    given = dict(paths=segments, dest=str(tmp_path / "cut"), engine="badger", requeue=True)
    run(restore, at_height=30, **given)
    assert run(restore, at_height=30, **given)["code"] == "exists"
    given.update(dest=str(tmp_path / "whole"))
    run(restore, at_height=60, **given)
    assert run(restore, at_height=60, **given)["changed"] is False


def test_what_a_node_has_added_is_not_the_cut(run, segments, tmp_path):
    dest = str(tmp_path / "cut")
    run(restore, paths=segments, dest=dest, **dict(CUT, at_height=31))
    assert run(restore, check=True, paths=segments, dest=dest, **CUT)["changed"] is True


def test_all_versions_are_asked_for(run, segments, tmp_path):
    given = dict(paths=segments, dest=str(tmp_path / "copy"), engine="badger")
    run(restore, **given)
    assert run(restore, history=True, **given)["code"] == "exists"
    assert run(restore, history=True, overwrite=True, **given)["changed"] is True
    for more in (dict(history=True), dict()):
        assert run(restore, **more, **given)["changed"] is False


@pytest.mark.parametrize("engine", ["badger", "rocksdb"])
@pytest.mark.parametrize("compare", ["digest", "height"])
def test_a_torn_chain_and_a_second_one(run, torn, tmp_path, engine, compare):
    given = dict(paths=[torn], dest=str(tmp_path / "copy"), engine=engine, compare=compare)
    made = run(restore, **given)
    assert made["restored"]["cut_height"] == (35 if engine == "badger" else None)
    again = run(restore, **given)
    assert (again["changed"], again["datastore"]["tip_height"]) == (False, 35)


def test_a_torn_chain_is_another_than_one_that_is_cut_lower(run, torn, tmp_path):
    given = dict(paths=[torn], dest=str(tmp_path / "copy"), engine="badger")
    run(restore, at_height=34, **given)
    assert run(restore, **given)["code"] == "exists"


def test_a_torn_chain_with_all_versions_is_never_known_to_be_there(run, torn, tmp_path):
    given = dict(paths=[torn], dest=str(tmp_path / "copy"), engine="badger", history=True)
    run(restore, **given)
    assert run(restore, **given)["code"] == "exists"


def test_a_datastore_is_copied(run, store, segments, tmp_path):
    given = dict(paths=[str(store)], dest=str(tmp_path / "copy"), engine="badger")
    assert run(restore, check=True, **given)["restored"]["segments"] == [str(store)]
    assert run(restore, **given)["changed"] is True
    assert run(restore, **given)["changed"] is False
    back = dict(paths=[str(tmp_path / "copy")], dest=str(tmp_path / "back"), engine="rocksdb", offline=True)
    assert run(restore, **back)["changed"] is True
    assert run(restore, compare="height", **back)["changed"] is False
    assert evbackup.digest(tmp_path / "back") == evbackup.digest(store)


def test_how_a_directory_is_read(run, segments, tmp_path, monkeypatch):
    seen = []

    def look(paths, dest, **options):
        seen.append(options)
        raise evbackup.IoError("seen")

    monkeypatch.setattr(evbackup, "restore", look)
    reading = dict(offline=True, staging=str(tmp_path), any_file_system=True, max_rate=1000)
    run(restore, paths=segments, dest=str(tmp_path / "copy"), **reading)
    assert seen[0].items() >= reading.items()


def test_the_blocks_must_be_those_that_are_known(run, segments, tmp_path):
    with evbackup.open(segments) as chain:
        known = dict(height=20, hash=chain.block(20).hash.hex())
    given = dict(paths=segments, dest=str(tmp_path / "copy"), engine="badger")
    other = dict(known, hash="00" * 32)
    for check in (True, False):
        assert run(restore, check=check, trusted=other, **given)["code"] == "mismatch"
    assert not (tmp_path / "copy").exists()
    assert run(restore, trusted=known, **given)["changed"] is True
    assert run(restore, trusted=known, **given)["changed"] is False
    assert run(restore, trusted=other, **given)["code"] == "mismatch"
    assert run(restore, genesis=str(tmp_path / "no.json"), **given)["code"] == "missing"


def test_to_compare_heights_is_quick(run, segments, tmp_path, monkeypatch):
    given = dict(paths=segments, dest=str(tmp_path / "copy"), engine="rocksdb", compare="height")
    run(restore, **given)
    counted = []
    inspect = evbackup.inspect

    def look(path, *, count=True, **options):
        counted.append(count)
        return inspect(path, count=count, **options)

    monkeypatch.setattr(evbackup, "inspect", look)
    for name in ("digest", "restore", "align"):
        monkeypatch.setattr(evbackup, name, None)
    assert run(restore, **given)["changed"] is False
    assert run(restore, at_height=60, **given)["changed"] is False
    assert counted
    assert not any(counted)
