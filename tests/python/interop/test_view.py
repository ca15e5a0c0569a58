"""What a store shows of a chain whose source was written meanwhile."""

from pathlib import Path

import pytest

import evbackup
from interop.peers import Badger


@pytest.fixture
def torn(badger: Badger, node: Path, out: Path) -> evbackup.Backup:
    """A backup during which five blocks came, and Badger compacted: of each key only the newest version is left."""
    badger.fill(node, "--blocks", 100, "--queue", 20)
    badger.run("compact", "--dir", node)
    with badger.serve(node, "--fall-tip", 5) as server:
        made = evbackup.backup(server.address, out / "torn.badger")
    assert (made.announced_height, made.complete_height, made.tip_height) == (95, 95, 100)
    return made


def test_a_store_from_a_torn_stream_shows_what_is_complete(torn: evbackup.Backup, out: Path) -> None:
    restored = evbackup.restore(torn, out / "store", engine="rocksdb")
    assert (restored.complete_height, restored.tip_height) == (95, 95)
    assert any("may be torn" in note for note in restored.notes)
    with evbackup.open(out / "store") as store:
        tip = store.get("/0/t")
        assert tip is not None
        assert (tip.version, tip.value) == (torn.complete_version, (95).to_bytes(8, "little"))
        assert store.get("/0/h/95") is not None
        assert store.get("/0/h/96") is None
    # It holds the rest, too.
    assert evbackup.digest(out / "store") == evbackup.digest(torn)
    again = evbackup.backup(out / "store", out / "again.badger")
    assert (again.complete_height, again.tip_height) == (95, 95)


def test_an_increment_completes_it(badger: Badger, node: Path, torn: evbackup.Backup, out: Path) -> None:
    evbackup.restore(torn, out / "store", engine="rocksdb")
    with badger.serve(node) as server:
        server.ask("blocks", count=2)
        inc = evbackup.backup(server.address, out / "inc.badger", since=torn)
        expected = server.digest()
    assert not evbackup.apply(inc, out / "store").new_history
    with evbackup.open(out / "store") as store:
        assert store.info().tip_height == 102
        assert store.get("/0/h/96") is not None
        assert store.get("/0/m/d") is not None
    assert evbackup.digest(out / "store") == evbackup.digest([torn, inc]) == expected


def test_a_store_from_a_torn_stream_shows_what_was_overwritten_meanwhile(torn: evbackup.Backup, out: Path) -> None:
    evbackup.restore(torn, out / "store", engine="rocksdb")
    with evbackup.open(out / "store") as store:
        assert store.get("/0/m/d") is not None
