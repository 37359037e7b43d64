"""The features: which columns of a table a model reads, as which types, and with which nulls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    DoubleType,
    IntegerType,
    LongType,
    NullType,
    StructField,
    StructType,
)

from lakescore.loading import VECTOR, UnsupportedSignature
from lakescore.signature.arrays import array_input
from lakescore.signature.errors import (
    CaseDiffers,
    FeaturesMiscounted,
    FeaturesNamed,
    FeaturesUnknown,
    TypesDiffer,
)
from lakescore.signature.types import column_types, input_type, is_lossless, same_shape
from lakescore.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.loading import Loadable
    from lakescore.options import BindOptions, NullRule
    from lakescore.signature.arrays import ArrayInput

_NOT_NULLABLE = (BooleanType, IntegerType, LongType)
"""Types that pandas cannot hold with nulls, so no model gets a row with a null there."""
_MOST_SHOWN = 3


def input_specs(loadable: Loadable, given: Sequence[str] = ()) -> list[Any]:
    """Return MLflow's specs of the input columns. All of them have names.

    Args:
        loadable: the version.
        given: names in the order of the columns, for a signature that has none. One name for an
            array of several values is a column of arrays.

    Raises:
        UnsupportedSignature: the signature has no names, and *given* is empty; or its inputs cannot
            be columns of a table.
        FeaturesMiscounted: the signature has no names, and another number of columns than *given*.
    """
    inputs: Any = loadable.model.signature.inputs  # MLflow's specs are a union no check narrows
    arrays = array_input(loadable)
    if arrays is not None and arrays.names:
        return [
            _array_spec(kind, name) if shape and shape != (1,) else _spec(kind, name)
            for name, kind, shape in zip(arrays.names, arrays.kinds, arrays.shapes, strict=True)
        ]
    if arrays is not None:
        return _name_array(loadable.model.uri, arrays, given)
    if loadable.takes_records:
        return _columns_of_records(inputs.inputs[0].type)
    if not inputs.has_input_names():
        return _name_columns(loadable.model.uri, [spec.type for spec in inputs.inputs], given)
    names = [spec.name for spec in inputs.inputs]
    # MLflow treats the name 0 as no name, and then uses the column's position as its name.
    if names != inputs.input_names() or len(set(map(str, names))) < len(names):
        names_shown = listed(map(repr, names))
        reason = f"MLflow confuses its columns {names_shown}; log it with texts as names"
        raise UnsupportedSignature(loadable.model.uri, reason)
    return list(inputs.inputs)


def _columns_of_records(record: Any) -> list[Any]:  # noqa: ANN401 - of MLflow
    """Return the specs of the columns from which MLflow makes the records of a type hint."""
    from mlflow.types import ColSpec  # noqa: PLC0415 - seconds of import, after the first checks

    return [ColSpec(p.dtype, p.name, required=p.required) for p in record.properties]


def _name_array(uri: str, arrays: ArrayInput, given: Sequence[str]) -> list[Any]:
    """Return the specs of the *given* columns that make an array, or of the one that holds it."""
    (kind,) = arrays.kinds
    if arrays.width > 1 and len(given) == 1:
        return [_array_spec(kind, given[0])]
    advice = ", or one column of arrays: features: [COLUMN]" if arrays.width > 1 else ""
    kinds = [_spec(kind, "").type] * arrays.width
    return _name_columns(uri, kinds, given, advice)


def _spec(kind: str, name: str) -> Any:  # noqa: ANN401 - of MLflow
    from mlflow.types import ColSpec  # noqa: PLC0415 - seconds of import, after the first checks

    return ColSpec(kind, name)


def _array_spec(kind: str, name: str) -> Any:  # noqa: ANN401 - of MLflow
    from mlflow.types import ColSpec  # noqa: PLC0415 - see above
    from mlflow.types.schema import Array  # noqa: PLC0415 - see above

    return ColSpec(Array(kind), name)


def _name_columns(
    uri: str, kinds: Sequence[Any], given: Sequence[str], advice: str = ""
) -> list[Any]:
    """Return the specs of columns of *kinds* with the *given* names."""
    if not kinds:
        raise UnsupportedSignature(uri, "its signature has no input columns")
    if not given:
        shown = [f"COLUMN{n + 1}" for n in range(len(kinds))]
        if len(shown) > _MOST_SHOWN:
            shown = [*shown[: _MOST_SHOWN - 1], "...", shown[-1]]
        raise UnsupportedSignature(
            uri,
            f"its signature has {counted(len(kinds), 'column')} without names; name the table's "
            f"columns in the order of the training data: features: [{', '.join(shown)}]{advice}",
        )
    if len(given) != len(kinds):
        raise FeaturesMiscounted(uri, given, len(kinds))
    return [_spec(kind, name) for kind, name in zip(kinds, given, strict=True)]


def lacks_names(loadable: Loadable) -> bool:
    """Return whether the signature of the version does not name its columns."""
    inputs: Any = loadable.model.signature.inputs
    arrays = array_input(loadable)
    has_names = inputs.has_input_names() if arrays is None else bool(arrays.names)
    return not (has_names or loadable.takes_records)


def width(loadable: Loadable) -> int:
    """Return the number of features of the version, without a list of them."""
    inputs: Any = loadable.model.signature.inputs
    arrays = array_input(loadable)
    if arrays is not None and not arrays.names:
        return arrays.width
    return len(inputs.inputs[0].type.properties if loadable.takes_records else inputs.inputs)


def feature_names(loadable: Loadable, given: Sequence[str] = ()) -> list[str]:
    """Return the names of the features of the signature; *given* if it has none."""
    return [str(spec.name) for spec in input_specs(loadable, given)]


def check_features(loadables: Sequence[Loadable], options: BindOptions) -> None:
    """Check that *options* name features that one of the versions takes.

    Raises:
        FeaturesUnknown: `columns` or `nulls` name another feature.
        FeaturesNamed: `features` are given, but all signatures have names.
    """
    given = options.features
    known = list(
        dict.fromkeys(name for loadable in loadables for name in feature_names(loadable, given))
    )
    uris = listed([loadable.model.uri for loadable in loadables])
    if given and not any(map(lacks_names, loadables)):
        raise FeaturesNamed(uris, known)
    unknown = [
        name for name in dict.fromkeys([*options.columns, *options.nulls]) if name not in known
    ]
    if unknown:
        raise FeaturesUnknown(uris, unknown, known)


def choose_specs(
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


def feature_of(loadable: Loadable, spec: Any, has: DataType) -> StructField:  # noqa: ANN401 - see above
    """Return the feature of *spec*, with the type for a column that has the type *has*."""
    kind = spec.to_dict()
    if kind["type"] == VECTOR and loadable.is_pipeline:
        return StructField(str(spec.name), ArrayType(DoubleType()))
    if kind["type"] == VECTOR:
        reason = f"its feature {spec.name!r} is a vector of Spark ML"
        raise UnsupportedSignature(loadable.model.uri, reason)
    return StructField(str(spec.name), input_type(kind, has))


def features_of(loadable: Loadable) -> list[StructField]:
    """Return the features of the signature, which has names, with the types that it gives them."""
    return [feature_of(loadable, spec, NullType()) for spec in input_specs(loadable)]


def null_rule(
    loadable: Loadable,
    feature: StructField,
    nulls: Mapping[str, NullRule],
    *,
    of_arrays: bool = False,
) -> NullRule:
    """Return the policy for rows with a null in the *feature*.

    A pipeline of Spark ML gets all nulls, because Spark's types hold them.

    Args:
        loadable: the version.
        feature: the feature.
        nulls: the policies that the job's file asks for.
        of_arrays: whether the model takes NumPy arrays, which can hold no missing array.
    """
    is_array = of_arrays and isinstance(feature.dataType, ArrayType)
    holds_nulls = not isinstance(feature.dataType, _NOT_NULLABLE) and not is_array
    is_nullable = loadable.is_pipeline or holds_nulls
    return nulls.get(feature.name, "model" if is_nullable else "quarantine")


def find_casts(
    address: str, schema: StructType, wanted: Sequence[tuple[str, DataType]]
) -> dict[str, tuple[str, str]]:
    """Return the casts by column. If two features share a column, both casts must be lossless."""
    types = column_types(schema)
    changed = [
        (name, types[name], kind) for name, kind in wanted if not same_shape(types[name], kind)
    ]
    lossy = {
        name: (has.simpleString(), asks.simpleString())
        for name, has, asks in changed
        if not is_lossless(has, asks)
    }
    if lossy:
        raise TypesDiffer(address, lossy)
    return {name: (has.simpleString(), asks.simpleString()) for name, has, asks in changed}
