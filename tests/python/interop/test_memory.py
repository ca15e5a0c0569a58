"""What a verb needs of memory does not grow with what it reads."""

import subprocess
import sys
from pathlib import Path

import pytest

import evbackup
from evbackup import _evbackup
from evbackup._job import wait
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


pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")


def grown(code: str) -> int:
    """By how many bytes a process that runs `code` grows."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, code], capture_output=True, text=True, timeout=200, check=True
    )
    return int(done.stdout)


def test_the_measure_sees_memory() -> None:
    assert 64 << 20 <= grown("[b'x' * (64 << 20), __import__('time').sleep(1)]") < 80 << 20


def test_blocks_of_any_size_are_checked_in_bounded_memory(tmp_path: Path) -> None:
    node, segment = tmp_path / "node", tmp_path / "full.badger"
    wait(_evbackup.sample_store(str(node), 64, 5 << 20))
    backup = evbackup.backup(node, segment)
    assert backup.bytes > LIMIT * 1.1
    found = grown(f"evbackup.verify({str(segment)!r}, chain=True).raise_for_findings(strict=True)")
    assert found < LIMIT, f"{found >> 20} MiB above idle for {backup.bytes >> 20} MiB"


@pytest.mark.parametrize(
    "verb",
    [
        "evbackup.verify({segment!r}, chain=False).raise_for_findings()",
        "evbackup.restore({segment!r}, {store!r}, engine='rocksdb')",
    ],
    ids=["verify", "restore"],
)
def test_memory_stays_bounded(large: Large, tmp_path: Path, verb: str) -> None:
    assert large.backup.bytes > LIMIT * 1.1
    found = grown(verb.format(segment=str(large.backup.path), store=str(tmp_path / "store")))
    assert found < LIMIT, f"{found >> 20} MiB above idle for {large.backup.bytes >> 20} MiB"
