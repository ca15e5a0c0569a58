"""The data sets: stores of blocks whose values no codec makes smaller, made once for a run and removed with it."""

import json
import math
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import run


@dataclass(frozen=True)
class Sizes:
    """How large the data sets are, and how often a pair of runs is repeated."""

    medium: int
    large: int
    ingest: int
    small_values: int
    rounds: int
    starts: int
    presses: int
    shaped: int
    window_s: float
    blocks: int


FULL = Sizes(
    2 * 10**9, 8 * 10**9, 10**9, 400 * 10**6, rounds=5, starts=20, presses=4, shaped=5 * 10**8, window_s=8, blocks=10**6
)
QUICK = Sizes(
    10**8, 3 * 10**8, 10**8, 4 * 10**7, rounds=1, starts=5, presses=1, shaped=5 * 10**7, window_s=2, blocks=20_000
)


class Data:
    """A folder to work in, and the tool that fills it."""

    def __init__(self, folder: Path, tool: Path) -> None:
        self.folder = folder
        self.tool = tool

    def path(self, name: str) -> Path:
        return self.folder / name

    def store(self, name: str, bytes_: int, size: int) -> tuple[Path, int]:
        """A store with values of `size` bytes, and how many."""
        path, count = self.path(name), bytes_ // size
        if not path.exists():
            subprocess.run([self.tool, "fill", path, str(count), str(size)], check=True)
        return path, count

    def segment(self, name: str, store: Path) -> tuple[Path, dict[str, Any]]:
        """A full backup of a store, and its manifest."""
        path = self.path(name)
        if not path.exists():
            run("backup", store, path)
        return path, json.loads(Path(f"{path}.json").read_text())

    def drop(self, *names: str) -> None:
        """Removes what has these names, a segment's other files and what a verb has left included."""
        for name in names:
            for path in self.folder.glob(f"{name}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def chunk_of(manifest: dict[str, Any]) -> int:
    """The size of the chunks in which our server sends a segment: its frames in equal parts of at most 1 MiB."""
    frame: float = manifest["bytes"] / max(manifest["frames"], 1)
    return math.ceil(frame / math.ceil(frame / (1 << 20)))
