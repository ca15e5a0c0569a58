"""The wheel as a user gets it: into empty environments of each Python that is here, and the page of the first five minutes played with it.

`make test-wheel` builds the wheel and says in `EVBACKUP_WHEELS` where it is, with the wheels that it needs beside it: nothing is taken from an
index, so that what is tested is what was built.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from test_docs import matches, read

ROOT = Path(__file__).parents[2]
WHEELS = Path(os.environ["EVBACKUP_WHEELS"]).resolve()
PAGE = ROOT / "docs" / "five-minutes.md"
MINORS = (10, 11, 12, 13)
LIMIT_S = 300


def interpreter(minor: int) -> Path | None:
    """A Python of this version that really runs: that of the tests, one in the path, or one of pyenv's."""
    found = shutil.which(f"python3.{minor}")
    mine = [Path(sys.executable)] if sys.version_info[1] == minor else []
    for path in [
        *mine,
        *([Path(found)] if found else []),
        *Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3"),
    ]:
        done = subprocess.run(
            [path, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True, check=False
        )
        # A shim of pyenv's says what is missing instead.
        if done.returncode == 0:
            return Path(done.stdout.strip()) / "bin" / f"python3.{minor}"
    return None


PYTHONS = {minor: found for minor in MINORS if (found := interpreter(minor))}


def clean(folder: Path, *path: Path) -> dict[str, str]:
    """An environment without this checkout, without this machine's settings of pip, and without an index."""
    return {
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "PATH": os.pathsep.join([*map(str, path), "/usr/bin", "/bin"]),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_FIND_LINKS": str(WHEELS),
        "PIP_NO_INDEX": "1",
    }


def wheel() -> Path:
    (found,) = WHEELS.glob("evbackup-*.whl")
    return found


def run(*command: object, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_one_wheel_is_for_every_python_and_has_all_that_the_page_says() -> None:
    assert re.fullmatch(r"evbackup-[\d.]+-cp310-abi3-(manylinux_\d+_\d+|linux)_x86_64\.whl", wheel().name)
    names = set(zipfile.ZipFile(wheel()).namelist())
    share = f"evbackup-{wheel().name.split('-')[1]}.data/data/share"
    kept = {str(file.relative_to(ROOT / "python" / "installed" / "data" / "share")) for file in installed()}
    assert {f"{share}/{name}" for name in kept} == {name for name in names if name.startswith(share)}
    assert {"evbackup/py.typed", "evbackup/_evbackup.abi3.so", "evbackup/_evbackup.pyi", "evbackup/cli.py"} <= names
    collection = ROOT / "python" / "ansible_collections"
    modules = {str(file.relative_to(collection.parent)) for file in collection.glob("*/*/plugins/**/*.py")}
    assert modules
    assert modules <= names
    assert not [name for name in names if "/tests/" in name or name.endswith(".pyc")]


def installed() -> list[Path]:
    return [file for file in (ROOT / "python" / "installed").rglob("*") if file.is_file()]


def test_the_source_package_has_what_a_build_needs() -> None:
    (source,) = WHEELS.glob("evbackup-*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        links = [member.name for member in archive.getmembers() if member.issym() or member.islnk()]
    assert not links
    wanted = {"Cargo.toml", "Cargo.lock", "pyproject.toml", "README.md", "LICENSE", "src/lib.rs", "proto/build.rs"}
    wanted |= {"python/build_backend/evbuild.py"} | {str(file.relative_to(ROOT)) for file in installed()}
    assert wanted <= names


def test_there_is_a_python_to_try() -> None:
    assert PYTHONS


@pytest.mark.parametrize("minor", MINORS)
def test_it_installs_and_takes_a_backup(minor: int, tmp_path: Path) -> None:
    if minor not in PYTHONS:
        pytest.skip(f"there is no Python 3.{minor} here")
    environment = clean(tmp_path)
    run(PYTHONS[minor], "-m", "venv", "--without-pip", "venv", folder=tmp_path, environment=environment)
    bin_folder = tmp_path / "venv" / "bin"
    # The pip of the tests: making one for each environment would take longer than all the rest.
    pip = [sys.executable, "-m", "pip", "--python", bin_folder / "python", "install", "--quiet", "evbackup"]
    run(*pip, folder=tmp_path, environment=environment)
    command = bin_folder / "evbackup"
    run(command, "demo", "--dir", "sample", "--blocks", "20", folder=tmp_path, environment=environment)
    run(
        command,
        "backup",
        "./sample/node",
        "--output",
        "full.badger",
        "--quiet",
        folder=tmp_path,
        environment=environment,
    )
    said = run(command, "verify", "full.badger", "--quiet", folder=tmp_path, environment=environment)
    assert said.startswith("ok: 1 segment, ")
    script = "import evbackup; print(evbackup.verify(evbackup.backup('./sample/node', 'again.badger')).ok, evbackup.__file__)"
    said = run(bin_folder / "python", "-c", script, folder=tmp_path, environment=environment)
    assert said.startswith(f"True {tmp_path}")

    share = tmp_path / "venv" / "share"
    for shell, path in {"bash": "bash-completion/completions/evbackup", "zsh": "zsh/site-functions/_evbackup"}.items():
        assert run(command, "completion", shell, folder=tmp_path, environment=environment) == (share / path).read_text()
    asked = {**environment, "_EVBACKUP_COMPLETE": "bash_complete", "COMP_WORDS": "evbackup ver", "COMP_CWORD": "1"}
    assert run(command, folder=tmp_path, environment=asked).split() == ["plain,verify"]
    assert (share / "man" / "man1" / "evbackup-backup.1").read_text().startswith('.TH "EVBACKUP-BACKUP"')
    assert (share / "evbackup" / "systemd" / "evbackup@.service").exists()


@pytest.mark.timeout(2 * LIMIT_S)
def test_the_five_minutes_are_enough(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Plays the page in one shell, as its reader would, and nothing that it does not say."""
    page = read(PAGE)
    assert "in a fresh environment" in page.says
    commands: list[tuple[str, list[str]]] = []
    for fence in page.fences:
        assert not fence.skipped
        for line in fence.text.splitlines() if fence.language == "console" else []:
            if line.startswith("$ "):
                commands.append((line.removeprefix("$ "), []))
            else:
                commands[-1][1].append(line)
    said, reader = tmp_path / "said", tmp_path / "reader"
    said.mkdir()
    reader.mkdir()
    # Braces stay in the shell, so what one command sets the next one sees.
    script = "\n".join(
        f'{{ {command}\n}} >"{said}/{number}" 2>&1 || {{ echo "exit code $?" >>"{said}/{number}"; exit; }}'
        for number, (command, _) in enumerate(commands)
    )
    begun = time.monotonic()
    subprocess.run(
        ["/bin/bash", "-c", script],
        cwd=reader,
        env=clean(tmp_path, PYTHONS[sys.version_info[1]].parent),
        timeout=LIMIT_S,
        check=True,
    )
    for number, (command, expected) in enumerate(commands):
        found = (said / str(number)).read_text()
        assert not re.search(r"^exit code \d+$", found, re.MULTILINE), f"{command}\n{found}"
        assert not expected or matches("\n".join(expected), found), f"{command}\n{found}"
    record_property("seconds", round(time.monotonic() - begun))
    # The page cleans up.
    assert list(reader.iterdir()) == [reader / "evbackup"]
