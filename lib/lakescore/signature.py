"""The signature: the inputs and outputs of a model, checked against a table before scoring."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
from pyspark.sql.pandas.types import to_arrow_schema
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

from lakescore import executor
from lakescore.errors import ColumnsMissing, ConfigError, InputContractError
from lakescore.loading import UnsupportedSignature
from lakescore.options import BindOptions
from lakescore.provenance import COLUMNS
from lakescore.slicing import RESERVED_PREFIX
from lakescore.wording import listed, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lakescore.assignment import Assignment
    from lakescore.loading import Loadable
    from lakescore.options import NullRule
    from lakescore.registry import ModelVersion
    from lakescore.snapshots import Snapshot

PREDICTION = "prediction"
DECISION = "decision"
_BY_NAME = BindOptions()
_NOT_NULLABLE = (BooleanType, IntegerType, LongType)
"""Types that pandas cannot hold with nulls, so no model gets a row with a null there."""
_UNFIT = re.compile(r"[ ,;{}()\n\t=`]")
"""The characters that Delta refuses in a column's name, and Spark's quote for names."""
_NO_COLUMNS = (
    "its signature does not name the columns of a table; log it with signature=infer_signature(X, "
    "...), where X is a DataFrame whose columns have names"
)

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


class TypesDiffer(InputContractError):
    """Columns cannot be converted to the types of the signature without loss."""

    def __init__(self, address: str, differing: Mapping[str, tuple[str, str]]) -> None:
        pairs = [f"{name!r} is {has}, not {asks}" for name, (has, asks) in differing.items()]
        super().__init__(
            f"{address} does not fit the model's signature: {listed(pairs)}; cast the columns in "
            "the table, or log the model with the types of the table"
        )


class ColumnsCollide(InputContractError):
    """Two columns of the output, or of its quarantine, would have the same name."""

    def __init__(self, what: str, names: Iterable[str]) -> None:
        chosen = "passthrough" if what == "output" else "quarantine_columns"
        super().__init__(
            f"the {what} would have the columns {listed(repr(name) for name in names)} twice; "
            f"rename the input's column, or leave it out of id_columns and {chosen}"
        )


class CaseDiffers(InputContractError):
    """The input has the name of an optional feature in another case."""

    def __init__(self, address: str, column: str, feature: str) -> None:
        super().__init__(
            f"{address} has the column {column!r}, but the model's optional feature is called "
            f"{feature!r}; rename the column, or set columns: {{{feature}: {column}}}"
        )


class OutputsCollide(InputContractError):
    """Outputs or classes of a model cannot become columns of one table."""

    def __init__(self, uri: str, what: str, names: Iterable[object], reason: str) -> None:
        super().__init__(
            f"{uri} gives the {what} {listed(repr(name) for name in names)}, but {reason}; log the "
            "model with other names for them"
        )


class ColumnsUnfit(InputContractError):
    """The input has columns whose names cannot be used."""

    def __init__(self, address: str, names: Iterable[str], reason: str) -> None:
        super().__init__(
            f"{address} has the columns {listed(repr(name) for name in names)}, but {reason}; "
            "rename them in the table"
        )


class FeaturesUnknown(ConfigError):
    """The job's file names features that the model does not take."""

    def __init__(self, uri: str, unknown: Sequence[str], known: Sequence[str]) -> None:
        names = listed(f"{name!r}{nearest(name, known)}" for name in unknown)
        super().__init__(
            f"columns or nulls name {names}, which {uri} does not take; it takes: {listed(known)}"
        )


class ThresholdUndefined(ConfigError):
    """A threshold is set, but the model does not give exactly one score."""

    def __init__(self, uri: str, outputs: str, classes: int) -> None:
        result = f"{classes} classes" if classes else outputs
        super().__init__(
            f"threshold needs one score, but {uri} gives {result}; leave threshold out, or set "
            "prediction: proba for a classifier of two classes"
        )


