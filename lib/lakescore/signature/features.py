"""The features: which columns of a table a model reads, as which types, and with which nulls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyspark.sql.types import BooleanType, DataType, IntegerType, LongType, StructField, StructType

from lakescore.loading import UnsupportedSignature
from lakescore.signature.errors import CaseDiffers, FeaturesUnknown, TypesDiffer
from lakescore.signature.types import input_type, is_lossless, same_shape
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.loading import Loadable
    from lakescore.options import NullRule

_NOT_NULLABLE = (BooleanType, IntegerType, LongType)
"""Types that pandas cannot hold with nulls, so no model gets a row with a null there."""
_NO_COLUMNS = (
    "its signature does not name the columns of a table; log it with signature=infer_signature(X, "
    "...), where X is a DataFrame whose columns have names"
)


def input_specs(loadable: Loadable) -> list[Any]:
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


def feature_names(loadable: Loadable) -> list[str]:
    """Return the names of the features that the signature has."""
    return [str(spec.name) for spec in input_specs(loadable)]


def check_features(
    loadables: Sequence[Loadable], columns: Mapping[str, str], nulls: Mapping[str, NullRule]
) -> None:
    """Check that *columns* and *nulls* name features that one of the versions takes."""
    known = list(dict.fromkeys(name for loadable in loadables for name in feature_names(loadable)))
    unknown = [name for name in dict.fromkeys([*columns, *nulls]) if name not in known]
    if unknown:
        uris = [loadable.model.uri for loadable in loadables]
        raise FeaturesUnknown(listed(uris), unknown, known)


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
