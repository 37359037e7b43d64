"""Snapshots: a Delta table at one version, as Spark reads it and as its log tells it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from pyspark.sql.types import StructType

from lakescore.logs import Log, NotEligible

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import DataFrame

    from lakescore.runner import Runner


@dataclass(frozen=True)
class Snapshot:
    """A Delta table at one version."""

    address: str
    version: int
    table_id: str
    """Delta's own: another table that takes the address has another."""
    runner: Runner = field(repr=False, compare=False)
    read: Callable[[], DataFrame] = field(repr=False, compare=False)
    """Lets Spark read it."""
    known: Log | None = field(default=None, compare=False)
    """The log at that version, where it can be read without Spark."""
    not_eligible: str = ""
    """Why it cannot."""

    @cached_property
    def rows(self) -> DataFrame:
        """Its rows, as Spark reads them, which starts for it.

        Raises:
            SnapshotNotFound: the table has no such version any more.
        """
        return self.read()

    @cached_property
    def schema(self) -> StructType:
        """Its columns."""
        if self.known is not None:
            return StructType.fromJson(self.known.schema)
        return self.rows.schema

    @property
    def log(self) -> Log:
        """The log at that version.

        Raises:
            NotEligible: only Spark reads it.
        """
        if self.known is None:
            raise NotEligible(self.not_eligible)
        return self.known
