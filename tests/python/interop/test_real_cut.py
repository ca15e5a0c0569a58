"""A released ev-node on what was cut at a height: as a follower, as an aggregator, and beside an execution layer that was copied while it ran."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest

import evbackup
from interop.conftest import Table
from interop.real import EvNode, RealNode, database, execution, moved_in

# How many heights are cut at.
CUTS = int(os.environ.get("EVBACKUP_CUTS", "20"))
BLOCKS = 2000
EL = ("--executor", "executor")
TITLE = "a released ev-node on cuts"
HEADS = ("height", "of base", "to tip", "as follower", "starts", "as aggregator")


@dataclass(frozen=True)
class Head:
    """The newest block of an execution layer's database."""

    height: int
    timestamp: int
    state_root: str


def head(folder: Path) -> Head:
    """What an operator reads from a copy of the execution layer, as from reth's `Finish` stage."""
    with evbackup.open(folder, offline=True) as stored:
        entry = stored.get("/head")
    assert entry is not None
    found = json.loads(entry.value)
    return Head(found["height"], found["timestamp"], found["state_root"])


def aligned(made: evbackup.Backup, at: Head) -> evbackup.Alignment:
    """Where to cut, so that it fits a copy of the execution layer."""
    return evbackup.align(made, el_height=at.height, el_timestamp=at.timestamp, el_state_root=at.state_root)


def agree(node: RealNode, original: RealNode, *heights: int) -> None:
    """Both have the same blocks at these heights, and the same state after each."""
    for height in heights:
        found, expected = node.report(height), original.report(height)
        assert [found[name] for name in ("hash", "app_hash")] == [expected[name] for name in ("hash", "app_hash")]


