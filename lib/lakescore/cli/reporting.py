"""The command that makes the model page: report."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from lakescore.cli.app import Json, Name, OrderBy, Where, command, say, tell
from lakescore.errors import NothingToCompare


@command()
def report(  # noqa: PLR0913 - the command's options
    name: Name,
    *,
    where: Where = None,
    order_by: OrderBy = None,
    limit: Annotated[int | None, typer.Option(min=1, help="how many at the most")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|FOLDER", help="where the page goes; report-NAME.html here when left out"
        ),
    ] = None,
    whole: Annotated[
        bool | None,
        typer.Option(
            "--whole/--no-whole",
            help="read the files' facts too, where none were recorded: signatures, digests; done "
            "for up to 10 versions when left out",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a page of the versions of NAME, from what the registry holds.

    With --json the page's document is printed, and a page written only where --output says so.
    """
    from lakescore import registry, reporting  # noqa: PLC0415 - no part of --help

    found = registry.versions(name, where=where, order_by=order_by, limit=limit, whole=whole)
    if not found:
        raise NothingToCompare(name, where)
    document = reporting.registry_document(name, found, where=where, order_by=order_by, limit=limit)
    if output is not None or not as_json:
        saved = reporting.save(reporting.page(document), _place(output, name))
    tell(document) if as_json else say(str(saved))


def _place(output: Path | None, name: str) -> Path:
    """Return the page's file: a path with a suffix that is no folder is a file's."""
    if output is not None and output.suffix and not output.is_dir():
        return output.resolve()
    safe = re.sub(r"[^\w.-]+", "-", name).strip(".-")[:100] or "model"
    return ((output or Path()) / f"report-{safe}.html").resolve()
