"""`restore` and `apply`: whole or not at all."""

import asyncio
import fcntl
import hashlib
import json
import os
import pickle
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

import evbackup
from evbackup import Backup
from support import BLOCKS

Command = Callable[..., tuple[int, str, str]]


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_full_backup_comes_back(full: Backup, sample: Path, tmp_path: Path) -> None:
    restored = evbackup.restore(full, tmp_path / "store", engine="rocksdb")
    assert (restored.path, restored.engine, restored.dry_run) == (tmp_path / "store", "rocksdb", False)
    assert (restored.entries, restored.complete_height, restored.replaced) == (full.entries, BLOCKS, None)
    assert evbackup.digest(restored.path) == evbackup.digest(sample)
    assert entries(tmp_path) == ["store"]
    assert restored.path.stat().st_mode & 0o777 == 0o700


def test_a_chain_comes_back_in_any_order_and_with_doubles(chain: list[Backup], tmp_path: Path) -> None:
    evbackup.restore([*reversed(chain), chain[1]], tmp_path / "store", engine="rocksdb")
    assert evbackup.digest(tmp_path / "store") == evbackup.digest(tmp_path / "growing") == evbackup.digest(chain)


def test_a_plan_writes_nothing(full: Backup, tmp_path: Path) -> None:
    plan = evbackup.restore(full, tmp_path / "store", engine="rocksdb", dry_run=True)
    assert plan.dry_run
    assert plan.entries == full.entries
    assert entries(tmp_path) == []


@pytest.mark.parametrize("engine", ["badger", "rocksdb"])
def test_a_manifest_that_does_not_tell_of_all_entries_is_refused(
    full: Backup, tmp_path: Path, engine: Literal["badger", "rocksdb"]
) -> None:
    """A reading by the manifest goes where it says that the runs lie; its digest is right all the same."""
    assert full.path is not None
    text = json.loads(Path(f"{full.path}.json").read_text())
    cut = max(text["pieces"], key=lambda piece: piece["bytes"])
    assert cut["bytes"] > 1000
    half = (tmp_path / "half.badger", tmp_path / "half.badger.json")
    half[0].write_bytes(full.path.read_bytes())
    text["pieces"].remove(cut)
    del text["manifest_sha256"]
    # The digest covers every byte before its own line.
    told = json.dumps(text, indent=2).removesuffix("\n}") + ",\n"
    digest = hashlib.sha256(told.encode()).hexdigest()
    half[1].write_text(f'{told}  "manifest_sha256": "{digest}"\n}}\n')
    with pytest.raises(evbackup.DamagedError, match="entries in its runs"):
        evbackup.restore(half[0], tmp_path / "made", engine=engine)
    assert not (tmp_path / "made").exists()


