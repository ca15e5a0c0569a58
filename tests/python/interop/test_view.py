"""What a store shows of a chain whose source was written meanwhile."""

from pathlib import Path

import pytest

import evbackup
from interop.peers import Badger

TORN = "a store shows nothing of a key whose only version is above the complete one, and serves and exports without it"


@pytest.fixture
def torn(badger: Badger, node: Path, out: Path) -> evbackup.Backup:
    """A backup during which five blocks came, and Badger compacted: of each key only the newest version is left."""
    badger.fill(node, "--blocks", 100, "--queue", 20)
    badger.run("compact", "--dir", node)
    with badger.serve(node, "--fall-tip", 5) as server:
        made = evbackup.backup(server.address, out / "torn.badger")
    assert (made.announced_height, made.complete_height, made.tip_height) == (95, 95, 100)
    return made


@pytest.mark.xfail(reason=TORN)
def test_a_store_from_a_torn_stream_has_a_tip(torn: evbackup.Backup, out: Path) -> None:
    evbackup.restore(torn, out / "store", engine="rocksdb")
    with evbackup.open(out / "store") as store:
        assert store.get("/0/t") is not None
        assert store.get("/0/m/d") is not None
        assert store.info().tip_height >= 95


@pytest.mark.xfail(reason=TORN)
def test_a_torn_stream_can_be_exported_again(torn: evbackup.Backup, out: Path) -> None:
    evbackup.restore(torn, out / "store", engine="rocksdb")
    again = evbackup.backup(out / "store", out / "again.badger")
    assert again.complete_height == 95
    assert evbackup.digest(again) == evbackup.digest(torn)
