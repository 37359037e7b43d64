"""Labels: the true values that have arrived, beside the predictions of units, by their keys."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import (
    DateType,
    IntegralType,
    TimestampNTZType,
    TimestampType,
)

from lakescore import comparing, scanning, slicing
from lakescore.arrow import collected, struct
from lakescore.comparing.matching import texts
from lakescore.errors import ColumnsMissing
from lakescore.executor import SEPARATOR
from lakescore.logs import NotEligible
from lakescore.monitoring.errors import ArrivalUnfit, KeysInSlices, KeysUnfit, LabelsRepeated
from lakescore.slicing import RESERVED_PREFIX, SLICE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import Column, DataFrame
    from pyspark.sql.types import StructType

    from lakescore.monitoring.units import Unit
    from lakescore.scanning import Selection
    from lakescore.snapshots import Snapshot

UNIT = f"{RESERVED_PREFIX}unit"
"""The column that names the unit of a row: its slice and run, joined by `SEPARATOR`."""
ARRIVED = f"{RESERVED_PREFIX}arrived"
"""The column of the label's time of arrival."""
NO_SEGMENT = "\x1e"
"""The value of a segment's column that is null."""
_SEGMENT = f"{RESERVED_PREFIX}by"
_MOST_ROWS_HERE = 2_000_000
"""If more predictions or labels are read, Spark joins them."""
_OF_UNIT = ("model_name", "slice", "scoring_run_id")
_EXAMPLES = 3
_TIMES = (DateType, TimestampType, TimestampNTZType)


@dataclass(frozen=True, kw_only=True)
class LabelSource:
    """The table of labels, and its columns."""

    snapshot: Snapshot
    label: str
    keys: tuple[str, ...]
    slice_by: str | None = None
    arrived_at: str | None = None

    @property
    def matched(self) -> tuple[str, ...]:
        """The columns that match: the keys, and the slice if the labels have it."""
        return self.keys if self.slice_by is None else (*self.keys, SLICE)

    def check(self, predictions: Snapshot, by: Sequence[str]) -> None:
        """Check that both tables have the columns; *by* are the segments of the predictions.

        Raises:
            ColumnsMissing: one of them lacks a column.
            KeysUnfit: a key has another type in the two tables, or the arrival has no time.
        """
        names = [*self.keys, self.label, self.slice_by, self.arrived_at]
        for table, needed in ((self.snapshot, names), (predictions, [*self.keys, *by])):
            columns = table.schema.names
            if missing := [name for name in needed if name and name not in columns]:
                raise ColumnsMissing(table.address, missing, columns)
        address, schema = self.snapshot.address, self.snapshot.schema
        for name in self.keys:
            has, asks = schema[name].dataType, predictions.schema[name].dataType
            if has != asks and not (
                isinstance(has, IntegralType) and isinstance(asks, IntegralType)
            ):
                raise KeysUnfit(address, name, has.simpleString(), asks.simpleString())
        if self.arrived_at and not isinstance(kind := schema[self.arrived_at].dataType, _TIMES):
            raise ArrivalUnfit(address, self.arrived_at, kind.simpleString())

    def select(self, slices: Sequence[str]) -> Selection:
        """Return the labels of *slices*, or all labels if no column names their slices."""
        names = [slicing.WHOLE] if self.slice_by is None else slices
        return slicing.select(self.snapshot, self.slice_by, names)


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """The predictions of units, with their labels as far as they have arrived."""

    rows: Any
    """A frame or an Arrow table: the keys, the outputs, `UNIT`, the segments as texts, the column
    `comparing.LABEL`, and `ARRIVED` if the labels have a time."""
    keys: tuple[str, ...]
    segments: tuple[str, ...]
    """The columns of segments: a unit and a value of the column, joined by `SEPARATOR`."""

    @property
    def schema(self) -> StructType:
        """The columns of the rows."""
        return struct(self.rows.schema) if self.is_here else self.rows.schema

    @property
    def is_here(self) -> bool:
        """Whether the rows are an Arrow table in this process."""
        return isinstance(self.rows, pa.Table)


