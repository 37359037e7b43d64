"""Signatures without names: the job's file lists the table's columns in the model's order."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import score
from builders.jobs import score_job
from builders.tables import make_table, rows_of
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, Schema, TensorSpec
from sklearn.linear_model import LinearRegression, LogisticRegression

from lakescore import scoring, signature, slicing, tables
from lakescore.loading import UnsupportedSignature, prepare
from lakescore.options import BindOptions
from lakescore.registry import resolve
from lakescore.signature.errors import FeaturesMiscounted, FeaturesNamed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import SparkSession

    from lakescore.config import ScoreJob
    from lakescore.snapshots import Snapshot

ROWS = pd.DataFrame(
    {
        "id": [1, 2, 3, 4],
        "b": [1.0, -2.0, 0.5, 8.0],
        "a": [10.0, 20.0, 30.0, 40.0],
        "n": [1, 2, 3, 4],
        "m": [5, 6, 7, 9],
    }
)
ORDER = ["a", "b"]
"""Not the order of the table."""
BLOCK = ROWS[ORDER].to_numpy()
FITTED = LinearRegression().fit(BLOCK, [1.0, 2.0, 4.0, 9.0])
CLASSES = LogisticRegression().fit(BLOCK, ["low", "low", "high", "high"])


def told(function: Callable[[Any], Any]) -> mlflow.pyfunc.PythonModel:
    class Told(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: Any) -> Any:  # noqa: ARG002
            return function(model_input)

    return Told()


def describing() -> Callable[[Any], list[str]]:
    """Return a function that tells each row of an array, and the array's type.

    It is local, so that it is pickled by value.
    """
    return lambda block: [f"{type(block).__name__} {block.dtype} {row.tolist()}" for row in block]


def unnamed(kinds: list[str], output: Any) -> ModelSignature:
    return ModelSignature(Schema([ColSpec(kind) for kind in kinds]), infer_signature(output).inputs)


NUMBER, TEXT = np.array([1.0]), np.array(["a"])
KINDS: dict[str, tuple[Any, ModelSignature, list[str], list[Any]]] = {
    "a regressor of an array": (
        FITTED, infer_signature(BLOCK, NUMBER), ORDER, FITTED.predict(BLOCK).tolist()
    ),
    "a classifier of an array": (
        CLASSES, infer_signature(BLOCK, TEXT), ORDER, CLASSES.predict(BLOCK).tolist()
    ),
    "a model of an array of doubles": (
        told(describing()), infer_signature(BLOCK, TEXT), ORDER, describing()(BLOCK)
    ),
    "a model of an array of whole numbers": (
        told(describing()), infer_signature(ROWS[["n", "m"]].to_numpy(), TEXT), ["m", "n"],
        describing()(ROWS[["m", "n"]].to_numpy()),
    ),
    "a model of one column": (
        told(lambda block: block[:, 0] * 2), infer_signature(BLOCK[:, :1], NUMBER), ["b"],
        (ROWS["b"] * 2).tolist(),
    ),
    "columns without names": (
        told(lambda frame: [f"{a} {n}" for a, n in frame.to_numpy().tolist()]),
        unnamed(["double", "long"], TEXT), ["b", "n"],
        [f"{b} {float(n)}" for b, n in zip(ROWS["b"], ROWS["n"], strict=True)],
    ),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def models(register: Any) -> None:
    for name, (model, signed, _, _) in KINDS.items():
        register(name, model, signature=signed)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("unnamed")
    columns = "id int, b double, a double, n bigint, m bigint"
    return make_table(folder / "rows", ROWS.to_numpy(object).tolist(), columns)


@pytest.fixture(scope="module")
def rows(spark: SparkSession, path: str) -> Snapshot:
    return tables.snapshot(spark, path)


@pytest.mark.parametrize(("engine", "scan"), [
    ("arrow", "direct"), ("arrow", "spark"), ("spark_udf", "spark"),
])  # fmt: skip
@pytest.mark.parametrize("name", KINDS)
def test_columns_go_to_the_model_in_the_order_of_the_list(
    rows: Snapshot, name: str, engine: Any, scan: Any
) -> None:
    _, _, features, expected = KINDS[name]
    options = BindOptions(features=tuple(features))
    contract = signature.bind("rows", rows, prepare(resolve(f"{name}/1")), options=options)
    plan = scoring.plan(engine, slicing.select(rows, None, ["all"]), [contract], ["id"], scan)
    given = [row["prediction"] for row in scoring.score(plan).orderBy("id").collect()]
    if isinstance(expected[0], str):
        assert given == expected
    else:
        assert given == pytest.approx(expected, rel=1e-12)


def test_an_array_of_doubles_goes_to_scikit_learn_as_one_block(rows: Snapshot) -> None:
    options = BindOptions(features=tuple(ORDER))
    loadable = prepare(resolve("a regressor of an array/1"))
    contract = signature.bind("rows", rows, loadable, options=options)
    plan = scoring.plan("auto", slicing.select(rows, None, ["all"]), [contract], ["id"])
    assert plan.facts()["modes"] == ["block"]


@pytest.mark.parametrize(("features", "error", "message"), [
    ((), UnsupportedSignature, r"2 columns without names.*features: \[COLUMN1, COLUMN2\]"),
    (("a",), FeaturesMiscounted, r"features lists a \(1 in all\), but .* takes 2"),
])  # fmt: skip
def test_a_list_that_does_not_fit_is_refused_with_what_to_write(
    rows: Snapshot, features: tuple[str, ...], error: type[Exception], message: str
) -> None:
    loadable = prepare(resolve("a regressor of an array/1"))
    with pytest.raises(error, match=message):
        signature.bind("rows", rows, loadable, options=BindOptions(features=features))


def test_a_list_for_a_model_that_names_its_features_is_refused(
    rows: Snapshot, register: Any
) -> None:
    register("named", LinearRegression().fit(ROWS[["a"]], ROWS["b"]), ROWS[["a"]])
    with pytest.raises(FeaturesNamed, match=r"models:/named/1 names its features: a; leave"):
        signature.bind(
            "rows", rows, prepare(resolve("named/1")), options=BindOptions(features=("b",))
        )


def test_a_comparison_lists_features_for_those_versions_that_name_none(rows: Snapshot) -> None:
    loadables = [prepare(resolve(f"{name}/1")) for name in ("a regressor of an array", "named")]
    contracts = signature.bind_all(
        "rows", rows, loadables, options=BindOptions(features=tuple(ORDER))
    )
    assert [[field.name for field in contract.features] for contract in contracts] == [ORDER, ["a"]]


def test_an_array_of_rows_of_arrays_is_refused(rows: Snapshot, register: Any) -> None:
    signed = ModelSignature(
        Schema([TensorSpec(np.dtype("float64"), (-1, 4, 4))]), infer_signature(NUMBER).inputs
    )
    register("pictures", told(lambda block: block[:, 0, 0]), signature=signed)
    with pytest.raises(UnsupportedSignature, match=r"an array of float64 \(-1, 4, 4\)"):
        signature.bind(
            "rows", rows, prepare(resolve("pictures/1")), options=BindOptions(features=("a",))
        )


@pytest.fixture
def job(path: str, tmp_path: Path) -> Callable[..., ScoreJob]:
    return partial(score_job, tmp_path, path, model="a regressor of an array/1")


def test_a_job_lists_the_features_and_another_order_is_another_run(
    job: Callable[..., ScoreJob], runner: str
) -> None:
    first = score.run(job(features=ORDER, runner="auto"))
    again = score.run(job(features=ORDER, runner="auto"))
    other = score.run(job(features=[*reversed(ORDER)], runner="auto"))
    assert [first["status"], again["status"], other["status"]] == ["scored", "unchanged", "scored"]
    assert first["runner"]["name"] == runner
    published = [value for _, value in rows_of(first["output"]["table"], "id", "prediction")]
    swapped = FITTED.predict(ROWS[[*reversed(ORDER)]].to_numpy())
    assert published == pytest.approx(swapped.tolist())


def test_a_job_without_a_list_keeps_the_ids_of_its_runs(job: Callable[..., ScoreJob]) -> None:
    assert "features" not in job().settings
    assert job(features=ORDER).settings["features"] == ORDER


def test_a_name_that_stands_twice_in_the_list_is_refused(job: Callable[..., ScoreJob]) -> None:
    with pytest.raises(ValueError, match="names 'a' twice"):
        job(features=["a", "a"])
