"""Staging: rows that wait in a table of their own until Spark publishes them."""

from __future__ import annotations

import re
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pyarrow import fs
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once

from lakescore import executor
from lakescore.storage import folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import DataFrame

    from lakescore.storage import Folder
    from lakescore.tables.lookup import Table

_SUFFIX = "_staged_"
_SUFFIXED = re.compile(_SUFFIX + "[0-9a-f]{32}")
_OLD = timedelta(days=7)
"""The age of the files that VACUUM removes by default: no run takes so long."""


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
        """Write *rows* beside *table*; remove old staging tables that killed runs left there."""
        _remove_leftovers(table.location, table.runner.setting)
        address = f"{table.location.rstrip('/')}{_SUFFIX}{uuid.uuid4().hex}"
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
    if place is not None:
        with suppress(OSError):
            _system(place).delete_dir(place.path)


def _remove_leftovers(address: str, setting: Callable[[str], str | None]) -> None:
    """Remove the staging tables of the table at *address* in which all files are old."""
    place = folder(address, setting)
    if place is None:
        return
    system, table = _system(place), place.path.rstrip("/")
    with suppress(OSError):
        for entry in system.get_file_info(fs.FileSelector(table.rpartition("/")[0])):
            is_staged = entry.path.startswith(table) and _SUFFIXED.fullmatch(
                entry.path.removeprefix(table)
            )
            if is_staged and _is_old(system, entry.path):
                system.delete_dir(entry.path)


def _is_old(system: Any, path: str) -> bool:  # noqa: ANN401 - pyarrow has no types
    files = system.get_file_info(fs.FileSelector(path, recursive=True))
    times = [file.mtime for file in files if file.is_file]
    return bool(times) and max(times) < datetime.now(UTC) - _OLD


def _system(place: Folder) -> Any:  # noqa: ANN401 - pyarrow has no types
    return fs.LocalFileSystem() if place.is_local else place.store.system
