"""`evbackup demo`: the whole round on sample data, said aloud."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _evbackup
from ._backup import backup
from ._job import wait
from ._restore import apply, restore
from ._results import Backup, size
from ._serve import serve
from ._verify import digest, verify
from .errors import MismatchError

if TYPE_CHECKING:
    from collections.abc import Callable


def run(folder: Path | None, blocks: int, tell: Callable[[str], object]) -> dict[str, Any]:
    """Fills a store with a linked sample chain and takes it through every verb.

    Args:
        folder: Where to work; what is made there stays. None: a temporary folder.
        blocks: How long the chain is; two thirds are there for the full backup.
        tell: Gets each line for the person who watches.

    Returns:
        The digest that all copies share, and what was backed up.
    """
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        return _round(folder, blocks, tell)
    with tempfile.TemporaryDirectory(prefix="evbackup-demo-") as temporary:
        return _round(Path(temporary), blocks, tell)


def _round(folder: Path, blocks: int, tell: Callable[[str], object]) -> dict[str, Any]:
    node, copy = folder / "node", folder / "restored"
    full_path, increment_path = folder / "full.badger", folder / "inc1.badger"
    first = max(blocks * 2 // 3, 1)

    wait(_evbackup.sample_store(str(node), first))
    tell(f"1. a store with a chain of {first:,} blocks: {node}")
    with serve(node, "127.0.0.1:0") as server:
        tell(f"2. served on {server.address}")
        full = backup(server.address, full_path)
        tell(f"3. backed up over the wire: {_line(full)}")
    wait(_evbackup.sample_store(str(node), blocks - first))
    tell(f"4. the chain grew to {blocks:,} blocks")
    with serve(node, "127.0.0.1:0") as server:
        increment = backup(server.address, increment_path, since=full)
        tell(f"5. what changed since: {_line(increment)}")

    report = verify([full, increment]).raise_for_findings()
    tell(f"6. proven: {report._short()}")
    restored = restore([full, increment], copy)
    tell(f"7. restored as a node's directory: {restored._short()}")
    found = {"node": digest(node), "restored": digest(copy)}

    stepwise = folder / "stepwise"
    restore(full, stepwise, engine="rocksdb")
    applied = apply(increment, stepwise)
    found["stepwise"] = digest(stepwise)
    tell(f"8. the increment applied to a full backup in a store: {applied._short()}")
    if len(set(found.values())) != 1:
        raise MismatchError(f"expected one digest, found {found}")
    tell(f"9. the same data in all three: {found['node']}")
    return {"digest": found["node"], "full": full.as_dict(), "increment": increment.as_dict()}


def _line(made: Backup) -> str:
    seconds = max(made.elapsed_s, 1e-3)
    speed = size(made.bytes / seconds)
    return f"{made.path}, {made.entries:,} entries, {size(made.bytes)} in {made.elapsed_s:.2f} s ({speed}/s), height {made.complete_height:,}"
