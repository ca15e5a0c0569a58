"""Snapshots of a directory that a real Badger keeps writing to: each of them is a state that there was.

The writer commits, flushes, compacts, collects values and restarts all the time, and is killed. A model of what it writes says for each snapshot
whether it holds exactly the first so many commits, whole, none that was acknowledged before it began missing.

`make live LIVE_S=600` runs this for so many seconds.
"""

import contextlib
import os
import random
import shutil
import time
from pathlib import Path

import pytest

import evbackup
from interop.conftest import Table
from interop.live import LostError, Run, Series, Writer, lost_by_badger, model, until_nothing_is_lost, writing
from interop.peers import NOW, Badger, Tally

# In CI, each run takes so many snapshots, all of them together more than 200; `make live` gives seconds.
SNAPSHOTS = 50
LIVE_S = float(os.environ.get("EVBACKUP_LIVE_S", "0"))


RUNS = [
    Run("snappy", ("--compression", "snappy")),
    Run("zstd, GC, iterators", ("--compression", "zstd", "--gc", "100ms", "--hold", "600ms")),
    Run(
        "none, GC, iterators, restarts",
        ("--compression", "none", "--gc", "100ms", "--hold", "600ms", "--restart", "900ms"),
    ),
    Run("snappy, GC, kill -9", ("--compression", "snappy", "--gc", "100ms"), kill_s=0.8),
    Run(
        "zstd, iterators, restarts, kill -9",
        ("--compression", "zstd", "--hold", "400ms", "--restart", "1s"),
        kill_s=1.5,
    ),
    Run("snappy, GC, iterators, slow staging", ("--gc", "100ms", "--hold", "600ms"), max_rate=12_000_000),
]


