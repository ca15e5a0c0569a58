"""The command line: results on standard output, everything else on standard error, and the exit codes."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import evbackup
from evbackup import Backup
from evbackup.cli import cli
from support import BLOCKS, TOKEN, grow

Command = Callable[..., tuple[int, str, str]]
VERBS = [
    "align",
    "apply",
    "backup",
    "block",
    "blocks",
    "check",
    "completion",
    "demo",
    "digest",
    "inspect",
    "restore",
    "serve",
    "verify",
]


def test_help_names_every_verb_and_every_exit_code(command: Command) -> None:
    code, out, err = command("--help")
    assert (code, err) == (0, "")
    assert sorted(cli.commands) == VERBS
    assert all(f"\n  {verb} " in out for verb in VERBS)
    for error in vars(evbackup).values():
        if (
            isinstance(error, type)
            and issubclass(error, evbackup.EvbackupError)
            and error is not evbackup.EvbackupError
        ):
            assert f"{error.exit_code} " in out
    assert all(command(verb, "--help")[0] == 0 for verb in VERBS)


def test_every_verb_has_json() -> None:
    without = [name for name, verb in cli.commands.items() if not any(p.name == "as_json" for p in verb.params)]
    assert without == ["completion"]


def test_version(command: Command) -> None:
    assert command("--version")[1].strip() == f"evbackup, version {evbackup.__version__}"


def test_as_a_module_and_as_a_command() -> None:
    for start in ([sys.executable, "-m", "evbackup"], [str(Path(sys.executable).with_name("evbackup"))]):
        done = subprocess.run([*start, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("evbackup, version")
    done = subprocess.run(
        [sys.executable, "-m", "evbackup", "verify", "/nowhere"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 10


def test_the_whole_round_in_json(command: Command, tmp_path: Path) -> None:
    grow(tmp_path / "node", 20)
    code, out, err = command("backup", tmp_path / "node", "-o", tmp_path / "full.badger", "--json")
    assert (code, err) == (0, "")
    full = json.loads(out)
    assert full["path"] == str(tmp_path / "full.badger")
    grow(tmp_path / "node", 5)
    inc = json.loads(
        command(
            "backup", tmp_path / "node", "-o", tmp_path / "inc.badger", "--since", tmp_path / "full.badger", "--json"
        )[1]
    )
    assert (inc["kind"], inc["since_version"]) == ("inc", full["next_since"])
    by_version = json.loads(
        command("backup", tmp_path / "node", "-o", tmp_path / "v.badger", "--since", full["next_since"], "--json")[1]
    )
    assert by_version["entries"] == inc["entries"]

    segments = (tmp_path / "full.badger", tmp_path / "inc.badger")
    report = json.loads(command("verify", *segments, "--json")[1])
    assert (report["ok"], report["findings"]) == (True, [])
    plan = json.loads(command("restore", *segments, "--to", tmp_path / "copy", "--dry-run", "--json")[1])
    assert plan["dry_run"]
    restored = json.loads(command("restore", *segments, "--to", tmp_path / "copy", "--history", "--json")[1])
    assert (restored["engine"], restored["complete_height"]) == ("badger", 25)
    json.loads(command("restore", segments[0], "--to", tmp_path / "step", "--engine", "rocksdb", "--json")[1])
    applied = json.loads(command("apply", segments[1], "--to", tmp_path / "step", "--json")[1])
    assert applied["segments"] == [str(segments[1])]
    digests = {
        json.loads(command("digest", tmp_path / name, "--json")[1])["digest"] for name in ("node", "copy", "step")
    }
    assert len(digests) == 1
    assert command("digest", tmp_path / "copy")[1].strip() in digests
    assert json.loads(command("inspect", tmp_path / "copy", "--json")[1])["tip_height"] == 25
    assert json.loads(command("inspect", segments[0], "--json")[1])["sha256"] == full["sha256"]


def test_results_as_text(command: Command, full: Backup, sample: Path) -> None:
    code, out, err = command("inspect", full.path)
    assert (code, err) == (0, "")
    assert f"sha256                 {full.sha256}\n" in out
    assert command("verify", full.path)[1].startswith("ok: 1 segment")
    assert "engine" in command("inspect", sample)[1]


def test_the_bare_segment_on_standard_output(full: Backup, sample: Path, tmp_path: Path) -> None:
    arguments = [
        sys.executable,
        "-m",
        "evbackup",
        "backup",
        str(sample),
        "--output",
        "-",
        "--manifest",
        "m.json",
        "--json",
    ]
    done = subprocess.run(arguments, capture_output=True, cwd=tmp_path, check=True)
    told = json.loads(done.stderr)
    assert told["path"] is None
    assert (
        hashlib.sha256(done.stdout).hexdigest()
        == told["sha256"]
        == json.loads((tmp_path / "m.json").read_text())["sha256"]
    )
    assert len(done.stdout) == full.bytes


def test_a_reader_that_goes_away(sample: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "evbackup", "backup", str(sample), "-o", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read().startswith(b"error: ")
    assert process.wait(10) == evbackup.IoError.exit_code
    process.stderr.close()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["verify", "/nowhere/full.badger"], 10),
        (["restore", "/nowhere/full.badger", "--to", "/nowhere/store", "--engine", "rocksdb"], 10),
        (["inspect", "/nowhere"], 10),
        (["digest", "/nowhere"], 10),
        (["serve", "/nowhere"], 10),
        (["backup", "/nowhere", "-o", "/nowhere/full.badger"], 10),
        (["backup", "127.0.0.1:1", "-o", "/tmp/nothing-arrives-here"], 13),
        (["backup", "http://a@b", "-o", "/tmp/nothing-arrives-here"], 2),
    ],
)
def test_errors_and_hints(command: Command, arguments: list[str], expected: int) -> None:
    code, out, err = command(*arguments)
    assert (code, out) == (expected, "")
    assert err.startswith("error: ")
    assert all(line.startswith(("error: ", "hint: ")) for line in err.splitlines())
    code, out, _ = command(*arguments, "--json")
    answer = json.loads(out)
    assert (code, answer["exit_code"]) == (expected, expected)
    assert f"error: {answer['error']['message']}" == err.splitlines()[0]


def test_what_is_there_is_kept(command: Command, full: Backup, sample: Path, tmp_path: Path) -> None:
    (tmp_path / "full.badger").write_text("mine")
    assert command("backup", sample, "-o", tmp_path / "full.badger")[0] == 14
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    assert command("restore", full.path, "--to", tmp_path / "folder", "--engine", "rocksdb")[0] == 14


def test_damage_and_strictness(command: Command, full: Backup, tmp_path: Path) -> None:
    assert full.path is not None
    content = full.path.read_bytes()
    (tmp_path / "bare.badger").write_bytes(content)
    code, out, err = command("verify", tmp_path / "bare.badger")
    assert (code, err) == (0, "")
    assert "warning: " in out
    assert command("verify", tmp_path / "bare.badger", "--strict")[0] == 20
    (tmp_path / "cut.badger").write_bytes(content[:-3])
    code, out, err = command("verify", tmp_path / "cut.badger")
    assert (code, err) == (20, "")
    assert "\nerror: " in out
    code, out, _ = command("verify", tmp_path / "cut.badger", "--json")
    assert (code, json.loads(out)["ok"]) == (20, False)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["backup", "node:1"],
        ["backup", "-o", "x"],
        ["backup", "node:1", "-o", "x", "--manifest", "y"],
        ["backup", "node:1", "-o", "x", "--max-rate", "fast"],
        ["backup", "node:1", "-o", "x", "--home", "/"],
        ["backup", "node:1", "-o", "x", "--header", "no equals sign"],
        ["verify", "x", "--trusted", "nothing"],
        ["verify"],
        ["restore", "x"],
        ["inspect"],
        ["nonsense"],
    ],
)
def test_usage(command: Command, arguments: list[str]) -> None:
    code, out, err = command(*arguments)
    assert code == 2
    assert "Usage: evbackup" in out + err


def test_a_token_comes_from_a_file_or_the_environment(
    command: Command, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "token").chmod(0o640)
    with evbackup.serve(sample, "127.0.0.1:0", token=TOKEN) as server:

        def take(name: str, *more: object) -> int:
            return command("backup", server.address, "-o", tmp_path / name, *more)[0]

        assert take("a") == 12
        assert take("b", "--token-file", tmp_path / "token") == 0
        monkeypatch.setenv("EVBACKUP_TOKEN", TOKEN)
        assert take("c") == 0
        monkeypatch.setenv("EVBACKUP_TOKEN", "wrong")
        monkeypatch.setenv("EVBACKUP_TOKEN_FILE", str(tmp_path / "token"))
        assert take("d") == 0
        assert take("e", "--token-file", tmp_path / "nowhere") == 2
    assert not any(
        "token" in parameter.opts[0] and "file" not in parameter.opts[0]
        for verb in cli.commands.values()
        for parameter in verb.params
    )


def test_what_is_said_for_all_verbs_is_for_those_it_is_meant_for(
    command: Command, server: evbackup.Server, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token in the environment and a lock in the configuration are for the sources that want them."""
    monkeypatch.setenv("EVBACKUP_TLS_CA", str(tmp_path / "nowhere.pem"))
    monkeypatch.setenv("EVBACKUP_TOKEN", TOKEN)
    assert command("backup", sample, "-o", tmp_path / "a.badger")[0] == 0
    monkeypatch.delenv("EVBACKUP_TLS_CA")
    monkeypatch.delenv("EVBACKUP_TOKEN")
    monkeypatch.setenv("EVBACKUP_BACKUP_OFFLINE", "1")
    assert command("backup", server.address, "-o", tmp_path / "b.badger")[0] == 0
    # What was said on the command line was meant.
    code, _, told = command("backup", server.address, "-o", tmp_path / "c.badger", "--offline")
    assert (code, "expected a path with offline, found the address of a node" in told) == (2, True)
    code, _, told = command("backup", sample, "-o", tmp_path / "c.badger", "--insecure", "--header", "a=b")
    assert (code, "expected the address of a node with headers, insecure, found a path" in told) == (2, True)
    assert command("backup", sample, "-o", "-", "--insecure")[0] == 2


