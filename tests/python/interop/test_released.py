"""A released ev-node, which has no Backup RPC, is backed up over the RPCs that it has, and a node starts from what was restored."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

import evbackup
from interop.conftest import Table
from interop.peers import BUILD_S
from interop.real import EvNode, RealNode, database, moved_in

TITLE = "a released ev-node, block by block"
HEADS = ("way", "what", "blocks", "bytes", "blocks/s")

pytestmark = pytest.mark.timeout(BUILD_S + 240)


def manifest(made: evbackup.Backup) -> Any:
    assert made.path is not None
    return json.loads(made.path.with_name(f"{made.path.name}.json").read_text())


def same_blocks(made: list[evbackup.Backup], folder: Path, original: Path, height: int) -> None:
    """What was copied is what a node that has stopped has, but for what the documented RPCs do not say."""
    evbackup.restore(made, folder, engine="rocksdb")
    with evbackup.open(folder) as copied, evbackup.open(original, offline=True) as stored:
        for family in ("h", "d", "c"):
            for number in range(1, height + 1):
                key = f"/0/{family}/{number}"
                one, other = copied.get(key), stored.get(key)
                assert one is not None
                assert other is not None
                assert one.value == other.value, key
        index = [entry.key for entry in stored.prefix(b"/0/i/")]
        assert {entry.key for entry in copied.prefix(b"/0/i/")} <= set(index)


@pytest.mark.parametrize("way", ["blocks", "raw"])
def test_a_released_node_is_copied_and_an_aggregator_goes_on_from_it(
    evnode: EvNode, tmp_path: Path, table: Table, way: str
) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    out.mkdir()
    made: list[evbackup.Backup] = []
    with evnode.aggregator(home, "--block-time", "10ms") as node:
        for number in range(3):
            node.reaches((made[-1].complete_height if made else 0) + 60)
            before = node.tip()
            took = time.monotonic()
            since: Any = made[-1] if made else 0
            made.append(evbackup.backup(node.rpc, out / f"{number}.badger", since, raw=way == "raw"))
            took = time.monotonic() - took
            last = made[-1]
            assert before <= last.complete_height == last.tip_height <= node.tip()
            blocks = last.complete_height - (made[-2].complete_height if number else 0)
            table.row(TITLE, HEADS, (last.via, last.kind, blocks, last.bytes, round(blocks / took)))
        assert [(one.kind, one.via) for one in made] == [(kind, way) for kind in ("full", "inc", "inc")]
        assert any("no Backup RPC" in note for note in made[0].notes)
        assert manifest(made[0])["chain_id"] == "evnode-1"
        assert manifest(made[0])["lacks"] == list(made[0].lacks)
        assert evbackup.verify(made).raise_for_findings().ok
        live = evbackup.verify(node.rpc, against=made).raise_for_findings()
        assert live.complete_height == made[-1].complete_height
        height = made[-1].complete_height
        restored = moved_in(tmp_path / "restored", home)
        evbackup.restore(made, database(restored))
        with evnode.aggregator(restored) as again:
            assert again.ready["began"] == again.ready["replayed"] == height
            for block in (1, height // 2, height):
                found, expected = again.report(block), node.report(block)
                assert [found[name] for name in ("hash", "app_hash")] == [
                    expected[name] for name in ("hash", "app_hash")
                ]
            again.reaches(height + 10)
            # It makes a chain of its own from there on: the first that was copied is not that of the second.
            other = evbackup.verify(again.rpc, against=[*made], sample=10)
            assert other.ok
            assert again.finish() == 0
        assert node.finish() == 0
    same_blocks(made, tmp_path / "store", database(home), height)


def test_a_follower_starts_from_a_copy_and_goes_on(evnode: EvNode, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with evnode.da() as da, evnode.aggregator(home, "--da", da, "--block-time", "50ms") as node:
        node.reaches(40)
        made = evbackup.backup(node.rpc, tmp_path / "full.badger")
        restored = moved_in(tmp_path / "restored", home, follower=True)
        evbackup.restore(made, database(restored))
        with evnode.follower(restored, "--da", da, "--peer", node.p2p) as follower:
            assert follower.ready["began"] == made.complete_height
            height = follower.reaches(made.complete_height + 20)
            assert follower.report(height)["hash"] == node.report(height)["hash"]
            # A follower can be copied as well as an aggregator.
            copied = evbackup.backup(follower.rpc, tmp_path / "of-follower.badger")
            assert copied.complete_height >= height
            assert evbackup.verify(node.rpc, against=copied).raise_for_findings().ok
            assert follower.finish() == 0
        assert node.finish() == 0


def test_a_pruned_node_is_copied_from_its_base_and_starts(evnode: EvNode, tmp_path: Path) -> None:
    home = tmp_path / "home"
    flags = ("--block-time", "10ms", "--prune", "all", "--keep", "300", "--prune-time", "200ms", "--da-time", "50ms")
    with evnode.aggregator(home, *flags) as node:
        deadline = time.monotonic() + 90
        while True:
            node.reaches(node.tip() + 100)
            made = evbackup.backup(node.rpc, tmp_path / "full.badger", overwrite=True)
            if manifest(made)["pruned"]["blocks"] > 0:
                break
            assert time.monotonic() < deadline, "the node does not prune"
        report = evbackup.verify(made).raise_for_findings()
        assert report.ok
        assert node.finish() == 0
    with evbackup.open(evbackup.restore(made, tmp_path / "store", engine="rocksdb").path) as copied:
        heights = sorted(int(entry.key.rpartition(b"/")[2]) for entry in copied.prefix(b"/0/h/"))
        assert heights == list(range(manifest(made)["pruned"]["blocks"] + 1, made.complete_height + 1))


def test_a_node_that_goes_away_half_way_leaves_a_whole_copy(evnode: EvNode, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with evnode.aggregator(home, "--block-time", "2ms") as node:
        tip = node.reaches(400)

        def kill(progress: evbackup.Progress) -> None:
            if (progress.height or 0) > 20:
                node.kill()

        made = evbackup.backup(
            node.rpc,
            tmp_path / "full.badger",
            progress=kill,
            max_rate=60_000,
            idle_timeout_s=2.0,
            connect_timeout_s=2.0,
        )
    assert made.complete_height is not None
    assert made.announced_height is not None
    assert made.complete_height < made.announced_height
    assert made.announced_height >= tip
    assert any(note.startswith("cut short at height") for note in made.notes)
    assert evbackup.verify(made).raise_for_findings().ok
    with evnode.aggregator(home) as again:
        more = evbackup.backup(again.rpc, tmp_path / "inc.badger", since=made)
        assert more.kind == "inc"
        assert more.complete_height == more.announced_height
        assert evbackup.verify([made, more]).raise_for_findings().ok
        assert evbackup.verify(again.rpc, against=[made, more], sample=50).raise_for_findings().ok
        assert again.finish() == 0


def test_only_the_backup_rpc_is_asked_where_only_that_may_be(evnode: EvNode, tmp_path: Path) -> None:
    with evnode.aggregator(tmp_path / "home") as node:
        with pytest.raises(evbackup.UnsupportedError) as caught:
            evbackup.backup(node.rpc, tmp_path / "full.badger", via="rpc")
        assert 'via="blocks"' in str(caught.value.hint)
        assert node.finish() == 0


def differs(node: RealNode, against: evbackup.Backup) -> set[str]:
    return {finding.code for finding in evbackup.verify(node.rpc, against=against).findings if finding.level == "error"}


def test_another_chain_is_told_by_its_blocks(evnode: EvNode, tmp_path: Path) -> None:
    with evnode.aggregator(tmp_path / "one") as one, evnode.aggregator(tmp_path / "two") as two:
        one.reaches(20)
        two.reaches(20)
        made = evbackup.backup(one.rpc, tmp_path / "one.badger")
        assert not differs(one, made)
        assert differs(two, made) == {"live-header"}
        with pytest.raises(evbackup.MismatchError):
            evbackup.backup(two.rpc, tmp_path / "two.badger", since=made)
        assert one.finish() == 0
        assert two.finish() == 0
