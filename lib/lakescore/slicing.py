"""Slices: the parts of the input that are each scored and replaced as a whole."""

from __future__ import annotations

import re
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import DataType, DateType, IntegralType, StringType, StructField

from lakescore import scanning
from lakescore.arrow import arrow_type, is_collated, readable
from lakescore.errors import (
    ColumnsMissing,
    DuplicateKeys,
    InputContractError,
    KeysInTwoSlices,
    NullsFound,
)
from lakescore.logs import NotEligible
from lakescore.scanning import Selection
from lakescore.snapshots import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyspark.sql import Column, DataFrame

T = TypeVar("T")
WHOLE = "all"
"""The name of the one slice of a table that is not divided."""
RESERVED_PREFIX = "_lakescore_"
"""How the columns that are added on the way begin, and no column of a table."""
SLICE = f"{RESERVED_PREFIX}slice"
"""The column that `cut` adds."""
_ROWS = f"{RESERVED_PREFIX}rows"
_NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
"""How a folder of a divided table is called whose rows are null there."""
_LONGEST_FOLDER = 255
_CHAR = re.compile(r"char\(([0-9]+)\)")
"""How a schema says that a text is filled up with spaces."""


def cut(rows: DataFrame, column: str | None, names: Sequence[str]) -> DataFrame:
    """Return the *rows* of the slices *names*, with the slice's name in the column `SLICE`.

    A row is of the slice that its *column* holds; without a *column*, the whole of *rows* is the
    one slice that *names* has.

    Raises:
        InputContractError: one of *names* cannot be read as the column's type, or is not the one
            way to write its value.
    """
    return select(rows, column, names).rows


def select(
    snapshot: Snapshot | DataFrame,
    column: str | None,
    names: Sequence[str],
    sizes: Mapping[str, int] | None = None,
) -> Selection:
    """Return what `cut` does of a snapshot, as a selection that workers can read too.

    Args:
        snapshot: all rows.
        column: as for `cut`.
        names: likewise.
        sizes: how many rows each slice holds, if that is known.

    Raises:
        InputContractError: as `cut` does.
    """
    added = StructField(SLICE, StringType())
    size = None if sizes is None else sum(sizes[name] for name in names)
    if column is None:
        name = names[0]
        return Selection(snapshot, _all, added, lambda: F.lit(name), constant=name, size=size)
    values = tuple(_typed(snapshot.schema[column], name) for name in names)
    return Selection(
        snapshot=snapshot,
        choose=partial(_chosen, column=column, names=names),
        adds=added,
        # A name is the one way to write the value.
        value=lambda: F.col(f"`{column}`").cast("string"),
        column=column,
        among=values,
        size=size,
    )


def _start(snapshot: Snapshot | DataFrame, not_eligible: NotEligible) -> None:
    """Let Spark look at the rows, since nobody else can tell."""
    if isinstance(snapshot, Snapshot):
        snapshot.runner.start(str(not_eligible))


def _whole(snapshot: Snapshot | DataFrame) -> DataFrame:
    return snapshot.rows if isinstance(snapshot, Snapshot) else snapshot


def _all(rows: DataFrame) -> DataFrame:
    return rows


def _chosen(rows: DataFrame, column: str, names: Sequence[str]) -> DataFrame:
    # Spark reads the text: java.sql.Date, which Python's dates become, is Julian before 1582.
    values = [F.lit(name).cast(rows.schema[column].dataType) for name in names]
    return rows.where(F.col(f"`{column}`").isin(values))


def names(snapshot: Snapshot | DataFrame, column: str | None) -> list[str]:
    """Return the names of all slices of a snapshot, in the order of their values.

    Rows whose *column* is null or an empty text are of no slice.

    Raises:
        ColumnsMissing: there is no such column.
        InputContractError: it has a type, or texts, that cannot name slices.
    """
    if column is None:
        return [WHOLE]
    if column not in snapshot.schema.names:
        address = snapshot.address if isinstance(snapshot, Snapshot) else "the frame"
        raise ColumnsMissing(address, [column], snapshot.schema.names)
    field = snapshot.schema[column]
    kind = field.dataType
    if not isinstance(kind, (StringType, DateType, IntegralType)) or is_collated(kind):
        raise _unfit(column, kind)
    try:
        found = list(scanning.counted(snapshot, column))
    except NotEligible as not_eligible:
        _start(snapshot, not_eligible)
        text = F.col(f"`{column}`").cast("string")
        values = _whole(snapshot).select(text, _is_valid(text)).distinct().dropna().collect()
        if not all(valid for _, valid in values):
            raise InputContractError(
                f"column {column!r} holds texts that are no UTF-8, which cannot name a slice; "
                "slice by another column, or name the slices that shall be scored"
            ) from None
        found = [name for name, _ in values]
    return sorted(filter(None, found), key=lambda name: _typed(field, name))