def test_a_height_that_is_not_there_is_told_with_those_that_are(command: Command, sample: Path, tmp_path: Path) -> None:
    for height in (0, BLOCKS + 1):
        code, _, told = command("restore", sample, "--to", tmp_path / "db", "--at-height", height)
        assert (code, f"expected a height within 1 to {BLOCKS}" in told) == (2, True), told


def test_home(command: Command, sample: Path, tmp_path: Path) -> None:
    with evbackup.serve(sample, "127.0.0.1:0") as server:
        (tmp_path / "config").mkdir()
        (tmp_path / "config" / "evnode.yaml").write_text(f"db_path: data\nrpc:\n  address: {server.address}\n")
        (tmp_path / "data").mkdir()
        assert command("backup", "--home", tmp_path, "-o", tmp_path / "full.badger")[0] == 0
    target = ("--home", tmp_path, "--database", "evm-single")
    assert command("restore", tmp_path / "full.badger", *target, "--engine", "rocksdb")[0] == 0
    code, out, _ = command("inspect", *target, "--json")
    assert (code, json.loads(out)["path"]) == (0, str(tmp_path / "data" / "evm-single"))
    assert command("digest", *target)[1] == command("digest", sample)[1]
    assert command("backup", *target, "-o", tmp_path / "again.badger")[0] == 0
    code, _, err = command("inspect", "--home", tmp_path)
    assert code == 2
    assert "hint: there are: evm-single" in err


