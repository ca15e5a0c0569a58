"""The collection: its example playbooks against two servers, run as a user runs it; check mode touches nothing, a second run changes
nothing."""

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import evbackup
from support import BLOCKS, ROOT, TOKEN, grow

pytest.importorskip("ansible", reason="ansible-core is missing: make .venv/ansible")

COLLECTION = ROOT / "python" / "ansible_collections" / "evbackup" / "ops"
SYSTEMD = ROOT / "examples" / "systemd"
PLAYS = ROOT / "examples" / "ansible"
EVBACKUP = (sys.executable, "-m", "evbackup")
GUIDE = (ROOT / "docs" / "guides" / "ansible.md").read_text()
PROGRAM = Path(sys.executable).with_name("ansible-playbook")


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Two servers over stores of their own, each with a log; their addresses."""
    running: list[subprocess.Popen[str]] = []
    addresses: dict[str, str] = {}
    (tmp_path / "nodes").mkdir()
    try:
        for number, name in enumerate(("first", "second")):
            grow(tmp_path / "nodes" / name, BLOCKS + number)
            with (tmp_path / f"{name}.log").open("w") as log:
                server = subprocess.Popen(
                    [*EVBACKUP, "-v", "serve", tmp_path / "nodes" / name, "--listen", "127.0.0.1:0", "--json"],
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
            running.append(server)
            assert server.stdout is not None
            addresses[name] = json.loads(server.stdout.readline())["address"]
        yield addresses
    finally:
        for server in running:
            server.terminate()
        for server in running:
            server.wait(20)
            assert server.stdout is not None
            server.stdout.close()


def play(
    folder: Path, addresses: dict[str, str], *options: str, book: str = "backup_and_drill.yml"
) -> dict[str, dict[str, int]]:
    """Runs the playbook; what it says of each host."""
    folder.mkdir(exist_ok=True)
    inventory = folder.with_name("inventory.json")
    shared = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "backup_root": str(folder)}
    hosts = {name: {"node_addr": address} for name, address in addresses.items()}
    inventory.write_text(json.dumps({"nodes": {"hosts": hosts, "vars": shared}}))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
        "ANSIBLE_HOME": str(folder.with_name("ansible")),
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        [PROGRAM, "-i", inventory, *options, PLAYS / book],
        cwd=folder.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    folder.with_name("said").write_text(done.stdout)
    return dict(recaps(done.stdout.split("PLAY RECAP")[1]))


def recaps(text: str) -> list[tuple[str, dict[str, int]]]:
    """Each host and what a recap counts of it."""
    lines = (line.split(":", 1) for line in text.splitlines() if re.search(r" : ok=\d", line))
    return [
        (host.strip(), {name: int(count) for name, count in (part.split("=") for part in counts.split())})
        for host, counts in lines
    ]


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


@pytest.mark.timeout(300)
def test_two_nodes_are_backed_up_proven_and_drilled(nodes: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()

    def asked() -> list[int]:
        return [(tmp_path / f"{name}.log").read_text().count("backup begins") for name in nodes]

    planned = play(folder, nodes, "--check", "--diff")
    assert all(host["changed"] > 0 for host in planned.values())
    assert "a new segment at" in (tmp_path / "said").read_text()
    assert (tree(folder), asked()) == ({}, [0, 0])

    made = play(folder, nodes)
    assert all(host["changed"] == 3 for host in made.values()), made
    assert asked() == [1, 1]
    for number, name in enumerate(nodes):
        assert len(list((folder / name).glob("*-full.badger"))) == 1
        drilled = evbackup.inspect(folder / "drill" / name)
        assert drilled.tip_height == BLOCKS + number
    before = tree(folder)

    again = play(folder, nodes)
    assert {name: host["changed"] for name, host in again.items()} == {"first": 0, "second": 0}
    # What the guide shows of the two runs.
    assert recaps(GUIDE) == [*made.items(), *again.items()]
    checked = play(folder, nodes, "--check", "--diff")
    assert {name: host["changed"] for name, host in checked.items()} == {"first": 0, "second": 0}
    assert tree(folder) == before
    assert asked() == [1, 1]


@pytest.mark.timeout(300)
def test_the_snippets_of_the_guide_run(tmp_path: Path) -> None:
    snippets = re.findall(r"^```yaml\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    folder = tmp_path / "backups"
    (folder / "first").mkdir(parents=True)
    for name in ("node", "foreign"):
        grow(tmp_path / name, BLOCKS)
    address = "127.0.0.1:0"

    def here(text: str) -> str:
        there = {"/opt/evbackup/bin/python": sys.executable, "/srv/backups": str(folder), "127.0.0.1:7331": address}
        for said, meant in there.items():
            text = text.replace(said, meant)
        return text

    def run(tasks: str) -> tuple[int, int]:
        book = tmp_path / "snippet.yml"
        hosts = {"hosts": "nodes", "gather_facts": False, "connection": "local"}
        book.write_text(json.dumps([{**hosts, "tasks": yaml.safe_load(here(tasks))}]))
        (found,) = play(folder, {}, "-i", str(tmp_path / "guide.yml"), book=str(book)).values()
        return (found["changed"], found["rescued"])

    inventory, continued, rescued = snippets
    (tmp_path / "guide.yml").write_text(here(inventory))
    with evbackup.serve(tmp_path / "node", address) as server:
        address = server.address
        assert [run(continued), run(continued)] == [(1, 0), (0, 0)]
        assert run(rescued) == (1, 0)
    # What is at the address now does not fit the chain, so that a new one begins.
    with evbackup.serve(tmp_path / "foreign", address):
        assert run(rescued) == (1, 1)
    kinds = sorted(str(evbackup.inspect(path).as_dict()["kind"]) for path in (folder / "first").glob("*.badger"))
    assert kinds == ["full", "full", "inc"]


@pytest.mark.timeout(300)
def test_another_chain_of_the_same_height_is_another_datastore(tmp_path: Path) -> None:
    released = evbackup.inspect(ROOT / "tests" / "golden" / "evnode-f" / "full.badger")
    grow(tmp_path / "store", released.tip_height)
    evbackup.restore(tmp_path / "store", tmp_path / "copy", engine="rocksdb")
    given = {"paths": [str(released.path)], "dest": str(tmp_path / "copy"), "engine": "rocksdb", "overwrite": True}
    tasks = [
        {"evbackup.ops.restore": {**given, "compare": "height", **more}, "check_mode": True}
        for more in ({}, {"at_height": released.tip_height})
    ]
    book = tmp_path / "other.yml"
    book.write_text(json.dumps([{"hosts": "nodes", "gather_facts": False, "tasks": tasks}]))
    assert play(tmp_path / "backups", {"first": ""}, book=str(book))["first"]["changed"] == 2


def installed_in(there: Path) -> dict[str, object]:
    """What root would install is installed there; this very environment stands for the one that the roles make."""
    import grp  # noqa: PLC0415
    import pwd  # noqa: PLC0415

    user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    return {
        "evbackup_venv": sys.prefix,
        "evbackup_link": str(there / "evbackup"),
        "evbackup_config_dir": str(there),
        "evbackup_unit_dir": str(there),
        "evbackup_metrics_dir": str(there),
        "evbackup_create_user": False,
        "evbackup_user": user,
        "evbackup_group": group,
        "evbackup_server_user": user,
        "evbackup_server_group": group,
        "evbackup_systemd": False,
    }


def confined(unit: str) -> dict[str, str]:
    """How a unit confines its service, and how it asks for the machine; not what it runs, and where that may read and write."""
    lines = (line.partition("=") for line in unit.partition("[Service]")[2].partition("[Install]")[0].splitlines())
    of_its_own = {"User", "Group", "ExecStart", "LoadCredential", "SuccessExitStatus"}
    where = {"ReadOnlyPaths", "ReadWritePaths", "CacheDirectory", "StateDirectory", "StateDirectoryMode", "ProtectHome"}
    return {
        name: value for name, equals, value in lines if equals and name[0] != "#" and name not in of_its_own | where
    }


@pytest.mark.timeout(300)
def test_nodes_get_a_configuration_and_a_timer(nodes: dict[str, str], tmp_path: Path) -> None:
    folder, there = tmp_path / "backups", tmp_path / "there"
    for made in (folder, there):
        made.mkdir()
    variables = {**installed_in(there), "node_token": TOKEN}
    options = ("-v", "-e", json.dumps(variables))

    def run(*more: str) -> dict[str, int]:
        found = play(folder, {"first": nodes["first"]}, *options, *more, book="install.yml")
        assert TOKEN not in (tmp_path / "said").read_text()
        return found["first"]

    assert run("--check")["changed"] > 0
    assert tree(there) == tree(folder) == {}
    assert run()["changed"] > 0
    assert sorted(path.name for path in there.iterdir()) == [
        "evbackup",
        "evbackup-first.service",
        "evbackup-first.timer",
        "evbackup-verify-first.service",
        "evbackup-verify-first.timer",
        "first.token",
        "first.toml",
    ]
    for written, shipped in (("evbackup-first", "evbackup@"), ("evbackup-verify-first", "evbackup-verify@")):
        unit = (there / f"{written}.service").read_text()
        assert confined(unit) == confined((SYSTEMD / f"{shipped}.service").read_text())
        assert re.search(r"^ProtectHome=(yes|read-only)$", unit, re.MULTILINE)
        timers = [path.read_text() for path in (there / f"{written}.timer", SYSTEMD / f"{shipped}.timer")]
        assert len({tuple(re.findall(r"^(?!#|Desc)\S+=.*$", timer, re.MULTILINE)) for timer in timers}) == 1
    assert run()["changed"] == 0
    for verb in ("backup", "verify"):
        done = subprocess.run([there / "evbackup", "--config", there / "first.toml", verb], timeout=60, check=False)
        assert done.returncode == 0
    assert len(list((folder / "first").glob("*-full.badger"))) == 1


def serve(folder: Path, **variables: object) -> dict[str, int]:
    """Applies the role of the server, with everything below a folder."""
    there = folder / "there"
    there.mkdir(exist_ok=True)
    book = folder / "serve.yml"
    given = {**installed_in(there), "evbackup_server_name": "first", **variables}
    roles = [{"role": "evbackup.ops.server"}]
    book.write_text(json.dumps([{"hosts": "nodes", "gather_facts": False, "vars": given, "roles": roles}]))
    return play(folder / "backups", {"first": ""}, "-vvv", book=str(book))["first"]


@pytest.mark.timeout(300)
def test_a_server_gets_a_configuration_and_a_unit(tmp_path: Path) -> None:
    def run(**config: object) -> dict[str, int]:
        return serve(tmp_path, evbackup_server_config=config)

    def unit() -> str:
        return (tmp_path / "there" / "evbackup-serve-first.service").read_text()

    def lines() -> set[str]:
        return set(unit().splitlines())

    given = {"home": "/home/evnode/.evm", "database": "evm-single", "listen": "127.0.0.1:7332"}
    assert run(**given)["changed"] > 0
    assert run(**given)["changed"] == 0
    shipped = (SYSTEMD / "evbackup-serve@.service").read_text()
    assert confined(unit()) == confined(shipped)
    expected = {"ReadOnlyPaths=/home/evnode/.evm", "ProtectHome=read-only", "CacheDirectory=evbackup-serve-first"}
    assert expected <= lines()
    assert any(line.endswith(" serve --staging %C/evbackup-serve-first") for line in lines())
    run(path="/var/lib/evnode/data/evm-single", staging="/srv/staging")
    assert {"ReadWritePaths=/srv/staging", "ReadOnlyPaths=/var/lib/evnode/data/evm-single"} <= lines()
    assert not any("--staging" in line or line.startswith("CacheDirectory") for line in lines())
    before = tree(tmp_path / "there")
    with pytest.raises(AssertionError, match="nonsense"):
        run(nonsense=1)
    with pytest.raises(AssertionError, match="missing required arguments: evbackup_server_config"):
        serve(tmp_path)
    assert tree(tmp_path / "there") == before


def package(folder: Path, version: str) -> Path:
    """A wheel of that version in which the command does nothing."""
    path = folder / f"evbackup-{version}-py3-none-any.whl"
    info = f"evbackup-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("evbackup_stub.py", "def main():\n    pass\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: evbackup\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\nevbackup = evbackup_stub:main\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.mark.timeout(300)
def test_another_version_restarts_the_server(tmp_path: Path) -> None:
    secret = "--find-links=https://user:pa55@index.example.org"

    def run(version: str) -> bool:
        installed = {
            "evbackup_venv": str(tmp_path / "venv"),
            "evbackup_python": sys.executable,
            "evbackup_pip_extra_args": f"--no-index {secret}",
            "evbackup_package": str(package(tmp_path, version)),
        }
        serve(tmp_path, evbackup_server_config={"home": "/var/lib/evnode"}, **installed)
        said = (tmp_path / "said").read_text()
        assert "pa55" not in said
        return "RUNNING HANDLER [evbackup.ops.server : Restart the server]" in said

    assert [run(version) for version in ("1.0", "1.0", "2.0")] == [True, False, True]


def test_the_collection_has_the_version_of_the_package() -> None:
    galaxy = yaml.safe_load((COLLECTION / "galaxy.yml").read_text())
    assert (galaxy["namespace"], galaxy["name"], galaxy["version"]) == ("evbackup", "ops", evbackup.__version__)
    runtime = yaml.safe_load((COLLECTION / "meta" / "runtime.yml").read_text())
    modules = sorted(path.stem for path in (COLLECTION / "plugins" / "modules").glob("*.py"))
    assert runtime["action_groups"]["all"] == modules


def test_ansible_finds_the_collection_with_no_path_set(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("ansible-doc")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"ANSIBLE_HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    for kind, names in (("module", ("backup", "restore")), ("role", ("evbackup", "server"))):
        listed = subprocess.run(
            [program, "-t", kind, "-l", "evbackup.ops"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert all(f"evbackup.ops.{name}" in listed.stdout for name in names)
