"""Badger directories: read while nothing and while somebody writes them, written, and what an increment costs, against Badger itself."""

import json
import os
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from data import Data, Sizes
from measure import MIB, Limit, Ran, Row, median, run, said_by, serving, timed
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
    """The whole command, until the last byte of the segment has gone to nowhere."""
    command = [EVBACKUP, "backup", path, "--output", "-", *flags]
    return timed(command)


def read(data: Data, sizes: Sizes, peer: Peer) -> list[Row]:
    """Directory to segment."""
    rows = []
    for name, total, size in (("blocks", sizes.ingest, BLOCK), ("small", sizes.small_values, SMALL)):
        path = data.path(f"directory-{name}")
        peer.fill(path, total, size)
        pairs = []
        for _ in range(sizes.rounds):
            theirs = float(peer.says("backup", "--dir", path, "--out", "/dev/null")["elapsed_s"])
            pairs.append((theirs, to_nowhere(path, "--offline"), to_nowhere(path)))
        ratio = median([theirs / ours for theirs, ours, _ in pairs])
        live = median([theirs / staged for theirs, _, staged in pairs])
        theirs, ours, staged = (median([pair[at] for pair in pairs]) for at in range(3))
        figure = f"{ratio:.1f} ({rate(total, ours)} to {rate(total, theirs)}); live with staging {live:.1f} ({rate(total, staged)})"
        what = f"directory to nowhere, {total / 1e9:.1f} GB of {size} B values, to Go's DB.Backup"
        rows.append(Row(what, "≥ 4", figure, ratio >= 4))
    return rows


def write(data: Data, sizes: Sizes, peer: Peer) -> list[Row]:
    """Chain to directory, durable."""
    rows = []
    for name, total, size in (("blocks", sizes.ingest, BLOCK), ("small", sizes.small_values, SMALL)):
        store, _ = data.store(name, total, size)
        segment, manifest = data.segment(f"{name}.badger", store)
        bytes_ = manifest["bytes"]
        pairs: list[tuple[float, float, float, float, Ran]] = []
        for _ in range(min(3, sizes.rounds)):
            os.sync()
            ours, our_cpu = costed(run, "restore", segment, data.path("made"))
            written = sum(file.stat().st_size for file in data.path("made").iterdir())
            source = data.path("as-much")
            join(data.path("made"), source)
            data.drop("made")
            os.sync()
            dd = timed(["dd", f"if={source}", f"of={data.path('dd')}", "bs=1M", "conv=fsync", "status=none"])
            data.drop("dd", "as-much")
            os.sync()
            load = ["load", "--bare", "--dir", data.path("loaded"), "--in", segment]
            loaded, their_cpu = costed(peer.says, *load)
            theirs = float(loaded["load_and_close_s"]) + timed(["sync", "-f", data.path("loaded")])
            data.drop("loaded")
            bar = min(3 * bytes_ / theirs, 0.8 * written / dd * (bytes_ / written))
            pairs.append((bar, theirs, our_cpu, their_cpu, ours))
        ratio = median([bytes_ / ran.took / bar for bar, _, _, _, ran in pairs])
        to_load = median([theirs / ran.took for _, theirs, _, _, ran in pairs])
        share = median([our_cpu / their_cpu for _, _, our_cpu, their_cpu, _ in pairs])
        took = median([ran.took for _, _, _, _, ran in pairs])
        figure = f"{ratio:.2f} of the bar ({rate(bytes_, took)}; {to_load:.1f} x Go; CPU {share:.2f} of Go's)"
        what = f"restore of {bytes_ / 1e9:.1f} GB of {size} B values to a Badger directory, durable"
        bar_text = "≥ min(3 x Go's Load + close + sync, 0.8 x dd conv=fsync); CPU ≤ 1/4"
        rows.append(Row(what, bar_text, figure, ratio >= 1 and share <= 0.25, memory(max(p[4].peak for p in pairs))))
        data.drop(name)
    return rows


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
        path = data.path(f"directory-{name}")
        grown = total // size // 100
        # As the node's own compaction would leave it in the end: everything in the last level.
        store, _ = data.store(f"seed-{name}", total, size)
        run("restore", store, path)
        with serving(path) as (addr, _):
            os.sync()
            full = run("backup", addr, data.path(f"{name}-full.badger"))
        for turn, after in enumerate(("before", "after")):
            grow = ["fill", "--dir", path, "--blocks", grown, "--value-size", size]
            peer.says(*grow)
            if after == "after":
                peer.says("compact", "--dir", path)
            base = data.path(f"{name}-full.badger" if turn == 0 else f"{name}-inc0.badger")
            with serving(path) as (addr, server):
                os.sync()
                before = read_bytes(server.process.pid)
                inc = run("backup", addr, data.path(f"{name}-inc{turn}.badger"), since=str(base))
                looked = read_bytes(server.process.pid) - before
            allowed = 0.03 * full.took + 0.3
            judged = after == "before" and name == "large"
            figure = (
                f"{inc.took:.2f} s ({100 * inc.took / full.took:.1f} % of {full.took:.1f} s); read {looked / 1e6:.0f} MB for "
                f"{inc.result['bytes'] / 1e6:.0f} MB of {full.result['bytes'] / 1e6:.0f} MB"
            )
            what = f"increment of 1 % of a {total / 1e9:.1f} GB directory of {size} B blocks, {after} compaction"
            bar = f"≤ 3 % + 0.3 s = {allowed:.2f} s" if judged else "reported"
            rows.append(Row(what, bar, figure, inc.took <= allowed if judged else None, memory(server.peak)))
        data.drop(f"directory-{name}", f"seed-{name}", f"{name}-")
    return rows


def read_bytes(pid: int) -> int:
    """Bytes that a process has asked of files, cached or not."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("rchar:")))


def limited(data: Data, sizes: Sizes) -> list[Row]:
    """Every verb that reads or writes a directory, each in a process with a limit."""
    rows = []
    for total in (sizes.ingest, sizes.large):
        allowed = 256 * MIB + 3 * BLOCK
        store, _ = data.store("plain", total, BLOCK)
        peaks: dict[str, int] = {}
        path = data.path("limited-directory")

        def measure(
            name: str, verb: str, *args: object, peaks: dict[str, int] = peaks, allowed: int = allowed, **options: Any
        ) -> None:
            limit = Limit(allowed)
            try:
                peaks[name] = run(verb, *args, limit=limit, **options).peak
            finally:
                limit.close()

        measure("restore", "restore", store, path)
        measure("backup live", "backup", path, data.path("limited-live.badger"))
        data.drop("limited-live.badger")
        measure("backup offline", "backup", path, data.path("limited.badger"), offline=True)
        measure("digest", "digest", path)
        measure("verify", "verify", path)
        limit = Limit(allowed)
        with serving(path, limit=limit) as (addr, server):
            run("backup", addr, data.path("limited-wire.badger"))
        limit.close()
        peaks["serve"] = server.peak
        measure("restore a chain", "restore", data.path("limited.badger"), data.path("limited-again"))
        data.drop("limited", "plain")
        figure = ", ".join(f"{name} {memory(peak)}" for name, peak in peaks.items())
        what = f"memory with a directory of {total / 1e9:.1f} GB, under a limit"
        rows.append(
            Row(what, "≤ 256 MiB + 3 values", figure, max(peaks.values()) <= allowed, memory(max(peaks.values())))
        )
    return rows
