"""The program of tests/interop, which runs a real Badger: started, asked, and ended for certain."""

import contextlib
import fcntl
import hashlib
import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import evbackup

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

ROOT = Path(__file__).parents[3]
SOURCES = ROOT / "tests" / "interop"
EVNODE = SOURCES / "evnode"
# Expiry is judged here: between the years 2001 and 2096 that `fill --ttl` uses.
NOW = 1_700_000_000
PATIENCE_S = 60.0
# Of the log of one that says nothing.
LAST_LINES = 20
# Some 500 packages of ev-node, where nothing is in Go's cache.
BUILD_S = 900.0


class CannotBuildError(Exception):
    """Why a program is not to be had here."""


def _built(folder: Path, prefix: str, others: tuple[str, ...], timeout_s: float) -> Path:
    """The program of a folder, from the cache if these sources were built before, and others beside it, `NAME-OTHER`."""
    cache = Path(os.environ.get("EVBACKUP_CACHE") or "~/.cache/evbackup").expanduser()
    sources = sorted([*folder.glob("*.go"), *folder.glob("reads/*.go"), *folder.glob("go.*"), folder / "build.sh"])
    digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in sources)).hexdigest()
    program = cache / "interop" / f"{prefix}{digest[:16]}"
    beside = {other: program.with_name(f"{program.name}-{other}") for other in others}
    program.parent.mkdir(parents=True, exist_ok=True)
    with program.with_name(f"{program.name}.lock").open("w") as lock:
        # Of several workers one builds, and the others wait for it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all(path.exists() for path in [program, *beside.values()]):
            _build(folder, program, beside, timeout_s)
    return program


def _build(folder: Path, program: Path, beside: dict[str, Path], timeout_s: float) -> None:
    unfinished = program.with_name(f"{program.name}.{os.getpid()}")
    command = [folder / "build.sh", unfinished]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise CannotBuildError(f"it takes more than {timeout_s:.0f} s") from None
    if done.returncode != 0:
        raise CannotBuildError(" | ".join(done.stderr.strip().splitlines()[-2:]))
    for other, path in beside.items():
        unfinished.with_name(f"{unfinished.name}-{other}").rename(path)
    unfinished.rename(program)


def build() -> Path:
    """The program that runs a real Badger. Beside it, `NAME-newest` has the newest one."""
    return _built(SOURCES, "", ("newest",), 600)


def build_evnode() -> Path:
    """The released ev-node. Beside it, `NAME-da` is its local DA layer, `NAME-reads` its read RPCs."""
    return _built(EVNODE, "evnode-", ("da", "reads"), BUILD_S)


