"""Distances between the distribution of a column now and in the baseline, from counts in bins.

All functions take shares of bins in the last axis, so many distributions are compared at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.distance import jensenshannon

if TYPE_CHECKING:
    Floats = np.ndarray[Any, np.dtype[np.float64]]


def shares(counts: Floats) -> Floats:
    """Return *counts* as parts of their sum; NaN if there are none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        parts: Floats = counts / counts.sum(axis=-1, keepdims=True)
    return parts


def jensen_shannon(baseline: Floats, current: Floats) -> Floats:
    """Return the Jensen-Shannon distance, from 0 to 1: the root of the divergence in bits."""
    distance: Floats = np.asarray(jensenshannon(baseline, current, base=2, axis=-1))
    return distance


def stability_index(baseline: Floats, current: Floats, least: tuple[float, float]) -> Floats:
    """Return the population stability index: the sum of (now - before) ln(now / before).

    Args:
        baseline: the shares of the baseline.
        current: the shares now.
        least: for both, the smallest share that counts: that of half a row. Otherwise one empty bin
            would make the index infinite.
    """
    before, now = np.maximum(baseline, least[0]), np.maximum(current, least[1])
    index: Floats = ((now - before) * np.log(now / before)).sum(axis=-1)
    return index


def total_variation(baseline: Floats, current: Floats) -> Floats:
    """Return the total variation distance, from 0 to 1: half the sum of absolute differences."""
    distance: Floats = np.abs(baseline - current).sum(axis=-1) / 2
    return distance


def wasserstein(
    baseline: Floats, current: Floats, places: tuple[Floats, Floats], scale: float
) -> Floats:
    """Return Wasserstein's first distance of numbers, in units of *scale*.

    The rows of a bin count as if all were at the mean of the bin's numbers.

    Args:
        baseline: the shares of the bins of finite numbers.
        current: the same, now.
        places: for both, the means of the bins; NaN for a bin without rows.
        scale: the standard deviation of the baseline. If it is 0, the distance is in the column's
            own unit.
    """
    positions = np.concatenate(places)
    order = np.argsort(np.where(np.isnan(positions), np.inf, positions), kind="stable")
    ordered = positions[order]
    signed = np.concatenate([shares(baseline), -shares(current)], axis=-1)[..., order]
    widths = np.diff(ordered)
    ahead = np.abs(np.cumsum(signed, axis=-1)[..., :-1])
    distance: Floats = (ahead * np.where(np.isnan(widths), 0.0, widths)).sum(axis=-1)
    return distance / (scale or 1.0)