def _is_valid(text: Column) -> Column:
    """Tell which texts are UTF-8."""
    if hasattr(F, "is_valid_utf8"):
        return F.is_valid_utf8(text)
    # Spark 3.5 puts a sign of its own in the place of bytes that are none.
    return F.decode(text.cast("binary"), "UTF-8") == text


def outside(snapshot: Snapshot | DataFrame, column: str | None) -> int:
    """Return how many rows of a snapshot are of no slice: *column* is null or an empty text."""
    if column is None:
        return 0
    try:
        return scanning.counted(snapshot, column).get("", 0)
    except NotEligible as not_eligible:
        _start(snapshot, not_eligible)
        text = F.col(f"`{column}`").cast("string")
        return _whole(snapshot).where(text.isNull() | (text == "")).count()


def sizes(selected: Selection) -> dict[str, int]:
    """Return how many rows each slice holds: as the log counts them, where it can tell."""
    try:
        found = scanning.counted(selected.snapshot, selected.column, selected.among)
    except NotEligible as not_eligible:
        _start(selected.snapshot, not_eligible)
        counted = selected.rows.groupBy(SLICE).agg(F.count("*").alias("rows"))
        return {row[SLICE]: row["rows"] for row in counted.collect()}
    return found if selected.column else {WHOLE: found.get("", 0)}


def segments(selected: Selection, by: str) -> dict[str, dict[str | None, int]]:
    """Return how many rows of each slice hold each value of the column *by*, as a text.

    Raises:
        InputContractError: the column has a type that cannot name segments.
    """
    check_segments(selected.schema[by])
    names = [by] if selected.column is None else [selected.column, by]
    try:
        counted = scanning.tallied(selected.snapshot, names, selected.wanted)
    except NotEligible as not_eligible:
        _start(selected.snapshot, not_eligible)
        named = [F.col(SLICE), F.col(f"`{by}`").cast("string").alias("segment")]
        counts = selected.rows.groupBy(*named).agg(F.count("*").alias("rows")).collect()
        counted = {(slice_, segment): rows for slice_, segment, rows in counts}
    found: dict[str, dict[str | None, int]] = {}
    for values, rows in counted.items():
        of_slice = found.setdefault(WHOLE if selected.column is None else str(values[0]), {})
        segment = None if values[-1] is None else str(values[-1])
        of_slice[segment] = of_slice.get(segment, 0) + rows
    return found


def check_segments(column: StructField) -> None:
    """Hold that the values of a *column* can name segments.

    Raises:
        InputContractError: it has another type.
    """
    name, kind = column.name, column.dataType
    if letters := _padding(column):
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
    """Hold the rows of slices against what the job's file says of them.

    Args:
        selected: what `select` made.
        address: the table, for messages.
        keys: columns that shall name a row of its slice, if any.
        never_null: columns that shall hold no null.

    Raises:
        DuplicateKeys: rows of a slice share their *keys*.
        NullsFound: one of *never_null* holds nulls.
    """
    repeats = _unless_declined(selected, scanning.repeats, keys) if keys else 0
    check_nulls(selected, address, never_null)
    if repeats is None:
        seen = repetitions(selected.rows, keys).head()
        assert seen is not None  # noqa: S101 - an aggregate has a row
        repeats = seen["repeated"]
    if repeats:
        _check_repeated(selected.rows, address, keys)


def check_nulls(rows: Selection | DataFrame, address: str, never_null: Sequence[str]) -> None:
    """Hold that the columns *never_null* of *rows* hold no null.

    Raises:
        NullsFound: one of them does.
    """
    if not never_null:
        return
    counts = None
    if isinstance(rows, Selection):
        counts = _unless_declined(rows, scanning.nulls, never_null)
    if counts is None:
        whole = rows.rows if isinstance(rows, Selection) else rows
        seen = nulls(whole, never_null).head()
        assert seen is not None  # noqa: S101 - an aggregate has a row
        counts = {name: seen[f"n{n}"] for n, name in enumerate(never_null)}
    if held := {name: count for name, count in counts.items() if count}:
        raise NullsFound(address, held)


def _unless_declined(
    selected: Selection, look: Callable[[Selection, Sequence[str]], T], names: Sequence[str]
) -> T | None:
    """Return what *look* finds in the columns *names*, or let Spark start to look instead."""
    try:
        return look(selected, names)
    except NotEligible as not_eligible:
        _start(selected.snapshot, not_eligible)
        return None


def _check_repeated(rows: DataFrame, address: str, keys: Sequence[str]) -> None:
    found = repeated(rows, keys)
    if total := _total(found):
        raise DuplicateKeys(address, keys, total, _shown(found, keys))


