"""Check the rows of slices: keys identify rows, and columns that allow no nulls have none."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once

from lakescore import scanning
from lakescore.arrow import readable
from lakescore.errors import InputContractError
from lakescore.logs import NotEligible
from lakescore.scanning import Selection
from lakescore.slicing.naming import WHOLE
from lakescore.slicing.selecting import RESERVED_PREFIX, SLICE, start_spark
from lakescore.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyspark.sql import Column, DataFrame

T = TypeVar("T")
_ROWS = f"{RESERVED_PREFIX}rows"


class NullsFound(InputContractError):
    """Columns have nulls, and the job's file forbids them with `nulls: fail`."""

    def __init__(self, address: str, counts: Mapping[str, int]) -> None:
        columns = listed(f"{name!r} in {counted(count, 'row')}" for name, count in counts.items())
        super().__init__(
            f"{address} has nulls, which nulls: fail does not allow: {columns}; their slices were "
            "not scored; fix the rows, or set null or quarantine instead of fail"
        )


class DuplicateKeys(InputContractError):
    """Rows of a slice have the same key."""

    def __init__(
        self, address: str, keys: Sequence[str], rows: int, examples: Sequence[str]
    ) -> None:
        super().__init__(
            f"{rows} rows of {address} share their {listed(keys)} with another row of their "
            f"slice, such as {listed(examples)}; their slices were not scored; fix the rows, add "
            "id_columns, or set on_duplicate_key: keep"
        )


class KeysInTwoSlices(InputContractError):
    """Rows of different slices have the same key, and the run merges rows by key."""

    def __init__(
        self, address: str, keys: Sequence[str], rows: int, examples: Sequence[str]
    ) -> None:
        super().__init__(
            f"{rows} rows of {address} share their {listed(keys)} with a row of another slice, "
            f"such as {listed(examples)}, so write_mode: merge would keep only one of them; "
            "nothing was scored; fix the rows, add id_columns (for example slice_by), or set "
            "write_mode: replace"
        )


def check(
    selected: Selection, address: str, keys: Sequence[str], never_null: Sequence[str]
) -> None:
    """Check the rows of slices against the settings of the job's file.

    Args:
        selected: the selection, from `select`.
        address: the table, for messages.
        keys: columns that must identify a row in its slice, if any.
        never_null: columns that must hold no null.

    Raises:
        DuplicateKeys: rows of a slice share their *keys*.
        NullsFound: one of *never_null* holds nulls.
    """
    repeats = _look_or_start_spark(selected, scanning.repeats, keys) if keys else 0
    check_nulls(selected, address, never_null)
    if repeats is None:
        row = repetitions(selected.rows, keys).head()
        assert row is not None  # noqa: S101 - an aggregate has a row
        repeats = row["repeated"]
    if repeats:
        _check_repeated(selected.rows, address, keys)


def check_nulls(rows: Selection | DataFrame, address: str, never_null: Sequence[str]) -> None:
    """Check that the columns *never_null* of *rows* hold no null.

    Raises:
        NullsFound: one of them does.
    """
    if not never_null:
        return
    counts = None
    if isinstance(rows, Selection):
        counts = _look_or_start_spark(rows, scanning.nulls, never_null)
    if counts is None:
        frame = rows.rows if isinstance(rows, Selection) else rows
        row = nulls(frame, never_null).head()
        assert row is not None  # noqa: S101 - an aggregate has a row
        counts = {name: row[f"n{n}"] for n, name in enumerate(never_null)}
    if columns_with_nulls := {name: count for name, count in counts.items() if count}:
        raise NullsFound(address, columns_with_nulls)


def _look_or_start_spark(
    selected: Selection, look: Callable[[Selection, Sequence[str]], T], names: Sequence[str]
) -> T | None:
    """Return the result of *look* for the columns *names*; if it declines, start Spark."""
    try:
        return look(selected, names)
    except NotEligible as not_eligible:
        start_spark(selected.snapshot, not_eligible)
        return None


def _check_repeated(rows: DataFrame, address: str, keys: Sequence[str]) -> None:
    duplicates = repeated(rows, keys)
    if total := _count_rows(duplicates):
        raise DuplicateKeys(address, keys, total, _show_keys(duplicates, keys))


def check_across(rows: DataFrame, address: str, keys: Sequence[str]) -> None:
    """Check that no two slices of *rows* share a key. `check` looks at each slice alone.

    Args:
        rows: the rows, from `cut`.
        address: the table, for messages.
        keys: columns that must identify a row.

    Raises:
        KeysInTwoSlices: rows of different slices share their *keys*.
    """
    by_key = rows.groupBy(hashed(keys)).agg(F.min(SLICE).alias("one"), F.max(SLICE).alias("other"))
    if by_key.where("one < other").isEmpty():
        return
    duplicates = repeated(rows.withColumn(SLICE, F.lit(WHOLE)), keys)
    if total := _count_rows(duplicates):
        raise KeysInTwoSlices(address, keys, total, _show_keys(duplicates, keys))


def _count_rows(duplicates: DataFrame) -> int:
    row = duplicates.agg(F.sum(_ROWS)).head()
    return int(row[0] or 0) if row is not None else 0


def _show_keys(duplicates: DataFrame, keys: Sequence[str]) -> list[str]:
    key_columns = readable(duplicates.select(*[F.col(f"`{name}`") for name in keys]))
    return [", ".join(map(str, row)) for row in key_columns.limit(3).collect()]


def repetitions(slices: DataFrame, keys: Sequence[str]) -> DataFrame:
    """Return in one row, as `repeated`, how many *keys* seem to occur twice or more in a slice.

    The number is never too small. It is too large only if two keys share a 64-bit hash.

    Args:
        slices: the rows, from `cut`.
        keys: columns that must identify a row in its slice.
    """
    counted = slices.groupBy(SLICE, hashed(keys).alias("_key")).agg(F.count("*").alias("rows"))
    return counted.agg(F.count_if(F.col("rows") > 1).alias("repeated"))


def nulls(rows: DataFrame, names: Sequence[str]) -> DataFrame:
    """Return in one row, as `n0`, `n1`, ..., the number of nulls in each of the columns *names*."""
    return rows.agg(
        *[F.count_if(F.col(f"`{name}`").isNull()).alias(f"n{n}") for n, name in enumerate(names)]
    )


def repeated(slices: DataFrame, keys: Sequence[str]) -> DataFrame:
    """Return the *keys* that several rows of one slice share, and the number of those rows."""
    key_columns = [F.col(f"`{name}`") for name in keys]
    counted = slices.groupBy(SLICE, *key_columns).agg(F.count("*").alias(_ROWS))
    return counted.where(F.col(_ROWS) > 1).select(*key_columns, _ROWS)


def hashed(keys: Sequence[str]) -> Column:
    """Return a 64-bit hash of the columns *keys*. To group by the hash costs far less."""
    # xxhash64 skips nulls, so the hash must also contain which of several columns are null.
    nulls = [F.col(f"`{name}`").isNull() for name in keys] if len(keys) > 1 else []
    return F.xxhash64(*[F.col(f"`{name}`") for name in keys], *nulls)