class OutputsDiffer(InputContractError):
    """Versions that write to one table give different columns."""

    def __init__(self, one: tuple[str, str], other: tuple[str, str]) -> None:
        super().__init__(
            f"{one[0]} gives {one[1]}, but {other[0]} gives {other[1]}; the models of all segments "
            "must give the same columns"
        )


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A column beside a score: the side of a threshold on which the score is."""

    score: str
    """The column that holds the score."""
    threshold: float
    below: bool | int | float | str
    reached: bool | int | float | str
    """The decision if the score is at least the threshold, as scikit-learn decides."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The columns that a model reads from a table, and the columns that it gives."""

    loadable: Loadable
    features: tuple[StructField, ...]
    """The signature's columns, with the types that the model was trained on."""
    names: Mapping[str, str | int]
    """By feature, its name in the model, which can be a number."""
    left_out: tuple[str, ...]
    """Optional features that the table lacks. The model does not get them."""
    sources: Mapping[str, str]
    """By feature, the table's column."""
    casts: Mapping[str, tuple[str, str]]
    """The columns that are cast, losslessly: name -> (type in the table, type for the model)."""
    outputs: StructType
    """The prediction's columns: `prediction`, the signature's names if it has several, or
    `p_<class>`. Delta accepts these names."""
    results: pa.Schema
    """The same columns with the names and types of the signature, for the checks of workers."""
    renamed: Mapping[str, str]
    """By output or class, the column's name, if Delta refuses the original name."""
    nulls: Mapping[str, NullRule]
    """By feature, the policy for rows with a null there, unless the model decides."""
    asked_nulls: Mapping[str, NullRule]
    """The policies that the job's file asks for."""
    decision: Decision | None = None

    @property
    def written(self) -> tuple[str, ...]:
        """The names of the prediction's columns, the decision last."""
        return (*self.outputs.names, *([DECISION] if self.decision else []))

    @property
    def never_null(self) -> tuple[str, ...]:
        """The table's columns that must hold no null in the scored rows."""
        return tuple(self.sources[name] for name, rule in self.nulls.items() if rule == "fail")


class HasSchema(Protocol):
    """An object with columns: a frame or a snapshot."""

    @property
    def schema(self) -> StructType:
        """The columns of the object."""


def bind(
    address: str,
    rows: HasSchema,
    loadable: Loadable,
    keep: Sequence[str] = (),
    options: BindOptions = _BY_NAME,
) -> Contract:
    """Check the columns of *rows* against the model's signature before scoring.

    Args:
        address: the table, for messages.
        rows: a frame or a snapshot; only its schema is read.
        loadable: the pinned version, with the options to load it.
        keep: columns of the table that the output must hold beside the prediction.
        options: how the table's columns become features.

    Raises:
        ColumnsMissing: the table lacks columns of the signature, of *keep* or of *options*.
        FeaturesUnknown: *options* name a feature that the signature lacks.
        TypesDiffer: a column cannot be cast losslessly to the signature's type.
        CaseDiffers: the table has an optional feature in another case.
        ColumnsCollide, OutputsCollide: two columns of the output would have the same name.
        ColumnsUnfit: the table has a column whose name cannot be used.
        ThresholdUndefined: the model does not give exactly one score for the threshold.
        UnsupportedSignature: the signature is of tensors, or has an output that no column can hold.
    """
    schema, columns, nulls = rows.schema, options.columns, options.nulls
    model, specs = loadable.model, _specs(loadable)
    _check_names([loadable], columns, nulls)
    wanted = _choose_specs(address, specs, schema, columns)
    names = {str(spec.name): spec.name for spec in wanted}
    sources = {name: columns.get(name, name) for name in names}
    needed = dict.fromkeys([*sources.values(), *keep, *options.read])
    if missing := [name for name in needed if name not in schema.names]:
        raise ColumnsMissing(address, missing, schema.names)
    features = tuple(
        _feature(model.uri, spec, schema[sources[str(spec.name)]].dataType) for spec in wanted
    )
    model_outputs = _outputs(loadable)
    # Arrow distinguishes nullable fields from others, and all columns from pandas are nullable.
    outputs = StructType([StructField(output.name, output.kind) for output in model_outputs])
    contract = Contract(
        loadable=loadable,
        features=features,
        names=names,
        left_out=tuple(str(spec.name) for spec in specs if spec not in wanted),
        sources=sources,
        casts=_casts(address, schema, [(sources[f.name], f.dataType) for f in features]),
        outputs=outputs,
        results=_results(outputs, model_outputs),
        renamed={}
        if len(model_outputs) == 1
        else {str(o.original): o.name for o in model_outputs if _is_renamed(o)},
        nulls={f.name: rule for f in features if (rule := _null_rule(f, nulls)) != "model"},
        asked_nulls=nulls,
        decision=_make_decision(loadable, outputs, options.threshold),
    )
    if collisions := _repeated_names([*contract.written, *COLUMNS]):
        clashing = [name for name in contract.written if name in collisions]
        reason = "lakescore writes columns with these names too"
        raise OutputsCollide(model.uri, "outputs", clashing, reason)
    read = [*sources.values(), *options.read]
    check_names(address, "output", [*keep, *contract.written], read=read)
    reserved = [name for name in schema.names if name.lower().startswith(RESERVED_PREFIX)]
    if reserved:
        raise ColumnsUnfit(
            address, reserved, f"names that begin with {RESERVED_PREFIX} are lakescore's own"
        )
    return contract


