"""Slices: the parts of the input that one run each scores and replaces."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import DataType, DateType, IntegralType, StringType

from lakescore.errors import InputContractError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame


def only(rows: DataFrame, column: str | None, value: str) -> DataFrame:
    """Return the *rows* of the slice *value*: those whose *column* holds it, or all without one.

    Raises:
        InputContractError: *value* cannot be read as the column's type.
    """
    if column is None:
        return rows
    return rows.where(F.col(column) == F.lit(_typed(rows, column, value)))


def sizes(rows: DataFrame, column: str | None, values: Sequence[str]) -> DataFrame:
    """Return the columns `slice` (string) and `rows` (long) for the slices that hold any rows.

    Without a *column*, the whole of *rows* is the one slice that *values* names.

    Raises:
        InputContractError: one of *values* cannot be read as the column's type.
    """
    if column is None:
        return rows.agg(F.lit(values[0]).alias("slice"), F.count("*").alias("rows"))
    wanted = [_typed(rows, column, value) for value in values]
    name = F.create_map(
        *[F.lit(each) for pair in zip(wanted, values, strict=True) for each in pair]
    )
    return (
        rows.where(F.col(column).isin(wanted))
        .groupBy(F.col(column))
        .agg(F.count("*").alias("rows"))
        .select(name[F.col(column)].alias("slice"), "rows")
    )


def _typed(rows: DataFrame, column: str, value: str) -> date | int | str:
    """Read *value* as the column's type, so that Delta can skip files by it."""
    kind: DataType = rows.schema[column].dataType
    try:
        if isinstance(kind, DateType):
            return date.fromisoformat(value)
        if isinstance(kind, IntegralType):
            return int(value)
    except ValueError:
        raise InputContractError(
            f"slice {value!r} is not a {kind.simpleString()}, the type of column {column!r}"
        ) from None
    if isinstance(kind, StringType):
        return value
    raise InputContractError(
        f"column {column!r} is {kind.simpleString()}; slice_by takes a date, an integer or a string"
    )
