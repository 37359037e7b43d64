"""Bootstrapping: how often each bootstrap draws the rows of a bucket of keys.

The module is pickled by value, as `gathering` is.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

BUCKETS = 1024
"""Rows of one bucket of keys are drawn together, which adds 2 % of noise to a standard error."""


def groups_of(rows: float) -> float:
    """Return the mean number of buckets that have some of the rows."""
    return BUCKETS * -math.expm1(-rows / BUCKETS)


def draws(replicates: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return how often each bootstrap draws the rows of each bucket; column 0 is all ones.

    Poisson(1) counts: Chamandy, Muralidharan, Najmi, Naidu: Estimating Uncertainty for Massive
    Data Streams, 2012. `RandomState` gives the same stream in all versions of numpy.
    """
    drawn = np.random.RandomState(seed).poisson(1.0, (BUCKETS, replicates))
    ones = np.ones((BUCKETS, 1))
    return np.hstack([ones, drawn]).astype(np.uint8)
