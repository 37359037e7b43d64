"""Tables, files and folders that cannot be read or written say so in one line, and name it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import score
from builders.jobs import score_job
from builders.tables import rows_of
from mlflow.pyfunc import PythonModel
from sklearn.linear_model import LinearRegression

from lakescore import explaining, tables
from lakescore.config import ScoreJob
from lakescore.encoding import as_json
from lakescore.errors import ScoringFailed
from lakescore.scanning import FileUnreadable
from lakescore.snapshots import NotADeltaTable, ViewNotPinned
from lakescore.storage import FolderRefused
from lakescore.tables import SchemaDrift, TableAppendOnly

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

Job = Callable[..., ScoreJob]
X = pd.DataFrame({"x": [0.0, 1.0]})
PLACE = {"model_name": ["m"], "slice": ["a"]}
pytestmark = pytest.mark.usefixtures("spark")


@pytest.fixture(scope="module", autouse=True)
def models(register: Any) -> None:
    register("refused", LinearRegression().fit(X, 2 * X["x"]), X)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return partial(score_job, tmp_path, model="refused/1")


@pytest.fixture
def row(spark: SparkSession) -> Callable[[float | None], DataFrame]:
    schema = "model_name string, slice string, id int, prediction double, note string"
    return lambda value: spark.createDataFrame([("m", "a", 1, value, "long note")], schema)


def one_line(error: BaseException, code: int) -> str:
    assert getattr(error, "exit_code", None) == code
    assert str(error).isprintable()
    return str(error)


# What an output's own rules refuse.


@pytest.mark.parametrize(
    ("column", "rule", "value", "sentence", "merged"),
    [
        ("prediction DOUBLE", "ADD CONSTRAINT low CHECK (prediction < 3)", 9.0,
         "CHECK constraint low (prediction < 3) violated by row with values: - prediction : 9.0",
         "CHECK constraint low (prediction < 3) violated by row with values: - prediction : 9.0"),
        ("prediction DOUBLE NOT NULL", "", None,
         "NOT NULL constraint violated for column: prediction",
         "NULL value appeared in non-nullable field;"),
        ("prediction DOUBLE, note VARCHAR(3)", "", 1.0, 'Value "long note" exceeds char/varchar',
         "Exceeds char/varchar type length limitation: 3"),
    ],
    ids=["CHECK", "NOT NULL", "VARCHAR"],
)  # fmt: skip
def test_a_rule_of_the_output_that_a_row_breaks_is_named(  # noqa: PLR0913, PLR0917
    spark: SparkSession, row: Any, column: str, rule: str, value: Any, sentence: str, merged: str
) -> None:
    columns = f"model_name STRING, slice STRING, id INT, {column}"
    spark.sql("DROP TABLE IF EXISTS ruled")
    spark.sql(f"CREATE TABLE ruled ({columns}) USING delta PARTITIONED BY (model_name, slice)")
    if rule:
        spark.sql(f"ALTER TABLE ruled {rule}")
    rows = row(value).select(*spark.table("ruled").columns)

    def append() -> None:
        asked: dict[str, Any] = {"where": PLACE, "metadata": {}, "append": True}
        with tables.begin(spark, rows.schema, "ruled", **asked) as begun:
            begun.write(rows).commit()

    def merge() -> None:
        tables.merge(rows, "ruled", keys=["id"], within={"model_name": "m"}, metadata={})

    def replace() -> None:
        tables.replace(rows, "ruled", where=PLACE, metadata={})

    for write, told in ((replace, sentence), (append, merged), (merge, merged)):
        with pytest.raises(SchemaDrift) as refused:
            write()
        if spark.version < "4":
            told = told.replace("NULL value", "Null value")  # noqa: PLW2901 - as it writes
        assert told in one_line(refused.value, 5)
    assert spark.table("ruled").isEmpty()


def test_rows_of_a_table_that_only_grows_are_not_replaced_and_none_is_left_behind(
    spark: SparkSession, tmp_path: Path, row: Any
) -> None:
    new, old = tmp_path / "new", str(tmp_path / "old")
    spark.conf.set("spark.databricks.delta.properties.defaults.appendOnly", "true")
    try:
        with pytest.raises(TableAppendOnly, match=r"defaults\.appendOnly makes") as refused:
            tables.replace(row(1.0), str(new), where=PLACE, metadata={})
        rows, asked = row(1.0), {"where": PLACE, "metadata": {}, "append": True}
        tables.begin(spark, rows.schema, old, **asked).write(rows).commit()
    finally:
        spark.conf.unset("spark.databricks.delta.properties.defaults.appendOnly")
    assert "set write_mode: append" in one_line(refused.value, 5)
    assert not new.exists()
    with pytest.raises(TableAppendOnly, match="it is append-only"):
        tables.replace(row(2.0), old, where=PLACE, metadata={})
    with pytest.raises(TableAppendOnly, match="it is append-only"):
        tables.merge(row(2.0), old, keys=["id"], within={"model_name": "m"}, metadata={})
    assert rows_of(old, "prediction") == [(1.0,)]


# Folders.


@pytest.fixture
def immutable(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder that even root cannot write to."""
    folder = tmp_path / "immutable"
    folder.mkdir()
    change = shutil.which("chattr")
    if change is None or subprocess.run([change, "+i", folder], check=False).returncode:
        pytest.skip("an immutable folder needs root, chattr and a file system that knows it")
    yield folder
    subprocess.run([change, "-i", folder], check=True)


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path, row: Any) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(FolderRefused, match=r"Cannot create file:.*/file/pre") as refused:
        tables.replace(row(1.0), str(tmp_path / "file/predictions"), where=PLACE, metadata={})
    one_line(refused.value, 2)


