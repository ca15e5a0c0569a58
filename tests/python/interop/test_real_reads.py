"""The read RPCs: what we answer is what a released node answers out of the same database, to ev-node's own clients."""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import evbackup
from interop.peers import PATIENCE_S, Peer
from interop.real import EvNode, database

BLOCKS = 40
PROTOCOLS = ("evnode", "grpc", "grpc-web", "connect", "connect-json")


@pytest.fixture(scope="module")
def stopped(evnode: EvNode, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a node that has stopped, with blocks that were included on DA."""
    home = tmp_path_factory.mktemp("reads") / "home"
    with evnode.aggregator(home) as node:
        node.reaches(BLOCKS)
        node.reaches(10, "da_included")
    return database(home)


class Reads:
    """The program that asks and answers with ev-node's own code."""

    def __init__(self, evnode: EvNode) -> None:
        self.program = evnode.program.with_name(f"{evnode.program.name}-reads")

    @contextlib.contextmanager
    def serve(self, directory: Path) -> Iterator[str]:
        """ev-node's server over a copy of a database; its address."""
        with Peer([str(self.program), "--dir", str(directory)]) as server:
            yield str(server.ready["addr"])

    def ask(self, address: str, protocol: str, questions: list[Any]) -> list[Any]:
        """The answers to some questions."""
        command = [str(self.program), "--addr", address, "--protocol", protocol]
        lines = "".join(json.dumps(question) + "\n" for question in questions)
        done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


def questions(store: evbackup.Datastore, protocol: str) -> list[Any]:
    """Every row of what a node answers."""
    tip = store.height
    heights = [0, 1, 2, 10, tip - 1, tip, tip + 1, tip + 1000]
    asked: list[Any] = [{"method": "GetBlock", "height": height} for height in heights]
    hashes = [store.block(height).index_hash for height in (1, 7, tip)] + [bytes(32), b"", bytes(31)]
    asked += [{"method": "GetBlock", "hash": name.hex()} for name in hashes]
    asked += [{"method": "GetState"}, {"method": "GetP2PStoreInfo"}]
    names = ["d", "gdh", "rhb/1/h", "rhb/1/d", "none", "", "last-submitted-header-height", "../t", "../h/3", "../../x"]
    asked += [{"method": "GetMetadata", "key": name} for name in names]
    if protocol != "evnode":  # whose client always says what it wants, and never asks for the genesis DA height
        asked += [{"method": "GetBlock"}, {"method": "GetGenesisDaHeight"}]
    return asked


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("engine", ["directory", "badger", "rocksdb"])
def test_our_answers_are_a_released_nodes(
    evnode: EvNode, stopped: Path, tmp_path: Path, protocol: str, engine: str
) -> None:
    reads = Reads(evnode)
    theirs = shutil.copytree(stopped, tmp_path / "theirs")
    ours = stopped
    if engine != "directory":
        full = evbackup.backup(stopped, tmp_path / "full.badger", offline=True)
        ours = evbackup.restore(full, tmp_path / "ours", engine="badger" if engine == "badger" else "rocksdb").path
    with evbackup.open(ours, offline=engine == "directory") as store:
        asked = questions(store, protocol)
    with reads.serve(theirs) as address:
        expected = reads.ask(address, protocol, asked)
    with evbackup.serve(ours, "127.0.0.1:0", offline=engine == "directory") as server:
        found = reads.ask(server.address, protocol, asked)
    assert len(expected) == len(asked)
    for question, one, other in zip(asked, expected, found, strict=True):
        if "text" in one and question.get("hash") is not None:
            # A node prints the bytes of the hash one by one.
            assert one.pop("text").endswith("datastore: key not found")
            assert other.pop("text").endswith("datastore: key not found")
        assert other == one, question


def test_a_header_hash_opens_the_wider_door(evnode: EvNode, stopped: Path, tmp_path: Path) -> None:
    reads = Reads(evnode)
    full = evbackup.backup(stopped, tmp_path / "full.badger", offline=True)
    store = evbackup.restore(full, tmp_path / "store", engine="rocksdb").path
    with evbackup.open(store) as opened:
        block = opened.block(9)
    asked = [{"method": "GetBlock", "hash": block.hash.hex()}]
    with reads.serve(shutil.copytree(stopped, tmp_path / "theirs")) as address:
        assert reads.ask(address, "evnode", asked)[0]["code"] == "internal"
    with evbackup.serve(store, "127.0.0.1:0") as server:
        answer = reads.ask(server.address, "evnode", asked)[0]
    assert answer["message"]["block"]["header"]["header"]["height"] == "9"


def test_what_is_no_datastores_is_unimplemented(evnode: EvNode, stopped: Path, tmp_path: Path) -> None:
    reads = Reads(evnode)
    full = evbackup.backup(stopped, tmp_path / "full.badger", offline=True)
    store = evbackup.restore(full, tmp_path / "store", engine="rocksdb").path
    asked = [{"method": method} for method in ("GetPeerInfo", "GetNetInfo", "GetNamespace")]
    with evbackup.serve(store, "127.0.0.1:0") as server:
        codes = [answer["code"] for answer in reads.ask(server.address, "evnode", asked)]
    assert codes == ["unimplemented"] * 3


def test_a_running_nodes_blocks_are_read_beside_it(evnode: EvNode, tmp_path: Path) -> None:
    """Ours follow the tip, and each block is the node's."""
    reads = Reads(evnode)
    home = tmp_path / "home"
    with evnode.aggregator(home) as node:
        node.reaches(BLOCKS)
        with evbackup.serve(database(home), "127.0.0.1:0") as server, evbackup.open(database(home)) as directory:
            for _ in range(10):
                height = directory.height
                assert height > 0
                asked = [{"method": "GetBlock", "height": at} for at in (1, height // 2, height)]
                theirs = reads.ask(node.rpc, "grpc", asked)
                ours = reads.ask(server.address, "grpc", asked)
                # DA heights come later than the block.
                assert [one["message"]["block"] for one in ours] == [one["message"]["block"] for one in theirs]
                assert directory.block(height).hash.hex() == node.report(height)["hash"]
            assert directory.height > BLOCKS
