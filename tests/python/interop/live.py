"""A real Badger that keeps writing to a directory, snapshots of it, and a model that says whether each of them is a state that there was.

What is not ours to mend is told apart and proven: Badger itself loses values when it collects them, and may end with a fault.
"""

import contextlib
import random
import re
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
from interop.peers import Badger, EndedError, Peer, Tally

# New directories after those of which Badger has lost something.
TRIES = 10
# Damaged snapshots of which nothing shows any more that it was Badger's loss; one of ours would come again.
UNPROVEN = 1
# Snapshots for which a busy machine may leave no moment, beside one for each that is taken.
GIVEN_UP = 12
T = TypeVar("T")


@dataclass
class Run:
    """One way to write, and what disturbs it."""

    name: str
    flags: tuple[object, ...]
    kill_s: float = 0.0  # kill -9 and start again, about so often
    max_rate: int | None = None  # slow staging is what puts time between the steps of a snapshot


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

    def __init__(self, keys: set[bytes]) -> None:
        super().__init__(keys)
        self.keys = keys


def lost_by_badger(badger: Badger, frozen: Path, damaged: evbackup.DamagedError) -> set[bytes]:
    """The keys of a damaged directory whose values our reader does not find; Badger's own finds none of them either.

    It may well miss more: ours asks older copies of a key, too, where the newest one leads nowhere. There is none where all of them were
    written again between the snapshot and the moment at which the process stood still: each key is within a second or so. The one that
    the snapshot named must have been.
    """
    findings = evbackup.verify(frozen, chain=False).findings
    ours = {bytes.fromhex(finding.key or "") for finding in findings if finding.code == "badger-value"}
    opened, everything = frozen.with_name("opened"), frozen.with_name("everything.badger")
    # Badger writes where it reads. Where it finds no value, its backup has an empty one.
    shutil.copytree(frozen, opened)
    badger.lines("backup", "--dir", opened, "--out", everything)
    with evbackup.open(everything) as stored:
        theirs = {key for key in ours if (entry := stored.get(key)) is not None and not entry.value}
        named = re.search(r"the value of key (\S+) at version (\d+)", str(damaged))
        now = stored.get(named[1]) if named else None
        assert ours or (named and now and now.version > int(named[2])), f"nothing is damaged in {frozen}: {damaged}"
    assert ours == theirs, f"Badger itself has {ours - theirs}; see {frozen}"
    return ours


@dataclass
class Series:
    """The snapshots of a run, over one directory or several."""

    run: Run
    evidence: Path  # where what Badger has lost is looked at, apart from the directories
    taken: int = 0
    entries: int = 0
    given_up: int = 0
    lost: int = 0  # directories of which Badger itself has lost a value
    unproven: int = 0  # those of them of which no key is left to show it
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
        frozen = self.evidence / str(self.lost) / "frozen"
        with writing(badger, place, self.run, chance) as writer:
            while more() and (self.run.kill_s or not writer.peer.has_ended):
                time.sleep(0.15 * chance.random())
                acknowledged = writer.tally.acknowledged()
                start = time.monotonic()
                try:
                    made = evbackup.backup(writer.folder, segment, overwrite=True, max_rate=self.run.max_rate)
                except evbackup.UnavailableError:
                    self.given_up += 1  # a machine that is busy enough leaves no moment for it, and it says so
                    assert self.given_up < GIVEN_UP + self.taken
                    continue
                except evbackup.DamagedError as error:
                    writer.freeze(frozen)
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
            self.unproven += not lost_by_badger(badger, frozen, damaged)
            self.lost += 1
            assert self.unproven <= UNPROVEN + self.taken // 200, (
                f"{self.unproven} damaged snapshots, and nothing damaged in {self.evidence}"
            )


def until_nothing_is_lost(work: Callable[[Path], T], folder: Path) -> T:
    """What work comes to in a new directory, the first in which Badger loses nothing and does not crash."""
    unproven = 0
    for number in range(TRIES):
        try:
            return work(folder / str(number))
        except EndedError:  # noqa: PERF203  # a few times
            continue
        except LostError as lost:
            unproven += not lost.keys
            assert unproven <= UNPROVEN, f"{unproven} damaged snapshots, and nothing damaged in {folder}"
    pytest.fail(f"Badger has lost values or crashed in each of {TRIES} directories")
