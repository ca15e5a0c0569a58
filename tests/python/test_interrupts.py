"""Ctrl-C and asyncio's cancel in each verb: prompt, nothing left behind, what was there untouched, and the next run works."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import evbackup
from support import grow

# The promise; what a busy machine adds is not ours, so the best of a few tries counts.
PROMPT_S = 0.2
TRIES = 3
# Many small entries: each verb takes a few times as long as this.
BLOCKS = 40_000
DELAY_S = 0.02


class Large:
    """A store and a chain that keep each verb busy for a while."""

    def __init__(self, folder: Path) -> None:
        self.store, self.base = folder / "store", folder / "base"
        grow(self.store, BLOCKS)
        self.full = evbackup.backup(self.store, folder / "full.badger")
        evbackup.restore(self.full, self.base, engine="rocksdb")
        grow(self.store, BLOCKS)
        self.chain = [self.full, evbackup.backup(self.store, folder / "inc.badger", since=self.full)]
        self.full_digest, self.digest = evbackup.digest(self.full), evbackup.digest(self.store)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Large:
    return Large(tmp_path_factory.mktemp("large"))


def settled(folder: Path, within_s: float = 5.0) -> list[str]:
    """What is in a folder once everything unfinished is gone, at the latest after `within_s`."""
    end = time.monotonic() + within_s
    while True:
        names = sorted(entry.name for entry in folder.iterdir())
        if not any("part" in name for name in names) or time.monotonic() > end:
            return names
        time.sleep(0.02)


Verb = tuple[Callable[[Path], Any], Callable[[Path], Awaitable[Any]]]


@pytest.fixture(params=["backup over the wire", "backup of a directory", "verify", "digest", "restore", "apply"])
def verb(request: pytest.FixtureRequest, large: Large) -> Any:
    """The verb and its twin, as functions of a folder to write to."""
    server = evbackup.serve(large.store, "127.0.0.1:0")
    verbs: dict[str, Verb] = {
        "backup over the wire": (
            lambda folder: evbackup.backup(server.address, folder / "new"),
            lambda folder: evbackup.backup_async(server.address, folder / "new"),
        ),
        "backup of a directory": (
            lambda folder: evbackup.backup(large.store, folder / "new"),
            lambda folder: evbackup.backup_async(large.store, folder / "new"),
        ),
        "verify": (lambda _: evbackup.verify(large.chain), lambda _: evbackup.verify_async(large.chain)),
        "digest": (lambda _: evbackup.digest(large.chain), lambda _: evbackup.digest_async(large.chain)),
        "restore": (
            lambda folder: evbackup.restore(large.chain, folder / "new", engine="rocksdb"),
            lambda folder: evbackup.restore_async(large.chain, folder / "new", engine="rocksdb"),
        ),
        "apply": (
            lambda folder: evbackup.apply(large.chain[1], folder / "base"),
            lambda folder: evbackup.apply_async(large.chain[1], folder / "base"),
        ),
    }
    with server:
        yield verbs[request.param]


def once_free(work: Callable[[], Any], within_s: float = 5.0) -> Any:
    """Its result once what ran before has given up its target: cancelled by asyncio, it ends on a thread of its own."""
    results = []

    def locked() -> bool:
        with contextlib.suppress(evbackup.LockedError):
            results.append(work())
        return not results

    end = time.monotonic() + within_s
    while locked():
        assert time.monotonic() < end, "it was never given up"
        time.sleep(0.02)
    return results[0]


def attempts(place: Path, large: Large, attempt: Callable[[Path], float | None]) -> Path:
    """Stops work in one new folder after the other: nothing is left, the store is as before, and the best is prompt. The last folder.

    `attempt` says how long it took, or None where the work had ended before it was stopped.
    """
    taken: list[float] = []
    for number in range(5 * TRIES):
        folder = place / str(number)
        folder.mkdir()
        shutil.copytree(large.base, folder / "base")
        seconds = attempt(folder)
        names, digest = settled(folder), once_free(lambda folder=folder: evbackup.digest(folder / "base"))  # type: ignore[misc]
        if seconds is None or names == ["base", "new"] or digest == large.digest:
            continue  # the machine was busy: nothing was stopped
        assert names == ["base"]
        assert digest == large.full_digest
        taken.append(seconds)
        if len(taken) == TRIES:
            assert min(taken) <= PROMPT_S
            return folder
    pytest.fail("the work has always ended before it was stopped")


def test_ctrl_c(verb: Verb, tmp_path: Path, large: Large) -> None:
    def attempt(folder: Path) -> float | None:
        sent, ended = 0.0, False

        def send() -> None:
            nonlocal sent
            sent = time.monotonic()
            os.kill(os.getpid(), signal.SIGINT)

        timer = threading.Timer(DELAY_S, send)
        try:
            timer.start()
            verb[0](folder)
            ended = True
            # It comes all the same.
            timer.join()
            time.sleep(1)
        except KeyboardInterrupt:
            return None if ended else time.monotonic() - sent
        pytest.fail("no signal came")

    folder = attempts(tmp_path, large, attempt)
    # What was interrupted works when it is run again.
    once_free(lambda: verb[0](folder))


def test_asyncio_cancel(verb: Verb, tmp_path: Path, large: Large) -> None:
    async def cancelled(folder: Path) -> float | None:
        task = asyncio.ensure_future(verb[1](folder))
        await asyncio.sleep(DELAY_S)
        asked = time.monotonic()
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return time.monotonic() - asked
        return None

    folder = attempts(tmp_path, large, lambda folder: asyncio.run(cancelled(folder)))
    once_free(lambda: asyncio.run(run(verb[1](folder))))


async def run(work: Awaitable[Any]) -> Any:
    return await work


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("what", ["backup", "restore"])
def test_a_command_that_is_stopped(large: Large, tmp_path: Path, number: signal.Signals, code: int, what: str) -> None:
    segments = [str(segment.path) for segment in large.chain]
    arguments = {
        "backup": ["backup", str(large.store), "--output", str(tmp_path / "new")],
        "restore": ["restore", *segments, "--to", str(tmp_path / "new"), "--engine", "rocksdb"],
    }

    def stopped() -> int:
        process = subprocess.Popen([sys.executable, "-m", "evbackup", *arguments[what]], stdout=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while process.poll() is None and not list(tmp_path.iterdir()) and time.monotonic() < end:
            time.sleep(0.001)
        process.send_signal(number)
        return process.wait(30)

    for _ in range(TRIES):
        ended = stopped()
        if ended != 0:
            break
        # The machine was busy, and it had ended before.
        for made in tmp_path.iterdir():
            shutil.rmtree(made) if made.is_dir() else made.unlink()
    assert ended == code
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_stopped(large: Large) -> None:
    arguments = [sys.executable, "-m", "evbackup", "serve", str(large.store), "--listen", "127.0.0.1:0"]
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("serving on 127.0.0.1:")
            process.send_signal(number)
            assert process.wait(10) == code