def _results(outputs: StructType, model_outputs: Sequence[_Output]) -> pa.Schema:
    """Return *outputs* as the schema with which workers check the predictions of a model."""
    fields = []
    for field, output in zip(to_arrow_schema(outputs), model_outputs, strict=True):
        metadata = {executor.SAYS: output.word.encode()} if output.word else {}
        fields.append(field.with_metadata(metadata))
    return pa.schema(fields)


def _is_renamed(output: _Output) -> bool:
    """Return whether the column has neither the output's name nor that name after `p_`."""
    return output.name not in {str(output.original), f"p_{output.original}"}


def bind_all(
    address: str,
    rows: HasSchema,
    loadables: Sequence[Loadable],
    keep: Sequence[str] = (),
    options: BindOptions = _BY_NAME,
) -> list[Contract]:
    """Check the columns of *rows* against the signatures of several versions, as `bind` does.

    What *options* say of a feature applies to the versions that have the feature.

    Raises:
        FeaturesUnknown: *options* name a feature that all signatures lack.
        Also the errors of `bind`.
    """
    _check_names(loadables, options.columns, options.nulls)
    contracts = []
    for loadable in loadables:
        known = set(_feature_names(loadable))
        columns = {name: column for name, column in options.columns.items() if name in known}
        nulls = {name: rule for name, rule in options.nulls.items() if name in known}
        own_options = replace(options, columns=columns, nulls=nulls)
        contracts.append(bind(address, rows, loadable, keep, own_options))
    return contracts


@dataclass(frozen=True)
class Binding:
    """The contracts of versions with a table, and the rows that each version scores."""

    contracts: tuple[Contract, ...]
    """One a version, in the order of the assignment. All of them give the same columns."""
    assigned: Assignment | None = None
    """The assignment of rows; None if the only version scores all rows."""

    @property
    def never_null(self) -> tuple[str, ...]:
        """The table's columns that must hold no null in the scored rows."""
        return tuple(
            dict.fromkeys(name for contract in self.contracts for name in contract.never_null)
        )

    @property
    def family(self) -> Assignment | None:
        """The assignment, if each segment has its own version."""
        return None if self.assigned is None or self.assigned.by is None else self.assigned

    @property
    def uri(self) -> str:
        """The name for messages: the version's URI, or the name of the family."""
        return self.family.uri if self.family else self.contracts[0].loadable.model.uri


