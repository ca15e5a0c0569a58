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
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

import evbackup
from interop.conftest import Table
from interop.peers import NOW, Badger, EndedError, Peer, Tally

# In CI, each run takes so many snapshots, all of them together more than 200; `make live` gives seconds.
SNAPSHOTS = 50
# New directories after those of which Badger has lost something.
TRIES = 10
T = TypeVar("T")
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
    lock: threading.Lock = field(default_factory=threading.Lock)

    def freeze(self, target: Path) -> None:
        """Copies the directory while the process stands still."""
        with self.lock, self.peer.stopped():
            shutil.copytree(self.folder, target)

    def start(self) -> None:
        self.peer = self.badger.live(self.folder, self.tally, *self.run.flags)

    def count(self) -> None:
        stats = self.peer.ask("stats")
        self.restarts += stats["restarts"]
        self.rewrites += stats["rewrites"]
        self.commits = stats["max_version"]

    def trouble(self, done: threading.Event, chance: random.Random) -> None:
        while not done.wait(self.run.kill_s * (0.5 + chance.random())):
            with self.lock:
                with contextlib.suppress(EndedError):
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


class LostError(Exception):
    """Badger has lost values: it does so when it collects them, most of all where it is killed or closed meanwhile."""


def lost_by_badger(badger: Badger, frozen: Path) -> set[bytes]:
    """The keys of a damaged directory whose values our reader does not find; Badger's own finds none of them either.

    It may well miss more: ours asks older copies of a key, too, where the newest one leads nowhere.
    """
    findings = evbackup.verify(frozen, chain=False).findings
    ours = {bytes.fromhex(finding.key or "") for finding in findings if finding.code == "badger-value"}
    opened, everything = frozen.with_name("opened"), frozen.with_name("everything.badger")
    # Badger writes where it reads. Where it finds no value, its backup has an empty one.
    shutil.copytree(frozen, opened)
    badger.lines("backup", "--dir", opened, "--out", everything)
    with evbackup.open(everything) as stored:
        theirs = {key for key in ours if (entry := stored.get(key)) is not None and not entry.value}
    assert ours, f"nothing is damaged in {frozen}"
    assert ours == theirs, f"Badger itself has {ours - theirs}; see {frozen}"
    return ours


@dataclass
class Series:
    """The snapshots of a run, over one directory or several."""

    run: Run
    taken: int = 0
    entries: int = 0
    given_up: int = 0
    lost: int = 0  # directories of which Badger itself has lost a value
    # Those in which Badger itself ended with a fault: its GC may read a file that the end of an iterator has taken away.
    crashed: int = 0
    longest: float = 0.0
    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def take(self, badger: Badger, place: Path, chance: random.Random, more: Callable[[], bool]) -> None:
        """Snapshots of a new directory, until there are enough or something of it is damaged."""
        place.mkdir(exist_ok=True)
        segment = place / "snapshot.badger"
        damaged: evbackup.DamagedError | None = None
        with writing(badger, place, self.run, chance) as writer:
            while damaged is None and more() and (self.run.kill_s or not writer.peer.has_ended):
                time.sleep(0.15 * chance.random())
                acknowledged = writer.tally.acknowledged()
                start = time.monotonic()
                try:
                    made = evbackup.backup(writer.folder, segment, overwrite=True, max_rate=self.run.max_rate)
                except evbackup.UnavailableError:
                    self.given_up += 1  # a machine that is busy enough leaves no moment for it, and it says so
                    assert self.given_up < SNAPSHOTS / 4 + self.taken
                    continue
                except evbackup.DamagedError as error:
                    writer.freeze(place / "frozen")
                    damaged = error
                    break
                self.longest = max(self.longest, time.monotonic() - start)
                found = model(badger, [segment], acknowledged, writer.tally.begun(), made.last_version)
                if found:
                    shutil.copy(segment, place / f"wrong-{self.taken}.badger")
                    self.wrong.append(f"snapshot {self.taken}: {found}")
                self.taken += 1
                self.entries += made.entries
            if not self.run.kill_s:
                try:
                    writer.count()
                except EndedError:
                    self.crashed += 1
        for name in ("commits", "restarts", "kills", "rewrites"):
            self.counts[name] += getattr(writer, name)
        if damaged is not None:
            # What is left is damaged, and was called so.
            lost_by_badger(badger, place / "frozen")
            self.lost += 1


@pytest.mark.timeout(240 + 2 * LIVE_S)
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_each_snapshot_is_a_state_that_there_was(badger: Badger, tmp_path: Path, table: Table, run: Run) -> None:
    chance = random.Random(run.name)
    began = time.monotonic()
    series = Series(run)

    def more() -> bool:
        return series.taken < SNAPSHOTS if not LIVE_S else time.monotonic() - began < LIVE_S / len(RUNS)

    for number in range(10 + int(LIVE_S)):
        if more():
            series.take(badger, tmp_path / str(number), chance, more)
    counts = series.counts
    table.row(
        "live snapshots",
        ("run", "snapshots", "given up", "violations", "commits", "restarts", "kills", "GC rewrites", "lost by Badger", "crashed", "entries each", "longest s", "s"),
        (run.name, series.taken, series.given_up, len(series.wrong), counts["commits"], counts["restarts"], counts["kills"], counts["rewrites"],
         series.lost, series.crashed, series.entries // max(series.taken, 1), f"{series.longest:.2f}", f"{time.monotonic() - began:.0f}"),
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
                    raise LostError(lost_by_badger(badger, place / "frozen")) from damaged
                chain.append(made)
                if not run.kill_s:
                    writer.peer.ask("stats")  # it still runs
                assert not model(badger, paths(chain), acknowledged, writer.tally.begun(), made.last_version)
        return chain, writer

    chain, writer = until_nothing_is_lost(chain_of, tmp_path)
    assert [made.kind for made in chain] == ["full"] + 6 * ["inc"]
    assert evbackup.verify(paths(chain), chain=False).ok
    assert not run.kill_s or writer.kills > 0


def until_nothing_is_lost(work: Callable[[Path], T], folder: Path) -> T:
    """What work comes to in a new directory, the first in which Badger loses nothing and does not crash."""
    for number in range(TRIES):
        with contextlib.suppress(LostError, EndedError):
            return work(folder / str(number))
    pytest.fail(f"Badger has lost values or crashed in each of {TRIES} directories")


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
                    raise LostError(lost_by_badger(badger, place / "frozen")) from damaged
                assert made.last_version == version
                if before == writer.digest():
                    assert evbackup.digest(made, now=NOW) == before
                    compared += 1
                writer.ask("resume")
        return compared

    assert until_nothing_is_lost(compare, tmp_path) >= 3


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
