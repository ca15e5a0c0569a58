"""What a progress callback gets, and which bar is shown where."""

import io
import re
import sys
import types

import pytest

import evbackup
from evbackup import _evbackup
from evbackup._job import wait
from evbackup._progress import Meter, describe, watch


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_meter_knows_rate_and_end() -> None:
    meter = Meter()
    first = meter.read(("receiving", 0, 1000, 0, 0, 10.0))
    assert (first.rate, first.eta, first.total_bytes, first.height) == (0.0, None, 1000, None)
    second = meter.read(("receiving", 500, 1000, 5, 7, 12.0))
    assert (second.rate, second.eta, second.height) == (250.0, 2.0, 7)
    for second_of_silence in range(13, 25):
        last = meter.read(("receiving", 500, 1000, 5, 7, float(second_of_silence)))
    assert (last.rate, last.eta) == (0.0, None)
    assert meter.read(("verifying", 1, 0, 0, 0, 30.0)).rate == 0.0


def test_a_line_for_people() -> None:
    meter = Meter()
    meter.read(("receiving", 0, 4000, 0, 0, 0.0))
    line = describe(meter.read(("receiving", 1000, 4000, 12, 120_000, 1.0)))
    assert line == "receiving 1 kB of 4 kB, 12 entries, height 120,000, 1 kB/s, 3 s left"


def test_nobody_looks_where_nobody_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    for option in (None, False, True):
        with watch(option) as look:
            assert look is None


@pytest.mark.parametrize("has_rich", [True, False])
def test_a_bar_in_a_terminal(monkeypatch: pytest.MonkeyPatch, *, has_rich: bool) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    if not has_rich:
        monkeypatch.setitem(sys.modules, "rich.progress", None)
    wait(_evbackup.probe(0.3), True)
    assert "writing" in terminal.getvalue()


class Display:
    """What IPython shows: each text that stood in one place, the last one last."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts: list[str] = []
        shell = type("ZMQInteractiveShell", (), {})()
        notebook, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
        monkeypatch.setattr(notebook, "get_ipython", lambda: shell, raising=False)
        monkeypatch.setattr(display, "HTML", str, raising=False)
        monkeypatch.setattr(display, "display", self.display, raising=False)
        monkeypatch.setitem(sys.modules, "IPython", notebook)
        monkeypatch.setitem(sys.modules, "IPython.display", display)

    def display(self, html: str, *, display_id: bool) -> "Display":
        assert display_id
        assert not self.texts
        self.update(html)
        return self

    def update(self, html: str) -> None:
        self.texts.append(html)


def test_a_bar_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    display = Display(monkeypatch)
    wait(_evbackup.probe(0.3), True)
    assert "preparing" in display.texts[0]
    assert any(re.search(r'<progress [^>]*value="0\.\d+" max="1">.*writing', text) for text in display.texts)
    assert re.fullmatch(r"<div><span>done after \d+\.\d s</span></div>", display.texts[-1])


def test_a_bar_says_how_it_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    display = Display(monkeypatch)
    with pytest.raises(evbackup.DamagedError):
        wait(_evbackup.probe(0.15, "damaged"), True)
    assert "stopped after " in display.texts[-1]
    assert "<progress" not in display.texts[-1]


def test_logs_arrive_in_python(server: evbackup.Server, tmp_path: object, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="evbackup"):
        evbackup.backup(server.address, f"{tmp_path}/full.badger")
    assert any(record.name.startswith("evbackup") and "backup" in record.getMessage() for record in caplog.records)
    assert len(caplog.records) < 20
