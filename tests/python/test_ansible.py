"""The collection: its example playbooks against two servers, run as a user runs it; check mode touches nothing, a second run changes
nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import evbackup
from support import BLOCKS, ROOT, TOKEN, grow

pytest.importorskip("ansible", reason="ansible-core is missing: make .venv/ansible")

COLLECTION = ROOT / "python" / "ansible_collections" / "evbackup" / "ops"
PLAYS = ROOT / "examples" / "ansible"
EVBACKUP = (sys.executable, "-m", "evbackup")
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
    recap = [line for line in done.stdout.split("PLAY RECAP")[1].splitlines() if " : " in line]
    found = {
        line.split()[0]: {
            name: int(count) for name, count in (part.split("=") for part in line.split(":", 1)[1].split())
        }
        for line in recap
    }
    folder.with_name("said").write_text(done.stdout)
    return found


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
    checked = play(folder, nodes, "--check", "--diff")
    assert {name: host["changed"] for name, host in checked.items()} == {"first": 0, "second": 0}
    # The drilled stores are opened to be compared, which leaves marks of their engine; the backups are as they were.
    assert {name: facts for name, facts in tree(folder).items() if not name.startswith("drill/")} == {
        name: facts for name, facts in before.items() if not name.startswith("drill/")
    }
    assert asked() == [1, 1]


@pytest.mark.timeout(300)
def test_nodes_get_a_configuration_and_a_timer(nodes: dict[str, str], tmp_path: Path) -> None:
    import grp  # noqa: PLC0415
    import pwd  # noqa: PLC0415

    folder, there = tmp_path / "backups", tmp_path / "there"
    for made in (folder, there):
        made.mkdir()
    # What root would install is installed here; this very environment stands for the one that the role makes.
    variables = {
        "evbackup_venv": sys.prefix,
        "evbackup_link": str(there / "evbackup"),
        "evbackup_config_dir": str(there),
        "evbackup_unit_dir": str(there),
        "evbackup_metrics_dir": str(there),
        "evbackup_create_user": False,
        "evbackup_user": pwd.getpwuid(os.getuid()).pw_name,
        "evbackup_group": grp.getgrgid(os.getgid()).gr_name,
        "evbackup_systemd": False,
        "node_token": TOKEN,
    }
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
        "first.token",
        "first.toml",
    ]
    assert run()["changed"] == 0
    done = subprocess.run([there / "evbackup", "--config", there / "first.toml", "backup"], timeout=60, check=False)
    assert done.returncode == 0
    assert len(list((folder / "first").glob("*-full.badger"))) == 1


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
