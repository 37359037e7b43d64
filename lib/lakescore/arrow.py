"""Arrow: how Spark's types are held in it, and which of them exactly; rows to and fro."""

from __future__ import annotations

import re
from inspect import signature as parameters_of
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark import cloudpickle
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.pandas.types import from_arrow_type, to_arrow_type
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    ByteType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    ShortType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from lakescore import executor

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.types import DataType

cloudpickle.register_pickle_by_value(executor)  # type: ignore[no-untyped-call]

_KNOWS_ARROW = hasattr(DataFrame, "toArrow")
"""PySpark before 4.0 takes no Arrow tables, and gives none."""
_PLAIN = (
    BinaryType,
    BooleanType,
    ByteType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    TimestampNTZType,
    TimestampType,
)
NO_NAME = re.compile(r"[ ,;{}()\n\t=]")
"""What Delta refuses in the name of a column, or of a field."""
_IN_UTC: dict[str, Any] = (
    {"timezone": "UTC"} if "timezone" in parameters_of(to_arrow_type).parameters else {}
)
"""PySpark before 4.2 takes times for UTC without being told."""


def arrow_type(kind: DataType) -> pa.DataType:
    """Return the type in which Spark hands values of *kind* to workers, times in UTC.

    Raises:
        PySparkException: Arrow holds no such values.
    """
    return to_arrow_type(kind, **_IN_UTC)


def is_plain(kind: DataType) -> bool:
    """Return whether workers read values of *kind* exactly as Spark does."""
    return type(kind) in _PLAIN and not is_collated(kind)


def is_writable(kind: DataType) -> bool:
    """Return whether workers write values of *kind* exactly as Spark does."""
    if isinstance(kind, StructType):
        fields = kind.fields
        are_fit = not any(field.metadata or NO_NAME.search(field.name) for field in fields)
        return bool(fields) and are_fit and all(is_writable(field.dataType) for field in fields)
    if isinstance(kind, ArrayType):
        return is_writable(kind.elementType)
    return is_plain(kind) and not isinstance(kind, TimestampNTZType)


def is_collated(kind: DataType) -> bool:
    """Tell whether *kind* is a text that Spark compares in a way of its own."""
    return kind.simpleString().startswith("string ")


def struct(schema: pa.Schema) -> StructType:
    """Return the columns that rows of an Arrow *schema* have for Spark."""
    return StructType([StructField(f.name, from_arrow_type(f.type)) for f in schema])


def collected(rows: DataFrame) -> pa.Table:
    """Return all of *rows*."""
    if _KNOWS_ARROW:
        return rows.toArrow()
    # Spark 3.5 gives Python's values alone, of which times are those of the driver's own zone.
    cells = rows.mapInArrow(executor.seal, struct(executor.SEALED)).collect()
    if cells:
        return pa.concat_tables([executor.opened(bytes(cell[0])) for cell in cells])
    return pa.schema([(f.name, arrow_type(f.dataType)) for f in rows.schema]).empty_table()


def frame(spark: SparkSession, rows: pa.Table) -> DataFrame:
    """Return *rows* as Spark has them."""
    if _KNOWS_ARROW:
        return spark.createDataFrame(rows)
    cell = bytearray(executor.sealed(rows))
    held = spark.createDataFrame([(cell,)], struct(executor.SEALED))
    return held.mapInArrow(executor.unseal, struct(rows.schema))


def readable(rows: DataFrame) -> DataFrame:
    """Return *rows* with dates and times as Spark writes them: Python knows fewer years."""
    texts = {
        field.name: F.col(f"`{field.name}`").cast(_legible(field.dataType))
        for field in rows.schema
        if _legible(field.dataType) != field.dataType
    }
    return rows.withColumns(texts) if texts else rows


def legible(rows: pa.Table) -> pa.Table:
    """Return *rows* as `readable` does: dates and times in UTC as texts, as Spark writes them."""
    columns = [
        executor.innermost(column.combine_chunks(), _legible_values) for column in rows.columns
    ]
    return pa.table(columns, names=rows.column_names)


def _legible_values(values: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(values.type):
        texts = values.cast(pa.timestamp("us")).cast(pa.string())
        return _signed(pc.replace_substring_regex(texts, r"\.?0*$", ""))
    if pa.types.is_string(values.type):
        return _decoded(values)
    return _signed(values.cast(pa.string())) if pa.types.is_date(values.type) else values


def _signed(dates: pa.Array) -> pa.Array:
    """Return texts of *dates* with the plus that Spark writes before a year of five digits."""
    return pc.replace_substring_regex(dates, r"^(\d{5})", r"+\1")


def _decoded(texts: pa.Array) -> pa.Array:
    """Return *texts* with signs in the place of bytes that are no UTF-8, which a table may hold."""
    cells = texts.cast(pa.binary()).to_pylist()
    return pa.array([c if c is None else c.decode("utf-8", "replace") for c in cells], pa.string())


def _legible(kind: DataType) -> DataType:
    """Return *kind* with texts in the place of dates and times, in whatever holds them.

    And in the place of a map's keys that Python cannot hold as such.
    """
    if isinstance(kind, (DateType, TimestampType, TimestampNTZType)):
        return StringType()
    if isinstance(kind, ArrayType):
        return ArrayType(_legible(kind.elementType), kind.containsNull)
    if isinstance(kind, MapType):
        unhashable = isinstance(kind.keyType, (ArrayType, BinaryType, StructType))
        key = StringType() if unhashable else _legible(kind.keyType)
        return MapType(key, _legible(kind.valueType), kind.valueContainsNull)
    if isinstance(kind, StructType):
        fields = [StructField(f.name, _legible(f.dataType), f.nullable, f.metadata) for f in kind]
        return StructType(fields)
    return kind
