"""Families: the segment of a row decides which of several versions scores it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .version import Version

    Numbers = np.ndarray[Any, np.dtype[np.int64]]

BYTES_GATHERED = 64 * 2**20
"""The bytes of rows to which a worker applies the versions of a family at once."""


class SegmentUnknown(ValueError):
    """A row has a segment that its family does not know: nothing says if it has a version."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Versions that each score the rows of their own segments."""

    uri: str | None
    """The name that errors state before the version's; None if they state the version alone."""
    members: tuple[Version, ...]
    position: int
    """The position of the column whose text names a row's segment."""
    numbers: Mapping[str | None, int | None]
    """By segment, the number of its version in `members`, or None if it has no version."""

    def numbered(self, batch: pa.RecordBatch) -> Numbers:
        """Return the number of each row's version, or -1 if its segment has no version.

        Raises:
            SegmentUnknown: `numbers` does not know the segment of a row.
        """
        encoded = batch.column(self.position).cast(pa.string()).dictionary_encode()
        try:
            names = [*encoded.dictionary.to_pylist(), None]
        except UnicodeDecodeError as error:
            raise SegmentUnknown(f"a row has a segment that is not UTF-8: {error}") from None
        codes = encoded.indices.fill_null(len(names) - 1).to_numpy()
        used = set(np.unique(codes).tolist())
        unknown = [name for n, name in enumerate(names) if n in used and name not in self.numbers]
        if unknown:
            raise SegmentUnknown(
                f"a row has the segment {unknown[0]!r}, for which no version is pinned"
            )
        pinned = [self.numbers.get(name) for name in names]
        table = np.array([-1 if number is None else number for number in pinned], np.int64)
        numbers: Numbers = table[codes]
        return numbers

    def parts(
        self, batch: pa.RecordBatch
    ) -> Iterator[tuple[Version | None, Numbers, pa.RecordBatch]]:
        """Yield each version of rows of *batch*, the places of its rows, and the rows.

        Rows whose segment has no version come first, with None as their version.
        """
        numbers = self.numbered(batch)
        if not len(numbers):
            return
        order = np.argsort(numbers, kind="stable")
        numbers, rows = numbers[order], batch.take(pa.array(order))
        firsts = np.flatnonzero(np.diff(numbers, prepend=-2))
        for first, end in zip(firsts, [*firsts[1:], len(order)], strict=True):
            version = None if numbers[first] < 0 else self.members[numbers[first]]
            yield version, order[first:end], rows.slice(first, end - first)
