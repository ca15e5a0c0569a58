"""Progress: what a callback gets, and the bars behind `progress=True`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ._results import size

if TYPE_CHECKING:
    from collections.abc import Iterator

State: TypeAlias = tuple[str, int, int, int, int, float]


@dataclass(frozen=True)
class Progress:
    """How far a piece of work is.

    Attributes:
        phase: `"preparing"`, `"receiving"`, `"verifying"`, `"writing"` or `"finishing"`.
        bytes: Bytes done in this phase.
        total_bytes: Bytes that the phase is thought to have, or None.
        entries: Entries seen in this phase.
        height: The chain height it stands at or aims at, or None.
        rate: Bytes per second over the last seconds.
        eta: Seconds that the phase will still take, or None.
        elapsed_s: Seconds since the work began.
    """

    phase: str
    bytes: int
    total_bytes: int | None
    entries: int
    height: int | None
    rate: float
    eta: float | None
    elapsed_s: float


ProgressOption: TypeAlias = bool | Callable[[Progress], object] | None


class Meter:
    """Turns counters into `Progress`: the rate over a few seconds, and the time that is left."""

    # A rate over less is noise, over more is history.
    WINDOW_S = 5.0

    def __init__(self) -> None:
        self._phase = ""
        self._seen: list[tuple[float, int]] = []

    def read(self, state: State) -> Progress:
        """The progress at this moment."""
        phase, done, total, entries, height, elapsed = state
        if phase != self._phase:
            self._phase, self._seen = phase, []
        self._seen.append((elapsed, done))
        while len(self._seen) > 2 and self._seen[1][0] < elapsed - self.WINDOW_S:  # noqa: PLR2004  # two points make a rate
            self._seen.pop(0)
        (since, before) = self._seen[0]
        rate = (done - before) / (elapsed - since) if elapsed > since else 0.0
        eta = max(total - done, 0) / rate if total and rate > 0 else None
        return Progress(phase, done, total or None, entries, height or None, rate, eta, elapsed)


def describe(progress: Progress) -> str:
    """One line for people."""
    total = f" of {size(progress.total_bytes)}" if progress.total_bytes else ""
    height = f", height {progress.height:,}" if progress.height else ""
    eta = f", {progress.eta:.0f} s left" if progress.eta is not None else ""
    return f"{progress.phase} {size(progress.bytes)}{total}, {progress.entries:,} entries{height}, {size(progress.rate)}/s{eta}"


@contextmanager
def watch(option: ProgressOption) -> Iterator[Callable[[State], None] | None]:
    """Gives what takes the counters ten times a second; None when nobody looks."""
    meter = Meter()
    if callable(option):
        call = option

        def tell(state: State) -> None:
            call(meter.read(state))

        yield tell
        return
    bar = _bar() if option else None
    if bar is None:
        yield None
        return
    with bar as show:
        yield lambda state: show(meter.read(state))


def _bar() -> Any:
    if _in_notebook():
        return _notebook_bar()
    if not sys.stderr.isatty():
        return None
    try:
        import rich.progress  # noqa: F401, PLC0415  # optional, and slow to import
    except ImportError:
        return _plain_bar()
    return _rich_bar()


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


@contextmanager
def _notebook_bar() -> Iterator[Callable[[Progress], None]]:
    """One line that is replaced where it stands: HTML, so that it needs no widgets, and a saved notebook keeps how it ended."""
    from IPython.display import HTML, display  # noqa: PLC0415  # there, since this is a notebook

    from . import _html  # noqa: PLC0415

    last: Progress | None = None
    shown = display(HTML(_html.bar(None, "preparing")), display_id=True)

    def show(progress: Progress) -> None:
        nonlocal last
        last = progress
        share = None if progress.total_bytes is None else progress.bytes / progress.total_bytes
        shown.update(HTML(_html.bar(share, describe(progress))))

    def end(word: str) -> None:
        # What was done says the result; each phase counts anew, and between two looks much happens.
        elapsed_s = 0.0 if last is None else last.elapsed_s
        shown.update(HTML(_html.bar(None, f"{word} after {elapsed_s:.1f} s", ended=True)))

    try:
        yield show
    except BaseException:
        end("stopped")
        raise
    end("done")


@contextmanager
def _rich_bar() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console  # noqa: PLC0415  # optional, and slow to import
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn  # noqa: PLC0415
    from rich.progress import Progress as Bars  # noqa: PLC0415

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("preparing", total=None)

        def show(progress: Progress) -> None:
            height = f" {progress.height:,}" if progress.height else ""
            bars.update(task, description=progress.phase + height, completed=progress.bytes, total=progress.total_bytes)

        yield show


@contextmanager
def _plain_bar() -> Iterator[Callable[[Progress], None]]:
    width = 0
    next_at = 0.0

    def show(progress: Progress) -> None:
        nonlocal width, next_at
        if time.monotonic() < next_at:
            return
        next_at = time.monotonic() + 0.5
        line = describe(progress)
        sys.stderr.write("\r" + line.ljust(width))
        sys.stderr.flush()
        width = len(line)

    try:
        yield show
    finally:
        if width:
            sys.stderr.write("\r" + " " * width + "\r")
            sys.stderr.flush()
