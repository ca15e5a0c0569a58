"""For cron: adds one segment to the chain in a folder, and proves the whole chain.

The first run makes a full backup, each later one an increment. Where the node is no longer the one that the chain was taken
from (restored, rolled back, another database), a full backup begins a new chain, and `notes` says why.

python examples/nightly_chain.py node:7331 backups/
"""
# ruff: noqa: T201, INP001  # a script that people run and read

import sys
import time
from pathlib import Path

import evbackup

PAUSE_S = 30.0


def take(addr: str, folder: Path, attempts: int = 3) -> evbackup.Backup:
    """One backup; tries again where the node or the way to it fails. Everything else needs a person."""
    try:
        return evbackup.backup(addr, folder, since="auto", on_mismatch="full")
    except evbackup.UnavailableError as error:
        if attempts == 1:
            raise
        print(f"will try again in {PAUSE_S:.0f} s: {error}", file=sys.stderr)
    time.sleep(PAUSE_S)
    return take(addr, folder, attempts - 1)


def newest_chain(folder: Path) -> list[Path]:
    """The newest full segment in the folder, and what came after it."""
    found = map(evbackup.inspect, folder.glob("*.badger"))
    segments = [segment for segment in found if isinstance(segment, evbackup.Segment)]
    chain: list[Path] = []
    for segment in sorted(segments, key=began):
        chain = [segment.path] if segment.kind == "full" else [*chain, segment.path]
    return chain


def began(segment: evbackup.Segment) -> str:
    """When it was taken. Times in UTC sort as text, without the letter behind a fraction of any length."""
    return (segment.started_at or "").removesuffix("Z")


def main() -> int:
    """Backs up the first argument into the folder that is the second."""
    addr, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        made = take(addr, folder)
        chain = newest_chain(folder)
        report = evbackup.verify(chain).raise_for_findings()
    except evbackup.EvbackupError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{made.kind}: {made.path}, {made.entries} new entries")
    print(f"chain of {len(chain)}: complete to version {report.complete_version}, height {report.complete_height}")
    for note in made.notes:
        print(f"note: {note}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
