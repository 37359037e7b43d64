"""What a failed first run leaves: an empty table of ours, which the next run may make anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import score
from builders.jobs import score_job
from builders.tables import make_table, rows_of, types_of
from delta.tables import DeltaTable

from lakescore import lineage, tables
from lakescore.logs import AnotherRunWon
from lakescore.publishing import TooManyErrors
from lakescore.tables import SchemaDrift

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

PLACE = {"slice": ["a", "b"]}
WHOLE, PRECISE = "id int, slice string, prediction bigint", "slice string, prediction double"


def frame(spark: SparkSession, schema: str, *rows: tuple[Any, ...]) -> DataFrame:
    return spark.createDataFrame(list(rows), schema)


def begun(rows: DataFrame, address: str, **more: Any) -> tables.Transaction:
    asked: dict[str, Any] = {"where": PLACE, "metadata": {"slices": []}} | more
    return tables.begin(rows.sparkSession, rows.schema, address, **asked).write(rows)


def read(spark: SparkSession, address: str) -> list[tuple[Any, ...]]:
    rows = tables.snapshot(spark, address).rows
    return sorted(map(tuple, rows.select("slice", "prediction").collect()))


@pytest.fixture(params=["path", "name"])
def failed(request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path) -> str:
    """Return a table that a run made, which then wrote its files and died."""
    address = str(tmp_path / "failed") if request.param == "path" else "a_failed_run"
    spark.sql("DROP TABLE IF EXISTS a_failed_run")
    begun(frame(spark, WHOLE, (1, "a", 1)), address, find_by=["id"])
    return address


def test_a_table_that_no_run_published_to_takes_the_columns_of_the_first_that_does(
    spark: SparkSession, failed: str
) -> None:
    rows = frame(spark, PRECISE, ("a", 1.5), ("b", 2.5))
    begun(rows, failed, find_by=["prediction"]).commit()
    assert tables.snapshot(spark, failed).rows.dtypes == rows.dtypes
    assert read(spark, failed) == [("a", 1.5), ("b", 2.5)]
    begun(frame(spark, PRECISE, ("b", 3.5)), failed).commit()
    assert read(spark, failed) == [("b", 3.5)]


def test_a_table_stays_as_it_is_once_rows_were_there(spark: SparkSession, failed: str) -> None:
    begun(frame(spark, WHOLE, (1, "a", 7)), failed).commit()
    with pytest.raises(SchemaDrift):
        begun(frame(spark, PRECISE, ("a", 1.5)), failed)
    begun(frame(spark, WHOLE), failed).commit()  # and are gone
    with pytest.raises(SchemaDrift):
        begun(frame(spark, PRECISE, ("a", 1.5)), failed)


@pytest.mark.parametrize("touched", ["made", "filled and emptied"])
def test_an_empty_table_that_a_person_had_a_hand_in_stays_as_it_is(
    spark: SparkSession, failed: str, *, touched: str
) -> None:
    address = failed
    if touched == "made":
        address += "_by_hand"
        target = f"LOCATION '{address}'" if "/" in address else ""
        name = "made_by_hand" if "/" in address else address
        spark.sql(f"DROP TABLE IF EXISTS {name}")
        spark.sql(f"CREATE TABLE {name} ({WHOLE}) USING delta PARTITIONED BY (slice) {target}")
    else:
        at = DeltaTable.forPath if "/" in address else DeltaTable.forName
        row = frame(spark, WHOLE, (1, "a", 1)).write.format("delta").mode("append")
        row.save(address) if "/" in address else row.saveAsTable(address)
        at(spark, address).delete()
    with pytest.raises(SchemaDrift):
        begun(frame(spark, PRECISE, ("a", 1.5)), address)


def test_of_two_runs_that_make_a_table_anew_at_once_one_wins(
    spark: SparkSession, failed: str
) -> None:
    asked = [frame(spark, WHOLE, (1, "b", 1)), frame(spark, PRECISE, ("a", 1.5))]
    old, new = [
        begun(rows, failed, where={"slice": [place]})
        for place, rows in zip("ba", asked, strict=True)  # two different slices
    ]
    new.commit()
    with pytest.raises(AnotherRunWon):
        old.commit()
    assert read(spark, failed) == [("a", 1.5)]


def test_a_run_that_publishes_first_keeps_its_columns(spark: SparkSession, failed: str) -> None:
    asked = [frame(spark, WHOLE, (1, "b", 1)), frame(spark, PRECISE, ("a", 1.5))]
    old, new = [
        begun(rows, failed, where={"slice": [place]})
        for place, rows in zip("ba", asked, strict=True)
    ]
    old.commit()
    with pytest.raises(AnotherRunWon):
        new.commit()
    assert read(spark, failed) == [("b", 1)]


@pytest.mark.parametrize(
    ("schema", "row"),
    [
        ("slice string, prediction double", ("a", 1.9)),  # would be 1
        ("slice string, prediction float", ("a", 1.9)),
        ("slice string, prediction boolean", ("a", True)),
        ("slice string, prediction bigint, decision string", ("a", 1, "late")),  # would be dropped
    ],
)
def test_rows_of_other_columns_are_not_merged(
    spark: SparkSession, tmp_path: Path, schema: str, row: tuple[Any, ...]
) -> None:
    path = str(tmp_path / "merged")
    begun(frame(spark, "slice string, prediction bigint", ("a", 7)), path).commit()
    with pytest.raises(SchemaDrift, match=r"its column prediction is|no column decision"):
        tables.merge(
            frame(spark, schema, row), path, keys=["slice"], within={"slice": "a"}, metadata={}
        )
    assert read(spark, path) == [("a", 7)]


@pytest.fixture(scope="module")
def mended(register: Any) -> str:
    """Version 1 gives long, version 2 double; both refuse negative numbers."""

    class Times(mlflow.pyfunc.PythonModel):
        def __init__(self, factor: float, kind: str) -> None:
            self.factor, self.kind = factor, kind

        def predict(self, context: Any, model_input: pd.DataFrame) -> Any:  # noqa: ARG002
            if (model_input["x"] < 0).any():
                raise ValueError("negative")
            return (self.factor * model_input["x"]).astype(self.kind)

    x = pd.DataFrame({"x": [1.0]})
    register("mended", Times(1, "int64"), x, np.array([1]))
    register("mended", Times(2.5, "float64"), x, np.array([1.0]))
    return "mended"


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("mode", ["replace", "merge"])
def test_a_version_of_another_type_is_scored_into_what_a_failed_run_left(
    mended: str, tmp_path: Path, mode: str
) -> None:
    output = str(tmp_path / "predictions")
    rows = make_table(tmp_path / "rows", [(1, 1.0), (2, 2.0), (3, -3.0)], "id int, x double")
    with pytest.raises(TooManyErrors):
        score.run(score_job(tmp_path, rows, model=f"{mended}/1", write_mode=mode))
    assert rows_of(output) == []
    second = score_job(tmp_path, rows, model=f"{mended}/2", write_mode=mode, max_errors=1)
    receipt = score.run(second)
    assert (receipt["rows_scored"], receipt["rows_quarantined"]) == (2, 1)
    assert types_of(output)["prediction"] == "double"
    assert rows_of(output, "id", "prediction", "model_version") == [(1, 2.5, 2), (2, 5.0, 2)]
    assert rows_of(f"{output}_quarantine", "id", "model_version") == [(3, 2)]
    assert score.run(second)["status"] == "unchanged"


def test_a_quarantine_that_a_run_left_empty_takes_the_columns_of_the_next(
    spark: SparkSession, mended: str, tmp_path: Path
) -> None:
    aside = str(tmp_path / "predictions_quarantine")
    kinds = {"model_version": "int", "input_version": "bigint", "scored_at": "timestamp"}
    columns = ["id string", *[f"{name} {kinds.get(name, 'string')}" for name in lineage.COLUMNS]]
    place = {"model_name": ["mended"], "slice": ["all"]}
    died = frame(spark, ", ".join(columns))
    begun(died, aside, where=place, find_by=["id"])
    rows = make_table(tmp_path / "rows", [(1, 1.0), (2, -2.0)], "number int, x double")
    job = score_job(tmp_path, rows, model=f"{mended}/2", id_columns=["number"], max_errors=1)
    receipt = score.run(job)
    assert (receipt["rows_scored"], receipt["rows_quarantined"]) == (1, 1)
    assert rows_of(aside, "number", "error_message") == [(2, "negative")]
