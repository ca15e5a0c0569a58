"""Badger's own backup of a released node that makes blocks meanwhile, over the proposed RPC: torn heads, chains, the time limit."""

import http.client
import struct
import threading
import time
from pathlib import Path

import pytest

import evbackup
from interop.conftest import Table
from interop.peers import Badger
from interop.real import EvNode, RealNode, database, moved_in

TITLE = "Badger's own backup of a released ev-node at 5 ms: heads"
HEADS = ("what", "backups", "blocks meanwhile", "torn", "tip above announced")
# What ev-node writes of a block in one transaction, apart from the state and the tip, which are written again.
BLOCK = (b"/0/h/", b"/0/d/", b"/0/c/", b"/0/i/")


def aged(evnode: EvNode, badger: Badger, home: Path, blocks: int) -> Path:
    """A home with a chain in many small tables: so Badger's backup has many ranges, each of which is read at a moment of its own."""
    with evnode.aggregator(home, "--block-time", "2ms") as node:
        node.reaches(blocks)
        assert node.finish() == 0
    badger.run("compact", "--dir", database(home), "--tiny")
    return home


def live(badger: Badger, folder: Path) -> dict[bytes, str]:
    """The newest entry of every key that is alive, by Badger: the SHA-256 of its value."""
    newest: dict[bytes, tuple[int, str | None]] = {}
    for line in badger.lines("dump", "--dir", folder):
        key, version = bytes.fromhex(line["key"]), int(line["version"])
        if version >= newest.get(key, (0, None))[0]:
            newest[key] = version, None if line["meta"] & 1 else line["value_sha256"]
    return {key: digest for key, (_, digest) in newest.items() if digest is not None}


def height_of(key: bytes, index: dict[bytes, int]) -> int:
    return index[key] if key.startswith(b"/0/i/") else int(key.rsplit(b"/", 1)[1])


def indexed(folder: Path) -> dict[bytes, int]:
    """The heights that the index has."""
    with evbackup.open(folder, offline=True) as stored:
        return {entry.key: struct.unpack("<Q", entry.value)[0] for entry in stored.prefix(b"/0/i/")}


def loses_nothing(badger: Badger, source: Path, restored: Path, height: int) -> int:
    """Holds a restored database to its source, block by block up to a height; how many keys were compared."""
    expected, found, index = live(badger, source), live(badger, restored), indexed(source)
    compared = 0
    for key, digest in expected.items():
        if key.startswith(BLOCK) and height_of(key, index) <= height:
            assert found.get(key) == digest, key
            compared += 1
    assert compared == 4 * height
    above = [key for key in found if key.startswith(BLOCK) and height_of(key, index) > height]
    assert not above
    return compared


def torn(made: evbackup.Backup) -> bool:
    """Did the stream hold parts of blocks that it does not hold whole?"""
    return made.tip_height is not None and made.complete_height is not None and made.tip_height > made.complete_height


def test_a_chain_of_twenty_increments_of_a_node_that_never_rests(
    evnode: EvNode, badger: Badger, tmp_path: Path, table: Table
) -> None:
    home, out = aged(evnode, badger, tmp_path / "home", 400), tmp_path / "out"
    out.mkdir()
    with evnode.aggregator(home, "--block-time", "5ms", "--backups") as node:
        began = node.tip()
        chain = [evbackup.backup(node.backups, out / "full.badger")]
        for number in range(20):
            node.reaches(node.tip() + 3)
            chain.append(evbackup.backup(node.backups, out / f"inc-{number:02}.badger", since=chain[-1]))
        table.row(TITLE, HEADS, heads("a full one and 20 increments", chain, node.tip() - began))
        node.kill()
    assert [made.kind for made in chain] == ["full"] + 20 * ["inc"]
    for made in chain:
        # What was announced is complete: rule 3.6 of the increments rests on that.
        assert made.announced_height is not None
        assert made.complete_height is not None
        assert made.announced_height <= made.complete_height
    assert evbackup.verify(chain).raise_for_findings().ok
    complete = chain[-1].complete_height
    assert complete is not None
    restored = moved_in(tmp_path / "restored", home)
    evbackup.restore(chain, database(restored))
    assert loses_nothing(badger, database(home), database(restored), complete) > 1600
    with evnode.aggregator(restored) as node:
        assert node.ready["began"] == node.ready["replayed"] == complete
        assert node.finish() == 0
    # What the node wrote after the last increment makes the chain equal to its database, says Badger.
    with badger.serve(database(home)) as server:
        chain.append(evbackup.backup(server.address, out / "last.badger", since=chain[-1]))
        expected = server.digest()
    assert evbackup.digest(chain, now=1_700_000_000) == expected


