"""The configuration: one file for a node, the environment above it, the command line above both; and no secret in it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import evbackup
from evbackup import Backup, _config
from evbackup.cli import cli
from support import TOKEN, grow

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "node.toml"
        path.write_text(text)
        return path

    return write


def test_a_file_says_all_that_a_backup_needs(
    command: Command, config: Callable[[str], Path], sample: Path, tmp_path: Path
) -> None:
    (tmp_path / "backups").mkdir()
    path = config(
        f"""
        node = "first"
        metrics_file = "{tmp_path}/evbackup.prom"
        quiet = true

        [backup]
        addr = "{sample}"
        output = "{tmp_path}/backups"
        since = "auto"
        on_mismatch = "full"
        max_rate = "900M"
        idle_timeout = 30

        [check]
        paths = ["{tmp_path}/backups"]
        max_age = "1h"
        """
    )
    code, out, err = command("--config", path, "backup", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["kind"] == "full"
    assert json.loads(command("--config", path, "backup", "--json")[1])["kind"] == "inc"
    assert command("--config", path, "check")[0] == 0
    assert 'node="first"' in (tmp_path / "evbackup.prom").read_text()


def test_what_is_nearer_wins(
    command: Command, config: Callable[[str], Path], full: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config('level = "quick"\n[verify]\nlevel = "full"\n')

    def level(*arguments: object) -> str:
        return str(json.loads(command(*arguments, "--json")[1])["level"])

    only_top = tmp_path / "top.toml"
    only_top.write_text('level = "quick"\n')
    assert level("--config", only_top, "verify", full.path) == "quick"
    assert level("--config", path, "verify", full.path) == "full"
    monkeypatch.setenv("EVBACKUP_LEVEL", "quick")
    assert level("--config", path, "verify", full.path) == "quick"
    monkeypatch.setenv("EVBACKUP_VERIFY_LEVEL", "full")
    assert level("--config", path, "verify", full.path) == "full"
    assert level("--config", path, "verify", full.path, "--level", "quick") == "quick"
    monkeypatch.setenv("EVBACKUP_CONFIG", str(path))
    monkeypatch.setenv("EVBACKUP_VERIFY_SEGMENTS", str(full.path))
    assert level("verify") == "full"


def test_every_key_is_a_variable_too() -> None:
    _config.environment(cli)
    for verb, verb_command in cli.commands.items():
        for key, param in _config.keys_of(verb_command).items():
            assert isinstance(param.envvar, list)
            assert f"EVBACKUP_{verb}_{key}".upper() in param.envvar
            assert f"EVBACKUP_{key}".upper() in param.envvar
            # What click itself would look for goes on working.
            assert f"EVBACKUP_{verb}_{param.name}".upper() in param.envvar


def test_a_place_on_the_command_line_stands_above_a_home_in_the_file(
    command: Command, config: Callable[[str], Path], sample: Path, tmp_path: Path
) -> None:
    (tmp_path / "home" / "config").mkdir(parents=True)
    (tmp_path / "home" / "config" / "evnode.yaml").write_text("db_path: data\n")
    (tmp_path / "home" / "data").mkdir()
    (tmp_path / "home" / "data" / "evm").symlink_to(sample)
    path = config(f'home = "{tmp_path}/home"\ndatabase = "evm"\n')
    assert command("--config", path, "backup", "-o", tmp_path / "a.badger")[0] == 0
    assert command("--config", path, "backup", sample, "-o", tmp_path / "b.badger")[0] == 0
    assert (
        command("--config", path, "restore", tmp_path / "a.badger", "--to", tmp_path / "copy", "--engine", "rocksdb")[0]
        == 0
    )
    assert command("--config", path, "digest", tmp_path / "copy")[1] == command("--config", path, "digest")[1]
    other = config(f'[digest]\npaths = ["{tmp_path}/nowhere"]\n')
    assert command("--config", other, "digest", "--home", tmp_path / "home", "--database", "evm")[0] == 0


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("outptu = 1\n", 1, "expected a key or the table of a verb, found outptu"),
        ("\n[backup]\nsince = 'auto'\noutptu = 1\n", 4, "expected a key of [backup], found outptu"),
        ("[bakcup]\nsince = 'auto'\n", 1, "expected a key or the table of a verb, found bakcup"),
        ("[backup]\nmax_rate = 'fast'\n", 2, "max_rate: expected a number of bytes per second"),
        ("[backup]\noverwrite = 'yes'\n", 2, "expected true or false for overwrite"),
        ("[backup]\noutput = true\n", 2, "expected a text or a number for output"),
        ("[backup]\nheader = 'a=b'\n", 2, "expected a list of texts for header"),
        ("[verify]\nlevel = 'deep'\n", 2, "level: 'deep' is not one of"),
        ("[check]\nmax_age = 'old'\n", 2, "max_age: expected an age"),
        ("node = 'a'\n\n= 3\n", 3, "expected TOML"),
        ("[backup]\nsince = 1979-05-27\n", 2, "expected a text or a number for since"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(
    command: Command, config: Callable[[str], Path], text: str, line: int, said: str
) -> None:
    path = config(text)
    code, out, err = command("--config", path, "inspect", "/nowhere")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {path}:{line}: {said}"), err


SECRET = "hunter2-hunter2-hunter2-hunter2!"


def test_a_place_in_the_table_of_a_verb_stands_above_a_home_for_all(
    command: Command, config: Callable[[str], Path], full: evbackup.Backup, tmp_path: Path
) -> None:
    """What is backed up by its home is proven by its segments."""
    at_home, segments = 'home = "/nowhere"\ndatabase = "a"\n', f'["{full.path}"]'
    path = config(f"{at_home}[verify]\nsegments = {segments}\n[digest]\npaths = {segments}\n")
    assert command("--config", path, "verify")[0] == 0
    assert command("--config", path, "digest")[0] == 0
    assert command("--config", path, "backup", "-o", tmp_path / "x")[0] == 10
    # The other way round.
    path = config(f"paths = {segments}\n[digest]\n{at_home}")
    assert command("--config", path, "digest")[0] == 10
    # Where something is written, segments are no place of their own.
    path = config(f"{at_home}[restore]\nsegments = {segments}\n")
    assert command("--config", path, "restore")[0] == 10


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f'token = "{SECRET}"\n', 1),
        (f'[backup]\ntoken = "{SECRET}"\n', 2),
        (f'[serve]\n\npassword = "{SECRET}"\n', 3),
        (f'[backup]\nheader = ["authorization=Bearer {SECRET}"]\n', 2),
        (f'[backup]\naddr = "https://user:{SECRET}@node:7331"\n', 2),
        (f'[backup]\ntoken_file = "{SECRET}\n', 2),
    ],
)
def test_a_secret_is_refused_with_its_line_and_not_shown(
    command: Command, config: Callable[[str], Path], text: str, line: int
) -> None:
    path = config(text)
    code, out, err = command("--config", path, "backup", "node:1", "-o", "x", "--json")
    assert code == 2
    assert f"{path}:{line}: " in err
    assert SECRET not in out + err


@pytest.mark.parametrize("key", _config.SECRET_FILES)
@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602])
def test_a_file_of_a_secret_that_everybody_may_read_is_refused(
    command: Command, config: Callable[[str], Path], tmp_path: Path, key: str, mode: int
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(mode)
    path = config(f'\n[backup]\n{key} = "{secret}"\n')
    code, out, err = command("--config", path, "backup", "node:1", "-o", "x")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {path}:3: {secret}: expected a file that only its owner and group may read"), err
    assert f"hint: chmod o= {secret}" in err
    flag = f"--{key.replace('_', '-')}"
    assert command("backup", "node:1", "-o", "x", flag, secret)[0] == 2
    secret.chmod(0o640)
    assert command("--config", path, "inspect", "/nowhere")[0] == 10


def test_a_file_that_is_not_there(command: Command, config: Callable[[str], Path], tmp_path: Path) -> None:
    assert command("--config", tmp_path / "nowhere.toml", "inspect", "x")[0] == 10
    assert command("--config", config('token_file = "/nowhere/token"\n'), "inspect", "x")[0] == 2
    code, out, _ = command("--config", tmp_path / "nowhere.toml", "inspect", "x", "--json")
    answer = json.loads(out)
    assert (code, answer["exit_code"], answer["error"]["code"]) == (10, 10, "missing")
    assert answer["run_id"]


def test_a_secret_is_no_argument(command: Command) -> None:
    code, out, err = command("backup", "node:1", "-o", "x", "--header", f"Authorization=Bearer {SECRET}")
    assert code == 2
    assert SECRET not in out + err
    assert "--token-file" in err


def test_a_credential_of_systemd(
    command: Command,
    config: Callable[[str], Path],
    sample: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "credentials").mkdir()
    for name in ("token", "other"):
        (tmp_path / "credentials" / name).write_text(TOKEN)
        (tmp_path / "credentials" / name).chmod(0o400)
    with evbackup.serve(sample, "127.0.0.1:0", token=TOKEN) as server:
        take = ("backup", server.address, "--overwrite", "-o", tmp_path / "a.badger")
        assert command(*take)[0] == 12
        path = config('token_file = "credential:other"\n')
        code, _, err = command("--config", path, *take)
        assert code == 2
        assert "expected a credential of a systemd unit, found credential:other" in err
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
        # The one called token is taken unasked.
        assert command(*take)[0] == 0
        assert command("--config", path, *take)[0] == 0


def test_a_secret_shows_nowhere(sample: Path, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    wrong = tmp_path / "wrong"
    wrong.write_text(SECRET[::-1])
    wrong.chmod(0o600)
    (tmp_path / "backups").mkdir()
    said = ""
    with evbackup.serve(sample, "127.0.0.1:0", token=SECRET) as server:
        said += repr(server) + repr(vars(server))
        for number, (verbose, logs, token) in enumerate(
            [("-v", "text", secret), ("-vv", "json", secret), ("-vv", "json", wrong)]
        ):
            program = [sys.executable, "-m", "evbackup", verbose, "--log-format", logs, "backup", server.address]
            options = ["--output", f"backups/{number}.badger", "--token-file", str(token), "--json"]
            more = ["--metrics-file", "backups/evbackup.prom"]
            done = subprocess.run(
                [*program, *options, *more], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == (12 if token == wrong else 0), done.stderr
            said += done.stdout + done.stderr
        try:
            evbackup.backup(server.address, tmp_path / "c.badger", token=SECRET[::-1])
        except evbackup.DeniedError as error:
            said += f"{error!r} {error} {error.as_dict()} {error.hint}"
        made = evbackup.backup(server.address, tmp_path / "d.badger", token=SECRET, headers={"x-mine": SECRET})
        said += f"{made!r} {made.as_dict()} {made._repr_html_()}"
    grow(tmp_path / "unrelated", 1)
    files = [file for file in (tmp_path / "backups").iterdir() if file.is_file()]
    assert len(files) == 7
    said += "".join(file.read_bytes().decode("latin-1") for file in files)
    for value in (SECRET, SECRET[::-1]):
        assert value not in said


def test_a_credential_breaks_no_verb_that_does_without(
    command: Command, config: Callable[[str], Path], sample: Path, full: evbackup.Backup
) -> None:
    """It is there in the unit that names it, and nowhere else."""
    path = config('token_file = "credential:token"\ntls_key = "credential:key"\n')
    assert command("--config", path, "check", full.path)[0] == 0
    assert command("--config", path, "inspect", sample)[0] == 0
    assert command("--config", path, "verify", full.path)[0] == 0
    for odd in ("credential:", "credential:a/b"):
        code, _, err = command("--config", config(f'token_file = "{odd}"\n'), "check", full.path)
        assert code == 3
        code, _, err = command("--config", config(f'token_file = "{odd}"\n'), "inspect", sample)
        assert code == 2
        assert ":1: expected a credential of a systemd unit" in err


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Authorization",
            "proxy-authorization",
            "Cookie",
            "set-cookie",
            "x-api-key",
            "apikey",
            "X-Auth-Token",
            "my-secret",
        ),
        *("x-password", "private-token", "x-credential-id", "grpc-passwd"),
    ],
)
def test_no_header_that_sounds_like_a_secret(command: Command, config: Callable[[str], Path], name: str) -> None:
    code, out, err = command("backup", "node:1", "-o", "x", "--header", f"{name}={SECRET}")
    assert (code, SECRET in out + err) == (2, False)
    assert "A secret is no argument" in err
    code, out, err = command("--config", config(f'header = ["{name}={SECRET}"]\n'), "inspect", "x")
    assert (code, SECRET in out + err) == (2, False)
    assert "expected no secret in a header" in err


def test_another_header_is_none(command: Command, tmp_path: Path) -> None:
    assert command("backup", "127.0.0.1:1", "-o", tmp_path / "x", "--header", "x-tenant=a")[0] == 13
