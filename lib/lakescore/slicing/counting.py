"""The slices and segments of a table, and the number of rows of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import DateType, IntegralType, StringType

from lakescore import scanning
from lakescore.arrow import is_collated
from lakescore.errors import ColumnsMissing, InputContractError
from lakescore.logs import NotEligible
from lakescore.slicing.naming import WHOLE, check_segments, parse_name, unfit_error
from lakescore.slicing.selecting import SLICE, rows_of, start_spark
from lakescore.snapshots import Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import Column, DataFrame

    from lakescore.scanning import Selection


def names(snapshot: Snapshot | DataFrame, column: str | None) -> list[str]:
    """Return the names of all slices of a snapshot, in the order of their values.

    Rows whose *column* is null or an empty text belong to no slice.

    Raises:
        ColumnsMissing: the table lacks the column.
        InputContractError: the column has a type, or texts, that cannot name slices.
    """
    if column is None:
        return [WHOLE]
    if column not in snapshot.schema.names:
        address = snapshot.address if isinstance(snapshot, Snapshot) else "the frame"
        raise ColumnsMissing(address, [column], snapshot.schema.names)
    field = snapshot.schema[column]
    kind = field.dataType
    if not isinstance(kind, (StringType, DateType, IntegralType)) or is_collated(kind):
        raise unfit_error(column, kind)
    try:
        known = list(scanning.counted(snapshot, column))
    except NotEligible as not_eligible:
        start_spark(snapshot, not_eligible)
        text = F.col(f"`{column}`").cast("string")
        values = rows_of(snapshot).select(text, _is_valid_utf8(text)).distinct().dropna().collect()
        if not all(valid for _, valid in values):
            raise InputContractError(
                f"column {column!r} holds texts that are not UTF-8, which cannot name a slice; "
                "slice by another column, or name the slices to score"
            ) from None
        known = [name for name, _ in values]
    return sorted(filter(None, known), key=lambda name: parse_name(field, name))


def _is_valid_utf8(text: Column) -> Column:
    """Return a column that says whether *text* is UTF-8."""
    if hasattr(F, "is_valid_utf8"):
        return F.is_valid_utf8(text)
    # Spark 3.5 replaces bytes that are not UTF-8 by a special character.
    return F.decode(text.cast("binary"), "UTF-8") == text


def outside(snapshot: Snapshot | DataFrame, column: str | None) -> int:
    """Return the number of rows of no slice: their *column* is null or an empty text."""
    if column is None:
        return 0
    try:
        return scanning.counted(snapshot, column).get("", 0)
    except NotEligible as not_eligible:
        start_spark(snapshot, not_eligible)
        text = F.col(f"`{column}`").cast("string")
        return rows_of(snapshot).where(text.isNull() | (text == "")).count()


def sizes(selected: Selection) -> dict[str, int]:
    """Return the number of rows of each slice, from the log if it has the counts."""
    try:
        counts = scanning.counted(selected.snapshot, selected.column, selected.among)
    except NotEligible as not_eligible:
        start_spark(selected.snapshot, not_eligible)
        frame = selected.rows.groupBy(SLICE).agg(F.count("*").alias("rows"))
        return {row[SLICE]: row["rows"] for row in frame.collect()}
    return counts if selected.column else {WHOLE: counts.get("", 0)}


def tally(
    snapshot: Snapshot, by: Sequence[str], wanted: Mapping[str, Sequence[str]]
) -> dict[tuple[Any, ...], int]:
    """Return the number of rows for each combination of values in the columns *by*.

    Args:
        snapshot: the table; Spark is started if it alone can count the rows.
        by: columns of plain values.
        wanted: columns of texts, each with the values that rows must have there.
    """
    try:
        return scanning.tallied(snapshot, by, wanted)
    except NotEligible as not_eligible:
        start_spark(snapshot, not_eligible)
        rows = snapshot.rows
        for name, values in wanted.items():
            rows = rows.where(F.col(f"`{name}`").isin(list(values)))
        counts = rows.groupBy(*[F.col(f"`{name}`") for name in by]).agg(F.count("*")).collect()
        return {tuple(row)[:-1]: row[-1] for row in counts}


def segments(selected: Selection, by: str) -> dict[str, dict[str | None, int]]:
    """Return, by slice and by the value of the column *by* as a text, the number of rows.

    Raises:
        InputContractError: the column has a type that cannot name segments.
    """
    check_segments(selected.schema[by])
    names = [by] if selected.column is None else [selected.column, by]
    try:
        tally = scanning.tallied(selected.snapshot, names, selected.wanted)
    except NotEligible as not_eligible:
        start_spark(selected.snapshot, not_eligible)
        named = [F.col(SLICE), F.col(f"`{by}`").cast("string").alias("segment")]
        counts = selected.rows.groupBy(*named).agg(F.count("*").alias("rows")).collect()
        tally = {(slice_, segment): rows for slice_, segment, rows in counts}
    counts_by_slice: dict[str, dict[str | None, int]] = {}
    for values, rows in tally.items():
        segment_counts = counts_by_slice.setdefault(
            WHOLE if selected.column is None else str(values[0]), {}
        )
        segment = None if values[-1] is None else str(values[-1])
        segment_counts[segment] = segment_counts.get(segment, 0) + rows
    return counts_by_slice
