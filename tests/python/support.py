"""What tests share that is no fixture."""

import dataclasses
from pathlib import Path

import evbackup
from evbackup import _evbackup
from evbackup._job import wait
from evbackup._results import Finding

ROOT = Path(__file__).parents[2]
BLOCKS = 200
TOKEN = "a token of 32 characters, or so.."


def grow(store: Path, blocks: int) -> None:
    """Makes a store with a sample chain, or adds blocks to it."""
    wait(_evbackup.sample_store(str(store), blocks))


def damaged_report(folder: Path) -> evbackup.Report:
    """The report of a chain in which much is wrong: a flipped byte, a lost manifest, a missing segment, and blocks that are missing."""
    grow(folder / "store", 600)
    made = [evbackup.backup(folder / "store", folder / "full.badger")]
    for number in range(1, 5):
        grow(folder / "store", 100)
        made.append(evbackup.backup(folder / "store", folder / f"inc{number}.badger", since=made[-1]))
    flipped = bytearray((folder / "inc1.badger").read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (folder / "inc1.badger").write_bytes(flipped)
    (folder / "inc3.badger.json").unlink()
    report = evbackup.verify([path for path in made if path is not made[2]])
    blocks = (
        Finding(
            "error", "missing-block", "expected a header, found none", height=212, until=260, hint="take a full backup"
        ),
        Finding("warning", "da-marks", "expected a DA height, found none", height=540),
    )
    return dataclasses.replace(report, findings=report.findings + blocks)
