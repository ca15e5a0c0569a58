"""What monitoring reads: the line and codes of `check`, the metrics file, the log as JSON lines, and the run id that ties them."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import evbackup
from evbackup import Backup, _check, _metrics
from evbackup.cli import cli
from support import grow

Command = Callable[..., tuple[int, str, str]]
LINE = re.compile(
    r"EVBACKUP (OK|WARNING|CRITICAL|UNKNOWN) - [^|\n]+( \| (('[^']+'|\w+)=[\d.]+(s|B)?(;\d*){0,3};0 ?)+)?"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a full segment and two increments."""
    store, backups = tmp_path / "growing", tmp_path / "backups"
    backups.mkdir()
    for blocks in (30, 10, 10):
        grow(store, blocks)
        evbackup.backup(store, backups, since="auto")
    return backups


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.badger"), key=lambda path: evbackup.inspect(path).tip_height)


def test_all_is_well(command: Command, folder: Path) -> None:
    code, out, err = command("check", folder, "--max-age", "6h", "--max-height-lag", 5)
    assert (code, err) == (0, "")
    assert LINE.fullmatch(out.strip()), out
    assert out.startswith(f"EVBACKUP OK - {folder}: 3 segments, ")
    assert "height 50 | age=" in out
    assert "lag=0;;5;0" in out
    state = json.loads(command("check", folder, "--json")[1])
    assert (state["state"], state["code"], len(state["backups"])) == ("ok", 0, 1)
    assert state["backups"][0]["segments"] == [str(path) for path in segments(folder)]
    assert state["backups"][0]["complete_height"] == 50
    # Segments that are named are one set.
    code, out, _ = command("check", *segments(folder))
    assert code == 0
    assert "3 segments" in out


def test_too_old(command: Command, folder: Path) -> None:
    time.sleep(1.1)
    code, out, _ = command("check", folder, "--max-age", "1")
    assert code == 2
    assert out.startswith(f"EVBACKUP CRITICAL - {folder}: expected a backup of the last 1 s; 3 segments")


def test_too_far_behind(command: Command, folder: Path, tmp_path: Path) -> None:
    grow(tmp_path / "growing", 8)
    assert command("check", folder, "--max-height-lag", 8, "--against", tmp_path / "growing")[0] == 0
    code, out, _ = command("check", folder, "--max-height-lag", 7, "--against", tmp_path / "growing")
    assert code == 2
    assert "expected at most 7 blocks behind, found 8" in out
    code, out, _ = command("check", folder, "--against", tmp_path / "nowhere")
    assert code == 3
    assert "nowhere" in out


@pytest.mark.parametrize("gone", [0, 1])
def test_a_chain_that_breaks_off(command: Command, folder: Path, gone: int) -> None:
    lost, after = segments(folder)[gone : gone + 2]
    lost.unlink()
    code, out, _ = command("check", folder)
    assert code == 2
    assert f"{after}: expected the segment that it follows, found none" in out


def test_damage_that_shows_without_reading(command: Command, folder: Path) -> None:
    middle = segments(folder)[1]
    middle.write_bytes(middle.read_bytes()[:-1])
    code, out, _ = command("check", folder)
    assert code == 2
    assert str(middle) in out


