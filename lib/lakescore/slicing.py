"""Slices: parts of the input. Each is scored and replaced as a whole."""

from __future__ import annotations

import re
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import DataType, DateType, IntegralType, StringType, StructField

from lakescore import scanning
from lakescore.arrow import arrow_type, is_collated, readable
from lakescore.errors import ColumnsMissing, InputContractError
from lakescore.logs import NotEligible
from lakescore.scanning import Selection
from lakescore.snapshots import Snapshot
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyspark.sql import Column, DataFrame

T = TypeVar("T")
WHOLE = "all"
"""The name of the one slice of a table that is not divided."""
RESERVED_PREFIX = "_lakescore_"
"""The prefix of the columns that lakescore adds. No column of a table begins like this."""
SLICE = f"{RESERVED_PREFIX}slice"
"""The column that `cut` adds."""
_ROWS = f"{RESERVED_PREFIX}rows"
_NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
"""The name of the folder, in a partitioned table, of rows that have null in the column."""
_LONGEST_FOLDER = 255
_CHAR = re.compile(r"char\(([0-9]+)\)")
"""The type in a schema of a text that is filled up with spaces."""


class NullsFound(InputContractError):
    """Columns have nulls, and the job's file forbids them with `nulls: fail`."""

    def __init__(self, address: str, counts: Mapping[str, int]) -> None:
        columns = listed(f"{name!r} in {count} rows" for name, count in counts.items())
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
    values = tuple(_parse_name(snapshot.schema[column], name) for name in names)
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


def _start_spark(snapshot: Snapshot | DataFrame, not_eligible: NotEligible) -> None:
    """Start Spark, which has to read the rows."""
    if isinstance(snapshot, Snapshot):
        snapshot.runner.start(str(not_eligible))


def _rows_of(snapshot: Snapshot | DataFrame) -> DataFrame:
    return snapshot.rows if isinstance(snapshot, Snapshot) else snapshot


def _choose_all(rows: DataFrame) -> DataFrame:
    return rows


def _choose(rows: DataFrame, column: str, names: Sequence[str]) -> DataFrame:
    # Spark reads the text, since Python's dates become java.sql.Date, which is Julian before 1582.
    values = [F.lit(name).cast(rows.schema[column].dataType) for name in names]
    return rows.where(F.col(f"`{column}`").isin(values))


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
        raise _unfit_error(column, kind)
    try:
        known = list(scanning.counted(snapshot, column))
    except NotEligible as not_eligible:
        _start_spark(snapshot, not_eligible)
        text = F.col(f"`{column}`").cast("string")
        values = _rows_of(snapshot).select(text, _is_valid_utf8(text)).distinct().dropna().collect()
        if not all(valid for _, valid in values):
            raise InputContractError(
                f"column {column!r} holds texts that are not UTF-8, which cannot name a slice; "
                "slice by another column, or name the slices to score"
            ) from None
        known = [name for name, _ in values]
    return sorted(filter(None, known), key=lambda name: _parse_name(field, name))


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
        _start_spark(snapshot, not_eligible)
        text = F.col(f"`{column}`").cast("string")
        return _rows_of(snapshot).where(text.isNull() | (text == "")).count()


def sizes(selected: Selection) -> dict[str, int]:
    """Return the number of rows of each slice, from the log if it has the counts."""
    try:
        counts = scanning.counted(selected.snapshot, selected.column, selected.among)
    except NotEligible as not_eligible:
        _start_spark(selected.snapshot, not_eligible)
        frame = selected.rows.groupBy(SLICE).agg(F.count("*").alias("rows"))
        return {row[SLICE]: row["rows"] for row in frame.collect()}
    return counts if selected.column else {WHOLE: counts.get("", 0)}


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
        _start_spark(selected.snapshot, not_eligible)
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


def check_segments(column: StructField) -> None:
    """Check that the values of *column* can name segments.

    Raises:
        InputContractError: the column has another type.
    """
    name, kind = column.name, column.dataType
    if letters := _padded_length(column):
        raise InputContractError(
            f"column {name!r} is a char({letters}), whose texts are filled up with spaces; name "
            "segments by a string"
        )
    if not isinstance(kind, (StringType, IntegralType)) or is_collated(kind):
        raise InputContractError(
            f"column {name!r} is {kind.simpleString()}; a segment is named by a text or an integer"
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
        _start_spark(selected.snapshot, not_eligible)
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


def _parse_name(field: StructField, name: str) -> date | int | str:
    """Return *name* as a value of the column's type, with which Delta can skip files."""
    column, kind = field.name, field.dataType
    if isinstance(kind, StringType) and not is_collated(kind):
        if len(name) < (
            letters := _padded_length(field)
        ):  # Spark reads texts of this type with the spaces
            raise InputContractError(
                f"slice {name!r} of column {column!r}, a char({letters}), is written with spaces "
                f"up to {letters} letters"
            )
        if not name:  # Delta stores it as null in a partition column
            raise InputContractError(f"rows whose column {column!r} is empty are of no slice")
        if name == _NULL_FOLDER:
            raise InputContractError(
                f"rows whose column {column!r} is {name} cannot be a slice: in a table that is "
                "partitioned by it, it means null; filter them out, or rename the value"
            )
        if (long := len(f"slice={_folder_name(name)}".encode())) > _LONGEST_FOLDER:
            raise InputContractError(
                f"slice {name[:20]}... of column {column!r} needs a folder whose name has {long} "
                f"bytes, and a file system takes {_LONGEST_FOLDER}; slice by a shorter column"
            )
        return name
    if isinstance(kind, (DateType, IntegralType)):
        try:
            value = date.fromisoformat(name) if isinstance(kind, DateType) else int(name)
        except ValueError:
            years = " of the years 1 to 9999" if isinstance(kind, DateType) else ""
            raise InputContractError(
                f"slice {name!r} is not a {kind.simpleString()}{years}, the type of column "
                f"{column!r}"
            ) from None
        if (
            isinstance(value, int)
            and not (limits := _integer_limits(kind))[0] <= value <= limits[1]
        ):
            raise InputContractError(
                f"slice {name!r} is out of the range of column {column!r}: a {kind.simpleString()} "
                f"is from {limits[0]} to {limits[1]}"
            )
        if str(value) != name:  # 20131201 and 01 would publish the same rows twice
            raise InputContractError(f"slice {name!r} of column {column!r} is written '{value}'")
        return value
    raise _unfit_error(column, kind)


def _padded_length(field: StructField) -> int:
    """Return the length to which Spark fills up texts of a `CHAR` column; 0 for other columns."""
    declared = _CHAR.fullmatch(field.metadata.get("__CHAR_VARCHAR_TYPE_STRING", ""))
    return int(declared[1]) if declared else 0


def _integer_limits(kind: DataType) -> tuple[int, int]:
    """Return the smallest and the largest integer of *kind*."""
    half = 1 << (arrow_type(kind).bit_width - 1)
    return -half, half - 1


def _folder_name(name: str) -> str:
    """Return *name* about as in the name of Spark's folder: odd characters as `%` and digits."""
    return re.sub(r"[\x00-\x1f\x7f\"#%'*/:=?\\{\[\]^]", "%00", name)


def _unfit_error(column: str, kind: DataType) -> InputContractError:
    return InputContractError(
        f"column {column!r} is {kind.simpleString()}; slice_by takes a date, an integer or a string"
    )
