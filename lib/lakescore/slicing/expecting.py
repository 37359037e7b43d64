"""Expecting: the number of rows of slices, and the age of the input, against the job's file."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import DateType, TimestampNTZType, TimestampType

from lakescore import scanning
from lakescore.errors import InputContractError
from lakescore.logs import NotEligible
from lakescore.notation import duration
from lakescore.slicing.naming import parse_name
from lakescore.slicing.selecting import start_spark
from lakescore.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql.types import StructField

    from lakescore.options import ExpectOptions
    from lakescore.snapshots import Snapshot

_FEWEST_EARLIER = 3
"""With fewer earlier slices, the number of rows of a slice is not checked."""
_TIMES = (DateType, TimestampType, TimestampNTZType)


class RowCountUnexpected(InputContractError):
    """Slices have too few or too many rows, compared with the slices before them."""

    def __init__(self, address: str, slices: Sequence[str]) -> None:
        super().__init__(
            f"slices of {address} have another number of rows than expect.rows allows: "
            f"{listed(slices, most=3)}; nothing was scored; complete the input, or name in slices "
            "the ones that are correct and change expect.rows for them"
        )


class InputTooOld(InputContractError):
    """The newest row of the input is older than the job's file allows."""

    def __init__(self, address: str, column: str, newest: str, limit: str) -> None:
        super().__init__(
            f"the newest {column} of {address} is {newest}, but expect.newest allows an age of "
            f"{limit}; nothing was scored; look for the job that fills this table"
        )


class AgeUndefined(InputContractError):
    """The column whose newest value has an age holds no dates or times."""

    def __init__(self, address: str, column: str, kind: str) -> None:
        super().__init__(
            f"expect.newest names the column {column!r} of {address}, which is {kind}; name a "
            "column with dates or times"
        )


def check_expected(
    source: Snapshot, column: str | None, names: Sequence[str], options: ExpectOptions
) -> None:
    """Check the number of rows of slices, and the age of the input's newest row.

    Args:
        source: the input.
        column: the column of its slices.
        names: the slices that are not published yet. One without rows has too few.
        options: the job's expectations.

    Raises:
        RowCountUnexpected: slices have too few or too many rows.
        InputTooOld: the newest row is too old, or there is none.
        AgeUndefined: the column holds no dates or times.
    """
    if options.newest is not None:
        _check_age(source, options.newest, options.max_age_hours)
    if column is not None and names and (options.least_rows, options.most_rows) != (None, None):
        _check_row_counts(source, column, names, options)


def _check_age(source: Snapshot, column: str, max_age_hours: float) -> None:
    kind = source.schema[column].dataType
    if not isinstance(kind, _TIMES):
        raise AgeUndefined(source.address, column, kind.simpleString())
    newest, limit = _newest(source, column), duration(max_age_hours * 3600)
    if newest is None:
        raise InputTooOld(source.address, column, "missing: the table has no value there", limit)
    age = datetime.now(UTC) - _end(newest)
    if age > timedelta(hours=max_age_hours):
        age_text = f"{newest} ({duration(age.total_seconds())} ago)"
        raise InputTooOld(source.address, column, age_text, limit)


def _newest(source: Snapshot, column: str) -> Any:  # noqa: ANN401 - a date or a time
    try:
        return source.log.newest(column)
    except NotEligible as not_eligible:
        start_spark(source, not_eligible)
        row = source.rows.agg(F.max(f"`{column}`").cast("string")).head()
        text = row[0] if row is not None else None
        is_date = isinstance(source.schema[column].dataType, DateType)
        return text and (date if is_date else datetime).fromisoformat(text)


def _end(value: date) -> datetime:
    """Return the end of a date, or a time, in UTC."""
    if not isinstance(value, datetime):
        return datetime.combine(value, time(), UTC) + timedelta(days=1)
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _check_row_counts(
    source: Snapshot, column: str, names: Sequence[str], options: ExpectOptions
) -> None:
    field = source.schema[column]
    sizes = dict(_parse_names(field, _sizes(source, column)))
    least, most = options.least_rows, options.most_rows
    unexpected = []
    for name in names:
        value = parse_name(field, name)
        earlier = _last(sizes, value, options.of_last)
        if len(earlier) < _FEWEST_EARLIER:
            continue
        rows, usual = sizes.get(value, 0), median(earlier)
        if rows < usual * (least or 0) or (most is not None and rows > usual * most):
            unexpected.append(f"{name} has {counted(rows, 'row')}, and {usual:g} are usual")
    if unexpected:
        raise RowCountUnexpected(source.address, unexpected)


def _parse_names(field: StructField, sizes: Mapping[str, int]) -> Iterator[tuple[Any, int]]:
    """Yield the values of slices with their rows; names that can be no slice are left out."""
    for name, rows in sizes.items():
        with suppress(InputContractError):
            yield parse_name(field, name), rows


def _last(sizes: Mapping[Any, int], before: Any, most: int) -> list[int]:  # noqa: ANN401 - a slice's value
    """Return the numbers of rows of the last slices before a value."""
    earlier = sorted(value for value in sizes if value < before)
    return [sizes[value] for value in earlier[-most:]]


def _sizes(source: Snapshot, column: str) -> dict[str, int]:
    """Return the number of rows of all slices."""
    try:
        sizes = scanning.counted(source, column)
    except NotEligible as not_eligible:
        start_spark(source, not_eligible)
        value = F.col(f"`{column}`").cast("string")
        counts = source.rows.groupBy(value.alias("value")).agg(F.count("*").alias("rows")).collect()
        sizes = {row["value"] or "": row["rows"] for row in counts}
    return {name: rows for name, rows in sizes.items() if name and rows}
