"""The signature: what a model takes and gives, held against a table before anything is scored."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

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

from lakescore import executor, lineage
from lakescore.errors import (
    CaseDiffers,
    ColumnsCollide,
    ColumnsMissing,
    ColumnsUnfit,
    FeaturesUnknown,
    OutputsCollide,
    OutputsDiffer,
    ThresholdUndefined,
    TypesDiffer,
    UnsupportedSignature,
    listed,
)
from lakescore.slicing import RESERVED_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.assignment import Assignment
    from lakescore.loading import Loadable
    from lakescore.registry import ModelVersion
    from lakescore.snapshots import Snapshot

PREDICTION = "prediction"
DECISION = "decision"
NullPolicy = Literal["model", "fail", "null", "quarantine"]
_NO_NULLS = (BooleanType, IntegerType, LongType)
"""What pandas cannot hold with nulls, so that a model is never asked about one."""
_UNFIT = re.compile(r"[ ,;{}()\n\t=`]")
"""What Delta does not take in a column's name, and the quote that Spark puts around one."""
_NO_COLUMNS = (
    "its signature does not name the columns of a table; log it with signature=infer_signature(X, "
    "...), where X is a DataFrame whose columns have names"
)

# Every value of the type on the right of a key is a value of the key: 2^53 bounds what a double
# holds of integers, 2^24 what a float does.
_LOSSLESS: dict[type[DataType], tuple[type[DataType], ...]] = {
    IntegerType: (ByteType, ShortType),
    LongType: (ByteType, ShortType, IntegerType),
    FloatType: (ByteType, ShortType),
    DoubleType: (ByteType, ShortType, IntegerType, FloatType),
    TimestampType: (DateType,),
}
_DIGITS: dict[type[DataType], int] = {IntegerType: 9, LongType: 18, DoubleType: 15}
"""So many digits of a decimal the type holds, and gives back."""
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
"""By the signature's word."""
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
    names: Mapping[str, str | int]
    """By feature, the name that the model knows it by, which may be a number."""
    left_out: tuple[str, ...]
    """Optional features that the table lacks, so that the model does not get them."""
    sources: Mapping[str, str]
    """By feature, the table's column."""
    casts: Mapping[str, tuple[str, str]]
    """The columns that are cast, losslessly: name -> (type in the table, type for the model)."""
    outputs: StructType
    """The prediction's columns: `prediction`, the signature's names where it has several, or
    `p_<class>`, made fit for Delta."""
    results: pa.Schema
    """Likewise, with the names and types that the signature has, as workers see to them."""
    renamed: Mapping[str, str]
    """By output or class, the column's name, where Delta does not take the one that it has."""
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


class HasSchema(Protocol):
    """What has columns: a frame, or a snapshot."""

    @property
    def schema(self) -> StructType:
        """Its columns."""


