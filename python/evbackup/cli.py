"""The command line: the same verbs, with their results on standard output and everything else on standard error."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from . import _cli_look, _cli_prove, _cli_write, _config, _run, _verb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

TERMINATED = 143


EXIT_CODES = """\b
Exit codes:
  0 done   1 failed   2 usage   3 stream incomplete   10 missing   11 locked
  12 denied   13 unavailable   14 exists   15 unsupported   16 no space
  17 mismatch   18 input/output   20 damaged   130 interrupted   143 terminated
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; what the process exits with."""
    signal.signal(signal.SIGTERM, _terminated)
    _config.environment(cli)
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = cli.main(args=words, prog_name="evbackup", standalone_mode=False)
    except click.ClickException as error:
        return _verb.unreadable(error, cli, words)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return _verb.INTERRUPTED
    finally:
        _run.forget()
    return code if isinstance(code, int) else 0


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(TERMINATED)


@click.group(
    cls=_verb.Verbs,
    context_settings={"auto_envvar_prefix": "EVBACKUP", "help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)
@click.version_option(package_name="evbackup", prog_name="evbackup")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The node's configuration: defaults of all options, TOML.",
)
@click.option("--node", metavar="NAME", help="What the node is called in the log and in the metrics.")
@click.option("--chain-id", metavar="NAME", help="What its chain is called in the metrics.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Log lines for people, or one JSON object each; then errors are such a line, too.",
)
@click.option("-v", "--verbose", count=True, help="Log to standard error what is done; twice: everything.")
@click.pass_context
def cli(
    ctx: click.Context, config: Path | None, node: str | None, chain_id: str | None, log_format: str, verbose: int
) -> None:
    """Hot backups, proof and restore of an ev-node's BadgerDB."""
    given: dict[str, Any] = {"node": node, "chain_id": chain_id, "log_format": log_format, "verbose": verbose}
    run = _run.start(_run.Run())
    ctx.meta[_verb.JSON_LINES] = log_format == "json"
    _run.log_to_stderr(verbose, log_format)
    if config is not None:
        of_group, ctx.default_map = _config.load(config, cli)
        unsaid = (name for name in of_group if ctx.get_parameter_source(name) is click.core.ParameterSource.DEFAULT)
        given.update({name: of_group[name] for name in unsaid})
        ctx.meta[_verb.JSON_LINES] = given["log_format"] == "json"
        _run.log_to_stderr(int(given["verbose"]), given["log_format"])
    run.node, run.chain_id = given["node"], given["chain_id"]


# In the order in which people meet them.
for _command in (
    _cli_write.backup,
    _cli_prove.verify,
    _cli_write.restore,
    _cli_write.apply,
    _cli_prove.align,
    _cli_look.inspect,
    _cli_look.digest,
    _cli_look.block,
    _cli_look.blocks,
    _cli_look.serve,
    _cli_prove.check,
    _cli_look.demo,
):
    cli.add_command(_command)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell: add its output to the shell's start-up file."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    made = get_completion_class(shell)
    if made is not None:
        click.echo(made(cli, {}, "evbackup", "_EVBACKUP_COMPLETE").source())
