"""Arrays: signatures of NumPy arrays, whose rows a table holds in columns or in one column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pyspark.sql.types import ArrayType

from lakescore.loading import UnsupportedSignature
from lakescore.signature.errors import FeaturesMiscounted
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql.types import DataType

    from lakescore.loading import Loadable

_NUMBERS = {
    "float64": "double",
    "float32": "float",
    "int64": "long",
    "int32": "integer",
    "bool": "boolean",
}
"""MLflow's types of columns, by the type of an array's values."""


@dataclass(frozen=True)
class ArrayInput:
    """The arrays that a model takes, as its signature declares them."""

    takes: Literal["array", "arrays"]
    """One array without a name, or an array for each name."""
    names: tuple[str, ...]
    """The names, if the arrays have names."""
    kinds: tuple[str, ...]
    """By array, MLflow's type of its values."""
    shapes: tuple[tuple[int, ...], ...]
    """By array, the shape of a row: `()` is one value, `(4,)` are four."""

    @property
    def width(self) -> int:
        """The number of values in a row of the first array."""
        return self.shapes[0][0] if self.shapes[0] else 1


def array_input(loadable: Loadable) -> ArrayInput | None:
    """Return the arrays that the version takes; None if it takes columns.

    Raises:
        UnsupportedSignature: columns of a table cannot make such arrays.
    """
    inputs: Any = loadable.model.signature.inputs  # MLflow's specs are a union no check narrows
    if not inputs.is_tensor_spec():
        return None
    kinds = [_NUMBERS.get(str(spec.type)) for spec in inputs]
    if None in kinds or not all(_is_table(spec.shape) for spec in inputs):
        shapes = listed(f"{spec.name or 'an array'} of {spec.type} {spec.shape}" for spec in inputs)
        raise UnsupportedSignature(
            loadable.model.uri,
            f"it takes {shapes}, which columns of a table cannot make; log it with a signature of "
            "a DataFrame: infer_signature(X, ...)",
        )
    is_named = inputs.has_input_names()
    return ArrayInput(
        takes="arrays" if is_named else "array",
        names=tuple(inputs.input_names()) if is_named else (),
        kinds=tuple(map(str, kinds)),
        shapes=tuple(tuple(spec.shape[1:]) for spec in inputs),
    )


def _is_table(shape: tuple[int, ...]) -> bool:
    """Return whether an array of this *shape* has rows of a fixed number of values."""
    return len(shape) in {1, 2} and shape[0] == -1 and min(shape[1:], default=1) > 0


def check_columns(loadable: Loadable, arrays: ArrayInput, columns: Mapping[str, DataType]) -> None:
    """Check that *columns* make the rows of an array without a name.

    Args:
        loadable: the version.
        arrays: the array.
        columns: by feature, the type of the table's column.

    Raises:
        FeaturesMiscounted: the only column of an array of several values holds no arrays.
        UnsupportedSignature: the column holds arrays, but the model needs pandas categories.
    """
    if len(columns) == arrays.width:
        return
    if not all(isinstance(kind, ArrayType) for kind in columns.values()):
        raise FeaturesMiscounted(loadable.model.uri, list(columns), arrays.width)
    if loadable.has_categories:
        reason = "it was trained on pandas categories, which a column of arrays cannot hold"
        raise UnsupportedSignature(loadable.model.uri, reason)
