"""Every kind of error: its class, its built-in parent, its exit code, its details, its page."""

import asyncio
import errno
import multiprocessing
import pickle
from pathlib import Path

import pytest

from evbackup import EvbackupError, _evbackup, errors
from evbackup._job import wait, wait_async

CLASSES = {
    "invalid-argument": (errors.InvalidArgument, ValueError, 2),
    "incomplete": (errors.IncompleteError, errors.UnavailableError, 3),
    "missing": (errors.MissingError, FileNotFoundError, 10),
    "locked": (errors.LockedError, EvbackupError, 11),
    "denied": (errors.DeniedError, PermissionError, 12),
    "unavailable": (errors.UnavailableError, ConnectionError, 13),
    "exists": (errors.ExistsError, FileExistsError, 14),
    "unsupported": (errors.UnsupportedError, EvbackupError, 15),
    "no-space": (errors.NoSpaceError, OSError, 16),
    "mismatch": (errors.MismatchError, EvbackupError, 17),
    "io": (errors.IoError, OSError, 18),
    "damaged": (errors.DamagedError, EvbackupError, 20),
    "cancelled": (KeyboardInterrupt, KeyboardInterrupt, 130),
}
OURS = sorted(set(CLASSES) - {"cancelled"})


def raised(code: str) -> EvbackupError:
    with pytest.raises(EvbackupError) as caught:
        wait(_evbackup.probe(0, code))
    return caught.value


def test_every_kind_has_a_class_here() -> None:
    assert sorted(_evbackup.kinds()) == sorted(CLASSES)
    assert sorted(errors.__all__) == sorted(
        {kind[0].__name__ for kind in CLASSES.values()} - {"KeyboardInterrupt"} | {"EvbackupError"}
    )


@pytest.mark.parametrize("code", OURS)
def test_an_error_of_each_kind_arrives_with_its_details(code: str) -> None:
    error = raised(code)
    cls, parent, exit_code = CLASSES[code]
    assert type(error) is cls
    assert isinstance(error, parent)
    assert (error.code, error.exit_code) == (code, exit_code)
    assert str(error) == "probe.badger: expected a probe, found a probe at byte 7"
    assert (error.hint, error.path, error.offset) == ("look at the probe", Path("probe.badger"), 7)


@pytest.mark.parametrize("code", [code for code in OURS if issubclass(CLASSES[code][0], OSError)])
def test_what_is_an_oserror_has_errno_and_filename(code: str) -> None:
    error = raised(code)
    assert isinstance(error, OSError)
    assert error.errno in errno.errorcode
    assert error.filename == "probe.badger"
    assert error.strerror == str(error)


def test_causes_are_chained() -> None:
    error = raised("damaged")
    assert isinstance(error.__cause__, errors.IoError)
    assert str(error.__cause__) == "the cause"
    assert isinstance(error.__cause__.__cause__, OSError)
    assert error.__cause__.__cause__.errno == errno.EIO


def test_cancelled_work_is_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt):
        wait(_evbackup.probe(0, "cancelled"))


def test_awaited_errors_are_the_same() -> None:
    async def awaited() -> None:
        await wait_async(_evbackup.probe(0, "damaged"))

    with pytest.raises(errors.DamagedError, match="expected a probe"):
        asyncio.run(awaited())


@pytest.mark.parametrize("code", OURS)
def test_errors_pickle(code: str) -> None:
    error = raised(code)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.as_dict()) == (str(error), error.as_dict())
    for name in ("errno", "filename", "strerror"):
        assert getattr(again, name, None) == getattr(error, name, None)


def test_errors_cross_processes() -> None:
    with (
        multiprocessing.get_context("spawn").Pool(1) as pool,
        pytest.raises(errors.MissingError, match="expected a probe"),
    ):
        pool.apply(raise_missing)


def raise_missing() -> None:
    wait(_evbackup.probe(0, "missing"))


def test_an_error_without_details_has_none() -> None:
    error = errors.UnavailableError("node:7331: connection refused")
    assert (error.hint, error.path, error.offset, error.filename) == (None, None, None, None)
    assert error.errno == errno.EHOSTUNREACH
    assert repr(error) == "UnavailableError('node:7331: connection refused')"


def test_every_kind_is_documented() -> None:
    page = Path(__file__).parents[2] / "docs" / "errors.md"
    text = page.read_text()
    for code, (cls, _, exit_code) in CLASSES.items():
        assert f"`{code}`" in text, f"{page} lacks {code}"
        assert f"`{cls.__name__}`" in text, f"{page} lacks {cls.__name__}"
        assert str(exit_code) in text