def heads(what: str, made: list[evbackup.Backup], blocks: int) -> tuple[object, ...]:
    above = [(one.tip_height or 0) - (one.announced_height or 0) for one in made]
    return (
        what,
        len(made),
        blocks,
        sum(map(torn, made)),
        f"{sum(1 for one in above if one)} times, {max(above)} at most",
    )


def test_how_often_a_head_is_torn(evnode: EvNode, badger: Badger, tmp_path: Path, table: Table) -> None:
    home, out = aged(evnode, badger, tmp_path / "home", 400), tmp_path / "out"
    out.mkdir()
    made: list[evbackup.Backup] = []
    with evnode.aggregator(home, "--block-time", "5ms", "--backups") as node:
        began = node.tip()
        for number in range(40):
            made.append(evbackup.backup(node.backups, out / f"{number:02}.badger"))
            assert evbackup.verify(made[-1]).raise_for_findings().ok
        table.row(TITLE, HEADS, heads("full ones", made, node.tip() - began))
        assert node.finish() == 0
    worst = max(made, key=lambda one: ((one.tip_height or 0) - (one.complete_height or 0), one.tip_height))
    restored = moved_in(tmp_path / "restored", home)
    evbackup.restore(worst, database(restored))
    with evnode.aggregator(restored) as node:
        assert node.ready["began"] == worst.complete_height
        assert node.finish() == 0


@pytest.fixture
def bulky(evnode: EvNode, badger: Badger, tmp_path: Path) -> Path:
    """A home whose database takes more than ten seconds to read at a megabyte a second, whatever is buffered on the way."""
    home = tmp_path / "home"
    with evnode.aggregator(home) as node:
        assert node.finish() == 0
    badger.fill(database(home), "--generic", 4000, "--generic-size", 16_000)
    return home


def read_slowly(node: RealNode, ended: list[float | str]) -> None:
    """A client of HTTP/1.1 that takes a megabyte a second; when, and how, it was cut off."""
    host, port = node.backups.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    began = time.monotonic()
    headers = {"Content-Type": "application/connect+proto", "Connect-Protocol-Version": "1"}
    connection.request("POST", "/evnode.v1.StoreService/Backup", bytes(5), headers)
    answer = connection.getresponse()
    try:
        while answer.read(100_000):
            time.sleep(0.1)
        ended.append("all of it came")
    except (http.client.IncompleteRead, OSError) as error:
        ended.extend((time.monotonic() - began, type(error).__name__))
    finally:
        connection.close()


def test_the_servers_time_limit_cuts_every_answer_after_ten_seconds(
    evnode: EvNode, bulky: Path, tmp_path: Path
) -> None:
    with evnode.aggregator(bulky, "--backups") as node:
        slow: list[float | str] = []
        reader = threading.Thread(target=read_slowly, args=(node, slow))
        reader.start()
        began = time.monotonic()
        with pytest.raises(evbackup.IncompleteError) as caught:
            evbackup.backup(node.backups, tmp_path / "full.badger", max_rate=1_000_000)
        assert 9.5 < time.monotonic() - began < 30
        assert "10" in str(caught.value)
        assert "evbackup serve" in str(caught.value.hint)
        reader.join(30)
        assert isinstance(slow[0], float), slow
        assert 9.5 < slow[0] < 30
        assert not list(tmp_path.glob("full.badger*"))
        # The same server, within its time.
        assert evbackup.backup(node.backups, tmp_path / "full.badger").bytes > 60_000_000
        assert node.finish() == 0
