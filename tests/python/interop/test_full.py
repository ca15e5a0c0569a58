"""A full backup of a real Badger: proven, read and restored to what Badger says it held."""

import hashlib
import json
from pathlib import Path

import pytest

import evbackup
from interop.peers import NOW, Badger, Large, comes_back, names

# Everything that an entry can have: several versions, deletes, expiry, user meta, discard bits, merge operands, empty and large values.
EVERYTHING = (
    *("--keep-versions", 0, "--generic", 2000, "--versions", 3, "--deletes", "--ttl", "--usermeta", "--discard"),
    *("--merge", "--empty", "--big"),
)


@pytest.mark.parametrize("layout", ["F", "T"])
@pytest.mark.parametrize("fault", ["none", "bad-chunk-cut", "heartbeats"])
def test_blocks_come_back(badger: Badger, node: Path, out: Path, layout: str, fault: str) -> None:
    filled = badger.fill(node, "--blocks", 300, "--queue", 20, "--generic", 100)
    with badger.serve(node, "--layout", layout) as server:
        server.fault(fault)
        made = evbackup.backup(server.address, out / "full.badger")
        expected = server.digest()
        stats = server.ask("stats")
    assert (made.kind, made.since_version) == ("full", 0)
    assert made.announced_height == made.tip_height == made.complete_height == filled["tip"] == 300
    assert made.last_version == stats["last_version"] == filled["max_version"]
    assert 0 < made.complete_version <= made.last_version
    assert made.sha256 == hashlib.sha256((out / "full.badger").read_bytes()).hexdigest()
    assert json.loads((out / "full.badger.json").read_text())["layout"] == layout
    assert names(out) == ["full.badger", "full.badger.json", "full.badger.keys"]
    comes_back(made, out, expected)
    assert badger.digest(node) == expected


@pytest.mark.parametrize("binary", [False, True])
def test_everything_an_entry_can_have_comes_back(badger: Badger, node: Path, out: Path, *, binary: bool) -> None:
    badger.fill(node, *EVERYTHING, *(["--binary"] if binary else []))
    with badger.serve(node, "--keep-versions", 0) as server:
        made = evbackup.backup(server.address, out / "full.badger")
        expected = server.digest()
    restored = comes_back(made, out, expected)
    # What stands in the file is what Badger's own Load makes of it, old versions and deletes included.
    loaded = badger.load(out / "loaded", made)
    assert loaded["digest"]["digest"] == expected
    history = evbackup.digest(made, now=NOW, history=True)
    assert history == loaded["history"]["digest"]
    assert evbackup.digest(restored.path, now=NOW, history=True) == history


def test_an_empty_database(badger: Badger, node: Path, out: Path) -> None:
    with badger.serve(node) as server:
        made = evbackup.backup(server.address, out / "full.badger")
        expected = server.digest()
        assert (made.bytes, made.entries, made.last_version) == (0, 0, 0)
        server.put("/a", "1")
        more = evbackup.backup(server.address, out / "inc.badger", since=made)
        later = server.digest()
    comes_back(made, out, expected)
    comes_back([made, more], out, later)


def test_what_badger_wrote_without_us(badger: Badger, node: Path, out: Path) -> None:
    badger.fill(node, "--blocks", 200, "--generic", 500, "--usermeta", "--ttl")
    first = badger.run("backup", "--dir", node, "--out", out / "full.badger")
    before = badger.digest(node)
    badger.fill(node, "--seed", 2, "--blocks", 50, "--generic", 300, "--deletes")
    badger.run("backup", "--dir", node, "--out", out / "inc.badger", "--since", first["version"])
    after = badger.digest(node)
    report = evbackup.verify(out / "full.badger", chain=False)
    assert report.ok
    assert {finding.code for finding in report.warnings} == {"no-manifest"}
    assert (report.last_version, report.complete_version) == (first["version"], None)
    comes_back(out / "full.badger", out, before)
    comes_back([out / "full.badger", out / "inc.badger"], out, after)
    assert names(out)[:2] == ["full.badger", "inc.badger"]


def test_large_streams_of_many_interleaved_runs(badger: Badger, large: Large, out: Path) -> None:
    report = evbackup.verify(large.backup, chain=False).raise_for_findings(strict=True)
    summary = badger.run("dump", "--in", large.backup.path, "--summary")
    manifest = json.loads(large.manifest.read_text())
    assert large.backup.bytes == summary["bytes"] > 300_000_000
    assert len(manifest["runs"]) == summary["stream_ids"] >= 8
    assert len(manifest["pieces"]) > len(manifest["runs"]), "expected runs that go over several frames"
    assert not summary["sorted"]
    assert report.entries == large.backup.entries == summary["entries"]
    restored = evbackup.restore(large.backup, out / "store", engine="rocksdb")
    # What was written behind the last block, marks and DA heights up to it, has a stand-in where the store shows it; nothing else has.
    complete = large.backup.complete_version
    assert complete is not None
    written = badger.lines("dump", "--in", large.backup.path)
    behind = {bytes.fromhex(entry["key"]) for entry in written if entry["version"] > complete}
    assert len(written) == summary["entries"]
    assert behind
    assert all(key.startswith((b"/0/m/", b"/evm/execmeta/")) for key in behind)
    assert restored.entries == summary["entries"] + len(behind)
    assert evbackup.digest(restored.path, now=NOW) == large.digest