def test_no_backup_at_all(command: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, out, _ = command("check", tmp_path / "empty")
    assert code == 2
    assert out == f"EVBACKUP CRITICAL - {tmp_path}/empty: expected a backup, found none\n"
    assert command("check", tmp_path / "nowhere")[0] == 2


def test_a_segment_without_a_manifest_is_a_warning(command: Command, folder: Path) -> None:
    (folder / "stray.badger").write_bytes(segments(folder)[0].read_bytes())
    code, out, _ = command("check", folder)
    assert code == 1
    assert f"WARNING - {folder}: {folder}/stray.badger: expected a manifest beside it" in out


def test_several_sets_and_the_worst_counts(command: Command, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    code, out, _ = command("check", folder, tmp_path / "none")
    assert code == 2
    assert "'backups_age'=" in out
    assert LINE.fullmatch(out.strip()), out


@pytest.mark.parametrize("arguments", [["check"], ["check", "x", "--max-age", "soon"], ["check", "x", "--nonsense"]])
def test_what_cannot_be_meant_is_unknown(command: Command, arguments: list[str]) -> None:
    code, out, err = command(*arguments)
    assert (code, err) == (3, "")
    assert out.startswith("EVBACKUP UNKNOWN - ")


def test_a_bad_configuration_is_unknown(command: Command, tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("nonsense = 1\n")
    code, out, _ = command("--config", tmp_path / "node.toml", "check", tmp_path)
    assert code == 3
    assert "node.toml:1: " in out


def test_a_check_that_breaks_says_that_it_does_not_know(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_path: object) -> object:
        raise PermissionError(13, "Permission denied", "/srv")

    monkeypatch.setattr(os, "scandir", broken)
    code, out, err = command("check", folder)
    assert (code, err) == (3, "")
    assert out.startswith("EVBACKUP UNKNOWN - PermissionError: ")


def test_only_a_datastore_is_unknown(command: Command, sample: Path, tmp_path: Path) -> None:
    link = tmp_path / "a b|c"
    link.symlink_to(sample)
    # Nothing that a name holds breaks the line.
    code, out, _ = command("check", link)
    assert out.count("|") == 0
    assert code == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("6h", 21600),
        ("1d12h", 129600),
        ("90m", 5400),
        ("2w", 1209600),
        ("h", None),
        ("1x", None),
        ("", None),
    ],
)
def test_ages(text: str, expected: int | None) -> None:
    assert _check.seconds(text) == expected


def gauges(path: Path) -> dict[str, dict[tuple[str, ...], float]]:
    """The file as Prometheus' own client reads it."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(path.read_text()):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            labels = tuple(sample.labels.get(name, "") for name in ("chain", "node", "verb"))
            assert sample.timestamp is None
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def test_a_segment_without_a_manifest_is_not_read(folder: Path) -> None:
    """It may be large, and whoever asks wants to know at once."""
    (folder / "bare.badger").write_bytes(b"no stream at all")
    state = _check.check([str(folder)])
    assert state.code == _check.WARNING
    assert "bare.badger: expected a manifest beside it, found none" in state.line()
    assert "3 segments" in state.line()
    assert _check.check([str(folder / "bare.badger")]).code == _check.CRITICAL


def test_every_verb_leaves_metrics() -> None:
    without = [name for name, verb in cli.commands.items() if not any(p.name == "metrics_file" for p in verb.params)]
    assert without == ["completion"]


def test_metrics_of_backup_and_verify(command: Command, sample: Path, tmp_path: Path) -> None:
    metrics, segment = tmp_path / "evbackup.prom", tmp_path / "full.badger"
    before = time.time()
    labels = ("--node", 'the "first"\n\\', "--chain-id", "evm")
    code, out, err = command(*labels, "backup", sample, "-o", segment, "--metrics-file", metrics, "--json")
    assert (code, err) == (0, "")
    made = json.loads(out)
    found = gauges(metrics)
    node = ("evm", 'the "first"\n\\')
    backups, node_only = (*node, "backup"), (*node, "")
    assert before <= found["evbackup_last_success_timestamp_seconds"][backups] <= time.time()
    assert found["evbackup_last_run_success"] == {(*node, "backup"): 1.0}
    assert found["evbackup_last_duration_seconds"][backups] >= made["elapsed_s"]
    assert found["evbackup_last_backup_bytes"] == {(*node, ""): made["bytes"]}
    assert found["evbackup_last_backup_height"] == {(*node, ""): made["complete_height"]}
    assert metrics.stat().st_mode & 0o777 == 0o644

    assert command(*labels, "verify", segment, "--metrics-file", metrics)[0] == 0
    found = gauges(metrics)
    assert found["evbackup_segments_bad"] == {(*node, ""): 0}
    assert found["evbackup_last_verify_success_timestamp_seconds"][node_only] >= before
    assert set(found["evbackup_last_run_success"]) == {(*node, "backup"), (*node, "verify")}
    assert set(found) == set(_metrics.HELP)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "evbackup.prom",
        "full.badger",
        *sorted(path.name for path in tmp_path.glob("full.badger.*")),
    ]


def test_only_a_full_verify_of_what_is_kept_counts_as_one(
    command: Command, server: evbackup.Server, full: evbackup.Backup, tmp_path: Path
) -> None:
    metrics = tmp_path / "evbackup.prom"
    verified = "evbackup_last_verify_success_timestamp_seconds"
    assert command("verify", full.path, "--level", "quick", "--metrics-file", metrics)[0] == 0
    assert command("verify", server.address, "--against", full.path, "--metrics-file", metrics)[0] == 0
    assert not {verified, "evbackup_segments_bad"} & set(gauges(metrics))
    # Each still is a run that went well.
    assert gauges(metrics)["evbackup_last_run_success"] == {("", "", "verify"): 1}
    assert command("verify", full.path, "--metrics-file", metrics)[0] == 0
    assert gauges(metrics)["evbackup_segments_bad"] == {("", "", ""): 0}
    proven = gauges(metrics)[verified]
    assert command("verify", full.path, "--level", "quick", "--metrics-file", metrics)[0] == 0
    assert gauges(metrics)[verified] == proven
    # What the quick one does find is told.
    damaged = tmp_path / "damaged.badger"
    shutil.copy(f"{full.path}.json", f"{damaged}.json")
    damaged.write_bytes(b"x" * full.bytes)
    assert command("verify", damaged, "--level", "quick", "--metrics-file", metrics)[0] == 20
    assert gauges(metrics)["evbackup_segments_bad"] == {("", "", ""): 1}
    assert command("verify", full.path, "--level", "quick", "--metrics-file", metrics)[0] == 0
    assert gauges(metrics)["evbackup_segments_bad"] == {("", "", ""): 1}


def test_verify_takes_the_newest_chain_of_a_folder(
    command: Command, chain: list[evbackup.Backup], tmp_path: Path
) -> None:
    """So that a timer can prove what another timer has taken."""
    code, told, _ = command("verify", tmp_path, "--json")
    assert code == 0
    assert json.loads(told)["segments"] == [str(made.path) for made in chain]
    # A new full backup begins a new chain; what belongs to an older one is left alone.
    newer = evbackup.backup(tmp_path / "growing", tmp_path / "newer.badger")
    assert json.loads(command("verify", tmp_path, "--json")[1])["segments"] == [str(newer.path)]
    increment = evbackup.backup(tmp_path / "growing", tmp_path / "newest.badger", since=chain[-1])
    assert json.loads(command("verify", tmp_path, "--json")[1])["segments"][-1] == str(increment.path)
    Path(chain[1]).unlink()
    code, told, _ = command("verify", tmp_path, "--json")
    assert code == 20
    assert "gap" in {finding["code"] for finding in json.loads(told)["findings"]}
    (tmp_path / "empty").mkdir()
    assert command("verify", tmp_path / "empty")[0] == 2
    # A datastore is no folder of segments.
    assert json.loads(command("verify", tmp_path / "growing", "--json")[1])["segments"] == []


def test_a_failed_run_does_not_move_the_last_success(command: Command, sample: Path, tmp_path: Path) -> None:
    metrics, segment = tmp_path / "evbackup.prom", tmp_path / "full.badger"
    assert command("backup", sample, "-o", segment, "--metrics-file", metrics)[0] == 0
    first = gauges(metrics)
    assert command("backup", sample, "-o", segment, "--metrics-file", metrics)[0] == 14
    second = gauges(metrics)
    key = ("", "", "backup")
    moved = "evbackup_last_run_timestamp_seconds"
    assert second[moved][key] > first[moved][key]
    assert second["evbackup_last_run_success"][key] == 0
    for same in ("evbackup_last_success_timestamp_seconds", "evbackup_last_backup_bytes"):
        assert second[same] == first[same]
    segment.write_bytes(segment.read_bytes()[:-1])
    assert command("verify", segment, "--metrics-file", metrics)[0] == 20
    third = gauges(metrics)
    assert third["evbackup_segments_bad"] == {("", "", ""): 1}
    assert "evbackup_last_verify_success_timestamp_seconds" not in third


def test_an_interrupted_run_is_a_failed_one(tmp_path: Path, sample: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "evbackup", "serve", sample, "--listen", "127.0.0.1:0", "--metrics-file", "m.prom"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith(b"serving on")
        server.terminate()
        assert server.wait(20) == 143
    assert gauges(tmp_path / "m.prom")["evbackup_last_run_success"] == {("", "", "serve"): 0}


def test_a_metrics_file_that_cannot_be_written_fails_no_backup(command: Command, sample: Path, tmp_path: Path) -> None:
    code, out, err = command(
        "backup", sample, "-o", tmp_path / "a.badger", "--metrics-file", "/nowhere/m.prom", "--json"
    )
    assert code == 0
    assert json.loads(out)["kind"] == "full"
    assert "the metrics are not written" in err
    foreign = tmp_path / "foreign.prom"
    foreign.write_text("node_load1 0.5\n")
    code, _, err = command("backup", sample, "-o", tmp_path / "b.badger", "--metrics-file", foreign)
    assert code == 0
    assert "expected only metrics of evbackup, found another line at line 1" in err
    assert foreign.read_text() == "node_load1 0.5\n"


def test_two_runs_at_once_lose_nothing(tmp_path: Path) -> None:
    # On a slow disk the three of them wait for each other's writes longer than a run would.
    program = "import sys; from evbackup import _metrics as m; m.PATIENCE_S = 100; [m.write(sys.argv[1], {('evbackup_last_run_success', '{node=\"%s%d\"}' % (sys.argv[2], i)): 1.0}) for i in range(40)]"
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "m.prom"), name]) for name in ("a", "b", "c")
    ]
    assert [process.wait(100) for process in running] == [0, 0, 0]
    assert len(gauges(tmp_path / "m.prom")["evbackup_last_run_success"]) == 120
    assert [path.name for path in tmp_path.iterdir()] == ["m.prom"]


def test_the_log_as_json_lines(command: Command, sample: Path, tmp_path: Path) -> None:
    code, out, err = command(
        "-v", "--node", "first", "--log-format", "json", "backup", sample, "-o", tmp_path / "a.badger", "--json"
    )
    assert code == 0
    made = json.loads(out)
    lines = [json.loads(line) for line in err.splitlines()]
    assert {line["run_id"] for line in lines} == {made["run_id"]}
    assert {line["node"] for line in lines} == {"first"}
    assert all({"time", "level", "logger", "msg"} <= set(line) for line in lines)
    assert (lines[0]["msg"], lines[-1]["exit_code"]) == ("backup begins", 0)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", lines[0]["time"])
    # The manifest says which run wrote it, and it is this one.
    assert json.loads((tmp_path / "a.badger.json").read_text())["run_id"] == made["run_id"]
    assert json.loads(command("inspect", tmp_path / "a.badger", "--json")[1])["run_id"] == made["run_id"]

    code, out, err = command("--log-format", "json", "backup", sample, "-o", tmp_path / "a.badger", "--json")
    (line,) = [json.loads(line) for line in err.splitlines()]
    failed = json.loads(out)
    assert code == failed["exit_code"] == line["exit_code"] == 14
    assert (line["level"], line["code"], line["msg"]) == ("error", "exists", failed["error"]["message"])
    assert line["run_id"] == failed["run_id"] != made["run_id"]


def test_the_log_as_text_names_the_run(command: Command, full: Backup) -> None:
    _, out, err = command("-v", "verify", full.path, "--json")
    run_id = json.loads(out)["run_id"]
    assert all(f" [{run_id}]: " in line for line in err.splitlines())
    assert "INFO evbackup.run" in err


def test_a_library_call_has_a_run_id_of_its_own(command: Command, sample: Path, tmp_path: Path) -> None:
    command("backup", sample, "-o", tmp_path / "a.badger")
    made = [evbackup.backup(sample, tmp_path / name) for name in ("b.badger", "c.badger")]
    ids = {
        json.loads(Path(f"{path}.json").read_text())["run_id"]
        for path in (tmp_path / "a.badger", *(each.path for each in made))
    }
    assert len(ids) == 3
