"""Holdout: the labelled rows on which versions are compared, and the checks of these rows."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import DoubleType, FloatType, StructField

from lakescore import scanning, slicing
from lakescore.comparing.errors import HoldoutEmpty
from lakescore.comparing.filtering import condition
from lakescore.errors import ColumnsMissing
from lakescore.logs import NotEligible
from lakescore.scanning import Selection
from lakescore.snapshots import Snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import Column, DataFrame

    from lakescore.signature import Binding

LABEL = "_label"
"""The column that `select` adds."""


def select(
    holdout: Snapshot | DataFrame, label: str, *, where: str | None = None
) -> Selection | DataFrame:
    """Return the labelled rows of a snapshot for which *where* holds; see `filtering.condition`.

    The result has the label in the column `LABEL` too. Without a filter, it is a selection that
    workers can read themselves.

    Raises:
        ColumnsMissing: the table lacks the label.
        BadCondition: *where* is not a condition on the table's columns.
    """
    if label not in holdout.schema.names:
        address = holdout.address if isinstance(holdout, Snapshot) else "the holdout"
        raise ColumnsMissing(address, [label], holdout.schema.names)

    def value() -> Column:
        return F.col(f"`{label}`")

    if where is not None:
        if isinstance(holdout, Snapshot):
            holdout.runner.start("where is a filter of Spark's SQL")
        rows = holdout.rows if isinstance(holdout, Snapshot) else holdout
        chosen = rows.where(condition(where, rows.columns))
        return labelled(chosen, label).withColumn(LABEL, value())
    added = StructField(LABEL, holdout.schema[label].dataType)
    return Selection(holdout, partial(labelled, label=label), added, value, column=label)


def labelled(holdout: DataFrame, label: str) -> DataFrame:
    """Return the rows that have a label; null and NaN are not labels."""
    rows = holdout.where(F.col(f"`{label}`").isNotNull())
    may_be_nan = isinstance(rows.schema[label].dataType, (DoubleType, FloatType))
    return rows.where(~F.isnan(f"`{label}`")) if may_be_nan else rows


def check(rows: Selection | DataFrame, address: str, binding: Sequence[Binding]) -> None:
    """Check that the rows of `select` have no nulls in the columns that must not have any.

    Raises:
        HoldoutEmpty: no row has a label.
        NullsFound: such a column has nulls.
    """
    if isinstance(rows, Selection) and _is_empty(rows):
        raise HoldoutEmpty(address, str(rows.column))
    never_null = dict.fromkeys(name for side in binding for name in side.never_null)
    slicing.check_nulls(rows, address, list(never_null))


def _is_empty(labelled_rows: Selection) -> bool:
    """Return whether there is no row; False if only Spark can check this."""
    try:
        label = labelled_rows.schema[LABEL]
        field = StructField(str(labelled_rows.column), label.dataType)
        return bool(scanning.first(labelled_rows, [field], 1).num_rows == 0)
    except NotEligible:
        return False


def count_unlabelled(holdout: Snapshot, labelled_rows: int, where: str | None) -> int | None:
    """Return the number of rows without a label, by the table's log.

    It is unknown (None) with a filter, because the rows that the filter leaves out may have labels,
    and if the log does not have the number of rows.
    """
    if where is not None:
        return None
    try:
        rows = sum(scanning.counted(holdout, None).values())
    except NotEligible:
        return None
    return rows - labelled_rows if rows >= labelled_rows else None


def segments(rows: Selection | DataFrame, address: str, by: str) -> dict[str | None, int]:
    """Return the number of rows of `select` for each value of the column *by*, as a text.

    Raises:
        ColumnsMissing, InputContractError: the column does not exist, or it cannot name segments.
    """
    if by not in rows.schema.names:
        raise ColumnsMissing(address, [by], rows.schema.names)
    slicing.check_segments(rows.schema[by])
    try:
        if not isinstance(rows, Selection):
            raise NotEligible("the rows are not a snapshot's")  # noqa: TRY301 - as all others
        return _segments_here(rows, str(rows.column), by)
    except NotEligible as not_eligible:
        if isinstance(rows, Selection):
            rows.runner.start(str(not_eligible))
    dataframe = rows.rows if isinstance(rows, Selection) else rows
    counts = dataframe.groupBy(F.col(f"`{by}`").cast("string")).agg(F.count("*")).collect()
    return {row[0]: row[1] for row in counts}


def _segments_here(rows: Selection, label: str, by: str) -> dict[str | None, int]:
    segment_rows: Counter[str | None] = Counter()
    counts = scanning.tallied(rows.snapshot, [label, by], rows.wanted)
    for (value, segment), count in counts.items():
        if value is not None and value == value:  # noqa: PLR0124 - only NaN differs from itself
            segment_rows[None if segment is None else str(segment)] += count
    return dict(segment_rows)
