"""Sealing: Arrow rows as cells of bytes, which all versions of Spark can take and return."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SEALED = pa.schema({"cell": pa.binary()})


def seal(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield `SEALED`: each of *batches* as one cell, in Arrow's stream format."""
    for batch in batches:
        yield pa.RecordBatch.from_pydict({"cell": [sealed(batch)]}, SEALED)


def unseal(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the rows that `SEALED` *batches* hold."""
    for batch in batches:
        for cell in batch.column(0):
            yield from opened(cell.as_py()).to_batches()


def sealed(rows: pa.RecordBatch | pa.Table) -> bytes:
    """Return *rows* as bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write(rows)
    return bytes(sink.getvalue())


def opened(cell: bytes) -> pa.Table:
    """Return the rows that *cell* holds."""
    with pa.ipc.open_stream(cell) as reader:
        return reader.read_all()
