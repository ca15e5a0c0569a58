"""Increments over Badger's own RPC: what was written between, and while they were taken."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import evbackup
from interop.peers import Badger, Node, comes_back

NOTHING = {"version": 0, "meta": 1, "value_sha256": ""}


def backups_in_every_form(server: Node, out: Path) -> list[evbackup.Backup]:
    chain = [evbackup.backup(server.address, out / "full.badger")]
    forms: list[Any] = [chain[0], out / "inc1.badger", str(out / "inc2.badger")]
    for number, since in enumerate(forms, 1):
        server.ask("blocks", count=20)
        server.ask("prune", to=10 * number)
        server.put(f"/batches/8000000000000{number:03x}", "queued")
        server.delete(f"/batches/800000000000000{number:x}")
        chain.append(evbackup.backup(server.address, out / f"inc{number}.badger", since=since))
    return chain


@pytest.mark.parametrize("layout", ["F", "T"])
def test_increments_follow_a_backup_or_a_path(badger: Badger, node: Path, out: Path, layout: str) -> None:
    # Versions above the heights: a server of layout T that takes the one for the other refuses, and is asked its own way.
    badger.fill(node, "--blocks", 200, "--queue", 30, "--generic", 500, "--per-batch", 1)
    badger.fill(node, "--blocks", 1)
    with badger.serve(node, "--layout", layout) as server:
        chain = backups_in_every_form(server, out)
        expected = server.digest()
    assert [made.kind for made in chain] == ["full", "inc", "inc", "inc"]
    assert [made.complete_height for made in chain] == [201, 221, 241, 261]
    assert all(made.entries < chain[0].entries / 2 for made in chain[1:])
    comes_back(chain, out, expected)
    # The order is mended, and Badger's own Load says the same of the same files.
    assert evbackup.verify(chain[::-1], chain=False).ok
    assert badger.load(out / "loaded", *chain)["digest"]["digest"] == expected


def test_a_version_alone_is_a_base_too(badger: Badger, node: Path, out: Path) -> None:
    badger.fill(node, "--blocks", 50)
    with badger.serve(node) as server:
        full = evbackup.backup(server.address, out / "full.badger")
        server.ask("blocks", count=5)
        inc = evbackup.backup(server.address, out / "inc.badger", since=full.next_since)
        expected = server.digest()
    assert (inc.kind, inc.since_version) == ("inc", full.next_since)
    comes_back([full, inc], out, expected)


def test_a_folder_with_auto(badger: Badger, node: Path, out: Path) -> None:
    badger.fill(node, "--blocks", 50)
    with badger.serve(node) as server:
        chain = [evbackup.backup(server.address, out, since="auto")]
        for _ in range(2):
            server.ask("blocks", count=5)
            chain.append(evbackup.backup(server.address, out, since="auto"))
        expected = server.digest()
    assert [made.kind for made in chain] == ["full", "inc", "inc"]
    assert sorted(out.glob("*.badger")) == sorted(made.path for made in chain if made.path)
    comes_back(chain, out, expected)


@pytest.mark.parametrize("layout", ["F", "T"])
def test_nothing_new_keeps_the_chain_usable(badger: Badger, node: Path, out: Path, layout: str) -> None:
    badger.fill(node, "--blocks", 50)
    with badger.serve(node, "--layout", layout) as server:
        chain = [evbackup.backup(server.address, out / "full.badger")]
        for number in range(2):
            chain.append(evbackup.backup(server.address, out / f"empty{number}.badger", since=chain[-1]))
            assert chain[-1].kind == "inc"
            assert chain[-1].complete_version == chain[0].complete_version
        comes_back(chain, out, server.digest())
        server.ask("blocks", count=1)
        chain.append(evbackup.backup(server.address, out / "after.badger", since=chain[-1]))
        expected = server.digest()
    assert chain[-1].complete_height == 51
    comes_back(chain, out, expected)


def test_a_chain_of_many_increments(badger: Badger, node: Path, out: Path) -> None:
    """More than are merged in one pass."""
    badger.fill(node, "--blocks", 100, "--queue", 20)
    with badger.serve(node) as server:
        chain = [evbackup.backup(server.address, out / "full.badger")]
        for number in range(40):
            server.ask("blocks", count=2)
            server.ask("prune", to=number)
            chain.append(evbackup.backup(server.address, out / f"inc{number}.badger", since=chain[-1]))
        expected = server.digest()
    comes_back(chain, out, expected)


def test_a_folder_goes_on_after_a_mismatch(badger: Badger, node: Path, out: Path) -> None:
    badger.fill(node, "--blocks", 50)
    with badger.serve(node) as server:
        made = [evbackup.backup(server.address, out, since="auto", on_mismatch="full") for _ in range(2)]
        server.ask("rollback", to=40)
        for _ in range(2):
            server.ask("blocks", count=1)
            made.append(evbackup.backup(server.address, out, since="auto", on_mismatch="full"))
        expected = server.digest()
    assert [one.kind for one in made] == ["full", "inc", "full", "inc"]
    assert "fell" in made[2].notes[0]
    comes_back(made[2:], out, expected)
    assert evbackup.verify(made[:2], chain=False).ok


def test_an_empty_answer_to_a_version(badger: Badger, node: Path, out: Path) -> None:
    """Badger answers `last_version` 0 where it has nothing above `since`."""
    badger.fill(node, "--blocks", 50)
    with badger.serve(node) as server:
        full = evbackup.backup(server.address, out / "full.badger")
        empty = evbackup.backup(server.address, out / "empty.badger", since=full.last_version)
        assert (empty.kind, empty.bytes, empty.entries) == ("inc", 0, 0)
        assert server.ask("stats")["last_version"] == 0
        assert empty.next_since == empty.complete_version == full.last_version
        server.ask("blocks", count=1)
        after = evbackup.backup(server.address, out / "after.badger", since=empty.next_since)
    assert after.tip_height == 51


def renew(newest: dict[str, Any], entries: Iterable[Any]) -> None:
    """Keeps the newest entry of each key."""
    for entry in entries:
        if newest.get(entry["key"], NOTHING)["version"] < entry["version"]:
            newest[entry["key"]] = entry


@pytest.mark.parametrize("flags", [(), ("--tiny",)], ids=["node", "many-tables"])
def test_nothing_is_lost_while_the_node_writes(badger: Badger, node: Path, out: Path, flags: tuple[str, ...]) -> None:
    badger.fill(node, "--blocks", 2000, "--value-size", 3000, "--queue", 100)
    # All versions are kept, so that the database can be asked afterwards what it held at each of them.
    load = ("--write-blocks", 400, "--writers", 3, "--block-size", 500)
    with badger.serve(node, "--keep-versions", 0, *load, *flags) as server:
        before = server.ask("stats")
        chain = [evbackup.backup(server.address, out / "full.badger")]
        for number in range(12):
            time.sleep(0.05)
            chain.append(evbackup.backup(server.address, out / f"inc{number:02}.badger", since=chain[-1]))
        stats = server.ask("pause")
        chain.append(evbackup.backup(server.address, out / "last.badger", since=chain[-1]))
        expected = server.digest()
        server.kill()
    assert stats["blocks"] - before["blocks"] > 100
    assert stats["others"] - before["others"] > 100
    held = badger.lines("dump", "--dir", node)
    theirs: dict[str, Any] = {}
    ours: dict[str, Any] = {}
    heights = []
    for made in chain:
        renew(ours, badger.lines("dump", "--in", made.path))
        renew(theirs, (entry for entry in held if entry["version"] <= made.complete_version))
        for key, entry in theirs.items():
            found = ours.get(key, NOTHING)
            gone = entry["meta"] & 1 and found is NOTHING
            assert gone or found["version"] >= entry["version"], (made, entry, found)
            if found["version"] == entry["version"]:
                assert found["value_sha256"] == entry["value_sha256"], (made, entry, found)
        heights.append(made.complete_height)
        assert made.next_since == made.complete_version <= made.last_version
    assert heights == sorted(heights)
    assert heights[-1] == 2000 + stats["blocks"]
    comes_back(chain, out, expected)


def test_nothing_is_lost_with_the_nodes_own_options(badger: Badger, node: Path, out: Path) -> None:
    """One version is kept, so that a stream has only the newest of what was written meanwhile."""
    badger.fill(node, "--blocks", 2000, "--value-size", 3000, "--queue", 100)
    with badger.serve(node, "--write-blocks", 400, "--writers", 3, "--block-size", 500) as server:
        chain = [evbackup.backup(server.address, out / "full.badger")]
        for number in range(10):
            chain.append(evbackup.backup(server.address, out / f"inc{number:02}.badger", since=chain[-1]))
        server.ask("pause")
        chain.append(evbackup.backup(server.address, out / "last.badger", since=chain[-1]))
        expected = server.digest()
    comes_back(chain, out, expected)
    assert badger.load(out / "loaded", *chain)["digest"]["digest"] == expected
    # A store that takes one increment after the other ends up the same.
    evbackup.restore(chain[0], out / "store", engine="rocksdb")
    for made in chain[1:]:
        assert not evbackup.apply(made, out / "store").new_history
    assert evbackup.digest(out / "store") == expected