def with_another_byte(segment: Backup, key: str, target: Path) -> Path:
    """A copy with its manifest, in which one byte of a value has changed."""
    assert segment.path is not None
    with evbackup.open(segment) as opened:
        found = opened.get(key)
    assert found is not None
    data = bytearray(segment.path.read_bytes())
    at = data.index(found.value)
    data[at + len(found.value) // 2] ^= 1
    target.write_bytes(data)
    Path(f"{target}.json").write_bytes(Path(f"{segment.path}.json").read_bytes())
    return target


@pytest.mark.parametrize("engine", ["badger", "rocksdb"])
def test_a_byte_that_has_changed_is_told_and_what_was_there_stays(
    full: Backup, chain: list[Backup], tmp_path: Path, engine: Literal["badger", "rocksdb"]
) -> None:
    """Counts and order are right: only the digest is not, and it is known when everything was written."""
    segment = with_another_byte(full, "/0/d/7", tmp_path / "rotten.badger")
    old = evbackup.restore(chain[0], tmp_path / "made", engine=engine)
    before = evbackup.digest(old.path, offline=True)
    with pytest.raises(evbackup.DamagedError) as caught:
        evbackup.restore(segment, tmp_path / "made", engine=engine, overwrite=True)
    assert caught.value.path == segment
    assert caught.value.offset is not None
    assert evbackup.digest(old.path, offline=True) == before
    assert not [name for name in entries(tmp_path) if "part" in name or "replaced" in name]


def test_a_byte_that_has_changed_is_no_reuse_of_versions(sample: Path, full: Backup, tmp_path: Path) -> None:
    """A segment and its increment may have an entry in common, which then has two values."""
    inc = evbackup.backup(sample, tmp_path / "inc.badger", since=full.complete_version - 20)
    segment = with_another_byte(full, f"/0/d/{BLOCKS}", tmp_path / "rotten.badger")
    with pytest.raises(evbackup.DamagedError) as caught:
        evbackup.restore([segment, inc], tmp_path / "made")
    assert caught.value.path == segment


def test_a_gap_is_refused(chain: list[Backup], tmp_path: Path) -> None:
    with pytest.raises(evbackup.MissingError):
        evbackup.restore([chain[0], chain[2]], tmp_path / "store", engine="rocksdb")
    with pytest.raises(evbackup.MissingError):
        evbackup.restore(chain[1:], tmp_path / "store", engine="rocksdb")
    assert not (tmp_path / "store").exists()


def test_a_foreign_increment_is_refused(chain: list[Backup], full: Backup, tmp_path: Path) -> None:
    with pytest.raises((evbackup.MismatchError, evbackup.MissingError)):
        evbackup.restore([full, chain[1]], tmp_path / "store", engine="rocksdb")
    assert not (tmp_path / "store").exists()


def test_what_is_there_is_kept(full: Backup, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("folder", "file"):
        with pytest.raises(evbackup.ExistsError):
            evbackup.restore(full, tmp_path / name, engine="rocksdb")
        with pytest.raises(evbackup.EvbackupError):
            evbackup.restore(full, tmp_path / name, engine="rocksdb", overwrite=True)
    assert (tmp_path / "folder" / "mine").read_text() == (tmp_path / "file").read_text() == "mine"
    with pytest.raises(evbackup.EvbackupError):
        evbackup.restore(full, "/", engine="rocksdb", overwrite=True)


@pytest.mark.parametrize("keep", [True, False])
def test_a_store_may_be_replaced(full: Backup, chain: list[Backup], tmp_path: Path, *, keep: bool) -> None:
    target = tmp_path / "here" / "store"
    target.parent.mkdir()
    evbackup.restore(chain, target, engine="rocksdb")
    before = evbackup.digest(target)
    replaced = evbackup.restore(full, target, engine="rocksdb", overwrite=True, keep_replaced=keep)
    assert evbackup.digest(target) == evbackup.digest(full)
    if keep:
        assert replaced.replaced is not None
        assert evbackup.digest(replaced.replaced) == before
    else:
        assert replaced.replaced is None
        assert entries(target.parent) == ["store"]


def test_the_owner(full: Backup, tmp_path: Path) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    evbackup.restore(full, tmp_path / "store", engine="rocksdb", owner=me)
    assert (tmp_path / "store").stat().st_uid == os.getuid()
    for owner in ("nobody-of-that-name", f"{me}:no-such-group", "4294967"):
        with pytest.raises(evbackup.InvalidArgument):
            evbackup.restore(full, tmp_path / "other", engine="rocksdb", owner=owner)


def test_an_engine_that_is_none_is_refused(full: Backup, tmp_path: Path) -> None:
    with pytest.raises(evbackup.InvalidArgument, match="engine"):
        evbackup.restore(full, tmp_path / "store", engine="bolt")  # type: ignore[arg-type]


def test_a_node_s_directory_is_the_default(chain: list[Backup], tmp_path: Path) -> None:
    made = evbackup.restore(chain, tmp_path / "db")
    assert (made.engine, made.complete_height, len(made.store_id)) == ("badger", chain[-1].complete_height, 32)
    assert entries(made.path) == ["000001.sst", "KEYREGISTRY", "MANIFEST"]
    assert (made.path / "KEYREGISTRY").read_bytes() == bytes.fromhex(made.store_id) + b"Hello Badger"
    assert evbackup.digest(made.path) == evbackup.digest(chain)
    assert not [name for name in entries(tmp_path) if ".part" in name]


def test_the_history_is_written_when_it_is_asked_for(chain: list[Backup], tmp_path: Path) -> None:
    compact = evbackup.restore(chain, tmp_path / "compact")
    whole = evbackup.restore(chain, tmp_path / "whole", history=True)
    assert whole.entries > compact.entries
    assert whole.last_version == compact.last_version
    assert evbackup.digest(whole.path) == evbackup.digest(compact.path)
    assert evbackup.digest(whole.path, history=True) == evbackup.digest(chain, history=True)


def test_a_datastore_is_a_source_too(chain: list[Backup], tmp_path: Path) -> None:
    store = evbackup.restore(chain, tmp_path / "store", engine="rocksdb").path
    directory = evbackup.restore(store, tmp_path / "directory")
    back = asyncio.run(evbackup.restore_async(directory.path, tmp_path / "back", engine="rocksdb", offline=True))
    assert directory.segments == (store,)
    assert evbackup.digest(back.path) == evbackup.digest(directory.path) == evbackup.digest(store)
    with pytest.raises(evbackup.InvalidArgument, match="directory among others"):
        evbackup.restore([store, tmp_path / "full.badger"], tmp_path / "no")


def test_a_node_that_runs_keeps_its_directory(full: Backup, tmp_path: Path) -> None:
    target = tmp_path / "db"
    evbackup.restore(full, target)
    with pytest.raises(evbackup.ExistsError):
        evbackup.restore(full, target)
    held = os.open(target, os.O_RDONLY)
    try:
        # As Badger holds it.
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(evbackup.LockedError):
            evbackup.restore(full, target, overwrite=True)
        with pytest.raises(evbackup.LockedError):
            evbackup.restore(target, tmp_path / "copy", offline=True)
    finally:
        os.close(held)
    assert entries(tmp_path) == ["db"]
    with pytest.raises(evbackup.ExistsError, match="of engine rocksdb, found one of badger"):
        evbackup.restore(full, target, engine="rocksdb", overwrite=True)
    assert evbackup.restore(full, target, overwrite=True).replaced is not None


def test_increments_are_applied(chain: list[Backup], tmp_path: Path) -> None:
    store = tmp_path / "store"
    evbackup.restore(chain[0], store, engine="rocksdb")
    with pytest.raises(evbackup.MissingError):
        evbackup.apply(chain[2], store)
    applied = evbackup.apply(chain[1:], store)
    assert applied.segments == tuple(one.path for one in chain[1:])
    assert evbackup.digest(store) == evbackup.digest(chain)
    assert evbackup.apply(chain[1:], store).segments == ()


def test_the_twins(chain: list[Backup], tmp_path: Path) -> None:
    async def work() -> None:
        await evbackup.restore_async(chain[0], tmp_path / "store", engine="rocksdb")
        await evbackup.apply_async(chain[1:], tmp_path / "store")

    asyncio.run(work())
    assert evbackup.digest(tmp_path / "store") == evbackup.digest(chain)


@pytest.mark.parametrize("engine", ["badger", "rocksdb"])
def test_a_chain_is_cut_at_a_height(chain: list[Backup], tmp_path: Path, engine: Literal["badger", "rocksdb"]) -> None:
    for height, needed in ((1, 1), (30, 1), (31, 2), (49, 3)):
        plan = evbackup.restore(chain, tmp_path / "no", engine=engine, at_height=height, dry_run=True)
        made = evbackup.restore(chain, tmp_path / f"{height}", engine=engine, at_height=height, role="follower")
        assert (made.cut_height, made.tip_height, made.complete_height) == (height, height, height)
        assert made.segments == tuple(one.path for one in chain[:needed])
        assert (plan.changes, plan.cut_height, plan.tip_height) == (made.changes, height, height)
        with evbackup.open(made.path) as datastore:
            assert datastore.get(f"/0/h/{height}") is not None
            assert datastore.get(f"/0/h/{height + 1}") is None
    assert entries(tmp_path).count("no") == 0


def test_a_cut_says_what_it_changed_and_what_is_to_be_done(chain: list[Backup], tmp_path: Path) -> None:
    cut = evbackup.restore(chain, tmp_path / "db", at_height=35, role="aggregator")
    assert {change.family for change in cut.changes} >= {"tip", "headers", "data", "signatures", "states", "index"}
    tip = next(change for change in cut.changes if change.family == "tip")
    assert (tip.action, tip.entries, tip.keys, tip.why) == ("rewritten", 1, ("/0/t",), "the tip was 40 and is 35")
    assert repr(tip).startswith("<Change tip: 1 rewritten")
    assert any(danger.startswith("double production") for danger in cut.dangers)
    assert any(step.startswith("signer") for step in cut.next_steps)
    assert pickle.loads(pickle.dumps(cut)) == cut
    assert json.loads(json.dumps(cut.as_dict()))["changes"][0]["family"] == "tip"
    follower = evbackup.restore(chain, tmp_path / "follower", at_height=35, role="follower")
    assert not any(step.startswith("signer") for step in follower.next_steps)


def test_the_tip_is_the_source_byte_for_byte(chain: list[Backup], tmp_path: Path) -> None:
    made = evbackup.restore(chain, tmp_path / "db", at_height=50)
    assert made.changes == ()
    assert evbackup.digest(tmp_path / "db") == evbackup.digest(chain)


def test_a_height_that_is_not_there_is_refused_with_those_that_are(chain: list[Backup], tmp_path: Path) -> None:
    growing = tmp_path / "growing"
    sources: list[tuple[Any, Path | None]] = [(chain, chain[-1].path), (growing, growing)]
    for source, place in sources:
        with pytest.raises(evbackup.InvalidArgument, match="expected a height within 1 to 50, found 51") as caught:
            evbackup.restore(source, tmp_path / "db", at_height=51)
        assert caught.value.path == place
    with pytest.raises(evbackup.InvalidArgument, match="role"):
        evbackup.restore(chain, tmp_path / "db", at_height=40, role="king")  # type: ignore[arg-type]
    with pytest.raises(evbackup.InvalidArgument, match="history"):
        evbackup.restore(chain, tmp_path / "db", at_height=40, history=True)
    assert not (tmp_path / "db").exists()


def test_another_chain_than_the_trusted_one_is_refused_with_its_place(chain: list[Backup], tmp_path: Path) -> None:
    growing = tmp_path / "growing"
    for height, segment in ((7, chain[0]), (30, chain[0]), (31, chain[1]), (44, chain[2])):
        sources: list[tuple[Any, Path | None]] = [(chain, segment.path), (growing, growing)]
        for source, place in sources:
            for more in ({}, {"dry_run": True}, {"at_height": 45, "role": "follower"}):
                with pytest.raises(evbackup.MismatchError, match="expected hash abab") as caught:
                    evbackup.restore(source, tmp_path / "db", trusted=(height, "ab" * 32), **more)
                assert caught.value.path == place
    assert not (tmp_path / "db").exists()


@pytest.mark.parametrize("stripped", [[2], [1, 2], [0, 1, 2]], ids=["last", "increments", "all"])
def test_a_chain_without_manifests_at_its_end_has_all_its_heights(
    chain: list[Backup], tmp_path: Path, stripped: list[int]
) -> None:
    paths = [Path(one) for one in chain]
    for number in stripped:
        Path(f"{paths[number]}.json").unlink()
    assert evbackup.verify(paths).complete_height == 50
    with evbackup.open(paths) as opened:
        assert opened.heights == range(1, 51)
    for engine in ("badger", "rocksdb"):
        made = evbackup.restore(paths, tmp_path / engine, engine=engine)
        assert (made.tip_height, made.complete_height) == (50, 50)
    for height in (30, 31, 41, 49, 50):
        made = evbackup.restore(paths, tmp_path / f"{height}", at_height=height)
        assert (made.cut_height, made.tip_height) == (height, height)
        assert evbackup.align(paths, el_height=height).at_height == height
    with pytest.raises(evbackup.InvalidArgument, match="expected a height within 1 to 50, found 51"):
        evbackup.restore(paths, tmp_path / "no", at_height=51)


def test_the_queue_stays_goes_or_grows(chain: list[Backup], tmp_path: Path) -> None:
    def queued(path: Path) -> int:
        with evbackup.open(path) as datastore:
            return sum(1 for _ in datastore.prefix("/batches/"))

    kept = evbackup.restore(chain, tmp_path / "kept", at_height=45)
    dropped = evbackup.restore(chain, tmp_path / "dropped", at_height=45, drop_queue=True)
    requeued = asyncio.run(evbackup.restore_async(chain, tmp_path / "requeued", at_height=45, requeue=True))
    # Each block of the sample has a transaction, and an entry of the queue is left.
    assert [queued(made.path) for made in (kept, dropped, requeued)] == [1, 0, 6]


def test_the_command_line_cuts(chain: list[Backup], tmp_path: Path, command: Command) -> None:
    segments = [one.path for one in chain]
    code, out, _ = command(
        "restore", *segments, "--to", tmp_path / "db", "--at-height", 40, "--role", "follower", "--json"
    )
    assert (code, json.loads(out)["cut_height"]) == (0, 40)
    code, out, _ = command("restore", *segments, "--to", tmp_path / "no", "--at-height", 45, "--dry-run", "--requeue")
    assert code == 0
    assert "family headers, action dropped" in out
    code, _, err = command("restore", *segments, "--to", tmp_path / "no", "--at-height", 51, "--drop-queue", "--force")
    assert code == evbackup.InvalidArgument.exit_code
    assert "within 1 to 50" in err
