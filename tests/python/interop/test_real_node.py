"""A released ev-node makes blocks; it is backed up beside it and from its directory, and goes on from what was restored."""

import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

import evbackup
from interop.conftest import Table
from interop.peers import SOURCES, Badger, Peer

EVNODE = SOURCES / "evnode"
# Some 500 packages, where nothing is in Go's cache.
BUILD_S = 900.0
TITLE = "a released ev-node: heights"
HEADS = ("way", "blocks", "what", "said before", "tip", "complete", "went on to")


class CannotBuildError(Exception):
    """Why there is no node here."""


def built() -> Path:
    """The node, from the cache if these sources were built before."""
    cache = Path(os.environ.get("EVBACKUP_CACHE") or "~/.cache/evbackup").expanduser()
    sources = sorted([*EVNODE.glob("*.go"), *EVNODE.glob("go.*"), EVNODE / "build.sh"])
    digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in sources)).hexdigest()
    program = cache / "interop" / f"evnode-{digest[:16]}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        unfinished = program.with_name(f"{program.name}.{os.getpid()}")
        try:
            done = subprocess.run(
                [EVNODE / "build.sh", unfinished], capture_output=True, text=True, timeout=BUILD_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise CannotBuildError(f"it takes more than {BUILD_S:.0f} s") from None
        if done.returncode != 0:
            raise CannotBuildError(" | ".join(done.stderr.strip().splitlines()[-2:]))
        unfinished.rename(program)
    return program


@pytest.fixture(scope="module")
def program() -> Path:
    """The node; skips where it cannot be built, unless EVBACKUP_REQUIRE_EVNODE=1."""
    try:
        return built()
    except CannotBuildError as error:
        reason = f"a released ev-node cannot be built here: {error}"
        if os.environ.get("EVBACKUP_REQUIRE_EVNODE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


def started(program: Path, home: Path, *flags: str) -> Peer:
    """A node that has made its first new block; use it in `with`."""
    return Peer([str(program), "--home", str(home), *flags])


def database(home: Path) -> Path:
    return home / "data" / "testapp"


def reaches(node: Peer, height: int) -> int:
    """Waits until the node's tip is there; the tip."""
    deadline = time.monotonic() + 60
    while (tip := int(node.ask("report")["tip"])) < height:
        assert time.monotonic() < deadline, f"the tip is {tip}, expected {height}"
        time.sleep(0.02)
    return tip


def goes_on(program: Path, home: Path, height: int, original: Peer) -> int:
    """Starts the node in a home with a restored database that ends at a height; how far it went."""
    with started(program, home) as node:
        assert node.ready["began"] == height
        # It executed all blocks again and found the app hash that it has of each.
        assert node.ready["replayed"] == height
        assert node.ready["tip"] > height
        for block in (1, height // 2, height):
            found, expected = node.ask("report", height=block), original.ask("report", height=block)
            assert [found[name] for name in ("hash", "app_hash")] == [expected[name] for name in ("hash", "app_hash")]
        tip = reaches(node, height + 10)
        # Its own chain from here on.
        assert node.ask("report", height=height + 1)["hash"] != original.ask("report", height=height + 1)["hash"]
        assert node.finish() == 0
    with started(program, home) as node:  # and from what it wrote itself since
        assert node.ready["began"] >= tip
        assert node.ready["replayed"] == node.ready["began"]
        assert node.finish() == 0
    return tip


@pytest.mark.timeout(BUILD_S + 240)
@pytest.mark.parametrize("block_time", ["20ms", "2ms"])
@pytest.mark.parametrize("way", ["wire", "directory"])
def test_a_released_node_goes_on_from_a_chain(
    program: Path, tmp_path: Path, table: Table, way: str, block_time: str
) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    out.mkdir()
    with started(program, home, "--block-time", block_time) as node:
        assert node.ready["began"] == 0
        reaches(node, 25)
        chain: list[evbackup.Backup] = []
        with evbackup.serve(database(home), "127.0.0.1:0") as server:
            source = server.address if way == "wire" else database(home)
            for number in range(3):
                before = int(node.ask("report")["tip"])
                chain.append(evbackup.backup(source, out / f"{number}.badger", since=chain[-1] if chain else 0))
                # Nothing that the node had said is missing, and nothing is there that it had not made.
                tip = chain[-1].tip_height
                assert tip is not None
                assert before <= tip <= node.ask("report")["tip"]
                table.row(TITLE, HEADS, (way, block_time, chain[-1].kind, before, tip, chain[-1].complete_height, ""))
                reaches(node, tip + 25)
        assert [made.kind for made in chain] == ["full", "inc", "inc"]
        assert all(made.complete_height == made.tip_height for made in chain)
        assert evbackup.verify(chain).raise_for_findings().ok
        for length in (1, 3):
            restored = tmp_path / f"restored-{length}"
            shutil.copytree(home / "config", restored / "config")
            (restored / "data").mkdir()
            evbackup.restore(chain[:length], database(restored))
            height = chain[length - 1].tip_height
            assert height is not None
            went = goes_on(program, restored, height, node)
            table.row(TITLE, HEADS, (way, block_time, f"restored {length}", "", height, height, went))
        assert node.finish() == 0


@pytest.mark.timeout(BUILD_S + 240)
def test_a_released_node_has_no_backup_rpc_of_its_own(program: Path, tmp_path: Path) -> None:
    with started(program, tmp_path / "home") as node:
        with pytest.raises(evbackup.UnsupportedError) as caught:
            evbackup.backup(node.ready["rpc"], tmp_path / "full.badger")
        assert "evbackup serve" in str(caught.value.hint)
        assert node.finish() == 0


@pytest.mark.timeout(BUILD_S + 240)
def test_a_killed_released_node_goes_on_from_a_backup_of_what_is_left(program: Path, tmp_path: Path) -> None:
    home, restored = tmp_path / "home", tmp_path / "restored"
    with started(program, home) as node:
        said = reaches(node, 25)
        node.kill()
    made = evbackup.backup(database(home), tmp_path / "full.badger")
    assert made.tip_height is not None
    assert made.tip_height >= said
    assert made.complete_height == made.tip_height
    shutil.copytree(home / "config", restored / "config")
    (restored / "data").mkdir()
    evbackup.restore(made, database(restored))
    with started(program, restored) as again:
        assert again.ready["began"] == again.ready["replayed"] == made.tip_height
        assert again.finish() == 0


@pytest.mark.timeout(BUILD_S + 240)
@pytest.mark.parametrize("key", ["/0/h/7", "/0/d/7"])
def test_a_released_node_does_not_start_on_less(program: Path, badger: Badger, tmp_path: Path, key: str) -> None:
    """So that its starting says something."""
    home = tmp_path / "home"
    with started(program, home) as node:
        reaches(node, 10)
        assert node.finish() == 0
    with badger.serve(database(home)) as server:
        server.delete(key)
    command = [str(program), "--home", str(home)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "failed to replay block 7" in done.stderr
    assert not done.stdout
