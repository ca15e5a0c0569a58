"""Writes the parts of the reference pages that say what the code says: `make reference`.

The parts stand in the pages between `<!-- generated: NAME -->` and `<!-- end -->`, so that the pages are whole in the repository, too.
What is written comes from docstrings and signatures, from the options of the command line and from the documentation that Ansible's modules
and roles carry. So do the manual pages and completion scripts of the wheel. Whoever adds an option writes its meaning there and runs `make reference`; a test fails where a page says something else.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import textwrap
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

import evbackup
import installed
from evbackup import _metrics
from evbackup.cli import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

DOCS = Path(__file__).parent
COLLECTION = DOCS.parent / "python" / "ansible_collections" / "evbackup" / "ops"
WIDTH = 84
PART = re.compile(r"(?P<begin><!-- generated: (?P<name>[a-z-]+) -->\n)(?P<text>.*?)(?P<end><!-- end -->\n)", re.DOTALL)

Row = tuple[str, ...]


def table(head: Row, rows: Iterable[Row]) -> str:
    """A table; nothing where there are no rows."""
    lines = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *lines]) if lines else ""


def section(title: str, *parts: str) -> str:
    """A heading and what stands below it."""
    return "\n\n".join([f"## {title}", *filter(None, parts)])


def fence(text: str) -> str:
    """A block of plain text."""
    return f"```text\n{text}\n```"


# --- Python --------------------------------------------------------------------------------------------------------------

# The verbs in the order of their use; what is not here comes behind them.
VERBS = ("backup", "verify", "restore", "align", "apply", "inspect", "digest", "open", "serve")
HANDLES = (evbackup.Datastore, evbackup.Table, evbackup.Server)
RECORDS = (evbackup.Entry, evbackup.Tls, evbackup.Progress)


@dataclass(frozen=True)
class Docstring:
    """A docstring in its parts, as Google writes them."""

    text: str
    listed: dict[str, dict[str, str]]
    said: dict[str, str]

    @classmethod
    def of(cls, thing: object) -> Docstring:
        """That of a function, a property or a class."""
        head, *rest = re.split(
            r"^(Args|Attributes|Returns|Yields|Raises|Example):\n", inspect.getdoc(thing) or "", flags=re.MULTILINE
        )
        parts = {name: textwrap.dedent(body).strip() for name, body in zip(rest[::2], rest[1::2], strict=True)}
        listed = {name: cls._items(parts[name]) for name in ("Args", "Attributes", "Raises") if name in parts}
        text = "\n\n".join(map(_joined, head.strip().split("\n\n")))
        return cls(text, listed, {name: _joined(text) for name, text in parts.items() if name not in listed})

    @staticmethod
    def _items(text: str) -> dict[str, str]:
        items = re.findall(r"^(\w+): ((?:.|\n(?=[ \n]))+)", text, flags=re.MULTILINE)
        return {name: _joined(meaning) for name, meaning in items}


def _joined(text: str) -> str:
    """One line: a page wraps it itself."""
    return " ".join(text.split())


def signature(name: str, thing: Callable[..., object]) -> str:
    """As it is called: names, defaults, and what it returns."""
    asked = inspect.signature(thing)
    words, starred = [], False
    for parameter in asked.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            words.append("*")
            starred = True
        default = "" if parameter.default is parameter.empty else f"={_literal(parameter.default)}"
        words.append(parameter.name + default)
    returned = asked.return_annotation
    behind = "" if returned is asked.empty else f" -> {returned if isinstance(returned, str) else returned.__name__}"
    line = f"{name}({', '.join(words)}){behind}"
    if len(line) <= WIDTH:
        return line
    wrapped = textwrap.wrap(
        ", ".join(words) + ",", WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
    )
    return "\n".join([f"{name}(", *wrapped, f"){behind}"])


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def verbs() -> str:
    """Each function: how it is called, what it takes, returns and raises."""
    public = [
        name for name in evbackup.__all__ if inspect.isfunction(getattr(evbackup, name)) and not name.endswith("_async")
    ]
    ordered = sorted(public, key=lambda name: (VERBS.index(name) if name in VERBS else len(VERBS), name))
    return "\n\n".join(_verb(name, getattr(evbackup, name)) for name in ordered)


def _verb(name: str, function: Callable[..., object]) -> str:
    told = Docstring.of(function)
    return section(
        name,
        fence(signature(name, function)),
        told.text,
        table(("Argument", "Meaning"), _listed(told, "Args")),
        f"Returns: {told.said['Returns']}" if "Returns" in told.said else "",
        table(("Raises", "When"), _listed(told, "Raises")),
    )


def _listed(told: Docstring, part: str) -> Iterator[Row]:
    return ((f"`{name}`", meaning) for name, meaning in told.listed.get(part, {}).items())


def classes() -> str:
    """What is opened or passed: members of handles, fields of records."""
    handles = (section(each.__name__, Docstring.of(each).text, members(each)) for each in HANDLES)
    records = (
        section(
            each.__name__,
            Docstring.of(each).text,
            table(("Field", "Meaning"), _listed(Docstring.of(each), "Attributes")),
        )
        for each in RECORDS
    )
    return "\n\n".join([*handles, *records])


def members(cls: type) -> str:
    """The public methods and properties of a class, and those of its bases that have no section of their own."""
    own = [base for base in cls.__mro__ if base is cls or (not hasattr(evbackup, base.__name__) and base is not object)]

    def rows() -> Iterator[Row]:
        yield from _listed(Docstring.of(cls), "Attributes") if not is_dataclass(cls) else ()
        for name, member in ((name, member) for each in own for name, member in vars(each).items()):
            if name.startswith("_") or not (inspect.isfunction(member) or isinstance(member, property)):
                continue
            told = Docstring.of(member)
            arguments = "".join(f" `{each}`: {meaning}" for each, meaning in told.listed.get("Args", {}).items())
            raised = "".join(f" `{each}`: {meaning}" for each, meaning in told.listed.get("Raises", {}).items())
            called = name if isinstance(member, property) else signature(name, member)
            yield f"`{called}`", _joined(told.text) + arguments + raised

    return table(("Member", "Meaning"), rows())


def report() -> str:
    """What a report has besides its fields."""
    return members(evbackup.Report)


# --- Results as JSON -----------------------------------------------------------------------------------------------------

JSON_TYPES = {
    "str": "string",
    "int": "number",
    "float": "number",
    "bool": "boolean",
    "Path": "string",
    "None": "null",
    "bytes": "hex string",
    "tuple[int, int]": "list of two numbers",
    "tuple[int, str]": "list of a number and a text",
    "dict": "object",
}


def results() -> str:
    """Each result: its fields as JSON types."""
    kinds = (getattr(evbackup, name) for name in _results_in_order())
    return "\n\n".join(
        section(kind.__name__, Docstring.of(kind).text, table(("Field", "Type", "Meaning"), _fields(kind)))
        for kind in kinds
    )


def _results_in_order() -> list[str]:
    """As the verbs return them; what they contain behind."""
    kinds = [name for name in evbackup.__all__ if _is_result(getattr(evbackup, name))]
    first = (
        "Backup",
        "Report",
        "Asked",
        "Finding",
        "Restored",
        "Applied",
        "Segment",
        "DatastoreInfo",
        "AppliedSegment",
    )
    return sorted(kinds, key=lambda name: (first.index(name) if name in first else len(first), name))


def _is_result(thing: object) -> bool:
    return (
        isinstance(thing, type)
        and is_dataclass(thing)
        and issubclass(thing, evbackup.Result)
        and thing is not evbackup.Result
    )


def _fields(kind: type[Any]) -> Iterator[Row]:
    # What a class inherits is told where it stands.
    told = [Docstring.of(each).listed.get("Attributes", {}) for each in reversed(kind.__mro__[:-1])]
    meanings = {name: meaning for attributes in told for name, meaning in attributes.items()}
    for field in fields(kind):
        meaning = re.sub(r"\bNone\b", "null", meanings[field.name])
        yield f"`{field.name}`", json_type(str(field.type)), meaning


def json_type(annotation: str) -> str:
    """`tuple[Path, ...] | None` is a list of strings or null."""
    kinds = [kind.strip() for kind in re.split(r"\s\|\s", annotation)]
    return " or ".join(_json_kind(kind) for kind in kinds)


def _json_kind(kind: str) -> str:
    if listed := re.fullmatch(r"tuple\[(\w+), \.\.\.\]", kind):
        inner = JSON_TYPES.get(listed[1], listed[1])
        return f"list of {inner}s"
    if kind.startswith(("dict", "Mapping")):
        return "object"
    return JSON_TYPES.get(kind, kind)


# --- The command line ----------------------------------------------------------------------------------------------------


def commands() -> str:
    """Each command: usage, what it does, its options."""
    context = click.Context(cli, info_name="evbackup")
    return "\n\n".join(_command(name, command, context) for name, command in cli.commands.items())


def _command(name: str, command: click.Command, parent: click.Context) -> str:
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    paragraphs = [_joined(text) for text in (inspect.cleandoc(command.help or "")).split("\n\n")]
    return section(f"evbackup {name}", fence(usage), "\n\n".join(map(_flags, paragraphs)), options(command, context))


def global_options() -> str:
    """What stands before the command."""
    return options(cli, click.Context(cli, info_name="evbackup"))


def options(command: click.Command, context: click.Context) -> str:
    """The options of a command, without those that only print."""

    def rows() -> Iterator[Row]:
        for option in command.params:
            if isinstance(option, click.Option) and option.name not in {"version", "help"}:
                taken = (
                    "" if option.is_flag or option.count else f" {option.make_metavar(context).removesuffix(' RANGE')}"
                )
                names = ", ".join(f"`{name}{taken}`" for name in _longest_first([*option.opts, *option.secondary_opts]))
                yield names, _default(option, context), _flags(option.help or "")

    return table(("Option", "Default", "Meaning"), rows())


def _longest_first(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: not name.startswith("--"))


def _default(option: click.Option, context: click.Context) -> str:
    if option.required:
        return "required"
    found = option.get_default(context, call=False)
    plain = (
        found is None or option.is_flag or option.count or option.multiple or not isinstance(found, (str, int, float))
    )
    return "–" if plain else f"`{found}`"


def _flags(text: str) -> str:
    """Names of options as code."""
    return re.sub(r"(?<![\w`-])(--[a-z][a-z-]*(?: -(?=[:. ]))?)", r"`\1`", text)


# --- Metrics -------------------------------------------------------------------------------------------------------------


def metrics() -> str:
    """Each gauge with its labels."""
    rows = (
        (f"`{name}`", ", ".join(f"`{label}`" for label in _metrics.LABELS[name]), meaning)
        for name, meaning in _metrics.HELP.items()
    )
    return table(("Name", "Labels", "Meaning"), rows)


# --- Ansible -------------------------------------------------------------------------------------------------------------


def modules() -> str:
    """Each module of the collection: options and results."""
    paths = sorted(
        (COLLECTION / "plugins" / "modules").glob("*.py"),
        key=lambda path: (
            "_info" in path.stem,
            VERBS.index(path.stem) if path.stem in VERBS else len(VERBS),
            path.stem,
        ),
    )
    return "\n\n".join(map(_module, paths))


def _module(path: Path) -> str:
    told = carried(path, "DOCUMENTATION")
    returned = (
        (f"`{name}`", _ansible_type(value), _ansible_text(value["returned"]), _ansible_text(value["description"]))
        for name, value in carried(path, "RETURN").items()
    )
    return section(
        path.stem,
        _ansible_text(told["description"]),
        table(("Option", "Type", "Default", "Meaning"), _ansible_options(module_options(path))),
        table(("Result", "Type", "When", "Meaning"), returned),
    )


def module_options(path: Path) -> dict[str, Any]:
    """The options of a module, those that it shares with others included."""
    told = carried(path, "DOCUMENTATION")
    found = dict(told["options"])
    for fragment in told["extends_documentation_fragment"]:
        # Such as evbackup.ops.transport; a longer name is a part of one that has no options.
        if fragment.count(".") == 2:  # noqa: PLR2004
            shared = COLLECTION / "plugins" / "doc_fragments" / f"{fragment.split('.')[2]}.py"
            found |= carried(shared, "DOCUMENTATION")["options"]
    return found


def carried(path: Path, name: str) -> Any:
    """The YAML that a module carries in a constant."""
    found = re.search(rf'{name} = r"""\n(.*?)"""', path.read_text(), re.DOTALL)
    if found is None:
        raise SystemExit(f"{path}: expected {name}, found none")
    return yaml.safe_load(found[1])


def roles() -> str:
    """Each role: its variables."""
    return "\n\n".join(
        _role(path.parents[1].name, path) for path in sorted((COLLECTION / "roles").glob("*/meta/argument_specs.yml"))
    )


def _role(name: str, path: Path) -> str:
    told = yaml.safe_load(path.read_text())["argument_specs"]["main"]
    return section(
        f"Role {name}",
        _ansible_text(told["description"]),
        table(("Variable", "Type", "Default", "Meaning"), _ansible_options(told["options"])),
    )


def _ansible_options(found: dict[str, Any], prefix: str = "") -> Iterator[Row]:
    for name, option in found.items():
        meaning = _ansible_text(option["description"])
        if "choices" in option:
            meaning += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
        yield f"`{prefix}{name}`", _ansible_type(option), _ansible_default(option), meaning
        yield from _ansible_options(option.get("suboptions") or option.get("options") or {}, f"{prefix}{name}.")


def _ansible_default(option: dict[str, Any]) -> str:
    if option.get("required"):
        return "required"
    if "default" not in option:
        return "–"
    value = option["default"]
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "empty" if value == "" else f"`{value}`"


def _ansible_type(option: dict[str, Any]) -> str:
    return f"{option['type']} of {option['elements']}" if "elements" in option else str(option["type"])


def _ansible_text(text: str | list[str]) -> str:
    """Ansible's markup as Markdown."""
    line = " ".join(text) if isinstance(text, list) else text
    line = re.sub(r"\bP\(([\w.]+)#\w+\)", r"`\1`", line)
    line = re.sub(r"\bL\(([^,]+), ?([^)]+)\)", r"[\1](\2)", line)
    return re.sub(r"\b(?:C|V|O|RV|M|E)\(((?:[^()]|\([^)]*\))+)\)", r"`\1`", line)


# --- The pages -----------------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[], str]] = {
    "verbs": verbs,
    "classes": classes,
    "report": report,
    "results": results,
    "global-options": global_options,
    "commands": commands,
    "metrics": metrics,
    "modules": modules,
    "roles": roles,
}


def written(text: str) -> str:
    """A page with its generated parts as the code has them now."""

    def part(found: re.Match[str]) -> str:
        return f"{found['begin']}\n{PARTS[found['name']]()}\n\n{found['end']}"

    return PART.sub(part, text)


def pages() -> list[Path]:
    """The pages with generated parts."""
    return [page for page in sorted(DOCS.rglob("*.md")) if PART.search(page.read_text())]


def everything() -> dict[Path, str]:
    """All that is written from the code, with what it has to hold."""
    return {**{page: written(page.read_text()) for page in pages()}, **installed.files()}


def main(arguments: list[str]) -> int:
    """Writes the pages, or with `--check` says which of them are out of date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(arguments).check
    stale = {path: text for path, text in everything().items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        print(
            f"{path.relative_to(DOCS.parent)}: {'not what the code says: run `make reference`' if check else 'written'}"
        )
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
