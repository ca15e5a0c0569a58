"""The `check` of the Go program, which other tests trust, passes what Badger made and does not pass what is wrong."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from interop.peers import NOW, ROOT, Badger

GOLDEN = ROOT / "tests" / "golden"
# Badger opens these, but values are gone.
GONE = ("badger-alternates", "badger-dangling", "badger-missing-value")


def papers() -> list[Any]:
    """The papers of the golden directories."""
    return [json.loads(path.read_text()) for path in sorted(GOLDEN.glob("badger-*/paper.json"))]


def sound() -> list[str]:
    """Those that Badger opens with ev-node's options and in which nothing is missing."""
    return [
        paper["case"]
        for paper in papers()
        if "refused" not in paper
        and "error" not in paper["badger"]
        and paper["case"] not in (*GONE, "badger-torn-varint")
    ]


@pytest.fixture
def copy(tmp_path: Path) -> Any:
    """Copies a golden directory to where Badger may change it."""

    def make(case: str) -> Path:
        return Path(shutil.copytree(GOLDEN / case / "db", tmp_path / case))

    return make


def test_there_are_golden_directories() -> None:
    assert len(papers()) >= 45
    assert len(sound()) >= 30


@pytest.mark.parametrize("case", sound())
def test_what_badger_made_passes_with_both_releases(badger: Badger, copy: Any, case: str) -> None:
    view = json.loads((GOLDEN / case / "paper.json").read_text())["badger"]["view"]
    released = set()
    for program in (badger, badger.newest()):
        folder = copy(case)
        checked = program.check(folder, "--keep-versions", 0, "--version", view["max_version"])
        assert checked["digest"]["digest"] == view["digest"]
        assert checked["history"]["digest"] == view["history_digest"]
        assert checked["written_version"] == view["max_version"] + 1
        released.add(checked["badger"])
        shutil.rmtree(folder)
    assert "v4.5.1" in released
    assert len(released) == 2


@pytest.mark.parametrize("case", GONE)
def test_values_that_are_gone_do_not_pass(badger: Badger, copy: Any, case: str) -> None:
    checked = badger.run("check", "--dir", copy(case), "--now", NOW, "--keep-versions", 0, fails=True)
    assert not checked["ok"]
    assert "its value is not in the value log" in checked["problems"][0]


def test_a_wrong_version_does_not_pass(badger: Badger, copy: Any) -> None:
    checked = badger.run("check", "--dir", copy("badger-kinds"), "--version", 74, fails=True)
    assert checked["problems"] == ["MaxVersion: expected 74, found 73"]


def test_other_entries_than_the_segments_do_not_pass(badger: Badger, copy: Any, tmp_path: Path) -> None:
    made = badger.run("backup", "--dir", copy("badger-kinds"), "--out", tmp_path / "kinds")
    assert made["version"] == 73
    badger.check(copy("badger-kinds-wal"), "--keep-versions", 0, "--segment", tmp_path / "kinds")
    arguments = ("check", "--dir", copy("badger-level-zero"), "--keep-versions", 0, "--segment", tmp_path / "kinds")
    checked = badger.run(*arguments, fails=True)
    assert "Backup, compared with the segment: expected" in checked["problems"][0]


def test_a_damaged_block_does_not_pass(badger: Badger, copy: Any) -> None:
    folder = copy("badger-none")
    (table,) = folder.glob("*.sst")
    body = bytearray(table.read_bytes())
    body[100] ^= 1
    table.write_bytes(body)
    checked = badger.run("check", "--dir", folder, fails=True)
    assert "checksum" in checked["problems"][0]