def test_options_come_from_the_environment_too(
    command: Command, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVBACKUP_BACKUP_OUTPUT", str(tmp_path / "full.badger"))
    assert command("backup", sample)[0] == 0
    assert (tmp_path / "full.badger").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(command: Command, shell: str) -> None:
    code, out, _ = command("completion", shell)
    assert code == 0
    assert "_EVBACKUP_COMPLETE" in out


def test_completion_completes() -> None:
    environment = {**os.environ, "_EVBACKUP_COMPLETE": "bash_complete", "COMP_WORDS": "evbackup ver", "COMP_CWORD": "1"}
    program = Path(sys.executable).with_name("evbackup")
    done = subprocess.run([program], capture_output=True, text=True, env=environment, check=False)
    assert "verify" in done.stdout


def test_demo(command: Command, tmp_path: Path) -> None:
    code, out, err = command("demo", "--blocks", 60, "--dir", tmp_path / "demo")
    assert (code, err) == (0, "")
    assert "the same data in all three" in out
    assert evbackup.verify([tmp_path / "demo" / "full.badger", tmp_path / "demo" / "inc1.badger"]).ok
    code, out, err = command("demo", "--blocks", 30, "--json")
    assert code == 0
    assert json.loads(out)["increment"]["kind"] == "inc"
    assert "served on" in err


def test_progress_stays_off_a_pipe(command: Command, full: Backup) -> None:
    assert command("verify", full.path)[2] == ""
    assert BLOCKS


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["backup", "node:1", "--json"], "Missing option '-o' / '--output'."),
        (["--log-format", "bogus", "inspect", "x", "--json"], "'--log-format'"),
        (["inspect", "--json"], "Give either PATH"),
        (["nonsense", "--json"], "No such command 'nonsense'."),
        (["backup", "node:1", "-o", "x", "--json", "--header", "a"], "Expected --header NAME=VALUE"),
    ],
)
def test_usage_is_told_as_json_too(command: Command, arguments: list[str], told: str) -> None:
    code, out, err = command(*arguments)
    answer = json.loads(out)
    assert (code, answer["exit_code"], answer["error"]["code"]) == (2, 2, "invalid-argument")
    assert told in answer["error"]["message"]
    assert told in err
    assert set(answer) == {"error", "exit_code", "run_id"}
    assert set(answer["error"]) == {"code", "message", "hint", "path", "offset"}


