"""What the wheel installs below `share`: manual pages and completion scripts, from the options of the command line.

`make reference` writes them. They are kept in the repository, because the command line cannot be asked while a wheel is built: its module
is what is being built.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import click
from click.shell_completion import get_completion_class
from click_man.man import ManPage

import evbackup
from evbackup import errors
from evbackup.cli import cli

SHARE = Path(__file__).parents[1] / "python" / "installed" / "data" / "share"
COMPLETIONS = {
    "bash": "bash-completion/completions/evbackup",
    "zsh": "zsh/site-functions/_evbackup",
    "fish": "fish/vendor_completions.d/evbackup.fish",
}


def files() -> dict[Path, str]:
    """Each file with what it has to hold."""
    group = click.Context(cli, info_name="evbackup")
    manual = {"evbackup": _page(cli, group)}
    for name, command in cli.commands.items():
        manual[f"evbackup-{name}"] = _page(command, click.Context(command, info_name=name, parent=group))
    made = {SHARE / "man" / "man1" / f"{name}.1": text for name, text in manual.items()}
    return made | {SHARE / path: completion(shell) for shell, path in COMPLETIONS.items()}


def completion(shell: str) -> str:
    """The completion script of a shell, as `evbackup completion` prints it."""
    made = get_completion_class(shell)
    if made is None:
        raise SystemExit(f"expected a shell that click knows, found {shell}")
    return made(cli, {}, "evbackup", "_EVBACKUP_COMPLETE").source() + "\n"


def _page(command: click.Command, context: click.Context) -> str:
    """A manual page: click-man's, and what every page of a manual has besides."""
    help_text = inspect.cleandoc(command.help or "")
    page = ManPage(context.command_path)
    # The day on which it was written says nothing: the version does.
    page.date, page.version = "", f"evbackup {evbackup.__version__}"
    page.short_help = _escaped(" ".join(help_text.split("\n\n")[0].split()).rstrip("."))
    page.description = _escaped(help_text)
    page.synopsis = " ".join(command.collect_usage_pieces(context))
    records = (option.get_help_record(context) for option in command.params if isinstance(option, click.Option))
    page.options = [(names, _escaped(meaning)) for names, meaning in filter(None, records)]
    if isinstance(command, click.Group):
        page.commands = [(name, _escaped(each.get_short_help_str(200))) for name, each in command.commands.items()]
    # The title is the name of the file, and the manual is one.
    text = re.sub(
        r'^\.TH "(.+?)" (.+) ".+"$',
        lambda found: f'.TH "{found[1].replace(" ", "-")}" {found[2]} "evbackup"',
        str(page),
        count=1,
        flags=re.MULTILINE,
    )
    return text + "\n".join([*_exit_status(command), *_environment(context), *_see_also(context), ""])


def _exit_status(command: click.Command) -> list[str]:
    lines = [".SH EXIT STATUS"]
    if command.name == "check":
        codes = {"0": "OK.", "1": "WARNING.", "2": "CRITICAL.", "3": "UNKNOWN."}
    else:
        known = sorted(
            (getattr(errors, name) for name in errors.__all__ if name != "EvbackupError"),
            key=lambda each: int(each.exit_code),
        )
        codes = {"0": "Done; nothing new and warnings included.", "1": "Failed, without a better number."}
        codes |= {
            str(each.exit_code): " ".join((inspect.getdoc(each) or "").split("\n\n")[0].split()) for each in known
        }
        codes |= {"130": "Interrupted.", "143": "Terminated."}
    for code, meaning in codes.items():
        lines += [".TP", rf"\fB{code}\fP", _escaped(meaning)]
    return lines


def _environment(context: click.Context) -> list[str]:
    prefix = context.command_path.upper().replace(" ", "_")
    told = rf"Every option can be set as \fB{prefix}_\fIOPTION\fP, such as \fB{prefix}_VERBOSE\fP; an option that several commands have also as \fBEVBACKUP_\fIOPTION\fP."
    return [".SH ENVIRONMENT", told if context.parent is None else told.replace("VERBOSE", "METRICS_FILE")]


def _see_also(context: click.Context) -> list[str]:
    if context.parent is not None:
        return [".SH SEE ALSO", r"\fBevbackup\fP(1)"]
    return []


def _escaped(text: str) -> str:
    """Plain text for roff: no line of it is taken for a request, and a minus stays one."""
    lines = text.replace("\\", r"\e").replace("\b", "").replace("-", r"\-").replace("`", "").splitlines()
    return "\n".join(rf"\&{line}" if line.startswith((".", "'")) else line for line in lines)
