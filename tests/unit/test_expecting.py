"""Rules for numbers: what the bounds of a batch show is true of each number."""

from __future__ import annotations

from decimal import Decimal
from itertools import product

import pyarrow as pa
import pytest

from lakescore import executor

ARRAYS = [
    pa.array([0.0, 5.0]),
    pa.array([-0.0, 120.0]),
    pa.array([float("nan"), 5.0]),
    pa.array([float("inf"), -float("inf"), 1.0]),
    pa.array([0.1, 0.2], pa.float32()),  # 0.1 as a float is more than 0.1
    pa.array([1, 120], pa.int8()),
    pa.array([2**60, 2**60 + 1], pa.int64()),
    pa.array([3.0, None]),
    pa.array([], pa.float64()),
]
LIMITS = [-1.0, 0.0, 0.1, 5.0, 120.0]
WHOLE = [0, 1, 120, 2**60, Decimal("0.5")]


@pytest.mark.parametrize("values", ARRAYS, ids=lambda values: f"{values.type}{values.to_pylist()}")
def test_a_row_is_broken_exactly_if_its_number_is_beyond_a_limit(values: pa.Array) -> None:
    is_whole = pa.types.is_integer(values.type)
    for low, high in product(WHOLE if is_whole else LIMITS, repeat=2):
        condition = ("and", (">=", low), ("<", high))
        rule = executor.Rule(column="x", condition=condition, text="a rule")
        expected = executor.Expected(rules=(rule,)).placed(["x"], None)
        batch = pa.RecordBatch.from_arrays([values], names=["x"])
        rows, _ = executor.Checks(expected).check(batch)
        numbers = enumerate(values.to_pylist())
        wanted = [n for n, x in numbers if x is not None and not low <= x < high]
        assert rows.tolist() == wanted, condition
