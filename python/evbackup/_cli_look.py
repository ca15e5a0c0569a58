"""`evbackup inspect`, `digest`, `block`, `blocks`, `serve` and `demo`: what shows what is there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from . import _cli_options, _cli_show, _params, _verb


@click.command(cls=_verb.Verb)
@click.argument("path", required=False, type=click.Path())
@_cli_options.home
@_cli_options.database
@_cli_options.reading
@click.option(
    "--count/--no-count",
    default=True,
    show_default=True,
    help="Count the keys of a datastore by family, which reads all of it.",
)
@click.option("--max-rate", type=_params.Rate(), help="Copy at most this fast: 10M, 1G.")
@_cli_options.as_json
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
        _cli_options.datastore_of(path, home, database, "PATH"),
        count=count,
        offline=offline,
        staging=staging,
        any_file_system=any_file_system,
        max_rate=max_rate,
    )
    _cli_show.show(found, as_json=as_json)


@click.command(cls=_verb.Verb)
@click.argument("paths", nargs=-1, metavar="[DATASTORE|SEGMENTS...]", type=click.Path())
@click.option("--at", type=click.IntRange(min=0), help="The version to look at.")
@click.option(
    "--now", type=click.IntRange(min=0), help="Unix seconds: leave out what has expired then, instead of by now."
)
@click.option("--history", is_flag=True, help="Cover every entry, not only the newest live ones.")
@_cli_options.home
@_cli_options.database
@_cli_options.reading
@click.option("--max-rate", type=_params.Rate(), help="Copy at most this fast: 10M, 1G.")
@_cli_options.quiet
@_cli_options.as_json
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

    where = (
        list(paths) if len(paths) > 1 else _cli_options.datastore_of(next(iter(paths), None), home, database, "PATH")
    )
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
    if not as_json:
        click.echo(found)
        return
    all_paths = [where] if isinstance(where, str) else where
    _cli_show.document({"digest": found, "paths": all_paths, "at": at, "now": now, "history": history})


@click.command(cls=_verb.Verb)
@click.argument("paths", nargs=-1, metavar="[PATH...]", type=click.Path())
@click.argument("which", metavar="HEIGHT|HASH|newest")
@_cli_options.home
@_cli_options.database
@_cli_options.reading
@click.option("--max-rate", type=_params.Rate(), help="Copy at most this fast: 10M, 1G.")
@_cli_options.as_json
def block(
    paths: tuple[str, ...],
    which: str,
    home: Path | None,
    database: str | None,
    offline: bool,
    staging: str | None,
    any_file_system: bool,
    max_rate: int | None,
    as_json: bool,
) -> None:
    """Print a block of a datastore, a segment, or a chain of segments: by its height, by a hash, or the newest."""
    from . import _store  # noqa: PLC0415

    wanted: int | str | None = None if which == "newest" else int(which) if which.isdecimal() else which
    where = _cli_options.datastores_of(paths, home, database)
    reading: dict[str, Any] = {"offline": offline, "staging": staging, "any_file_system": any_file_system}
    with _store.open(where, **reading, max_rate=max_rate) as opened:
        found = opened.block(wanted).as_dict()
    if as_json:
        _cli_show.document(found)
        return
    header, data = found.pop("header"), found.pop("data")
    _cli_show.rows({**found, **header, "transactions": data["transactions"]})


@click.command(cls=_verb.Verb)
@click.argument("paths", nargs=-1, metavar="[PATH...]", type=click.Path())
@click.option("--start", type=click.IntRange(min=0), help="The first height; the lowest there is by default.")
@click.option("--stop", type=click.IntRange(min=0), help="The height behind the last; up to the newest by default.")
@_cli_options.home
@_cli_options.database
@_cli_options.reading
@click.option("--max-rate", type=_params.Rate(), help="Copy at most this fast: 10M, 1G.")
@_cli_options.as_json
def blocks(
    paths: tuple[str, ...],
    start: int | None,
    stop: int | None,
    home: Path | None,
    database: str | None,
    offline: bool,
    staging: str | None,
    any_file_system: bool,
    max_rate: int | None,
    as_json: bool,
) -> None:
    """List the blocks of a datastore, a segment, or a chain of segments, a line each; with --json one document each."""
    from . import _store  # noqa: PLC0415

    where = _cli_options.datastores_of(paths, home, database)
    reading: dict[str, Any] = {"offline": offline, "staging": staging, "any_file_system": any_file_system}
    with _store.open(where, **reading, max_rate=max_rate) as opened:
        for found in opened.blocks(start, stop):
            if as_json:
                _cli_show.document(found.as_dict())
            else:
                click.echo(f"{found.height} {found.hash.hex()} {found.time.isoformat()} {len(found.transactions)}")


@click.command(cls=_verb.Verb)
@click.argument("path", required=False, type=click.Path())
@click.option(
    "--listen", "addr", default="127.0.0.1:7332", show_default=True, help="Where to listen; port 0 picks a free one."
)
@_cli_options.home
@_cli_options.database
@_cli_options.tls("Clients need a certificate signed by one of these, PEM.")
@_cli_options.token_file
@click.option("--insecure", is_flag=True, help="Listen beyond this machine without TLS and token.")
@click.option("--max-rate", type=_params.Rate(), help="At most this fast, all backups together: 10M, 1G.")
@click.option("--max-backups", type=click.IntRange(min=1), default=2, show_default=True, help="Backups at once.")
@_cli_options.reading
@_cli_options.as_json
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
        _cli_options.datastore_of(path, home, database, "PATH"),
        addr,
        tls=_cli_options.tls_of(tls_ca, tls_cert, tls_key),
        token=_cli_options.token_of(token_file),
        insecure=insecure,
        max_rate=max_rate,
        max_backups=max_backups,
        offline=offline,
        staging=staging,
        any_file_system=any_file_system,
    )
    with server:
        if as_json:
            _cli_show.document({"address": server.address})
        else:
            click.echo(f"serving on {server.address}")
        sys.stdout.flush()
        server.wait()


@click.command(cls=_verb.Verb)
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Work here and keep it, instead of in a temporary folder.",
)
@click.option(
    "--blocks", type=click.IntRange(min=2), default=2000, show_default=True, help="How long the sample chain is."
)
@_cli_options.as_json
def demo(folder: Path | None, blocks: int, as_json: bool) -> None:
    """Show the whole round on sample data: fill, serve, back up twice, verify, restore, compare."""
    from . import _demo  # noqa: PLC0415

    done = _demo.run(folder, blocks, tell=lambda line: click.echo(line, err=as_json))
    if as_json:
        _cli_show.document(done)
