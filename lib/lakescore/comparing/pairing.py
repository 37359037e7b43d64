"""Pairing: labels beside the predictions of each version, in the columns that are added up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql.types import StructType

from lakescore import executor, scoring
from lakescore.arrow import arrow_type, struct
from lakescore.comparing import passes
from lakescore.comparing.holdout import LABEL
from lakescore.comparing.matching import Columns, match
from lakescore.scoring import ERRORS, SAID, Execution

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame

    from lakescore.comparing.problem import Problem


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Rows ready to be added up, and the description of their columns."""

    rows: passes.Rows
    """First the columns that workers read: `bucket`, `label`, `weight`, the slices as texts, `v0`,
    `v1`, .... Then `k0`, ..., `errors` and, before the rows are held, `SAID`. See
    `matching.match`."""
    problem: Problem
    uris: tuple[str, ...]
    slices: tuple[str, ...]
    keys: tuple[str, ...]

    @property
    def numbers(self) -> passes.Rows:
        """The columns that workers read to add up the rows."""
        slices = [f"s{n}" for n in range(len(self.slices))]
        versions = [f"v{n}" for n in range(len(self.uris))]
        return passes.select(self.rows, ["bucket", "label", "weight", *slices, *versions])


def pair(  # noqa: PLR0913 - all but three by keyword
    scored: DataFrame | Execution | pa.Table,
    uris: Sequence[str],
    problem: Problem,
    *,
    keys: Sequence[str] = (),
    weight: str | None = None,
    slices: Sequence[str] = (),
) -> Paired:
    """Return *scored* in the columns that are added up; see `Paired`.

    Without *keys*, a row's bucket comes from the row's place in the files. The place is the same
    only if the files are read in the same way.

    Args:
        scored: the result of `scoring.side_by_side` or of `scoring.tried`, or rows that were scored
            before, as a frame or an Arrow table. Or an execution: then workers of this machine
            score its rows now, and this process holds them.
        uris: the versions or families; each has a column.
        problem: the result of `infer`.
        keys: columns that identify a row; rows with equal keys are drawn together.
        weight: the column of weights; if it is left out, each weight is 1.
        slices: columns whose values divide the rows.
    """
    if isinstance(scored, Execution):
        scored_schema = scoring.side_by_side_columns(scored.planned)
        places = scored.side_by_side_places()
    else:
        is_table = isinstance(scored, pa.Table)
        scored_schema = struct(scored.schema) if is_table else scored.schema
        places = {name: n for n, name in enumerate(scored_schema.names)}
    columns = _columns(scored_schema, places, uris, problem, keys, weight, slices)
    schema = _matched_schema(columns, [arrow_type(scored_schema[name].dataType) for name in keys])
    rows = (
        scored.map_side_by_side(partial(match, columns), schema)
        if isinstance(scored, Execution)
        else passes.mapped(scored, match(columns), schema)
    )
    return Paired(
        rows=rows, problem=problem, uris=tuple(uris), slices=tuple(slices), keys=tuple(keys)
    )


def _columns(  # noqa: PLR0913, PLR0917 - the parameters of `pair`
    scored: StructType,
    places: Mapping[str, int],
    uris: Sequence[str],
    problem: Problem,
    keys: Sequence[str],
    weight: str | None,
    slices: Sequence[str],
) -> Columns:
    """Return the positions of the columns of *scored* in the workers, by their *places*."""
    return Columns(
        task=problem.task,
        classes=problem.classes,
        label=places[LABEL],
        versions=tuple(places[uri] for uri in uris),
        fields=tuple(problem.fields.get(uri) if _is_struct(scored, uri) else None for uri in uris),
        weight=None if weight is None else places[weight],
        slices=tuple(places[name] for name in slices),
        keys=tuple(places[name] for name in keys),
        errors=places.get(ERRORS),
        said=places.get(SAID),
    )


def _is_struct(scored: StructType, name: str) -> bool:
    return isinstance(scored[name].dataType, StructType)


def _matched_schema(columns: Columns, keys: Sequence[pa.DataType]) -> pa.Schema:
    """Return the schema of the rows of `matching.match`; *keys* are the types of its keys."""
    label = pa.float64() if columns.task == "regression" else pa.string()
    prediction = pa.list_(pa.float64()) if columns.task == "scores" else label
    fields: dict[str, pa.DataType] = {"bucket": pa.int32(), "label": label, "weight": pa.float64()}
    fields |= {f"s{n}": pa.string() for n in range(len(columns.slices))}
    fields |= {f"v{n}": prediction for n in range(len(columns.versions))}
    fields |= {f"k{n}": kind for n, kind in enumerate(keys)}
    fields["errors"] = pa.list_(executor.WHY)
    if columns.said is not None:
        fields[SAID] = pa.binary()
    return pa.schema(fields)
