"""Propose how a version scores a table, from its MLmodel file and the log of the table alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakescore import jars
from lakescore.errors import InputContractError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.applying import Request
    from lakescore.serving.tables import Tables

MOST_COLUMNS = 5_000
"""The columns of a table, or the features of a version, that the page shows."""
LARGEST_SCHEMA = 2_000_000
"""Characters of the names and types of all columns."""


class TableTooWide(InputContractError):
    """The table has more columns than the page shows."""

    def __init__(self, address: str, has: str, most: str) -> None:
        super().__init__(
            f"{address} has {has}, and the page shows at most {most}; use lakescore apply"
        )


def propose(  # noqa: PLR0913 - the choices by name
    reference: str,
    tables: Tables,
    source: str,
    output: str,
    *,
    columns: Mapping[str, str],
    features: Sequence[str],
    id_columns: Sequence[str],
) -> dict[str, Any]:
    """Return the facts of the proposal, as `lakescore apply --json` prints them, for the page.

    Instead of the candidates for each open feature they have the columns that fit, for every
    feature: `fits` lists different selections of columns, by their places in the table, and
    `fitting` says for each feature which of these is its own. `ordered` says that the signature has
    no names; then one more selection, if any, has the columns of arrays that fill all places.
    `writes` is the address of the output.

    Args:
        reference: the version, as name/3.
        tables: the tables that can be asked about.
        source: the name of the table to score.
        output: the name of the table for the predictions.
        columns: by feature, the chosen column.
        features: the columns for a signature without names.
        id_columns: the columns that identify a row.

    Raises:
        TableNotServed: *source* or *output* is no table of *tables*.
        TableTooWide: the table or the version has too many columns.
        ConfigError: PySpark, whose types columns have, is not installed.
        Also the errors of `applying.outline` and `Request.propose`.
    """
    jars.spark_submit()
    from lakescore import applying  # noqa: PLC0415 - without PySpark, this is one line

    request = applying.outline(reference, tables.find(source), tables.name(output))
    _check_size(request)
    choices = applying.Choices(
        columns=columns, features=tuple(features), id_columns=tuple(id_columns)
    )
    proposal = request.propose(choices)
    writes = {"writes": tables.address(output)}
    return {**proposal.facts(candidates=False), **writes, **_fits(request)}


def _check_size(request: Request) -> None:
    source, model = request.source, request.loadable.model
    for address, number in ((source.address, len(source.schema)), (model.uri, request.width)):
        if number > MOST_COLUMNS:
            raise TableTooWide(address, f"{number:,} columns", f"{MOST_COLUMNS:,}")
    size = len(source.schema.simpleString())
    if size > LARGEST_SCHEMA:
        raise TableTooWide(
            source.address, f"a schema of {size:,} characters", f"{LARGEST_SCHEMA:,}"
        )


def _fits(request: Request) -> dict[str, Any]:
    """Return the columns that fit each feature. Features of one type share a list."""
    places = {name: place for place, name in enumerate(request.source.schema.names)}
    fits: dict[tuple[str, ...], int] = {}
    fitting = [fits.setdefault(columns, len(fits)) for columns in request.fitting_columns()]
    return {
        "ordered": request.lacks_names,
        "fits": [[places[name] for name in columns] for columns in fits],
        "fitting": fitting,
    }