@pytest.mark.timeout(240 + 2 * LIVE_S)
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_each_snapshot_is_a_state_that_there_was(badger: Badger, tmp_path: Path, table: Table, run: Run) -> None:
    chance = random.Random(run.name)
    began = time.monotonic()
    series = Series(run, tmp_path / "evidence")

    def more() -> bool:
        return series.taken < SNAPSHOTS if not LIVE_S else time.monotonic() - began < LIVE_S / len(RUNS)

    for number in range(10 + int(LIVE_S)):
        if more():
            series.take(badger, tmp_path / str(number), chance, more)
    counts = series.counts
    table.row(
        "live snapshots",
        ("run", "snapshots", "given up", "violations", "commits", "restarts", "kills", "GC rewrites", "lost by Badger", "unproven", "crashed", "entries each", "longest s", "s"),
        (run.name, series.taken, series.given_up, len(series.wrong), counts["commits"], counts["restarts"], counts["kills"], counts["rewrites"],
         series.lost, series.unproven, series.crashed, series.entries // max(series.taken, 1), f"{series.longest:.2f}", f"{time.monotonic() - began:.0f}"),
    )  # fmt: skip
    assert not series.wrong, series.wrong
    assert not more(), "Badger loses values or crashes all the time"
    assert counts["commits"] > 1000, "the writer hardly wrote"
    assert not run.kill_s or counts["kills"] > 0


INCREMENTS = [
    Run("GC", ("--compression", "none", "--gc", "100ms", "--hold", "600ms")),
    Run("restarts", ("--compression", "none", "--restart", "900ms")),
    # Without GC, in which a kill may cost Badger values.
    Run("kill -9", ("--compression", "none"), kill_s=0.6),
]


@pytest.mark.parametrize("run", INCREMENTS, ids=lambda run: run.name)
def test_increments_of_a_live_directory_add_up(badger: Badger, tmp_path: Path, run: Run) -> None:
    def chain_of(place: Path) -> tuple[list[evbackup.Backup], Writer]:
        chain: list[evbackup.Backup] = []
        place.mkdir()
        with writing(badger, place, run, random.Random(1)) as writer:
            time.sleep(0.7)
            for number in range(7):
                time.sleep(0.3)
                acknowledged = writer.tally.acknowledged()
                try:
                    made = evbackup.backup(writer.folder, place / f"{number}.badger", since=chain[-1] if chain else 0)
                except evbackup.DamagedError as damaged:
                    writer.freeze(place / "frozen")
                    raise LostError(lost_by_badger(badger, place / "frozen", damaged)) from damaged
                chain.append(made)
                if not run.kill_s:
                    writer.peer.ask("stats")  # it still runs
                assert not model(badger, paths(chain), acknowledged, writer.tally.begun(), made.last_version)
        return chain, writer

    chain, writer = until_nothing_is_lost(chain_of, tmp_path)
    assert [made.kind for made in chain] == ["full"] + 6 * ["inc"]
    assert evbackup.verify(paths(chain), chain=False).ok
    assert not run.kill_s or writer.kills > 0


def paths(chain: list[evbackup.Backup]) -> list[Path]:
    return [made.path for made in chain if made.path is not None]


def test_deletes_are_as_badger_sees_them(badger: Badger, tmp_path: Path) -> None:
    """Deleted keys can come back in Badger itself when it compacts, so its own view is the measure, where it stands still."""
    flags = ("--deletes", "--gc", "100ms", "--hold", "300ms", "--rate", 4000)

    def compare(place: Path) -> int:
        compared = 0
        place.mkdir()
        with badger.live(place / "live", Tally(place / "tally"), *flags) as writer:
            for number in range(10):
                time.sleep(0.3)
                version = writer.ask("pause")["max_version"]
                before = writer.digest()
                try:
                    made = evbackup.backup(place / "live", place / f"{number}.badger")
                except evbackup.DamagedError as damaged:
                    with writer.stopped():
                        shutil.copytree(place / "live", place / "frozen")
                    raise LostError(lost_by_badger(badger, place / "frozen", damaged)) from damaged
                assert made.last_version == version
                if before == writer.digest():
                    assert evbackup.digest(made, now=NOW) == before
                    compared += 1
                writer.ask("resume")
        return compared

    assert until_nothing_is_lost(compare, tmp_path) >= 3


def test_the_model_notices_what_was_lost(badger: Badger, tmp_path: Path) -> None:
    """A plain copy of the directory, opened by Badger, is no snapshot, and does not pass for one."""

    def notice(place: Path) -> int:
        place.mkdir()
        tally = Tally(place / "tally")
        refused = 0
        with badger.live(place / "live", tally, "--gc", "100ms", "--rate", 6000) as writer:
            for number in range(12):
                time.sleep(0.2)
                acknowledged = tally.acknowledged()
                copy = place / f"copy-{number}"
                copy.mkdir()
                for file in sorted((place / "live").iterdir(), key=lambda file: file.name != "MANIFEST"):
                    with contextlib.suppress(FileNotFoundError):
                        shutil.copy(file, copy)
                    time.sleep(0.01)
                said = badger.lines("backup", "--dir", copy, "--out", place / "copy.badger", fails=None)
                if not said or model(badger, [place / "copy.badger"], acknowledged, tally.begun(), 0):
                    refused += 1
                shutil.rmtree(copy)
            assert writer.ask("stats")["commits"] > 1000
        return refused

    refused = until_nothing_is_lost(notice, tmp_path)
    assert refused >= 3, f"only {refused} of 12 plain copies were noticed"


def test_the_model_passes_what_badger_itself_has(badger: Badger, tmp_path: Path) -> None:
    tally = Tally(tmp_path / "tally")
    # Without GC, which may cost it values.
    with badger.live(tmp_path / "live", tally) as writer:
        time.sleep(2)
        assert writer.finish() == 0
    assert tally.begun() == tally.acknowledged()
    made = badger.run("backup", "--dir", tmp_path / "live", "--out", tmp_path / "all.badger")
    right = (badger, [tmp_path / "all.badger"])
    assert not model(*right, tally.acknowledged(), tally.begun(), made["version"])
    more = ",".join(str(int(n) + 1) for n in tally.acknowledged().split(","))
    assert model(*right, more, more, made["version"])[0].startswith("writer 0: ")
    assert "the snapshot says" in model(*right, tally.acknowledged(), tally.begun(), made["version"] + 1)[0]
