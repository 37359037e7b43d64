"""The engines: which one is chosen and why, that they agree, and what they cost in counts."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.types.schema import AnyType, ColSpec, Schema
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.ensemble import RandomForestRegressor as Forest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from lakescore import scoring, signature
from lakescore.engines.failures import ResultUnfit
from lakescore.engines.plan import EngineRefused
from lakescore.loading import prepare
from lakescore.registry import ModelVersion, resolve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

ROWS = 500
SCHEMA = "id int, a double, b double, c int, kind string"


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    random = np.random.default_rng(11)
    kinds = random.choice(["red", "green", "blue"], ROWS)
    a, b = random.normal(size=ROWS), random.normal(size=ROWS)
    c = np.arange(ROWS, dtype="int32")
    return pd.DataFrame({"id": range(ROWS), "a": a, "b": b, "c": c, "kind": kinds})


@pytest.fixture(scope="module")
def rows(spark: SparkSession, frame: pd.DataFrame) -> DataFrame:
    """Return the frame's rows in eight partitions; every tenth `a` and `kind` is null."""
    values = [
        (i, None if i % 10 == 0 else a, b, c, None if i % 10 == 5 else kind)
        for i, a, b, c, kind in frame.astype(object).to_numpy().tolist()
    ]
    return spark.createDataFrame(values, SCHEMA).repartition(8, "id").localCheckpoint()


def planned(
    rows: DataFrame, asked: Any, models: Sequence[ModelVersion], keep: Sequence[str] = ("id",)
) -> scoring.Plan:
    contracts = [signature.bind("rows", rows, prepare(model)) for model in models]
    return scoring.plan(asked, rows, contracts, keep=keep)


def values(plan: scoring.Plan) -> list[Any]:
    rows = scoring.side_by_side(plan).orderBy("id").collect()
    assert all(row[scoring.ERRORS] is None for row in rows)
    return [tuple(row)[1:-1] for row in rows]


def pipeline(last: Any) -> Any:
    return make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(), StandardScaler()), ["a", "b"]),
            (OneHotEncoder(handle_unknown="ignore"), ["kind"]),
        ),
        last,
    )


@pytest.mark.parametrize(
    ("name", "estimator", "columns", "mode"),
    [
        ("linear", make_pipeline(SimpleImputer(), LinearRegression()), ["a", "b"], "block"),
        ("boosting", HistGradientBoostingRegressor(max_iter=5), ["a", "b"], "block"),
        ("forest", Forest(10, random_state=0), ["a", "b"], "block"),
        ("forest of many jobs", Forest(10, n_jobs=-1, random_state=0), ["a", "b"], "block"),
        ("labels", RandomForestClassifier(5, random_state=0), ["a", "b"], "block"),
        ("types that differ", HistGradientBoostingRegressor(max_iter=5), ["a", "c"], "frame"),
        ("strings", pipeline(Ridge()), ["a", "b", "kind"], "frame"),
    ],
)
def test_the_arrow_engine_gives_the_values_of_spark_udf(  # noqa: PLR0913, PLR0917 - a row's cells
    rows: DataFrame, frame: pd.DataFrame, register: Any,
    name: str, estimator: Any, columns: list[str], mode: str,
) -> None:  # fmt: skip
    label = frame["kind"] if name == "labels" else frame["a"] + 2 * frame["b"]
    register(f"engines {name}", estimator.fit(frame[columns], label), frame[columns])
    model = resolve(f"engines {name}/1")
    plan = planned(rows, "auto", [model])
    assert (plan.engine, [version.mode for version in plan.versions]) == ("arrow", [mode])
    predicted = values(plan)
    expected = values(planned(rows, "spark_udf", [model]))
    assert len(predicted) == ROWS
    if name in {"linear", "strings", "forest of many jobs"}:  # sums, in any order
        assert np.allclose(predicted, expected, rtol=1e-12, atol=0)
    else:
        assert predicted == expected


