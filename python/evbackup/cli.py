"""The command line: the same verbs, with their results on standard output and everything else on standard error."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from . import _check, _config, _params, _run, _verb
from .errors import EvbackupError, ExistsError, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from ._results import Result

F = TypeVar("F", bound=Callable[..., Any])

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
    try:
        code = cli.main(args=None if argv is None else list(argv), prog_name="evbackup", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return _verb.INTERRUPTED
    finally:
        _run.forget()
    return code if isinstance(code, int) else 0


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(TERMINATED)


def _show(result: Result, *, as_json: bool, err: bool = False) -> None:
    """A result for a script or for a person."""
    _verb.note(result)
    if as_json:
        # A segment has the id of the run that wrote it.
        click.echo(json.dumps({**_verb.run_id(), **result.as_dict()}), err=err)
        return
    _rows(dict(_flat(result.as_dict())), err=err)


def _flat(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields of a result, those of a nested one with its name before them."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", field) for inner, field in value.items())
        else:
            yield name, value


def _rows(values: dict[str, Any], *, err: bool = False) -> None:
    """Names and values for a person, a line each."""
    width = max(map(len, values))
    for name, value in values.items():
        for place, line in enumerate(value if isinstance(value, list) else [value]):
            if line is not None:
                # What is nested becomes one line of names and values.
                text = (
                    ", ".join(f"{key} {inner}" for key, inner in line.items() if inner not in (None, ""))
                    if isinstance(line, dict)
                    else line
                )
                click.echo(f"{'' if place else name:<{width}}  {text}", err=err)


def _decorate(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorated(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorated


_json = _decorate(_verb.metrics_file, _verb.as_json)
_quiet = click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
_home = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="The node's home: takes the RPC address and the database path from its config/evnode.yaml.",
)
_database = click.option("--database", metavar="NAME", help="With --home: the database below the node's db_path.")
_reading = _decorate(
    click.option(
        "--offline", is_flag=True, help="Of a Badger directory: the node is stopped; hold its lock, copy nothing."
    ),
    click.option(
        "--staging", type=click.Path(), help="Of a Badger directory: where to copy what the node may take away."
    ),
    click.option(
        "--any-file-system",
        is_flag=True,
        help="Of a Badger directory: even where the file system may not show what the node writes.",
    ),
)
_segments = click.argument("segments", nargs=-1, required=True, type=click.Path())
_token_file = click.option(
    "--token-file",
    type=click.Path(dir_okay=False),
    envvar="EVBACKUP_TOKEN_FILE",
    help="The bearer token's file; or EVBACKUP_TOKEN_FILE, or the token itself in EVBACKUP_TOKEN. Refused when everybody may read it.",
)


_timeouts = _decorate(
    click.option(
        "--connect-timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=10.0,
        show_default=True,
        help="Seconds.",
    ),
    click.option(
        "--idle-timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=60.0,
        show_default=True,
        help="Seconds without a message.",
    ),
)


def _tls(ca_help: str) -> Callable[[F], F]:
    return _decorate(
        click.option("--tls-ca", type=click.Path(dir_okay=False), help=ca_help),
        click.option("--tls-cert", type=click.Path(dir_okay=False), help="Our certificate chain, PEM."),
        click.option("--tls-key", type=click.Path(dir_okay=False), help="Its private key, PEM."),
    )


def _tls_of(ca: str | None, cert: str | None, key: str | None, server_name: str | None = None) -> Any:
    from ._types import Tls  # noqa: PLC0415  # what a command needs is imported when it runs

    key = None if key is None else _config.secret_file(key)
    return Tls(ca, cert, key, server_name) if ca or cert or key or server_name else None


def _token(file: str | None) -> str | None:
    """From a file or systemd's credentials, else from the environment; never from the command line, which everybody can read."""
    if file is None:
        credential = Path(os.environ.get("CREDENTIALS_DIRECTORY") or os.devnull, "token")
        if not credential.is_file():
            return os.environ.get("EVBACKUP_TOKEN") or None
        file = str(credential)
    file = _config.secret_file(file)
    try:
        token = Path(file).read_text().strip()
    except OSError as error:
        raise InvalidArgument(f"{file}: cannot read the token: {error.strerror}", path=file) from error
    if not token:
        raise InvalidArgument(f"{file}: expected a token, found nothing", path=file)
    return token


