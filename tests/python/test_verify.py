"""`verify`, `inspect` and `digest`."""

import asyncio
import shutil
from pathlib import Path

import pytest

import evbackup
from evbackup import Backup
from support import BLOCKS


def copied(backup: Backup, folder: Path) -> Path:
    """The segment and what stands beside it, to be damaged."""
    assert backup.path is not None
    for file in backup.path.parent.glob(backup.path.name + "*"):
        shutil.copy2(file, folder)
    return folder / backup.path.name


def test_a_sound_segment(full: Backup) -> None:
    report = evbackup.verify(full)
    assert report.ok
    assert report.raise_for_findings() is report
    assert (report.entries, report.bytes, report.segments) == (full.entries, full.bytes, (full.path,))
    assert report.complete_height == BLOCKS


def test_quick_looks_at_less(full: Backup) -> None:
    report = evbackup.verify(full, level="quick")
    assert report.ok
    assert report.level == "quick"


def test_a_chain_in_any_order(chain: list[Backup]) -> None:
    report = evbackup.verify(reversed(chain))
    assert report.ok
    assert report.segments == tuple(one.path for one in chain)


def test_a_gap_is_named(chain: list[Backup]) -> None:
    report = evbackup.verify([chain[0], chain[2]])
    assert not report.ok
    assert [finding.code for finding in report.errors] == ["gap"]


def test_damage_is_found_and_placed(full: Backup, tmp_path: Path) -> None:
    segment = copied(full, tmp_path)
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    report = evbackup.verify(segment)
    assert not report.ok
    assert report.errors[0].file == segment
    with pytest.raises(evbackup.DamagedError, match=segment.name):
        report.raise_for_findings()


def test_a_segment_without_a_manifest_is_a_warning(full: Backup, tmp_path: Path) -> None:
    assert full.path is not None
    segment = tmp_path / "bare.badger"
    shutil.copyfile(full.path, segment)
    report = evbackup.verify(segment)
    assert report.ok
    assert report.warnings
    with pytest.raises(evbackup.DamagedError):
        report.raise_for_findings(strict=True)


def test_calls_that_cannot_be_meant(full: Backup) -> None:
    with pytest.raises(evbackup.InvalidArgument):
        evbackup.verify([])
    with pytest.raises(evbackup.InvalidArgument, match="level"):
        evbackup.verify(full, level="deep")  # type: ignore[arg-type]
    with pytest.raises(evbackup.MissingError):
        evbackup.verify("/nowhere/full.badger")


def test_digests_are_equal_where_the_data_is(sample: Path, full: Backup) -> None:
    assert evbackup.digest(sample) == evbackup.digest(full)
    assert evbackup.digest(sample, at=full.complete_version) == evbackup.digest(full)
    assert evbackup.digest(sample, at=1) != evbackup.digest(full)
    assert evbackup.digest(sample, history=True) == evbackup.digest(full, history=True)


def test_inspect_a_segment(full: Backup, tmp_path: Path) -> None:
    segment = evbackup.inspect(full)
    assert isinstance(segment, evbackup.Segment)
    assert (segment.path, segment.kind, segment.sha256, segment.next_since) == (
        full.path,
        "full",
        full.sha256,
        full.next_since,
    )
    assert full.path is not None
    bare = tmp_path / "bare.badger"
    shutil.copyfile(full.path, bare)
    assert isinstance(evbackup.inspect(bare), evbackup.Segment)


def test_inspect_a_store(sample: Path) -> None:
    store = evbackup.inspect(sample)
    assert isinstance(store, evbackup.DatastoreInfo)
    assert (store.path, store.engine, store.tip_height) == (sample, "rocksdb", BLOCKS)


def test_the_twins(full: Backup, sample: Path) -> None:
    async def work() -> tuple[object, ...]:
        return await asyncio.gather(
            evbackup.verify_async(full),
            evbackup.inspect_async(full),
            evbackup.digest_async(full),
            evbackup.digest_async(sample),
        )

    report, segment, one, other = asyncio.run(work())
    assert isinstance(report, evbackup.Report)
    assert report.ok
    assert segment == evbackup.inspect(full)
    assert one == other
