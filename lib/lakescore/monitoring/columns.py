"""Columns: which columns of the input and which outputs are monitored, and as what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pyspark.sql.types import (
    BooleanType,
    DateType,
    NumericType,
    StringType,
    TimestampNTZType,
    TimestampType,
)

from lakescore.errors import ColumnsMissing
from lakescore.monitoring.errors import NothingToMonitor
from lakescore.provenance import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql.types import DataType, StructType

    from lakescore.monitoring.units import Unit

Kind = Literal["number", "category", "time"]
Role = Literal["feature", "prediction"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A monitored column."""

    name: str
    """The name of the feature, of another column of the input, or of the output."""
    source: str
    """The name of the column in its table."""
    kind: Kind
    role: Role


def kind_of(kind: DataType) -> Kind | None:
    """Return as what a column of the type *kind* is monitored; None if it is not."""
    if isinstance(kind, NumericType):
        return "number"
    if isinstance(kind, (StringType, BooleanType)):
        return "category"
    if isinstance(kind, (DateType, TimestampType, TimestampNTZType)):
        return "time"
    return None


def features(
    unit: Unit, schema: StructType, address: str, names: Sequence[str], *, asked: bool
) -> tuple[list[Column], dict[str, str]]:
    """Return the monitored columns of the input, and the reason for those that are left out.

    Args:
        unit: says which column of the table each feature has.
        schema: the columns of the input.
        address: the input, for errors.
        names: the features, or the columns that the job's file names.
        asked: whether the job's file names them; then all of them must exist.

    Raises:
        ColumnsMissing: the input lacks a column that the job's file names.
    """
    renamed: Mapping[str, str] = unit.settings.get("columns") or {}
    sources = {name: name if asked else renamed.get(name, name) for name in names}
    missing = [source for source in sources.values() if source not in schema.names]
    if missing and asked:
        raise ColumnsMissing(address, missing, schema.names)
    present = {name: source for name, source in sources.items() if source not in missing}
    left_out = dict.fromkeys(missing, "the input does not have it")
    return _of_kinds(present, schema, "feature", left_out)


def outputs(predictions: StructType, inputs: StructType) -> tuple[list[Column], dict[str, str]]:
    """Return the outputs of the model among the columns of *predictions*.

    They are the columns that neither the lineage nor the input has: a score job renames an output
    that would have the name of such a column.
    """
    others = {*COLUMNS, *inputs.names}
    names = {name: name for name in predictions.names if name not in others}
    return _of_kinds(names, predictions, "prediction", {})


def _of_kinds(
    sources: Mapping[str, str], schema: StructType, role: Role, left_out: dict[str, str]
) -> tuple[list[Column], dict[str, str]]:
    columns = []
    for name, source in sources.items():
        field = schema[source]
        if (kind := kind_of(field.dataType)) is None:
            left_out[name] = f"it is {field.dataType.simpleString()}"
        else:
            columns.append(Column(name=name, source=source, kind=kind, role=role))
    return columns, left_out


def require_some(columns: Sequence[Column], left_out: Mapping[str, str]) -> None:
    """Check that there is a column to monitor.

    Raises:
        NothingToMonitor: there is none.
    """
    if not any(column.kind != "time" for column in columns):
        raise NothingToMonitor(left_out or {"none": "the model has no features"})
