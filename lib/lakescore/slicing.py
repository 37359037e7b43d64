"""Slices: the parts of the input that are each scored and replaced as a whole."""

from __future__ import annotations

from datetime import date
from functools import partial
from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import DataType, DateType, IntegralType, StringType

from lakescore.errors import InputContractError
from lakescore.scanning import Selection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame

SLICE = "_slice"
"""The column that `cut` adds."""


def cut(rows: DataFrame, column: str | None, names: Sequence[str]) -> DataFrame:
    """Return the *rows* of the slices *names*, with the slice's name in the column `_slice`.

    A row is of the slice that its *column* holds; without a *column*, the whole of *rows* is the
    one slice that *names* has.

    Raises:
        InputContractError: one of *names* cannot be read as the column's type, or is not the one
            way to write its value.
    """
    if column is None:
        return rows.withColumn(SLICE, F.lit(names[0]))
    for name in names:
        _typed(rows, column, name)
    # Spark reads the text: java.sql.Date, which Python's dates become, is Julian before 1582.
    values = [F.lit(name).cast(rows.schema[column].dataType) for name in names]
    literals = [each for pair in zip(values, map(F.lit, names), strict=True) for each in pair]
    chosen = rows.where(F.col(column).isin(values))
    return chosen.withColumn(SLICE, F.element_at(F.create_map(*literals), F.col(column)))


def select(rows: DataFrame, column: str | None, names: Sequence[str]) -> Selection:
    """Return what `cut` does of a snapshot's *rows*, as a selection that workers can read too.

    Raises:
        InputContractError: as `cut` does.
    """
    return Selection(
        snapshot=rows,
        choose=partial(cut, column=column, names=names),
        adds=SLICE,
        column=column,
        among=tuple(_typed(rows, column, name) for name in names) if column else None,
    )


def sizes(slices: DataFrame) -> DataFrame:
    """Return `_slice` and `rows` (long) of the slices that `cut` made, if they hold any rows."""
    return slices.groupBy(SLICE).agg(F.count("*").alias("rows")).select(SLICE, "rows")


def _typed(rows: DataFrame, column: str, name: str) -> date | int | str:
    """Read *name* as the column's type, so that Delta can skip files by it."""
    kind: DataType = rows.schema[column].dataType
    if isinstance(kind, StringType):
        return name
    if isinstance(kind, (DateType, IntegralType)):
        try:
            value = date.fromisoformat(name) if isinstance(kind, DateType) else int(name)
        except ValueError:
            raise InputContractError(
                f"slice {name!r} is not a {kind.simpleString()}, the type of column {column!r}"
            ) from None
        if str(value) != name:  # 20131201 and 01 would publish the same rows a second time
            raise InputContractError(f"slice {name!r} of column {column!r} is written '{value}'")
        return value
    raise InputContractError(
        f"column {column!r} is {kind.simpleString()}; slice_by takes a date, an integer or a string"
    )
