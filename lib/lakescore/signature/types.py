"""The types of columns for the types of a signature, and the casts between types without loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    ByteType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    NullType,
    ShortType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from lakescore.loading import VECTOR, UnsupportedSignature
from lakescore.signature.naming import fit_name, repeated_names
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakescore.registry import ModelVersion

# Every value of a type on the right is also a value of the key. A double holds all integers up to
# 2^53, a float up to 2^24.
_LOSSLESS: dict[type[DataType], tuple[type[DataType], ...]] = {
    IntegerType: (ByteType, ShortType),
    LongType: (ByteType, ShortType, IntegerType),
    FloatType: (ByteType, ShortType),
    DoubleType: (ByteType, ShortType, IntegerType, FloatType),
    TimestampType: (DateType,),
}
_DIGITS: dict[type[DataType], int] = {IntegerType: 9, LongType: 18, DoubleType: 15}
"""The number of digits of a decimal that the type holds and gives back."""
_TYPES: dict[str, DataType] = {
    "boolean": BooleanType(),
    "integer": IntegerType(),
    "long": LongType(),
    "float": FloatType(),
    "double": DoubleType(),
    "string": StringType(),
    "binary": BinaryType(),
    "datetime": TimestampType(),
}
"""The types by the words of the signature."""
_RESULTS = (BooleanType, DoubleType, FloatType, IntegerType, LongType, StringType)
_NUMPY_KINDS: dict[str, DataType] = {
    "f8": DoubleType(),
    "f4": FloatType(),
    "i8": LongType(),
    "i4": IntegerType(),
    "i2": IntegerType(),
    "i1": IntegerType(),
    "b1": BooleanType(),
}


def is_lossless(has: DataType, asks: DataType) -> bool:
    """Return whether every value of *has* is a value of *asks*, also in lists, objects and maps."""
    if same_shape(has, asks):
        return True
    if isinstance(has, ArrayType) and isinstance(asks, ArrayType):
        return is_lossless(has.elementType, asks.elementType)
    if isinstance(has, MapType) and isinstance(asks, MapType):
        same_keys = same_shape(has.keyType, asks.keyType)
        return same_keys and is_lossless(has.valueType, asks.valueType)
    if isinstance(has, StructType) and isinstance(asks, StructType):
        # Spark casts fields by position and ignores their names.
        pairs = list(zip(has, asks, strict=False))
        lossless = all(a.name == b.name and is_lossless(a.dataType, b.dataType) for a, b in pairs)
        return len(has) == len(asks) and lossless
    if isinstance(has, DecimalType):
        scale_fits = has.scale == 0 or isinstance(asks, DoubleType)
        return scale_fits and has.precision <= _DIGITS.get(type(asks), 0)
    return type(has) in _LOSSLESS.get(type(asks), ())


def input_type(kind: Mapping[str, Any], has: DataType | None) -> DataType:
    """Return the type in which a model gets a column that has the type *has* in the table.

    A column of any type keeps the table's type, and so does a time without a zone. Fields of
    objects keep the table's order, since Spark identifies them by position.
    """
    match kind["type"]:
        case "any":
            return has or NullType()
        case "array":
            inner = has.elementType if isinstance(has, ArrayType) else None
            return ArrayType(input_type(kind["items"], inner))
        case "map":
            inner = has.valueType if isinstance(has, MapType) else None
            return MapType(StringType(), input_type(kind["values"], inner))
        case "object":
            return _input_object(kind["properties"], has)
        case "datetime" if isinstance(has, TimestampNTZType):
            return has
        case name:
            return _TYPES[name]


def column_types(schema: StructType) -> dict[str, DataType]:
    """Return the types of columns by name: a schema itself would search all columns for one."""
    return {field.name: field.dataType for field in schema}


def _input_object(properties: Mapping[str, Any], has: DataType | None) -> StructType:
    types = column_types(has) if isinstance(has, StructType) else {}
    required = {name for name, kind in properties.items() if kind.get("required", True)}
    fits = required <= types.keys() <= properties.keys()
    names = list(types) if fits else list(properties)
    return StructType(
        [StructField(name, input_type(properties[name], types.get(name))) for name in names]
    )


class _NoColumn(Exception):
    """The reason why no column of a table can hold an output."""


def output_type(model: ModelVersion, spec: Any) -> tuple[DataType, str]:  # noqa: ANN401 - of MLflow
    """Return the type of a column, and the signature's word for it."""
    kind = spec.to_dict()
    if kind["type"] == "tensor":
        return _tensor_type(model, spec), ""
    if kind["type"] == "any":
        return StringType(), "any, which is taken for texts,"
    try:
        column_type = _result_type(kind)
    except _NoColumn as error:
        name = "prediction" if spec.name is None else spec.name
        raise UnsupportedSignature(model.uri, f"its output {name!r} {error}") from None
    return column_type, "" if isinstance(column_type, _RESULTS) else column_type.simpleString()


def _result_type(kind: Mapping[str, Any]) -> DataType:
    match kind["type"]:
        case "array":
            return ArrayType(_result_type(kind["items"]))
        case name if name == VECTOR:
            return ArrayType(DoubleType())
        case "map":
            return MapType(StringType(), _result_type(kind["values"]))
        case "object":
            names = list(kind["properties"])
            unfit = repeated_names(names) or [name for name in names if name != fit_name(name)]
            if unfit:
                raise _NoColumn(f"has fields that Delta cannot name: {listed(map(repr, unfit))}")
            return StructType(
                [StructField(name, _result_type(kind["properties"][name])) for name in names]
            )
        case name:
            column_type = _TYPES.get(name)
            if not isinstance(column_type, _RESULTS):
                raise _NoColumn(f"is or holds {name}, which no prediction can be")
            return column_type


def _tensor_type(model: ModelVersion, spec: Any) -> DataType:  # noqa: ANN401 - likewise
    """Return the column type of the array that `infer_signature(X, model.predict(X))` saw.

    MLflow itself reads `(-1,)` as an array of one. This function returns the type of the model's
    values instead: one number per row.
    """
    kind, shape = spec.type, spec.shape
    scalar = StringType() if kind.kind in "USO" else _NUMPY_KINDS.get(kind.str[1:])
    if scalar is None or len(shape) > 2:  # noqa: PLR2004 - rows and columns
        raise UnsupportedSignature(model.uri, f"its output is a tensor of {kind} {shape}")
    one_a_row = len(shape) == 1 or shape[1] == 1
    return scalar if one_a_row else ArrayType(scalar)


def same_shape(has: DataType, asks: DataType) -> bool:
    """Return whether two types are equal, or differ only in their nullability."""
    return has.simpleString() == asks.simpleString()
