"""Tallying: what tasks did, as a row of what they give, so that only what succeeded counts."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable

SAID = "_lakescore_said"
"""The column that holds what a task says of itself, in its last row; null in all others."""
_LISTED_BY_A_TASK = 16 * 2**20
_LISTED_IN_ALL = 512 * 2**20
"""Bytes of the failed rows that come to the driver; those beyond are counted alone."""


def listed_at_most(tasks: int) -> int:
    """Return how many bytes of failed rows each of so many *tasks* may list."""
    return min(_LISTED_BY_A_TASK, _LISTED_IN_ALL // max(1, tasks))


class Part:
    """What one task did.

    Args:
        most: bytes of failed rows, compressed, that it lists before it counts them alone.
    """

    def __init__(self, most: int = _LISTED_BY_A_TASK) -> None:
        self._most = most
        self.rows = 0
        """Rows that were predicted, or tried."""
        self.failed = 0
        """Those of them that could not be scored."""
        self.aligned = 0
        """Rows whose predictions were put in order by the index that came with them."""
        self.loads = 0
        """Models that it loaded."""
        self._listing = pa.BufferOutputStream()
        self._stream: Any = None

    def add(self, rows: pa.RecordBatch) -> None:
        """List those of *rows* that say why they failed."""
        if self._listing.tell() > self._most:
            return
        if self._stream is None:
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            self._stream = pa.ipc.new_stream(self._listing, rows.schema, options=options)
        self._stream.write_batch(rows.filter(rows.column("why").is_valid()))

    def said(self) -> bytes:
        """Return the whole of it: a line of JSON, then the listing as an Arrow stream."""
        counts = {
            "rows": self.rows,
            "failed": self.failed,
            "aligned": self.aligned,
            "loads": self.loads,
            "worker": f"{platform.node()}:{os.getpid()}",
        }
        if self._stream is not None:
            self._stream.close()
        return json.dumps(counts).encode() + b"\n" + bytes(self._listing.getvalue())


@dataclass
class TaskTotals:
    """What workers did, added up over tasks."""

    rows: int = 0
    failed: int = 0
    aligned: int = 0
    loads: int = 0
    workers: set[str] = field(default_factory=set)
    listing: list[pa.Table] = field(default_factory=list)

    def add(self, said: Iterable[bytes]) -> None:
        """Add what tasks said."""
        for each in said:
            line, _, listing = bytes(each).partition(b"\n")
            counts = json.loads(line)
            self.rows += counts["rows"]
            self.failed += counts["failed"]
            self.aligned += counts["aligned"]
            self.loads += counts["loads"]
            self.workers.add(counts["worker"])
            if listing:
                self.listing.append(pa.ipc.open_stream(listing).read_all())

    def listed(self) -> pa.Table | None:
        """Return the failed rows' kept columns and `why`, if any failed."""
        return pa.concat_tables(self.listing) if self.listing else None
