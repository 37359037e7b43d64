"""Choosing: which of several versions scores a row, by the segment that it is of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .applying import Version

    Numbers = np.ndarray[Any, np.dtype[np.int64]]

BYTES_GATHERED = 64 * 2**20
"""Of so many bytes of rows a worker applies the versions of a family at once."""


class SegmentUnknown(ValueError):
    """A row is of a segment for which no version was pinned, and of which nothing was said."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Versions of which each scores the rows of its segments."""

    uri: str | None
    """What errors name before the version; None where each version speaks for itself."""
    members: tuple[Version, ...]
    position: int
    """Of the column whose text names a row's segment."""
    numbers: Mapping[str | None, int | None]
    """By segment, the number of its version in `members`; none where it has none."""

    def numbered(self, batch: pa.RecordBatch) -> Numbers:
        """Return the number of each row's version, -1 where its segment has none.

        Raises:
            SegmentUnknown: a row is of a segment that `numbers` does not know.
        """
        encoded = batch.column(self.position).cast(pa.string()).dictionary_encode()
        try:
            names = [*encoded.dictionary.to_pylist(), None]
        except UnicodeDecodeError as error:
            raise SegmentUnknown(f"a row is of a segment that is no UTF-8: {error}") from None
        codes = encoded.indices.fill_null(len(names) - 1).to_numpy()
        used = set(np.unique(codes).tolist())
        unknown = [name for n, name in enumerate(names) if n in used and name not in self.numbers]
        if unknown:
            raise SegmentUnknown(
                f"a row is of the segment {unknown[0]!r}, and no version was pinned"
            )
        pinned = [self.numbers.get(name) for name in names]
        table = np.array([-1 if number is None else number for number in pinned], np.int64)
        numbers: Numbers = table[codes]
        return numbers

    def parts(
        self, batch: pa.RecordBatch
    ) -> Iterator[tuple[Version | None, Numbers, pa.RecordBatch]]:
        """Yield each version that rows of *batch* have, the places of these rows, and the rows.

        Rows whose segment has no version come first, with none.
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
