"""Arrow: the Arrow types of Spark's types, and which are exact; rows from one to the other."""

from __future__ import annotations

import re
from inspect import signature as parameters_of
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark import cloudpickle
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - its usual name
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
"""PySpark before 4.0 neither takes nor returns Arrow tables."""
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
"""The characters that Delta refuses in the name of a column or of a field."""
_IN_UTC: dict[str, Any] = (
    {"timezone": "UTC"} if "timezone" in parameters_of(to_arrow_type).parameters else {}
)
"""PySpark before 4.2 has no such parameter, and takes times for UTC."""


def arrow_type(kind: DataType) -> pa.DataType:
    """Return the Arrow type in which workers get Spark's values of *kind*, times in UTC.

    Raises:
        PySparkException: Arrow has no such type.
    """
    return to_arrow_type(kind, **_IN_UTC)


def is_plain(kind: DataType) -> bool:
    """Return whether workers read values of *kind* exactly as Spark does."""
    return type(kind) in _PLAIN and not is_collated(kind)


def is_readable(kind: DataType) -> bool:
    """Return whether workers read values of *kind*, which can be nested, exactly as Spark does."""
    if isinstance(kind, StructType):
        # Metadata can give a field another name in the files, or other values.
        return bool(kind.fields) and all(
            is_readable(field.dataType) and not field.metadata for field in kind
        )
    if isinstance(kind, ArrayType):
        return is_readable(kind.elementType)
    if isinstance(kind, MapType):
        return is_readable(kind.keyType) and is_readable(kind.valueType)
    return is_plain(kind)


def is_writable(kind: DataType) -> bool:
    """Return whether workers write values of *kind* exactly as Spark does."""
    if isinstance(kind, StructType):
        fields = kind.fields
        are_valid = not any(field.metadata or NO_NAME.search(field.name) for field in fields)
        return bool(fields) and are_valid and all(is_writable(field.dataType) for field in fields)
    if isinstance(kind, ArrayType):
        return is_writable(kind.elementType)
    return is_plain(kind) and not isinstance(kind, TimestampNTZType)


def is_collated(kind: DataType) -> bool:
    """Return whether *kind* is a text with a collation, by which Spark compares it."""
    return kind.simpleString().startswith("string ")


def struct(schema: pa.Schema) -> StructType:
    """Return Spark's schema for rows of an Arrow *schema*."""
    return StructType([StructField(f.name, from_arrow_type(f.type)) for f in schema])


def collected(rows: DataFrame) -> pa.Table:
    """Return all *rows* as an Arrow table."""
    if _KNOWS_ARROW:
        return rows.toArrow()
    # Spark 3.5 returns only Python's values, with times in the driver's time zone.
    cells = rows.mapInArrow(executor.seal, struct(executor.SEALED)).collect()
    if cells:
        return pa.concat_tables([executor.opened(bytes(cell[0])) for cell in cells])
    return pa.schema([(f.name, arrow_type(f.dataType)) for f in rows.schema]).empty_table()


def frame(spark: SparkSession, rows: pa.Table) -> DataFrame:
    """Return *rows* as a DataFrame of Spark."""
    if _KNOWS_ARROW:
        return spark.createDataFrame(rows)
    cell = bytearray(executor.sealed(rows))
    cells = spark.createDataFrame([(cell,)], struct(executor.SEALED))
    return cells.mapInArrow(executor.unseal, struct(rows.schema))


def readable(rows: DataFrame) -> DataFrame:
    """Return *rows* with dates and times as Spark's texts: Python has fewer years."""
    texts = {
        field.name: F.col(f"`{field.name}`").cast(_legible_type(field.dataType))
        for field in rows.schema
        if _legible_type(field.dataType) != field.dataType
    }
    return rows.withColumns(texts) if texts else rows


def legible(rows: pa.Table) -> pa.Table:
    """Return *rows* as `readable` does: dates and times in UTC as Spark's texts."""
    columns = [
        executor.innermost(column.combine_chunks(), _legible_values) for column in rows.columns
    ]
    return pa.table(columns, names=rows.column_names)


def _legible_values(values: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(values.type):
        texts = values.cast(pa.timestamp("us")).cast(pa.string())
        return _add_plus(pc.replace_substring_regex(texts, r"\.?0*$", ""))
    if pa.types.is_string(values.type):
        return _decode(values)
    return _add_plus(values.cast(pa.string())) if pa.types.is_date(values.type) else values


def _add_plus(dates: pa.Array) -> pa.Array:
    """Return texts of *dates* with the plus that Spark writes before a year of five digits."""
    return pc.replace_substring_regex(dates, r"^(\d{5})", r"+\1")


def _decode(texts: pa.Array) -> pa.Array:
    """Return *texts* with a sign for each byte that is not UTF-8, which a table may hold."""
    cells = texts.cast(pa.binary()).to_pylist()
    return pa.array([c if c is None else c.decode("utf-8", "replace") for c in cells], pa.string())


def _legible_type(kind: DataType) -> DataType:
    """Return *kind* with texts in the place of dates and times, at any depth.

    A map's keys also become texts if Python cannot use them as keys.
    """
    if isinstance(kind, (DateType, TimestampType, TimestampNTZType)):
        return StringType()
    if isinstance(kind, ArrayType):
        return ArrayType(_legible_type(kind.elementType), kind.containsNull)
    if isinstance(kind, MapType):
        unhashable = isinstance(kind.keyType, (ArrayType, BinaryType, StructType))
        key = StringType() if unhashable else _legible_type(kind.keyType)
        return MapType(key, _legible_type(kind.valueType), kind.valueContainsNull)
    if isinstance(kind, StructType):
        fields = [
            StructField(f.name, _legible_type(f.dataType), f.nullable, f.metadata) for f in kind
        ]
        return StructType(fields)
    return kind
