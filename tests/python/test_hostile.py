"""Files that say that they hold gigabytes: what reading them takes is in proportion to what is there."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

MIB = 1 << 20
# Reads a directory, says how that ended, and the most memory above what the process had before (a new process: nothing else counts).
READ = """
import json, resource, sys
import evbackup
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
before = peak()
try:
    evbackup.digest(sys.argv[1])
    said = "it was read"
except evbackup.EvbackupError as error:
    said = f"{error.code}: {error}"
print(json.dumps([said, peak() - before]))
"""


def crc32c_of_zeros(count: int) -> int:
    """CRC-32C of so many zeros: each bit is a step that is linear, and its powers are found by squaring."""

    def apply(matrix: list[int], vector: int) -> int:
        result = 0
        for bit, column in enumerate(matrix):
            if vector >> bit & 1:
                result ^= column
        return result

    step = [(1 << bit) >> 1 ^ (0x82F63B78 if bit == 0 else 0) for bit in range(32)]
    sum_, left = 0xFFFFFFFF, 8 * count
    while left:
        if left & 1:
            sum_ = apply(step, sum_)
        step = [apply(step, column) for column in step]
        left >>= 1
    return sum_ ^ 0xFFFFFFFF


def varint(number: int) -> bytes:
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def with_index(folder: Path, length: int, sum_: int) -> Path:
    """A directory whose one table is an index of so many zeros, and next to nothing on the disk."""
    shutil.copytree(ROOT / "tests" / "golden" / "badger-none" / "db", folder)
    message = b"\x10" + varint(sum_)
    with (folder / "000001.sst").open("wb") as file:
        file.truncate(length)
        file.seek(length)
        file.write(length.to_bytes(4, "big") + message + len(message).to_bytes(4, "big"))
    return folder


def test_the_sum_of_zeros_is_that_of_zeros() -> None:
    assert crc32c_of_zeros(0) == 0
    assert crc32c_of_zeros(32) == 0x8A9136AA  # RFC 3720, B.4


@pytest.mark.parametrize(
    ("length", "off", "said"),
    [
        (3 << 30, 1, "damaged: "),
        (130 * MIB, 0, "unsupported: "),
        (100 * MIB, 0, "damaged: "),
    ],
    ids=["3 GiB, not proven", "130 MiB, proven", "100 MiB, proven and none"],
)
def test_an_index_of_zeros(tmp_path: Path, length: int, off: int, said: str) -> None:
    folder = with_index(tmp_path / "db", length, crc32c_of_zeros(length) ^ off)
    done = subprocess.run([sys.executable, "-c", READ, folder], stdout=subprocess.PIPE, text=True, check=True)
    told, took = json.loads(done.stdout)
    assert told.startswith(said)
    assert "000001.sst: expected an index" in told or "000001.sst: expected a" in told
    # What is proven costs its own length once.
    allowed = 32 * MIB + (length if not off and said == "damaged: " else 0)
    assert took < allowed, f"{took / MIB:.0f} MiB for an index of {length / MIB:.0f} MiB"
