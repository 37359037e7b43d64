"""The signature: what a model takes and gives, held against a table before anything is scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    ByteType,
    DataType,
    DateType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from lakescore import lineage
from lakescore.errors import (
    ColumnsCollide,
    ColumnsMissing,
    TypesDiffer,
    UnsupportedSignature,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame

    from lakescore.registry import ModelVersion

PREDICTION = "prediction"

# Every value of the type on the right of a key is a value of the key: 2^53 bounds what a double
# holds of integers, 2^24 what a float does.
_LOSSLESS: dict[type[DataType], tuple[type[DataType], ...]] = {
    IntegerType: (ByteType, ShortType),
    LongType: (ByteType, ShortType, IntegerType),
    FloatType: (ByteType, ShortType),
    DoubleType: (ByteType, ShortType, IntegerType, FloatType),
    TimestampType: (DateType,),
}
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


@dataclass(frozen=True)
class Contract:
    """What a model takes from a table, and what it gives."""

    features: tuple[StructField, ...]
    """The signature's columns, with the types that the model was trained on."""
    casts: dict[str, tuple[str, str]]
    """The columns that are cast, losslessly: name -> (type in the table, type for the model)."""
    outputs: StructType
    """The prediction's columns: `prediction`, or the signature's names where it has several."""


def agree(
    address: str,
    rows: DataFrame,
    model: ModelVersion,
    *,
    keep: Sequence[str] = (),
    read: Sequence[str] = (),
) -> Contract:
    """Hold the columns of *rows* against the model's signature, before anything is scored.

    Args:
        address: the table, for messages.
        rows: the table's rows, of which only the schema is read.
        model: the pinned version.
        keep: columns of the table that the output shall hold beside the prediction.
        read: columns of the table that the job needs besides.

    Raises:
        ColumnsMissing: the table lacks columns of the signature, of *keep* or of *read*.
        TypesDiffer: a column cannot be cast losslessly to the signature's type.
        ColumnsCollide: two columns of the output would have one name.
        UnsupportedSignature: the signature is of tensors, or gives what no column can hold.
    """
    columns = rows.schema
    features = _features(model, columns)
    wanted = [*[field.name for field in features], *keep, *read]
    missing = [name for name in dict.fromkeys(wanted) if name not in columns.names]
    if missing:
        raise ColumnsMissing(address, missing, columns.names)
    outputs = _outputs(model)
    collisions = _repeated([*keep, *outputs.names, *lineage.COLUMNS])
    if collisions:
        raise ColumnsCollide(collisions)
    changed = {
        field.name: (columns[field.name].dataType, field.dataType)
        for field in features
        if columns[field.name].dataType != field.dataType
        and not _same_shape(columns[field.name].dataType, field.dataType)
    }
    lossy = {
        name: (has.simpleString(), asks.simpleString())
        for name, (has, asks) in changed.items()
        if type(has) not in _LOSSLESS.get(type(asks), ())
    }
    if lossy:
        raise TypesDiffer(address, lossy)
    casts = {n: (has.simpleString(), asks.simpleString()) for n, (has, asks) in changed.items()}
    return Contract(features, casts, outputs)


def _features(model: ModelVersion, columns: StructType) -> tuple[StructField, ...]:
    schema: Any = model.signature.inputs  # MLflow's specs are a union that no check narrows
    if schema.is_tensor_spec() or not schema.has_input_names():
        raise UnsupportedSignature(model.uri, "its signature does not name input columns")
    optional = {spec.name for spec in schema.inputs if not spec.required}
    fields = schema.as_spark_schema().fields
    return tuple(f for f in fields if f.name in columns.names or f.name not in optional)


def _outputs(model: ModelVersion) -> StructType:
    schema: Any = model.signature.outputs
    if schema.is_tensor_spec():
        fields = [StructField(PREDICTION, _of_tensor(model, schema))]
    elif len(schema.inputs) == 1:
        fields = [StructField(PREDICTION, schema.inputs[0].type.to_spark())]
    else:
        fields = schema.as_spark_schema().fields
    for field in fields:
        scalar = field.dataType
        while isinstance(scalar, ArrayType):
            scalar = scalar.elementType
        if not isinstance(scalar, _RESULTS):
            raise UnsupportedSignature(
                model.uri, f"its output {field.name!r} is {field.dataType.simpleString()}"
            )
    # Arrow tells nullable fields from others, and what comes out of pandas is nullable.
    return StructType([StructField(field.name, field.dataType, nullable=True) for field in fields])


def _of_tensor(model: ModelVersion, schema: Any) -> DataType:  # noqa: ANN401 - see above
    """Return the column type of the one array that `infer_signature(X, model.predict(X))` saw.

    MLflow itself reads `(-1,)` as an array of one: we say what the model says, a number a row.
    """
    if len(schema.inputs) != 1:
        raise UnsupportedSignature(model.uri, "its output is several tensors")
    kind, shape = schema.inputs[0].type, schema.inputs[0].shape
    scalar = StringType() if kind.kind in "USO" else _NUMPY_KINDS.get(kind.str[1:])
    if scalar is None or len(shape) > 2:  # noqa: PLR2004 - rows and columns
        raise UnsupportedSignature(model.uri, f"its output is a tensor of {kind} {shape}")
    one_a_row = len(shape) == 1 or shape[1] == 1
    return scalar if one_a_row else ArrayType(scalar)


def _repeated(names: Sequence[str]) -> list[str]:
    """Return the names that stand twice: Spark's columns do not tell cases apart."""
    lowered = [name.lower() for name in names]
    return [name for name in dict.fromkeys(names) if lowered.count(name.lower()) > 1]


def _same_shape(has: DataType, asks: DataType) -> bool:
    """Tell whether two types differ only in what they say of nulls."""
    return has.simpleString() == asks.simpleString()
