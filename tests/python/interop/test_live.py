"""Snapshots of a directory that a real Badger keeps writing to: each of them is a state that there was.

The writer commits, flushes, compacts, collects values and restarts all the time, and is killed. A model of what it writes says for each snapshot
whether it holds exactly the first so many commits, whole, none that was acknowledged before it began missing.

`make live LIVE_S=600` runs this for so many seconds.
"""

import contextlib
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import evbackup
from interop.conftest import Table
from interop.peers import NOW, Badger, Peer, Tally

# In CI, each run takes so many snapshots, all of them together more than 200; `make live` gives seconds.
SNAPSHOTS = 50
LIVE_S = float(os.environ.get("EVBACKUP_LIVE_S", "0"))


@dataclass
class Run:
    """One way to write, and what disturbs it."""

    name: str
    flags: tuple[object, ...]
    kill_s: float = 0.0  # kill -9 and start again, about so often
    max_rate: int | None = None  # slow staging is what puts time between the steps of a snapshot


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


@dataclass
class Writer:
    """The process, and the thread that kills it and starts it again."""

    badger: Badger
    folder: Path
    tally: Tally
    run: Run
    kills: int = 0
    restarts: int = 0
    rewrites: int = 0
    commits: int = 0
    peer: Peer = field(init=False)

    def start(self) -> None:
        self.peer = self.badger.live(self.folder, self.tally, *self.run.flags)

    def count(self) -> None:
        stats = self.peer.ask("stats")
        self.restarts += stats["restarts"]
        self.rewrites += stats["rewrites"]
        self.commits = stats["max_version"]

    def trouble(self, done: threading.Event, chance: random.Random) -> None:
        while not done.wait(self.run.kill_s * (0.5 + chance.random())):
            self.count()
            self.peer.kill()
            self.kills += 1
            with contextlib.suppress(Exception):
                self.peer.close()
            self.start()


@contextlib.contextmanager
def writing(badger: Badger, place: Path, run: Run, chance: random.Random) -> Iterator[Writer]:
    writer = Writer(badger, place / "live", Tally(place / "tally"), run)
    writer.start()
    done = threading.Event()
    thread = threading.Thread(target=writer.trouble, args=(done, chance))
    try:
        if run.kill_s:
            thread.start()
        yield writer
    finally:
        done.set()
        if run.kill_s:
            thread.join()
        writer.peer.close()


def model(badger: Badger, segments: list[Path], acknowledged: str, begun: str, version: int) -> list[str]:
    """What is wrong with a snapshot."""
    inputs = [part for segment in segments for part in ("--in", segment)]
    said = badger.lines(
        "live-model", *inputs, "--acked", acknowledged, "--begun", begun, "--version", version, fails=None
    )
    return list(said[-1]["problems"])


@pytest.mark.timeout(240 + 2 * LIVE_S)
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_each_snapshot_is_a_state_that_there_was(badger: Badger, tmp_path: Path, table: Table, run: Run) -> None:
    chance = random.Random(run.name)
    began = time.monotonic()
    taken = entries = given_up = 0
    wrong: list[str] = []
    longest = 0.0
    damaged: evbackup.DamagedError | None = None
    segment = tmp_path / "snapshot.badger"
    with writing(badger, tmp_path, run, chance) as writer:
        while taken < SNAPSHOTS if not LIVE_S else time.monotonic() - began < LIVE_S / len(RUNS):
            time.sleep(0.15 * chance.random())
            acknowledged = writer.tally.acknowledged()
            start = time.monotonic()
            try:
                made = evbackup.backup(writer.folder, segment, overwrite=True, max_rate=run.max_rate)
            except evbackup.UnavailableError:
                given_up += 1  # a machine that is busy enough leaves no moment for it, and it says so
                assert given_up < SNAPSHOTS / 4 + taken
                continue
            except evbackup.DamagedError as error:
                damaged = error
                break
            longest = max(longest, time.monotonic() - start)
            found = model(badger, [segment], acknowledged, writer.tally.begun(), made.last_version)
            if found:
                shutil.copy(segment, tmp_path / f"wrong-{taken}.badger")
                wrong.append(f"snapshot {taken}: {found}")
            taken += 1
            entries += made.entries
        if not run.kill_s:
            writer.count()
    table.row(
        "live snapshots", ("run", "snapshots", "given up", "violations", "commits", "restarts", "kills", "GC rewrites", "entries each", "longest s", "s"),
        (run.name, taken, given_up, len(wrong), writer.commits, writer.restarts, writer.kills, writer.rewrites, entries // max(taken, 1), f"{longest:.2f}",
         f"{time.monotonic() - began:.0f}"),
    )  # fmt: skip
    assert not wrong, wrong
    if damaged is not None:
        # Killed or closed while it collects values, Badger loses some; what is left is damaged, and was called so.
        badger.lines("backup", "--dir", writer.folder, "--out", tmp_path / "all.badger")
        lost = model(badger, [tmp_path / "all.badger"], writer.tally.acknowledged(), writer.tally.begun(), 0)
        assert run.kill_s or "--restart" in run.flags
        assert lost, f"Badger itself has everything: {damaged}"
        pytest.skip(f"Badger itself has lost values: {lost[0]}")
    assert writer.commits > 1000, "the writer hardly wrote"
    assert not run.kill_s or writer.kills > 0


