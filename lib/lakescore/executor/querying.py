"""Querying: the function that SQL calls with a reference and the columns of a version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from .applying import attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .version import Version


@dataclass(frozen=True, kw_only=True)
class Queried:
    """A version that SQL can call."""

    version: Version
    names: tuple[str, ...]
    """The names of its features, in the order of the signature."""
    kinds: tuple[pa.DataType, ...]
    """The types of the features."""
    lossless: tuple[frozenset[str], ...]
    """For each feature, the types of columns whose values all fit its type."""


def query(versions: Mapping[str, Queried], result: pa.DataType) -> Callable[..., pa.Array]:
    """Return the function that predicts the rows of a batch.

    Args:
        versions: the pinned versions by reference.
        result: the type of the predictions of all versions.
    """

    def predict(model: pa.Array, *columns: pa.Array, **named: pa.Array) -> pa.Array:
        references = model.unique().to_pylist()
        if not references:
            return pa.nulls(0, result)
        if len(references) > 1 or references[0] not in versions:
            known = ", ".join(map(repr, versions))
            raise ValueError(
                f"PREDICT of {references[0]!r}: one of these versions must be named, the same for "
                f"all rows: {known}; register others with lakescore.sql.register"
            )
        queried = versions[references[0]]
        batch = pa.RecordBatch.from_arrays(
            [
                _as_feature(queried, n, column)
                for n, column in enumerate(_in_order(queried, columns, named))
            ],
            names=[f"f{n}" for n in range(len(queried.names))],
        )
        (predictions,), why = attempt([queried.version], batch)
        if why.null_count < len(why):
            first = why.drop_null()[0].as_py()[0]
            raise ValueError(
                f"{first['version']} could not score a row: {first['type']}: {first['message']}"
            )
        return predictions.cast(result)

    return predict


def _in_order(
    queried: Queried, columns: tuple[pa.Array, ...], named: Mapping[str, pa.Array]
) -> list[pa.Array]:
    """Return the columns in the order of the signature; all are named, or none is."""
    uri, names = queried.version.uri, queried.names
    if columns and named:
        raise ValueError(f"PREDICT of {uri}: name all columns, or none of them")
    if named and named.keys() != set(names):
        raise ValueError(f"PREDICT of {uri} reads {', '.join(names)}, not {', '.join(named)}")
    if not named and len(columns) != len(names):
        raise ValueError(
            f"PREDICT of {uri} reads {len(names)} columns ({', '.join(names)}), and got "
            f"{len(columns)}"
        )
    return [named[name] for name in names] if named else list(columns)


def _as_feature(queried: Queried, n: int, column: pa.Array) -> pa.Array:
    """Return a column in the type of the feature, if that loses no value."""
    kind = queried.kinds[n]
    if str(column.type) not in queried.lossless[n]:
        raise ValueError(
            f"PREDICT of {queried.version.uri}: the column for {queried.names[n]} is "
            f"{column.type}, and cannot become {kind} without loss; cast it in the query"
        )
    return column.cast(kind)
