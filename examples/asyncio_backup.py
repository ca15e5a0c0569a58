"""Backs up several nodes at once from an asyncio program, with progress and a time limit of the caller's own.

python examples/asyncio_backup.py backups/ node-a:7331 node-b:7331
"""
# ruff: noqa: T201, INP001  # a script that people run and read

import asyncio
import sys
from pathlib import Path

import evbackup

LIMIT_S = 3600.0


async def one(addr: str, path: Path) -> evbackup.Backup:
    """One node. A cancelled task or a passed limit leaves no file behind."""

    def tell(progress: evbackup.Progress) -> None:
        print(f"{addr}: {progress.phase}, {progress.bytes} bytes", file=sys.stderr)

    full = await asyncio.wait_for(evbackup.backup_async(addr, path, progress=tell), LIMIT_S)
    report = await evbackup.verify_async(full)
    report.raise_for_findings()
    return full


async def all_of(folder: Path, addresses: list[str]) -> int:
    """Backs up every address into the folder; what the process exits with."""
    paths = [folder / f"node{number}.badger" for number in range(len(addresses))]
    done = await asyncio.gather(*map(one, addresses, paths), return_exceptions=True)
    worst = 0
    for addr, result in zip(addresses, done, strict=True):
        if isinstance(result, evbackup.EvbackupError):
            print(f"{addr}: {result.code}: {result}", file=sys.stderr)
            worst = max(worst, result.exit_code)
        elif isinstance(result, BaseException):
            raise result
        else:
            print(f"{addr}: {result.path}, height {result.complete_height}")
    return worst


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    raise SystemExit(asyncio.run(all_of(folder, sys.argv[2:])))