def _datastore(path: str | None, home: Path | None, database: str | None, what: str) -> str:
    """A path given as such, or as --home and --database."""
    if home is not None and path is None:
        from ._node import read  # noqa: PLC0415

        return str(read(home).database(database))
    if path is None or home is not None or database is not None:
        raise click.UsageError(f"Give either {what}, or --home with --database.")
    return path


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


@cli.command()
@click.argument("addr", required=False)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(allow_dash=True),
    help="The segment; a folder; or - for standard output.",
)
@click.option("--manifest", type=click.Path(dir_okay=False), help="With --output -: where the manifest goes.")
@click.option(
    "--since",
    type=_params.Since(),
    default=0,
    help="What is backed up already: a version, a segment, or auto (whatever the folder holds).",
)
@click.option(
    "--via",
    type=click.Choice(["auto", "rpc", "blocks"]),
    default="auto",
    show_default=True,
    help="By the Backup RPC, or block by block by the RPCs that every node has; auto: the second where there is no first.",
)
@click.option("--raw", is_flag=True, help="Where blocks are copied: byte for byte, in a way that works by accident.")
@click.option(
    "--on-mismatch",
    type=click.Choice(["error", "full"]),
    default="error",
    help="When the source is not what --since is based on.",
)
@click.option("--exact/--no-exact", default=None, help="Compare with all keys of the base.")
@click.option(
    "--target-height", type=click.IntRange(min=0), help="Fail at once if the node's tip is below this height."
)
@click.option("--overwrite", is_flag=True, help="Replace the segment that is there.")
@_home
@_database
@_tls("Certificates to trust instead of the machine's, PEM.")
@click.option("--tls-server-name", help="The name that the server's certificate must carry.")
@_token_file
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="More gRPC metadata.")
@click.option("--insecure", is_flag=True, help="Send the token over plain text all the same.")
@click.option("--max-rate", type=_params.Rate(), help="At most this fast: 10M, 1G.")
@_timeouts
@_reading
@_quiet
@_json
def backup(
    addr: str | None,
    output: str,
    manifest: str | None,
    since: int | str,
    via: str,
    raw: bool,
    on_mismatch: str,
    exact: bool | None,
    target_height: int | None,
    overwrite: bool,
    home: Path | None,
    database: str | None,
    tls_ca: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    tls_server_name: str | None,
    token_file: str | None,
    headers: tuple[str, ...],
    insecure: bool,
    max_rate: int | None,
    connect_timeout: float,
    idle_timeout: float,
    offline: bool,
    staging: str | None,
    any_file_system: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Take a hot backup.

    ADDR is a node's RPC address (host:port, http://…, https://…) or the directory of a datastore (/…, ./…, ~…). With --home it
    is the node's own RPC; with --home and --database it is that database's directory.
    """
    from . import _backup  # noqa: PLC0415

    options: dict[str, Any] = {
        "since": since,
        "via": via,
        "raw": raw,
        "on_mismatch": on_mismatch,
        "exact": exact,
        "target_height": target_height,
        "overwrite": overwrite,
        "tls": _tls_of(tls_ca, tls_cert, tls_key, tls_server_name),
        "token": _token(token_file),
        "headers": dict(_header(header) for header in headers),
        "insecure": insecure,
        "max_rate": max_rate,
        "connect_timeout_s": connect_timeout,
        "idle_timeout_s": idle_timeout,
        "offline": offline,
        "staging": staging,
        "any_file_system": any_file_system,
    }
    source = _source(addr, home, database)
    if output == "-":
        if sys.stdout.isatty():
            raise click.UsageError("A segment is no text: send standard output into a file or a pipe.")
        _show(_backup.stream(source, manifest, options, not quiet), as_json=as_json, err=True)
        return
    if manifest is not None:
        raise click.UsageError("--manifest goes with --output -; else it stands beside the segment.")
    _show(_backup.backup(source, output, progress=not quiet, **options), as_json=as_json)


def _said(*names: str) -> bool:
    """Whether one of these stands on the command line; what the environment and the configuration say is for whoever wants it."""
    ctx = click.get_current_context()
    return any(ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE for name in names)


def _source(addr: str | None, home: Path | None, database: str | None) -> str | Path:
    if home is not None and addr is None:
        from ._node import read  # noqa: PLC0415

        node = read(home)
        return node.address() if database is None else node.database(database)
    if addr is None or home is not None or database is not None:
        raise click.UsageError("Give either ADDR, or --home (and --database).")
    return addr


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError("Expected --header NAME=VALUE, found something else.")
    if name.strip().lower() in _config.SECRET_HEADERS:
        raise click.UsageError(f"A secret is no argument: expected --token-file, found --header {name}.")
    return name, value


@cli.command()
@_segments
@click.option(
    "--level", type=click.Choice(["quick", "full"]), default="full", show_default=True, help="How deep to look."
)
@click.option("--chain/--no-chain", default=None, help="Check the blocks, too; else when ev-node's keys are found.")
@click.option("--trusted", type=_params.Trusted(), help="The hash that the block at a height must have.")
@click.option("--genesis", type=click.Path(dir_okay=False), help="The chain's genesis.json.")
@click.option(
    "--signatures",
    type=click.Choice(["required", "optional", "other-payload", "unverified"]),
    default="required",
    show_default=True,
    help="Of blocks: a based sequencer's are optional; an app may sign another payload, which cannot be verified.",
)
@click.option("--was-based", is_flag=True, help="The chain has switched away from a based sequencer.")
@click.option("--el-height", type=click.IntRange(min=0), help="A block of the execution layer, to compare with.")
@click.option("--el-timestamp", type=click.IntRange(min=0), help="Its Unix seconds.")
@click.option("--el-state-root", metavar="HEX", help="The state root after it.")
@click.option(
    "--against",
    multiple=True,
    type=click.Path(),
    metavar="PATH",
    help="Of a node: a segment, or a datastore, whose blocks it must have; several segments are a chain.",
)
@click.option(
    "--sample",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Of a node: how many heights are compared.",
)
@_tls("Of a node: certificates to trust instead of the machine's, PEM.")
@click.option("--tls-server-name", help="The name that the server's certificate must carry.")
@_token_file
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="More gRPC metadata.")
@click.option("--insecure", is_flag=True, help="Send the token over plain text all the same.")
@_timeouts
@click.option("--strict", is_flag=True, help="Count warnings as errors.")
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the report as a page, to look at, print or send.",
)
@click.option("--overwrite", is_flag=True, help="With --html: replace the page that is there.")
@_quiet
@_json
def verify(
    segments: tuple[str, ...],
    level: Any,
    chain: bool | None,
    trusted: tuple[int, str] | None,
    genesis: str | None,
    signatures: Any,
    was_based: bool,
    el_height: int | None,
    el_timestamp: int | None,
    el_state_root: str | None,
    against: tuple[str, ...],
    sample: int,
    tls_ca: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    tls_server_name: str | None,
    token_file: str | None,
    headers: tuple[str, ...],
    insecure: bool,
    connect_timeout: float,
    idle_timeout: float,
    strict: bool,
    html: Path | None,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Prove a segment or a chain of SEGMENTS, or hold a running node against a backup; exits with 20 when something is wrong.

    Instead of SEGMENTS it takes a folder of backups, whose newest chain is proven; or a datastore; or the address of a node
    (host:port, http://…, https://…).
    """
    from . import _verify  # noqa: PLC0415

    if html is not None and not overwrite and html.exists():
        # Said at once rather than after hours; whoever makes it meanwhile is noticed all the same.
        raise ExistsError(
            f"{html}: expected nothing there, found a file", hint="choose another name, or --overwrite", path=html
        )
    addr = _verify.node_of(segments[0]) if len(segments) == 1 else None
    if addr is None and len(segments) == 1 and os.path.isdir(segments[0]):  # noqa: PTH112  # stays a text
        segments = tuple(_check.newest_chain(segments[0])) or segments
    of_paths: dict[str, Any] = {
        "level": level,
        "chain": chain,
        "genesis": genesis,
        "signatures": signatures,
        "was_based": was_based,
        "el_height": el_height,
        "el_timestamp": el_timestamp,
        "el_state_root": el_state_root,
    }
    options = {name: value for name, value in of_paths.items() if addr is None or _said(name)}
    # Files are looked at only where they are of use.
    of_nodes: dict[str, tuple[tuple[str, ...], Callable[[], Any]]] = {
        "against": (("against",), lambda: against or None),
        "sample": (("sample",), lambda: sample),
        "tls": (
            ("tls_ca", "tls_cert", "tls_key", "tls_server_name"),
            lambda: _tls_of(tls_ca, tls_cert, tls_key, tls_server_name),
        ),
        "token": (("token_file",), lambda: _token(token_file)),
        "headers": (("headers",), lambda: dict(map(_header, headers))),
        "insecure": (("insecure",), lambda: insecure),
    }
    options |= {name: value() for name, (said, value) in of_nodes.items() if addr is not None or _said(*said)}
    report = _verify.verify(
        segments[0] if len(segments) == 1 else segments,
        trusted=trusted,
        connect_timeout_s=connect_timeout,
        idle_timeout_s=idle_timeout,
        progress=not quiet,
        **options,
    )
    _verb.note(report)
    if html is not None:
        report.to_html(html, overwrite=overwrite, strict=strict)
    if as_json:
        click.echo(json.dumps({**_verb.run_id(), **report.as_dict()}))
    else:
        for finding in report.findings:
            click.echo(f"{finding.level}: {finding}")
            if finding.hint:
                click.echo(f"hint: {finding.hint}")
        click.echo(report._short())
        if report.chain is not None:
            click.echo(f"chain {report.chain._short()}")
    try:
        report.raise_for_findings(strict=strict)
    except EvbackupError as error:
        # What it says stands above already.
        return error.exit_code
    return 0


@cli.command()
@_segments
@click.option("--to", "dest", type=click.Path(), help="The datastore's directory.")
@click.option(
    "--engine",
    type=click.Choice(["badger", "rocksdb"]),
    default="badger",
    show_default=True,
    help="What to make: a node's directory, or a store.",
)
@click.option("--history", is_flag=True, help="Every version of every key, not the newest alone.")
@click.option("--at-height", type=click.IntRange(min=1), help="Cut the chain at this height.")
@click.option("--role", type=click.Choice(["follower", "aggregator"]), help="What will start on what is cut.")
@click.option("--drop-queue", is_flag=True, help="Leave the sequencer's queue out of what is cut.")
@click.option("--requeue", is_flag=True, help="Queue the transactions of the blocks above the cut again.")
@click.option("--force", is_flag=True, help="Cut below what is public on DA even for an aggregator.")
@click.option("--trusted", type=_params.Trusted(), help="The hash that the block at a height must have.")
@click.option("--genesis", type=click.Path(dir_okay=False), help="The chain's genesis.json, which the blocks must fit.")
@click.option("--overwrite", is_flag=True, help="Replace the datastore that is there.")
@click.option("--discard-replaced", is_flag=True, help="Remove what was replaced instead of keeping it beside.")
@click.option("--owner", metavar="USER[:GROUP]", help="Whose the new files are.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--memory-mib", type=click.IntRange(min=16), default=256, show_default=True, help="Memory to use at most."
)
@_home
@_database
@_reading
@click.option("--max-rate", type=_params.Rate(), help="Copy at most this fast: 10M, 1G.")
@_quiet
@_json
def restore(
    segments: tuple[str, ...],
    dest: str | None,
    engine: Any,
    history: bool,
    at_height: int | None,
    role: Any,
    drop_queue: bool,
    requeue: bool,
    force: bool,
    trusted: tuple[int, str] | None,
    genesis: str | None,
    overwrite: bool,
    discard_replaced: bool,
    owner: str | None,
    dry_run: bool,
    memory_mib: int,
    home: Path | None,
    database: str | None,
    offline: bool,
    staging: str | None,
    any_file_system: bool,
    max_rate: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Make a datastore from a full segment and its increments, or from another one; whole or not at all."""
    from . import _restore  # noqa: PLC0415

    restored = _restore.restore(
        segments,
        _datastore(dest, home, database, "--to"),
        engine=engine,
        history=history,
        at_height=at_height,
        role=role,
        drop_queue=drop_queue,
        requeue=requeue,
        force=force,
        trusted=trusted,
        genesis=genesis,
        overwrite=overwrite,
        keep_replaced=not discard_replaced,
        owner=owner,
        dry_run=dry_run,
        memory_mib=memory_mib,
        offline=offline,
        staging=staging,
        any_file_system=any_file_system,
        max_rate=max_rate,
        progress=not quiet,
    )
    _show(restored, as_json=as_json)


@cli.command()
@_segments
@click.option("--to", "store", required=True, type=click.Path(), help="The store's directory.")
@_quiet
@_json
def apply(segments: tuple[str, ...], store: str, quiet: bool, as_json: bool) -> None:
    """Add increments to a store, all of them or none."""
    from . import _restore  # noqa: PLC0415

    _show(_restore.apply(segments, store, progress=not quiet), as_json=as_json)


@cli.command()
@click.argument("paths", nargs=-1, metavar="[DATASTORE|SEGMENTS...]", type=click.Path())
@click.option(
    "--el-height", type=click.IntRange(min=0), required=True, help="The last block of the execution layer's copy."
)
@click.option("--el-timestamp", type=click.IntRange(min=0), help="Its time, Unix seconds.")
@click.option("--el-state-root", metavar="HEX", help="The state root after it.")
@_home
@_database
@_reading
@click.option("--max-rate", type=_params.Rate(), help="Copy at most this fast: 10M, 1G.")
@_quiet
@_json
def align(
    paths: tuple[str, ...],
    el_height: int,
    el_timestamp: int | None,
    el_state_root: str | None,
    home: Path | None,
    database: str | None,
    offline: bool,
    staging: str | None,
    any_file_system: bool,
    max_rate: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Say at which height to cut, so that what is restored fits a copy of the execution layer."""
    from . import _align  # noqa: PLC0415

    where = list(paths) if len(paths) > 1 else _datastore(next(iter(paths), None), home, database, "PATH")
    found = _align.align(
        where,
        el_height=el_height,
        el_timestamp=el_timestamp,
        el_state_root=el_state_root,
        offline=offline,
        staging=staging,
        any_file_system=any_file_system,
        max_rate=max_rate,
        progress=not quiet,
    )
    _show(found, as_json=as_json)


@cli.command()
@click.argument("path", required=False, type=click.Path())
@_home
@_database
@_reading
@click.option(
    "--count/--no-count",
    default=True,
    show_default=True,
    help="Count the keys of a datastore by family, which reads all of it.",
)
@click.option("--max-rate", type=_params.Rate(), help="Copy at most this fast: 10M, 1G.")
@_json
def inspect(
    path: str | None,
    home: Path | None,
    database: str | None,
    offline: bool,
    staging: str | None,
    any_file_system: bool,
    count: bool,
    max_rate: int | None,
    as_json: bool,
) -> None:
    """Say what a segment or a datastore is."""
    from . import _verify  # noqa: PLC0415

    found = _verify.inspect(
        _datastore(path, home, database, "PATH"),
        count=count,
        offline=offline,
        staging=staging,
        any_file_system=any_file_system,
        max_rate=max_rate,
    )
    _show(found, as_json=as_json)


@cli.command()
@click.argument("paths", nargs=-1, metavar="[DATASTORE|SEGMENTS...]", type=click.Path())
@click.option("--at", type=click.IntRange(min=0), help="The version to look at.")
@click.option(
    "--now", type=click.IntRange(min=0), help="Unix seconds: leave out what has expired then, instead of by now."
)
@click.option("--history", is_flag=True, help="Cover every entry, not only the newest live ones.")
@_home
@_database
@_reading
@click.option("--max-rate", type=_params.Rate(), help="Copy at most this fast: 10M, 1G.")
@_quiet
@_json
def digest(
    paths: tuple[str, ...],
    at: int | None,
    now: int | None,
    history: bool,
    home: Path | None,
    database: str | None,
    offline: bool,
    staging: str | None,
    any_file_system: bool,
    max_rate: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Print the logical digest: equal wherever the same data is."""
    from . import _verify  # noqa: PLC0415

    where = list(paths) if len(paths) > 1 else _datastore(next(iter(paths), None), home, database, "PATH")
    found = _verify.digest(
        where,
        at=at,
        now=now,
        history=history,
        offline=offline,
        staging=staging,
        any_file_system=any_file_system,
        max_rate=max_rate,
        progress=not quiet,
    )
    click.echo(
        json.dumps({"digest": found, "path": where, "at": at, "now": now, "history": history}) if as_json else found
    )


@cli.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@click.argument("which", metavar="HEIGHT|HASH|newest")
@_reading
@_json
def block(
    paths: tuple[str, ...], which: str, offline: bool, staging: str | None, any_file_system: bool, as_json: bool
) -> None:
    """Print a block of a datastore, a segment, or a chain of segments: by its height, by a hash, or the newest."""
    from . import _store  # noqa: PLC0415

    wanted: int | str | None = None if which == "newest" else int(which) if which.isdecimal() else which
    with _store.open(paths, offline=offline, staging=staging, any_file_system=any_file_system) as opened:
        found = opened.block(wanted).as_dict()
    if as_json:
        click.echo(json.dumps({**_verb.run_id(), **found}))
        return
    header, data = found.pop("header"), found.pop("data")
    _rows({**found, **header, "transactions": data["transactions"]})


@cli.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@click.option("--start", type=click.IntRange(min=0), help="The first height; the lowest there is by default.")
@click.option("--stop", type=click.IntRange(min=0), help="The height behind the last; up to the newest by default.")
@_reading
@_json
def blocks(
    paths: tuple[str, ...],
    start: int | None,
    stop: int | None,
    offline: bool,
    staging: str | None,
    any_file_system: bool,
    as_json: bool,
) -> None:
    """List the blocks of a datastore, a segment, or a chain of segments, a line each; with --json one document each."""
    from . import _store  # noqa: PLC0415

    with _store.open(paths, offline=offline, staging=staging, any_file_system=any_file_system) as opened:
        for found in opened.blocks(start, stop):
            if as_json:
                click.echo(json.dumps(found.as_dict()))
            else:
                click.echo(f"{found.height} {found.hash.hex()} {found.time.isoformat()} {len(found.transactions)}")


@cli.command()
@click.argument("path", required=False, type=click.Path())
@click.option(
    "--listen", "addr", default="127.0.0.1:7332", show_default=True, help="Where to listen; port 0 picks a free one."
)
@_home
@_database
@_tls("Clients need a certificate signed by one of these, PEM.")
@_token_file
@click.option("--insecure", is_flag=True, help="Listen beyond this machine without TLS and token.")
@click.option("--max-rate", type=_params.Rate(), help="At most this fast, all backups together: 10M, 1G.")
@click.option("--max-backups", type=click.IntRange(min=1), default=2, show_default=True, help="Backups at once.")
@_reading
@_json
def serve(
    path: str | None,
    addr: str,
    home: Path | None,
    database: str | None,
    tls_ca: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    token_file: str | None,
    insecure: bool,
    max_rate: int | None,
    max_backups: int,
    offline: bool,
    staging: str | None,
    any_file_system: bool,
    as_json: bool,
) -> None:
    """Serve a datastore until Ctrl-C: backups, and the RPCs that read blocks."""
    from . import _serve  # noqa: PLC0415

    server = _serve.serve(
        _datastore(path, home, database, "PATH"),
        addr,
        tls=_tls_of(tls_ca, tls_cert, tls_key),
        token=_token(token_file),
        insecure=insecure,
        max_rate=max_rate,
        max_backups=max_backups,
        offline=offline,
        staging=staging,
        any_file_system=any_file_system,
    )
    with server:
        click.echo(json.dumps({"address": server.address}) if as_json else f"serving on {server.address}")
        sys.stdout.flush()
        server.wait()


@cli.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATHS...", type=click.Path())
@click.option("--max-age", type=_params.Age(), help="CRITICAL when the newest backup is older: 90m, 6h, 2d.")
@click.option("--max-height-lag", type=click.IntRange(min=0), help="CRITICAL when it is more blocks behind.")
@click.option(
    "--against",
    type=click.Path(),
    help="The datastore whose tip counts for the lag; else the tip that the source announced.",
)
@_json
def check(
    paths: tuple[str, ...], max_age: int | None, max_height_lag: int | None, against: str | None, as_json: bool
) -> int:
    """Say in one line whether the backups at PATHS are there, whole and young, as a monitoring plugin.

    A folder is one set of backups; all segments given are one more. Exits with 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
    """
    state = _check.check(paths, max_age_s=max_age, max_height_lag=max_height_lag, against=against)
    click.echo(json.dumps({**_verb.run_id(), **state.as_dict()}) if as_json else state.line())
    return state.code


@cli.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Work here and keep it, instead of in a temporary folder.",
)
@click.option(
    "--blocks", type=click.IntRange(min=2), default=2000, show_default=True, help="How long the sample chain is."
)
@_json
def demo(folder: Path | None, blocks: int, as_json: bool) -> None:
    """Show the whole round on sample data: fill, serve, back up twice, verify, restore, compare."""
    from . import _demo  # noqa: PLC0415

    done = _demo.run(folder, blocks, tell=lambda line: click.echo(line, err=as_json))
    if as_json:
        click.echo(json.dumps(done))


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell: add its output to the shell's start-up file."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    made = get_completion_class(shell)
    if made is not None:
        click.echo(made(cli, {}, "evbackup", "_EVBACKUP_COMPLETE").source())