def test_a_type_that_the_arrow_engine_does_not_take_is_left_to_spark_udf(
    spark: SparkSession, register: Any
) -> None:
    class Count(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> list[int]:  # noqa: ARG002
            return [len(v) for v in model_input["v"]]

    taken = ModelSignature(Schema([ColSpec(AnyType(), "v")]), Schema([ColSpec("long")]))
    register("count", Count(), signature=taken)
    rows = spark.sql("SELECT 1 AS id, map('a', timestamp '2024-01-01 00:00:00') AS v")
    plan = planned(rows, "auto", [resolve("count/1")])
    assert plan.facts() == {
        "name": "spark_udf",
        "reason": "it does not take the columns v (map<string,timestamp>)",
    }
    assert values(plan) == [(1,)]
    line = "v \\(map<string,timestamp>\\); give engine=auto or spark_udf"
    with pytest.raises(EngineRefused, match=line):
        planned(rows, "arrow", [resolve("count/1")])


def test_columns_of_any_kind_come_through_the_arrow_engine_unchanged(
    spark: SparkSession, register: Any
) -> None:
    fitted = LinearRegression().fit(pd.DataFrame({"x": [0.0, 1.0]}), [0.0, 1.0])
    register("identity", fitted, pd.DataFrame({"x": [0.0, 1.0]}))
    rows = spark.sql(
        "SELECT 1D AS x, TIMESTAMP '2013-12-01 05:00:00' AS at, DATE '2013-12-01' AS day, "
        "CAST(1.25 AS DECIMAL(10, 2)) AS price, array(1, 2) AS many, map('k', 1) AS pairs, "
        "named_struct('a', 1) AS point, CAST(NULL AS STRING) AS nothing, X'00FF' AS bytes"
    )
    kept = rows.columns[1:]
    scored = scoring.score(planned(rows, "arrow", [resolve("identity/1")], kept))
    assert scored.select(*kept).schema.simpleString() == rows.select(*kept).schema.simpleString()
    assert scored.select(*kept).collect() == rows.select(*kept).collect()


def test_a_model_is_loaded_once_a_worker_whatever_the_number_of_tasks(
    rows: DataFrame, register: Any, tmp_path: Path
) -> None:
    loads = tmp_path / "loads"

    class Loading(mlflow.pyfunc.PythonModel):
        def load_context(self, context: Any) -> None:  # noqa: ARG002
            import os
            from pathlib import Path

            starter = Path(f"/proc/{os.getppid()}/stat").read_text()
            with loads.open("a") as file:
                file.write(f"{starter.split()[3]} ")  # the worker

        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            return model_input["b"]

    for _ in range(2):
        register("loading", Loading(), pd.DataFrame({"b": [1.0]}), np.array([1.0]))
    models = [resolve("loading/1"), resolve("loading/2")]
    plan = planned(rows, "arrow", models)
    loads.write_text("")  # the driver's, for the probe
    for _ in range(2):  # a second run of the same versions loads nothing
        assert len(values(plan)) == ROWS
    workers = loads.read_text().split()
    assert workers
    assert all(workers.count(worker) == 2 for worker in workers)  # two versions


def test_what_a_worker_has_loaded_is_no_work_for_its_collector(
    rows: DataFrame, register: Any
) -> None:
    class Frozen(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            return pd.Series(float(gc.get_freeze_count()), model_input.index)

    register("frozen", Frozen(), pd.DataFrame({"b": [1.0]}), np.array([1.0]))
    before = gc.get_freeze_count()
    plan = planned(rows, "arrow", [resolve("frozen/1")])
    assert all(row[0] > 10_000 for row in values(plan))  # MLflow alone is more
    assert gc.get_freeze_count() == before  # the driver, whose probe loads it too, is not ours


def test_several_versions_are_one_python_node_and_read_what_they_need(
    spark: SparkSession, rows: DataFrame, frame: pd.DataFrame, register: Any, tmp_path: Path
) -> None:
    path = str(tmp_path / "wide")
    rows.write.format("delta").save(path)
    wide = spark.read.format("delta").load(path)
    for alpha in (1, 2, 3, 4):
        fitted = HistGradientBoostingRegressor(max_iter=alpha).fit(frame[["a"]], frame["b"])
        register("four", fitted, frame[["a"]])
    plan = planned(wide, "arrow", [resolve(f"four/{n}") for n in (1, 2, 3, 4)])
    scored = scoring.side_by_side(plan)
    physical: Any = scored._jdf  # noqa: SLF001 - the plan itself is what counts here
    text = physical.queryExecution().executedPlan().toString()
    assert text.count("MapInArrow") == 1
    assert "ArrowEvalPython" not in text
    assert "ReadSchema: struct<id:int,a:double>" in text


def test_another_number_of_predictions_than_rows_is_an_error(
    rows: DataFrame, register: Any
) -> None:
    class Short(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            return model_input["b"].iloc[:-1]

    register("short", Short(), pd.DataFrame({"b": [1.0, 2.0]}), np.array([1.0]))
    for engine in ("arrow", "auto", "spark_udf"):
        with pytest.raises(ResultUnfit, match="a result of length 0 for a batch of length 1"):
            planned(rows, engine, [resolve("short/1")])


def test_versions_side_by_side_say_which_of_them_could_not_score_a_row(
    spark: SparkSession, register: Any
) -> None:
    class Picky(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            if (model_input["b"] < 0).any():
                raise ValueError("negative")
            return model_input["b"]

    b = pd.DataFrame({"b": [0.0, 1.0]})
    register("picky", Picky(), b, np.array([1.0]))
    register("picky", LinearRegression().fit(b, b["b"]), b)
    rows = spark.createDataFrame([(1, 1.0), (2, -1.0)], "id int, b double")
    plan = planned(rows, "arrow", [resolve("picky/1"), resolve("picky/2")])
    good, bad = scoring.side_by_side(plan).orderBy("id").collect()
    assert (good["models:/picky/1"], good[scoring.ERRORS]) == (1.0, None)
    assert bad["models:/picky/1"] is None
    assert bad["models:/picky/2"] == pytest.approx(-1.0)
    assert [tuple(why) for why in bad[scoring.ERRORS]] == [
        ("models:/picky/1", "ValueError", "negative")
    ]


def test_a_model_that_sums_a_batch_up_is_no_model_of_rows(rows: DataFrame, register: Any) -> None:
    class Mean(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> np.ndarray:  # noqa: ARG002
            return np.array([model_input["b"].mean()])  # of a single row, a prediction

    register("mean", Mean(), pd.DataFrame({"b": [1.0]}), np.array([1.0]))
    for engine in ("arrow", "auto", "spark_udf"):
        with pytest.raises(ResultUnfit, match="a result of length 1 for a batch of length 200"):
            planned(rows, engine, [resolve("mean/1")])


def test_a_row_is_set_aside_whatever_its_error_is_like(spark: SparkSession, register: Any) -> None:
    class Rude(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> np.ndarray:  # noqa: ARG002
            if (model_input["b"] < 0).any():
                raise ValueError("bad \udcff")  # no text of UTF-8
            return np.squeeze(model_input.to_numpy())  # of a single row, no array at all

    register("rude", Rude(), pd.DataFrame({"b": [1.0, 2.0]}), np.array([1.0, 2.0]))
    table = spark.createDataFrame([(1, 1.0), (2, -1.0), (3, 3.0)], "id int, b double")
    scored = scoring.side_by_side(planned(table, "arrow", [resolve("rude/1")]))
    by_id = {row["id"]: row for row in scored.collect()}
    assert (by_id[1][1], by_id[2][1], by_id[3][1]) == (1.0, None, 3.0)
    assert by_id[2][scoring.ERRORS][0]["message"] == "bad \\udcff"
