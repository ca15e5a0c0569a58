"""A released node copied block by block over loopback: how many blocks a second, and with how much memory."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from data import Data, Sizes
from measure import MIB, Row, median, run

BAR = 2000
MEMORY = 256 * MIB
# Blocks of three small transactions, as the node of tests/interop/evnode makes them.
BLOCKS = {True: 30_000, False: 3000}
PATIENCE_S = 900


class Node:
    """The released ev-node of tests/interop/evnode."""

    def __init__(self, program: Path, home: Path, block_time: str) -> None:
        command = [str(program), "--home", str(home), "--block-time", block_time, "--log", "error"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.rpc: str = self._answer()["rpc"]

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def tip(self) -> int:
        """The height of its newest block."""
        assert self.process.stdin is not None
        self.process.stdin.write('{"cmd":"report"}\n')
        self.process.stdin.flush()
        return int(self._answer()["tip"])

    def close(self) -> None:
        """Ends it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


def copied(data: Data, sizes: Sizes, program: Path | None) -> list[Row]:
    """Full backups by the documented RPCs and byte for byte, of a node that makes hardly any blocks meanwhile."""
    if program is None:
        return []
    home, out = data.path("released"), data.path("released.badger")
    wanted = BLOCKS[sizes.rounds > 1]
    node = Node(program, home, "1ms")
    deadline = time.monotonic() + PATIENCE_S
    try:
        while (tip := node.tip()) < wanted and time.monotonic() < deadline:
            time.sleep(0.5)
    finally:
        node.close()
    print(f"released: a chain of {tip} blocks", file=sys.stderr, flush=True)
    rows = []
    node = Node(program, home, "1s")
    try:
        for raw in (False, True):
            rates, peak, bytes_ = [], 0, 0
            for _ in range(sizes.rounds):
                made = run("backup", node.rpc, out, via="blocks", raw=raw, overwrite=True)
                rates.append(made.result["complete_height"] / made.took)
                peak, bytes_ = max(peak, made.peak), made.result["bytes"]
            rate = median(rates)
            figure = f"{rate:.0f} blocks/s ({min(rates):.0f}-{max(rates):.0f}; {tip} blocks, {bytes_ / 1e6:.0f} MB)"
            what = f"a released node over loopback, {'byte for byte' if raw else 'block by block'}"
            bar, good = ("-", None) if raw else (f"≥ {BAR} blocks/s", rate >= BAR)
            rows.append(Row(what, bar, figure, good, f"{peak / MIB:.0f} MiB"))
            if peak > MEMORY:
                rows.append(
                    Row(f"memory of it, {'raw' if raw else 'blocks'}", "≤ 256 MiB", f"{peak / MIB:.0f} MiB", False)
                )
    finally:
        node.close()
    data.drop("released")
    return rows
