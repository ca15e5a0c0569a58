"""A source that is not what the increment is based on: refused, or with `on_mismatch="full"` a full backup that says why."""

import subprocess
import sys
from pathlib import Path

import pytest

import evbackup
from interop.peers import Badger, Node, comes_back, names


def refused(server: Node, base: evbackup.Backup, out: Path, *texts: str) -> None:
    """An increment is a mismatch and leaves nothing; with leave to do so, it becomes a full backup that comes back."""
    before = names(out)
    with pytest.raises(evbackup.MismatchError) as caught:
        evbackup.backup(server.address, out / "inc.badger", since=base)
    assert names(out) == before
    assert caught.value.hint
    assert "full" in caught.value.hint
    assert str(caught.value).startswith(f"{server.address}: cannot follow full.badger: ")
    for text in texts:
        assert text in str(caught.value)
    made = evbackup.backup(server.address, out / "instead.badger", since=base, on_mismatch="full")
    assert (made.kind, made.since_version) == ("full", 0)
    # A database that is not ev-node's has one note more, that it has no chain.
    assert made.notes[1:] in ((), ("no chain was found: there are no keys of ev-node's",))
    for text in texts:
        assert text in made.notes[0]
    comes_back(made, out, server.digest())
    # It is a base as any other.
    server.put("/g/after", "it")
    more = evbackup.backup(server.address, out / "more.badger", since=made)
    assert more.kind == "inc"
    comes_back([made, more], out, server.digest())


@pytest.mark.parametrize("blocks", [100, 0], ids=["ev-node", "generic"])
def test_versions_that_went_backwards(badger: Badger, node: Path, out: Path, blocks: int) -> None:
    """The newest keys are deleted and compacted away: Badger forgets that it ever gave their versions."""
    badger.fill(node, "--blocks", blocks, "--generic", 100)
    with badger.serve(node) as server:
        for number in range(50):
            server.put(f"/g/late/{number}", "x")
        base = evbackup.backup(server.address, out / "full.badger")
        for number in range(50):
            server.delete(f"/g/late/{number}")
        stats = server.ask("compact")
        assert stats["max_version"] < stats["max_version_before"]
        server.put("/g/0000000001", "changed at a version that was given before")
        refused(server, base, out, "versions")


@pytest.mark.parametrize("blocks", [100, 0], ids=["ev-node", "generic"])
def test_versions_that_were_used_again(badger: Badger, node: Path, out: Path, blocks: int) -> None:
    """As above, but by now the counter has passed the base: one key has two values at one version."""
    badger.fill(node, "--blocks", blocks, "--generic", 100)
    with badger.serve(node) as server:
        versions = {server.put(f"/g/late/{number}", f"first {number}") for number in range(50)}
        base = evbackup.backup(server.address, out / "full.badger")
        for number in range(50):
            server.delete(f"/g/late/{number}")
        server.ask("compact")
        again = {server.put(f"/g/late/{number}", f"second {number}") for number in range(50)}
        assert again & versions
        for number in range(100):
            last = server.put("/g/counter", str(number))
        assert last > base.last_version
        refused(server, base, out, "versions")


def test_another_database_at_the_same_address(badger: Badger, node: Path, out: Path) -> None:
    badger.fill(node, "--blocks", 100)
    with badger.serve(node) as server:
        base = evbackup.backup(server.address, out / "full.badger")
        address = server.address
    other = node.with_name("other")
    badger.fill(other, "--blocks", 150, "--seed", 2)
    with badger.serve(other, "--addr", address) as server:
        refused(server, base, out, "block 100")


def test_another_database_that_is_not_ev_nodes(badger: Badger, node: Path, out: Path) -> None:
    badger.fill(node, "--generic", 100, "--versions", 3)
    with badger.serve(node) as server:
        base = evbackup.backup(server.address, out / "full.badger")
    other = node.with_name("other")
    badger.fill(other, "--generic", 200, "--seed", 2, "--per-batch", 10)
    with badger.serve(other) as server:
        refused(server, base, out)