def test_an_immutable_folder_is_told_in_one_line(immutable: Path, row: Any) -> None:
    for place in (immutable, immutable / "predictions"):
        with pytest.raises(FolderRefused, match="Cannot create file:") as refused:
            tables.replace(row(1.0), str(place), where=PLACE, metadata={})
        one_line(refused.value, 2)


PATTERNS = ["pred[1]", "pred*", "pred?", "pred[2024-01]", "p{re,x}d1", "back\\slash", "a=b%20c"]


@pytest.mark.parametrize("name", PATTERNS)
def test_a_path_is_itself_and_no_pattern(
    spark: SparkSession, tmp_path: Path, row: Any, name: str
) -> None:
    for other in ("pred1", "a b", "a:b"):  # what Hadoop would find by some of the patterns
        (tmp_path / other).mkdir()
        (tmp_path / other / "file").write_text("of another one")
    place = tmp_path / name
    tables.replace(row(1.0), str(place), where=PLACE, metadata={})
    assert (place / "_delta_log").is_dir()
    assert tables.snapshot(spark, str(place)).rows.count() == 1
    full = tmp_path / f"{name}-full"
    full.mkdir()
    (full / "file").write_text("no table")
    with pytest.raises(NotADeltaTable):
        tables.replace(row(1.0), str(full), where=PLACE, metadata={})


def test_a_job_runs_in_folders_whose_names_read_as_patterns(
    spark: SparkSession, tmp_path: Path, job: Job
) -> None:
    table = str(tmp_path / "rows[a-z]?")
    spark.createDataFrame([(1, 1.0)], "id int, x double").write.format("delta").save(table)
    for name in ("pred[2024-01]", "a=b%20c"):
        config = job(table, output=tmp_path / name)
        receipt = score.run(config)
        assert (receipt["engine"]["scan"], receipt["output"]["write"]) == ("direct", "direct")
        (explained,) = explaining.explain(config.output.address, {"id": "1"})
        assert explained["row"]["prediction"] == pytest.approx(2.0)


# Views.


def test_a_view_is_refused_with_its_reason(spark: SparkSession, job: Job) -> None:
    rows = spark.createDataFrame([(1, 1.0)], "id int, x double")
    for kind, name in (("delta", "viewed"), ("json", "viewed_json")):
        spark.sql(f"DROP TABLE IF EXISTS {name}")
        rows.write.format(kind).saveAsTable(name)
    spark.sql("CREATE OR REPLACE VIEW a_view AS SELECT * FROM viewed")
    spark.table("viewed").createOrReplaceTempView("passing_view")
    for name in ("a_view", "default.a_view", "spark_catalog.default.a_view", "passing_view"):
        with pytest.raises(ViewNotPinned, match=f"{name} is a view, but a run reads") as refused:
            score.run(job("", input={"table": name}))
        one_line(refused.value, 5)
    with pytest.raises(ViewNotPinned):
        tables.replace(rows, "a_view", where={"id": ["1"]}, metadata={})
    with pytest.raises(NotADeltaTable, match="viewed_json is not a Delta table"):
        tables.snapshot(spark, "viewed_json")


# Files that Spark cannot read.

IDS, XS = pa.array([1, 2], pa.int32()), pa.array([1.0, 2.0])
UNREADABLE = {
    "nanoseconds": ({"id": IDS, "x": XS, "at": pa.array([1, 2], pa.timestamp("ns", "UTC"))}, {}),
    "id beside ID": ({"id": IDS, "ID": IDS, "x": XS}, {}),
    "int64 for int": ({"id": pa.array([1, 2], pa.int64()), "x": XS}, {}),
    "uint32 for int": ({"id": pa.array([1, 2], pa.uint32()), "x": XS}, {}),
    "text for double": ({"id": IDS, "x": pa.array(["a", "b"])}, {}),
    "brotli": ({"id": IDS, "x": XS}, {"compression": "brotli"}),
}


