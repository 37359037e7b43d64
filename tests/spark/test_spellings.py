"""Tables whose log writes a slice's value in several ways: what counts is the value."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import score
from delta.tables import DeltaTable
from sklearn.linear_model import LinearRegression

from lakescore import slicing, tables
from lakescore.config import ScoreJob
from lakescore.errors import InputContractError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import SparkSession

X = pd.DataFrame({"x": [0.0, 1.0]})
NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"


@pytest.fixture(scope="module", autouse=True)
def models(register: Any) -> None:
    """One model doubles, and the other one does too, but for negative numbers."""

    class Picky(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            if (model_input["x"] < 0).any():
                raise ValueError("a negative number")
            return 2 * model_input["x"]

    register("spelled", LinearRegression().fit(X, 2 * X["x"]), X)
    register("spelled picky", Picky(), X, np.array([0.0, 2.0]))


def folders(place: Path, column: str, rows: Mapping[str, list[float]]) -> None:
    """Write a Parquet file with the x that *rows* has for each folder `column=text`."""
    number = 0
    for text, xs in rows.items():
        folder = place / f"{column}={text}"
        folder.mkdir(parents=True)
        ids = list(range(number, number + len(xs)))
        pq.write_table(pa.table({"id": pa.array(ids, pa.int64()), "x": xs}), folder / "f.parquet")
        number += len(xs)


@pytest.fixture
def divided(spark: SparkSession, tmp_path: Path) -> Callable[..., str]:
    """Make a Delta table of folders, as people convert Hive's, and return its path."""

    def make(kind: str, rows: Mapping[str, list[float]]) -> str:
        folders(tmp_path / "input", "part", rows)
        path = str(tmp_path / "input")
        spark.sql(f"CONVERT TO DELTA parquet.`{path}` PARTITIONED BY (part {kind})")
        return path

    return make


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., ScoreJob]:
    def make(**changes: Any) -> ScoreJob:
        plain: dict[str, Any] = {
            "model": "spelled/1",
            "input": {"path": str(tmp_path / "input")},
            "output": {"path": str(tmp_path / "predictions")},
            "id_columns": ["id"],
            "slice_by": "part",
            "slices": "due",
        }
        return ScoreJob.model_validate(plain | changes)

    return make


def outcomes(receipt: Mapping[str, Any]) -> dict[str, tuple[str, int, int]]:
    return {
        each["slice"]: (each["status"], each["rows_in"], each["rows_scored"])
        for each in receipt["slices"]
    }


def published(spark: SparkSession, todo: ScoreJob) -> list[tuple[str, float]]:
    rows = spark.read.format("delta").load(todo.output.address).select("slice", "prediction")
    return sorted((row[0], round(row[1], 6)) for row in rows.collect())


def doubled(place: str, values: Mapping[str, str]) -> list[tuple[str, float]]:
    """Return what the files hold, doubled, by the value that each folder's text is."""
    found = []
    for text, value in values.items():
        for file in sorted(Path(place, f"part={text}").glob("*.parquet")):
            found += [(value, round(2 * x, 6)) for x in pd.read_parquet(file, columns=["x"])["x"]]
    return sorted(found)


DAYS = {
    "2024-1-5": "2024-01-05",
    "2024-01-05": "2024-01-05",
    "2024-1-6": "2024-01-06",
    "2024-02": "2024-02-01",
}
TABLES = [
    ("INT", {"01": "1", "1": "1", "11": "11", "+2": "2", "-07": "-7", "-0": "0"}, "direct"),
    ("BIGINT", {"007": "7", "7": "7"}, "spark"),
    ("DATE", DAYS, "direct"),
    ("DATE", DAYS, "spark"),
    ("DATE", {"2024-1-5T": "2024-01-05", "2024-01-05": "2024-01-05"}, "direct"),  # by Spark alone
    ("STRING", {"01": "01", "1": "1", "2024-1-5": "2024-1-5"}, "direct"),  # its own value
]


@pytest.mark.parametrize(("kind", "values", "scan"), TABLES)
def test_a_slice_holds_all_rows_of_its_value_however_the_log_writes_it(  # noqa: PLR0913, PLR0917
    spark: SparkSession,
    divided: Callable[..., str],
    job: Callable[..., ScoreJob],
    kind: str,
    values: dict[str, str],
    scan: str,
) -> None:
    rows = {text: [n + 0.25, n + 0.5, n + 0.75][: 1 + n % 3] for n, text in enumerate(values)}
    place = divided(kind, {**rows, NULL_FOLDER: [99.0]})  # whose row is of no slice
    expected = doubled(place, values)
    sizes = Counter(value for value, _ in expected)
    first = next(iter(values.values()))

    one = score.run(job(slices=[first], scan=scan))
    assert outcomes(one) == {first: ("scored", sizes[first], sizes[first])}
    assert published(spark, job()) == [each for each in expected if each[0] == first]

    due = outcomes(score.run(job(scan=scan)))
    assert due[first] == ("unchanged", sizes[first], 0)
    assert {name: due[name][1] for name in due} == dict(sizes)
    assert published(spark, job()) == expected

    more = spark.createDataFrame([(1000, 50.0, first)], "id long, x double, part string")
    more = more.withColumn("part", more["part"].cast(kind.lower()))
    more.write.format("delta").mode("append").save(place)
    again = outcomes(score.run(job(scan=scan)))
    assert again.pop(first) == ("scored", sizes[first] + 1, sizes[first] + 1)
    assert {status for status, *_ in again.values()} <= {"unchanged"}
    assert published(spark, job()) == sorted([*expected, (first, 100.0)])


