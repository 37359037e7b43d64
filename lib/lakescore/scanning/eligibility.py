"""Eligibility: which columns and partition values workers read exactly as Spark reads them."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql.types import (
    DateType,
    IntegralType,
    StringType,
    StructField,
    StructType,
)

from lakescore import executor
from lakescore.arrow import arrow_type, is_plain, is_readable
from lakescore.logs import NotEligible
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql.types import DataType

    from lakescore.logs import Log
    from lakescore.runner import Runner

_USUAL = {
    "spark.sql.session.timeZone": ("UTC",),
    "spark.sql.parquet.datetimeRebaseModeInRead": ("CORRECTED", "EXCEPTION"),
    "spark.sql.parquet.int96RebaseModeInRead": ("CORRECTED", "EXCEPTION"),
}
"""The settings with which Spark reads dates and times from the files without changing them.

EXCEPTION, the default of Spark 3, differs in one point: with it, Spark refuses to read days before
1582 in files that it did not write.
"""


def scan_column(
    log: Log, schema: StructType, field: StructField, *, nested: bool = False
) -> executor.Column:
    """Return how to read the table's column *field*.name, and to convert it to *field*'s type.

    Args:
        log: the table's log.
        schema: the table's columns.
        field: the name of the column, and the type of its values after reading.
        nested: whether the column can be a struct, an array or a map.

    Raises:
        NotEligible: workers would not read the values that Spark reads.
    """
    stored = schema[field.name]
    name, kind = stored.name, stored.dataType
    if not (is_readable(kind) if nested else is_plain(kind)):
        raise NotEligible(f"column {name!r} is {kind.simpleString()}")
    read, give = arrow_type(kind), arrow_type(field.dataType)
    _check_cast(name, read, give)
    _check_unpadded(stored)
    is_partition = name in log.partitioned_by
    if is_partition:
        _check_partition(stored)
    return executor.Column(
        stored=log.stored[name],
        partition=is_partition,
        read=read,
        give=give,
        widens=log.widens,
    )


def _check_cast(name: str, has: pa.DataType, asks: pa.DataType) -> None:
    """Check that workers cast values of the column *name* as Spark does."""
    leaves = zip(executor.leaf_types(has), executor.leaf_types(asks), strict=True)
    if any(pa.types.is_decimal(one) and pa.types.is_floating(other) for one, other in leaves):
        raise NotEligible(f"column {name!r} is cast from a decimal, which Arrow does not round")


def _check_partition(field: StructField) -> None:
    """Check that delta-rs and Spark read the log's partition values of this column alike."""
    if not isinstance(field.dataType, (StringType, DateType, IntegralType)):
        raise NotEligible(f"the table is partitioned by a {field.dataType.simpleString()}")


def _check_unpadded(field: StructField) -> None:
    """Check that Spark returns values as they are stored; it pads values of `CHAR` with spaces."""
    keys = [key for key in field.metadata if key.startswith(("__CHAR", "EXISTS_DEFAULT"))]
    if keys:
        raise NotEligible(f"column {field.name!r} carries {listed(keys)}")


def check_session_settings(runner: Runner, columns: Sequence[executor.Column]) -> None:
    """Check that the session's settings let Spark read *columns* as they are in the files.

    Raises:
        NotEligible: a setting changes the dates or times that Spark reads.
    """
    leaves = [leaf for column in columns for leaf in executor.leaf_types(column.read)]
    if any(map(pa.types.is_temporal, leaves)):
        for key, usual in _USUAL.items():
            if (value := runner.setting(key, usual[0])) not in usual:
                raise NotEligible(f"{key} is {value}, not {usual[0]}")


def partition_name(text: str | None, kind: DataType) -> str:
    """Return the canonical text of a partition value that the log writes as *text*; null is `""`.

    The log can write an integer in several ways, such as `1` and `01`.

    Raises:
        NotEligible: only Spark knows the value that it reads from *text* as *kind*.
    """
    if not text:
        return ""
    if isinstance(kind, StringType):
        return text
    try:
        if isinstance(kind, IntegralType):
            return str(int(text))
        if isinstance(kind, DateType) and date.fromisoformat(text).isoformat() == text:
            return text
    except ValueError:
        pass
    raise NotEligible(f"the log has the value {text!r} for a partition of {kind.simpleString()}")
