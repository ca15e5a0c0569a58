"""Against programs that really run Badger: what they serve, we back up; what we serve, they load."""

from pathlib import Path

import pytest

import evbackup
from support import BLOCKS, Peer

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]


def test_a_node_that_writes_meanwhile(peer: Peer, tmp_path: Path) -> None:
    peer.run("fill", "--dir", tmp_path / "node", "--blocks", 300, "--value-size", 2000)
    with peer.serve(tmp_path / "node", "--write-blocks", 200) as node:
        chain = [evbackup.backup(node.address, tmp_path / "full.badger")]
        for number in range(3):
            chain.append(evbackup.backup(node.address, tmp_path / f"inc{number}.badger", since=chain[-1]))
        node.ask("pause")
        chain.append(evbackup.backup(node.address, tmp_path / "last.badger", since=chain[-1]))
        theirs = node.ask("digest")["digest"]
        complete = node.ask("digest", at=chain[-1].complete_version)["digest"]
    assert chain[-1].complete_height > 300
    evbackup.verify(chain).raise_for_findings()
    evbackup.restore(chain, tmp_path / "store", engine="rocksdb")
    assert evbackup.digest(chain) == theirs
    # A store shows what is surely complete.
    assert evbackup.digest(tmp_path / "store") == complete


@pytest.mark.parametrize("layout", ["F", "T"])
def test_both_layouts(peer: Peer, tmp_path: Path, layout: str) -> None:
    peer.run("fill", "--dir", tmp_path / "node", "--blocks", 50, "--deletes", "--usermeta", "--empty")
    with peer.serve(tmp_path / "node", "--layout", layout) as node:
        full = evbackup.backup(node.address, tmp_path / "full.badger")
        theirs = node.ask("digest")["digest"]
    evbackup.verify(full).raise_for_findings()
    assert evbackup.digest(full) == theirs


@pytest.mark.parametrize("fault", ["stop-mid-stream=40000", "end-mid-stream=40000", "no-final", "end-at-frame=1"])
def test_a_stream_that_ends_early(peer: Peer, tmp_path: Path, fault: str) -> None:
    peer.run("fill", "--dir", tmp_path / "node", "--blocks", 300, "--value-size", 2000)
    (tmp_path / "out").mkdir()
    with peer.serve(tmp_path / "node", "--fault", fault) as node:
        with pytest.raises(evbackup.IncompleteError):
            evbackup.backup(node.address, tmp_path / "out" / "full.badger")
        assert list((tmp_path / "out").iterdir()) == []
        node.ask("fault", fault="none")
        evbackup.verify(evbackup.backup(node.address, tmp_path / "out" / "full.badger")).raise_for_findings()


def test_the_write_timeout_of_a_node_is_named(peer: Peer, tmp_path: Path) -> None:
    peer.run("fill", "--dir", tmp_path / "node", "--blocks", 300, "--value-size", 20000)
    with (
        peer.serve(tmp_path / "node", "--write-timeout", "1s", "--fault", "slow=100000") as node,
        pytest.raises(evbackup.IncompleteError) as caught,
    ):
        evbackup.backup(node.address, tmp_path / "full.badger")
    assert caught.value.hint is not None
    assert "serve" in caught.value.hint


def test_a_released_node_has_no_backup(peer: Peer, tmp_path: Path) -> None:
    with (
        peer.serve(tmp_path / "node", "--fault", "not-found") as node,
        pytest.raises(evbackup.UnsupportedError) as caught,
    ):
        evbackup.backup(node.address, tmp_path / "full.badger")
    assert caught.value.hint


@pytest.mark.parametrize("http", [1, 2])
def test_their_client_saves_from_us_what_badger_loads(peer: Peer, sample: Path, tmp_path: Path, http: int) -> None:
    with evbackup.serve(sample, "127.0.0.1:0") as server:
        protocol = ("--protocol", "grpc", "--http", http)
        saved = peer.run("client", "--addr", server.address, "--out", tmp_path / "full.badger", *protocol)
    assert saved["final"]["completed"]
    assert saved["final"]["current_height"] == BLOCKS
    loaded = peer.run("load", "--dir", tmp_path / "node", "--in", tmp_path / "full.badger")
    assert loaded["checksums_ok"]
    assert loaded["digest"]["digest"] == evbackup.digest(sample) == evbackup.digest(tmp_path / "full.badger")
