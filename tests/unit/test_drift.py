"""Distances and chance: what is shown of a column, against scipy, and what alarms."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from lakescore.executor import CategoryBins, NumberBins
from lakescore.monitoring import chance, distances, measuring
from lakescore.monitoring.profiles import Cell

COUNTS = st.lists(st.integers(0, 500), min_size=3, max_size=12).filter(any)


def floats(*values: float) -> np.ndarray:
    return np.array(values, float)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2).filter(
    lambda pairs: any(a for a, _ in pairs) and any(b for _, b in pairs)
))  # fmt: skip
def test_distances_are_those_of_scipy(pairs: list[tuple[int, int]]) -> None:
    before, now = np.array(pairs, float).T
    one, other = distances.shares(before), distances.shares(now)
    places = (np.arange(len(pairs)) * 1.5, np.arange(len(pairs)) * 1.5 + 0.25)
    assert distances.jensen_shannon(one, other) == pytest.approx(
        jensenshannon(one, other, base=2), abs=1e-9
    )
    assert distances.wasserstein(one, other, places, 2.0) == pytest.approx(
        stats.wasserstein_distance(*places, before, now) / 2.0, abs=1e-9
    )


def test_the_stability_index_counts_an_empty_bin_as_half_a_row() -> None:
    # 0.5 ln 2 for the first bin, 0.25 ln 2 and so on: by hand
    before, now = floats(0.5, 0.5, 0.0), floats(0.25, 0.5, 0.25)
    least = (0.005, 0.005)  # half of a hundred rows
    expected = (0.25 - 0.5) * np.log(0.5) + (0.25 - 0.005) * np.log(0.25 / 0.005)
    assert distances.stability_index(before, now, least) == pytest.approx(expected)


def test_total_variation_is_the_share_of_rows_that_would_have_to_move() -> None:
    assert distances.total_variation(floats(0.5, 0.5), floats(0.2, 0.8)) == pytest.approx(0.3)


def test_wasserstein_moves_a_shift_inside_of_a_bin() -> None:
    everything = floats(1.0)
    assert distances.wasserstein(everything, everything, (floats(2.0), floats(3.0)), 0.5) == 2.0


@given(COUNTS, COUNTS)
def test_with_enough_rows_the_p_value_is_that_of_scipys_g_test(
    before: list[int], now: list[int]
) -> None:
    width = min(len(before), len(now))
    rows = np.array([before[:width], now[:width]], float) + 30  # so that no bin is rare
    expected = stats.chi2_contingency(rows, correction=False, lambda_="log-likelihood").pvalue
    assert chance.p_value(rows[0], rows[1]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ((995, 5), (90, 10)),  # a rare bin that is ten times as frequent
        ((9_999, 1), (996, 4)),
        ((50, 3), (40, 11)),
    ],
)
def test_with_few_rows_the_p_value_is_the_exact_one(
    before: tuple[int, int], now: tuple[int, int]
) -> None:
    """All tables of two bins with the same margins, enumerated: no draws."""
    pooled, rows = np.add(before, now), sum(now)
    firsts = np.arange(max(0, rows - pooled[1]), min(pooled[0], rows) + 1)
    weights = stats.hypergeom(pooled.sum(), pooled[0], rows).pmf(firsts)
    tables = np.stack([firsts, rows - firsts], axis=1).astype(float)
    statistics = chance.g_statistic(pooled.astype(float), tables)
    observed = chance.g_statistic(pooled.astype(float), np.array([now], float))[0]
    exact = weights[statistics >= observed * (1 - 1e-12)].sum()
    assert chance.p_value(floats(*before), floats(*now)) == pytest.approx(exact, rel=0.35, abs=1e-4)


def test_a_number_beyond_the_range_is_as_probable_as_the_deal_says() -> None:
    """All ways to deal five distinct numbers, two of them to the slice, enumerated."""
    deals = list(combinations(range(5), 2))
    top_two_in_slice = sum(set(deal) == {3, 4} for deal in deals) / len(deals)
    assert chance.p_beyond(3, 2, 0, 2) == pytest.approx(2 * top_two_in_slice)
    assert chance.p_beyond(3, 2, 0, 0) == 1.0


def test_new_values_are_compared_with_the_values_that_one_row_has() -> None:
    # Ten singles in a baseline of 900 rows: one more among 100 rows is usual, ten are not.
    assert chance.p_new(900, 100, 10, 1) > 0.5
    assert chance.p_new(900, 100, 10, 10) < 1e-4
    assert chance.p_new(900, 100, 0, 1) == pytest.approx(0.1)  # the only single of 1000 rows
    assert chance.p_new(900, 100, 0, 0) == 1.0


def test_two_tests_of_a_column_share_its_level() -> None:
    assert chance.joined(0.045, 1.0) == pytest.approx(0.05)
    assert chance.joined(1.0, 0.005) == pytest.approx(0.05)


@pytest.mark.parametrize("empty", [0, 1])
def test_without_rows_nothing_differs(empty: int) -> None:
    rows = [floats(3, 4), floats(3, 4)]
    rows[empty] = floats(0, 0)
    assert chance.p_value(*rows) == 1.0


def test_holm_multiplies_by_the_hypotheses_that_are_left() -> None:
    adjusted = chance.holm(floats(0.03, 0.001, 0.5, 0.02))
    # 0.001 x 4; 0.02 x 3; 0.03 x 2, but not less than the one before; 0.5 x 1
    assert adjusted.tolist() == pytest.approx([0.06, 0.004, 0.5, 0.06])
    assert chance.holm(np.empty(0)).tolist() == []


def test_a_slice_is_only_as_odd_as_its_rank_among_the_slices_of_the_baseline() -> None:
    usual = np.linspace(0.1, 0.2, 39)
    now = np.append(usual, 0.15)[:, None]
    assert chance.among_slices(now)[0] > 0.4
    odd = np.append(usual, 0.9)[:, None]
    assert chance.among_slices(odd)[0] == pytest.approx(1 / 40)


def test_columns_that_always_move_together_are_not_corrected_twice() -> None:
    random = np.random.default_rng(0)
    one = random.normal(size=(60, 1))
    alone, copies = chance.among_slices(one)[0], chance.among_slices(np.repeat(one, 50, axis=1))
    assert copies.tolist() == pytest.approx([alone] * 50)


def test_slices_without_rows_in_a_segment_do_not_alarm_nor_hide_others() -> None:
    random = np.random.default_rng(1)
    apart = random.normal(0.2, 0.01, size=(50, 3))
    apart[:25, 1] = np.nan  # a segment that is not in every slice
    apart[-1] = [0.2, np.nan, 0.9]
    p = chance.among_slices(apart)
    assert p[1] == 1.0
    assert p[2] == pytest.approx(1 / 50)


def number_cell(values: np.ndarray, bins: NumberBins) -> Cell:
    codes = np.searchsorted(bins.edges, values)
    counts = np.bincount(codes, minlength=bins.size).astype(float)
    centred = values - bins.origin
    sums = np.bincount(codes, centred, bins.finite)
    return Cell(counts, sums, np.bincount(codes, centred**2, bins.finite))


def test_a_factor_of_thousand_shows_in_its_true_size() -> None:
    """Although all rows are outside of the baseline's range, the distance is not that of a bin."""
    random = np.random.default_rng(2)
    before, now = random.normal(10, 1, 5_000), 1000 * random.normal(10, 1, 5_000)
    edges = np.quantile(before, [0.1, 0.5, 0.9])
    low = float(np.nextafter(before.min(), -np.inf))
    bins = NumberBins(edges=(low, *map(float, edges), float(before.max())), origin=10.0)
    measured = measuring.measure(number_cell(before, bins), number_cell(now, bins), bins)
    expected = stats.wasserstein_distance(before, now) / before.std()
    assert measured["wasserstein"].value == pytest.approx(expected, rel=1e-6)
    assert measured["outside_share"].value == 1.0
    assert measured["jensen_shannon"].value > measured["jensen_shannon"].chance


