"""Define the commands that only read: models, versions, show, files, diff, resolve."""

from __future__ import annotations

import re
from pathlib import Path  # noqa: TC003 - Typer reads the annotation
from typing import TYPE_CHECKING, Annotated

import typer

from lakescore.cli.app import (
    Json,
    Name,
    OrderBy,
    Reference,
    Where,
    command,
    complete_reference,
    say,
    tell,
)
from lakescore.errors import ConfigError

if TYPE_CHECKING:
    from lakescore.registry.pushdown import SplitFilter

_FILE_COLUMNS = {
    "flavours", "formats", "mlflow_version", "python_version", "size", "digest", "signature",
    "files",
}  # fmt: skip


@command(3, 75)
def models(
    pattern: Annotated[
        str,
        typer.Argument(metavar="PATTERN", help="pattern of the names, such as 'flight-*'"),
    ] = "*",
    *,
    tag: Annotated[
        list[str] | None, typer.Option(help="key=value, or key for any value; can be repeated")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the registered models with aliases, tags and last change."""
    from lakescore import registry  # noqa: PLC0415

    parts = [word.partition("=") for word in tag or ()]
    tags = {key: value if equals else None for key, equals, value in parts}
    records = registry.models(pattern, tags=tags)
    if as_json:
        tell([record.facts() for record in records])
        return
    from lakescore.cli import screen  # noqa: PLC0415 - --help does not need it

    screen.rows(records, (), "no registered models")


@command(3, 75)
def versions(  # noqa: PLR0913 - the command's options
    name: Name,
    *,
    where: Where = None,
    order_by: OrderBy = None,
    columns: Annotated[
        str | None,
        typer.Option(help="comma-separated, such as version,aliases,metrics.rmse,params.*"),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="maximum number of versions")] = None,
    whole: Annotated[
        bool,
        typer.Option("--whole", help="also read unrecorded facts from the models' files"),
    ] = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="show which conditions the server filters; send no query"),
    ] = False,
    as_json: Json = False,
) -> None:
    """List the versions of the registered model NAME, newest first.

    Filters compare version, status, created_at, updated_at, run_id, run_name, description, source,
    aliases, metrics.x, params.x, tags.x, flavours, size, ... with = != < <= > >=, between, in,
    like, is null, and, or, not.
    """
    from lakescore import registry  # noqa: PLC0415

    if explain:
        _explain(registry.explain(name, where), as_json=as_json)
        return
    selected = [column.strip() for column in (columns or "").split(",") if column.strip()]
    whole = whole or bool(_FILE_COLUMNS & set(selected))
    records = registry.versions(name, where=where, order_by=order_by, limit=limit, whole=whole)
    if as_json and selected:
        heads, lines = records.selected(selected)
        tell([dict(zip(heads, line, strict=True)) for line in lines])
    elif as_json:
        tell([record.facts() for record in records])
    else:
        from lakescore.cli import screen  # noqa: PLC0415

        nothing = f"{name} has no such versions" if where else f"{name} has no versions"
        screen.rows(records, selected, nothing)


def _explain(plan: SplitFilter, *, as_json: bool) -> None:
    if as_json:
        tell({"server": plan.server, "here": plan.here, "files": plan.files})
        return
    for condition in plan.server:
        say(f"server: {condition}")
    for condition in plan.here:
        say(f"here:   {condition}")
    if plan.files:
        say("files:  read for each version that lakescore register did not register")


@command(3, 4, 75)
def show(reference: Reference, *, as_json: Json = False) -> None:
    """Show all facts about REF, with signature, files and digest."""
    from lakescore import registry  # noqa: PLC0415

    record = registry.describe(reference)
    if as_json:
        tell(record.facts())
        return
    from lakescore.cli import screen  # noqa: PLC0415

    screen.record(record)


@command(3, 4, 75)
def files(
    reference: Reference,
    path: Annotated[str | None, typer.Argument(metavar="PATH", help="one file to copy")] = None,
    *,
    to: Annotated[Path | None, typer.Option(help="the folder for the copy of PATH")] = None,
    as_json: Json = False,
) -> None:
    """List the logged files of REF, or copy one of them: PATH --to DIR."""
    from lakescore import registry  # noqa: PLC0415

    if (path is None) != (to is None):
        raise ConfigError("to copy one file give both: PATH and --to DIR")
    if path is not None and to is not None:
        copy = registry.fetch_file(reference, path, to)
        tell({"path": path, "copy": str(copy)}) if as_json else say(str(copy))
        return
    logged = registry.files(reference)
    if as_json:
        tell([file.facts() for file in logged])
        return
    from lakescore.cli import screen  # noqa: PLC0415

    screen.files(reference, logged)


@command(3, 4, 75)
def diff(
    references: Annotated[
        list[str],
        typer.Argument(
            metavar="REF",
            help="two or more versions",
            autocompletion=complete_reference,
        ),
    ],
    *,
    changed: Annotated[bool, typer.Option("--changed", help="show only the differences")] = False,
    as_json: Json = False,
) -> None:
    """Compare versions, and check if each can replace the first.

    A * marks a difference; the last lines say compatible or breaking, and why. A version is
    breaking if it has a new required input, a type that could lose values, or an output that is
    missing or has another type.
    """
    from lakescore import registry  # noqa: PLC0415

    if len(references) < 2:  # noqa: PLR2004 - a difference
        raise ConfigError("give two versions or more: REF REF...")
    difference = registry.diff(references, changed=changed)
    if as_json:
        tell(difference.facts())
        return
    from lakescore.cli import screen  # noqa: PLC0415

    screen.difference(difference)


@command(3, 4, 75)
def resolve(
    reference: Reference,
    *,
    where: Where = None,
    order_by: OrderBy = None,
    trust: Annotated[
        Path | None,
        typer.Option(
            envvar="LAKESCORE_TRUST", help="the file of the trust policy, such as conf/trust.yaml"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Resolve REF to one version, as a job does, and show the version.

    REF is name/3, name@alias, name/latest, models:/..., 'name?where=...&order_by=...', or a name
    alone with --where and --order-by. A query must match exactly one version.
    """
    from lakescore import registry  # noqa: PLC0415
    from lakescore.config import policy  # noqa: PLC0415

    record = registry.resolve(_add_query(reference, where, order_by), trust=policy(trust))
    if as_json:
        tell(record.facts())
        return
    from lakescore.cli import screen  # noqa: PLC0415

    screen.record(record)


def _add_query(reference: str, where: str | None, order_by: str | None) -> str:
    from lakescore.registry.errors import BadReference  # noqa: PLC0415

    parts = {"where": where, "order_by": order_by}
    query = "&".join(f"{key}={value}" for key, value in parts.items() if value)
    if re.search("&(where|order_by)=", f"{where}{order_by}"):
        raise BadReference(reference, "--where and --order-by cannot contain &where= or &order_by=")
    if query and set(reference) & set("/@?"):
        raise BadReference(reference, "--where and --order-by need a model's name alone")
    return f"{reference}?{query}" if query else reference
