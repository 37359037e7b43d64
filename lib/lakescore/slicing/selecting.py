"""The selection of the rows of slices, which Spark or workers read."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import StringType, StructField

from lakescore.scanning import Selection
from lakescore.slicing.naming import parse_name
from lakescore.snapshots import Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame

    from lakescore.logs import NotEligible

RESERVED_PREFIX = "_lakescore_"
"""The prefix of the columns that lakescore adds. No column of a table begins like this."""
SLICE = f"{RESERVED_PREFIX}slice"
"""The column that `cut` adds."""


def cut(rows: DataFrame, column: str | None, names: Sequence[str]) -> DataFrame:
    """Return the *rows* of the slices *names*, with the slice's name in the column `SLICE`.

    The value in *column* names the slice of a row. Without a *column*, all *rows* are one slice,
    the only one in *names*.

    Raises:
        InputContractError: one of *names* cannot be read as the column's type, or is not the
            standard way to write its value.
    """
    return select(rows, column, names).rows


def select(
    snapshot: Snapshot | DataFrame,
    column: str | None,
    names: Sequence[str],
    sizes: Mapping[str, int] | None = None,
) -> Selection:
    """Return the rows that `cut` returns as a selection, which workers can read too.

    Args:
        snapshot: all rows.
        column: as for `cut`.
        names: as for `cut`.
        sizes: the number of rows of each slice, if it is known.

    Raises:
        InputContractError: as for `cut`.
    """
    slice_column = StructField(SLICE, StringType())
    size = None if sizes is None else sum(sizes[name] for name in names)
    if column is None:
        name = names[0]
        return Selection(
            snapshot, _choose_all, slice_column, lambda: F.lit(name), constant=name, size=size
        )
    values = tuple(parse_name(snapshot.schema[column], name) for name in names)
    return Selection(
        snapshot=snapshot,
        choose=partial(_choose, column=column, names=names),
        adds=slice_column,
        # Each value has one name.
        value=lambda: F.col(f"`{column}`").cast("string"),
        column=column,
        among=values,
        size=size,
    )


def start_spark(snapshot: Snapshot | DataFrame, not_eligible: NotEligible) -> None:
    """Start Spark, which has to read the rows."""
    if isinstance(snapshot, Snapshot):
        snapshot.runner.start(str(not_eligible))


def rows_of(snapshot: Snapshot | DataFrame) -> DataFrame:
    """Return the rows as Spark reads them."""
    return snapshot.rows if isinstance(snapshot, Snapshot) else snapshot


def _choose_all(rows: DataFrame) -> DataFrame:
    return rows


def _choose(rows: DataFrame, column: str, names: Sequence[str]) -> DataFrame:
    # Spark reads the text, since Python's dates become java.sql.Date, which is Julian before 1582.
    values = [F.lit(name).cast(rows.schema[column].dataType) for name in names]
    return rows.where(F.col(f"`{column}`").isin(values))