def unit_name(unit: Unit) -> str:
    """Return the value of `UNIT` in the rows of *unit*."""
    return SEPARATOR.join([unit.slice, unit.run_id])


def match(
    predictions: Snapshot,
    labels: LabelSource,
    units: Sequence[Unit],
    outputs: Sequence[str],
    by: Sequence[str],
) -> Labelled:
    """Return the predictions of *units* with their labels, each prediction once.

    Args:
        predictions: the table of predictions.
        labels: the table of labels. Null and NaN are no labels.
        units: the units, all of one model.
        outputs: the columns of predictions.
        by: columns of the predictions that divide a unit into segments.

    Raises:
        LabelsRepeated: a key has several labels.
        KeysInSlices: predictions of several slices share a key, and the labels name no slice.
    """
    slices = list(dict.fromkeys(unit.slice for unit in units))
    chosen = replace(
        slicing.select(predictions, "slice", slices), within={"model_name": (units[0].model,)}
    )
    names = list(dict.fromkeys([*labels.keys, *outputs, *by, *_OF_UNIT]))
    wanted = [unit_name(unit) for unit in units]
    segments = tuple(f"{_SEGMENT}{n}" for n in range(len(by)))
    try:
        predicted = scanning.read(chosen, names, _MOST_ROWS_HERE)
        read = [*labels.matched, labels.label, *([labels.arrived_at] if labels.arrived_at else [])]
        known = scanning.read(labels.select(slices), read, _MOST_ROWS_HERE)
        rows = _match_here(predicted, known, labels, units[0].model, wanted, by)
        return Labelled(rows=rows, keys=labels.keys, segments=segments)
    except NotEligible as not_eligible:
        predictions.runner.start(f"Spark reads predictions and labels: {not_eligible}")
    frame = _match_in_spark(
        chosen.rows.select(*[F.col(f"`{name}`") for name in names]),
        labels.select(slices).rows, labels, units[0].model, wanted, by,
    )  # fmt: skip
    return Labelled(rows=frame, keys=labels.keys, segments=segments)


def _match_here(  # noqa: PLR0913, PLR0917 - two tables and what is known of them
    predicted: pa.Table,
    known: pa.Table,
    labels: LabelSource,
    model: str,
    wanted: Sequence[str],
    by: Sequence[str],
) -> pa.Table:
    units = _joined([predicted.column("slice"), predicted.column("scoring_run_id")])
    predicted = predicted.append_column(UNIT, units)
    of_model = pc.equal(predicted.column("model_name"), model)
    predicted = predicted.filter(pc.and_(of_model, pc.is_in(units, pa.array(wanted))))
    for n, name in enumerate(by):
        segments = texts(predicted.column(name).combine_chunks()).fill_null(NO_SEGMENT)
        joined = _joined([predicted.column(UNIT), pa.chunked_array([segments])])
        predicted = predicted.append_column(f"{_SEGMENT}{n}", joined)
    known = known.filter(pc.invert(pc.is_null(known.column(labels.label), nan_is_null=True)))
    renamed = [*labels.matched, comparing.LABEL, *([ARRIVED] if labels.arrived_at else [])]
    known = known.rename_columns(renamed)
    if labels.arrived_at:
        times = known.column(ARRIVED).cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
        known = known.set_column(len(renamed) - 1, ARRIVED, times)
    if labels.slice_by is None:
        by_key = predicted.group_by(list(labels.keys)).aggregate([("slice", "count_distinct")])
        if (pc.max(by_key.column("slice_count_distinct")).as_py() or 0) > 1:
            raise KeysInSlices(labels.keys)
    else:
        predicted = predicted.append_column(SLICE, predicted.column("slice"))
    known, predicted = (_widen(rows, labels.keys) for rows in (known, predicted))
    matched = list(labels.matched)
    _check_unique(known.group_by(matched).aggregate([([], "count_all")]), labels)
    return predicted.join(known, keys=matched, join_type="left outer")