def test_another_directory(badger: Badger, node: Path, out: Path) -> None:
    badger.fill(node, "--blocks", 100)
    base = evbackup.backup(node, out / "full.badger")
    other = node.with_name("other")
    badger.fill(other, "--blocks", 150, "--seed", 2)
    with pytest.raises(evbackup.MismatchError) as caught:
        evbackup.backup(other, out / "inc.badger", since=base)
    assert caught.value.path == other
    assert str(caught.value).startswith(f"{other}: cannot follow full.badger: expected a base of store ")


def test_a_rollback(badger: Badger, node: Path, out: Path) -> None:
    badger.fill(node, "--blocks", 100)
    with badger.serve(node) as server:
        base = evbackup.backup(server.address, out / "full.badger")
        server.ask("rollback", to=90)
        refused(server, base, out, "fell from 100 to 90")


def test_a_rollback_with_other_blocks_since(badger: Badger, node: Path, out: Path) -> None:
    """The tip has passed the base's again, with another block at its height."""
    badger.fill(node, "--blocks", 100)
    with badger.serve(node) as server:
        base = evbackup.backup(server.address, out / "full.badger")
        server.ask("rollback", to=90)
    badger.fill(node, "--blocks", 20, "--seed", 2)
    with badger.serve(node) as server:
        refused(server, base, out, "block 100")


def test_nothing_follows_into_a_stream_that_has_begun(badger: Badger, node: Path, out: Path) -> None:
    """The mismatch shows behind bytes that are written: a full backup after them would be two streams in one."""
    badger.fill(node, "--blocks", 100)
    with badger.serve(node) as server:
        base = evbackup.backup(server.address, out / "full.badger")
        server.ask("rollback", to=90)
    badger.fill(node, "--blocks", 20, "--seed", 2)
    with badger.serve(node) as server:
        command = [sys.executable, "-m", "evbackup", "backup", server.address, "-o", "-", "--quiet"]
        command += ["--since", str(base.path), "--on-mismatch", "full"]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == evbackup.MismatchError.exit_code
    assert done.stdout
    assert b"block 100" in done.stderr


def test_an_empty_answer_while_the_tip_has_fallen(badger: Badger, node: Path, out: Path) -> None:
    badger.fill(node, "--blocks", 100)
    with badger.serve(node) as server:
        base = evbackup.backup(server.address, out / "full.badger")
    with badger.serve(node, "--fall-tip", 1) as server, pytest.raises(evbackup.MismatchError, match="from 100 to 99"):
        evbackup.backup(server.address, out / "inc.badger", since=base)


def test_a_pruned_base_is_no_mismatch(badger: Badger, node: Path, out: Path) -> None:
    """The block that proves the base is gone, as the pruning mark says."""
    badger.fill(node, "--blocks", 100)
    with badger.serve(node) as server:
        base = evbackup.backup(server.address, out / "full.badger")
        server.ask("blocks", count=50)
        server.ask("prune", to=120)
        server.ask("compact")
        inc = evbackup.backup(server.address, out / "inc.badger", since=base)
    assert (inc.kind, inc.complete_height) == ("inc", 150)
    assert evbackup.verify([base, inc], chain=False).ok


def test_the_stores_of_two_servers_of_ours(badger: Badger, node: Path, out: Path) -> None:
    """A store restored from the same chain is another history of versions all the same."""
    badger.fill(node, "--blocks", 50)
    with badger.serve(node) as server:
        full = evbackup.backup(server.address, out / "full.badger")
    for name in ("one", "other"):
        evbackup.restore(full, out / name, engine="rocksdb")
    with evbackup.serve(out / "one", "127.0.0.1:0") as ours:
        base = evbackup.backup(ours.address, out / "base.badger")
        with pytest.raises(evbackup.MismatchError, match=f"^{ours.address}: cannot follow full.badger: expected "):
            evbackup.backup(ours.address, out / "inc.badger", since=full)
    with evbackup.serve(out / "other", "127.0.0.1:0") as ours:
        with pytest.raises(evbackup.MismatchError, match="store"):
            evbackup.backup(ours.address, out / "inc.badger", since=base)
        made = evbackup.backup(ours.address, out / "inc.badger", since=base, on_mismatch="full")
    assert made.kind == "full"
    assert made.notes
