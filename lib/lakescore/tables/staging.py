"""Staging: rows that wait in a table of their own until Spark publishes them."""

from __future__ import annotations

import shutil
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once

from lakescore import executor
from lakescore.storage import folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import DataFrame

    from lakescore.tables.lookup import Table


@dataclass(frozen=True)
class StagedRows:
    """Rows that wait in a staging table, a Delta table whose column names are always allowed."""

    frame: DataFrame
    """All rows, also those with the messages of tasks."""
    rows: DataFrame
    """The rows to publish, with their final column names."""
    folder: str
    setting: Callable[[str], str | None]

    @classmethod
    def write(cls, rows: DataFrame, table: Table) -> StagedRows:
        """Write *rows* beside *table*."""
        address = f"{table.location.rstrip('/')}_staged_{uuid.uuid4().hex}"
        names = [f"c{n}" for n in range(len(rows.columns))]
        try:
            rows.toDF(*names).write.format("delta").option(
                "delta.dataSkippingNumIndexedCols", "0"
            ).save(address)
        except BaseException:
            _remove(address, table.runner.setting)
            raise
        frame = table.spark.read.format("delta").load(address).toDF(*rows.columns)
        staged_rows = frame
        if executor.SAID in rows.columns:
            staged_rows = frame.where(F.col(executor.SAID).isNull()).drop(executor.SAID)
        return cls(frame, staged_rows, address, table.runner.setting)

    def said(self) -> list[bytes]:
        """Return the messages of tasks."""
        if executor.SAID not in self.frame.columns:
            return []
        messages = self.frame.where(F.col(executor.SAID).isNotNull()).select(executor.SAID)
        return [bytes(row[0]) for row in messages.collect()]

    def counts(self, column: str) -> dict[str, int]:
        """Return the number of rows by value of *column*."""
        return dict(map(tuple, self.rows.groupBy(f"`{column}`").count().collect()))

    def remove(self) -> None:
        """Remove the staging table."""
        _remove(self.folder, self.setting)


def _remove(address: str, setting: Callable[[str], str | None]) -> None:
    place = folder(address, setting)
    if place is None:
        return
    with suppress(OSError):
        if place.is_local:
            shutil.rmtree(place.path)
        else:
            place.store.system.delete_dir(place.path)
