"""Define the command that writes the page of a model: report."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from lakescore.cli.app import Json, Name, OrderBy, Where, command, say, tell


@command(3, 4, 75)
def report(  # noqa: PLR0913 - the command's options
    name: Name,
    *,
    where: Where = None,
    order_by: OrderBy = None,
    limit: Annotated[int | None, typer.Option(min=1, help="maximum number of versions")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|FOLDER", help="place of the page; default: report-NAME.html here"
        ),
    ] = None,
    whole: Annotated[
        bool | None,
        typer.Option(
            "--whole/--no-whole",
            help="also read unrecorded facts from the models' files: signatures, digests; "
            "default: for up to 10 versions",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a page about the versions of NAME from the registry.

    --json prints the document of the page, and writes the page only with --output.
    """
    from lakescore import registry, reporting  # noqa: PLC0415 - --help does not need it
    from lakescore.registry.errors import NothingToCompare  # noqa: PLC0415

    records = registry.versions(name, where=where, order_by=order_by, limit=limit, whole=whole)
    if not records:
        raise NothingToCompare(name, where)
    document = reporting.registry_document(
        name, records, where=where, order_by=order_by, limit=limit
    )
    if output is not None or not as_json:
        saved = reporting.save(reporting.page(document), _page_file(output, name))
    tell(document) if as_json else say(str(saved))


def _page_file(output: Path | None, name: str) -> Path:
    """Return the page's file: *output* if it has a suffix and is not a folder, or a file in it."""
    if output is not None and output.suffix and not output.is_dir():
        return output.resolve()
    safe = re.sub(r"[^\w.-]+", "-", name).strip(".-")[:100] or "model"
    return ((output or Path()) / f"report-{safe}.html").resolve()
