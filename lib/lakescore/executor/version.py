"""Version: one model version as a worker applies it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self


@dataclass(frozen=True, kw_only=True)
class Version:
    """One model version as a worker applies it."""

    uri: str
    key: str
    """The key of the loaded model: equal keys mean equal models."""
    folder: str
    """The artifacts: an absolute path, or the name of an archive that Spark ships."""
    mode: Literal["block", "frame", "pyfunc"]
    """The input of the model: one block of numbers or a pandas frame for the library's own model,
    or a frame through MLflow's PyFuncModel, which checks it against the signature again."""
    pickled: str | None
    """The scikit-learn model's file in *folder*, if it can be read without MLflow."""
    features: tuple[tuple[str | int, int], ...]
    """The signature's columns: name, and position in the batch."""
    outputs: pa.Schema
    """The outputs of the model: one column, or several that become one struct."""
    takes: Literal["frame", "array", "arrays"] = "frame"
    """The input of MLflow's PyFuncModel: a pandas frame, one NumPy array of all features, or an
    array for each feature, by name."""
    shapes: tuple[tuple[int, ...], ...] = ()
    """The shape of a row in these arrays: `()` is one value, `(4,)` are four."""
    library: str = "sklearn"
    """The library of the model that `block` and `frame` call."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The settings of the library's flavour in `MLmodel`, if it is a boosting library."""
    method: str = "predict"
    """The method of the library's own model that `block` and `frame` call."""
    params: Mapping[str, Any] | None = None
    """The parameters of MLflow's `predict`, for the mode `pyfunc` alone."""
    nulls: tuple[tuple[str | int, int, str], ...] = ()
    """Features whose nulls the model never gets: name, position, and the rule for a row with a null
    there; see `bisecting.predict_rows`."""
    names: tuple[Any, ...] | None = None
    """The signature's names of the outputs, if any; they select the model's outputs by name."""
    size: int = 0
    """Bytes of its files."""
    proven: bool = True
    """Whether a comparison showed that `block` gives the same values as `frame`. If not, the
    workers compare."""
    program: bytes | None = field(default=None, repr=False)
    """The program of the process from which the version's own processes are forked; None if the
    version needs no own processes."""
    environment: str = ""
    """The environment of its own processes: a folder, or the name of an archive that Spark ships.
    Empty for the Python and the packages of the worker."""
    meeting: str = ""
    """Common to the workers of a run; their processes of this version are then forked from one
    that has loaded the model. Empty if each process loads the model itself."""

    def fields(self) -> dict[str, Any]:
        """Return the fields as plain values and bytes, which any version of Python can read."""
        return {
            **vars(self),
            "settings": dict(self.settings),
            "outputs": self.outputs.serialize().to_pybytes(),
        }

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Return the version with these *fields*, as `fields` returns them."""
        return cls(**{**fields, "outputs": pa.ipc.read_schema(pa.py_buffer(fields["outputs"]))})


def output_type(outputs: pa.Schema) -> pa.DataType:
    """Return the type of a column of predictions: a struct if there are several *outputs*."""
    return pa.struct(list(outputs)) if len(outputs) > 1 else outputs.field(0).type
