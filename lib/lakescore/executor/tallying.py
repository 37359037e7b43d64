"""Tallying: tasks report their work in a row of their output, so only successful tasks count."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from .delegating import used_memory
from .expecting import add_checks

if TYPE_CHECKING:
    from collections.abc import Iterable

SAID = "_lakescore_said"
"""The column that holds the report of a task in its last row, and null in all other rows."""
_LISTED_BY_A_TASK = 16 * 2**20
_LISTED_IN_ALL = 512 * 2**20
"""The bytes of failed rows that come to the driver; further failed rows are only counted."""


def listed_at_most(tasks: int) -> int:
    """Return how many bytes of failed rows one of *tasks* tasks can list."""
    return min(_LISTED_BY_A_TASK, _LISTED_IN_ALL // max(1, tasks))


class Part:
    """The report of one task.

    Args:
        most: the compressed bytes of failed rows to list; further failed rows are only counted.
    """

    def __init__(self, most: int = _LISTED_BY_A_TASK) -> None:
        self._most = most
        self.rows = 0
        """Rows that the task scored, or tried to score."""
        self.failed = 0
        """Rows that could not be scored."""
        self.aligned = 0
        """Rows whose predictions were sorted by the index of the model's answer."""
        self.loads = 0
        """Models that the task loaded."""
        self.checked: dict[str, Any] = {}
        """The facts of `Checks`, if the job has rules for its rows."""
        self._listing = pa.BufferOutputStream()
        self._stream: Any = None

    def add(self, rows: pa.RecordBatch) -> None:
        """List the rows of *rows* that have a reason why they failed."""
        if self._listing.tell() > self._most:
            return
        if self._stream is None:
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            self._stream = pa.ipc.new_stream(self._listing, rows.schema, options=options)
        self._stream.write_batch(rows.filter(rows.column("why").is_valid()))

    def said(self) -> bytes:
        """Return the report as bytes: a line of JSON, then the listing as an Arrow stream."""
        counts = {
            "rows": self.rows,
            "failed": self.failed,
            "aligned": self.aligned,
            "loads": self.loads,
            "worker": f"{platform.node()}:{os.getpid()}",
            "memory": used_memory(),
            "checked": self.checked,
        }
        if self._stream is not None:
            self._stream.close()
        return json.dumps(counts).encode() + b"\n" + bytes(self._listing.getvalue())


@dataclass
class TaskTotals:
    """The totals of the reports of tasks."""

    rows: int = 0
    failed: int = 0
    aligned: int = 0
    loads: int = 0
    workers: set[str] = field(default_factory=set)
    memory: dict[str, int] = field(default_factory=dict)
    """The most bytes of memory of a process at the end of a task, by process."""
    checked: dict[str, Any] = field(default_factory=dict)
    """The facts of `Checks`, added up."""
    listing: list[pa.Table] = field(default_factory=list)

    def add(self, reports: Iterable[bytes]) -> None:
        """Add the reports of tasks."""
        for report in reports:
            line, _, listing = bytes(report).partition(b"\n")
            counts = json.loads(line)
            self.rows += counts["rows"]
            self.failed += counts["failed"]
            self.aligned += counts["aligned"]
            self.loads += counts["loads"]
            self.workers.add(counts["worker"])
            for process, size in counts["memory"].items():
                self.memory[process] = max(size, self.memory.get(process, 0))
            add_checks(self.checked, counts["checked"])
            if listing:
                self.listing.append(pa.ipc.open_stream(listing).read_all())

    def listed(self) -> pa.Table | None:
        """Return the kept columns and `why` of the failed rows, or None if no row failed."""
        return pa.concat_tables(self.listing) if self.listing else None