def bind(  # noqa: PLR0913 - each is a part of what is agreed on
    address: str,
    rows: HasSchema,
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
        rows: a frame or a snapshot, of which only the schema is read.
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
        CaseDiffers: the table has an optional feature in another case.
        ColumnsCollide, OutputsCollide: two columns of the output would have one name.
        ColumnsUnfit: the table has a column whose name cannot be used.
        ThresholdUndefined: there is not one score to hold it against.
        UnsupportedSignature: the signature is of tensors, or gives what no column can hold.
    """
    schema, columns, nulls = rows.schema, columns or {}, nulls or {}
    model, specs = loadable.model, _specs(loadable)
    _check_names([loadable], columns, nulls)
    wanted = _wanted(address, specs, schema, columns)
    names = {str(spec.name): spec.name for spec in wanted}
    sources = {name: columns.get(name, name) for name in names}
    missing = [n for n in dict.fromkeys([*sources.values(), *keep, *read]) if n not in schema.names]
    if missing:
        raise ColumnsMissing(address, missing, schema.names)
    features = tuple(
        _feature(model.uri, spec, schema[sources[str(spec.name)]].dataType) for spec in wanted
    )
    given = _outputs(loadable)
    # Arrow tells nullable fields from others, and what comes out of pandas is nullable.
    outputs = StructType([StructField(output.name, output.kind) for output in given])
    contract = Contract(
        loadable=loadable,
        features=features,
        names=names,
        left_out=tuple(str(spec.name) for spec in specs if spec not in wanted),
        sources=sources,
        casts=_casts(address, schema, [(sources[f.name], f.dataType) for f in features]),
        outputs=outputs,
        results=_results(outputs, given),
        renamed={} if len(given) == 1 else {str(o.given): o.name for o in given if _is_new(o)},
        nulls={f.name: rule for f in features if (rule := _null_rule(f, nulls)) != "model"},
        asked_nulls=nulls,
        decision=None if threshold is None else _decision(loadable, outputs, threshold),
    )
    if collisions := _repeated([*contract.written, *lineage.COLUMNS]):
        owned = [name for name in contract.written if name in collisions]
        reason = "the output has columns of its own that are called so"
        raise OutputsCollide(model.uri, "outputs", owned, reason)
    check_names(address, "output", [*keep, *contract.written], read=[*sources.values(), *read])
    ours = [name for name in schema.names if name.lower().startswith(RESERVED_PREFIX)]
    if ours:
        raise ColumnsUnfit(
            address, ours, f"names that begin with {RESERVED_PREFIX} are lakescore's own"
        )
    return contract


def _results(outputs: StructType, given: Sequence[_Output]) -> pa.Schema:
    """Return *outputs* as workers hold what a model gave against them."""
    fields = []
    for field, output in zip(to_arrow_schema(outputs), given, strict=True):
        told = {executor.SAYS: output.word.encode()} if output.word else {}
        fields.append(field.with_metadata(told))
    return pa.schema(fields)


def _is_new(output: _Output) -> bool:
    """Tell whether the column's name is not made of the output's own as it stands."""
    return output.name not in {str(output.given), f"p_{output.given}"}


def bind_all(  # noqa: PLR0913 - each is a part of what is agreed on
    address: str,
    rows: HasSchema,
    loadables: Sequence[Loadable],
    keep: Sequence[str] = (),
    *,
    read: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    nulls: Mapping[str, NullPolicy] | None = None,
    threshold: float | None = None,
) -> list[Contract]:
    """Hold the columns of *rows* against the signatures of several versions, as `bind` does.

    What *columns* and *nulls* say of a feature counts for those of the versions that have it.

    Raises:
        FeaturesUnknown: *columns* or *nulls* name what none of the signatures does.
        As `bind` besides.
    """
    _check_names(loadables, columns or {}, nulls or {})
    contracts = []
    for loadable in loadables:
        known = _known(loadable)
        contracts.append(
            bind(
                address,
                rows,
                loadable,
                keep,
                read=read,
                columns={name: there for name, there in (columns or {}).items() if name in known},
                nulls={name: rule for name, rule in (nulls or {}).items() if name in known},
                threshold=threshold,
            )
        )
    return contracts


@dataclass(frozen=True)
class Binding:
    """What versions take from a table and give, and which of them scores which rows."""

    contracts: tuple[Contract, ...]
    """One a version, in the order of those that are assigned; several give the same columns."""
    assigned: Assignment | None = None
    """The only version scores all rows without."""

    @property
    def never_null(self) -> tuple[str, ...]:
        """The table's columns that may hold no null in the rows that are scored."""
        return tuple(dict.fromkeys(name for each in self.contracts for name in each.never_null))

    @property
    def family(self) -> Assignment | None:
        """Which version scores which rows, where each segment has its own."""
        return None if self.assigned is None or self.assigned.by is None else self.assigned

    @property
    def uri(self) -> str:
        """What to call it: the version's URI, or the name of its family."""
        return self.family.uri if self.family else self.contracts[0].loadable.model.uri


def bind_assigned(
    assigned: Assignment,
    source: Snapshot,
    loadables: Sequence[Loadable],
    keep: Sequence[str],
    **settings: Any,  # noqa: ANN401 - those of `bind_all`
) -> Binding:
    """Do what `bind_all` does for the versions of *assigned*, which write one table.

    Raises:
        OutputsDiffer: two of them give different columns.
        As `bind_all` besides.
    """
    if not loadables:  # no row has a version
        return Binding((), assigned)
    return _alike(bind_all(source.address, source, loadables, keep, **settings), assigned)


def bind_side_by_side(
    assigned: Sequence[Assignment],
    source: Snapshot,
    loadables: Mapping[str, Loadable],
    **settings: Any,  # noqa: ANN401 - those of `bind_all`
) -> list[Binding]:
    """Do what `bind_all` does for the versions of several assignments, each a column of its own.

    Args:
        assigned: what scores each column.
        source: the table.
        loadables: all of their versions, by URI.
        settings: as `bind_all`.

    Raises:
        OutputsDiffer: two versions of one column give different ones.
        As `bind_all` besides.
    """
    contracts = bind_all(source.address, source, list(loadables.values()), **settings)
    by_uri = dict(zip(loadables, contracts, strict=True))
    return [_alike([by_uri[model.uri] for model in each.models], each) for each in assigned]


def _alike(contracts: Sequence[Contract], assigned: Assignment) -> Binding:
    first, *others = contracts
    for other in others:
        if _given_by(other) != _given_by(first):
            raise OutputsDiffer(_told_of(first), _told_of(other))
    return Binding(tuple(contracts), assigned)


def _given_by(contract: Contract) -> tuple[object, ...]:
    return contract.outputs, contract.decision, contract.loadable.classes


def _told_of(contract: Contract) -> tuple[str, str]:
    given = [f"{field.name} {field.dataType.simpleString()}" for field in contract.outputs]
    if contract.renamed:
        given.append(f"of the classes {listed(map(repr, contract.loadable.classes))}")
    if (decision := contract.decision) is not None:
        given.append(f"decision {decision.below} or {decision.reached} by {decision.score}")
    return contract.loadable.model.uri, listed(given)


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
    return [str(spec.name) for spec in _specs(loadable)]


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
    """Tell whether every value of *has* is one of *asks*, within lists, objects and maps too."""
    if _same_shape(has, asks):
        return True
    if isinstance(has, ArrayType) and isinstance(asks, ArrayType):
        return _is_lossless(has.elementType, asks.elementType)
    if isinstance(has, MapType) and isinstance(asks, MapType):
        same_keys = _same_shape(has.keyType, asks.keyType)
        return same_keys and _is_lossless(has.valueType, asks.valueType)
    if isinstance(has, StructType) and isinstance(asks, StructType):
        # Spark casts fields by their places, whatever their names are.
        pairs = list(zip(has, asks, strict=False))
        lossless = all(a.name == b.name and _is_lossless(a.dataType, b.dataType) for a, b in pairs)
        return len(has) == len(asks) and lossless
    if isinstance(has, DecimalType):
        whole = has.scale == 0 or isinstance(asks, DoubleType)
        return whole and has.precision <= _DIGITS.get(type(asks), 0)
    return type(has) in _LOSSLESS.get(type(asks), ())


def _decision(loadable: Loadable, outputs: StructType, threshold: float) -> Decision:
    if len(loadable.classes) == 2:  # noqa: PLR2004 - this side and that
        below, reached = loadable.classes
        score = outputs.names[1]
        return Decision(score=score, threshold=threshold, below=below, reached=reached)
    if len(outputs) > 1 or not isinstance(outputs[0].dataType, (DoubleType, FloatType)):
        raise ThresholdUndefined(loadable.model.uri, outputs.simpleString(), len(loadable.classes))
    return Decision(score=outputs.names[0], threshold=threshold, below=False, reached=True)


def _specs(loadable: Loadable) -> list[Any]:
    """Return MLflow's specs of the input columns, which all have names."""
    inputs: Any = loadable.model.signature.inputs  # MLflow's specs are a union no check narrows
    if inputs.is_tensor_spec() or not inputs.has_input_names():
        raise UnsupportedSignature(loadable.model.uri, _NO_COLUMNS)
    names = [spec.name for spec in inputs.inputs]
    # MLflow takes the name 0 for none, and the column's place for its name then.
    if names != inputs.input_names() or len(set(map(str, names))) < len(names):
        told = listed(map(repr, names))
        reason = f"MLflow confuses its columns, which are called {told}; log it with texts as names"
        raise UnsupportedSignature(loadable.model.uri, reason)
    return list(inputs.inputs)


def _wanted(
    address: str, specs: Sequence[Any], schema: StructType, columns: Mapping[str, str]
) -> list[Any]:
    """Return those of *specs* that the model gets: not the optional ones that the table lacks."""
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
    """Return the type in which a model gets a column that the table *has* in another, perhaps.

    What may be anything stays as the table has it, and so does a time without a zone. Fields of
    objects stand in the table's order: Spark tells them by their places.
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
    there = {f.name: f.dataType for f in has} if isinstance(has, StructType) else {}
    required = {name for name, kind in properties.items() if kind.get("required", True)}
    fits = required <= there.keys() <= properties.keys()
    names = list(there) if fits else list(properties)
    return StructType(
        [StructField(name, _input_type(properties[name], there.get(name))) for name in names]
    )


@dataclass(frozen=True)
class _Output:
    """One value that the model gives a row."""

    given: str | int
    """By which name."""
    name: str
    """Of the table's column."""
    kind: DataType
    word: str
    """What the signature calls its type, where the column's type does not say it."""


def _outputs(loadable: Loadable) -> list[_Output]:
    model = loadable.model
    schema: Any = model.signature.outputs
    if loadable.classes:
        what, double = "classes", DoubleType()
        outputs = [_Output(c, f"p_{_fit(c)}", double, "") for c in loadable.classes]
    else:
        what, one = "outputs", len(schema.inputs) == 1
        outputs = []
        for n, spec in enumerate(schema.inputs):
            name = n if spec.name is None else spec.name
            kind, word = _output_type(model, spec)
            outputs.append(_Output(name, PREDICTION if one else _fit(name), kind, word))
    if collisions := _repeated([output.name for output in outputs]):
        column = collisions[0]
        names = [o.given for o in outputs if o.name.lower() == column.lower()]
        raise OutputsCollide(model.uri, what, names, f"they would share the column {column!r}")
    return outputs


def _fit(name: object) -> str:
    """Return *name* as Delta takes it for a column."""
    return _UNFIT.sub("_", str(name))


class _NoColumn(Exception):
    """Why no column of a table can hold an output."""


def _output_type(model: ModelVersion, spec: Any) -> tuple[DataType, str]:  # noqa: ANN401 - see above
    """Return the type of a column, and what the signature calls it."""
    kind = spec.to_dict()
    if kind["type"] == "tensor":
        return _of_tensor(model, spec), ""
    if kind["type"] == "any":
        return StringType(), "any, which is taken for texts,"
    try:
        found = _result_type(kind)
    except _NoColumn as error:
        name = "prediction" if spec.name is None else spec.name
        raise UnsupportedSignature(model.uri, f"its output {name!r} {error}") from None
    return found, "" if isinstance(found, _RESULTS) else found.simpleString()


def _result_type(kind: Mapping[str, Any]) -> DataType:
    match kind["type"]:
        case "array":
            return ArrayType(_result_type(kind["items"]))
        case "map":
            return MapType(StringType(), _result_type(kind["values"]))
        case "object":
            names = list(kind["properties"])
            odd = _repeated(names) or [name for name in names if name != _fit(name)]
            if odd:
                raise _NoColumn(f"has fields that Delta cannot name: {listed(map(repr, odd))}")
            return StructType(
                [StructField(name, _result_type(kind["properties"][name])) for name in names]
            )
        case name:
            found = _TYPES.get(name)
            if not isinstance(found, _RESULTS):
                raise _NoColumn(f"is or holds {name}, which no prediction can be")
            return found


def _of_tensor(model: ModelVersion, spec: Any) -> DataType:  # noqa: ANN401 - see above
    """Return the column type of the array that `infer_signature(X, model.predict(X))` saw.

    MLflow itself reads `(-1,)` as an array of one: we say what the model says, a number a row.
    """
    kind, shape = spec.type, spec.shape
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
