"""What a verb needs of memory does not grow with what it reads."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from interop.peers import Large

LIMIT = 256 << 20

# Runs one verb and prints by how many bytes its anonymous memory grew above what the imported module needs.
MEASURE = """
import sys, threading
import evbackup

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon:"))

idle = peak = resident()
done = threading.Event()

def watch():
    global peak
    while not done.wait(0.005):
        peak = max(peak, resident())

watching = threading.Thread(target=watch)
watching.start()
try:
    eval(sys.argv[1])
finally:
    done.set()
    watching.join()
print(max(peak, resident()) - idle)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(
    "verb",
    [
        "evbackup.verify({segment!r}).raise_for_findings()",
        "evbackup.restore({segment!r}, {store!r}, engine='rocksdb')",
    ],
    ids=["verify", "restore"],
)
def test_memory_stays_bounded(
    large: Large, tmp_path: Path, verb: str, record_property: Callable[[str, object], None]
) -> None:
    assert large.backup.bytes > LIMIT * 1.1
    code = verb.format(segment=str(large.backup.path), store=str(tmp_path / "store"))
    done = subprocess.run([sys.executable, "-c", MEASURE, code], capture_output=True, text=True, timeout=50, check=True)
    grown = int(done.stdout)
    record_property("mib_above_idle", round(grown / (1 << 20)))
    assert grown < LIMIT
