"""What all verbs of the command line share: a run around each, and failures told in one way."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import click

from . import _check, _config, _run
from .errors import EvbackupError, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._results import Result

# What the options of a verb leave in the context.
AS_JSON = "evbackup.as_json"
JSON_LINES = "evbackup.json_lines"
METRICS_FILE = "evbackup.metrics_file"

INTERRUPTED = 130


class Verb(click.Command):
    """A verb: a run with a beginning and an end, of which the log and the metrics file tell."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs it; the exit code if it has failed."""
        _config.settle(ctx)
        run = _run.current() or _run.start(_run.Run())
        run.verb = str(ctx.info_name)
        run.metrics_file = ctx.meta.get(METRICS_FILE)
        run.begin()
        code: Any = 1
        try:
            code = super().invoke(ctx) or 0
        except EvbackupError as error:
            failed(error, ctx)
            code = error.exit_code
        except (click.exceptions.Abort, KeyboardInterrupt):
            code = INTERRUPTED
            raise
        except SystemExit as ended:
            code = ended.code
            raise
        except (click.exceptions.Exit, click.ClickException) as ended:
            code = ended.exit_code
            raise
        finally:
            run.end(code if isinstance(code, int) else 1)
        return code


class Verbs(click.Group):
    """The verbs, with our errors caught before click sees them: it would take an `OSError` of ours for its own broken pipe."""

    command_class = Verb

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the verb; the exit code if it has failed."""
        # What fails before the verb is understood is told in the way that was asked for, too.
        ctx.meta.setdefault(AS_JSON, "--json" in ctx.args)
        try:
            return super().invoke(ctx)
        except EvbackupError as error:
            if ctx.invoked_subcommand == "check":
                return _unknown(str(error), as_json=ctx.meta[AS_JSON])
            failed(error, ctx)
            return error.exit_code

    def asked(self, words: Sequence[str]) -> tuple[str | None, bool]:
        """Which verb a command line means that nobody could read, and whether it wants JSON."""
        takes = {
            name
            for param in self.params
            if isinstance(param, click.Option) and not param.is_flag
            for name in param.opts
        }
        left = list(words)
        while left and left[0].startswith("-"):
            # What follows an option with a value is no verb.
            left = left[2 if left[0] in takes else 1 :]
        verb = left[0] if left else None
        return verb, "--json" in left[: left.index("--") if "--" in left else None]


def unreadable(error: click.ClickException, group: Verbs, words: Sequence[str]) -> int:
    """Tells of a command line that cannot be meant; what the process exits with."""
    verb, as_json = group.asked(words)
    if _run.current() is None:
        _run.start(_run.Run())
    if verb == "check":
        return _unknown(error.format_message(), as_json=as_json)
    meta = error.ctx.meta if isinstance(error, click.UsageError) and error.ctx is not None else {}
    if meta.get(JSON_LINES, False):
        tell(InvalidArgument(error.format_message()), error.exit_code, as_line=True, as_json=as_json)
    else:
        error.show()
        tell(InvalidArgument(error.format_message()), error.exit_code, as_line=False, as_json=as_json)
    return error.exit_code


def _unknown(text: str, *, as_json: bool) -> int:
    """To a monitoring system, exit code 2 says that the backups are bad, not that nobody looked."""
    state = _check.State(problems=((_check.UNKNOWN, text),))
    click.echo(json.dumps({**run_id(), **state.as_dict()}) if as_json else state.line())
    return state.code


def failed(error: EvbackupError, ctx: click.Context) -> None:
    """Tells of a failure: a line for people or for machines, and with `--json` the document."""
    as_line = ctx.meta.get(JSON_LINES, False)
    if not as_line:
        click.echo(f"error: {error}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
    tell(error, error.exit_code, as_line=as_line, as_json=ctx.meta.get(AS_JSON, False))


def tell(error: EvbackupError, exit_code: int, *, as_line: bool, as_json: bool) -> None:
    """Tells machines of a failure: as a line of the log, as a document."""
    if as_line:
        told = error.as_dict()
        logging.getLogger("evbackup").error(told.pop("message"), extra={**told, "exit_code": exit_code})
    if as_json:
        click.echo(json.dumps({"error": error.as_dict(), "exit_code": exit_code, **run_id()}))


def run_id() -> dict[str, str]:
    """The id of the run, for a JSON document."""
    run = _run.current()
    return {} if run is None else {"run_id": run.id}


def note(result: Result) -> None:
    """Keeps a result for the metrics file."""
    run = _run.current()
    if run is not None:
        run.result = result


def remember(name: str) -> Any:
    """A callback of an option that keeps its value in the context."""

    def keep(ctx: click.Context, _: click.Parameter, value: Any) -> Any:
        ctx.meta[name] = value
        return value

    return keep


metrics_file = click.option(
    "--metrics-file",
    type=click.Path(dir_okay=False),
    expose_value=False,
    callback=remember(METRICS_FILE),
    help="Where gauges for node_exporter's textfile collector go, such as /var/lib/…/evbackup.prom.",
)
as_json = click.option(
    "--json",
    "as_json",
    is_flag=True,
    callback=remember(AS_JSON),
    help="Print the result, or the error, as one JSON document.",
)
