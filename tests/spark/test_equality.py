"""Both engines publish what `predict` gives on pandas.

The models are random: of every output type, with every kind of null, and with every way to return
values. By default these are a few; LAKESCORE_EXAMPLES=500 draws 500.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, DataType, Schema

from lakescore import scoring, signature
from lakescore.engines.failures import ResultUnfit
from lakescore.loading import prepare
from lakescore.registry import resolve

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ROWS = 5
EXAMPLES = int(os.environ.get("LAKESCORE_EXAMPLES", "6"))
NULLS = [None, float("nan"), pd.NA]
TYPES: dict[str, tuple[Any, Any]] = {
    # The signature's type: a value of it, and the dtype of pandas that holds its nulls.
    "boolean": (st.booleans(), "boolean"),
    "integer": (st.integers(-(2**31), 2**31 - 1), "Int32"),
    "long": (st.integers(-(2**63), 2**63 - 1), "Int64"),
    "float": (st.floats(width=32, allow_nan=False), "Float32"),
    "double": (st.floats(allow_nan=False), "Float64"),
    "string": (st.text(st.characters(exclude_categories=["Cs"]), max_size=5), "string"),
}
SHAPES = ["objects", "nullable", "list", "frame", "dictionary", "array"]


@st.composite
def outputs(draw: st.DrawFn) -> list[tuple[str, list[Any]]]:
    """Draw one output or two: their types, and a value or a null for each row."""
    names = draw(st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=2))
    nulls = st.sampled_from(NULLS)
    return [
        (name, draw(st.lists(TYPES[name][0] | nulls, min_size=ROWS, max_size=ROWS)))
        for name in names
    ]


def model(given_: list[tuple[str, list[Any]]], shape: str, order: list[int]) -> Any:
    """Return a model that gives these values by the row's number, in whatever *order*."""
    dtypes = {name: TYPES[name][1] for name in TYPES}

    class Giving(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> Any:  # noqa: ARG002
            numbers = [int(x) for x in model_input["x"]]
            columns = {
                f"o{n}": [values[number] for number in numbers]
                for n, (_, values) in enumerate(given_)
            }
            if shape in {"list", "array"}:
                (column,) = columns.values()
                return column if shape == "list" else np.array(column, dtype=object)
            frame = pd.DataFrame(
                {
                    name: pd.Series(column, dtype=dtypes[kind] if shape == "nullable" else object)
                    for (name, column), (kind, _) in zip(columns.items(), given_, strict=True)
                }
            )
            blocks = range(0, len(frame), ROWS)
            places = [block + place for block in blocks for place in order]
            frame = frame.iloc[[place for place in places if place < len(frame)]]
            if shape == "dictionary":
                return dict(frame.items())
            return frame["o0"] if len(given_) == 1 and shape == "objects" else frame

    return Giving()


def expected(values: list[Any]) -> list[Any]:
    return [None if pd.isna(value) else value for value in values]


def same(values: list[Any], wanted: list[Any]) -> bool:
    return all(
        (a is None) == (b is None)
        and (a is None or (a == b and math.copysign(1, a) == math.copysign(1, b)))
        if isinstance(b, float)
        else a == b and type(a) is type(b)
        for a, b in zip(values, wanted, strict=True)
    )


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame([(n, float(n)) for n in range(ROWS)], "id int, x double").coalesce(
        1
    )


def published(rows: DataFrame, engine: Any, name: str) -> list[list[Any]]:
    contract = signature.bind("rows", rows, prepare(resolve(name)))
    planned = scoring.plan(engine, rows, [contract], keep=["id"])
    collected = scoring.score(planned).orderBy("id").collect()
    return [[row[n] for row in collected] for n in range(1, len(contract.outputs) + 1)]


@given(outputs(), st.sampled_from(SHAPES), st.permutations(range(ROWS)))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_both_engines_publish_what_the_model_gives_nulls_included(
    rows: DataFrame, register: Any, drawn: list[tuple[str, list[Any]]], shape: str, order: list[int]
) -> None:
    if len(drawn) > 1 and shape in {"objects", "list", "array"}:
        drawn = drawn[:1]
    asked = Schema([ColSpec(DataType[name], f"o{n}") for n, (name, _) in enumerate(drawn)])
    inputs = infer_signature(pd.DataFrame({"x": [1.0]})).inputs
    drawing = model(drawn, shape, order)
    version = register("drawn", drawing, signature=ModelSignature(inputs, asked))
    wanted = [expected(values) for _, values in drawn]
    for engine in ("arrow", "spark_udf"):
        columns = published(rows, engine, f"drawn/{version}")
        assert all(map(same, columns, wanted)), (engine, columns, wanted)


@pytest.mark.parametrize("engine", ["auto", "arrow", "spark_udf"])
def test_no_engine_guesses_which_column_is_the_prediction(
    rows: DataFrame, register: Any, engine: Any
) -> None:
    class Scores(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.DataFrame:  # noqa: ARG002
            return pd.DataFrame({"customer": model_input["x"] + 1000, "score": model_input["x"]})

    one = pd.DataFrame({"x": [1.0]})
    name = f"scores {engine}"
    register(name, Scores(), one, pd.DataFrame({"score": [0.1]}))
    assert published(rows, engine, f"{name}/1") == [[0.0, 1.0, 2.0, 3.0, 4.0]]
    register(name, Scores(), one, np.array([0.1]))  # no name to go by
    with pytest.raises(ResultUnfit, match=r"the columns \['customer', 'score'\]") as raised:
        published(rows, engine, f"{name}/2")
    assert raised.value.exit_code == 5


@pytest.mark.parametrize("engine", ["arrow", "spark_udf"])
def test_groups_that_are_predicted_apart_get_their_own_values_and_the_plan_says_so(
    spark: SparkSession, register: Any, engine: Any
) -> None:
    class Apart(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            is_a = model_input["kind"] == "a"
            return pd.concat([model_input[is_a]["x"] * 10, model_input[~is_a]["x"] * 100])

    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "kind": ["b", "a", "b", "a"]})
    name = f"apart {engine}"
    register(name, Apart(), frame, np.array([1.0]))
    rows = spark.createDataFrame(frame).coalesce(1)
    contract = signature.bind("rows", rows, prepare(resolve(f"{name}/1")))
    planned = scoring.plan(engine, rows, [contract], keep=["x"])
    if engine == "arrow":
        planned = replace(planned, spread=None)  # as on a slow machine: the rows stay together
    execution = scoring.Execution(planned)
    with execution.cached() as scored:
        collected = scored.orderBy("x").collect()
    frame["p"] = mlflow.pyfunc.load_model(f"models:/{name}/1").predict(frame)
    predictions = [row["prediction"] for row in collected]
    assert predictions == frame["p"].tolist() == [100.0, 20.0, 300.0, 40.0]
    assert planned.reason.endswith("orders them by it")
    assert execution.facts().get("rows_aligned", 4) == 4