def handmade(folder: Path, *files: tuple[dict[str, pa.Array], dict[str, Any]]) -> str:
    """Make a table of id, x and at, as a tool does that checks no types."""
    (folder / "_delta_log").mkdir(parents=True)
    kinds = {"id": "integer", "x": "double", "at": "timestamp"}
    fields = [{"name": n, "type": t, "nullable": True, "metadata": {}} for n, t in kinds.items()]
    actions: list[dict[str, Any]] = [
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {"metaData": {"id": folder.name, "format": {"provider": "parquet", "options": {}},
                      "schemaString": json.dumps({"type": "struct", "fields": fields}),
                      "partitionColumns": [], "configuration": {}}},
    ]  # fmt: skip
    for number, (columns, options) in enumerate(files):
        path = folder / f"part {number}.parquet"
        pq.write_table(pa.table(columns), path, **options)
        actions.append(
            {"add": {"path": f"part%20{number}.parquet", "partitionValues": {},
                     "size": path.stat().st_size, "modificationTime": 0, "dataChange": True,
                     "stats": json.dumps({"numRecords": 2})}}
        )  # fmt: skip
    (folder / "_delta_log" / f"{0:020}.json").write_text("\n".join(map(json.dumps, actions)))
    return str(folder)


GOOD = (
    {
        "id": pa.array([3, 4], pa.int32()),
        "x": XS,
        "at": pa.array([1, 2], pa.timestamp("us", "UTC")),
    },
    {},
)


@pytest.mark.parametrize(
    ("kind", "engine"),
    [
        *[(kind, "auto") for kind in UNREADABLE if kind != "brotli"],  # which workers can read
        *[(kind, "spark_udf") for kind in ("uint32 for int", "brotli")],
    ],
)
def test_a_file_that_spark_cannot_read_is_named_and_no_model_is_blamed(
    tmp_path: Path, job: Job, kind: str, engine: str
) -> None:
    table = handmade(tmp_path / "rows", GOOD, UNREADABLE[kind])
    keep = "fail" if engine == "auto" else "keep"  # else Spark compares the keys first
    with pytest.raises(FileUnreadable, match=r"cannot read .*/rows/part 1\.parquet, a") as refused:
        score.run(job(table, engine=engine, on_duplicate_key=keep, passthrough=["at"]))
    assert "refused/1" not in one_line(refused.value, 5)
    output = tmp_path / "predictions"
    assert not output.exists() or rows_of(output) == []


def test_a_file_that_workers_can_read_and_spark_cannot_is_scored(tmp_path: Path, job: Job) -> None:
    config = job(handmade(tmp_path / "rows", GOOD, UNREADABLE["brotli"]))
    score.run(config)
    assert rows_of(config.output.address, "id") == [(1,), (2,), (3,), (4,)]


# Dates and times.


def test_a_time_that_pandas_cannot_hold_is_named_with_its_column(
    spark: SparkSession, tmp_path: Path, job: Job, register: Any
) -> None:
    class Year(PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> Any:  # noqa: ARG002
            return model_input["at"].dt.year.astype("int64")

    inputs = pd.DataFrame({"at": pd.to_datetime(["2013-12-01", "2013-12-02"])})
    register("year", Year(), inputs, pd.Series([2013, 2013]))
    table = str(tmp_path / "rows")
    days = ["2013-12-01"] * 250 + ["9999-12-31", "1500-01-01"]  # behind those that are tried first
    rows = spark.createDataFrame(list(enumerate(days)), "id int, day string").coalesce(1)
    at = "TIMESTAMP(day || ' 10:00:00') AS at"
    rows.selectExpr("id", at).write.format("delta").save(table)
    named = "column 'at' holds a time such as 1500-01-01 10:00:00 in 2 rows, and pandas knows"
    if spark.version < "4":  # which hands such a column on as objects, and MLflow says so
        named = "Failed to enforce schema of data"
    with pytest.raises(ScoringFailed, match=named):
        score.run(job(table, model="year/1", engine="spark_udf"))


def test_a_plan_shows_maps_whose_keys_are_dates_and_years_that_python_does_not_know(
    spark: SparkSession, tmp_path: Path, job: Job
) -> None:
    table = str(tmp_path / "rows")
    spark.sql(
        "SELECT 1 AS id, 1.0D AS x, map(DATE'2020-01-01', 1) AS m, "
        "array(TIMESTAMP'+10000-01-01 00:00:00') AS a, struct(DATE'-0001-12-31' AS day) AS s, "
        "map(array(1, 2), map(1.5D, true)) AS n, map(CAST('key' AS BINARY), 1) AS b"
    ).write.format("delta").save(table)
    receipt = score.run(job(table, passthrough="all", plan=True))
    (shown,) = json.loads(as_json(receipt))["probe"]
    assert shown["m"] == {"2020-01-01": 1}
    assert shown["a"] == ["+10000-01-01 00:00:00"]
    assert shown["s"] == ["-0001-12-31"]
    assert shown["n"] == {"[1, 2]": {"1.5": True}}
    assert shown["b"] == {"key": 1}
