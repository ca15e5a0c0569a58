"""What a node notices of our snapshots: how many blocks it commits beside them, and alone."""

import contextlib
import json
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import Data, Sizes
from measure import Row, RunError, Worker, median
from throughput import BLOCK, rate


class Producer:
    """The Go server as a node: it commits blocks of 1 KiB, with ev-node's options, without a pause, as batches of ev-node's."""

    def __init__(self, peer: Path, folder: Path) -> None:
        command = [str(peer), "serve", "--dir", str(folder), "--write-blocks", "-1"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def blocks(self) -> tuple[float, int]:
        """When, and how many blocks it had committed then."""
        assert self.process.stdin is not None
        self.process.stdin.write('{"cmd":"stats"}\n')
        self.process.stdin.flush()
        return time.monotonic(), int(self._answer()["blocks"])

    def rate(self, seconds: float) -> float:
        """Blocks a second over so many seconds."""
        start, before = self.blocks()
        time.sleep(seconds)
        end, after = self.blocks()
        return (after - before) / (end - start)

    def close(self) -> None:
        """Ends it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


@dataclass
class Snapshots:
    """Backups of a directory, one after the other, until they are stopped."""

    folder: Path
    out: Path
    max_rate: int | None
    taken: int = 0
    bytes: int = 0
    seconds: float = 0.0
    given_up: int = 0
    failed: str = ""

    def __enter__(self) -> "Snapshots":
        self._stop = threading.Event()
        self._worker: Worker | None = None
        self._thread = threading.Thread(target=self._take)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Whatever is under way is cut off: at a low rate it may take minutes."""
        self._stop.set()
        while self._thread.is_alive():
            worker = self._worker
            if worker is not None:
                with contextlib.suppress(OSError):
                    worker.interrupt()
            self._thread.join(2)
        if self.failed:
            raise RunError(self.failed)

    def _take(self) -> None:
        limit: dict[str, Any] = {} if self.max_rate is None else {"max_rate": self.max_rate}
        while not self._stop.is_set() and not self.failed:
            worker = Worker()
            try:
                worker.begin("backup", self.folder, self.out, overwrite=True, **limit)
                self._worker = worker
                said = worker.answer()
            finally:
                self._worker = None
                worker.close()
            if "result" in said:
                self.taken += 1
                self.bytes += said["result"]["bytes"]
                self.seconds += said["took"]
            elif said["raised"] == "UnavailableError":
                self.given_up += 1  # the node compacts faster than this may copy
            elif not self._stop.is_set():
                self.failed = f"backup: {said['raised']}: {said.get('text', '')}"


def beside(data: Data, sizes: Sizes, peer: Path | None) -> list[Row]:
    """The ratio of neighbouring windows, with and without our snapshots."""
    if peer is None:
        return []
    folder, out = data.path("beside"), data.path("beside.badger")
    count = sizes.ingest // BLOCK
    subprocess.run(
        [str(peer), "fill", "--dir", str(folder), "--blocks", str(count), "--value-size", str(BLOCK)],
        stdout=subprocess.DEVNULL,
        check=True,
    )
    rows = []
    for name, bar, max_rate in (("unlimited", 0.8, None), ("max_rate 50 MB/s", 0.95, 50_000_000)):
        node = Producer(peer, folder)
        ratios, alone, together, taken, given_up, bytes_, seconds = [], [], [], 0, 0, 0, 0.0
        try:
            node.rate(sizes.window_s / 2)  # its memtables fill, compaction begins
            before = node.rate(sizes.window_s)
            for _ in range(sizes.rounds):
                with Snapshots(folder, out, max_rate) as snapshots:
                    time.sleep(0.3)
                    beside_us = node.rate(sizes.window_s)
                after = node.rate(sizes.window_s)
                taken, bytes_, seconds = taken + snapshots.taken, bytes_ + snapshots.bytes, seconds + snapshots.seconds
                given_up += snapshots.given_up
                ratios.append(beside_us / ((before + after) / 2))
                alone.append((before + after) / 2)
                together.append(beside_us)
                before = after
        finally:
            node.close()
        ratio = median(ratios)
        figure = f"{ratio:.2f} ({min(ratios):.2f}-{max(ratios):.2f}; {median(together):.0f} to {median(alone):.0f} blocks/s; "
        speed = rate(bytes_, seconds) if taken else "each cut off at the end of its window"
        figure += f"{taken} snapshots and {given_up} given up, {speed})"
        rows.append(Row(f"a node's commit rate while we snapshot, {name}", f"≥ {bar}", figure, ratio >= bar))
    data.drop("beside")
    return rows
