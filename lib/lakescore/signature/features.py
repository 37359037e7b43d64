"""The features: which columns of a table a model reads, as which types, and with which nulls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyspark.sql.types import BooleanType, DataType, IntegerType, LongType, StructField, StructType

from lakescore.loading import UnsupportedSignature
from lakescore.signature.errors import (
    CaseDiffers,
    FeaturesMiscounted,
    FeaturesNamed,
    FeaturesUnknown,
    TypesDiffer,
)
from lakescore.signature.types import input_type, is_lossless, same_shape
from lakescore.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.loading import Loadable
    from lakescore.options import BindOptions, NullRule

_NOT_NULLABLE = (BooleanType, IntegerType, LongType)
"""Types that pandas cannot hold with nulls, so no model gets a row with a null there."""
_NUMBERS = {
    "float64": "double",
    "float32": "float",
    "int64": "long",
    "int32": "integer",
    "bool": "boolean",
}
"""MLflow's types of columns, by the type of an array's values."""
_MOST_SHOWN = 3


def input_specs(loadable: Loadable, given: Sequence[str] = ()) -> list[Any]:
    """Return MLflow's specs of the input columns. All of them have names.

    Args:
        loadable: the version.
        given: names in the order of the columns, for a signature that has none.

    Raises:
        UnsupportedSignature: the signature has no names, and *given* is empty; or its inputs cannot
            be columns of a table.
        FeaturesMiscounted: the signature has no names, and another number of columns than *given*.
    """
    inputs: Any = loadable.model.signature.inputs  # MLflow's specs are a union no check narrows
    kinds = _unnamed_types(loadable)
    if kinds is not None:
        return _name_columns(loadable.model.uri, kinds, given)
    names = [spec.name for spec in inputs.inputs]
    # MLflow treats the name 0 as no name, and then uses the column's position as its name.
    if names != inputs.input_names() or len(set(map(str, names))) < len(names):
        names_shown = listed(map(repr, names))
        reason = f"MLflow confuses its columns {names_shown}; log it with texts as names"
        raise UnsupportedSignature(loadable.model.uri, reason)
    return list(inputs.inputs)


def _unnamed_types(loadable: Loadable) -> list[Any] | None:
    """Return the types of a signature's columns without names; None if the columns have names.

    Raises:
        UnsupportedSignature: the inputs are arrays that a row of plain columns cannot make.
    """
    inputs: Any = loadable.model.signature.inputs
    if not inputs.is_tensor_spec():
        return None if inputs.has_input_names() else [spec.type for spec in inputs.inputs]
    uri, first = loadable.model.uri, inputs.inputs[0]
    shape, kind = first.shape, _NUMBERS.get(str(first.type))
    is_table = len(shape) in {1, 2} and shape[0] == -1 and -1 not in shape[1:]
    if inputs.has_input_names() or kind is None or not is_table:
        shapes = listed(f"{spec.name or 'an array'} of {spec.type} {spec.shape}" for spec in inputs)
        reason = f"it takes {shapes}, which columns of a table cannot make; log it with a signature"
        raise UnsupportedSignature(uri, f"{reason} of a DataFrame: infer_signature(X, ...)")
    from mlflow.types import DataType as Kind  # noqa: PLC0415 - Spark's types have that name

    return [Kind[kind]] * (shape[1] if len(shape) > 1 else 1)


def _name_columns(uri: str, kinds: Sequence[Any], given: Sequence[str]) -> list[Any]:
    """Return the specs of columns of *kinds* with the *given* names."""
    from mlflow.types import ColSpec  # noqa: PLC0415 - see above

    if not kinds:
        raise UnsupportedSignature(uri, "its signature has no input columns")
    if not given:
        shown = [f"COLUMN{n + 1}" for n in range(len(kinds))]
        if len(shown) > _MOST_SHOWN:
            shown = [*shown[: _MOST_SHOWN - 1], "...", shown[-1]]
        raise UnsupportedSignature(
            uri,
            f"its signature has {counted(len(kinds), 'column')} without names; name the table's "
            f"columns in the order of the training data: features: [{', '.join(shown)}]",
        )
    if len(given) != len(kinds):
        raise FeaturesMiscounted(uri, given, len(kinds))
    return [ColSpec(kind, name) for kind, name in zip(kinds, given, strict=True)]


def lacks_names(loadable: Loadable) -> bool:
    """Return whether the signature of the version does not name its columns."""
    return _unnamed_types(loadable) is not None


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


def feature_of(uri: str, spec: Any, has: DataType) -> StructField:  # noqa: ANN401 - see above
    """Return the feature of *spec*, with the type for a column that has the type *has*."""
    kind = spec.to_dict()
    if kind["type"] == "sparkml_vector":
        raise UnsupportedSignature(uri, f"its feature {spec.name!r} is a vector of Spark ML")
    return StructField(str(spec.name), input_type(kind, has))


def null_rule(feature: StructField, nulls: Mapping[str, NullRule]) -> NullRule:
    """Return the policy for rows with a null in the *feature*."""
    default: NullRule = "quarantine" if isinstance(feature.dataType, _NOT_NULLABLE) else "model"
    return nulls.get(feature.name, default)


def find_casts(
    address: str, schema: StructType, wanted: Sequence[tuple[str, DataType]]
) -> dict[str, tuple[str, str]]:
    """Return the casts by column. If two features share a column, both casts must be lossless."""
    changed = [
        (name, schema[name].dataType, kind)
        for name, kind in wanted
        if not same_shape(schema[name].dataType, kind)
    ]
    lossy = {
        name: (has.simpleString(), asks.simpleString())
        for name, has, asks in changed
        if not is_lossless(has, asks)
    }
    if lossy:
        raise TypesDiffer(address, lossy)
    return {name: (has.simpleString(), asks.simpleString()) for name, has, asks in changed}