def bind_assigned(
    assigned: Assignment,
    source: Snapshot,
    loadables: Sequence[Loadable],
    keep: Sequence[str],
    options: BindOptions = _BY_NAME,
) -> Binding:
    """Bind the versions of *assigned*, which write one table, as `bind_all` does.

    Raises:
        OutputsDiffer: two versions give different columns.
        Also the errors of `bind_all`.
    """
    if not loadables:  # no row has a version
        return Binding((), assigned)
    return _bind_alike(bind_all(source.address, source, loadables, keep, options), assigned)


def bind_side_by_side(
    assigned: Sequence[Assignment],
    source: Snapshot,
    loadables: Mapping[str, Loadable],
    options: BindOptions = _BY_NAME,
) -> list[Binding]:
    """Bind the versions of several assignments, as `bind_all` does. Each gives a separate column.

    Args:
        assigned: the assignment of each column.
        source: the table.
        loadables: all versions of the assignments, by URI.
        options: as for `bind_all`.

    Raises:
        OutputsDiffer: two versions of one assignment give different columns.
        Also the errors of `bind_all`.
    """
    contracts = bind_all(source.address, source, list(loadables.values()), options=options)
    by_uri = dict(zip(loadables, contracts, strict=True))
    return [
        _bind_alike([by_uri[model.uri] for model in assignment.models], assignment)
        for assignment in assigned
    ]


def _bind_alike(contracts: Sequence[Contract], assigned: Assignment) -> Binding:
    first, *others = contracts
    for other in others:
        if _output_facts(other) != _output_facts(first):
            raise OutputsDiffer(_describe_outputs(first), _describe_outputs(other))
    return Binding(tuple(contracts), assigned)


def _output_facts(contract: Contract) -> tuple[object, ...]:
    return contract.outputs, contract.decision, contract.loadable.classes


def _describe_outputs(contract: Contract) -> tuple[str, str]:
    parts = [f"{field.name} {field.dataType.simpleString()}" for field in contract.outputs]
    if contract.renamed:
        parts.append(f"of the classes {listed(map(repr, contract.loadable.classes))}")
    if (decision := contract.decision) is not None:
        parts.append(f"decision {decision.below} or {decision.reached} by {decision.score}")
    return contract.loadable.model.uri, listed(parts)


def check_names(address: str, target: str, names: Sequence[str], read: Sequence[str] = ()) -> None:
    """Check that the columns *names* can be written beside the lineage of a prediction.

    Args:
        address: the table that is read, for messages.
        target: the table that is written: output or quarantine.
        names: its columns before the lineage.
        read: columns that are only read.

    Raises:
        ColumnsCollide: two columns have the same name.
        ColumnsUnfit: a column has a name that cannot be used.
    """
    collisions = _repeated_names([*names, *COLUMNS])
    if collisions:
        raise ColumnsCollide(target, collisions)
    quoted = [name for name in dict.fromkeys([*names, *read]) if "`" in name]
    if quoted:
        raise ColumnsUnfit(address, quoted, "a name cannot hold a backtick")


def _check_names(
    loadables: Sequence[Loadable], columns: Mapping[str, str], nulls: Mapping[str, NullRule]
) -> None:
    known = list(dict.fromkeys(name for loadable in loadables for name in _feature_names(loadable)))
    unknown = [name for name in dict.fromkeys([*columns, *nulls]) if name not in known]
    if unknown:
        uris = [loadable.model.uri for loadable in loadables]
        raise FeaturesUnknown(listed(uris), unknown, known)


def _feature_names(loadable: Loadable) -> list[str]:
    return [str(spec.name) for spec in _specs(loadable)]


def _null_rule(feature: StructField, nulls: Mapping[str, NullRule]) -> NullRule:
    default: NullRule = "quarantine" if isinstance(feature.dataType, _NOT_NULLABLE) else "model"
    return nulls.get(feature.name, default)


