"""Snapshots: a Delta table at one version, as Spark reads it and as its log tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakescore.logs import Declined, Log

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class Snapshot:
    """A Delta table at one version."""

    address: str
    version: int
    table_id: str
    """Delta's own: another table that takes the address has another."""
    rows: DataFrame
    known: Log | None = None
    """The log at that version, where it can be read without Spark."""
    declined: str = ""
    """Why it cannot."""

    @property
    def log(self) -> Log:
        """The log at that version.

        Raises:
            Declined: only Spark reads it.
        """
        if self.known is None:
            raise Declined(self.declined)
        return self.known
