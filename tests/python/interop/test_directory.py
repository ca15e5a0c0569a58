"""Badger directories: what Badger wrote, we read to the entry; what we wrote, Badger opens and goes on with."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import evbackup
from interop.peers import NOW, ROOT, Badger, names

GOLDEN = ROOT / "tests" / "golden"
# The meta bits that a stream has; 0x02 says where the source kept the value, and may differ.
STREAM = 0x0D

EVERYTHING: dict[str, tuple[object, ...]] = {
    "all kinds": (
        *("--keep-versions", 0, "--generic", 2000, "--versions", 3, "--deletes", "--ttl", "--usermeta", "--discard"),
        *("--merge", "--empty", "--big"),
    ),
    "binary": ("--keep-versions", 0, "--generic", 2000, "--versions", 2, "--deletes", "--binary"),
    "value logs": ("--generic", 3000, "--generic-size", 2000, "--value-threshold", 1024, "--versions", 2),
    "tiny tables": ("--tiny", "--generic", 20_000, "--generic-size", 150, "--versions", 2),
    "blocks": ("--blocks", 300, "--queue", 20, "--prune", 100, "--generic", 100),
}


def papers() -> list[Any]:
    found = [json.loads(path.read_text()) for path in sorted(GOLDEN.glob("badger-*/paper.json"))]
    assert len(found) >= 45
    return found


def ident(paper: Any) -> str:
    return str(paper["case"]).removeprefix("badger-")


READ = [paper for paper in papers() if "refused" not in paper]
REFUSED = [paper for paper in papers() if "refused" in paper]


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def entries(found: list[Any]) -> list[tuple[Any, ...]]:
    """What a stream says, whoever wrote it and in whatever order.

    Without the entry that Badger adds below one that discards what is older, which alone has no user meta; and without the values of expired entries,
    which Badger leaves out.
    """
    return sorted(
        (
            line["key"],
            -line["version"],
            line["meta"] & STREAM,
            max(line["user_meta"], 0),
            line["expires_at"],
            *((line["value_len"], line["value_sha256"]) if not 0 < line["expires_at"] <= NOW else ()),
        )
        for line in found
        if line["user_meta"] >= 0
    )


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    """A copy of a golden directory, to see that nothing in it changes."""

    def copy(paper: Any) -> Path:
        return Path(shutil.copytree(GOLDEN / paper["case"] / "db", tmp_path / "db"))

    return copy


def state(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode)
        for path in sorted(folder.iterdir())
    }


@pytest.mark.parametrize("paper", READ, ids=ident)
def test_what_badger_wrote_is_read_to_the_entry(folder: Any, badger: Badger, tmp_path: Path, paper: Any) -> None:
    directory, view = folder(paper), paper["badger"]["view"]
    before = state(directory)
    assert evbackup.digest(directory, now=view["now"]) == view["digest"]
    made = evbackup.backup(directory, tmp_path / "full.badger")
    assert made.last_version == view["max_version"]
    expected = lines(GOLDEN / paper["case"] / "backup.jsonl")
    gone = {
        (line["key"], line["version"])
        for line in lines(GOLDEN / paper["case"] / "entries.jsonl")
        if line.get("dangling")
    }
    # Badger emits a version whose value is gone with an empty one; we leave it out.
    expected = [line for line in expected if (line["key"], line["version"]) not in gone]
    dumped = badger.lines("dump", "--in", tmp_path / "full.badger")
    assert entries(dumped) == entries(expected)
    assert evbackup.digest(made, now=view["now"]) == view["digest"]
    assert evbackup.verify(made, chain=False).ok
    assert state(directory) == before


@pytest.mark.parametrize("paper", REFUSED, ids=ident)
def test_what_must_be_refused_is(folder: Any, tmp_path: Path, paper: Any) -> None:
    directory = folder(paper)
    before = state(directory)
    with pytest.raises(evbackup.EvbackupError) as refused:
        evbackup.backup(directory, tmp_path / "full.badger")
    assert refused.value.code == paper["refused"]
    assert names(tmp_path) == ["db"]
    assert state(directory) == before


@pytest.mark.parametrize("kind", list(EVERYTHING))
def test_what_we_write_badger_goes_on_with(badger: Badger, node: Path, out: Path, kind: str) -> None:
    badger.fill(node, *EVERYTHING[kind])
    expected = badger.digest(node, "--keep-versions", 0)
    made = evbackup.backup(node, out / "full.badger")
    for number, program in enumerate((badger, badger.newest())):
        restored = evbackup.restore(made, out / f"restored-{number}")
        assert evbackup.digest(restored.path, now=NOW) == expected
        checked = program.check(restored.path, "--version", made.last_version)
        assert checked["digest"]["digest"] == expected
        assert checked["written_version"] == made.last_version + 1
        # It lives on: Badger overwrites, compacts and restarts, and still finds everything.
        program.fill(restored.path, "--seed", 9, "--generic", 500, "--tiny")
        program.run("compact", "--dir", restored.path)
        program.check(restored.path)


@pytest.mark.parametrize("kind", list(EVERYTHING))
def test_there_and_back(badger: Badger, node: Path, out: Path, kind: str) -> None:
    """Badger's directory, our segment, our directory, our segment, Badger's Load; and a store on the way."""
    badger.fill(node, *EVERYTHING[kind])
    expected = badger.digest(node, "--keep-versions", 0)
    first = evbackup.backup(node, out / "first.badger")
    restored = evbackup.restore(first, out / "restored").path
    second = evbackup.backup(restored, out / "second.badger")
    store = evbackup.restore(restored, out / "store", engine="rocksdb").path
    again = evbackup.restore(store, out / "again").path
    for path in (first.path, restored, second.path, store, again):
        assert path is not None
        assert evbackup.digest(path, now=NOW) == expected
    for segment in (first, second):
        loaded = badger.load(out / f"loaded-{segment.entries}-{segment.sha256[:6]}", segment)
        assert loaded["digest"]["digest"] == expected
    badger.check(again)


def test_increments_of_a_directory(badger: Badger, node: Path, out: Path) -> None:
    badger.fill(node, "--blocks", 200, "--queue", 20, "--generic", 300, "--ttl", "--usermeta")
    chain = [evbackup.backup(node, out / "0.badger")]
    for number in range(1, 4):
        badger.fill(node, "--seed", number, "--blocks", 30, "--generic", 40, "--deletes", "--prune", 20 * number)
        if number == 2:
            badger.run("compact", "--dir", node)  # what is deleted leaves no trace
        chain.append(evbackup.backup(node, out / f"{number}.badger", since=chain[-1]))
        expected = badger.digest(node)
        assert evbackup.verify(chain, chain=False).raise_for_findings().ok
        assert evbackup.digest(chain, now=NOW) == expected
        restored = evbackup.restore(chain, out / f"restored-{number}").path
        assert badger.check(restored)["digest"]["digest"] == expected
    assert [made.kind for made in chain] == ["full", "inc", "inc", "inc"]
