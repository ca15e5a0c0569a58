"""The pages and the examples are run, and the reference pages are held against the code.

In a page, every fence of `python` and `console` runs, in order, in one folder and one namespace for the page; `node:7331` is a server
over a store that grows by a few blocks before each of them. Comments steer it, and show nowhere:

    <!-- test: with full.badger inc1.badger store -->   the page begins with these in its folder; `evnode`: /var/lib/evnode is a
                                                        node's home with the database evm-single
    <!-- test: skip: why -->                            the next fence does not run
    <!-- test: recorded -->                             what the page shows is real: times, digests and ids are compared as such, and
                                                        `make recording` writes the page anew
    <!-- test: in a fresh environment -->               `make test-wheel` plays the page, with the wheel in an environment of its own

`/var/lib/evnode`, `/srv/backups` and the home directory are elsewhere then; `sudo` asks nobody, and `systemctl` does nothing.

A `text` fence behind a `python` one is what that prints; in `console` the lines that do not begin with `$ ` are. `…` stands for
anything within a line, a line of `…` for any lines.
"""

import dataclasses
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import yaml

import evbackup
import reference
from evbackup import errors
from evbackup.cli import cli
from support import grow

ROOT = Path(__file__).parents[2]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NODE = "node:7331"
MORE_BLOCKS = 3
# Elsewhere when a page runs.
PLACES = ("/var/lib/evnode", "/srv/backups")
# Write the recorded pages instead of comparing them.
RECORD = "EVBACKUP_RECORD" in os.environ


class Fence(NamedTuple):
    """A fenced block of a page."""

    language: str
    line: int
    text: str
    skipped: bool


class Page(NamedTuple):
    """What a page has to run."""

    fences: list[Fence]
    given: list[str]
    says: set[str]


def read(path: Path) -> Page:
    fences: list[Fence] = []
    given: list[str] = []
    says: set[str] = set()
    skip = False
    language, begun, body = None, 0, list[str]()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if language is not None:
            if line.strip() == "```":
                fences.append(Fence(language, begun, "\n".join(body), skip))
                language, skip, body = None, False, []
            else:
                body.append(line)
        elif fence := re.match(r"^```(\w*)", line):
            language, begun = fence[1], number
        elif comment := re.match(r"^<!-- test: (with (.+)|skip: \S.+|recorded|in a fresh environment) -->$", line):
            skip = comment[1].startswith("skip")
            says.add(comment[1])
            given += (comment[2] or "").split()
        elif "<!-- test" in line:
            pytest.fail(f"{name_of(path)}:{number}: expected a comment as the docstring has them, found {line}")
    assert language is None, f"{name_of(path)}:{begun}: a fence without an end"
    return Page(fences, given, says)


# What differs from run to run.
VARYING = {
    r"\b\d{4}-\d\d-\d\dT[\d:.]+Z": "TIME",
    r"\b[0-9a-f]{16,}\b|(?<=CRC-32C )[0-9a-f]{8}": "HEX",
    r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b": "ID",
    r"(?<=elapsed_s)( +)[\d.e-]+": r"\1SECONDS",
    r"\b[\d.]+ s\b": "SECONDS",
    r"(?<=age=)[\d.]+": "SECONDS",
}


def steady(text: str) -> str:
    """A text without what differs from run to run."""
    for pattern, name in VARYING.items():
        text = re.sub(pattern, name, text)
    return text


def matches(expected: str, found: str) -> bool:
    lines = [
        r"(?:.*\n)*" if line == "…" else re.escape(line).replace("…", ".*") + r"\n"
        for line in expected.rstrip().splitlines()
    ]
    return re.fullmatch("".join(lines), found.rstrip() + "\n" if found.strip() else "") is not None