def check_across(rows: DataFrame, address: str, keys: Sequence[str]) -> None:
    """Hold that no two slices of *rows* share a key, which `check` holds of each slice alone.

    Args:
        rows: what `cut` made.
        address: the table, for messages.
        keys: columns that shall name a row.

    Raises:
        KeysInTwoSlices: rows of different slices share their *keys*.
    """
    by_key = rows.groupBy(hashed(keys)).agg(F.min(SLICE).alias("one"), F.max(SLICE).alias("other"))
    if by_key.where("one < other").isEmpty():
        return
    found = repeated(rows.withColumn(SLICE, F.lit(WHOLE)), keys)
    if total := _total(found):
        raise KeysInTwoSlices(address, keys, total, _shown(found, keys))


def _total(found: DataFrame) -> int:
    total = found.agg(F.sum(_ROWS)).head()
    return int(total[0] or 0) if total is not None else 0


def _shown(found: DataFrame, keys: Sequence[str]) -> list[str]:
    of_keys = readable(found.select(*[F.col(f"`{name}`") for name in keys]))
    return [", ".join(map(str, row)) for row in of_keys.limit(3).collect()]


def repetitions(slices: DataFrame, keys: Sequence[str]) -> DataFrame:
    """Return in one row, as `repeated`, how many *keys* several rows of a slice seem to have.

    Never less than there are, and more only where two keys have one 64-bit hash.

    Args:
        slices: what `cut` made.
        keys: columns that shall name a row of its slice.
    """
    counted = slices.groupBy(SLICE, hashed(keys).alias("_key")).agg(F.count("*").alias("rows"))
    return counted.agg(F.count_if(F.col("rows") > 1).alias("repeated"))


def nulls(rows: DataFrame, names: Sequence[str]) -> DataFrame:
    """Return in one row, as `n0`, `n1`, ..., how many rows are null in each of the columns."""
    return rows.agg(
        *[F.count_if(F.col(f"`{name}`").isNull()).alias(f"n{n}") for n, name in enumerate(names)]
    )


def repeated(slices: DataFrame, keys: Sequence[str]) -> DataFrame:
    """Return *keys*, and how many rows, of the keys that several rows of one slice have."""
    of_keys = [F.col(f"`{name}`") for name in keys]
    counted = slices.groupBy(SLICE, *of_keys).agg(F.count("*").alias(_ROWS))
    return counted.where(F.col(_ROWS) > 1).select(*of_keys, _ROWS)


def hashed(keys: Sequence[str]) -> Column:
    """Return a 64-bit hash of the columns *keys*, which costs far less to group by than they do."""
    # xxhash64 passes over nulls, so which of several columns is null has to be said.
    nulls = [F.col(f"`{name}`").isNull() for name in keys] if len(keys) > 1 else []
    return F.xxhash64(*[F.col(f"`{name}`") for name in keys], *nulls)


def _typed(field: StructField, name: str) -> date | int | str:
    """Read *name* as the column's type, so that Delta can skip files by it."""
    column, kind = field.name, field.dataType
    if isinstance(kind, StringType) and not is_collated(kind):
        if len(name) < (letters := _padding(field)):  # as Spark reads it
            raise InputContractError(
                f"slice {name!r} of column {column!r}, a char({letters}), is written with spaces "
                f"up to {letters} letters"
            )
        if not name:  # Delta keeps it as null where it divides a table
            raise InputContractError(f"rows whose column {column!r} is empty are of no slice")
        if name == _NULL_FOLDER:
            raise InputContractError(
                f"rows whose column {column!r} is {name} cannot be a slice: in a table that is "
                "divided by it, it means null; filter them out, or rename the value"
            )
        if (long := len(f"slice={_folder(name)}".encode())) > _LONGEST_FOLDER:
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
        if isinstance(value, int) and not (limits := _limits(kind))[0] <= value <= limits[1]:
            raise InputContractError(
                f"slice {name!r} is out of the range of column {column!r}: a {kind.simpleString()} "
                f"is from {limits[0]} to {limits[1]}"
            )
        if str(value) != name:  # 20131201 and 01 would publish the same rows a second time
            raise InputContractError(f"slice {name!r} of column {column!r} is written '{value}'")
        return value
    raise _unfit(column, kind)


def _padding(field: StructField) -> int:
    """Return how many letters Spark fills a text of a `CHAR` column up to."""
    declared = _CHAR.fullmatch(field.metadata.get("__CHAR_VARCHAR_TYPE_STRING", ""))
    return int(declared[1]) if declared else 0


def _limits(kind: DataType) -> tuple[int, int]:
    """Return the smallest and the largest integer of *kind*."""
    half = 1 << (arrow_type(kind).bit_width - 1)
    return -half, half - 1


def _folder(name: str) -> str:
    """Return *name* about as Spark writes it in a folder's name: what is odd, as `%` and digits."""
    return re.sub(r"[\x00-\x1f\x7f\"#%'*/:=?\\{\[\]^]", "%00", name)


def _unfit(column: str, kind: DataType) -> InputContractError:
    return InputContractError(
        f"column {column!r} is {kind.simpleString()}; slice_by takes a date, an integer or a string"
    )
