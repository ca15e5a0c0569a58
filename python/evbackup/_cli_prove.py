"""`evbackup verify`, `align` and `check`: what says whether backups are good."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from . import _check, _cli_options, _cli_show, _params, _verb
from .errors import EvbackupError, ExistsError


@click.command(cls=_verb.Verb)
@click.argument("segments", nargs=-1, metavar="[SEGMENTS...]", type=click.Path())
@_cli_options.home
@_cli_options.database
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
@_cli_options.tls("Of a node: certificates to trust instead of the machine's, PEM.")
@click.option("--tls-server-name", help="The name that the server's certificate must carry.")
@_cli_options.token_file
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="More gRPC metadata.")
@click.option("--insecure", is_flag=True, help="Send the token over plain text all the same.")
@_cli_options.timeouts
@click.option("--strict", is_flag=True, help="Count warnings as errors.")
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the report as a page, to look at, print or send.",
)
@click.option("--overwrite", is_flag=True, help="With --html: replace the page that is there.")
@_cli_options.quiet
@_cli_options.as_json
def verify(
    segments: tuple[str, ...],
    home: Path | None,
    database: str | None,
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
    (host:port, http://…, https://…). With --home it is the node's own RPC; with --home and --database that database, whose node is stopped.
    """
    from . import _verify  # noqa: PLC0415

    if html is not None and not overwrite and os.path.lexists(html):
        # Said at once rather than after hours; whoever makes it meanwhile is noticed all the same.
        raise ExistsError(
            f"{html}: expected nothing there, found a file", hint="choose another name, or --overwrite", path=html
        )
    if home is not None or database is not None or not segments:
        segments = (_cli_options.source_of(next(iter(segments), None), home, database, "SEGMENTS"),)
    addr = _verify.node_of(segments[0]) if len(segments) == 1 else None
    if addr is None and len(segments) == 1 and os.path.isdir(segments[0]):  # noqa: PTH112  # stays a text
        segments = tuple(_check.newest_chain(segments[0])) or segments
    of_paths: dict[str, Any] = {
        "level": level,
        "chain": chain,
        "genesis": genesis,
        "was_based": was_based,
        "el_height": el_height,
        "el_timestamp": el_timestamp,
        "el_state_root": el_state_root,
    }
    options = {name: value for name, value in of_paths.items() if addr is None or _cli_options.said(name)}
    of_nodes: dict[str, Any] = {"against": against or None, "sample": sample}
    options |= {name: value for name, value in of_nodes.items() if addr is not None or _cli_options.said(name)}
    tls = (tls_ca, tls_cert, tls_key, tls_server_name)
    options |= _cli_options.of_node(addr is not None, tls, token_file, headers, insecure)
    report = _verify.verify(
        segments[0] if len(segments) == 1 else segments,
        trusted=trusted,
        signatures=signatures,
        connect_timeout_s=connect_timeout,
        idle_timeout_s=idle_timeout,
        progress=not quiet,
        **options,
    )
    _verb.note(report)
    if html is not None:
        report.to_html(html, overwrite=overwrite, strict=strict)
    if as_json:
        _cli_show.document(report.as_dict())
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


@click.command(cls=_verb.Verb)
@click.argument("paths", nargs=-1, metavar="[DATASTORE|SEGMENTS...]", type=click.Path())
@click.option(
    "--el-height", type=click.IntRange(min=0), required=True, help="The last block of the execution layer's copy."
)
@click.option("--el-timestamp", type=click.IntRange(min=0), help="Its time, Unix seconds.")
@click.option("--el-state-root", metavar="HEX", help="The state root after it.")
@_cli_options.home
@_cli_options.database
@_cli_options.reading
@click.option("--max-rate", type=_params.Rate(), help="Copy at most this fast: 10M, 1G.")
@_cli_options.quiet
@_cli_options.as_json
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

    where = (
        list(paths) if len(paths) > 1 else _cli_options.datastore_of(next(iter(paths), None), home, database, "PATH")
    )
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
    _cli_show.show(found, as_json=as_json)


@click.command(cls=_verb.Verb)
@click.argument("paths", nargs=-1, required=True, metavar="PATHS...", type=click.Path())
@click.option("--max-age", type=_params.Age(), help="CRITICAL when the newest backup is older: 90m, 6h, 2d.")
@click.option("--max-height-lag", type=click.IntRange(min=0), help="CRITICAL when it is more blocks behind.")
@click.option(
    "--against",
    type=click.Path(),
    help="The datastore whose tip counts for the lag; else the tip that the source announced.",
)
@_cli_options.as_json
def check(
    paths: tuple[str, ...], max_age: int | None, max_height_lag: int | None, against: str | None, as_json: bool
) -> int:
    """Say in one line whether the backups at PATHS are there, whole and young, as a monitoring plugin.

    A folder is one set of backups; all segments given are one more. Exits with 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
    """
    state = _check.check(paths, max_age_s=max_age, max_height_lag=max_height_lag, against=against)
    if as_json:
        _cli_show.document(state.as_dict())
    else:
        click.echo(state.line())
    return state.code
