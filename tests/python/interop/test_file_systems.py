"""Live snapshots on file systems that share bytes between files, that do not, and on that of a container.

Each is made in a file and mounted, which needs root and a kernel that knows it; where that cannot be, the tests say why and are skipped.
"""

import contextlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import evbackup
from interop.live import TRIES, Run, Series, writing
from interop.peers import Badger, names

# Less than what a copy must leave free: on these, nothing but shared bytes can be a snapshot.
IMAGE = 400 << 20
# Badger may lose values when it is closed while it collects: one of both.
RUNS = [Run("", ("--gc", "100ms", "--hold", "400ms")), Run("", ("--hold", "400ms", "--restart", "900ms"))]


def mount(folder: Path, *words: object) -> None:
    """Mounts something, or skips the test with the reason why that cannot be."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    folder.mkdir()
    done = subprocess.run(["mount", *map(str, words), folder], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount it here: {done.stderr.strip()}")


def unmount(folder: Path) -> None:
    subprocess.run(["umount", folder], check=True)


@contextlib.contextmanager
def file_system(kind: str, place: Path) -> Iterator[Path]:
    """A new file system of this kind."""
    make = shutil.which(f"mkfs.{kind}") or shutil.which(f"mkfs.{kind}", path="/usr/sbin:/sbin")
    if make is None:
        pytest.skip(f"mkfs.{kind} is missing")
    image, folder = place / f"{kind}.image", place / kind
    with image.open("wb") as file:
        file.truncate(IMAGE)
    subprocess.run([make, "-q", image], check=True, capture_output=True)
    mount(folder, "-o", "loop", image)
    try:
        yield folder
    finally:
        unmount(folder)


@contextlib.contextmanager
def overlay(place: Path, lower: Path) -> Iterator[Path]:
    """An overlay over `lower`, as a container has one over its image."""
    folder = place / "overlay"
    for name in ("upper", "work"):
        (place / name).mkdir()
    mount(folder, "-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={place}/upper,workdir={place}/work")
    try:
        yield folder
    finally:
        unmount(folder)


def take(badger: Badger, inside: Path, run: Run, snapshots: int, evidence: Path) -> Series:
    """Snapshots of directories in `inside`, each held against the model, while files of theirs come and go."""
    series, chance, folders = Series(run, evidence), random.Random(run.name), 0
    while series.taken < snapshots or series.counts["restarts"] + series.counts["rewrites"] == 0:
        assert folders < TRIES, series
        enough = series.taken + snapshots
        series.take(badger, inside / str(folders), chance, lambda: series.taken < enough)  # noqa: B023  # called at once
        folders += 1
    assert not series.wrong, series.wrong
    assert series.counts["commits"] > 500
    left = {name.split(".")[0] for number in range(folders) for name in names(inside / str(number))}
    assert left == {"live", "tally", "snapshot"}
    return series


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_where_bytes_can_be_shared_nothing_is_copied(badger: Badger, tmp_path: Path, kind: str) -> None:
    with file_system(kind, tmp_path) as folder:
        for number, run in enumerate(RUNS):
            inside = folder / str(number)
            inside.mkdir()
            take(badger, inside, run, 12, tmp_path / "evidence" / str(number))


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_what_is_shared_is_read_at_the_pace(badger: Badger, tmp_path: Path, kind: str) -> None:
    rate = 4_000_000
    with file_system(kind, tmp_path) as folder:
        badger.fill(folder / "node", "--blocks", 1000, "--value-size", 8000)
        size = sum(file.stat().st_size for file in (folder / "node").glob("*.sst"))
        assert size > rate
        start = time.monotonic()
        made = evbackup.backup(folder / "node", tmp_path / "full.badger", max_rate=rate)
        assert time.monotonic() - start > 0.8 * size / rate
        assert made.tip_height == 1000


def test_where_they_cannot_a_copy_leaves_the_node_its_room(badger: Badger, tmp_path: Path) -> None:
    """The same directory on a file system of the same size: the control of the test above."""
    with file_system("ext4", tmp_path) as folder:
        badger.fill(folder / "node", "--blocks", 100)
        with badger.serve(folder / "node"):
            with pytest.raises(evbackup.NoSpaceError) as caught:
                evbackup.backup(folder / "node", tmp_path / "full.badger")
            assert caught.value.hint is not None
            assert "the node must not run short" in caught.value.hint
            assert "full.badger" not in names(tmp_path)
            # Nothing is copied for a single key.
            with evbackup.open(folder / "node") as datastore:
                assert datastore.get("/0/t") is not None
            # Elsewhere there is room.
            (tmp_path / "staging").mkdir()
            made = evbackup.backup(folder / "node", tmp_path / "full.badger", staging=tmp_path / "staging")
            assert made.tip_height == 100
            assert names(tmp_path / "staging") == []
        assert [name for name in names(folder) if name not in ("node", "lost+found")] == []


def test_on_an_overlay_a_snapshot_is_a_state_that_there_was(badger: Badger, tmp_path: Path) -> None:
    """The node has files of the layer below open for writing, and others that only this layer has."""
    below = tmp_path / "below"
    (below / "0").mkdir(parents=True)
    with writing(badger, below / "0", RUNS[0], random.Random(1)) as writer:
        time.sleep(1)
        writer.count()
    assert writer.commits > 100
    with overlay(tmp_path, below) as folder:
        take(badger, folder, RUNS[1], 20, tmp_path / "evidence")


def test_through_a_program_that_serves_files_a_running_node_is_not_read(badger: Badger, tmp_path: Path) -> None:
    """Each side of it may have pages of its own: refused by name, unless the caller knows better or the node is stopped."""
    served = tmp_path / "served"
    served.mkdir()
    if shutil.which("bindfs") is None:
        pytest.skip("bindfs is missing")
    done = subprocess.run(["bindfs", tmp_path, served], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount it here: {done.stderr.strip()}")
    try:
        badger.fill(tmp_path / "node", "--blocks", 20)
        with pytest.raises(evbackup.UnsupportedError, match="expected a local file system, found FUSE") as caught:
            evbackup.backup(served / "node", tmp_path / "full.badger")
        assert caught.value.path == served / "node"
        assert caught.value.hint is not None
        anyway = evbackup.backup(served / "node", tmp_path / "anyway.badger", any_file_system=True)
        offline = evbackup.backup(served / "node", tmp_path / "offline.badger", offline=True)
        assert (anyway.tip_height, offline.tip_height) == (20, 20)
    finally:
        unmount(served)
