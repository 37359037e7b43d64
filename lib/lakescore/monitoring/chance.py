"""Chance: the differences that two samples of one distribution show.

A column has one p-value, so that many measures do not make many alarms. It is that of the G-test of
homogeneity of two rows of counts, joined with a test of what the baseline cannot have: numbers
outside of its range, and new values. The G-statistic is twice the number of rows times the
Jensen-Shannon divergence (in nats) whose weights are the numbers of rows. So it agrees with the
distance that is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import gammaln, xlogy
from scipy.stats import binom, chi2

if TYPE_CHECKING:
    from collections.abc import Sequence

    Floats = np.ndarray[Any, np.dtype[np.float64]]

_FEWEST_EXPECTED = 25.0
"""With fewer expected rows in a bin, the chi-square distribution is only a first look."""
_CLEAR = 1e-8
"""A p-value so small or smaller needs no exact calculation: no correction asks for more."""
_DULL = 0.05
"""A p-value so large or larger needs none either: it raises no alarm."""
_DRAWS = (500, 20_000)


def p_value(baseline: Floats, current: Floats, seed: Sequence[int] = ()) -> float:
    """Return the p-value of the hypothesis that both rows of counts come from one distribution.

    The G-statistic has the chi-square distribution, with one degree of freedom less than there are
    bins with rows (Wilks 1938). If bins are expected to have few rows, and the result is neither
    clear nor dull, the statistic is compared with its exact distribution instead: that of dealing
    out the rows of all bins at random (the multivariate hypergeometric distribution), drawn up to
    20,000 times.

    Args:
        baseline: the counts in the bins.
        current: the same, now.
        seed: makes the draws, the same in every run.
    """
    used = (baseline + current) > 0
    pooled, now = (baseline + current)[used], current[used]
    rows, total = now.sum(), pooled.sum()
    if rows in (0, total) or len(pooled) < 2:  # noqa: PLR2004 - a distribution has two bins
        return 1.0
    observed = g_statistic(pooled, now)
    p = float(chi2.sf(observed, len(pooled) - 1))
    expected = pooled.min() * min(rows, total - rows) / total
    if expected >= _FEWEST_EXPECTED or not _CLEAR < p < _DULL:
        return p
    return _exact(pooled, now, observed, p, seed)


def g_statistic(pooled: Floats, current: Floats) -> Any:  # noqa: ANN401 - as many as rows of current
    """Return the G-statistic of *current* against the rest of *pooled* rows, by bin."""
    rows, total = current.sum(axis=-1, keepdims=True), pooled.sum()
    rest = pooled - current
    expected = pooled * rows / total
    terms = xlogy(current, current / expected) + xlogy(rest, rest / (pooled - expected))
    return 2 * terms.sum(axis=-1)


def _exact(pooled: Floats, now: Floats, observed: float, p: float, seed: Sequence[int]) -> float:
    random = np.random.default_rng([len(pooled), int(pooled.sum()), *seed])
    counts, rows = pooled.astype(np.int64), int(now.sum())
    threshold = observed * (1 - 1e-12)  # the same counts, summed in another order
    for draws in _DRAWS:
        dealt = random.multivariate_hypergeometric(counts, rows, draws, method="marginals")
        as_extreme = int((g_statistic(pooled, dealt.astype(np.float64)) >= threshold).sum())
        if as_extreme >= 10:  # noqa: PLR2004 - precise to about a third
            break
    share = (1 + as_extreme) / (1 + draws)
    return min(p, share) if as_extreme == 0 else share


def p_beyond(baseline: int, current: int, below: int, above: int) -> float:
    """Return the p-value of numbers outside of the range of the baseline.

    If nothing has changed, the largest *above* of all numbers are all in the slice with the
    probability C(current, above) / C(current + baseline, above), whatever their distribution is.

    Args:
        baseline: the number of finite numbers in the baseline.
        current: the same, now.
        below: how many of the numbers now are below the smallest of the baseline.
        above: how many are above the largest.
    """

    def p_of(count: int) -> float:
        return float(
            np.exp(
                gammaln(current + 1) - gammaln(current - count + 1)
                - gammaln(current + baseline + 1) + gammaln(current + baseline - count + 1)
            )
        )  # fmt: skip

    return min(1.0, 2 * min(p_of(below), p_of(above)))


def p_new(baseline: int, current: int, singles: int, new: int) -> float:
    """Return the p-value of rows whose values the baseline does not have.

    If nothing has changed, values that only one of all rows has are in the slice as often as its
    part of the rows. The baseline's *singles* show how many there are. New values of several rows
    are less probable, and count as if each of their rows had a value of its own.

    Args:
        baseline: the number of rows with a value in the baseline.
        current: the same, now.
        singles: the number of values that one row of the baseline has.
        new: how many rows have new values now.
    """
    if not new:
        return 1.0
    return float(binom.sf(new - 1, singles + new, current / (current + baseline)))


def joined(main: float, other: float) -> float:
    """Return the p-value of two tests of one column; the first has nine tenths of the level."""
    return min(1.0, main / 0.9, other / 0.1)


def holm(p_values: Floats) -> Floats:
    """Return p-values adjusted for their number, as Holm (1979) does; dependent ones too.

    If nothing has changed, the smallest is below 0.05 in at most 5 % of cases.
    """
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    stepped = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors))
    adjusted: Floats = np.empty(len(p_values))
    adjusted[order] = stepped
    return adjusted


def among_slices(distances: Floats) -> Floats:
    """Return p-values of the last row of *distances* among all rows, for all columns at once.

    The rows are slices, the columns are cells (a monitored column in a segment). If the slices are
    exchangeable, the chance that any p-value of the last slice is at most 0.05 is at most 5 %,
    however the cells depend on one another: distances are standardised by cell, and the p-value of
    a cell is the share of slices whose largest standardised distance reaches its own (the max-T of
    Westfall and Young 1993, over slices in place of resamples).

    Args:
        distances: the distance of a slice from the pool of all slices; NaN if the slice has no
            rows in the cell.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        centre, spread = np.nanmean(distances, axis=0), np.nanstd(distances, axis=0)
        standard = (distances - centre) / np.where(spread > 0, spread, 1.0)
    standard = np.where(np.isnan(standard), -np.inf, standard)
    largest = standard.max(axis=1)
    reached = largest[:, None] >= standard[-1][None, :] - 1e-12
    p: Floats = reached.mean(axis=0)
    return np.where(np.isneginf(standard[-1]), 1.0, p)