class Badger:
    """The commands that end by themselves; see tests/interop/README.md."""

    def __init__(self, program: Path) -> None:
        self.program = program

    def lines(self, *arguments: object, fails: bool | None = False) -> list[Any]:
        """What a command prints. `fails`: it has to end with an error; None: it may."""
        done = subprocess.run(
            [self.program, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert fails is None or (done.returncode != 0) == fails, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def run(self, *arguments: object, fails: bool = False) -> Any:
        """The last line that a command prints."""
        return self.lines(*arguments, fails=fails)[-1]

    def fill(self, folder: Path, *flags: object) -> Any:
        """Puts entries into the database in a folder."""
        return self.run("fill", "--dir", folder, *flags)

    def digest(self, folder: Path, *flags: object) -> str:
        """The logical digest of the database in a folder that no server holds."""
        return str(self.run("digest", "--dir", folder, "--now", NOW, *flags)["digest"])

    def load(self, folder: Path, *segments: object) -> Any:
        """Badger's own Load of the segments, oldest first, into a new database."""
        inputs = [part for segment in segments for part in ("--in", os.fspath(segment))]  # type: ignore[call-overload]
        loaded = self.run("load", "--dir", folder, "--now", NOW, *inputs)
        assert loaded["checksums_ok"], loaded
        return loaded

    def check(self, folder: Path, *flags: object) -> Any:
        """Opens a directory that something else wrote as a node does, reads all of it in every way, and writes on."""
        checked = self.run("check", "--dir", folder, "--now", NOW, *flags)
        assert checked["ok"], checked
        return checked

    def newest(self) -> "Badger":
        """The same commands with the newest release of Badger."""
        return Badger(self.program.with_name(f"{self.program.name}-newest"))

    def serve(self, folder: Path, *flags: object) -> "Node":
        """A server over the database in a folder; use it in `with`."""
        return Node([str(self.program), "serve", "--dir", str(folder), *map(str, flags)])

    def node(self, home: Path, *flags: object) -> "Peer":
        """A sequencer that makes blocks; use it in `with`."""
        return Peer([str(self.program), "node", "--home", str(home), *map(str, flags)])

    def live(self, folder: Path, tally: "Tally", *flags: object) -> "Peer":
        """A process that commits, flushes and compacts all the time; use it in `with`."""
        return Peer([str(self.program), "live", "--dir", str(folder), "--tally", str(tally.path), *map(str, flags)])


class Tally:
    """The side record of `live`: for each of its writers how many commits have begun, and how many were acknowledged."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _counts(self, odd: int) -> str:
        numbers = memoryview(self.path.read_bytes()).cast("Q")
        return ",".join(map(str, numbers[odd::2]))

    def begun(self) -> str:
        return self._counts(0)

    def acknowledged(self) -> str:
        return self._counts(1)


class EndedError(Exception):
    """A process has ended by itself, which was to go on."""


class Peer:
    """A running process of the program that says when it is ready, and answers commands on its standard input."""

    def __init__(self, command: list[str], log: Path | None = None, ready_s: float = PATIENCE_S) -> None:
        """`log`: where what it says on standard error goes; None: where ours goes. `ready_s`: how long it may take to be ready."""
        self._log = log
        with contextlib.ExitStack() as stack:
            errors = stack.enter_context(log.open("a")) if log else None
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.ready = self._answer(ready_s)
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _answer(self, patience_s: float = PATIENCE_S) -> Any:
        try:
            line = self._answers.get(timeout=patience_s)
        except queue.Empty:
            said = self._log.read_text(errors="replace").splitlines() if self._log else []
            last = "".join(f"\n{line}" for line in said[-LAST_LINES:])
            raise TimeoutError(f"nothing was said within {patience_s:.0f} s{last}") from None
        if not line:
            raise EndedError(f"the process has ended with {self._process.wait(PATIENCE_S)}")
        return json.loads(line)

    def ask(self, cmd: str, **arguments: object) -> Any:
        """Sends a command; its answer."""
        assert self._process.stdin is not None
        # What it says at its end tells more than a pipe that is broken.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"cmd": cmd, **arguments}) + "\n")
            self._process.stdin.flush()
        answer = self._answer()
        assert answer["ok"], answer
        return answer

    def digest(self, **arguments: object) -> str:
        """The logical digest of what it holds now."""
        return str(self.ask("digest", now=NOW, **arguments)["digest"])

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        """Ends it as a power cut would, as far as the process goes."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(PATIENCE_S)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """It does nothing while the block runs."""
        self._process.send_signal(signal.SIGSTOP)
        if not self.has_ended:
            # Its threads run on until each has heard it.
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def finish(self) -> int:
        """Ends its standard input, at which it closes its database; its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(PATIENCE_S)

    def close(self) -> None:
        """Ends it, whatever it does."""
        with contextlib.suppress(BrokenPipeError), self._process as process:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
            self._reader.join(PATIENCE_S)

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Node(Peer):
    """A running server of the program, and the commands of its standard input."""

    def __init__(self, command: list[str]) -> None:
        super().__init__(command)
        self.address: str = self.ready["addr"]

    def put(self, key: str, value: str) -> int:
        """Puts an entry; the version it got."""
        return int(self.ask("put", key=key, value=value)["version"])

    def delete(self, key: str) -> int:
        """Deletes a key; the version that this got."""
        return int(self.ask("delete", key=key)["version"])

    def fault(self, kind: str, times: int = 0) -> None:
        """How it misbehaves from the next backup on: `times` times, 0 for always."""
        self.ask("fault", fault=kind, times=times)


@dataclass(frozen=True)
class Large:
    """A backup of hundreds of megabytes, and what Badger says of the database it is from."""

    backup: evbackup.Backup
    digest: str

    @property
    def manifest(self) -> Path:
        assert self.backup.path is not None
        return self.backup.path.with_name(f"{self.backup.path.name}.json")


@contextlib.contextmanager
def later(seconds: float, work: Callable[[], None]) -> Iterator[None]:
    """Does `work` on another thread after some seconds, unless the block has ended by then."""
    timer = threading.Timer(seconds, work)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def names(folder: Path) -> list[str]:
    """What lies in a folder, hidden files too."""
    return sorted(entry.name for entry in folder.iterdir())


def comes_back(segments: Any, folder: Path, expected: str) -> evbackup.Restored:
    """Holds a chain to a digest that Badger computed: proven, read as it is, and restored."""
    report = evbackup.verify(segments, chain=False).raise_for_findings()
    assert report.ok
    assert evbackup.digest(segments, now=NOW) == expected
    store = folder / "restored"
    number = 1
    while store.exists():
        number += 1
        store = folder / f"restored-{number}"
    restored = evbackup.restore(segments, store, engine="rocksdb")
    assert evbackup.digest(restored.path, now=NOW) == expected
    return restored


def main() -> None:
    """Builds the programs before any test waits for them; what cannot be built here, the tests say."""
    for program in (build, build_evnode):
        with contextlib.suppress(CannotBuildError):
            program()


if __name__ == "__main__":
    main()