class Runner:
    """Runs the fences of one page."""

    def __init__(self, page: Path, folder: Path, machine: Path, address: str, *, recorded: bool) -> None:
        self.page = page
        self.recorded = recorded
        self.folder = folder
        self.machine = machine
        self.address = address
        self.names: dict[str, Any] = {"__name__": "page"}
        self.code = 0

    def python(self, fence: Fence, capsys: pytest.CaptureFixture[str]) -> str:
        # Padded, so that a traceback names the page and its line.
        code = "\n" * fence.line + self.here(fence.text)
        capsys.readouterr()
        exec(compile(code, str(self.page), "exec"), self.names)
        return self.there(capsys.readouterr().out)

    def here(self, text: str) -> str:
        """What a page says, with the places of this run."""
        for place in PLACES:
            text = text.replace(place, f"{self.machine}{place}")
        return text.replace(NODE, self.address).replace("python examples/", f"python {ROOT}/examples/")

    def there(self, text: str) -> str:
        """What a run says, with the places of the page."""
        for place in PLACES:
            text = text.replace(f"{self.machine}{place}", place)
        return text.replace(self.address, NODE)

    def console(self, fence: Fence) -> str:
        """Runs the commands; what a terminal shows."""
        said: list[str] = []
        commands: list[tuple[str, list[str]]] = []
        lines = iter(fence.text.splitlines())
        for line in lines:
            if line.startswith("$ "):
                command = line.removeprefix("$ ")
                while command.endswith("\\"):
                    command = command.removesuffix("\\") + next(lines).strip()
                commands.append((command, []))
            else:
                assert commands, f"{self.place(fence)}: expected a command first"
                commands[-1][1].append(line)
        for place, (command, expected) in enumerate(commands):
            done = subprocess.run(
                ["bash", "-c", f"(exit {self.code})\n{self.here(command)}"],
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=60,
                check=False,
            )
            self.code = done.returncode
            asked = place + 1 < len(commands) and commands[place + 1][0] == "echo $?"
            found = self.there(done.stdout)
            assert asked or self.code == 0, f"{self.place(fence)}: {command}\nexit code {self.code}\n{found}"
            said += [f"$ {command}", *found.splitlines()]
            if expected and not RECORD:
                shown = "\n".join(expected)
                if self.recorded:
                    shown, found = steady(shown), steady(found)
                assert matches(shown, found), f"{self.place(fence)}: {command}\nexpected:\n{shown}\nfound:\n{found}"
        return "\n".join(said)

    def place(self, fence: Fence) -> str:
        return f"{name_of(self.page)}:{fence.line}"


@pytest.fixture
def command_in_path(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command `evbackup` is that of this very package."""
    folder = tmp_path_factory.mktemp("bin")
    programs = {
        "evbackup": f'exec "{sys.executable}" -m evbackup "$@"',
        "python": f'exec "{sys.executable}" "$@"',
        "sudo": 'exec "$@"',
        "systemctl": "",
    }
    for name, does in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


class Grown(NamedTuple):
    """A store that goes on growing, and where it is served."""

    store: Path
    address: str


@pytest.fixture
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grown]:
    """What the pages call a node."""
    store = tmp_path_factory.mktemp("node") / "node"
    grow(store, 60)
    with evbackup.serve(store, "127.0.0.1:0") as server:
        yield Grown(store, server.address)


@pytest.fixture
def machine(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the absolute paths of a page begin; the page itself is in a folder of its own."""
    machine = tmp_path_factory.mktemp("machine")
    (machine / "srv" / "backups").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(machine))
    monkeypatch.chdir(tmp_path)
    return machine


def provide(wanted: list[str], grown: Grown, folder: Path, machine: Path) -> None:
    """The files that a page takes as given."""
    segments: list[evbackup.Backup] = []
    for file in [file for file in wanted if file.endswith(".badger")]:
        since = segments[-1] if segments else 0
        segments.append(evbackup.backup(grown.address, folder / file, since=since))
        grow(grown.store, MORE_BLOCKS)
    if "store" in wanted:
        evbackup.restore(segments[0], folder / "store", engine="rocksdb")
    if "evnode" in wanted:
        home = machine / "var" / "lib" / "evnode"
        (home / "config").mkdir(parents=True)
        (home / "config" / "evnode.yaml").write_text(f"db_path: data\nrpc:\n  address: {grown.address}\n")
        (home / "data").mkdir()
        evbackup.restore(segments[0] if segments else grown.store, home / "data" / "evm-single")


@pytest.mark.usefixtures("command_in_path")
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_shows_is_so(
    page: Path,
    tmp_path: Path,
    machine: Path,
    grown: Grown,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fences, given, says = read(page)
    if "in a fresh environment" in says or not any(
        fence.language in {"python", "console"} and not fence.skipped for fence in fences
    ):
        return
    provide(given, grown, tmp_path, machine)
    runner = Runner(page, tmp_path, machine, grown.address, recorded="recorded" in says)
    printed: str | None = None
    for fence in fences:
        if fence.skipped:
            printed = None
        elif fence.language == "python":
            grow(grown.store, MORE_BLOCKS)
            printed = runner.python(fence, capsys)
        elif fence.language == "console":
            grow(grown.store, MORE_BLOCKS)
            said = runner.console(fence)
            if RECORD and runner.recorded:
                page.write_text(page.read_text().replace(f"\n{fence.text}\n", f"\n{said}\n", 1))
        elif fence.language == "text" and printed is not None:
            assert matches(fence.text, printed), f"{runner.place(fence)}: expected:\n{fence.text}\nfound:\n{printed}"
            printed = None
        elif fence.language == "json":
            json.loads(fence.text)


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_an_example_runs(example: Path, grown: Grown, tmp_path: Path) -> None:
    arguments = {
        "backup_and_verify.py": [grown.address, "full.badger"],
        "nightly_chain.py": [grown.address, "backups"],
        "asyncio_backup.py": ["backups", grown.address, grown.address],
    }[example.name]

    def run() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, example, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )

    done = run()
    assert done.returncode == 0, done.stderr
    if example.name == "nightly_chain.py":
        assert "full: " in done.stdout
        for length in (2, 3):
            grow(grown.store, MORE_BLOCKS)
            done = run()
            assert done.returncode == 0, done.stderr
            assert f"chain of {length}: " in done.stdout
    else:
        # What is there is not replaced, and the example says so with the right code.
        assert run().returncode == evbackup.ExistsError.exit_code


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", plain, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{name_of(page)}: {link}"
        if anchor:
            assert anchor in anchors(target.read_text()), f"{name_of(page)}: {link}"