def test_increments_of_a_live_directory_add_up(badger: Badger, tmp_path: Path) -> None:
    run = RUNS[2]
    with writing(badger, tmp_path, run, random.Random(1)) as writer:
        time.sleep(1)
        acknowledged = writer.tally.acknowledged()
        chain = [evbackup.backup(writer.folder, tmp_path / "0.badger")]
        for number in range(1, 7):
            assert not model(badger, paths(chain), acknowledged, writer.tally.begun(), chain[-1].last_version)
            time.sleep(0.3)
            acknowledged = writer.tally.acknowledged()
            chain.append(evbackup.backup(writer.folder, tmp_path / f"{number}.badger", since=chain[-1]))
        assert not model(badger, paths(chain), acknowledged, writer.tally.begun(), chain[-1].last_version)
    assert [made.kind for made in chain] == ["full"] + 6 * ["inc"]
    assert evbackup.verify(paths(chain)).ok


def paths(chain: list[evbackup.Backup]) -> list[Path]:
    return [made.path for made in chain if made.path is not None]


def test_deletes_are_as_badger_sees_them(badger: Badger, tmp_path: Path) -> None:
    """Deleted keys can come back in Badger itself when it compacts, so its own view is the measure, where it stands still."""
    flags = ("--deletes", "--gc", "100ms", "--hold", "300ms", "--rate", 4000)
    compared = 0
    with badger.live(tmp_path / "live", Tally(tmp_path / "tally"), *flags) as writer:
        for number in range(10):
            time.sleep(0.3)
            version = writer.ask("pause")["max_version"]
            before = writer.digest()
            made = evbackup.backup(tmp_path / "live", tmp_path / f"{number}.badger")
            assert made.last_version == version
            if before == writer.digest():
                assert evbackup.digest(made, now=NOW) == before
                compared += 1
            writer.ask("resume")
    assert compared >= 3


def test_the_model_notices_what_was_lost(badger: Badger, tmp_path: Path) -> None:
    """A plain copy of the directory, opened by Badger, is no snapshot, and does not pass for one."""
    tally = Tally(tmp_path / "tally")
    refused = 0
    with badger.live(tmp_path / "live", tally, "--gc", "100ms", "--rate", 6000) as writer:
        for number in range(12):
            time.sleep(0.2)
            acknowledged = tally.acknowledged()
            copy = tmp_path / f"copy-{number}"
            copy.mkdir()
            for file in sorted((tmp_path / "live").iterdir(), key=lambda file: file.name != "MANIFEST"):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copy(file, copy)
                time.sleep(0.01)
            said = badger.lines("backup", "--dir", copy, "--out", tmp_path / "copy.badger", fails=None)
            if not said or model(badger, [tmp_path / "copy.badger"], acknowledged, tally.begun(), 0):
                refused += 1
            shutil.rmtree(copy)
        assert writer.ask("stats")["commits"] > 1000
    assert refused >= 3, f"only {refused} of 12 plain copies were noticed"


def test_the_model_passes_what_badger_itself_has(badger: Badger, tmp_path: Path) -> None:
    tally = Tally(tmp_path / "tally")
    with badger.live(tmp_path / "live", tally, "--gc", "100ms") as writer:
        time.sleep(2)
        assert writer.finish() == 0
    assert tally.begun() == tally.acknowledged()
    made = badger.run("backup", "--dir", tmp_path / "live", "--out", tmp_path / "all.badger")
    right = (badger, [tmp_path / "all.badger"])
    assert not model(*right, tally.acknowledged(), tally.begun(), made["version"])
    more = ",".join(str(int(n) + 1) for n in tally.acknowledged().split(","))
    assert model(*right, more, more, made["version"])[0].startswith("writer 0: ")
    assert "the snapshot says" in model(*right, tally.acknowledged(), tally.begun(), made["version"] + 1)[0]
