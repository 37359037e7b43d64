"""The signature: what a model takes and gives, held against a table before anything is scored."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

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
    ColumnsUnfit,
    FeaturesUnknown,
    ThresholdUndefined,
    TypesDiffer,
    UnsupportedSignature,
    listed,
)
from lakescore.slicing import OURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame

    from lakescore.loading import Loadable
    from lakescore.registry import ModelVersion

PREDICTION = "prediction"
DECISION = "decision"
NullPolicy = Literal["model", "fail", "null", "quarantine"]
_NO_NULLS = (BooleanType, IntegerType, LongType)
"""What pandas cannot hold with nulls, so that a model is never asked about one."""
_UNFIT = re.compile(r"[ ,;{}()\n\t=]")
"""What Delta does not take in a column's name."""

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


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A column beside a score: which side of a threshold it is on."""

    score: str
    """The column of the score."""
    threshold: float
    below: bool | int | float | str
    reached: bool | int | float | str
    """What is decided where the score is at least the threshold, as scikit-learn decides."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What a model takes from a table, and what it gives."""

    loadable: Loadable
    features: tuple[StructField, ...]
    """The signature's columns, with the types that the model was trained on."""
    sources: Mapping[str, str]
    """By feature, the table's column."""
    casts: Mapping[str, tuple[str, str]]
    """The columns that are cast, losslessly: name -> (type in the table, type for the model)."""
    outputs: StructType
    """The prediction's columns: `prediction`, the signature's names where it has several, or
    `p_<class>`."""
    nulls: Mapping[str, NullPolicy]
    """By feature, what becomes of a row that holds a null there, unless the model decides."""
    asked_nulls: Mapping[str, NullPolicy]
    """Those of them that were asked for."""
    decision: Decision | None = None

    @property
    def written(self) -> tuple[str, ...]:
        """The names of the prediction's columns, the decision last."""
        return (*self.outputs.names, *([DECISION] if self.decision else []))

    @property
    def never_null(self) -> tuple[str, ...]:
        """The table's columns that may hold no null in the rows that are scored."""
        return tuple(self.sources[name] for name, rule in self.nulls.items() if rule == "fail")


def agree(  # noqa: PLR0913 - each is a part of what is agreed on
    address: str,
    rows: DataFrame,
    loadable: Loadable,
    keep: Sequence[str] = (),
    *,
    read: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    nulls: Mapping[str, NullPolicy] | None = None,
    threshold: float | None = None,
) -> Contract:
    """Hold the columns of *rows* against the model's signature, before anything is scored.

    Args:
        address: the table, for messages.
        rows: the table's rows, of which only the schema is read.
        loadable: the pinned version, and with which options it is loaded.
        keep: columns of the table that the output shall hold beside the prediction.
        read: columns of the table that the job needs besides.
        columns: by feature, the table's column where it has another name.
        nulls: by feature, what becomes of a row that holds a null there; of integers and booleans
            quarantine, and of others model, when left out.
        threshold: for the decision; of two classes it is of the second's probability.

    Raises:
        ColumnsMissing: the table lacks columns of the signature, of *keep* or of *read*.
        FeaturesUnknown: *columns* or *nulls* name what the signature does not.
        TypesDiffer: a column cannot be cast losslessly to the signature's type.
        ColumnsCollide: two columns of the output would have one name.
        ColumnsUnfit: the table has a column whose name cannot be used.
        ThresholdUndefined: there is not one score to hold it against.
        UnsupportedSignature: the signature is of tensors, or gives what no column can hold.
    """
    schema, columns, nulls = rows.schema, columns or {}, nulls or {}
    features = _features(loadable, schema, columns)
    _check_names([loadable], columns, nulls)
    sources = {field.name: columns.get(field.name, field.name) for field in features}
    missing = [n for n in dict.fromkeys([*sources.values(), *keep, *read]) if n not in schema.names]
    if missing:
        raise ColumnsMissing(address, missing, schema.names)
    outputs = _outputs(loadable)
    contract = Contract(
        loadable=loadable,
        features=features,
        sources=sources,
        casts=_casts(address, schema, [(sources[f.name], f.dataType) for f in features]),
        outputs=outputs,
        nulls={f.name: rule for f in features if (rule := _null_rule(f, nulls)) != "model"},
        asked_nulls=nulls,
        decision=None if threshold is None else _decision(loadable, outputs, threshold),
    )
    check_names(address, "output", [*keep, *contract.written], read=[*sources.values(), *read])
    ours = [name for name in schema.names if name.lower().startswith(OURS)]
    if ours:
        raise ColumnsUnfit(address, ours, f"names that begin with {OURS} are lakescore's own")
    return contract


