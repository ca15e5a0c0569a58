"""The metrics file: gauges for node_exporter's textfile collector, kept from run to run and replaced in one step.

The format is Prometheus' text format, of which gauges need two kinds of line. A managed node has no library for it, so they are
written here; the tests read them with Prometheus' own client.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
import time
from typing import TYPE_CHECKING, TypeAlias

from ._results import Backup, Report

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ._run import Run

Series: TypeAlias = dict[tuple[str, str], float]

HELP: Mapping[str, str] = {
    "evbackup_last_run_timestamp_seconds": "When the verb last ended, well or not; Unix time.",
    "evbackup_last_run_success": "1 when the last run of the verb went well, else 0.",
    "evbackup_last_success_timestamp_seconds": "When the verb last ended well; Unix time.",
    "evbackup_last_duration_seconds": "How long the last run of the verb took.",
    "evbackup_last_backup_bytes": "Size of the last segment.",
    "evbackup_last_backup_height": "The highest height that is whole in the last segment.",
    "evbackup_last_verify_success_timestamp_seconds": "When a full verify of segments or of a datastore last found no error; Unix time.",
    "evbackup_segments_bad": "Segments in which the last verify found errors; a quick one does not clear it.",
}
OF_NODE = ("chain", "node")
OF_VERB = (*OF_NODE, "verb")
LABELS: Mapping[str, tuple[str, ...]] = {
    name: OF_VERB
    if name.startswith(("evbackup_last_run_", "evbackup_last_success_", "evbackup_last_duration_"))
    else OF_NODE
    for name in HELP
}
LINE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?P<labels>\{.*\})? (?P<value>\S+)$")
# How long to wait for another run that writes the same file.
PATIENCE_S = 5.0


def of(run: Run, code: int) -> Series:
    """What a run that ended with `code` says; a failure leaves when it last went well as it was."""
    known = {"chain": run.chain_id or "", "node": run.node or "", "verb": run.verb}
    now, labels, of_node = time.time(), _labels(known, OF_VERB), _labels(known, OF_NODE)
    series: Series = {
        ("evbackup_last_run_timestamp_seconds", labels): now,
        ("evbackup_last_run_success", labels): float(code == 0),
        ("evbackup_last_duration_seconds", labels): run.elapsed_s(),
    }
    if code == 0:
        series["evbackup_last_success_timestamp_seconds", labels] = now
    if isinstance(run.result, Backup):
        series["evbackup_last_backup_bytes", of_node] = float(run.result.bytes)
        series["evbackup_last_backup_height", of_node] = float(run.result.complete_height)
    if isinstance(run.result, Report) and run.result._node() is None:
        series.update(_proof(run.result, now, of_node))
    return series


def _proof(report: Report, now: float, of_node: str) -> Series:
    """What a verify of paths says: errors at every level, that there are none only where all was read."""
    series: Series = {}
    if report.level == "full" and report.ok:
        series["evbackup_last_verify_success_timestamp_seconds", of_node] = now
    if report.level == "full" or not report.ok:
        series["evbackup_segments_bad", of_node] = float(_bad(report))
    return series


def _bad(report: Report) -> int:
    """Segments with errors; an error that names no file counts as one."""
    return len({finding.file for finding in report.errors})


def _labels(values: Mapping[str, str], wanted: tuple[str, ...]) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')

    return "{" + ",".join(f'{name}="{escaped(values[name])}"' for name in wanted) + "}"


def write(path: str, news: Series) -> None:
    """Puts the news into the file, beside what other verbs and nodes have left there.

    Raises:
        ValueError: There is a file that is not ours.
        OSError: It cannot be read or written.
    """
    folder = os.path.dirname(path) or "."  # noqa: PTH120
    with _alone(folder):
        series = {**_read(path), **news}
        # A private name in the same folder that does not end in `.prom`, so that the collector never sees a part.
        handle, part = tempfile.mkstemp(prefix=".evbackup-", suffix=".part", dir=folder)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(_text(series))
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            os.replace(part, path)  # noqa: PTH105
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)  # noqa: PTH108
            raise


def _text(series: Series) -> str:
    lines: list[str] = []
    for name, meaning in HELP.items():
        samples = sorted((labels, value) for (known, labels), value in series.items() if known == name)
        if samples:
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
            lines += [f"{name}{labels} {value!r}" for labels, value in samples]
    return "\n".join([*lines, ""])


def _read(path: str) -> Series:
    """What is in the file; nothing where there is none."""
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            lines = file.read().splitlines()
    except FileNotFoundError:
        return {}
    series: Series = {}
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        sample = LINE.match(line)
        if sample is None or sample["name"] not in HELP:
            raise ValueError(f"expected only metrics of evbackup, found another line at line {number}")
        series[sample["name"], sample["labels"] or ""] = float(sample["value"])
    return series


@contextlib.contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Holds the folder while the file is read and replaced; a run that never lets go is not waited for."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    break
                time.sleep(0.02)
        yield
    finally:
        os.close(handle)