def test_the_interval_holds_the_distance_of_the_distributions() -> None:
    """The distance of two samples is larger than that of their distributions, on average."""
    random, true = np.random.default_rng(3), np.full(8, 1 / 8)
    changed = distances.shares(np.array([1.3, 1.2, 1.1, 1.0, 1.0, 0.9, 0.8, 0.7]))
    bins = CategoryBins(listed=tuple("abcdefgh"), others=frozenset())
    truth = float(jensenshannon(true, changed, base=2))
    held = 0
    for _ in range(200):
        before, now = random.multinomial(20_000, true), random.multinomial(2_000, changed)
        cells = [
            Cell(np.append(counts, [0, 0, 0]).astype(float), np.empty(0), np.empty(0))
            for counts in (before, now)
        ]
        measured = measuring.measure(*cells, bins)["jensen_shannon"]
        held += measured.low <= truth <= measured.high
    assert held / 200 > 0.9


def test_chance_is_what_samples_of_this_size_show_if_nothing_has_changed() -> None:
    random, true = np.random.default_rng(4), distances.shares(floats(5, 4, 3, 2, 1))
    bins = CategoryBins(listed=tuple("abcde"), others=frozenset())
    above = 0
    for _ in range(400):
        cells = [
            Cell(np.append(random.multinomial(n, true), [0] * 3).astype(float), *[np.empty(0)] * 2)
            for n in (5_000, 500)
        ]
        measured = measuring.measure(*cells, bins)["jensen_shannon"]
        above += measured.value > measured.chance
    assert 0.02 < above / 400 < 0.09  # 5 %
