"""Snapshots: a Delta table at one version, read by Spark or through its log."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from pyspark.sql.types import StructType

from lakescore.errors import InputContractError, LakescoreError
from lakescore.logs import Log, NotEligible

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import DataFrame

    from lakescore.runner import Runner


class NotADeltaTable(InputContractError):
    """The address exists, but is not a Delta table."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"{address} is not a Delta table; convert it (CONVERT TO DELTA) or name another table"
        )


class ViewNotPinned(NotADeltaTable):
    """The address names a view, which has no versions."""

    def __init__(self, address: str) -> None:
        LakescoreError.__init__(
            self,
            f"{address} is a view, but a run reads and writes Delta tables at one version, and a "
            "view has no versions: its tables can change during the run, and a replay could not "
            "read the same rows again; name the Delta table itself, or create one from the view's "
            "rows (CREATE TABLE name USING delta AS TABLE of the view)",
        )


class SnapshotNotFound(InputContractError):
    """The table does not have that version."""

    def __init__(self, address: str, version: object, newest: int) -> None:
        super().__init__(f"{address} has no version {version} to read; the newest is {newest}")


@dataclass(frozen=True)
class Snapshot:
    """A Delta table at one version."""

    address: str
    version: int
    table_id: str
    """Delta's id of the table. Another table at the same address has another id."""
    runner: Runner = field(repr=False, compare=False)
    read: Callable[[], DataFrame] = field(repr=False, compare=False)
    """Reads the table with Spark."""
    known: Log | None = field(default=None, compare=False)
    """The log at that version, if it can be read without Spark."""
    not_eligible: str = ""
    """The reason if the log cannot be read without Spark."""

    @cached_property
    def rows(self) -> DataFrame:
        """The rows of the table, as Spark reads them. This starts Spark.

        Raises:
            SnapshotNotFound: the table no longer has this version.
        """
        return self.read()

    @cached_property
    def schema(self) -> StructType:
        """The columns of the table."""
        if self.known is not None:
            return StructType.fromJson(self.known.schema)
        return self.rows.schema

    @property
    def log(self) -> Log:
        """The log at that version.

        Raises:
            NotEligible: only Spark can read the log.
        """
        if self.known is None:
            raise NotEligible(self.not_eligible)
        return self.known