def spread(low: int, high: int, count: int) -> list[int]:
    """So many heights, the ends among them."""
    return sorted({low + (high - low) * number // max(count - 1, 1) for number in range(count)})


@dataclass
class Original:
    """A chain whose node still makes blocks, and what was backed up of it meanwhile."""

    home: Path
    node: RealNode
    da: str
    made: evbackup.Backup
    el: evbackup.Backup
    el_height: int

    def cut(self, home: Path, height: int, role: Literal["follower", "aggregator"]) -> Path:
        """A home with ev-node's data cut at a height, and the execution layer as it was copied, which is above."""
        moved_in(home, self.home, follower=role == "follower")
        cut = evbackup.restore(self.made, database(home), at_height=height, role=role, force=True)
        assert (cut.cut_height, cut.tip_height) == (height, height)
        evbackup.verify(database(home)).raise_for_findings()
        evbackup.restore(self.el, execution(home))
        return home

    def followed(self, evnode: EvNode, home: Path, height: int) -> tuple[int, int]:
        """A follower takes over what comes behind the cut; how far, and how often it was started for that."""
        flags = ("--peer", self.node.p2p, "--da", self.da, "--da-time", "100ms", *EL)
        self.cut(home, height, "follower")
        with evnode.follower(home, *flags, log=home.with_suffix(".log")) as node:
            assert node.ready["began"] == height
            # The execution layer was above, and ev-node took it back to the cut.
            assert node.starts > 1 or node.report()["undone"] == self.el_height - height
            went = node.reaches(height + 3)
            agree(node, self.node, height, height + 1, height + 2)
            assert node.finish() == 0
        return went, node.starts

    def continued(self, evnode: EvNode, home: Path, height: int) -> int:
        """An aggregator makes the next blocks; how far. Its DA layer is a new one, so that it hears of no rival."""
        flags = ("--block-time", "10ms", *EL)
        with evnode.aggregator(self.cut(home, height, "aggregator"), *flags, log=home.with_suffix(".log")) as node:
            assert node.ready["began"] == height
            assert node.report()["undone"] == self.el_height - height
            went = node.reaches(height + 3)
            agree(node, self.node, height)
            assert node.finish() == 0
        return went


@pytest.mark.timeout(600)
def test_nodes_start_on_cuts_at_heights_spread_over_a_chain(evnode: EvNode, tmp_path: Path, table: Table) -> None:
    home, out, log = tmp_path / "home", tmp_path / "out", tmp_path / "log"
    out.mkdir()
    with evnode.da("100ms") as da:
        common = ("--da", da, "--da-time", "100ms", "--forced", "forced-inclusion", *EL)
        pruned = (*common, "--prune", "all", "--keep", str(BLOCKS * 3 // 4), "--prune-time", "1s")
        with evnode.aggregator(home, "--block-time", "2ms", *pruned, log=log) as node:
            node.reaches(BLOCKS)
            assert node.finish() == 0
        # With slower blocks than the DA layer's it might never make one: see test_an_aggregator_slower_than_its_da_layer_…
        with evnode.aggregator(home, "--block-time", "25ms", *common, log=log) as node:
            base = node.report().get("pruned", 0) + 1
            assert base > 1
            el = evbackup.backup(execution(home), out / "el.badger")
            evbackup.restore(el, tmp_path / "el")
            made = evbackup.backup(database(home), out / "full.badger")
            assert made.complete_height is not None
            original = Original(home, node, da, made, el, head(tmp_path / "el").height)
            for height in spread(base, min(original.el_height, made.complete_height), CUTS):
                node.reaches(height + 3)
                followed, starts = original.followed(evnode, tmp_path / f"follower-{height}", height)
                continued = original.continued(evnode, tmp_path / f"aggregator-{height}", height)
                table.row(TITLE, HEADS, (height, base, made.tip_height, followed, starts, continued))
            assert node.finish() == 0


@pytest.mark.parametrize("way", ["wire", "directory"])
def test_a_pair_copied_at_a_height_that_nobody_chose(evnode: EvNode, tmp_path: Path, way: str) -> None:
    home, out, log = tmp_path / "home", tmp_path / "out", tmp_path / "log"
    out.mkdir()
    # The DA layer is slow, so what is cut off is not public yet.
    with evnode.da("60s") as da:
        flags = ("--da", da, "--da-time", "60s", "--block-time", "10ms", *EL)
        with (
            evnode.aggregator(home, *flags, log=log) as original,
            evbackup.serve(database(home), "127.0.0.1:0") as server,
        ):
            original.reaches(40)
            # The execution layer first, while it runs. What height that is, its copy says.
            el = evbackup.backup(execution(home), out / "el.badger")
            copy = moved_in(tmp_path / "copy", home)
            evbackup.restore(el, execution(copy))
            at = head(execution(copy))
            original.reaches(at.height + 20)
            # Then ev-node, hot.
            source = server.address if way == "wire" else database(home)
            made = evbackup.backup(source, out / "full.badger")
            assert made.tip_height is not None
            assert made.tip_height >= at.height + 20
            assert aligned(made, at).at_height == at.height
            for other in (replace(at, state_root="00" * 32), replace(at, timestamp=at.timestamp + 60)):
                with pytest.raises(evbackup.MismatchError):
                    aligned(made, other)
            cut = evbackup.restore(made, database(copy), at_height=at.height, role="aggregator")
            assert cut.cut_height == at.height
            expected = original.report(at.height)
            assert original.finish() == 0
        with evnode.aggregator(copy, *flags, log=log) as node:
            # Neither had to move for the other.
            assert (node.ready["began"], node.ready["replayed"], node.ready["undone"]) == (at.height, 0, 0)
            went = node.reaches(at.height + 20)
            found = node.report(at.height)
            assert [found[name] for name in ("hash", "app_hash")] == [expected[name] for name in ("hash", "app_hash")]
            assert node.report()["el_height"] >= went
            assert node.finish() == 0
        with evnode.aggregator(copy, *flags, log=log) as node:
            assert node.ready["began"] >= went
            # The execution layer has one more where the node was stopped between executing a block and signing it.
            assert node.ready["replayed"] == 0
            assert node.ready["undone"] <= 1
            assert node.finish() == 0
    assert evbackup.verify(database(copy)).raise_for_findings().ok


def test_without_a_cut_the_node_brings_its_execution_layer_along(evnode: EvNode, tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    out.mkdir()
    with evnode.aggregator(home, "--block-time", "10ms", *EL) as original:
        original.reaches(30)
        el = evbackup.backup(execution(home), out / "el.badger")
        original.reaches(60)
        made = evbackup.backup(database(home), out / "full.badger")
        assert original.finish() == 0
    restored = moved_in(tmp_path / "restored", home)
    evbackup.restore(el, execution(restored))
    evbackup.restore(made, database(restored))
    behind = head(execution(restored)).height
    assert made.tip_height is not None
    with evnode.aggregator(restored, *EL) as node:
        assert (node.ready["began"], node.ready["replayed"]) == (made.tip_height, made.tip_height - behind)
        assert node.finish() == 0
