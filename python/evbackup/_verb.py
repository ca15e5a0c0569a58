"""What all verbs of the command line share: a run around each, and failures told in one way."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import click

from . import _check, _config, _run
from .errors import EvbackupError

if TYPE_CHECKING:
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
                return _unknown(str(error))
            failed(error, ctx)
            return error.exit_code
        except click.UsageError as error:
            if ctx.invoked_subcommand == "check":
                return _unknown(error.format_message())
            raise


def _unknown(text: str) -> int:
    """To a monitoring system, exit code 2 says that the backups are bad, not that nobody looked."""
    state = _check.State(problems=((_check.UNKNOWN, text),))
    click.echo(state.line())
    return state.code


def failed(error: EvbackupError, ctx: click.Context) -> None:
    """Tells of a failure: a line for people or for machines, and with `--json` the document."""
    if ctx.meta.get(JSON_LINES, False):
        told = error.as_dict()
        logging.getLogger("evbackup").error(told.pop("message"), extra={**told, "exit_code": error.exit_code})
    else:
        click.echo(f"error: {error}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
    if ctx.meta.get(AS_JSON, False):
        click.echo(json.dumps({"error": error.as_dict(), "exit_code": error.exit_code, **run_id()}))


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
