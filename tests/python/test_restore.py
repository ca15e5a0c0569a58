"""`restore` and `apply`: whole or not at all."""

import asyncio
import os
import pwd
from pathlib import Path

import pytest

import evbackup
from evbackup import Backup
from support import BLOCKS


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_full_backup_comes_back(full: Backup, sample: Path, tmp_path: Path) -> None:
    restored = evbackup.restore(full, tmp_path / "store", engine="rocksdb")
    assert (restored.path, restored.engine, restored.dry_run) == (tmp_path / "store", "rocksdb", False)
    assert (restored.entries, restored.complete_height, restored.replaced) == (full.entries, BLOCKS, None)
    assert evbackup.digest(restored.path) == evbackup.digest(sample)
    assert entries(tmp_path) == ["store"]
    assert restored.path.stat().st_mode & 0o777 == 0o700


def test_a_chain_comes_back_in_any_order_and_with_doubles(chain: list[Backup], tmp_path: Path) -> None:
    evbackup.restore([*reversed(chain), chain[1]], tmp_path / "store", engine="rocksdb")
    assert evbackup.digest(tmp_path / "store") == evbackup.digest(tmp_path / "growing") == evbackup.digest(chain)


def test_a_plan_writes_nothing(full: Backup, tmp_path: Path) -> None:
    plan = evbackup.restore(full, tmp_path / "store", engine="rocksdb", dry_run=True)
    assert plan.dry_run
    assert plan.entries == full.entries
    assert entries(tmp_path) == []


def test_a_gap_is_refused(chain: list[Backup], tmp_path: Path) -> None:
    with pytest.raises(evbackup.MissingError):
        evbackup.restore([chain[0], chain[2]], tmp_path / "store", engine="rocksdb")
    with pytest.raises(evbackup.MissingError):
        evbackup.restore(chain[1:], tmp_path / "store", engine="rocksdb")
    assert not (tmp_path / "store").exists()


def test_a_foreign_increment_is_refused(chain: list[Backup], full: Backup, tmp_path: Path) -> None:
    with pytest.raises((evbackup.MismatchError, evbackup.MissingError)):
        evbackup.restore([full, chain[1]], tmp_path / "store", engine="rocksdb")
    assert not (tmp_path / "store").exists()


def test_what_is_there_is_kept(full: Backup, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("folder", "file"):
        with pytest.raises(evbackup.ExistsError):
            evbackup.restore(full, tmp_path / name, engine="rocksdb")
        with pytest.raises(evbackup.EvbackupError):
            evbackup.restore(full, tmp_path / name, engine="rocksdb", overwrite=True)
    assert (tmp_path / "folder" / "mine").read_text() == (tmp_path / "file").read_text() == "mine"
    with pytest.raises(evbackup.EvbackupError):
        evbackup.restore(full, "/", engine="rocksdb", overwrite=True)


@pytest.mark.parametrize("keep", [True, False])
def test_a_store_may_be_replaced(full: Backup, chain: list[Backup], tmp_path: Path, *, keep: bool) -> None:
    target = tmp_path / "here" / "store"
    target.parent.mkdir()
    evbackup.restore(chain, target, engine="rocksdb")
    before = evbackup.digest(target)
    replaced = evbackup.restore(full, target, engine="rocksdb", overwrite=True, keep_replaced=keep)
    assert evbackup.digest(target) == evbackup.digest(full)
    if keep:
        assert replaced.replaced is not None
        assert evbackup.digest(replaced.replaced) == before
    else:
        assert replaced.replaced is None
        assert entries(target.parent) == ["store"]


def test_the_owner(full: Backup, tmp_path: Path) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    evbackup.restore(full, tmp_path / "store", engine="rocksdb", owner=me)
    assert (tmp_path / "store").stat().st_uid == os.getuid()
    for owner in ("nobody-of-that-name", f"{me}:no-such-group", "4294967"):
        with pytest.raises(evbackup.InvalidArgument):
            evbackup.restore(full, tmp_path / "other", engine="rocksdb", owner=owner)


def test_an_engine_that_is_none_is_refused(full: Backup, tmp_path: Path) -> None:
    with pytest.raises(evbackup.InvalidArgument, match="engine"):
        evbackup.restore(full, tmp_path / "store", engine="bolt")  # type: ignore[arg-type]


def test_increments_are_applied(chain: list[Backup], tmp_path: Path) -> None:
    store = tmp_path / "store"
    evbackup.restore(chain[0], store, engine="rocksdb")
    with pytest.raises(evbackup.MissingError):
        evbackup.apply(chain[2], store)
    applied = evbackup.apply(chain[1:], store)
    assert applied.segments == tuple(one.path for one in chain[1:])
    assert evbackup.digest(store) == evbackup.digest(chain)
    assert evbackup.apply(chain[1:], store).segments == ()


def test_the_twins(chain: list[Backup], tmp_path: Path) -> None:
    async def work() -> None:
        await evbackup.restore_async(chain[0], tmp_path / "store", engine="rocksdb")
        await evbackup.apply_async(chain[1:], tmp_path / "store")

    asyncio.run(work())
    assert evbackup.digest(tmp_path / "store") == evbackup.digest(chain)
