"""Blocks, states and metadata for people: of stores, Badger directories, segments and chains of segments."""

import asyncio
import fcntl
import json
import os
import pickle
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import evbackup
from evbackup._blocks import moment
from support import BLOCKS

Opener = Callable[[], evbackup.Datastore]


@pytest.fixture(scope="module")
def badger(full: evbackup.Backup, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample as a node's directory."""
    return evbackup.restore(full, tmp_path_factory.mktemp("badger") / "database").path


@pytest.fixture(params=["store", "badger", "offline", "segment", "bare"])
def opened(
    request: pytest.FixtureRequest, sample: Path, badger: Path, full: evbackup.Backup, tmp_path: Path
) -> Iterator[evbackup.Datastore]:
    """The sample chain, in every form that it can be opened in."""
    bare = tmp_path / "bare.badger"
    if request.param == "bare":
        bare.write_bytes(Path(full).read_bytes())
    openers: dict[str, Opener] = {
        "store": lambda: evbackup.open(sample),
        "badger": lambda: evbackup.open(badger),
        "offline": lambda: evbackup.open(badger, offline=True),
        "segment": lambda: evbackup.open(full),
        "bare": lambda: evbackup.open(bare),
    }
    with openers[request.param]() as datastore:
        yield datastore


@pytest.mark.parametrize("how", ["block", "chain_id", "get", "prefix", "table"])
def test_a_directory_that_was_closed_is_free_at_once(badger: Path, how: str) -> None:
    """Whoever looked at it may restore into it: Badger's lock is on the directory itself."""
    ask: dict[str, Callable[[evbackup.Datastore], object]] = {
        "block": lambda datastore: datastore.block(1),
        "chain_id": lambda datastore: datastore.chain_id,
        "get": lambda datastore: datastore.get("/0/t"),
        "prefix": lambda datastore: next(datastore.prefix("/0/h/")),
        "table": lambda datastore: datastore.table("blocks").__arrow_c_stream__(),
    }
    for _ in range(50):
        with evbackup.open(badger, offline=True) as datastore:
            ask[how](datastore)
        place = os.open(badger, os.O_RDONLY)
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(place)


def test_an_increment_has_the_blocks_that_it_has(sample: Path, full: evbackup.Backup, tmp_path: Path) -> None:
    made = evbackup.backup(sample, tmp_path / "inc.badger", since=full.complete_version - 20)
    with evbackup.open(made) as opened:
        first = opened.heights.start
        assert BLOCKS - 25 < first < BLOCKS - 15
        assert opened.heights == range(first, BLOCKS + 1)
        assert [block.height for block in opened.blocks()] == list(opened.heights)


def test_blocks_are_linked_and_found_by_height_and_by_both_hashes(opened: evbackup.Datastore) -> None:
    assert opened.height == BLOCKS
    assert opened.heights == range(1, BLOCKS + 1)
    assert opened.chain_id == "sample-1"
    before = opened.block(1)
    for height in (2, 3, 4):
        block = opened.block(height)
        assert (block.height, block.header.height, block.data.height) == (height, height, height)
        assert block.header.last_header_hash == before.hash
        assert block.data.last_data_hash == before.data.hash
        assert block.time == before.time + timedelta(seconds=1)
        for name in (block.hash, block.index_hash, block.hash.hex(), "0x" + block.hash.hex().upper()):
            assert opened.block(name) == block
        before = block
    assert opened.block() == opened.block(BLOCKS)
    assert all(isinstance(transaction, bytes) for transaction in before.transactions)
    assert before.transactions


def test_ranges_are_those_of_range(opened: evbackup.Datastore) -> None:
    everything = list(opened.blocks())
    assert [block.height for block in everything] == list(range(1, BLOCKS + 1))
    assert everything[6] == opened.block(7)
    for start, stop in [(3, 9), (BLOCKS, BLOCKS + 1), (5, 5), (9, 3)]:
        assert [block.height for block in opened.blocks(start, stop)] == list(range(start, stop))
    assert [block.height for block in opened.blocks(stop=3)] == [1, 2]
    assert [block.height for block in opened.blocks(BLOCKS - 1)] == [BLOCKS - 1, BLOCKS]
    again = opened.blocks(1, 3)
    assert list(again) == list(again)
    assert repr(again) == "<Blocks from 1 to before 3>"
    found: list[evbackup.Block] = []
    with pytest.raises(evbackup.InvalidArgument, match=f"expected a height from 1 to {BLOCKS}, found {BLOCKS + 1}"):
        found.extend(opened.blocks(BLOCKS - 1, BLOCKS + 10))


def test_states_and_metadata(opened: evbackup.Datastore) -> None:
    state = opened.state(7)
    assert (state.height, state.chain_id, state.initial_height) == (7, "sample-1", 1)
    assert state.last_header_hash == opened.block(7).hash
    assert opened.block(8).header.app_hash == state.app_hash
    assert state.time == opened.block(7).time
    assert opened.state() == opened.state(BLOCKS)
    assert opened.metadata("none") is None
    assert opened.metadata("../t") == BLOCKS.to_bytes(8, "little")
    with pytest.raises(evbackup.InvalidArgument, match=f"expected a height up to {BLOCKS}, found {BLOCKS + 1}"):
        opened.state(BLOCKS + 1)


def test_what_is_not_there_is_told_with_what_is(opened: evbackup.Datastore) -> None:
    for height in (0, BLOCKS + 1, (1 << 64) - 1):
        with pytest.raises(evbackup.InvalidArgument, match=f"expected a height from 1 to {BLOCKS}, found {height}$"):
            opened.block(height)
    with pytest.raises(evbackup.MissingError, match="expected a block with the hash 0707"):
        opened.block(bytes([7]) * 32)
    for bad in (-1, 1 << 64, b"short", "xyz", "07"):
        with pytest.raises(evbackup.InvalidArgument):
            opened.block(bad)
    for bad in (-1, 1 << 64):
        with pytest.raises(evbackup.InvalidArgument):
            opened.blocks(bad)
        with pytest.raises(evbackup.InvalidArgument):
            opened.state(bad)


def test_async_twins(opened: evbackup.Datastore) -> None:
    async def work() -> None:
        assert await opened.block_async(7) == opened.block(7)
        assert await opened.state_async(7) == opened.state(7)
        assert await opened.metadata_async("../t") == opened.metadata("../t")
        assert [block.height async for block in opened.blocks(5, 9)] == [5, 6, 7, 8]

    asyncio.run(work())


def test_a_block_is_a_value(sample: Path) -> None:
    with evbackup.open(sample) as store:
        block, other = store.block(7), store.block(8)
    assert block != other
    assert pickle.loads(pickle.dumps(block)) == block
    assert hash(block) != hash(other)
    with pytest.raises(AttributeError):
        block.height = 8  # type: ignore[misc]
    said = block.as_dict()
    assert json.loads(json.dumps(said)) == said
    assert said["hash"] == block.hash.hex()
    assert said["data"]["transactions"] == [transaction.hex() for transaction in block.transactions]
    assert said["header"]["version"] == [0, 0]
    assert repr(block).startswith(f"<Block 7 {block.hash.hex()[:12]}…, 1 transaction, 2023-11-14 22:13:26>")
    assert len(repr(block)) < 100
    assert repr(block.header) == "<Header sample-1 7>"
    table = block._repr_html_()
    assert block.hash.hex() in table
    assert "<table>" in table


def test_what_a_chain_says_does_not_become_a_page(sample: Path) -> None:
    with evbackup.open(sample) as store:
        header = store.block(7).header
    evil = evbackup.Header(**{**vars(header), "chain_id": "<script>alert(1)</script>"})
    assert "<script>" not in evil._repr_html_()
    assert "&lt;script&gt;" in evil._repr_html_()
    many = evbackup.Data(None, None, None, None, tuple(bytes([n]) * 100 for n in range(30)), bytes(32))
    assert "and 20 more" in many._repr_html_()
    assert len(many._repr_html_()) < 2000


def test_times_beyond_the_calendar() -> None:
    assert moment(0) == datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert moment(1_700_000_000_123_456_789).microsecond == 123_456
    assert moment((1 << 64) - 1).year == 2554


def test_a_chain_of_segments_is_opened_in_any_order(chain: list[evbackup.Backup]) -> None:
    with evbackup.open(list(reversed(chain))) as segments:
        assert segments.height == 50
        heights = [block.height for block in segments.blocks()]
        assert heights == list(range(1, 51))
        for block, later in zip(segments.blocks(1, 50), segments.blocks(2), strict=True):
            assert later.header.last_header_hash == block.hash
        tip = segments.get("/0/t")
        assert tip is not None
        assert int.from_bytes(tip.value, "little") == 50
    with evbackup.open(chain[:2]) as shorter:
        assert shorter.height == 40
    with pytest.raises(evbackup.MissingError):
        evbackup.open([chain[0], chain[2]])
    # An increment alone has its own blocks.
    with evbackup.open(chain[1]) as alone:
        assert alone.block(35).height == 35
        with pytest.raises(evbackup.MissingError) as missing:
            alone.block(7)
        assert "whole chain" in str(missing.value.hint)


def test_a_segment_knows_no_prefixes(full: evbackup.Backup) -> None:
    with evbackup.open(full) as segment:
        with pytest.raises(evbackup.UnsupportedError) as error:
            next(segment.prefix("/0/h/"))
        assert "rocksdb" in str(error.value.hint)
        with pytest.raises(evbackup.UnsupportedError):
            segment.get("/0/t", version=7)


def test_a_flipped_byte_is_damage_and_no_block(full: evbackup.Backup, tmp_path: Path) -> None:
    copy = tmp_path / "full.badger"
    content = bytearray(Path(full).read_bytes())
    content[len(content) // 2] ^= 1
    copy.write_bytes(content)
    copy.with_name("full.badger.json").write_bytes(Path(full).with_name("full.badger.json").read_bytes())
    with evbackup.open(copy) as segment, pytest.raises(evbackup.DamagedError, match="CRC-32C"):
        segment.block(7)


def test_a_closed_one_answers_nothing(sample: Path) -> None:
    store = evbackup.open(sample)
    blocks = store.blocks()
    next(iter(blocks))
    store.close()
    for ask in (lambda: store.height, lambda: store.block(1), lambda: list(blocks), lambda: store.metadata("d")):
        with pytest.raises(evbackup.InvalidArgument, match="closed"):
            ask()


def test_a_database_without_a_chain(tmp_path: Path, sample: Path) -> None:
    """Blocks are missing, and nothing else is wrong."""
    with evbackup.open(sample) as store:
        assert store.block(1).header.version == (0, 0)
    with pytest.raises(evbackup.MissingError):
        evbackup.open(tmp_path / "nothing.badger")


def test_the_command_line_prints_blocks(
    command: Callable[..., tuple[int, str, str]], full: evbackup.Backup, sample: Path
) -> None:
    with evbackup.open(sample) as store:
        block = store.block(7)
    code, out, _ = command("block", full.path, 7, "--json")
    assert code == 0
    said = json.loads(out)
    said.pop("run_id")
    assert said == block.as_dict()
    for which in (block.hash.hex(), block.index_hash.hex()):
        code, out, _ = command("block", sample, which)
        assert code == 0
        assert re.search(rf"^hash +{block.hash.hex()}$", out, re.MULTILINE)
        assert re.search("^chain_id +sample-1$", out, re.MULTILINE)
    code, out, _ = command("block", sample, "newest", "--json")
    assert (code, json.loads(out)["height"]) == (0, BLOCKS)
    code, _, err = command("block", sample, BLOCKS + 1)
    assert (code, f"expected a height from 1 to {BLOCKS}" in err) == (2, True)
    code, out, _ = command("blocks", full.path, "--start", 5, "--stop", 8)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["5", "6", "7"]
    code, out, _ = command("blocks", sample, "--start", BLOCKS, "--json")
    assert [json.loads(line)["height"] for line in out.splitlines()] == [BLOCKS]


def test_the_findings_of_a_chain_are_those_of_the_whole_chain(chain: list[evbackup.Backup]) -> None:
    """The segment that is given first may be an increment, which alone has a gap before it."""
    with evbackup.open([chain[1], chain[0]]) as opened:
        assert [row[1] for row in opened.table("findings")._native.head(5)] == ["order-mended"]
    with evbackup.open(chain[0]) as opened:
        assert opened.table("findings")._native.head(5) == []
