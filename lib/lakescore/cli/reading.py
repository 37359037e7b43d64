"""The commands that only look: models, versions, show, files, diff, resolve."""

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
from lakescore.errors import BadReference, ConfigError

if TYPE_CHECKING:
    from lakescore.registry.query import SplitFilter

_OF_FILES = {
    "flavours", "formats", "mlflow_version", "python_version", "size", "digest", "signature",
    "files",
}  # fmt: skip


@command()
def models(
    pattern: Annotated[str, typer.Argument(help="of the name, such as 'flight-*'")] = "*",
    *,
    tag: Annotated[
        list[str] | None, typer.Option(help="key=value, or key for any value; may be repeated")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the registered models, with aliases, tags and last change."""
    from lakescore import registry  # noqa: PLC0415

    parts = [each.partition("=") for each in tag or ()]
    wanted = {key: value if equals else None for key, equals, value in parts}
    found = registry.models(pattern, tags=wanted)
    if as_json:
        tell([each.facts() for each in found])
        return
    from lakescore.cli import screen  # noqa: PLC0415 - no part of --help

    screen.rows(found, (), "no registered models")


@command()
def versions(  # noqa: PLR0913 - the command's options
    name: Name,
    *,
    where: Where = None,
    order_by: OrderBy = None,
    columns: Annotated[
        str | None,
        typer.Option(help="such as version,aliases,metrics.rmse,params.*; comma-separated"),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="how many at the most")] = None,
    whole: Annotated[
        bool,
        typer.Option("--whole", help="read the files' facts too, where none were recorded"),
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="say what the server filters, and ask nothing")
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
    asked = [column.strip() for column in (columns or "").split(",") if column.strip()]
    whole = whole or bool(_OF_FILES & set(asked))
    found = registry.versions(name, where=where, order_by=order_by, limit=limit, whole=whole)
    if as_json and asked:
        heads, lines = found.selected(asked)
        tell([dict(zip(heads, line, strict=True)) for line in lines])
    elif as_json:
        tell([each.facts() for each in found])
    else:
        from lakescore.cli import screen  # noqa: PLC0415

        screen.rows(
            found, asked, f"{name} has no such versions" if where else f"{name} has no versions"
        )


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


@command()
def show(reference: Reference, *, as_json: Json = False) -> None:
    """Show all that is known of REF: signature, files and digest too."""
    from lakescore import registry  # noqa: PLC0415

    found = registry.describe(reference)
    if as_json:
        tell(found.facts())
        return
    from lakescore.cli import screen  # noqa: PLC0415

    screen.record(found)


@command()
def files(
    reference: Reference,
    path: Annotated[str | None, typer.Argument(metavar="PATH", help="one file to fetch")] = None,
    *,
    to: Annotated[Path | None, typer.Option(help="the folder that PATH is copied into")] = None,
    as_json: Json = False,
) -> None:
    """List the logged files of REF, or copy one: PATH --to DIR."""
    from lakescore import registry  # noqa: PLC0415

    if (path is None) != (to is None):
        raise ConfigError("to copy one file give both: PATH and --to DIR")
    if path is not None and to is not None:
        copy = registry.fetch_file(reference, path, to)
        tell({"path": path, "copy": str(copy)}) if as_json else say(str(copy))
        return
    found = registry.files(reference)
    if as_json:
        tell([each.facts() for each in found])
        return
    from lakescore.cli import screen  # noqa: PLC0415

    screen.files(reference, found)


@command()
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
    changed: Annotated[
        bool, typer.Option("--changed", help="only what differs between them")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show versions side by side; can each replace the first?

    A * marks what differs; the last lines say compatible or breaking, and why. It breaks if a
    required input is new, a type changed so that values could be lost, or an output is gone or has
    another type.
    """
    from lakescore import registry  # noqa: PLC0415

    if len(references) < 2:  # noqa: PLR2004 - a difference
        raise ConfigError("a difference is between two versions or more: REF REF...")
    found = registry.diff(references, changed=changed)
    if as_json:
        tell(found.facts())
        return
    from lakescore.cli import screen  # noqa: PLC0415

    screen.difference(found)


@command()
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
    """Pin REF to one version, as a job would, and show it.

    REF is name/3, name@alias, name/latest, models:/..., 'name?where=...&order_by=...', or a name
    alone with --where and --order-by. A query names exactly one version, or it is an error.
    """
    from lakescore import registry  # noqa: PLC0415
    from lakescore.config import policy  # noqa: PLC0415

    found = registry.resolve(_query(reference, where, order_by), trust=policy(trust))
    if as_json:
        tell(found.facts())
        return
    from lakescore.cli import screen  # noqa: PLC0415

    screen.record(found)


def _query(reference: str, where: str | None, order_by: str | None) -> str:
    parts = {"where": where, "order_by": order_by}
    given = "&".join(f"{key}={value}" for key, value in parts.items() if value)
    if re.search("&(where|order_by)=", f"{where}{order_by}"):
        raise BadReference(reference, "--where and --order-by hold no &where= or &order_by=")
    if given and set(reference) & set("/@?"):
        raise BadReference(reference, "--where and --order-by go with a model's name alone")
    return f"{reference}?{given}" if given else reference
