"""Badger directories: read in place and by staged copies, written, and what an increment costs, against Badger itself.

Where Go's time and ours are compared, a backup is timed without the start of either process (ours opens the directory within its time, Go's does
not); a restore is that of the whole command, Python's start included. What is read was read once before by somebody else each time, so that
no one pays for the disk alone.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from data import Data, Sizes
from limits import Limited
from measure import Ran, Row, RunError, median, run, said_by, serving, timed
from throughput import BLOCK, SMALL, memory, rate

T = TypeVar("T")

EVBACKUP = Path(sys.executable).with_name("evbackup")


class Peer:
    """Real Badger, and what its runs cost."""

    def __init__(self, program: Path) -> None:
        self.program = program

    def says(self, *words: object) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(said_by([self.program, *words]))
        return said

    def fill(self, path: Path, bytes_: int, size: int) -> None:
        """A directory with as many keys as make so many bytes, as Badger leaves it when it is closed."""
        if not path.exists():
            self.says("fill", "--dir", path, "--generic", bytes_ // size, "--generic-size", size)


def costed(work: Callable[..., T], *args: object) -> tuple[T, float]:
    """What `work` gives, and the CPU seconds of the processes that it runs and waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = work(*args)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return result, (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def to_nowhere(path: Path, *flags: str) -> float:
    """The seconds of a backup, from the call until the last byte of the segment has gone to nowhere."""
    command = [EVBACKUP, "backup", path, "--output", "-", "--json", "--quiet", *flags]
    # The result goes to standard error, where the segment has standard output.
    done = subprocess.run(
        [str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise RunError(done.stderr)
    return float(json.loads(done.stderr)["elapsed_s"])


def warmed(path: Path) -> None:
    """All of a directory in the page cache and on the disk: staging leaves the cache without it."""
    os.sync()
    for file in sorted(path.iterdir()):
        # Value logs and logs of memtables are as long as they may become.
        if file.suffix == ".sst":
            timed(["cat", file])


def read(data: Data, sizes: Sizes, peer: Peer) -> list[Row]:
    """Directory to segment."""
    rows = []
    for name, total, size in (("blocks", sizes.ingest, BLOCK), ("small", sizes.small_values, SMALL)):
        path = data.path(f"directory-{name}")
        peer.fill(path, total, size)
        pairs = []
        for _ in range(sizes.rounds):
            warmed(path)
            theirs = float(peer.says("backup", "--dir", path, "--out", "/dev/null")["elapsed_s"])
            warmed(path)
            ours = to_nowhere(path, "--offline")
            warmed(path)
            pairs.append((theirs, ours, to_nowhere(path)))
        ratios = [theirs / ours for theirs, ours, _ in pairs]
        live = median([theirs / staged for theirs, _, staged in pairs])
        theirs, ours, staged = (median([pair[at] for pair in pairs]) for at in range(3))
        figure = (
            f"{median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f}; {rate(total, ours)} to {rate(total, theirs)}); "
            f"live with staging {live:.1f} ({rate(total, staged)})"
        )
        what = f"directory to nowhere, {total / 1e9:.1f} GB of {size} B values, to Go's DB.Backup"
        rows.append(Row(what, "≥ 4", figure, median(ratios) >= 4))
        data.drop(f"directory-{name}")
    return rows


@dataclass
class Written:
    """One round of writing the same entries: by us, by dd, by Go."""

    bytes_: int
    ours: Ran
    our_cpu: float
    dd: float
    theirs: float
    their_cpu: float

    def bar(self) -> float:
        """The seconds that it may take."""
        return max(self.theirs / 3, self.dd / 0.8)


def write(data: Data, sizes: Sizes, peer: Peer) -> list[Row]:
    """Chain to directory, durable."""
    rows = []
    for name, total, size in (("blocks", sizes.ingest, BLOCK), ("small", sizes.small_values, SMALL)):
        store, _ = data.store(name, total, size)
        segment, manifest = data.segment(f"{name}.badger", store)
        turns = [written(data, peer, segment, manifest["bytes"]) for _ in range(sizes.rounds)]
        data.drop(name)
        bytes_ = manifest["bytes"]
        ratio = median([turn.bar() / turn.ours.took for turn in turns])
        to_load = median([turn.theirs / turn.ours.took for turn in turns])
        to_dd = median([turn.dd / turn.ours.took for turn in turns])
        shares = [turn.our_cpu / turn.their_cpu for turn in turns]
        took = median([turn.ours.took for turn in turns])
        figure = f"{ratio:.2f} of the bar ({rate(bytes_, took)}; {to_load:.1f} x Go, {to_dd:.2f} x dd)"
        what = f"restore of {bytes_ / 1e9:.1f} GB of {size} B values to a Badger directory, durable"
        bar = "≥ min(3 x Go's Load + close + sync, 0.8 x dd conv=fsync)"
        rows.append(Row(what, bar, figure, ratio >= 1, memory(max(turn.ours.peak for turn in turns))))
        figure = (
            f"{median(shares):.2f} ({min(shares):.2f}-{max(shares):.2f}; {median([turn.our_cpu for turn in turns]):.1f} s "
            f"to {median([turn.their_cpu for turn in turns]):.1f} s)"
        )
        rows.append(Row("the same, CPU time to Go's", "≤ 0.25", figure, median(shares) <= 0.25))
    return rows


def written(data: Data, peer: Peer, segment: Path, bytes_: int) -> Written:
    """One after the other, each from a disk that has nothing to do."""
    os.sync()
    ours, our_cpu = costed(run, "restore", segment, data.path("made"))
    join(data.path("made"), data.path("as-much"))
    data.drop("made")
    os.sync()
    copy = ["dd", f"if={data.path('as-much')}", f"of={data.path('dd')}", "bs=1M", "conv=fsync", "status=none"]
    dd = timed(copy)
    data.drop("dd", "as-much")
    os.sync()
    loaded, their_cpu = costed(peer.says, "load", "--bare", "--dir", data.path("loaded"), "--in", segment)
    theirs = float(loaded["load_and_close_s"]) + timed(["sync", "-f", data.path("loaded")])
    data.drop("loaded")
    return Written(bytes_, ours, our_cpu, dd, theirs, their_cpu)


def join(folder: Path, target: Path) -> None:
    """The bytes of a directory as one file, so that dd writes as many."""
    with target.open("wb") as out:
        for file in sorted(folder.iterdir()):
            with file.open("rb") as part:
                shutil.copyfileobj(part, out, 1 << 20)


def increment(data: Data, sizes: Sizes, peer: Peer) -> list[Row]:
    """One per cent more in a large directory, before compaction and after; and what had to be read for it."""
    rows = []
    for name, total, size in (("large", sizes.large, BLOCK), ("many", sizes.ingest, SMALL)):
        path, base = data.path(f"directory-{name}"), data.path(f"{name}-full.badger")
        grown = total // size // 100
        # As the node's own compaction would leave it in the end: everything in the last level.
        store, _ = data.store(f"seed-{name}", total, size)
        run("restore", store, path)
        data.drop(f"seed-{name}")
        with serving(path) as (addr, _):
            os.sync()
            full = run("backup", addr, base)
        for after in ("before", "after"):
            before = tables(path)
            peer.says("fill", "--dir", path, "--blocks", grown, "--value-size", size)
            if after == "after":
                peer.says("compact", "--dir", path)
            new = sum(bytes_ for table, bytes_ in tables(path).items() if before.get(table) != bytes_)
            took, looked, made, peak = [], 0, base, 0
            for turn in range(min(3, sizes.rounds)):
                made = data.path(f"{name}-{after}-{turn}.badger")
                # A server that has never looked into the directory: it reads every index.
                with serving(path) as (addr, server):
                    os.sync()
                    read_before = read_bytes(server.process.pid)
                    inc = run("backup", addr, made, since=str(base))
                    looked = read_bytes(server.process.pid) - read_before
                took.append(inc.took)
                peak = max(peak, server.peak)
            base = made
            allowed = 0.03 * full.took + 0.3
            judged = after == "before" and name == "large"
            figure = (
                f"{median(took):.2f} s ({100 * median(took) / full.took:.1f} % of {full.took:.1f} s) for {inc.result['bytes'] / 1e6:.0f} MB "
                f"of {full.result['bytes'] / 1e6:.0f} MB; read {looked / 1e6:.0f} MB: every table with anything new, twice, for its copy and "
                f"from it ({new / 1e6:.0f} MB of tables are new, one or two more hold the base's last block), indexes, and keys that are no block's"
            )
            what = f"increment of 1 % of a {total / 1e9:.1f} GB directory of {size} B blocks, {after} compaction"
            bar = f"≤ 3 % + 0.3 s = {allowed:.2f} s" if judged else "reported"
            rows.append(Row(what, bar, figure, median(took) <= allowed if judged else None, memory(peak)))
        data.drop(f"directory-{name}", f"{name}-")
    return rows


def tables(path: Path) -> dict[str, int]:
    """The tables of a directory, and how long each is."""
    return {file.name: file.stat().st_size for file in path.glob("*.sst")}


def read_bytes(pid: int) -> int:
    """Bytes that a process has asked of files, cached or not."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("rchar:")))


def limited(data: Data, sizes: Sizes) -> list[Row]:
    """Every verb that reads or writes a directory, each in a process with a limit."""
    rows = []
    for total in (sizes.ingest, sizes.large):
        under = Limited(BLOCK)
        store, _ = data.store("plain", total, BLOCK)
        path, segment = data.path("limited-directory"), data.path("limited.badger")
        under.run("restore of a store", "restore", store, path)
        data.drop("plain")
        under.run("digest", "digest", path)
        under.run("verify", "verify", path, chain=False)
        under.run("backup offline", "backup", path, segment, offline=True)
        data.drop("limited.badger")
        under.run("backup live", "backup", path, segment)
        data.drop("limited.badger")
        with under.serving(path) as addr:
            under.run("backup from a server", "backup", addr, segment)
        data.drop("limited-directory")
        under.run("restore of a chain", "restore", segment, data.path("limited-again"))
        data.drop("limited")
        rows.append(under.row(f"memory with a directory of {total / 1e9:.1f} GB of {BLOCK} B values"))
    return rows
