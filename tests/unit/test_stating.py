"""Gates in words: what must be, what is, and by how much it is missed."""

from __future__ import annotations

import math

import pytest

from lakescore.comparing import stating
from lakescore.comparing.ranking import Interval

UNKNOWN = Interval(0.5, math.nan, math.nan)


ROSE, FELL, MIXED = (0.52, 0.21, 0.84), (-0.044, -0.058, -0.03), (0.1, -0.2, 0.4)
LESS, MORE = False, True


@pytest.mark.parametrize(
    ("limit", "gain", "shortfall", "is_more", "asked", "found"),
    [
        (0.1, ROSE, -0.1, LESS, "fall by at least 0.1", "it falls by 0.52 (0.21 to 0.84)"),
        (0.1, ROSE, -0.1, MORE, "rise by at least 0.1", "it rises by 0.52 (0.21 to 0.84)"),
        (
            -0.01, FELL, 0.048, MORE, "not fall by more than 0.01",
            "it falls by 0.044 (0.030 to 0.058), missed by 0.048",
        ),
        (
            -0.01, FELL, 0.048, LESS, "not rise by more than 0.01",
            "it rises by 0.044 (0.030 to 0.058), missed by 0.048",
        ),
        (
            0, MIXED, 0.2, LESS, "not rise",
            "it falls by 0.10 (from a rise of 0.20 to a fall of 0.40), missed by 0.20",
        ),
        (
            0, (0.0, -0.2, 0.2), 0.2, MORE, "not fall",
            "it stays (from a fall of 0.20 to a rise of 0.20), missed by 0.20",
        ),
        (0, (0.0, 0.0, 0.0), 0.0, MORE, "not fall", "it stays"),
        (0.1234567, (1, 1, 1), -1, MORE, "rise by at least 0.1234567", "it rises by 1 (1 to 1)"),
        (
            0.1, (0.5, math.nan, math.nan), math.nan, MORE, "rise by at least 0.1",
            "it rises by 0.5, with an unknown interval, so nobody knows",
        ),
        (
            0.1, (math.nan,) * 3, math.nan, MORE, "rise by at least 0.1",
            "its change is unknown, so nobody knows",
        ),
    ],
)  # fmt: skip
def test_a_change_is_told_in_the_direction_of_its_metric(  # noqa: PLR0913, PLR0917 - a table's row
    limit: float,
    gain: tuple[float, float, float],
    shortfall: float,
    is_more: bool,  # noqa: FBT001
    asked: str,
    found: str,
) -> None:
    words = stating.change("m", limit, Interval(*gain), shortfall, greater_is_better=is_more)
    assert words == f"m must {asked}: {found}"


def test_a_relative_change_is_a_share_of_the_baselines_value() -> None:
    gain = Interval(2.0, 1.0, 3.0)
    assert (
        stating.relative_change(
            "rmse", 0.01, gain, base=40.0, shortfall=-0.015, greater_is_better=False
        )
        == "rmse must fall by at least 1 %: it falls by 5.0 % (2.5 to 7.5 %)"
    )
    assert (
        stating.relative_change(
            "rmse", 0.04, gain, base=40.0, shortfall=0.015, greater_is_better=False
        )
        == "rmse must fall by at least 4 %: it falls by 5.0 % (2.5 to 7.5 %), missed by 1.5 %"
    )
    assert stating.relative_change(
        "rmse", 0.01, gain, base=0.0, shortfall=-1.0, greater_is_better=False
    ) == "rmse must fall, because the baseline's is 0: it falls by 2.0 (1.0 to 3.0)"  # fmt: skip


def test_a_limit_is_told_beside_the_value_and_its_interval() -> None:
    estimate = Interval(20.531, 20.1, 20.96)
    assert stating.threshold("rmse", 45, estimate, -24.04, greater_is_better=False) == (
        "rmse must be at most 45: it is 20.53 (20.10 to 20.96)"
    )
    assert stating.threshold("rmse", 20.9, estimate, 0.06, greater_is_better=False) == (
        "rmse must be at most 20.9: it is 20.53 (20.10 to 20.96), missed by 0.06"
    )
    negative = Interval(-0.4, -0.45, -0.35)
    assert stating.threshold("r2", -0.5, negative, -0.05, greater_is_better=True) == (
        "r2 must be at least -0.5: it is -0.40 (-0.45 to -0.35)"
    )
    assert stating.threshold("auc", 0.9, UNKNOWN, math.nan, greater_is_better=True) == (
        "auc must be at least 0.9: it is 0.5, so nobody knows"
    )