def test_every_page_is_linked_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    pages = {page.resolve() for page in (ROOT / "docs").rglob("*.md")} - {index.resolve()}
    assert pages <= linked, f"list in docs/index.md: {sorted(name_of(page) for page in pages - linked)}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_has_one_title_and_no_step_of_its_making(page: Path) -> None:
    text = page.read_text()
    plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    assert len(re.findall(r"^# ", plain, flags=re.MULTILINE)) == 1
    assert not re.search(r"\bissue \d|\bissue #\d|/root/|/tmp/wt|\bTODO\b|\bTBD\b", text, flags=re.IGNORECASE)


GENERATED = reference.everything()


@pytest.mark.parametrize("path", GENERATED, ids=name_of)
def test_what_is_generated_is_what_the_code_says(path: Path) -> None:
    assert path.read_text() == GENERATED[path], "run `make reference`"


def test_an_option_that_no_page_has_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "reference" / "cli.md"
    verify = cli.commands["verify"]
    monkeypatch.setattr(verify, "params", [*verify.params, click.Option(["--new"], help="What it is.")])
    assert "| `--new TEXT` | – | What it is. |" in reference.written(page.read_text())


def doc(page: str) -> str:
    return (ROOT / "docs" / page).read_text()


def rows(page: str) -> list[list[str]]:
    """The rows of all tables of a page."""
    lines = [line for line in doc(page).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_every_error_has_its_row() -> None:
    table = {row[0]: row for row in rows("errors.md")}
    for each in errors.__all__:
        error = getattr(errors, each)
        if error is errors.EvbackupError:
            continue
        row = table[f"`{each}`"]
        parents = [f"`{parent.__name__}`" for parent in error.__bases__ if parent is not errors.EvbackupError]
        assert row[1:4] == [f"`{error.code}`", " ".join(parents), str(error.exit_code)]
        assert f"## {each}" in doc("errors.md")


def finding_codes() -> set[str]:
    """The codes that the sources give findings: literal, or chosen between literals."""
    sources = [
        ROOT / "src" / "verify.rs",
        *(ROOT / "src" / "verify").glob("*.rs"),
        ROOT / "src" / "evnode" / "chain" / "finding.rs",
        *(ROOT / "src" / "flow").glob("*.rs"),
    ]
    text = "\n".join(source.read_text().split("#[cfg(test)]")[0] for source in sources)
    patterns = (
        r"Finding::(?:damage|warning|info|from_error)\(\s*\"([a-z-]+)\"",
        r"Finding::new\([\w:]+,\s*\"([a-z-]+)\"",
        r"\.differs\(\s*\"([a-z-]+)\"",
        r"\(\s*\"([a-z-]+)\", (?:format!|\"[a-z ]+\", )",
        r"(?:Part|Rule)::\w+ => \"([a-z-]+)\"",
        r"\{ \"([a-z-]+)\" \} else \{ \"[a-z-]+\" \}",
        r"\{ \"[a-z-]+\" \} else \{ \"([a-z-]+)\" \}",
    )
    codes = {code for pattern in patterns for code in re.findall(pattern, text)}
    return codes - {"pass"}


def test_every_finding_has_its_row() -> None:
    listed = {row[0].strip("`") for row in rows("errors.md") if len(row) > 1 and row[1] in LEVELS}
    assert listed == finding_codes()


LEVELS = {"error", "warning", "info", "error or warning", "error or info", "info or warning"}


def test_exit_codes_are_listed() -> None:
    codes = {row[0] for row in rows("reference/exit-codes.md")}
    wanted = {"0", "1", "2", "130", "143"} | {
        str(getattr(errors, each).exit_code) for each in errors.__all__ if each != "EvbackupError"
    }
    assert wanted <= codes


def test_the_python_reference_is_whole() -> None:
    text = doc("reference/python.md")
    for each in evbackup.__all__:
        assert f"`{each}" in text or f"## {each}\n" in text, each
        thing = getattr(evbackup, each)
        if inspect.isfunction(thing) and not each.endswith("_async"):
            section = re.split(r"^## ", text.split(f"## {each}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
            for parameter in inspect.signature(thing).parameters.values():
                assert f"`{parameter.name}`" in section, f"{each}: {parameter.name}"
                if parameter.default is not parameter.empty:
                    shown = json.dumps(parameter.default) if isinstance(parameter.default, str) else parameter.default
                    assert f"{parameter.name}={shown}" in section, f"{each}: {parameter.name}={shown}"
    for cls in (evbackup.Datastore, evbackup.Server, evbackup.Report, evbackup.Result):
        # Fields are in the page of the results.
        listed = {field.name for field in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
        for member in vars(cls).keys() - listed:
            if not member.startswith("_"):
                assert f"{member}" in text, f"{cls.__name__}.{member}"


def test_the_command_line_reference_is_whole() -> None:
    text = doc("reference/cli.md")
    context = click.Context(cli)
    for command in cli.list_commands(context):
        found = cli.get_command(context, command)
        assert found is not None
        section = text.split(f"## evbackup {command}\n")[1].split("\n## ")[0]
        for option in found.params:
            for flag in option.opts if isinstance(option, click.Option) else []:
                assert f"`{flag}" in section or f" {flag}`" in section, f"{command} {flag}"


RESULTS = [
    thing
    for thing in (getattr(evbackup, each) for each in evbackup.__all__)
    if isinstance(thing, type) and issubclass(thing, evbackup.Result) and thing is not evbackup.Result
]


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: result.__name__)
def test_every_field_of_a_result_is_listed(result: type[evbackup.Result]) -> None:
    section = doc("reference/results-json.md").split(f"## {result.__name__}\n")[1].split("\n## ")[0]
    listed = set(re.findall(r"^\| `(\w+)`", section, flags=re.MULTILINE))
    assert listed == {field.name for field in dataclasses.fields(result)}


def test_every_field_of_a_manifest_is_listed(chain: list[evbackup.Backup]) -> None:
    listed = set(re.findall(r"^\| `([\w.\[\]]+)`", doc("reference/manifest.md"), flags=re.MULTILINE))

    def names(value: dict[str, Any], prefix: str = "") -> Iterator[str]:
        for field, inner in value.items():
            yield prefix + field
            if isinstance(inner, dict):
                yield from names(inner, f"{prefix}{field}.")
            elif isinstance(inner, list) and inner and isinstance(inner[0], dict):
                yield from names(inner[0], f"{prefix}{field}[].")

    assert chain[-1].path is not None
    manifest = json.loads(Path(f"{chain[-1].path}.json").read_text())
    assert listed == set(names(manifest))


COLLECTION = ROOT / "python" / "ansible_collections" / "evbackup" / "ops"


def listed_in(section: str) -> set[str]:
    return set(re.findall(r"^\| `([\w.]+)`", section, flags=re.MULTILINE))


@pytest.mark.parametrize(
    "module", sorted((COLLECTION / "plugins" / "modules").glob("*.py")), ids=lambda path: path.stem
)
def test_every_option_and_result_of_a_module_is_listed(module: Path) -> None:
    def documented(path: Path, name: str) -> Any:
        found = re.search(rf'{name} = r"""\n(.*?)"""', path.read_text(), re.DOTALL)
        assert found is not None
        return yaml.safe_load(found[1])

    said = documented(module, "DOCUMENTATION")
    options = dict(said["options"])
    for fragment in said["extends_documentation_fragment"]:
        # Such as evbackup.ops.transport; one of attributes has none.
        file = COLLECTION / "plugins" / "doc_fragments" / f"{fragment.split('.')[2]}.py"
        options |= documented(file, "DOCUMENTATION")["options"]
    wanted = set(options) | set(documented(module, "RETURN"))
    wanted |= {f"{name}.{inner}" for name, option in options.items() for inner in option.get("suboptions", {})}
    section = doc("reference/ansible.md").split(f"## {module.stem}\n")[1].split("\n## ")[0]
    assert listed_in(section) == wanted


@pytest.mark.parametrize("role", ["evbackup", "server"])
def test_every_variable_of_a_role_is_listed(role: str) -> None:
    specification = yaml.safe_load((COLLECTION / "roles" / role / "meta" / "argument_specs.yml").read_text())
    options = specification["argument_specs"]["main"]["options"]
    wanted = set(options)
    wanted |= {f"{name}.{inner}" for name, option in options.items() for inner in option.get("options", {})}
    assert listed_in(doc("reference/ansible.md").split(f"## Role {role}\n")[1].split("\n## ")[0]) == wanted
    defaults = yaml.safe_load((COLLECTION / "roles" / role / "defaults" / "main.yml").read_text())
    shared = {"evbackup_systemd"} if role == "server" else set()
    assert set(defaults) | shared >= {name for name, option in options.items() if not option.get("required")}