def _casts(
    address: str, schema: StructType, wanted: Sequence[tuple[str, DataType]]
) -> dict[str, tuple[str, str]]:
    """Return the casts by column. If two features share a column, both casts must be lossless."""
    changed = [
        (name, schema[name].dataType, kind)
        for name, kind in wanted
        if not _same_shape(schema[name].dataType, kind)
    ]
    lossy = {
        name: (has.simpleString(), asks.simpleString())
        for name, has, asks in changed
        if not _is_lossless(has, asks)
    }
    if lossy:
        raise TypesDiffer(address, lossy)
    return {name: (has.simpleString(), asks.simpleString()) for name, has, asks in changed}


def _is_lossless(has: DataType, asks: DataType) -> bool:
    """Return whether every value of *has* is a value of *asks*, also in lists, objects and maps."""
    if _same_shape(has, asks):
        return True
    if isinstance(has, ArrayType) and isinstance(asks, ArrayType):
        return _is_lossless(has.elementType, asks.elementType)
    if isinstance(has, MapType) and isinstance(asks, MapType):
        same_keys = _same_shape(has.keyType, asks.keyType)
        return same_keys and _is_lossless(has.valueType, asks.valueType)
    if isinstance(has, StructType) and isinstance(asks, StructType):
        # Spark casts fields by position and ignores their names.
        pairs = list(zip(has, asks, strict=False))
        lossless = all(a.name == b.name and _is_lossless(a.dataType, b.dataType) for a, b in pairs)
        return len(has) == len(asks) and lossless
    if isinstance(has, DecimalType):
        scale_fits = has.scale == 0 or isinstance(asks, DoubleType)
        return scale_fits and has.precision <= _DIGITS.get(type(asks), 0)
    return type(has) in _LOSSLESS.get(type(asks), ())


def _make_decision(
    loadable: Loadable, outputs: StructType, threshold: float | None
) -> Decision | None:
    if threshold is None:
        return None
    if len(loadable.classes) == 2:  # noqa: PLR2004 - below and reached
        below, reached = loadable.classes
        score = outputs.names[1]
        return Decision(score=score, threshold=threshold, below=below, reached=reached)
    if len(outputs) > 1 or not isinstance(outputs[0].dataType, (DoubleType, FloatType)):
        raise ThresholdUndefined(loadable.model.uri, outputs.simpleString(), len(loadable.classes))
    return Decision(score=outputs.names[0], threshold=threshold, below=False, reached=True)


def _specs(loadable: Loadable) -> list[Any]:
    """Return MLflow's specs of the input columns. All of them have names."""
    inputs: Any = loadable.model.signature.inputs  # MLflow's specs are a union no check narrows
    if inputs.is_tensor_spec() or not inputs.has_input_names():
        raise UnsupportedSignature(loadable.model.uri, _NO_COLUMNS)
    names = [spec.name for spec in inputs.inputs]
    # MLflow treats the name 0 as no name, and then uses the column's position as its name.
    if names != inputs.input_names() or len(set(map(str, names))) < len(names):
        names_shown = listed(map(repr, names))
        reason = f"MLflow confuses its columns {names_shown}; log it with texts as names"
        raise UnsupportedSignature(loadable.model.uri, reason)
    return list(inputs.inputs)


def _choose_specs(
    address: str, specs: Sequence[Any], schema: StructType, columns: Mapping[str, str]
) -> list[Any]:
    """Return *specs* without the optional ones that the table lacks; the model gets the rest."""
    wanted = []
    for spec in specs:
        name = str(spec.name)
        source = columns.get(name, name)
        if spec.required or name in columns or source in schema.names:
            wanted.append(spec)
            continue
        for column in schema.names:
            if column.lower() == source.lower():
                raise CaseDiffers(address, column, name)
    return wanted


def _feature(uri: str, spec: Any, has: DataType) -> StructField:  # noqa: ANN401 - see above
    kind = spec.to_dict()
    if kind["type"] == "sparkml_vector":
        raise UnsupportedSignature(uri, f"its feature {spec.name!r} is a vector of Spark ML")
    return StructField(str(spec.name), _input_type(kind, has))


