"""Snapshots: a Delta table at one version, as Spark reads it and as its log tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakescore.logs import Declined, Log

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame

    from lakescore.logs import File


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

    def files(self, among: Mapping[str, Sequence[Any]] | None = None) -> list[File]:
        """Return the files that may hold rows with values *among* those given, by column.

        Raises:
            Declined: only Spark can tell.
        """
        return self.log.files(among)
