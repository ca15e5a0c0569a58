"""One run of a verb: its id, its log, and what monitoring learns when it ends."""

from __future__ import annotations

import logging
import secrets
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._results import Result

LOG = logging.getLogger("evbackup.run")
TEXT = "%(levelname)s %(name)s [%(run_id)s]: %(message)s"


@dataclass
class Run:
    """What is known of the run, filled as it goes.

    Attributes:
        verb: What is done.
        node: Which node it is about, in the words of the configuration, or None.
        chain_id: Which chain, likewise.
        metrics_file: Where the metrics go, or None.
        id: Names it in the log, in JSON and in the manifest.
        result: What the verb gave, once it has.
    """

    verb: str = ""
    node: str | None = None
    chain_id: str | None = None
    metrics_file: str | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    result: Result | None = None
    began: float = field(default_factory=time.time)
    _clock: float = field(default_factory=time.monotonic)

    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._clock

    def of_manifest(self) -> str | None:
        """The id for the manifest: only where one run makes one segment."""
        return self.id if self.verb == "backup" else None

    def begin(self) -> None:
        """Says that it begins."""
        LOG.info("%s begins", self.verb, extra={"verb": self.verb})

    def end(self, code: int) -> None:
        """Says how it ended, and leaves it in the metrics file; a file that cannot be written is a warning, no failure."""
        seconds = round(self.elapsed_s(), 3)
        fields = {"verb": self.verb, "exit_code": code, "elapsed_s": seconds}
        LOG.info("%s ends with exit code %d after %.3f s", self.verb, code, seconds, extra=fields)
        if self.metrics_file is None:
            return
        from . import _metrics  # noqa: PLC0415  # few runs need it

        try:
            _metrics.write(self.metrics_file, _metrics.of(self, code))
        except (OSError, ValueError) as error:
            LOG.warning("%s: the metrics are not written: %s", self.metrics_file, error)


_current: Run | None = None


def start(run: Run) -> Run:
    """Makes it the run of this process."""
    global _current  # noqa: PLW0603  # one command line runs in a process
    _current = run
    return run


def forget() -> None:
    """The command line is through: what this process does now is no part of it."""
    global _current  # noqa: PLW0603
    _current = None


def current() -> Run | None:
    """The run of this process, or None where no command line runs."""
    return _current


def manifest_id() -> str | None:
    """What a manifest that is written now calls its run; None: something random."""
    return None if _current is None else _current.of_manifest()


class Stamp(logging.Filter):
    """Gives each record the id of the run, and the node where one is named."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets everything pass."""
        record.run_id = "-" if _current is None else _current.id
        if _current is not None and _current.node is not None:
            record.node = _current.node
        return True


class JsonLines(logging.Formatter):
    """One JSON object per record: time, level, logger, message, run id, and the fields it brings."""

    PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "run_id", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        import json  # noqa: PLC0415
        from datetime import datetime, timezone  # noqa: PLC0415

        at = datetime.fromtimestamp(record.created, timezone.utc)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
            "run_id": getattr(record, "run_id", None),
        }
        line.update({name: value for name, value in vars(record).items() if name not in self.PLAIN})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def log_to_stderr(verbose: int, log_format: str) -> None:
    """The handlers of the command line: text for people, JSON lines for machines."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if log_format == "json" else logging.Formatter(TEXT))
    handler.addFilter(Stamp())
    logging.basicConfig(level=level, handlers=[handler], force=True)
