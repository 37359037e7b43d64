"""Tallying: what tasks did, each counted once however often it was tried."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

_LISTED_BY_A_TASK = 16 * 2**20
_LISTED_IN_ALL = 512 * 2**20
"""Bytes of the failed rows that come to the driver; those beyond are counted alone."""


@dataclass
class Part:
    """What one task did."""

    rows: int = 0
    """Rows that were predicted, or tried."""
    failed: int = 0
    """Those of them that could not be scored."""
    aligned: int = 0
    """Rows whose predictions were put in order by the index that came with them."""
    size: int = 0
    listing: list[bytes] = field(default_factory=list)
    """The failed rows' kept columns and `why`, as Arrow streams."""

    def add(self, rows: pa.RecordBatch) -> None:
        """List those of *rows* that say why they failed."""
        bad = rows.filter(rows.column("why").is_valid())
        if self.size > _LISTED_BY_A_TASK:
            return
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(sink, bad.schema, options=options) as stream:
            stream.write_batch(bad)
        self.listing.append(sink.getvalue().to_pybytes())
        self.size += len(self.listing[-1])


@dataclass
class Tally:
    """What workers did, added up over tasks."""

    parts: dict[tuple[int, int], Part] = field(default_factory=dict)
    """By stage and partition: of a task that was tried again, once."""
    loads: int = 0
    """Models that were loaded."""
    workers: frozenset[str] = frozenset()
    size: int = 0
    """Bytes of the listings."""

    @property
    def rows(self) -> int:
        """Rows that were predicted, or tried."""
        return sum(part.rows for part in self.parts.values())

    @property
    def failed(self) -> int:
        """Rows that could not be scored."""
        return sum(part.failed for part in self.parts.values())

    @property
    def aligned(self) -> int:
        """Rows whose predictions were put in order by the index that came with them."""
        return sum(part.aligned for part in self.parts.values())

    def listed(self) -> pa.Table | None:
        """Return the failed rows' kept columns and `why`, if any failed."""
        streams = [each for part in self.parts.values() for each in part.listing]
        tables = [pa.ipc.open_stream(each).read_all() for each in streams]
        return pa.concat_tables(tables) if tables else None


class Adding:
    """How Spark adds tallies up (an `AccumulatorParam`)."""

    def zero(self, value: Tally) -> Tally:  # noqa: ARG002 - Spark's interface
        """Return what a task begins with."""
        return Tally()

    def addInPlace(self, left: Tally, right: Tally) -> Tally:  # noqa: N802 - Spark's interface
        """Add *right* to *left*, and return it."""
        for task, part in right.parts.items():
            if task in left.parts:
                continue
            if left.size + part.size > _LISTED_IN_ALL:
                part.listing, part.size = [], 0
            left.parts[task] = part
            left.size += part.size
        left.loads += right.loads
        left.workers |= right.workers
        return left
