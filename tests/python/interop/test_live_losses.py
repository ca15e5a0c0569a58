"""What the live tests do where Badger itself loses values or ends with a fault, which is rare: shown where it is made to happen."""

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest

import evbackup
from interop.live import TRIES, LostError, Run, Series, lost_by_badger, until_nothing_is_lost, writing
from interop.peers import PATIENCE_S, Badger, EndedError, names
from interop.test_file_systems import RUNS, take

QUIET = Run("", ())


def lose(badger: Badger, place: Path) -> None:
    """A directory `live` in `place` that has lost values: a value log is gone, as after a collection that took too much."""
    place.mkdir(parents=True)
    with writing(badger, place, QUIET, random.Random(1)) as writer:
        deadline = time.monotonic() + PATIENCE_S
        while len(logs := sorted(writer.folder.glob("*.vlog"))) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert writer.peer.finish() == 0
    logs[1].unlink()


def test_what_badger_has_lost_is_proven_and_another_directory_is_taken(badger: Badger, tmp_path: Path) -> None:
    inside, evidence = tmp_path / "inside", tmp_path / "evidence"
    lose(badger, inside / "0")
    series = take(badger, inside, RUNS[0], 3, evidence)
    assert series.lost >= 1
    assert series.taken >= 3
    assert names(evidence / "0") == ["everything.badger", "frozen", "opened"]


@pytest.mark.parametrize(("version", "proven"), [(1, True), (10**9, False)])
def test_in_a_directory_that_has_lost_nothing_the_key_must_be_written_again(
    badger: Badger, tmp_path: Path, *, version: int, proven: bool
) -> None:
    badger.fill(tmp_path / "frozen", "--blocks", 20)
    with evbackup.open(tmp_path / "frozen", offline=True) as stored:
        entry = stored.get("/0/t")
    assert entry is not None
    assert entry.version > 1
    damaged = evbackup.DamagedError(f"expected the value of key /0/t at version {version}, found no such value log")
    with contextlib.nullcontext() if proven else pytest.raises(AssertionError, match="nothing is damaged"):
        assert not lost_by_badger(badger, tmp_path / "frozen", damaged)


def test_a_fault_of_ours_is_not_let_pass(badger: Badger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: object, **__: object) -> None:
        raise evbackup.DamagedError("a fault of ours")

    monkeypatch.setattr(evbackup, "backup", damaged)
    series = Series(QUIET, tmp_path / "evidence")
    with pytest.raises(AssertionError, match="a fault of ours"):
        series.take(badger, tmp_path / "0", random.Random(1), lambda: True)


def test_a_badger_that_ends_by_itself_is_told(badger: Badger, tmp_path: Path) -> None:
    series = Series(QUIET, tmp_path / "evidence")
    asked = 0

    def more() -> bool:
        nonlocal asked
        asked += 1
        if asked == 3:
            # As a fault in a goroutine of its own would. Badger notes who holds the directory.
            os.kill(int((tmp_path / "0" / "live" / "LOCK").read_text()), signal.SIGKILL)
        return asked < 100

    series.take(badger, tmp_path / "0", random.Random(1), more)
    assert (series.crashed, series.lost, series.wrong) == (1, 0, [])
    assert 2 <= series.taken + series.given_up < 99


@pytest.mark.parametrize("error", [LostError({b"key"}), EndedError()], ids=lambda error: type(error).__name__)
def test_work_is_begun_again_where_badger_has_lost_something(tmp_path: Path, error: Exception) -> None:
    begun: list[Path] = []

    def work(place: Path) -> int:
        begun.append(place)
        if len(begun) < 3:
            raise error
        return len(begun)

    assert until_nothing_is_lost(work, tmp_path) == 3
    assert begun == [tmp_path / str(number) for number in range(3)]


def test_it_is_not_begun_again_forever(tmp_path: Path) -> None:
    def work(place: Path) -> int:
        raise LostError({bytes(place)})

    with pytest.raises(pytest.fail.Exception, match=f"in each of {TRIES} directories"):
        until_nothing_is_lost(work, tmp_path)


def test_what_nothing_shows_to_be_badgers_is_let_pass_once(
    badger: Badger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object, **__: object) -> None:
        raise evbackup.DamagedError("expected the value of key /live/0/seq at version 1, found no such value log")

    monkeypatch.setattr(evbackup, "backup", damaged)
    series = Series(QUIET, tmp_path / "evidence")
    series.take(badger, tmp_path / "0", random.Random(1), lambda: True)
    assert (series.lost, series.unproven) == (1, 1)
    with pytest.raises(AssertionError, match="2 damaged snapshots, and nothing damaged"):
        series.take(badger, tmp_path / "1", random.Random(1), lambda: True)

    def work(_: Path) -> int:
        raise LostError(set())

    with pytest.raises(AssertionError, match="2 damaged snapshots, and nothing damaged"):
        until_nothing_is_lost(work, tmp_path)
