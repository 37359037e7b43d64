"""The source: the columns of a table that is to be scored, and which of them identify a row."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql.types import (
    ByteType,
    DateType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    StructType,
)

from lakescore.errors import InputContractError
from lakescore.logs import Log, NotEligible
from lakescore.storage import TableNotFound, explain_error
from lakescore.wording import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

MOST_ROWS = 5_000_000
"""The largest table whose values are read to find a column that identifies a row."""
_KEY_TYPES = {
    kind().simpleString()
    for kind in (ByteType, ShortType, IntegerType, LongType, DateType, StringType)
}
"""The types of columns that are checked. Fractions and times seldom identify a row."""


@dataclass(frozen=True)
class Keys:
    """The columns of a table that could identify a row."""

    columns: tuple[str, ...]
    """Columns without nulls, whose values are all different in the whole table."""
    reason: str
    """What was checked, or why nothing was."""


@dataclass(frozen=True)
class Source:
    """A table at one version."""

    address: str
    version: int
    schema: StructType
    log: Log | None = field(default=None, repr=False, compare=False)

    def find_keys(self, besides: Collection[str]) -> Keys:
        """Return the columns that identify a row; this reads all values of the columns it checks.

        Args:
            besides: columns to leave out.
        """
        checked = [
            field.name
            for field in self.schema
            if field.dataType.simpleString() in _KEY_TYPES and field.name not in besides
        ]
        if self.log is None or not checked:
            return Keys((), "no column was checked")
        try:
            return self._look_for_keys(self.log, checked)
        except (NotEligible, OSError, pa.ArrowException) as error:
            return Keys((), f"its rows cannot be read without Spark: {error}")

    def _look_for_keys(self, log: Log, checked: Sequence[str]) -> Keys:
        log.check_readable()
        rows = log.dataset().count_rows()
        if not rows:
            return Keys((), "the table has no rows")
        if rows > MOST_ROWS:
            return Keys(
                (), f"its {rows} rows were not read, because they are more than {MOST_ROWS}"
            )
        unique = tuple(name for name in checked if _is_unique(log, name, rows))
        extent = f"checked in all {counted(rows, 'row')} of version {self.version}"
        if len(unique) == 1:
            return Keys(unique, f"its values are unique, {extent}")
        problem = "several columns are unique" if unique else "no single column is unique"
        return Keys(unique, f"{problem}, {extent}")


def _is_unique(log: Log, name: str, rows: int) -> bool:
    column = log.dataset().to_table(columns=[name]).column(0)
    if column.null_count:
        return False
    return bool(pc.count_distinct(column, mode="all").as_py() == rows)


def read_source(address: str) -> Source:
    """Return the columns of the table at *address*, a path or URI, at its newest version.

    Raises:
        TableNotFound: there is no table.
        InputContractError: it cannot be read without Spark.
        StorageUnavailable, StorageRefused, BucketMissing: the object store raised an error.
    """
    try:
        log = Log(address)
        return Source(address, log.version, StructType.fromJson(log.schema), log)
    except FileNotFoundError:
        raise TableNotFound(address) from None
    except NotEligible as error:
        raise InputContractError(f"{address} cannot be read without Spark: {error}") from error
    except (OSError, pa.ArrowException) as error:
        if (known := explain_error(error, address)) is not None:
            raise known from error
        raise


def read_columns(address: str) -> Source:
    """Return the columns of the table at *address*, as `read_source` does, and no way to its rows.

    Raises:
        The errors of `read_source`.
    """
    return replace(read_source(address), log=None)
