"""The other direction: what we serve and write, the proposal's client saves and Badger's own Load takes."""

from pathlib import Path
from typing import Any

import pytest

import evbackup
from interop.peers import NOW, Badger, comes_back

EVERYTHING: dict[str, tuple[object, ...]] = {
    "ttl": ("--generic", 500, "--ttl"),
    "user-meta": ("--generic", 500, "--usermeta"),
    "versions": ("--generic", 300, "--versions", 3, "--keep-versions", 0),
    "discard": ("--generic", 300, "--versions", 3, "--discard", "--keep-versions", 0),
    "deletes": ("--generic", 500, "--deletes"),
    "merge": ("--merge", "--generic", 10, "--keep-versions", 0),
    "empty": ("--generic", 500, "--empty"),
    "binary": ("--generic", 500, "--binary"),
    "big": ("--big", "--generic", 10),
    "blocks": ("--blocks", 100, "--queue", 10),
}


def history(loaded: Any) -> str:
    return str(loaded["history"]["digest"])


@pytest.fixture(params=list(EVERYTHING))
def source(request: pytest.FixtureRequest, badger: Badger, node: Path, out: Path) -> tuple[Path, str, list[str]]:
    """A store restored from what a real Badger served, what Badger says of the version that it is complete to, and what stands in there."""
    badger.fill(node, *EVERYTHING[request.param])
    stand_ins = []
    with badger.serve(node, "--keep-versions", 0) as server:
        if request.param == "blocks":
            server.ask("blocks", count=1)  # what was written beside blocks is older than the last one
            # The DA height of the last block, which comes after it, as every mark above it does.
            stand_ins = ["/0/m/rhb/101/h"]
        full = evbackup.backup(server.address, out / "theirs.badger", exact=True)
        everything, complete = server.digest(), server.digest(at=full.complete_version)
    return comes_back(full, out, everything).path, complete, stand_ins


def test_the_proposals_client_saves_what_badger_loads(
    badger: Badger, source: tuple[Path, str, list[str]], out: Path
) -> None:
    store, digest, stand_ins = source
    with evbackup.serve(store, "127.0.0.1:0") as server:
        for extra in ((), ("--gzip=false",), ("--http", 1)):
            client = ("client", "--addr", server.address, "--out", out / "saved.badger", "--protocol", "grpc")
            saved = badger.run(*client, *extra)
            assert saved["final"]["completed"]
            assert saved["final"]["sha256"] == saved["sha256"]
            assert saved["final"]["last_version"] == saved["final"]["pinned_version"]
        ours = evbackup.backup(server.address, out / "ours.badger")
    assert ours.sha256 == saved["sha256"]
    loaded = badger.load(out / "loaded", out / "saved.badger")
    assert loaded["digest"]["digest"] == evbackup.digest(out / "saved.badger", now=NOW)
    # Every version of every key, too.
    assert history(loaded) == evbackup.digest(out / "saved.badger", now=NOW, history=True)
    # But for what stands in it is what Badger held.
    with badger.serve(out / "loaded") as server:
        for key in stand_ins:
            server.delete(key)
        assert server.digest() == digest


def test_chains_of_ours_are_loaded(badger: Badger, node: Path, out: Path) -> None:
    """Full and increments out of a store that follows a node, tombstones of purged keys among them."""
    badger.fill(node, "--generic", 500, "--ttl", "--usermeta", "--empty", "--big")
    with badger.serve(node) as server:
        theirs = [evbackup.backup(server.address, out / "theirs0.badger")]
        store = evbackup.restore(theirs[0], out / "store", engine="rocksdb").path
        ours = [evbackup.backup(store, out / "ours0.badger")]
        for number in (1, 2, 3):
            badger_work(server, number)
            theirs.append(evbackup.backup(server.address, out / f"theirs{number}.badger", since=theirs[-1]))
            applied = evbackup.apply(theirs[-1], store)
            assert not applied.new_history
            ours.append(evbackup.backup(store, out / f"ours{number}.badger", since=ours[-1]))
            expected = server.digest()
            assert evbackup.digest(store, now=NOW) == expected
            comes_back(ours, out, expected)
    assert [made.kind for made in ours] == ["full", "inc", "inc", "inc"]
    assert {made.deletes for made in ours} == {"exact"}
    assert sum(badger.run("dump", "--in", made.path, "--summary")["deletes"] for made in ours) > 30
    assert badger.load(out / "loaded", *ours)["digest"]["digest"] == expected
    assert badger.load(out / "loaded-theirs", *theirs)["digest"]["digest"] == expected


def badger_work(server: Any, number: int) -> None:
    for key in range(number * 20, number * 20 + 15):
        server.delete(f"/g/{key:010}")
    server.ask("put", key=f"/g/{number:010}", value="soon", expires_at=NOW + 1000, user_meta=7)
    server.ask("put", key=f"/g/over/{number}", value="late", expires_at=NOW - 1000)
    server.ask("discard", key="/g/0000000400", value=f"only this {number}")
    server.ask("compact")


def test_the_proposals_client_takes_increments(badger: Badger, node: Path, out: Path) -> None:
    badger.fill(node, "--blocks", 100, "--queue", 10)
    with badger.serve(node) as server:
        theirs = [evbackup.backup(server.address, out / "theirs0.badger")]
        store = evbackup.restore(theirs[0], out / "store", engine="rocksdb").path
        with evbackup.serve(store, "127.0.0.1:0") as ours:
            first = badger.run("client", "--addr", ours.address, "--out", out / "full.badger", "--protocol", "grpc")
        server.ask("blocks", count=20)
        server.ask("prune", to=30)
        theirs.append(evbackup.backup(server.address, out / "theirs1.badger", since=theirs[-1]))
        evbackup.apply(theirs[-1], store)
        since = first["final"]["last_version"]
        with evbackup.serve(store, "127.0.0.1:0") as ours:
            arguments = ("client", "--addr", ours.address, "--protocol", "grpc")
            second = badger.run(*arguments, "--out", out / "inc.badger", "--since", since)
            again = second["final"]["last_version"]
            empty = badger.run(*arguments, "--out", out / "empty.badger", "--since", again)
            ahead = badger.run(*arguments, "--out", out / "ahead.badger", "--since", again + 1, fails=True)
        # What a store serves is complete up to a version, and that is what Badger held then.
        pinned = second["final"]["pinned_version"]
        assert pinned == theirs[-1].complete_version
        expected = server.digest(at=pinned)
    assert (second["final"]["since_version"], second["final"]["current_height"]) == (since, 120)
    assert (empty["bytes"], empty["final"]["completed"]) == (0, True)
    assert ahead["code"] == "failed_precondition"
    assert not (out / "ahead.badger").exists()
    loaded = badger.load(out / "loaded", out / "full.badger", out / "inc.badger", out / "empty.badger")
    assert loaded["digest"]["digest"] == evbackup.digest(store, now=NOW, at=pinned)
    # What Badger had a version or two later, and not before, stands in there: the DA height of the last block, and the mark of what was pruned.
    # But for that it is what Badger held.
    with badger.serve(out / "loaded") as server:
        for key in ("/0/m/rhb/120/h", "/0/m/lst-prnd-b"):
            server.delete(key)
        assert server.digest() == expected
