"""A released ev-node makes blocks; it is backed up beside it and from its directory, and goes on from what was restored."""

from pathlib import Path

import pytest

import evbackup
from interop.conftest import Table
from interop.peers import BUILD_S, Badger
from interop.real import EvNode, RealNode, database, moved_in

TITLE = "a released ev-node: heights"
HEADS = ("way", "blocks", "what", "said before", "tip", "complete", "went on to")

pytestmark = pytest.mark.timeout(BUILD_S + 240)


def goes_on(evnode: EvNode, home: Path, height: int, original: RealNode) -> int:
    """Starts the node in a home with a restored database that ends at a height; how far it went."""
    with evnode.aggregator(home) as node:
        assert node.ready["began"] == height
        # It executed all blocks again and found the app hash that it has of each.
        assert node.ready["replayed"] == height
        assert node.ready["tip"] > height
        for block in (1, height // 2, height):
            found, expected = node.report(block), original.report(block)
            assert [found[name] for name in ("hash", "app_hash")] == [expected[name] for name in ("hash", "app_hash")]
        tip = node.reaches(height + 10)
        # The block that was in production then is made as it was; what is behind it is its own chain.
        pending = node.ready["pending"] == height + 1
        assert pending or node.ready["pending"] == height
        for block, same in ((height + 1, pending), (height + 2, False)):
            assert (node.report(block)["hash"] == original.report(block)["hash"]) is same
        assert node.finish() == 0
    with evnode.aggregator(home) as node:  # and from what it wrote itself since
        assert node.ready["began"] >= tip
        assert node.ready["replayed"] == node.ready["began"]
        assert node.finish() == 0
    return tip


@pytest.mark.parametrize("block_time", ["20ms", "2ms"])
@pytest.mark.parametrize("way", ["wire", "directory"])
def test_a_released_node_goes_on_from_a_chain(
    evnode: EvNode, tmp_path: Path, table: Table, way: str, block_time: str
) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    out.mkdir()
    with evnode.aggregator(home, "--block-time", block_time) as node:
        assert node.ready["began"] == 0
        node.reaches(25)
        chain: list[evbackup.Backup] = []
        with evbackup.serve(database(home), "127.0.0.1:0") as server:
            source = server.address if way == "wire" else database(home)
            for number in range(3):
                before = node.tip()
                chain.append(evbackup.backup(source, out / f"{number}.badger", since=chain[-1] if chain else 0))
                # Nothing that the node had said is missing, and nothing is there that it had not made.
                tip = chain[-1].tip_height
                assert tip is not None
                assert before <= tip <= node.tip()
                table.row(TITLE, HEADS, (way, block_time, chain[-1].kind, before, tip, chain[-1].complete_height, ""))
                node.reaches(tip + 25)
        assert [made.kind for made in chain] == ["full", "inc", "inc"]
        assert all(made.complete_height == made.tip_height for made in chain)
        assert evbackup.verify(chain).raise_for_findings().ok
        for length in (1, 3):
            restored = moved_in(tmp_path / f"restored-{length}", home)
            evbackup.restore(chain[:length], database(restored))
            height = chain[length - 1].tip_height
            assert height is not None
            went = goes_on(evnode, restored, height, node)
            table.row(TITLE, HEADS, (way, block_time, f"restored {length}", "", height, height, went))
        assert node.finish() == 0


def test_a_released_node_makes_the_pending_block_again_and_no_rival_of_it(evnode: EvNode, tmp_path: Path) -> None:
    home = tmp_path / "home"
    # So slow that the next block is not begun yet.
    with evnode.aggregator(home, "--block-time", "2s") as node:
        node.reaches(3)
        node.kill()  # one that ends by itself forgets the block
    made = evbackup.backup(database(home), tmp_path / "full.badger")
    assert made.tip_height is not None
    # By force, for the block may be public on DA by now.
    below, copy = made.tip_height - 1, moved_in(tmp_path / "cut", home)
    cut = evbackup.restore(made, database(copy), at_height=below, role="aggregator", force=True)
    assert cut.tip_height == below
    with evbackup.open(made) as stored, evnode.aggregator(copy) as again:
        assert again.ready["began"] == below
        assert again.ready["pending"] == made.tip_height
        block = stored.block(made.tip_height)
        assert block is not None
        assert again.report(made.tip_height)["hash"] == block.hash.hex()
        assert again.finish() == 0


def test_a_killed_released_node_goes_on_from_a_backup_of_what_is_left(evnode: EvNode, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with evnode.aggregator(home) as node:
        said = node.reaches(25)
        node.kill()
    made = evbackup.backup(database(home), tmp_path / "full.badger")
    assert made.tip_height is not None
    assert made.tip_height >= said
    assert made.complete_height == made.tip_height
    restored = moved_in(tmp_path / "restored", home)
    evbackup.restore(made, database(restored))
    with evnode.aggregator(restored) as again:
        assert again.ready["began"] == again.ready["replayed"] == made.tip_height
        assert again.finish() == 0


@pytest.mark.parametrize("key", ["/0/h/7", "/0/d/7"])
def test_a_released_node_does_not_start_on_less(evnode: EvNode, badger: Badger, tmp_path: Path, key: str) -> None:
    """So that its starting says something."""
    home = tmp_path / "home"
    with evnode.aggregator(home) as node:
        node.reaches(10)
        assert node.finish() == 0
    with badger.serve(database(home)) as server:
        server.delete(key)
    assert "failed to replay block 7" in evnode.refuses(home)
