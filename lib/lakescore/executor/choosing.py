"""Choosing: which of several versions scores a row, by the segment that it is of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .applying import attempt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .applying import Version


BYTES_GATHERED = 64 * 2**20
"""Of so many bytes of rows a worker applies the versions at once."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which version scores the rows of which segment."""

    position: int
    """Of the column whose text names a row's segment."""
    numbers: Mapping[str | None, int | None]
    """By segment, the number of its version; rows of a segment without one are left out."""
    carried: pa.RecordBatch
    """What the rows of each version carry besides their prediction: one row a version."""


class SegmentUnknown(ValueError):
    """A row is of a segment for which no version was pinned, and of which nothing was said."""


@dataclass(frozen=True)
class Chosen:
    """Rows in the order of their versions, and what these gave."""

    rows: pa.RecordBatch
    predicted: pa.Array
    why: pa.Array
    """A list of `WHY` by row, null where the row was scored."""
    carried: pa.RecordBatch


def choose(choice: Choice, versions: Sequence[Version], batch: pa.RecordBatch) -> Chosen | None:
    """Apply to each row the version of its segment; none where no row has one.

    Raises:
        SegmentUnknown: a row is of a segment that *choice* does not know.
        As `attempt` besides.
    """
    numbers = _numbers(choice, batch.column(choice.position))
    order = np.argsort(numbers, kind="stable")[np.count_nonzero(numbers < 0) :]
    if not len(order):
        return None
    rows, numbers = batch.take(pa.array(order)), numbers[order]
    firsts = np.flatnonzero(np.diff(numbers, prepend=-1))
    ends = [*firsts[1:], len(numbers)]
    predictions, reasons = [], []
    for first, end in zip(firsts, ends, strict=True):
        part = rows.slice(first, end - first)
        version = versions[numbers[first]]
        try:
            (found,), why = attempt([version], part)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"{error}, for {version.uri}", name=error.name) from error
        predictions.append(found)
        reasons.append(why)
    return Chosen(
        rows=rows,
        predicted=pa.concat_arrays(predictions),
        why=pa.concat_arrays(reasons),
        carried=choice.carried.take(pa.array(numbers)),
    )


def _numbers(choice: Choice, segments: pa.Array) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the number of each row's version, -1 where its segment has none."""
    encoded = segments.cast(pa.string()).dictionary_encode()
    try:
        names = [*encoded.dictionary.to_pylist(), None]
    except UnicodeDecodeError as error:
        raise SegmentUnknown(f"a row is of a segment that is no UTF-8: {error}") from None
    codes = encoded.indices.fill_null(len(names) - 1).to_numpy()
    used = set(np.unique(codes).tolist())
    unknown = [name for n, name in enumerate(names) if n in used and name not in choice.numbers]
    if unknown:
        raise SegmentUnknown(f"a row is of the segment {unknown[0]!r}, and no version was pinned")
    pinned = [choice.numbers.get(name) for name in names]
    table = np.array([-1 if number is None else number for number in pinned], np.int64)
    found: np.ndarray[Any, np.dtype[np.int64]] = table[codes]
    return found
