"""A process in which one verb runs, so that its time and memory are its own; see `measure.Worker`.

Says `{"ready": true}` once it is idle, takes one job as a line of JSON, answers with one line, and ends with its input.
"""

import asyncio
import contextlib
import json
import sys
import time
from typing import Any

import evbackup


def tell(**said: Any) -> None:
    print(json.dumps(said), flush=True)


def main() -> None:
    tell(ready=True)
    job = json.loads(sys.stdin.readline())
    try:
        if job["verb"] == "serve":
            serve(job)
        else:
            measure(job)
    except KeyboardInterrupt:
        tell(raised="KeyboardInterrupt", at=time.monotonic())
    except evbackup.EvbackupError as error:
        tell(raised=type(error).__name__, text=str(error), at=time.monotonic())
    # Ctrl-C may come after the verb has ended.
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.read()


def measure(job: dict[str, Any]) -> None:
    began = time.monotonic()
    result = asyncio.run(cancelled(job)) if "cancel_after_s" in job else verb(job)
    tell(began=began, took=time.monotonic() - began, result=result)


def verb(job: dict[str, Any]) -> Any:
    result = getattr(evbackup, job["verb"])(*job["args"], **job["options"])
    return result if isinstance(result, str) else result.as_dict()


async def cancelled(job: dict[str, Any]) -> Any:
    task = asyncio.ensure_future(getattr(evbackup, job["verb"] + "_async")(*job["args"], **job["options"]))
    await asyncio.sleep(job["cancel_after_s"])
    if task.done():
        return "too late"
    asked = time.monotonic()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return {"asked": asked, "at": time.monotonic()}


def serve(job: dict[str, Any]) -> None:
    with evbackup.serve(*job["args"], **job["options"]) as server:
        tell(address=server.address)
        if job.get("wait"):
            server.wait()
        else:
            sys.stdin.read()


if __name__ == "__main__":
    main()
