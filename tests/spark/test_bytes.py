"""A text that is not UTF-8 keeps its bytes, and no model gets the blame for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import score
from builders.jobs import score_job

from lakescore import scanning, slicing, tables
from lakescore.errors import InputContractError
from lakescore.explaining import explain
from lakescore.publishing import TooManyErrors
from lakescore.scanning import fetching

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

Write = Callable[["DataFrame", str], str]
ROWS = [  # RÉU as in Latin-1, beside its neighbour; a byte that no UTF-8 has; and plain texts
    ("52C955", 1.0),
    ("52C956", 2.0),
    ("FF", 13.0),
    ("61", 4.0),
    (None, 5.0),
]


@pytest.fixture(scope="module", autouse=True)
def model(register: Any) -> None:
    class Superstitious(mlflow.pyfunc.PythonModel):
        """Cannot score 13."""

        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            if (model_input["x"] == 13.0).any():
                raise ValueError("13 brings bad luck")
            return model_input["x"] * 2

    register("superstitious", Superstitious(), pd.DataFrame({"x": [1.0]}), np.array([2.0]))


@pytest.fixture
def table(spark: SparkSession, write: Write) -> str:
    rows = spark.createDataFrame(ROWS, "digits string, x double")
    return write(rows.selectExpr("CAST(unhex(digits) AS STRING) AS key", "x"), "rows")


@pytest.mark.parametrize("by", ["direct", "spark"])
def test_a_key_of_any_bytes_is_compared_written_set_aside_and_explained(
    spark: SparkSession, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    if by == "spark":
        monkeypatch.setattr(fetching, "MOST_ROWS_HERE", 0)  # so that workers compare the keys
    output, aside = str(tmp_path / "predictions"), str(tmp_path / "elsewhere")
    job = partial(
        score_job, tmp_path, table, model="superstitious/1", quarantine=aside, id_columns=["key"],
        max_errors=1, write=by, scan=by,
    )  # fmt: skip
    with pytest.raises(TooManyErrors):
        score.run(job(max_errors=0))
    (row,) = explain(output, {"key": r"\xff"})
    assert (row["status"], row["row"]["error_message"]) == ("quarantined", "13 brings bad luck")
    receipt = score.run(job())
    assert (receipt["rows_scored"], receipt["output"]["write"]) == (4, by)
    published = spark.read.format("delta").load(output)
    digits = published.selectExpr("hex(CAST(key AS BINARY))", "prediction").collect()
    expected = {(key, x * 2) for key, x in ROWS if x != 13.0}
    assert set(map(tuple, digits)) == expected
    # By what the log says; Spark hands Parquet's own filters the text that such bytes decode to.
    spark.conf.set("spark.sql.parquet.filterPushdown", "false")
    try:
        for key, x in ROWS[:2]:
            matching = published.where(f"key = CAST(X'{key}' AS STRING)").select("prediction")
            assert [row[0] for row in matching.collect()] == [x * 2]
    finally:
        spark.conf.unset("spark.sql.parquet.filterPushdown")
    bad = spark.read.format("delta").load(aside).selectExpr("hex(CAST(key AS BINARY))").collect()
    assert [row[0] for row in bad] == ["FF"]
    # As lakescore shows it, and as a shell passes it.
    for typed in (r"R\xc9U", b"R\xc9U".decode(errors="surrogateescape")):
        (row,) = explain(output, {"key": typed})
        assert (row["status"], row["row"]) == ("published", {"key": r"R\xc9U", "prediction": 2.0})
    assert [row["status"] for row in explain(output, {"key": r"\xff"})] == ["quarantined"]


def test_keys_of_the_same_bytes_are_one_key(spark: SparkSession, write: Write, table: str) -> None:
    rows = spark.read.format("delta").load(table)
    twice = write(rows.unionAll(rows.where("x = 1")), "twice")
    repeated = [
        scanning.repeats(slicing.select(tables.snapshot(spark, path), None, ["all"]), ["key"])
        for path in (table, twice)
    ]
    assert repeated == [0, 1]


def test_a_slice_cannot_be_named_by_such_a_text(spark: SparkSession, table: str) -> None:
    rows = spark.read.format("delta").load(table)
    with pytest.raises(InputContractError, match=r"not UTF-8, which cannot name a slice"):
        slicing.names(rows, "key")