def _input_type(kind: Mapping[str, Any], has: DataType | None) -> DataType:
    """Return the type in which a model gets a column that has the type *has* in the table.

    A column of any type keeps the table's type, and so does a time without a zone. Fields of
    objects keep the table's order, since Spark identifies them by position.
    """
    match kind["type"]:
        case "any":
            return has or NullType()
        case "array":
            inner = has.elementType if isinstance(has, ArrayType) else None
            return ArrayType(_input_type(kind["items"], inner))
        case "map":
            inner = has.valueType if isinstance(has, MapType) else None
            return MapType(StringType(), _input_type(kind["values"], inner))
        case "object":
            return _input_object(kind["properties"], has)
        case "datetime" if isinstance(has, TimestampNTZType):
            return has
        case name:
            return _TYPES[name]


def _input_object(properties: Mapping[str, Any], has: DataType | None) -> StructType:
    types = {f.name: f.dataType for f in has} if isinstance(has, StructType) else {}
    required = {name for name, kind in properties.items() if kind.get("required", True)}
    fits = required <= types.keys() <= properties.keys()
    names = list(types) if fits else list(properties)
    return StructType(
        [StructField(name, _input_type(properties[name], types.get(name))) for name in names]
    )


@dataclass(frozen=True)
class _Output:
    """One value that the model gives for a row."""

    original: str | int
    """The name in the signature, or the class."""
    name: str
    """The name of the table's column."""
    kind: DataType
    word: str
    """The signature's word for the type, if the column's type does not say it."""


def _outputs(loadable: Loadable) -> list[_Output]:
    model = loadable.model
    schema: Any = model.signature.outputs
    if loadable.classes:
        term, double = "classes", DoubleType()
        outputs = [_Output(c, f"p_{_fit_name(c)}", double, "") for c in loadable.classes]
    else:
        term, is_single = "outputs", len(schema.inputs) == 1
        outputs = []
        for n, spec in enumerate(schema.inputs):
            name = n if spec.name is None else spec.name
            kind, word = _output_type(model, spec)
            outputs.append(_Output(name, PREDICTION if is_single else _fit_name(name), kind, word))
    if collisions := _repeated_names([output.name for output in outputs]):
        column = collisions[0]
        names = [o.original for o in outputs if o.name.lower() == column.lower()]
        raise OutputsCollide(model.uri, term, names, f"they would share the column {column!r}")
    return outputs


def _fit_name(name: object) -> str:
    """Return *name* in a form that Delta accepts for a column."""
    return _UNFIT.sub("_", str(name))


class _NoColumn(Exception):
    """The reason why no column of a table can hold an output."""


def _output_type(model: ModelVersion, spec: Any) -> tuple[DataType, str]:  # noqa: ANN401 - see above
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
        case "map":
            return MapType(StringType(), _result_type(kind["values"]))
        case "object":
            names = list(kind["properties"])
            unfit = _repeated_names(names) or [name for name in names if name != _fit_name(name)]
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


def _tensor_type(model: ModelVersion, spec: Any) -> DataType:  # noqa: ANN401 - see above
    """Return the column type of the array that `infer_signature(X, model.predict(X))` saw.

    MLflow itself reads `(-1,)` as an array of one. This function returns the type of the model's
    values instead: a number a row.
    """
    kind, shape = spec.type, spec.shape
    scalar = StringType() if kind.kind in "USO" else _NUMPY_KINDS.get(kind.str[1:])
    if scalar is None or len(shape) > 2:  # noqa: PLR2004 - rows and columns
        raise UnsupportedSignature(model.uri, f"its output is a tensor of {kind} {shape}")
    one_a_row = len(shape) == 1 or shape[1] == 1
    return scalar if one_a_row else ArrayType(scalar)


def _repeated_names(names: Sequence[str]) -> list[str]:
    """Return the names that occur twice. Spark's columns ignore upper and lower case."""
    lowered = [name.lower() for name in names]
    return [name for name in dict.fromkeys(names) if lowered.count(name.lower()) > 1]


def _same_shape(has: DataType, asks: DataType) -> bool:
    """Return whether two types are equal, or differ only in their nullability."""
    return has.simpleString() == asks.simpleString()
