"""A sequencer runs, unchanged; it is backed up beside it and from its directory, and goes on from what was restored."""

import json
import shutil
import time
from pathlib import Path

import pytest

import evbackup
from interop.peers import NOW, PATIENCE_S, Badger, Peer, comes_back

# The blocks of the specification, which ev-node's own code made: the sequencer of these tests makes the same.
VECTORS = {
    "signature": [
        "1b25b78b5689930f3df75ea653fb4f7b9e829d006abf6e79d9ae4800f4a18e643117bb98d2f725bd044f4d820407f8c1b92c2a7f688541c413c9ee9c5dd36903",
        "120190136500aff74653c7f36676ea1a853c9a732adb960060ef0fe4b50736e75c807bc10839bec9ab4fce18123d38311ae72a7c3e3dd91705cad7b23877420b",
        "4bc3639738679963b8b84081c6670ac560d16fe7578e0c43cdc057b25a3a66b5cc649c60526c4712bb957b0acb6a11fc39925c605f386c3a4508846693db1608",
    ],
    "index": [
        "EC8516F28EE421121B23EF05E7940A60758C6094018A59E94117672076AE768B",
        "B5438FAB41737528729798A525C3181969C733E72736A65F0FB8493122D55F78",
        "AD95EA6FE2E9B127770C6D5E1AC362F3F5405863F6F18DF9B1403C39A6156E4A",
    ],
    "data_hash": [
        "e8baee46b7d3113108e0846500cd9654594b7b294e9a7e18ef420ac0daa8bdf8",
        "2fdcae6ec97941179492085b37b8816c76b50f971742f050aa7eb1a4d79ccc75",
        "5f128ecc34fb14fd1b6a9dade140b9c23866d0a44d0475033abc313ec05d211e",
    ],
}
STATE_2 = (
    "0a0012057665632d31180120022a0b0881e2cfaa0610959aef3a30664206726f6f742d324a2078e18473dcfaff0da9ae9fa5a404942ae43a2b7358c9fd3096fb"
    "73177dd41ada522022c6b405b7653b0e8cfb7b1f09c893bcb3e8aa71d99890bafa16576fee47b659"
)


def test_its_blocks_are_those_of_ev_node(badger: Badger) -> None:
    blocks = badger.lines("node", "--vectors")
    for name, expected in VECTORS.items():
        assert [block[name] for block in blocks] == expected
    assert blocks[1]["state"] == STATE_2


def database(home: Path) -> Path:
    return home / "data" / "testapp"


def another_home(home: Path, name: str) -> Path:
    """A home with the same genesis and keys, and no data."""
    other = home.with_name(name)
    shutil.copytree(home / "config", other / "config")
    (other / "data").mkdir()
    return other


def reaches(node: Peer, height: int) -> int:
    """Waits until it has made a block; where it is."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := int(node.ask("report")["height"])) < height:
        assert time.monotonic() < deadline, f"it is at {found}"
        time.sleep(0.02)
    return found


def goes_on(badger: Badger, home: Path) -> int:
    """Starts the sequencer in a home, waits for blocks; the height from which it went on."""
    with badger.node(home, "--block-time", "5ms") as node:
        began = int(node.ready["height"])
        assert node.ready["replayed"] == began
        reaches(node, began + 6)
        assert node.finish() == 0
    with badger.node(home) as node:  # and from what it wrote itself since
        assert node.ready["height"] > began + 5
    return began


@pytest.mark.parametrize("way", ["wire", "directory"])
def test_a_node_goes_on_from_a_chain(badger: Badger, tmp_path: Path, way: str) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    out.mkdir()
    with badger.node(home, "--block-time", "5ms") as node:
        reaches(node, 50)
        with evbackup.serve(database(home), "127.0.0.1:0") as server:
            source = server.address if way == "wire" else database(home)
            chain = [evbackup.backup(source, out / "full.badger")]
            heights = [node.ask("report")["height"]]
            for number in range(1, 4):
                before = reaches(node, heights[-1] + 20)
                chain.append(evbackup.backup(source, out / f"inc{number}.badger", since=chain[-1]))
                # Nothing that the node had said is missing.
                assert chain[-1].tip_height is not None
                assert before <= chain[-1].tip_height <= node.ask("report")["height"]
                heights.append(before)
        reaches(node, heights[-1] + 1)
    assert [made.kind for made in chain] == ["full", "inc", "inc", "inc"]
    assert all(made.complete_height == made.tip_height for made in chain)
    assert evbackup.verify(chain).raise_for_findings().ok
    for length in (1, 2, 4):
        restored = another_home(home, f"restored-{length}")
        evbackup.restore(chain[:length], database(restored))
        assert goes_on(badger, restored) == chain[length - 1].tip_height


def test_the_proposals_client_and_badgers_load(badger: Badger, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with badger.node(home, "--block-time", "5ms") as node:
        reaches(node, 50)
        with evbackup.serve(database(home), "127.0.0.1:0") as server:
            saved = badger.run(
                "client", "--addr", server.address, "--out", tmp_path / "saved.badger", "--protocol", "grpc"
            )
    assert saved["final"]["completed"]
    assert saved["final"]["last_version"] == saved["final"]["pinned_version"]
    loaded = another_home(home, "loaded")
    said = badger.load(database(loaded), tmp_path / "saved.badger")
    assert said["digest"]["digest"] == evbackup.digest(tmp_path / "saved.badger", now=NOW)
    assert goes_on(badger, loaded) == saved["final"]["tip_height"]


def test_a_killed_node_goes_on_from_a_backup_of_what_is_left(badger: Badger, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with badger.node(home, "--block-time", "2ms") as node:
        height = reaches(node, 50)
        node.kill()
    made = evbackup.backup(database(home), tmp_path / "full.badger")
    restored = another_home(home, "restored")
    evbackup.restore(made, database(restored))
    assert goes_on(badger, restored) >= height
    comes_back(made, tmp_path, badger.digest(database(home)))


@pytest.mark.parametrize("key", ["/0/h/7", "/0/d/7", "/0/c/7", "/0/s/7", "/0/m/pending_data"])
def test_the_node_does_not_start_on_less(badger: Badger, tmp_path: Path, key: str) -> None:
    """So that its starting says something."""
    home = tmp_path / "home"
    with badger.node(home, "--block-time", "5ms") as node:
        reaches(node, 10)
        assert node.finish() == 0
    with badger.serve(database(home)) as server:
        server.delete(key)
    assert not badger.lines("node", "--home", home, fails=True)
    assert json.loads((home / "config" / "genesis.json").read_text())["chain_id"] == "interop-1"