def _widen(rows: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Return *rows* with all integer keys as longs."""
    for name in keys:
        place = rows.schema.get_field_index(name)
        if pa.types.is_integer(rows.schema.field(place).type):
            rows = rows.set_column(place, name, rows.column(place).cast(pa.int64()))
    return rows


def _joined(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(*columns, SEPARATOR)


def _check_unique(counts: pa.Table, labels: LabelSource) -> None:
    repeated = counts.filter(pc.greater(counts.column("count_all"), 1))
    if repeated.num_rows:
        few = repeated.select(list(labels.matched)).slice(0, _EXAMPLES).to_pylist()
        examples = [", ".join(map(str, row.values())) for row in few]
        raise LabelsRepeated(labels.snapshot.address, labels.keys, repeated.num_rows, examples)


def _match_in_spark(  # noqa: PLR0913, PLR0917 - two tables and what is known of them
    predicted: DataFrame,
    known: DataFrame,
    labels: LabelSource,
    model: str,
    wanted: Sequence[str],
    by: Sequence[str],
) -> DataFrame:
    def joined(*columns: Column) -> Column:
        return F.concat_ws(SEPARATOR, *columns)

    unit = joined(F.col("slice"), F.col("scoring_run_id"))
    predicted = predicted.withColumn(UNIT, unit)
    predicted = predicted.where((F.col("model_name") == model) & F.col(UNIT).isin(list(wanted)))
    for n, name in enumerate(by):
        value = F.coalesce(F.col(f"`{name}`").cast("string"), F.lit(NO_SEGMENT))
        predicted = predicted.withColumn(f"{_SEGMENT}{n}", joined(F.col(UNIT), value))
    keys = {name: f"{RESERVED_PREFIX}k{n}" for n, name in enumerate(labels.matched)}
    if labels.slice_by is None:
        by_key = predicted.groupBy(*[F.col(f"`{name}`") for name in labels.keys])
        if not by_key.agg(F.count_distinct("slice").alias("n")).where("n > 1").isEmpty():
            raise KeysInSlices(labels.keys)
    else:
        predicted = predicted.withColumn(SLICE, F.col("slice"))
    more = []
    if labels.arrived_at:
        more = [F.col(f"`{labels.arrived_at}`").cast("timestamp").alias(ARRIVED)]
    known = comparing.labelled(known, labels.label).select(
        *[F.col(f"`{name}`").alias(alias) for name, alias in keys.items()],
        F.col(f"`{labels.label}`").alias(comparing.LABEL), *more,
    )  # fmt: skip
    counts = known.groupBy(*keys.values()).agg(F.count("*").alias("count_all"))
    repeated = counts.where("count_all > 1")
    if number := repeated.count():
        few = repeated.select(*keys.values()).limit(_EXAMPLES).collect()
        examples = [", ".join(map(str, row)) for row in few]
        raise LabelsRepeated(labels.snapshot.address, labels.keys, number, examples)
    equal = reduce(and_, [F.col(f"`{name}`") == F.col(alias) for name, alias in keys.items()])
    return predicted.join(known, equal, "left").drop(*keys.values())


def count(labelled: Labelled) -> dict[str, Mapping[str, Any]]:
    """Return for each unit its `rows`, its `labelled` rows, and the `first` and `last` arrival."""
    rows, has_times = labelled.rows, ARRIVED in labelled.schema.names
    if labelled.is_here:
        of = [(comparing.LABEL, "count"), ([], "count_all")]
        of += [(ARRIVED, "min"), (ARRIVED, "max")] if has_times else []
        counts = rows.group_by(UNIT).aggregate(of).to_pylist()
        return {
            row[UNIT]: {
                "rows": row["count_all"],
                "labelled": row[f"{comparing.LABEL}_count"],
                "first": row.get(f"{ARRIVED}_min"),
                "last": row.get(f"{ARRIVED}_max"),
            }
            for row in counts
        }
    arrived = F.col(ARRIVED) if has_times else F.lit(None).cast("timestamp")
    counted = rows.groupBy(UNIT).agg(
        F.count("*").alias("rows"),
        F.count(comparing.LABEL).alias("labelled"),
        F.min(arrived).alias("first"),
        F.max(arrived).alias("last"),
    )
    # Arrow keeps the zone of times; collect() would give them in the zone of this machine.
    return {row[UNIT]: row for row in collected(counted).to_pylist()}