def test_usage_is_a_line_of_the_log(command: Command) -> None:
    code, _, err = command("--log-format", "json", "backup", "node:1")
    assert code == 2
    line = json.loads(err)
    assert (line["level"], line["code"], line["exit_code"]) == ("error", "invalid-argument", 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "--json", "--max-age", "bogus", "X"],
        ["--config", "/nope", "check", "--json", "X"],
        ["--log-format", "bogus", "check", "--json", "X"],
        ["check", "--json"],
        ["--node", "a", "--log-format", "json", "check", "--json", "--nonsense"],
    ],
)
def test_what_check_cannot_know_is_told_as_json_too(command: Command, arguments: list[str]) -> None:
    code, out, err = command(*arguments)
    answer = json.loads(out)
    assert (code, answer["code"], answer["state"], err) == (3, 3, "unknown", "")
    assert answer["run_id"]
    # Without it, the line.
    code, out, err = command(*(word for word in arguments if word != "--json"))
    assert (code, out.startswith("EVBACKUP UNKNOWN - "), err) == (3, True, "")


def test_only_check_has_codes_of_its_own(command: Command) -> None:
    assert command("--node", "check", "inspect")[0] == 2


def test_every_document_has_the_id_of_its_run(command: Command, sample: Path, full: evbackup.Backup) -> None:
    lines = [
        command("digest", full.path, "--json")[1],
        *command("blocks", full.path, "--json", "--start", 1, "--stop", 3)[1].splitlines(),
        command("block", full.path, "newest", "--json")[1],
        command("demo", "--blocks", 3, "--json")[1],
    ]
    assert len(lines) == 5
    for line in lines:
        assert re.fullmatch(r"[0-9a-f]{16}", json.loads(line)["run_id"])
    assert len({json.loads(line)["run_id"] for line in lines}) == 4
    # One path is a list, too.
    assert json.loads(lines[0])["paths"] == [str(full.path)]
    assert json.loads(command("digest", sample, "--json")[1])["paths"] == [str(sample)]


def test_a_block_is_found_by_the_home_of_a_node(
    command: Command, full: evbackup.Backup, sample: Path, tmp_path: Path
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "evnode.yaml").write_text("db_path: data\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "app").symlink_to(sample)
    at_home = ("--home", tmp_path, "--database", "app")
    for verb, more in (("block", ("7",)), ("blocks", ()), ("verify", ())):
        code, told, err = command(verb, *more, *at_home, "--json")
        assert code == 0, err
        assert told
        assert command(verb, *more, full.path, *at_home)[0] == 2
        assert command(verb, *more)[0] == 2
    for verb in ("block", "blocks"):
        assert command(verb, sample, *(("7",) if verb == "block" else ()), "--max-rate", "1M")[0] == 0
