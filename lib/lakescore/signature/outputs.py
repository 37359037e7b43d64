"""The columns that a model gives for its outputs or classes, and the decision by a threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import DataType, DoubleType, FloatType, StructType

from lakescore import executor
from lakescore.signature.errors import OutputsCollide, ThresholdUndefined
from lakescore.signature.naming import fit_name, repeated_names
from lakescore.signature.types import output_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakescore.loading import Loadable

PREDICTION = "prediction"
DECISION = "decision"


@dataclass(frozen=True)
class Output:
    """One value that the model gives for a row."""

    original: str | int
    """The name in the signature, or the class."""
    name: str
    """The name of the table's column."""
    kind: DataType
    word: str
    """The signature's word for the type, if the column's type does not say it."""
    width: int | None = None
    """The number of values of its array, if the signature says it."""

    @property
    def is_renamed(self) -> bool:
        """Whether the column has neither the output's name nor that name after `p_`."""
        return self.name not in {str(self.original), f"p_{self.original}"}


def outputs_of(loadable: Loadable) -> list[Output]:
    """Return the values that the model gives for a row, with the names of their columns."""
    model = loadable.model
    schema: Any = model.signature.outputs
    if loadable.classes:
        term, double = "classes", DoubleType()
        outputs = [Output(c, f"p_{fit_name(c)}", double, "") for c in loadable.classes]
    else:
        term, is_single = "outputs", len(schema.inputs) == 1
        outputs = []
        for n, spec in enumerate(schema.inputs):
            name = n if spec.name is None else spec.name
            kind, word = output_type(model, spec)
            column = PREDICTION if is_single else fit_name(name)
            outputs.append(Output(name, column, kind, word, _array_width(spec)))
    if collisions := repeated_names([output.name for output in outputs]):
        column = collisions[0]
        names = [o.original for o in outputs if o.name.lower() == column.lower()]
        raise OutputsCollide(model.uri, term, names, f"they would share the column {column!r}")
    return outputs


def _array_width(spec: Any) -> int | None:  # noqa: ANN401 - of MLflow
    """Return the number of values in a row of an array, if the signature says it."""
    _, *sizes = getattr(spec, "shape", [-1])
    return sizes[0] if len(sizes) == 1 and sizes[0] > 1 else None


def results_schema(outputs: StructType, model_outputs: Sequence[Output]) -> pa.Schema:
    """Return *outputs* as the schema with which workers check the predictions of a model."""
    fields = []
    for field, output in zip(to_arrow_schema(outputs), model_outputs, strict=True):
        metadata = {executor.SAYS: output.word.encode()} if output.word else {}
        if output.width is not None:
            metadata[executor.WIDTH] = str(output.width).encode()
        fields.append(field.with_metadata(metadata))
    return pa.schema(fields)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A column beside a score: the side of a threshold on which the score is."""

    score: str
    """The column that holds the score."""
    threshold: float
    below: bool | int | float | str
    reached: bool | int | float | str
    """The decision if the score is at least the threshold, as scikit-learn decides."""


def make_decision(
    loadable: Loadable, outputs: StructType, threshold: float | None
) -> Decision | None:
    """Return the decision by *threshold* on the only score among *outputs*."""
    if threshold is None:
        return None
    if len(loadable.classes) == 2:  # noqa: PLR2004 - below and reached
        below, reached = loadable.classes
        score = outputs.names[1]
        return Decision(score=score, threshold=threshold, below=below, reached=reached)
    if len(outputs) > 1 or not isinstance(outputs[0].dataType, (DoubleType, FloatType)):
        raise ThresholdUndefined(loadable.model.uri, outputs.simpleString(), len(loadable.classes))
    return Decision(score=outputs.names[0], threshold=threshold, below=False, reached=True)
