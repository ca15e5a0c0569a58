"""The released ev-node of tests/interop/evnode: nodes, their DA layer, and the homes that they live in."""

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interop.peers import PATIENCE_S, Peer

# What each start of a follower has.
FOLLOWER_READY_S = (10.0, 20.0, PATIENCE_S)


def database(home: Path) -> Path:
    """The main database of a node."""
    return home / "data" / "testapp"


def execution(home: Path) -> Path:
    """The database of the execution layer, of a node with `--executor executor`."""
    return home / "data" / "executor"


def moved_in(home: Path, like: Path, *, follower: bool = False) -> Path:
    """Makes a home for a node of the chain that another one makes blocks of: with its keys, or as a follower without."""
    shutil.copytree(like / "config", home / "config")
    if follower:
        for key in ("signer.json", "node_key.json"):
            (home / "config" / key).unlink(missing_ok=True)
    (home / "data").mkdir()
    return home


def free_port() -> int:
    """A port of loopback that is free now, below those that the system gives out by itself, to whoever connects meanwhile."""
    for port in random.sample(range(20_000, 30_000), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError


class RealNode(Peer):
    """A running node."""

    # How often it was started until it did what it was to do first.
    starts = 1

    @property
    def rpc(self) -> str:
        """The address of ev-node's own RPCs."""
        return str(self.ready["rpc"])

    @property
    def p2p(self) -> str:
        """Where its peers find it."""
        return str(self.ready["p2p"])

    @property
    def backups(self) -> str:
        """The address of the proposed Backup RPC, with `--backups`."""
        return str(self.ready["backups"])

    def report(self, height: int = 0) -> Any:
        """What it says of the block at a height (0: the tip), of its marks and of its execution layer."""
        return self.ask("report", height=height)

    def tip(self) -> int:
        return int(self.report()["tip"])

    def reaches(self, height: int, mark: str = "tip", patience_s: float = PATIENCE_S) -> int:
        """Waits until its tip, or another mark of its report, is at a height; where it is."""
        deadline = time.monotonic() + patience_s
        while (found := int(self.report().get(mark, 0))) < height:
            assert time.monotonic() < deadline, f"{mark} is {found}, expected {height}: {self.report()}"
            time.sleep(0.02)
        return found


class EvNode:
    """The program, and its local DA layer beside it."""

    def __init__(self, program: Path) -> None:
        self.program = program

    def _command(self, home: Path, *flags: object) -> list[str]:
        return [str(self.program), "--home", str(home), *map(str, flags)]

    def aggregator(self, home: Path, *flags: object, log: Path | None = None, ready_s: float = PATIENCE_S) -> RealNode:
        """A node that has made its first new block; use it in `with`."""
        return RealNode(self._command(home, *flags), log, ready_s)

    def follower(self, home: Path, *flags: object, log: Path | None = None) -> RealNode:
        """A full node that has taken over its first new block; use it in `with`.

        Now and then ev-node's first exchange with its only peer hangs, and nothing ends that but another start.
        """
        command = self._command(home, "--follower", *flags)
        for starts, ready_s in enumerate(FOLLOWER_READY_S, 1):
            last = starts == len(FOLLOWER_READY_S)
            with contextlib.nullcontext() if last else contextlib.suppress(TimeoutError):
                node = RealNode(command, log, ready_s)
                node.starts = starts
                return node
        raise AssertionError

    def refuses(self, home: Path, *flags: object) -> str:
        """Starts a node that must not start; what it says."""
        done = subprocess.run(
            self._command(home, *flags),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        assert not done.stdout
        return done.stderr

    @contextlib.contextmanager
    def da(self, block_time: str = "100ms") -> Iterator[str]:
        """ev-node's local DA layer, empty; its URL."""
        port = free_port()
        layer = self.program.with_name(f"{self.program.name}-da")
        command = [str(layer), "-host", "127.0.0.1", "-port", str(port), "-block-time", block_time]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                deadline = time.monotonic() + PATIENCE_S
                while True:
                    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                        break
                    assert process.poll() is None, "the DA layer has ended"
                    assert time.monotonic() < deadline, "the DA layer does not listen"
                    time.sleep(0.02)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.send_signal(signal.SIGKILL)
