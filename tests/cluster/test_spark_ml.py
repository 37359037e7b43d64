"""Pipelines of Spark ML on a cluster and by Spark Connect, whose machines must see their files."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from clusters import finish
from deltalake import DeltaTable, write_deltalake

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Place

ROWS = 500
PROGRAM = """
import json
import mlflow
from mlflow.models import infer_signature
from pyspark.ml import Pipeline
from pyspark.ml.feature import StringIndexer, VectorAssembler
from pyspark.ml.regression import LinearRegression
from pyspark.sql import SparkSession

spark = SparkSession.builder.master("local[1]").getOrCreate()
trained = [(float(n % 7), "ab"[n % 2], 2.0 * (n % 7) + n % 2 + n % 3) for n in range(60)]
rows = spark.createDataFrame(trained, "x double, kind string, label double")
indexer = StringIndexer(inputCol="kind", outputCol="kind_ix", stringOrderType="alphabetAsc")
vectors = VectorAssembler(inputCols=["x", "kind_ix"], outputCol="features", handleInvalid="skip")
fitted = Pipeline(stages=[indexer, vectors, LinearRegression()]).fit(rows)
inputs = rows.select("x", "kind")
signature = infer_signature(inputs, fitted.transform(inputs).select("prediction"))
mlflow.set_tracking_uri("STORE")
mlflow.set_experiment("models")
options = {"signature": signature, "pip_requirements": ["pyspark"], "dfs_tmpdir": "FOLDER"}
with mlflow.start_run():
    logged = mlflow.spark.log_model(fitted, "model", **options)
mlflow.register_model(logged.model_uri, "of spark")
model = fitted.stages[2]
print(json.dumps([*model.coefficients.toArray().tolist(), model.intercept]))
"""


@pytest.fixture(scope="module")
def weights(home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Register a pipeline in a session of Spark of its own, and return its weights."""
    names = {
        "STORE": f"sqlite:///{home / 'mlflow.db'}",
        "FOLDER": str(tmp_path_factory.mktemp("t")),
    }
    program = PROGRAM
    for name, meant in names.items():
        program = program.replace(name, meant)
    ended = finish(sys.executable, "-c", program, variables={}, folder=home)
    assert ended.returncode == 0, ended.stderr
    fitted: list[float] = json.loads(ended.stdout)
    return fitted


@pytest.fixture(scope="module")
def rows(home: Path) -> pd.DataFrame:
    """Write a table of two files, and return its rows."""
    data = pd.DataFrame({"id": range(ROWS), "x": np.random.default_rng(5).normal(size=ROWS)})
    data["kind"] = [f"{'ab'[n % 2]}" for n in range(ROWS)]
    for start in (0, ROWS // 2):
        part = data[start : start + ROWS // 2]
        write_deltalake(str(home / "tables/of_spark"), part, mode="append")
    return data


def scoring_into(output: str, **more: Any) -> dict[str, Any]:
    return {
        "model": "of spark/1",
        "input": {"path": "tables/of_spark"},
        "output": {"path": f"tables/{output}"},
        "id_columns": ["id"],
        **more,
    }


def test_spark_applies_a_pipeline_in_all_places(
    place: Place, weights: list[float], rows: pd.DataFrame, home: Path
) -> None:
    output = f"{place.kind}_of_spark"
    receipt = place.run("score", **scoring_into(output))
    assert (receipt["status"], receipt["rows_scored"]) == ("scored", ROWS)
    assert receipt["engine"]["name"] == "spark_ml"
    scored = DeltaTable(str(home / "tables" / output)).to_pandas().sort_values("id")
    assert scored["id"].tolist() == rows["id"].tolist()
    inputs = np.column_stack([rows["x"], rows["kind"] == "b"])
    np.testing.assert_allclose(scored["prediction"], inputs @ weights[:2] + weights[2], rtol=1e-9)
    if place.kind == "connect":  # the last request of a client that is still open as Python ends
        assert "clean_cache" not in place.file.with_name("server.log").read_text()


@pytest.mark.usefixtures("weights", "rows")
def test_a_cluster_that_does_not_see_the_files_of_a_pipeline_is_told_in_one_line(
    blind: Place, home: Path
) -> None:
    job = blind.start("score", **scoring_into("never"))
    _, errors = job.process.communicate(timeout=500)
    last = json.loads(errors.splitlines()[-1])
    assert (job.process.returncode, last["context"]["code"]) == (2, "pipeline_not_shared")
    assert last["msg"].startswith("Spark cannot read the files of models:/of spark/1 in ")
    assert "start the job with TMPDIR in such a folder" in last["msg"]
    assert not (home / "tables/never").exists()
