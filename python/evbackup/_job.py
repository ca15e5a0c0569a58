"""Waiting for a native job, and awaiting it: what every verb and its `…_async` twin share."""

from __future__ import annotations

import atexit
import logging
from typing import TYPE_CHECKING, Any

from . import _evbackup
from ._progress import ProgressOption, watch

if TYPE_CHECKING:
    from ._evbackup import Job

# Without it, a program that sets up no logging would get our warnings on its standard error.
logging.getLogger("evbackup").addHandler(logging.NullHandler())
# A cancelled verb removes its `.part` on a thread of its own: give it the time when the interpreter ends.
atexit.register(_evbackup.shutdown)

# At most ten progress calls a second.
TICK_S = 0.1


def wait(job: Job, progress: ProgressOption = None) -> Any:
    """The result of a job; Ctrl-C and what a progress callback raises cancel it."""
    with watch(progress) as look:
        return job.wait(None if look is None else lambda: look(job.state()))


async def wait_async(job: Job, progress: ProgressOption = None) -> Any:
    """The result of a job on the running loop; cancelling the awaiting task cancels it."""
    with watch(progress) as look:
        if look is None:
            return await job
        import asyncio  # noqa: PLC0415  # slow to import; whoever comes here has it already

        future = job.future()
        try:
            while not (await asyncio.wait({future}, timeout=TICK_S))[0]:
                look(job.state())
            look(job.state())
            return future.result()
        finally:
            future.cancel()
