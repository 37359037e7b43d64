from __future__ import annotations

from typing import Any

import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

from lakescore.registry.difference import compare_signatures


def signature(
    inputs: dict[str, str], outputs: dict[str, str] | None = None, **params: float
) -> ModelSignature:
    """Return a signature; an input whose type ends with `?` is optional."""
    return ModelSignature(
        inputs=Schema(
            [ColSpec(t.rstrip("?"), n, required=not t.endswith("?")) for n, t in inputs.items()]
        ),
        outputs=Schema([ColSpec(t, n or None) for n, t in (outputs or {"": "double"}).items()]),
        params=ParamSchema([ParamSpec(n, "double", v) for n, v in params.items()])
        if params
        else None,
    )


A = {"a": "double", "b": "long"}


@pytest.mark.parametrize(
    ("before", "after", "answer", "reason"),
    [
        (signature(A), signature(A), "compatible", "the signatures are equal"),
        (signature(A), signature({"a": "double"}), "compatible", "input 'b' is gone"),
        (signature(A), signature(A | {"c": "string?"}), "compatible", "input 'c' is new"),
        (signature(A), signature(A | {"b": "long?"}), "compatible", "input 'b' is long, optional"),
        (signature({"a": "integer"}), signature({"a": "long"}), "compatible", "input 'a' is long"),
        (signature({"a": "float"}), signature({"a": "double"}), "compatible", "'a' is double"),
        (signature(A, p=1.0), signature(A, p=2.0), "compatible", "parameter 'p' is double"),
        (signature(A), signature(A, p=2.0), "compatible", "parameter 'p' is new"),
        (signature(A), signature(A | {"c": "string"}), "breaking", "'c' is new and required"),
        (signature(A | {"b": "long?"}), signature(A), "breaking", "input 'b' is required now"),
        (signature({"a": "long"}), signature({"a": "integer"}), "breaking", "integer and was long"),
        (signature({"a": "long"}), signature({"a": "double"}), "breaking", "double and was long"),
        (signature({"a": "long"}), signature({"a": "string"}), "breaking", "string and was long"),
        (
            signature(A, {"x": "double", "y": "double"}),
            signature(A, {"x": "double"}),
            "breaking",
            "output 'y' is gone",
        ),
        (
            signature(A),
            signature(A, {"": "long"}),
            "breaking",
            "output '#1' is long and was double",
        ),
        (
            signature(A, {"x": "double"}),
            signature(A, {"x": "double", "y": "double"}),
            "breaking",
            "no column is named prediction",
        ),
        (
            signature(A, {"x": "double", "y": "double"}),
            signature(A, {"x": "double", "y": "double", "z": "double"}),
            "compatible",
            "output 'z' is new",
        ),
        (signature(A, p=1.0), signature(A), "breaking", "parameter 'p' is gone"),
        (None, signature(A), "breaking", "no signature"),
    ],
)
def test_a_verdict_has_its_reason(before: Any, after: Any, answer: str, reason: str) -> None:
    verdict, reasons = compare_signatures(before, after)
    assert verdict == answer
    assert reason in "; ".join(reasons)
