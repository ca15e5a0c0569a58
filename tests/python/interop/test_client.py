"""The proposal's client against our server, and Badger's own Load of what it saved."""

from pathlib import Path

import pytest

import evbackup
from interop.peers import NOW, Badger
from support import BLOCKS


@pytest.mark.parametrize("http", [1, 2])
def test_their_client_saves_from_us_what_badger_loads(
    badger: Badger, sample: Path, node: Path, out: Path, http: int
) -> None:
    with evbackup.serve(sample, "127.0.0.1:0") as server:
        protocol = ("--protocol", "grpc", "--http", http)
        saved = badger.run("client", "--addr", server.address, "--out", out / "full.badger", *protocol)
    assert saved["final"]["completed"]
    assert saved["final"]["current_height"] == BLOCKS
    loaded = badger.load(node, out / "full.badger")
    ours = evbackup.digest(sample, now=NOW)
    assert loaded["digest"]["digest"] == ours == evbackup.digest(out / "full.badger", now=NOW)