def agree_all(  # noqa: PLR0913 - each is a part of what is agreed on
    address: str,
    rows: DataFrame,
    loadables: Sequence[Loadable],
    *,
    read: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    nulls: Mapping[str, NullPolicy] | None = None,
    threshold: float | None = None,
) -> list[Contract]:
    """Hold the columns of *rows* against the signatures of several versions, as `agree` does.

    What *columns* and *nulls* say of a feature counts for those of the versions that have it.

    Raises:
        FeaturesUnknown: *columns* or *nulls* name what none of the signatures does.
        As `agree` besides.
    """
    _check_names(loadables, columns or {}, nulls or {})
    contracts = []
    for loadable in loadables:
        known = _known(loadable)
        contracts.append(
            agree(
                address,
                rows,
                loadable,
                read=read,
                columns={name: there for name, there in (columns or {}).items() if name in known},
                nulls={name: rule for name, rule in (nulls or {}).items() if name in known},
                threshold=threshold,
            )
        )
    return contracts


def check_names(address: str, what: str, names: Sequence[str], read: Sequence[str] = ()) -> None:
    """Hold that the columns of a table can be written side by side with a prediction's lineage.

    Args:
        address: the table that is read, for messages.
        what: is written, output or quarantine.
        names: what it holds before the lineage.
        read: columns that are only read.

    Raises:
        ColumnsCollide, ColumnsUnfit: two have one name, or one has a name that cannot be used.
    """
    collisions = _repeated([*names, *lineage.COLUMNS])
    if collisions:
        raise ColumnsCollide(what, collisions)
    quoted = [name for name in dict.fromkeys([*names, *read]) if "`" in name]
    if quoted:
        raise ColumnsUnfit(address, quoted, "a name cannot hold a backtick")


def _check_names(
    loadables: Sequence[Loadable], columns: Mapping[str, str], nulls: Mapping[str, NullPolicy]
) -> None:
    known = list(dict.fromkeys(name for loadable in loadables for name in _known(loadable)))
    unknown = [name for name in dict.fromkeys([*columns, *nulls]) if name not in known]
    if unknown:
        uris = [loadable.model.uri for loadable in loadables]
        raise FeaturesUnknown(listed(uris), unknown, known)


def _known(loadable: Loadable) -> list[str]:
    names: list[str] = loadable.model.signature.inputs.input_names()
    return names


def _null_rule(feature: StructField, nulls: Mapping[str, NullPolicy]) -> NullPolicy:
    default: NullPolicy = "quarantine" if isinstance(feature.dataType, _NO_NULLS) else "model"
    return nulls.get(feature.name, default)


def _casts(
    address: str, schema: StructType, asked: Sequence[tuple[str, DataType]]
) -> dict[str, tuple[str, str]]:
    """Return the casts by column; of two features that share one, both must be lossless."""
    changed = [
        (name, schema[name].dataType, kind)
        for name, kind in asked
        if schema[name].dataType != kind and not _same_shape(schema[name].dataType, kind)
    ]
    lossy = {
        name: (has.simpleString(), asks.simpleString())
        for name, has, asks in changed
        if type(has) not in _LOSSLESS.get(type(asks), ())
    }
    if lossy:
        raise TypesDiffer(address, lossy)
    return {name: (has.simpleString(), asks.simpleString()) for name, has, asks in changed}


def _decision(loadable: Loadable, outputs: StructType, threshold: float) -> Decision:
    if len(loadable.classes) == 2:  # noqa: PLR2004 - this side and that
        below, reached = loadable.classes
        score = outputs.names[1]
        return Decision(score=score, threshold=threshold, below=below, reached=reached)
    if len(outputs) > 1 or not isinstance(outputs[0].dataType, (DoubleType, FloatType)):
        raise ThresholdUndefined(loadable.model.uri, outputs.simpleString(), len(loadable.classes))
    return Decision(score=outputs.names[0], threshold=threshold, below=False, reached=True)


def _features(
    loadable: Loadable, schema: StructType, columns: Mapping[str, str]
) -> tuple[StructField, ...]:
    inputs: Any = loadable.model.signature.inputs  # MLflow's specs are a union no check narrows
    if inputs.is_tensor_spec() or not inputs.has_input_names():
        raise UnsupportedSignature(loadable.model.uri, "its signature does not name input columns")
    optional = {spec.name for spec in inputs.inputs if not spec.required}
    fields = inputs.as_spark_schema().fields
    there = {name for name in optional if columns.get(name, name) in schema.names}
    return tuple(f for f in fields if f.name not in optional or f.name in there)


def _outputs(loadable: Loadable) -> StructType:
    model = loadable.model
    schema: Any = model.signature.outputs
    if loadable.classes:
        fields = [
            StructField("p_" + _UNFIT.sub("_", str(each)), DoubleType())
            for each in loadable.classes
        ]
    elif schema.is_tensor_spec():
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
