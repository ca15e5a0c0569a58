"""What tests share that is no fixture."""

import json
import subprocess
from pathlib import Path
from typing import Any

from evbackup import _evbackup
from evbackup._job import wait

ROOT = Path(__file__).parents[2]
BLOCKS = 200
TOKEN = "a token of 32 characters, or so.."


def grow(store: Path, blocks: int) -> None:
    """Makes a store with a sample chain, or adds blocks to it."""
    wait(_evbackup.sample_store(str(store), blocks))


class Peer:
    """The Go program in tests/interop: Badger as a node has it, and the proposal's server and client."""

    def __init__(self, program: Path) -> None:
        self.program = program

    def run(self, *arguments: object) -> Any:
        """What one of its commands prints."""
        done = subprocess.run(
            [self.program, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def serve(self, folder: Path, *arguments: object) -> "PeerServer":
        """Its server over a directory; see its README for the flags."""
        return PeerServer(
            subprocess.Popen(
                [self.program, "serve", "--dir", str(folder), *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )


class PeerServer:
    """A running server of the peer, with the commands of its standard input."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.address: str = self._answer()["addr"]

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def ask(self, cmd: str, **arguments: object) -> Any:
        """Sends a command; its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"cmd": cmd, **arguments}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        assert answer["ok"], answer
        return answer

    def __enter__(self) -> "PeerServer":  # Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        with self._process as process:
            process.terminate()
