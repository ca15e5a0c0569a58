"""Memory under a limit, the start, and how soon a verb lets go."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import Data, Sizes
from measure import MIB, Limit, Row, RunError, Worker, median, run, serving, timed
from throughput import BLOCK, SMALL, memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOON_S = 0.2
GONE_S = 5.0


class Limited:
    """Verbs, each in a process with a limit, and the peaks of their anonymous memory."""

    def __init__(self, size: int) -> None:
        self.allowed = 256 * MIB + 3 * size
        self.peaks: dict[str, int] = {}
        self.hows: set[str] = set()

    def run(self, name: str, verb: str, *args: object, **options: Any) -> None:
        """A verb that is killed by its limit goes into the table, and the others are measured."""
        limit = Limit(self.allowed)
        try:
            self.peaks[name] = run(verb, *args, limit=limit, **options).peak
        except RunError as error:
            self.peaks[name] = sys.maxsize
            print(f"  {name}: {error}", file=sys.stderr)
        finally:
            limit.close()
        self.hows.add(limit.how)

    @contextlib.contextmanager
    def serving(self, path: Path) -> "Iterator[str]":
        """Our server, and its address."""
        limit = Limit(self.allowed)
        with serving(path, limit=limit) as (addr, server):
            yield addr
        self.peaks["serve"] = server.peak
        limit.close()

    def row(self, what: str) -> Row:
        peaks = self.peaks.items()
        figure = ", ".join(f"{name} {'killed' if peak == sys.maxsize else memory(peak)}" for name, peak in peaks)
        most = max(self.peaks.values())
        what = f"{what}, under a limit: {', '.join(sorted(self.hows))}"
        shown = "killed" if most == sys.maxsize else memory(most)
        return Row(what, "≤ 256 MiB + 3 values", figure, most <= self.allowed, shown)


def under_limit(data: Data, name: str, bytes_: int, size: int) -> Row:
    """Backup, serve, verify and restore of one data set, each in a process with a limit."""
    limited = Limited(size)
    store, _ = data.store(name, bytes_, size)
    with limited.serving(store) as addr:
        limited.run("backup", "backup", addr, data.path("limited.badger"))
    limited.run("verify", "verify", data.path("limited.badger"), chain=False)
    limited.run("digest", "digest", data.path("limited.badger"))
    limited.run("restore", "restore", data.path("limited.badger"), data.path("limited-store"), engine="rocksdb")
    data.drop("limited")
    return limited.row(f"memory at {bytes_ / 1e9:.1f} GB of {size} B values")


def small_memory(data: Data, sizes: Sizes) -> list[Row]:
    return [under_limit(data, "small", sizes.small_values, SMALL)]


def medium_memory(data: Data, sizes: Sizes) -> list[Row]:
    return [under_limit(data, "medium", sizes.medium, BLOCK)]


def large_memory(data: Data, sizes: Sizes) -> list[Row]:
    return [under_limit(data, "large", sizes.large, BLOCK)]


def start(sizes: Sizes) -> list[Row]:
    imports, helps = [], []
    code = "import time; t = time.perf_counter(); import evbackup; print(time.perf_counter() - t)"
    command = Path(sys.executable).with_name("evbackup")
    for _ in range(sizes.starts):
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
        imports.append(float(done.stdout))
        helps.append(timed([command, "--help"]))
    rows = []
    for what, bar, values in (("import evbackup", 50, imports), ("evbackup --help", 150, helps)):
        taken = 1000 * median(values)
        figure = f"{taken:.0f} ms (median of {len(values)}; {1000 * min(values):.0f}-{1000 * max(values):.0f})"
        rows.append(Row(what, f"≤ {bar} ms", figure, taken <= bar))
    return rows


def letting_go(data: Data, sizes: Sizes) -> list[Row]:
    """Ctrl-C in each verb and cancellation of each awaited one, at several moments."""
    store, count = data.store("medium", sizes.medium, BLOCK)
    segment, _ = data.segment("medium.badger", store)
    base, increment = data.path("base"), data.path("increment.badger")
    if not increment.exists():
        shutil.copytree(store, data.path("grown"))
        subprocess.run([data.tool, "grow", data.path("grown"), str(count + count // 4), str(BLOCK)], check=True)
        run("backup", data.path("grown"), increment, since=str(segment))
        data.drop("grown")
    run("restore", segment, data.path("whole"), engine="rocksdb")
    bare = data.path("bare.badger")
    os.link(segment, bare)
    target = data.path("target")

    def fresh_base() -> None:
        data.drop("base")
        # Tables are never changed once they are written.
        shutil.copytree(data.path("whole"), base, copy_function=link_tables)

    def nothing() -> None:
        return

    rows = []
    with serving(store, max_backups=100) as (addr, _):
        verbs: list[tuple[str, str, list[object], dict[str, Any], Callable[[], None]]] = [
            ("backup from a server", "backup", [addr, target], {}, nothing),
            ("backup of a store", "backup", [store, target], {}, nothing),
            ("verify", "verify", [segment], {"chain": False}, nothing),
            ("restore", "restore", [segment, target], {"engine": "rocksdb"}, nothing),
            ("apply", "apply", [increment, base], {}, fresh_base),
            ("digest", "digest", [segment], {}, nothing),
            ("inspect", "inspect", [bare], {}, nothing),
            ("serve", "serve", [store, "127.0.0.1:0"], {}, nothing),
        ]
        for name, verb, args, options, prepare in verbs:
            prepare()
            whole = 1.0 if verb == "serve" else run(verb, *args, **options).took
            data.drop("target")
            for how, press in (("Ctrl-C", pressed), ("cancel", cancelled)):
                if how == "cancel" and verb == "serve":
                    continue
                late: list[float] = []
                left: list[float] = []
                for turn in range(sizes.presses):
                    prepare()
                    after = whole * (turn + 0.5) / sizes.presses
                    found = press(data, verb, args, options, after)
                    data.drop("target")
                    if found is not None:
                        late.append(found[0])
                        left.append(found[1])
                rows.append(let_go_row(f"{how} in {name}", late, left, sizes.presses))
    data.drop("base", "whole", "bare.badger", "increment.badger")
    return rows


def link_tables(source: str, target: str) -> None:
    if source.endswith(".sst"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def let_go_row(what: str, late: list[float], left: list[float], presses: int) -> Row:
    if not late:
        return Row(what, "≤ 200 ms; no .part after 5 s", f"0 of {presses} hit", None)
    figure = f"{1000 * max(late):.0f} ms, .part gone after {max(left):.1f} s (worst of {len(late)})"
    return Row(what, "≤ 200 ms; no .part after 5 s", figure, max(late) <= SOON_S and max(left) < GONE_S)


Found = tuple[float, float] | None


def pressed(data: Data, verb: str, args: list[object], options: dict[str, Any], after: float) -> Found:
    """Until the exception, and from then until the last `.part` was gone; None when the verb was quicker."""
    worker = Worker()
    try:
        worker.begin(verb, *args, wait_=True, **options)
        if verb == "serve":
            worker.answer()
        time.sleep(after)
        asked = worker.interrupt()
        said = worker.answer()
        return (said["at"] - asked, until_gone(data)) if said.get("raised") == "KeyboardInterrupt" else None
    finally:
        worker.close()


def cancelled(data: Data, verb: str, args: list[object], options: dict[str, Any], after: float) -> Found:
    """The same for the task of an awaited verb."""
    worker = Worker()
    try:
        worker.begin(verb, *args, cancel_after_s_=after, **options)
        said = worker.answer()["result"]
        return (said["at"] - said["asked"], until_gone(data)) if isinstance(said, dict) else None
    finally:
        worker.close()


def until_gone(data: Data) -> float:
    began = time.monotonic()
    while time.monotonic() - began < GONE_S + 1:
        if not any(".part" in path.name for path in data.folder.glob("**/*.part*")):
            break
        time.sleep(0.01)
    return time.monotonic() - began
