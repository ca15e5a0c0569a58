"""The boundary itself: progress, Ctrl-C, cancellation, fork, the interpreter's end."""

import asyncio
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import evbackup
from evbackup import Progress, UnsupportedError, _evbackup
from evbackup._job import wait, wait_async

# The promise; what a busy machine adds is not ours, so the best of a few tries counts.
PROMPT_S = 0.2
TRIES = 5


def gone(path: Path, within_s: float = 5.0) -> bool:
    end = time.monotonic() + within_s
    while path.exists() and time.monotonic() < end:
        time.sleep(0.01)
    return not path.exists()


def held_file(folder: Path) -> Path:
    held = folder / "held.part"
    held.touch()
    return held


def interrupted_after(work: Callable[[], object], number: int = signal.SIGINT, delay_s: float = 0.25) -> float:
    """Seconds from a signal to the exception."""
    sent = 0.0

    def send() -> None:
        nonlocal sent
        sent = time.monotonic()
        os.kill(os.getpid(), number)

    timer = threading.Timer(delay_s, send)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
        return time.monotonic() - sent
    finally:
        timer.join()


def test_a_result_is_of_json_types() -> None:
    result = wait(_evbackup.probe(0.02))
    assert result == {"entries": result["entries"], "seconds": 0.02, "none": None, "list": [-1, True, "text"]}


def test_a_job_runs_once() -> None:
    job = _evbackup.probe(0)
    wait(job)
    with pytest.raises(RuntimeError, match="once"):
        wait(job)


def test_progress_is_called_at_most_ten_times_a_second() -> None:
    seen: list[Progress] = []
    times: list[float] = []

    def look(progress: Progress) -> None:
        seen.append(progress)
        times.append(time.monotonic())

    wait(_evbackup.probe(1.05), look)
    assert 2 <= len(seen) <= 12
    assert all(after - before > 0.08 for before, after in itertools.pairwise(times[:-1]))
    last = seen[-1]
    assert (last.phase, last.total_bytes, last.height) == ("writing", 1 << 20, 7)
    assert [one.bytes for one in seen] == sorted(one.bytes for one in seen)
    assert last.bytes == last.entries * 1024
    assert last.rate > 0
    assert last.eta is not None


def test_other_threads_run_while_one_waits() -> None:
    ticks = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal ticks
        while not stop.wait(0.01):
            ticks += 1

    thread = threading.Thread(target=count)
    thread.start()
    wait(_evbackup.probe(1))
    stop.set()
    thread.join()
    assert ticks >= 3


def test_what_progress_raises_cancels(tmp_path: Path) -> None:
    held = held_file(tmp_path)

    def refuse(_: Progress) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        wait(_evbackup.probe(30, None, held), refuse)
    assert gone(held)


def test_ctrl_c_is_prompt_and_leaves_nothing(tmp_path: Path) -> None:
    taken = []
    for _ in range(TRIES):
        held = held_file(tmp_path)
        taken.append(interrupted_after(lambda held=held: wait(_evbackup.probe(30, None, held))))  # type: ignore[misc]
        assert gone(held)
    assert min(taken) <= PROMPT_S


def test_ctrl_c_in_asyncio_leaves_nothing(tmp_path: Path) -> None:
    taken = []
    for _ in range(TRIES):
        held = held_file(tmp_path)
        taken.append(interrupted_after(lambda held=held: asyncio.run(wait_async(_evbackup.probe(30, None, held)))))  # type: ignore[misc]
        assert gone(held)
    assert min(taken) <= PROMPT_S


@pytest.mark.parametrize("watched", [False, True])
def test_asyncio_cancel_is_prompt_and_leaves_nothing(tmp_path: Path, *, watched: bool) -> None:
    seen: list[Progress] = []

    async def work(held: Path) -> float:
        job = _evbackup.probe(30, None, held)
        task = asyncio.create_task(wait_async(job, seen.append if watched else None))
        await asyncio.sleep(0.25)
        asked = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - asked

    taken = []
    for _ in range(TRIES):
        held = held_file(tmp_path)
        taken.append(asyncio.run(work(held)))
        assert gone(held)
    assert min(taken) <= PROMPT_S
    assert bool(seen) == watched


def test_asyncio_timeout_and_a_second_loop(tmp_path: Path) -> None:
    held = held_file(tmp_path)

    async def work() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(wait_async(_evbackup.probe(30, None, held)), 0.1)

    asyncio.run(work())
    assert gone(held)
    assert asyncio.run(wait_async(_evbackup.probe(0)))["seconds"] == 0


def test_many_at_once() -> None:
    async def work() -> Any:
        return await asyncio.gather(*(wait_async(_evbackup.probe(0.05)) for _ in range(50)))

    assert len(asyncio.run(work())) == 50


def test_awaited_progress_can_cancel(tmp_path: Path) -> None:
    held = held_file(tmp_path)

    def refuse(_: Progress) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError):
        asyncio.run(wait_async(_evbackup.probe(30, None, held), refuse))
    assert gone(held)


