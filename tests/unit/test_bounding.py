"""The bounds of a file's values in the log hold for each value, of any type."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakescore.executor import OutputColumn, Sink
from lakescore.executor.bounding import Bounds
from lakescore.executor.writing import written

if TYPE_CHECKING:
    from pathlib import Path

often = settings(max_examples=int(os.environ.get("BOUNDING_EXAMPLES", "25")))
LAST = "\U0010ffff"
KINDS: dict[str, tuple[pa.DataType, Any]] = {
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "int8": (pa.int8(), st.integers(-128, 127)),
    "float64": (pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    "float32": (pa.float32(), st.floats(allow_nan=False, allow_infinity=False, width=32)),
    "decimal": (
        pa.decimal128(38, 10),
        st.decimals(-(10**27), 10**27, places=10, allow_nan=False, allow_infinity=False),
    ),
    "date": (pa.date32(), st.dates()),
    "time": (pa.timestamp("us", "UTC"), st.datetimes(timezones=st.just(dt.UTC))),
    "wall clock": (pa.timestamp("us"), st.datetimes()),
    "text": (pa.string(), st.text(st.sampled_from(["a", "~", "\x7f", "é", "\ufffd", LAST, "💡"]))),
    "any text": (pa.string(), st.text(min_size=28, max_size=40)),
}


def bounds(values: list[Any], kind: pa.DataType) -> Bounds:
    """Return the bounds of *values*, taken in two batches."""
    taken = Bounds()
    array = pa.array(values, kind)
    taken.add(array[: len(values) // 2])
    taken.add(array[len(values) // 2 :])
    return taken


def read(text: str, kind: pa.DataType) -> Any:
    """Read a bound back, as the type that it bounds."""
    bound = json.loads(text, parse_float=Decimal if pa.types.is_decimal(kind) else float)
    if pa.types.is_date(kind):
        return dt.date.fromisoformat(bound)
    if pa.types.is_timestamp(kind):
        assert bound.endswith("Z") == bool(kind.tz)
        return dt.datetime.fromisoformat(bound)
    return bound.encode() if isinstance(bound, str) else bound


@pytest.mark.parametrize("name", KINDS)
@often
@given(st.data())
def test_no_value_lies_beyond_the_bounds(name: str, data: st.DataObject) -> None:
    kind, values = KINDS[name]
    held = data.draw(st.lists(st.none() | values, min_size=1, max_size=8))
    bounded = bounds(held, kind)
    assert bounded.nulls == held.count(None)
    known = [
        value.encode() if isinstance(value, str) else value for value in held if value is not None
    ]
    if bounded.written is None:
        late = [v for v in known if isinstance(v, dt.datetime) and v.year == 9999]
        cannot_be_raised = [v for v in known if (LAST * 33).encode() in v] if "text" in name else []
        assert not known or late or cannot_be_raised
        return
    least, most = (read(text, kind) for text in bounded.written)
    assert least <= min(known)
    assert most >= max(known)


@often
@given(st.lists(st.binary(max_size=40) | st.text().map(str.encode), min_size=1))
def test_texts_that_are_no_utf8_are_bounded_by_their_bytes_or_not_at_all(held: list[bytes]) -> None:
    bounded = Bounds()
    bounded.add(pa.array(held, pa.binary()).view(pa.string()))
    if bounded.written is not None:
        least, most = (json.loads(text).encode() for text in bounded.written)
        assert least <= min(held)
        assert most >= max(held)


@pytest.mark.parametrize(
    ("kind", "values", "written"),
    [
        (pa.int64(), [2**53 + 1, -5, None], ("-5", "9007199254740993")),
        # For some readers -0.0 is smaller than 0.0.
        (pa.float64(), [0.0], ("-0.0", "0.0")),
        (pa.float64(), [-0.0, 1.5], ("-0.0", "1.5")),
        # JSON has no such numbers, and readers order NaN in three ways.
        (pa.float64(), [1.0, math.nan], None),
        (pa.float64(), [1.0, math.inf], None),
        (pa.float64(), [-math.inf, None], None),
        (pa.float32(), [np.float32(0.1)], ("0.10000000149011612",) * 2),  # the very number
        # All digits, and no exponent.
        (pa.decimal128(10, 2), [Decimal("-0.25"), Decimal("3.00")], ("-0.25", "3.00")),
        (pa.date32(), [dt.date.min, dt.date.max], ('"0001-01-01"', '"9999-12-31"')),
        # Milliseconds, as Delta writes them: down for the lower bound, up for the upper one.
        (
            pa.timestamp("us", "UTC"),
            [dt.datetime(1969, 12, 31, 23, 59, 59, 1500, tzinfo=dt.UTC)],
            ('"1969-12-31T23:59:59.001Z"', '"1969-12-31T23:59:59.002Z"'),
        ),
        (
            pa.timestamp("us"),
            [dt.datetime(1, 1, 1)],  # noqa: DTZ001 - of no zone
            ('"0001-01-01T00:00:00.000"',) * 2,
        ),
        # Rounded up, this would be the year 10000, which readers cannot read.
        (pa.timestamp("us"), [dt.datetime.max], None),  # noqa: DTZ901
        (pa.string(), ["", "b"], ('""', '"b"')),
        (pa.string(), ["u" * 32], ('"' + "u" * 32 + '"',) * 2),
        # Cut, and ended by a character that sorts after everything that may follow.
        (pa.string(), ["u" * 36], ('"' + "u" * 32 + '"', '"' + "u" * 32 + '\x7f"')),
        (pa.string(), ["u" * 32 + "é"], ('"' + "u" * 32 + '"', '"' + "u" * 32 + LAST + '"')),
        (
            pa.string(),
            ["u" * 32 + LAST + "a"],
            ('"' + "u" * 32 + '"', '"' + "u" * 32 + LAST + '\x7f"'),
        ),
        (pa.string(), [LAST * 99], None),  # nothing sorts behind it
        (pa.string(), [None, None], None),
        (pa.bool_(), [True], None),  # Delta bounds neither
        (pa.binary(), [b"a"], None),
    ],
)
def test_a_bound_is_written_as_delta_writes_it(
    kind: pa.DataType, values: list[Any], written: tuple[str, str] | None
) -> None:
    assert bounds(values, kind).written == written


@pytest.mark.parametrize(
    ("days", "kind"), [(2_932_897, pa.date32()), (-719_163, pa.date32())]
)  # the first day of the year 10000, and the last before the year 1
def test_days_that_no_text_of_four_digits_names_are_not_bounded(
    days: int, kind: pa.DataType
) -> None:
    bounded = Bounds()
    bounded.add(pa.array([0, days], pa.int32()).cast(kind))
    assert bounded.written is None


@pytest.mark.parametrize(
    ("ratios", "constant", "bounded"),
    [
        ([1.5, None], "c", {"id": (7, 8), "ratio 💡": (1.5, 1.5), "constant": ("c", "c")}),
        # Without a value there is nothing to bound, so no bound is missing.
        ([None, None], None, {"id": (7, 8)}),
        # Without one bound the file has none: delta-rs would skip it for any filter on that column.
        ([1.5, math.nan], "c", {}),
        ([1.5, 2.5], "x" * 32 + LAST * 40, {}),
    ],
)
def test_a_file_has_all_bounds_that_its_table_promises_or_none(
    tmp_path: Path, ratios: list[float | None], constant: str | None, bounded: dict[str, Any]
) -> None:
    columns = (
        OutputColumn(name="id", kind=pa.int64(), position=0, bounded=True),
        OutputColumn(name="ratio 💡", kind=pa.float64(), position=1, bounded=True),
        OutputColumn(name="constant", kind=pa.string(), position=None, bounded=True),
        OutputColumn(name="unasked", kind=pa.int64(), position=0),
    )
    sink = Sink(
        folder=str(tmp_path),
        columns=columns,
        parts={"all": {"constant": constant}},
        by=None,
        compression="snappy",
    )
    rows = pa.RecordBatch.from_pydict({"id": [7, 8], "ratio": pa.array(ratios, pa.float64())})
    (file,) = next(iter(written(sink, iter([rows])))).to_pylist()
    logged = json.loads(file["statistics"])
    least, most = logged.get("minValues", {}), logged.get("maxValues", {})
    assert {name: (least[name], most[name]) for name in least} == bounded
    assert logged["nullCount"] == {
        "id": 0,
        "ratio 💡": ratios.count(None),
        "constant": 2 * (constant is None),
    }
    group = pq.ParquetFile(tmp_path / file["path"]).metadata.row_group(0)
    has_statistics = [group.column(n).is_stats_set for n in range(4)]
    assert has_statistics == [True, False, False, True]  # of floats and constants none
