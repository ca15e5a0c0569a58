"""Processes whose time and memory are measured, limits on them, and the figures that come of it."""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MIB = 1 << 20
POLL_S = 0.004


def anon(pid: int) -> int:
    """A process's anonymous resident memory in bytes; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return 0


class Limit:
    """A memory limit on what a process takes from now on; page cache that it causes counts, and is given back by the kernel."""

    def __init__(self, bytes_: int) -> None:
        self.bytes = bytes_
        self.how = "none (no cgroup that we may make)"
        self.folder: Path | None = None
        for root, name in (("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
            # Where both kinds of cgroups are there, the root of the first is a plain folder.
            if not (Path(root) / "cgroup.procs").exists():
                continue
            folder = Path(root) / f"evbackup-bench-{os.getpid()}-{time.monotonic_ns()}"
            try:
                folder.mkdir()
                (folder / name).write_text(str(bytes_))
            except OSError:
                with contextlib.suppress(OSError):
                    folder.rmdir()
                continue
            self.folder, self.how = folder, f"cgroup {name}"
            break

    def take(self, pid: int) -> None:
        """Puts a process under it."""
        if self.folder is not None:
            (self.folder / "cgroup.procs").write_text(str(pid))

    def close(self) -> None:
        """Takes the limit away, once its processes have ended."""
        deadline = time.monotonic() + 2
        while self.folder is not None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                self.folder.rmdir()
                self.folder = None
            time.sleep(0.01)


class Worker:
    """`worker.py` with one verb in it, and the peak of its anonymous memory above what it had when it was idle."""

    def __init__(self, *, netns: str | None = None, limit: Limit | None = None) -> None:
        inside = ["ip", "netns", "exec", netns] if netns else []
        self.process = subprocess.Popen(
            [*inside, sys.executable, str(HERE / "worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.answer()
        self.limit = limit
        if limit is not None:
            limit.take(self.process.pid)
        self.idle = anon(self.process.pid)
        self.peak = 0
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()

    def _look(self) -> None:
        while not self._stop.wait(POLL_S):
            self.peak = max(self.peak, anon(self.process.pid) - self.idle)

    def answer(self) -> dict[str, Any]:
        """The next line it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            return {"raised": f"killed ({code})", "at": time.monotonic()}
        said: dict[str, Any] = json.loads(line)
        return said

    def begin(self, verb: str, *args: object, **options: object) -> None:
        """Starts a verb; names that end in an underscore are for the worker."""
        own = {name.rstrip("_"): options.pop(name) for name in list(options) if name.endswith("_")}
        job = {"verb": verb, "args": [a if isinstance(a, list) else str(a) for a in args], "options": options, **own}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()

    def interrupt(self) -> float:
        """Ctrl-C; when it was pressed."""
        now = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        return now

    def close(self) -> None:
        """Ends it."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._stop.set()
        self._watch.join()
        if self.process.stdout is not None:
            self.process.stdout.close()


@dataclass
class Ran:
    """One run of a verb."""

    took: float
    result: Any
    peak: int


class RunError(Exception):
    """A run that did not do what it was to."""


def run(verb: str, *args: object, netns: str | None = None, limit: Limit | None = None, **options: Any) -> Ran:
    """Runs a verb in a process of its own."""
    worker = Worker(netns=netns, limit=limit)
    try:
        worker.begin(verb, *args, **options)
        said = worker.answer()
    finally:
        worker.close()
    if "raised" in said:
        raise RunError(f"{verb}: {said['raised']}: {said.get('text', '')}")
    return Ran(said["took"], said["result"], worker.peak)


@contextlib.contextmanager
def serving(path: Path, addr: str = "127.0.0.1:0", **options: Any) -> Iterator[tuple[str, Worker]]:
    """Our server in a process of its own: its address and its worker."""
    limit, netns = options.pop("limit", None), options.pop("netns", None)
    worker = Worker(netns=netns, limit=limit)
    try:
        worker.begin("serve", path, addr, **options)
        yield worker.answer()["address"], worker
    finally:
        worker.close()


@contextlib.contextmanager
def bare_serving(
    tool: Path, bytes_: int, chunk: int, addr: str = "127.0.0.1:0", netns: str | None = None
) -> Iterator[str]:
    """The bare tonic server in a process of its own."""
    inside = ["ip", "netns", "exec", netns] if netns else []
    command = [*inside, str(tool), "bare-serve", addr, str(bytes_), str(chunk)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


def said_by(command: Sequence[object]) -> str:
    """What a program prints."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def timed(command: Sequence[object]) -> float:
    """How long a program takes."""
    began = time.monotonic()
    subprocess.run([str(word) for word in command], stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


@dataclass
class Row:
    """One line of the table."""

    what: str
    bar: str
    figure: str
    good: bool | None
    memory: str = ""


def table(rows: Sequence[Row]) -> str:
    """The table, for people and for Markdown."""
    words = {True: "pass", False: "MISS", None: "-"}
    cells = [("What", "Bar", "Figure", "", "Peak RssAnon above idle")]
    cells += [(row.what, row.bar, row.figure, words[row.good], row.memory) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
