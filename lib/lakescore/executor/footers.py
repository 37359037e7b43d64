"""Footers: what the footer of a Parquet file says of its rows, and why workers cannot read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from .nesting import leaf_types
from .storing import LOCAL, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow.parquet as pq

    from .reading import Column

_ROWS_AT_ONCE = 131_072
_CELLS_AT_ONCE = 4_000_000
"""The most that is read at once: each batch costs a call of the model, a wide row memory."""
_REBASED = {b"org.apache.spark.legacyDateTime", b"org.apache.spark.legacyINT96"}
_PROLEPTIC_SINCE = (3, 1)
"""The first Spark that writes dates and times unchanged, unless a mark says otherwise."""
FOOTERS = pa.schema(
    {
        "file": pa.int64(),
        "rows": pa.list_(pa.int64()),
        "at_once": pa.list_(pa.int64()),
        "problem": pa.string(),
    }
)
"""The schema of `footers`."""


class RowGroup(NamedTuple):
    """A row group of a file."""

    rows: int
    at_once: int
    """The rows that a worker reads and scores at once."""


def footers(
    paths: Sequence[str], columns: Sequence[Column], tasks: int, store: Store = LOCAL
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function for `mapInArrow` that yields `footer` of *paths*, split into *tasks*."""

    def read_footers(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for task in batch.column(0).to_pylist():
                numbers = range(task, len(paths), tasks)
                facts = [footer(paths[number], columns, store) for number in numbers]
                yield pa.RecordBatch.from_pylist(
                    [
                        {
                            "file": number,
                            "rows": [group.rows for group in groups],
                            "at_once": [group.at_once for group in groups],
                            "problem": problem,
                        }
                        for number, (groups, problem) in zip(numbers, facts, strict=True)
                    ],
                    schema=FOOTERS,
                )

    return read_footers


def footer(
    path: str, columns: Sequence[Column], store: Store = LOCAL
) -> tuple[tuple[RowGroup, ...], str | None]:
    """Return the row groups of a file, and why workers cannot read *columns* of it, if so."""
    try:
        with store.open(path) as file:
            metadata = file.metadata
            stored = {column.stored for column in columns} & set(file.schema_arrow.names)
            nested = {c.stored for c in columns if pa.types.is_nested(c.read)} & stored
            groups = tuple(
                RowGroup(
                    group.num_rows, _rows_at_once(len(stored - nested), _values(group, nested))
                )
                for group in map(metadata.row_group, range(metadata.num_row_groups))
            )
            return groups, _find_problem(file.schema_arrow, metadata.metadata or {}, columns)
    except (OSError, pa.ArrowException) as error:
        return (), f"cannot be opened: {error}"


def _rows_at_once(columns: int, values_a_row: float) -> int:
    """Return how many rows of *columns* and of further *values_a_row* a worker reads at once."""
    return max(1, min(_ROWS_AT_ONCE, int(_CELLS_AT_ONCE / max(1, columns + values_a_row))))


def _values(group: pq.RowGroupMetaData, nested: set[str]) -> float:
    """Return the mean number of values in a row of the *nested* columns."""
    if not nested or not group.num_rows:
        return 0.0
    chunks = map(group.column, range(group.num_columns))
    beginnings = tuple(f"{name}." for name in nested)
    values = sum(c.num_values for c in chunks if c.path_in_schema.startswith(beginnings))
    return float(values / group.num_rows)


def _find_problem(
    schema: pa.Schema, marks: dict[bytes, bytes], columns: Sequence[Column]
) -> str | None:
    for column in columns:
        names = [name for name in schema.names if name.lower() == column.stored.lower()]
        if not names:
            continue
        if names != [column.stored]:
            return f"has the columns {names} for {column.stored!r}"
        kind = schema.field(column.stored).type
        if not _reads_as(kind, column.read, widens=column.widens):
            return f"holds {column.stored!r} as {kind}, not {column.read}"
        if any(map(pa.types.is_temporal, leaf_types(column.read))) and _is_rebased(marks):
            return f"holds {column.stored!r} in the calendar of an old Spark"
    return None


def _reads_as(kind: pa.DataType, wanted: pa.DataType, *, widens: bool) -> bool:
    """Return whether all values of *kind* are values of *wanted*, by the rules of Delta."""
    types = pa.types
    if kind == wanted:
        return True
    if types.is_list(wanted):
        is_list = types.is_list(kind) or types.is_large_list(kind)
        return is_list and _reads_as(kind.value_type, wanted.value_type, widens=widens)
    if types.is_map(wanted):
        return types.is_map(kind) and all(
            _reads_as(has, asks, widens=widens)
            for has, asks in ((kind.key_type, wanted.key_type), (kind.item_type, wanted.item_type))
        )
    if types.is_struct(wanted):
        return (
            types.is_struct(kind)
            and len(kind) == len(wanted)
            and all(
                has.name == asks.name and _reads_as(has.type, asks.type, widens=widens)
                for has, asks in zip(kind, wanted, strict=True)
            )
        )
    return _reads_value_as(kind, wanted, widens=widens)


def _reads_value_as(kind: pa.DataType, wanted: pa.DataType, *, widens: bool) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_string(wanted):
        return bool(types.is_large_string(kind) or types.is_string_view(kind) or kind == wanted)
    if types.is_binary(wanted):
        return bool(types.is_large_binary(kind) or types.is_binary_view(kind) or kind == wanted)
    if types.is_timestamp(wanted):
        # Spark writes instants without a zone (INT96) or in UTC; both are instants.
        return bool(
            types.is_timestamp(kind) and kind.unit == "us" and bool(kind.tz) <= bool(wanted.tz)
        )
    if not widens:
        return False
    if types.is_signed_integer(kind):
        wider = types.is_signed_integer(wanted) and wanted.bit_width > kind.bit_width
        return bool(wider or (types.is_float64(wanted) and kind.bit_width < 64))  # noqa: PLR2004
    return bool(types.is_float32(kind) and types.is_float64(wanted))


def _is_rebased(marks: dict[bytes, bytes]) -> bool:
    """Return whether dates before 1582 may need Spark's conversion of calendars."""
    version = marks.get(b"org.apache.spark.version", b"").decode().split(".")
    old = len(version) > 1 and tuple(map(int, version[:2])) < _PROLEPTIC_SINCE
    return old or bool(_REBASED & marks.keys())
