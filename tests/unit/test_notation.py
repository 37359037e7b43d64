"""Numbers, sizes, durations and times are written in one way; the page has this table too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lakescore import notation

CASES = json.loads((Path(__file__).parents[1] / "notation.json").read_text(encoding="utf-8"))
NUMBERS = {"NaN", "Infinity", "-Infinity"}


@pytest.mark.parametrize(("function", "arguments", "text"), CASES)
def test_a_value_is_written_in_one_way(function: str, arguments: list[Any], text: Any) -> None:
    values = [float(value) if value in NUMBERS else value for value in arguments]
    assert getattr(notation, function)(*values) == text


@pytest.mark.parametrize(("low", "high"), [(1e-9, 5.0), (-5.0, -1e-9), (0.0004, 0.63)])
def test_a_bound_that_is_not_zero_is_never_written_as_zero(low: float, high: float) -> None:
    """A reader takes an interval that begins at 0 for one that holds 0."""
    first, last = notation.bounds(low, high).split(" to ")
    assert float(first) != 0
    assert float(last) != 0
    assert (float(first) > 0) == (low > 0)