def in_child(verdict: Callable[[], object]) -> str:
    """What `verdict` gives in a forked child of this process, which has already used the runtime."""
    wait(_evbackup.probe(0))
    asyncio.run(wait_async(_evbackup.probe(0)))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(verdict()).encode())
        except BaseException as error:  # noqa: BLE001  # the child has no other way to say it
            os.write(writer, f"{type(error).__name__}: {error}, {getattr(error, 'hint', None)}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_child_can_wait() -> None:
    assert in_child(lambda: wait(_evbackup.probe(0.02))["seconds"]) == "0.02"


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_child_closes_what_its_parent_opened(full: evbackup.Backup, tmp_path: Path) -> None:
    """A directory is held by a thread, which the child does not have."""
    with evbackup.open(evbackup.restore(full, tmp_path / "database").path, offline=True) as opened:
        assert opened.chain_id == "sample-1"
        assert in_child(opened.close) == "None"
        assert opened.block(1).height == 1


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_child_is_refused_asyncio_with_advice() -> None:
    said = in_child(lambda: asyncio.run(wait_async(_evbackup.probe(0))))
    assert said.startswith(UnsupportedError.__name__)
    assert "spawn" in said


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_process_pools(method: str) -> None:
    wait(_evbackup.probe(0))
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(seconds_of, [0.01, 0.02]) == [0.01, 0.02]


def seconds_of(seconds: float) -> object:
    return wait(_evbackup.probe(seconds))["seconds"]


SCRIPT = """
import sys
from evbackup import _evbackup
from evbackup._job import wait, wait_async
job = _evbackup.probe(30, None, sys.argv[1])
"""


@pytest.mark.parametrize(
    "ending",
    [
        "wait(job, lambda _: print('up', flush=True))",
        "import asyncio\nasyncio.run(wait_async(job, lambda _: print('up', flush=True)))",
    ],
)
def test_an_interrupted_process_leaves_nothing(tmp_path: Path, ending: str) -> None:
    held = held_file(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT + ending, held], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert "KeyboardInterrupt" in said
    assert not held.exists()


def test_a_process_that_ends_in_the_middle_ends() -> None:
    """A thread still waits when the interpreter ends."""
    ending = "import threading\nthreading.Thread(target=wait, args=(_evbackup.probe(60),), daemon=True).start()\nimport time; time.sleep(0.2)"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + ending, "/nonexistent"], capture_output=True, timeout=10, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


LATE = """
import asyncio, atexit, sys, threading, time

def before_the_import(work):
    # Those that were registered first run last.
    atexit.register(work)

class Loop(asyncio.SelectorEventLoop):
    def call_soon_threadsafe(self, *args, **options):
        handle = super().call_soon_threadsafe(*args, **options)
        time.sleep(0.4)
        return handle

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(0.8)

async def work():
    return await _evbackup.probe(0)

def waiting(seconds):
    threading.Thread(target=_evbackup.probe(seconds).wait, daemon=True).start()
    time.sleep(0.1)

# Cleared late, when threads that ask for the interpreter are ended.
sys.slow = Slow()
"""


@pytest.mark.parametrize(
    "ending",
    [
        "from evbackup import _evbackup\nLoop().run_until_complete(work())",
        "from evbackup import _evbackup\nwaiting(60)\nLoop().run_until_complete(work())",
        # The thread has its result while the other is on its way, and the interpreter is not yet ending.
        "before_the_import(lambda: time.sleep(0.8))\nfrom evbackup import _evbackup\nwaiting(0.3)\nLoop().run_until_complete(work())",
    ],
    ids=["alone", "beside a thread that waits", "beside a thread that ends"],
)
def test_a_process_ends_while_a_result_is_on_its_way_to_asyncio(ending: str) -> None:
    """The loop has the result, and the thread that brought it is still in Python: it must be out of it before the interpreter ends."""
    done = subprocess.run(
        [sys.executable, "-c", LATE + ending], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_asyncio_behind_the_shutdown_is_refused_with_advice() -> None:
    ending = """
def late():
    try:
        Loop().run_until_complete(work())
    except evbackup.UnsupportedError as error:
        print(error, error.hint)
    print(_evbackup.probe(0).wait()["seconds"])

before_the_import(late)
import evbackup
from evbackup import _evbackup
"""
    done = subprocess.run(
        [sys.executable, "-c", LATE + ending], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = "expected asyncio before the interpreter ends, found it ending call the function without _async\n0.0\n"
    assert done.stdout == said


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_child_of_who_never_awaited_is_refused_asyncio_too() -> None:
    ending = """
import os
from evbackup import _evbackup
if os.fork() == 0:
    try:
        asyncio.run(work())
    except Exception as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
"""
    done = subprocess.run(
        [sys.executable, "-c", LATE + ending], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout == "expected asyncio in the process that imported evbackup, found a forked child\n"