def test_a_range_of_days_holds_days_however_the_log_writes_them(
    spark: SparkSession, divided: Callable[..., str], job: Callable[..., ScoreJob]
) -> None:
    place = divided("DATE", {"2024-1-5": [1.0], "2024-01-05": [2.0], "2024-1-06": [3.0]})
    receipt = score.run(job(slices="2024-01-04..2024-01-06"))
    assert outcomes(receipt) == {
        "2024-01-04": ("empty", 0, 0),
        "2024-01-05": ("scored", 2, 2),
        "2024-01-06": ("scored", 1, 1),
    }
    days = {"2024-1-5": "2024-01-05", "2024-01-05": "2024-01-05", "2024-1-06": "2024-01-06"}
    assert published(spark, job()) == doubled(place, days)


def test_rows_set_aside_are_counted_by_value_too(
    spark: SparkSession, divided: Callable[..., str], job: Callable[..., ScoreJob]
) -> None:
    divided("INT", {"01": [-1.0, 1.0], "1": [-2.0, 2.0, 3.0], "2": [4.0]})
    for scan in ("direct", "spark"):
        output = {"path": f"{job().output.address}-{scan}"}
        todo = job(model="spelled picky/1", max_errors=2, scan=scan, output=output)
        receipt = score.run(todo)
        assert outcomes(receipt) == {"1": ("scored", 5, 3), "2": ("scored", 1, 1)}
        aside = spark.read.format("delta").load(todo.aside).select("slice", "id").collect()
        assert sorted(map(tuple, aside)) == [("1", 0), ("1", 2)]
        assert score.run(todo)["status"] == "unchanged"


def test_files_that_go_make_the_slice_of_their_value_due(
    spark: SparkSession, divided: Callable[..., str], job: Callable[..., ScoreJob]
) -> None:
    place = divided("INT", {"01": [1.0], "1": [2.0], "2": [3.0]})
    score.run(job())
    DeltaTable.forPath(spark, place).delete("x = 1.0")  # the whole file of folder 01
    assert outcomes(score.run(job()))["1"] == ("scored", 1, 1)
    assert published(spark, job()) == [("1", 4.0), ("2", 6.0)]


def test_a_file_of_any_name_makes_its_slice_due(
    spark: SparkSession, job: Callable[..., ScoreJob], tmp_path: Path
) -> None:
    name = "50% + a%20b.parquet"
    rows = spark.createDataFrame([(1, 1.0, 1), (2, 2.0, 2)], "id long, x double, part int")
    place = str(tmp_path / "input")
    rows.coalesce(1).write.format("delta").save(place)  # is not divided by part
    score.run(job())
    path = tmp_path / "input" / name
    more = {"id": pa.array([3], pa.int64()), "x": [3.0], "part": pa.array([2], pa.int32())}
    pq.write_table(pa.table(more), path)
    add = {"path": quote(name), "partitionValues": {}, "size": path.stat().st_size,
           "modificationTime": 0, "dataChange": True, "stats": '{"numRecords": 1}'}  # fmt: skip
    (tmp_path / "input/_delta_log" / f"{1:020}.json").write_text(json.dumps({"add": add}))
    receipt = score.run(job())
    assert outcomes(receipt) == {"1": ("unchanged", 1, 0), "2": ("scored", 2, 2)}
    assert published(spark, job()) == [("1", 2.0), ("2", 4.0), ("2", 6.0)]


@pytest.mark.parametrize("divides", [True, False])
def test_a_text_of_fixed_length_is_the_padded_one_that_spark_reads(
    spark: SparkSession, job: Callable[..., ScoreJob], *, divides: bool
) -> None:
    name = f"padded_{divides}".lower()
    by = "PARTITIONED BY (part)" if divides else ""
    spark.sql(f"CREATE TABLE {name} (id BIGINT, x DOUBLE, part CHAR(4)) USING delta {by}")
    spark.sql(f"INSERT INTO {name} VALUES (1, 1.0, 'ab'), (2, 2.0, 'abcd')")
    source = {"table": name}
    with pytest.raises(InputContractError, match=r"a char\(4\), is written with spaces up to 4 le"):
        score.run(job(input=source, slices=["ab"]))
    assert outcomes(score.run(job(input=source, slices=["ab  "]))) == {"ab  ": ("scored", 1, 1)}
    score.run(job(input=source))
    assert published(spark, job()) == [("ab  ", 2.0), ("abcd", 4.0)]
    assert score.run(job(input=source))["status"] == "unchanged"


@pytest.mark.parametrize(
    ("kind", "inside", "outside", "limits"),
    [
        ("tinyint", "-128", "300", "a tinyint is from -128 to 127"),
        ("smallint", "32767", "32768", "a smallint is from -32768 to 32767"),
        ("int", "-2147483648", "-2147483649", "a int is from -2147483648 to 2147483647"),
        ("bigint", "9223372036854775807", "9223372036854775808", "to 9223372036854775807"),
    ],
)
def test_a_slice_out_of_the_columns_range_is_refused_in_one_line(  # noqa: PLR0913, PLR0917
    spark: SparkSession, tmp_path: Path, kind: str, inside: str, outside: str, limits: str
) -> None:
    place = str(tmp_path / "input")
    spark.sql(f"SELECT 1 AS id, CAST({inside} AS {kind}) AS part").write.format("delta").save(place)
    rows = tables.snapshot(spark, place).rows
    assert slicing.sizes(slicing.select(rows, "part", [inside])) == {inside: 1}
    with pytest.raises(InputContractError, match=f"out of the range of column 'part': .*{limits}"):
        slicing.select(rows, "part", [outside])
