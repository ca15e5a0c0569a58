"""One verb, three faces: a function, a command, an Ansible module. What one takes the others take, but for what is listed with its reason."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import evbackup
import reference
from evbackup._config import keys_of
from evbackup.cli import cli

MODULES = reference.COLLECTION / "plugins" / "modules"

# What a parameter is called elsewhere, and into what it falls there.
COMMAND_NAMES = {
    "tls": {"tls_ca", "tls_cert", "tls_key", "tls_server_name"},
    "token": {"token_file"},  # a secret is no argument
    "headers": {"header"},
    "connect_timeout_s": {"connect_timeout"},
    "idle_timeout_s": {"idle_timeout"},
    "progress": {"quiet"},
}
MODULE_NAMES = {
    "tls": {"tls", "tls_ca", "tls_cert", "tls_key", "tls_server_name"},
    "token": {"token", "token_file"},
    "connect_timeout_s": {"connect_timeout"},
    "idle_timeout_s": {"idle_timeout"},
    "progress": set[str](),  # a task shows none
}

# The verb of each command, and how its parameters are called there.
COMMANDS: dict[str, tuple[str, dict[str, set[str]]]] = {
    "backup": ("backup", {"path": {"output"}}),
    "verify": ("verify", {"paths": {"segments"}}),
    "restore": ("restore", {"paths": {"segments"}, "dest": {"to"}, "keep_replaced": {"discard_replaced"}}),
    "apply": ("apply", {"paths": {"segments"}, "store": {"to"}}),
    "align": ("align", {"source": {"paths"}}),
    "inspect": ("inspect", {}),
    "digest": ("digest", {"path": {"paths"}}),
    "serve": ("serve", {"addr": {"listen"}, "tls": {"tls_ca", "tls_cert", "tls_key"}}),  # a server has no other's name
    "block": ("open", {"path": {"paths"}}),
    "blocks": ("open", {"path": {"paths"}}),
}
HOME = {"home": "says addr or the path", "database": "says the path"}
ONLY_COMMAND: dict[str, dict[str, str]] = {
    "backup": {**HOME, "manifest": "of a segment on standard output"},
    "verify": {**HOME, "strict": "raise_for_findings(strict=…)", "html": "Report.to_html", "overwrite": "to_html(…)"},
    "restore": HOME,
    "apply": {},
    "align": HOME,
    "inspect": HOME,
    "digest": HOME,
    "serve": HOME,
    "block": {**HOME, "which": "Datastore.block"},
    "blocks": {**HOME, "start": "Datastore.blocks", "stop": "Datastore.blocks"},
}
OF_RUNS = {"json": "how the result is printed", "metrics_file": "of the run, not of the verb"}

# The modules of each verb, how its parameters are called there, and what is not there or only there.
Module = tuple[tuple[str, ...], dict[str, set[str]], dict[str, str], dict[str, str]]
ASKED = {"digest": "also takes it", "at": "of the digest", "now": "of the digest", "history": "of the digest"}
IN_ANSIBLE: dict[str, Module] = {
    "backup": (("backup",), {}, {}, {"max_age": "so that a second run changes nothing"}),
    "verify": (
        ("verify",),
        {},
        {},
        {"strict": "raise_for_findings(strict=…)", "fail_on_findings": "raise_for_findings()"},
    ),
    "restore": (("restore",), {}, {"dry_run": "is check mode"}, {"compare": "so that a second run changes nothing"}),
    "align": (("align",), {"source": {"paths"}}, {}, {}),
    "inspect": (("segment_info", "datastore_info"), {}, {}, ASKED),
}
NO_MODULE = {
    "apply": "nobody keeps a store by Ansible",
    "digest": "datastore_info takes it",
    "open": "what it returns is for programs",
    "serve": "the role server runs it",
}


def parameters(verb: str) -> set[str]:
    return set(inspect.signature(getattr(evbackup, verb)).parameters)


def renamed(names: set[str], *called: dict[str, set[str]]) -> set[str]:
    words: dict[str, set[str]] = {}
    for each in called:
        words |= each
    return {other for name in names for other in words.get(name, {name})}


def verbs() -> dict[str, Callable[..., Any]]:
    found = {name: getattr(evbackup, name) for name in evbackup.__all__}
    return {name: thing for name, thing in found.items() if inspect.isfunction(thing)}


def test_every_verb_is_looked_at() -> None:
    named = {name for name in verbs() if not name.endswith("_async")}
    assert {verb for verb, _ in COMMANDS.values()} == named
    assert set(IN_ANSIBLE) | set(NO_MODULE) == named
    assert set(COMMANDS) == set(cli.commands) - {"check", "demo", "completion"}
    assert {name for names, _, _, _ in IN_ANSIBLE.values() for name in names} == {
        file.stem for file in MODULES.glob("*.py")
    }


@pytest.mark.parametrize("verb", [name for name in verbs() if f"{name}_async" in verbs()])
def test_a_twin_takes_the_same(verb: str) -> None:
    assert inspect.signature(verbs()[verb]) == inspect.signature(verbs()[f"{verb}_async"])


def test_which_verbs_have_no_twin() -> None:
    """What they return works in `async with`."""
    alone = {name for name in verbs() if not name.endswith("_async") and f"{name}_async" not in verbs()}
    assert alone == {"open", "serve"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_takes_what_its_verb_takes(command: str) -> None:
    verb, called = COMMANDS[command]
    expected = renamed(parameters(verb), COMMAND_NAMES, called) | set(ONLY_COMMAND[command]) | set(OF_RUNS)
    assert set(keys_of(cli.commands[command])) == expected


@pytest.mark.parametrize("verb", IN_ANSIBLE)
def test_a_module_takes_what_its_verb_takes(verb: str) -> None:
    names, called, without, besides = IN_ANSIBLE[verb]
    expected = renamed(parameters(verb) - set(without), MODULE_NAMES, called) | set(besides)
    options = {option for name in names for option in reference.module_options(MODULES / f"{name}.py")}
    assert options == expected
