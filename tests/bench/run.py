"""`make bench`: each bar of the design against a baseline of the same run, as a table.

    python tests/bench/run.py [--quick] [--only NAME …] [--dir FOLDER] [--peer PROGRAM] [--evnode PROGRAM] [--tool PROGRAM]

Needs the release build of the module (`maturin develop --release`). Works in a folder of its own, which is removed at the end: up to
30 GB, with `--quick` 1 GB. `--peer` names what `tests/interop/build.sh` has built; else it is built where Go is; `--evnode` what
`tests/interop/evnode/build.sh` has built. `--tool`
names what cargo makes of `tool.rs`; else it is made. The bars on memory and on the shaped link need root. Misses are printed, not failures:
benchmarks are not tests.
"""

import argparse
import compileall
import functools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import directories
import limits
import link
import node
import reads
import released
import throughput
from data import FULL, QUICK, Data
from measure import Row, RunError, table

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]


def machine() -> str:
    """What the figures were measured on."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "?",
    )
    total = int(Path("/proc/meminfo").read_text().split()[1]) >> 20
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} x {cpu}, {total} GiB, Linux {platform.release()}, Python {platform.python_version()}, load before {load:.1f}"


def build_tool() -> Path:
    """The baselines, with the same compiler, profile and RocksDB."""
    command = ["cargo", "build", "--quiet", "--locked", "--release", "--example", "bench", "--features", "bench"]
    subprocess.run(command, cwd=ROOT, check=True)
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "release" / "examples" / "bench"


def build_peer(folder: Path) -> Path | None:
    if shutil.which("go") is None:
        print("Go is missing: its Load is not measured", file=sys.stderr)
        return None
    subprocess.run([ROOT / "tests" / "interop" / "build.sh", folder / "peer"], check=True)
    return folder / "peer"


def build_evnode(folder: Path) -> Path | None:
    if shutil.which("go") is None:
        print("Go is missing: a released node is not copied", file=sys.stderr)
        return None
    subprocess.run([ROOT / "tests" / "interop" / "evnode" / "build.sh", folder / "evnode"], check=True)
    return folder / "evnode"


def main() -> None:
    # As where it is installed: else each start would pay for it where bytecode is not kept.
    compileall.compile_dir(ROOT / "python" / "evbackup", quiet=2)
    parser = argparse.ArgumentParser(description="Measures evbackup against its bars.")
    parser.add_argument("--quick", action="store_true", help="small data, one round: does it run at all?")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only this part; may be repeated")
    parser.add_argument("--dir", type=Path, help="where the data goes; a new folder in it is made and removed")
    parser.add_argument("--peer", type=Path, help="the program that tests/interop/build.sh makes")
    parser.add_argument("--evnode", type=Path, help="the program that tests/interop/evnode/build.sh makes")
    parser.add_argument("--tool", type=Path, help="the program that cargo makes of tool.rs")
    given = parser.parse_args()
    sizes = QUICK if given.quick else FULL
    tool = given.tool or build_tool()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="evbackup-bench-", dir=given.dir) as folder:
        data = Data(Path(folder), tool)

        @functools.cache
        def peer() -> Path | None:
            return given.peer or build_peer(data.folder)

        def with_peer(part: "Callable[[directories.Peer], list[Row]]") -> list[Row]:
            program = peer()
            return [] if program is None else part(directories.Peer(program))

        parts: dict[str, Callable[[], list[Row]]] = {
            "start": lambda: limits.start(sizes),
            "backup": lambda: throughput.backup(data, sizes),
            "verify": lambda: throughput.verify(data, sizes),
            "chain": lambda: throughput.chain(data, sizes),
            "let-go": lambda: limits.letting_go(data, sizes),
            "medium-memory": lambda: limits.medium_memory(data, sizes),
            "link": lambda: link.integrity(data, sizes),
            "restore": lambda: throughput.restore(data, sizes, peer()),
            "small-memory": lambda: limits.small_memory(data, sizes),
            "beside": lambda: node.beside(data, sizes, peer()),
            "released": lambda: released.copied(data, sizes, given.evnode or build_evnode(data.folder)),
            "increment": lambda: throughput.increment(data, sizes),
            "large-memory": lambda: limits.large_memory(data, sizes),
            "blocks": lambda: reads.blocks(data, sizes),
            "directory-read": lambda: with_peer(lambda peer: directories.read(data, sizes, peer)),
            "directory-write": lambda: with_peer(lambda peer: directories.write(data, sizes, peer)),
            "directory-increment": lambda: with_peer(lambda peer: directories.increment(data, sizes, peer)),
            "directory-memory": lambda: directories.limited(data, sizes),
        }
        if unknown := set(given.only) - set(parts):
            parser.error(f"expected {', '.join(parts)}, found {', '.join(unknown)}")
        rows = []
        for name, part in parts.items():
            if given.only and name not in given.only:
                continue
            began = time.monotonic()
            try:
                of_part = part()
            except (RunError, OSError, subprocess.SubprocessError) as error:
                # The other parts are worth their hours all the same.
                of_part = [Row(name, "-", f"not measured: {error}", None)]
            rows += of_part
            print(table(of_part), file=sys.stderr)
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            if name == "link":
                data.drop("medium")
            if name == "large-memory":
                data.drop("large")
        print(table(rows))


if __name__ == "__main__":
    main()
