"""Batching: Spark hands batches to workers without measuring rows that cannot be too large."""

from __future__ import annotations

import math
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyspark.errors import PySparkException

from lakescore.arrow import arrow_type
from lakescore.runner import FAILURES, Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pyspark.sql import SparkSession
    from pyspark.sql.types import DataType

_MOST_BYTES = "spark.sql.execution.arrow.maxBytesPerBatch"
_NOT_MEASURED = 2**31 - 1
"""The limit at which Spark does not measure (`BatchedPythonArrowInput.underBatchSizeLimit`)."""
_SIZE = re.compile(r"(\d+)\s*([kmgt]?)i?b?", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
"""The units of bytes in Spark's settings, as powers of two."""


@contextmanager
def skip_batch_size_check(
    spark: SparkSession | Runner, sent: Callable[[], Iterable[DataType]]
) -> Iterator[None]:
    """Let Spark skip the size check of batches while the body runs, if they cannot be too large.

    At each row, Spark adds up the buffers of all columns, which takes 40 % of the time to hand
    twenty doubles over (docs/benchmark/README.md). The check is skipped if rows of fixed width
    stay below the limit in bytes even in the largest batch; rows with texts are still checked.

    Args:
        spark: the session, or the runner.
        sent: returns the types of a row.
    """
    runner = Runner.of(spark)
    if not runner.is_started:
        yield
        return
    conf = runner.spark.conf
    try:
        limit = str(conf.get(_MOST_BYTES))
    except FAILURES:  # Spark 4.0 does not have this limit
        yield
        return
    size = _SIZE.fullmatch(limit.strip())
    most = int(size[1]) << _UNITS[size[2].lower()] if size is not None else _NOT_MEASURED
    rows = int(conf.get("spark.sql.execution.arrow.maxRecordsPerBatch") or 0)
    if most >= _NOT_MEASURED or not 0 < rows * _row_width(sent()) < most:
        yield
        return
    conf.set(_MOST_BYTES, _NOT_MEASURED)
    try:
        yield
    finally:
        conf.set(_MOST_BYTES, limit)


def _row_width(kinds: Iterable[DataType]) -> float:
    """Return the bytes of a row of *kinds* in Arrow; infinite if the widths of values vary."""
    try:
        return float(sum(max(8, arrow_type(kind).bit_width) / 8 + 1 for kind in kinds))
    except (PySparkException, ValueError):
        return math.inf
