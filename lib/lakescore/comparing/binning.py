"""Binning: the bins of histograms of numbers and of probabilities, with exact edges.

A histogram's bins are the leading bits of a double: sign, exponent and 5 bits of the fraction. Each
power of two has 32 bins. Numbers nearer to 0 than 2^-40 share one bin. Numbers farther from 0 than
2^60 share the outermost bin of their sign.

The module is pickled by value, as `gathering` is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lakescore.comparing.batches import Floats, Ints

_FRACTION = 5
_LEAST, _MOST = -40, 60
_BASE = (1023 + _LEAST) << _FRACTION
_HALF = (_MOST - _LEAST) << _FRACTION
BINS = 2 * _HALF + 1
"""Bin `_HALF` holds 0; the bins of negative numbers come before it."""
_MIDDLE = ((-1 - _LEAST) << _FRACTION) + 1
"""The bin of the probability 0.5, counted from the bin of 0."""
BINS_OF_CALIBRATION = 10


def bins_of(values: Floats) -> Ints:
    """Return the bins of *values*, in ascending order; infinities have the outermost bins."""
    magnitude = np.abs(values, dtype=np.float64)
    leading = (magnitude.view(np.int64) >> (52 - _FRACTION)) - _BASE + 1
    bins: Ints = _HALF + np.sign(values).astype(np.int64) * np.clip(leading, 0, _HALF)
    return bins


def edges() -> Floats:
    """Return the bins' edges, one more than there are bins: bin n lies from edge n to n + 1.

    A bin of positive numbers holds its lower edge, a bin of negative numbers its upper edge, and
    the bin of 0 neither.
    """
    outer = np.append(_powers(), np.inf)
    return np.concatenate([-outer[::-1], outer])


def bins_of_scores(scores: Floats) -> Ints:
    """Return the ascending bins of probabilities, which are as fine near 1 as near 0."""
    high = scores > 0.5  # noqa: PLR2004 - the middle
    from_top = 2 * _MIDDLE + 1 + _HALF - bins_of(1.0 - scores)
    return np.where(high, from_top, bins_of(scores) - _HALF)


def thresholds() -> Floats:
    """Return the smallest probability that each bin of `bins_of_scores` can hold."""
    upper = _powers()[: _MIDDLE + 1]
    low = np.concatenate([[0.0], upper[:_MIDDLE]])
    # The bin of 1 - p from `lo` to `hi` holds every p above 1 - hi.
    high = np.nextafter(np.maximum(1.0 - upper, 0.5), 2.0)[::-1]
    return np.concatenate([low, high])


def _powers() -> Floats:
    """Return the lower edges of the bins of positive numbers."""
    bits = (np.arange(_HALF, dtype=np.int64) + _BASE) << (52 - _FRACTION)
    return bits.view(np.float64)
