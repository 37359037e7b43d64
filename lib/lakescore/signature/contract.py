"""The contract of one version with a table, checked before scoring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from pyspark.sql.types import StructField, StructType

from lakescore.errors import ColumnsMissing
from lakescore.options import BindOptions
from lakescore.provenance import COLUMNS
from lakescore.signature.arrays import array_input, check_columns
from lakescore.signature.errors import ColumnsUnfit, OutputsCollide
from lakescore.signature.features import (
    check_features,
    choose_specs,
    feature_of,
    find_casts,
    input_specs,
    null_rule,
)
from lakescore.signature.naming import check_names, repeated_names
from lakescore.signature.outputs import (
    DECISION,
    Decision,
    make_decision,
    outputs_of,
    results_schema,
)
from lakescore.signature.types import column_types
from lakescore.slicing import RESERVED_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from lakescore.loading import Loadable
    from lakescore.options import NullRule
    from lakescore.signature.arrays import ArrayInput

BY_NAME = BindOptions()


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
    arrays: ArrayInput | None = None
    """The arrays that the model takes, if it does not take columns."""

    @property
    def takes(self) -> Literal["frame", "array", "arrays"]:
        """The input of MLflow's PyFuncModel, as `executor.Version` names it."""
        return "frame" if self.arrays is None else self.arrays.takes

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of a row in the arrays that the model takes."""
        return () if self.arrays is None else self.arrays.shapes

    @property
    def written(self) -> tuple[str, ...]:
        """The names of the prediction's columns, the decision last."""
        return (*self.outputs.names, *([DECISION] if self.decision else []))

    @property
    def never_null(self) -> tuple[str, ...]:
        """The table's columns that must hold no null in the scored rows."""
        return tuple(self.sources[name] for name, rule in self.nulls.items() if rule == "fail")

    @property
    def worker_nulls(self) -> dict[str, NullRule]:
        """By feature, the policies that workers apply to a row with a null there."""
        return {name: rule for name, rule in self.nulls.items() if rule != "fail"}


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
    options: BindOptions = BY_NAME,
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
        FeaturesMiscounted, FeaturesNamed: the features of *options* do not fit the signature.
        TypesDiffer: a column cannot be cast losslessly to the signature's type.
        CaseDiffers: the table has an optional feature in another case.
        ColumnsCollide, OutputsCollide: two columns of the output would have the same name.
        ColumnsUnfit: the table has a column whose name cannot be used.
        ThresholdUndefined: the model does not give exactly one score for the threshold.
        UnsupportedSignature: the signature has no names and *options* give none, or no column can
            hold its inputs or an output.
    """
    schema, columns, nulls = rows.schema, options.columns, options.nulls
    model, specs = loadable.model, input_specs(loadable, options.features)
    check_features([loadable], options)
    wanted = choose_specs(address, specs, schema, columns)
    names = {str(spec.name): spec.name for spec in wanted}
    sources = {name: columns.get(name, name) for name in names}
    needed = dict.fromkeys([*sources.values(), *keep, *options.read])
    if missing := [name for name in needed if name not in schema.names]:
        raise ColumnsMissing(address, missing, schema.names)
    types = column_types(schema)
    features = tuple(feature_of(loadable, spec, types[sources[str(spec.name)]]) for spec in wanted)
    arrays = array_input(loadable)
    if arrays is not None and not arrays.names:
        check_columns(loadable, arrays, {name: types[sources[name]] for name in names})
    model_outputs = outputs_of(loadable)
    # Arrow distinguishes nullable fields from others, and all columns from pandas are nullable.
    outputs = StructType([StructField(output.name, output.kind) for output in model_outputs])
    contract = Contract(
        loadable=loadable,
        features=features,
        names=names,
        left_out=tuple(str(spec.name) for spec in specs if str(spec.name) not in names),
        sources=sources,
        casts=find_casts(address, schema, [(sources[f.name], f.dataType) for f in features]),
        outputs=outputs,
        results=results_schema(outputs, model_outputs),
        renamed={}
        if len(model_outputs) == 1
        else {str(o.original): o.name for o in model_outputs if o.is_renamed},
        nulls={
            feature.name: rule
            for feature in features
            if (rule := null_rule(loadable, feature, nulls, of_arrays=arrays is not None))
            != "model"
        },
        asked_nulls=nulls,
        decision=make_decision(loadable, outputs, options.threshold),
        arrays=arrays,
    )
    if collisions := repeated_names([*contract.written, *COLUMNS]):
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
