"""Columns, slices, tables and dates with unusual names and values: scored as others, or refused."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import score
from builders.jobs import score_job
from builders.tables import make_table, rows_of
from sklearn.linear_model import LinearRegression

from lakescore import explaining, slicing
from lakescore.config import ScoreJob, load
from lakescore.encoding import as_json
from lakescore.errors import InputContractError
from lakescore.provenance import COLUMNS
from lakescore.signature import ColumnsCollide, ColumnsUnfit
from lakescore.slicing import DuplicateKeys
from lakescore.storage import TableNotFound
from lakescore.tables import TableNotMade

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import SparkSession

X = pd.DataFrame({"x": [0.0, 1.0]})
NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
pytestmark = pytest.mark.usefixtures("spark")


@pytest.fixture(scope="module", autouse=True)
def models(register: Any) -> None:
    """Register a model that doubles x, and one that doubles a feature named as a lineage column."""
    register("odd", LinearRegression().fit(X, 2 * X["x"]), X)
    feature = X.rename(columns={"x": "slice"})
    register("odd feature", LinearRegression().fit(feature, 2 * feature["slice"]), feature)


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., ScoreJob]:
    return partial(score_job, tmp_path, model="odd/1")


def read(spark: SparkSession, config: ScoreJob, *columns: str) -> list[tuple[Any, ...]]:
    address = config.output.address
    reader = spark.read.format("delta")
    rows = reader.load(address) if "/" in address else reader.table(address)
    records = rows.select(*[f"`{name}`" for name in columns]).collect()
    return sorted(tuple(round(v, 6) if isinstance(v, float) else v for v in row) for row in records)


@pytest.mark.parametrize("scan", ["direct", "spark"])
def test_columns_may_be_called_like_those_of_a_worker(
    spark: SparkSession, tmp_path: Path, job: Any, scan: str
) -> None:
    names = ("k1", "k0", "p0", "why", "f0", "c0", "_slice", "_errors", "_k0", "rows", "a.b",
             "error_type", "x")  # fmt: skip
    rows = [(0.0, *range(1, len(names) - 1), 1.0), (1.0, *range(1, len(names) - 1), 2.0)]
    schema = ", ".join(f"`{name}` double" for name in names)
    table = make_table(tmp_path / "rows", [[*map(float, row)] for row in rows], schema)
    config = job(table, id_columns=["k1"], passthrough="all", scan=scan)
    assert score.run(config)["engine"]["scan"] == scan
    expected = [(*map(float, row), 2 * row[-1]) for row in rows]
    assert read(spark, config, *names, "prediction") == expected
    again = job(table, id_columns=["rows"])
    with pytest.raises(DuplicateKeys, match=r"share their rows with .* such as 9\.0"):
        score.run(again)


def test_a_feature_may_be_called_like_the_lineage_and_what_is_written_may_not(
    tmp_path: Path, job: Any
) -> None:
    table = make_table(tmp_path / "rows", [(1, 1.0)], "id int, slice double")
    config = job(table, model="odd feature/1")
    score.run(config)
    written = rows_of(config.output.address, "id", "prediction", "slice")
    assert written == [(1, pytest.approx(2.0), "all")]
    with pytest.raises(ColumnsCollide, match="the output would have the columns 'slice' twice"):
        score.run(job(table, model="odd feature/1", passthrough="all"))
    with pytest.raises(ColumnsCollide, match="the quarantine would have the columns 'slice' twice"):
        score.run(job(table, model="odd feature/1", quarantine_columns="all"))
    keys = make_table(tmp_path / "keys", [(1, 1.0)], "Error_Type int, x double")
    with pytest.raises(
        ColumnsCollide, match="the quarantine would have the columns 'Error_Type', 'error_t"
    ):
        score.run(job(keys, id_columns=["Error_Type"]))


def test_names_that_cannot_be_used_are_refused_where_they_are(
    spark: SparkSession, tmp_path: Path, job: Any
) -> None:
    table = str(tmp_path / "quoted")
    quoted = spark.createDataFrame([(1, 1.0, 2)], "id int, x double, `a``b` int")
    quoted.write.format("delta").save(table)
    assert score.run(job(table))["rows_scored"] == 1  # the job does not use that column
    with pytest.raises(ColumnsUnfit, match="columns 'a`b', but a name cannot hold a backtick"):
        score.run(job(table, passthrough="all"))
    table = make_table(tmp_path / "own", [(1, 1.0, 2)], "id int, x double, _Lakescore_p int")
    with pytest.raises(ColumnsUnfit, match="names that begin with _lakescore_ are lakescore's own"):
        score.run(job(table))
    spaced = str(table) + "-spaced"
    frame = spark.createDataFrame([(1, 1.0)], "`my id` int, x double")
    frame.write.format("delta").option("delta.columnMapping.mode", "name").save(spaced)
    config = job(spaced, id_columns=["my id"], output=f"{spaced}-predictions")
    with pytest.raises(TableNotMade, match=r"cannot be created: .*Found invalid character"):
        score.run(config)


@pytest.mark.parametrize("divided", [False, True])
def test_slices_are_called_as_they_like_to_be(
    spark: SparkSession, tmp_path: Path, job: Any, *, divided: bool
) -> None:
    odd = ["a/b", "100%", "it's", 'q"q', "üñí→", "dot.", "space ", " lead", "..", ".", "a\nb",
           "a\\b", "a=b", "%2F", "null", "\x01", "a`b", "🚀", "x" * 240]  # fmt: skip
    table = str(tmp_path / "rows")
    rows = [(n, name, float(n)) for n, name in enumerate(odd)]
    writer = spark.createDataFrame(rows, "id int, part string, x double").write.format("delta")
    (writer.partitionBy("part") if divided else writer).save(table)
    config = job(table, slice_by="part", slices=odd)
    assert score.run(config)["rows_scored"] == len(odd)
    assert read(spark, config, "id", "slice", "prediction") == [
        (n, name, 2.0 * n) for n, name in enumerate(odd)
    ]
    assert score.run(job(table, slice_by="part", slices="due"))["status"] == "unchanged"
    (explained,) = explaining.explain(config.output.address, {"id": str(odd.index("🚀"))})
    assert explained["slice"] == "🚀"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "rows whose column 'part' is empty belong to no slice"),
        (NULL_FOLDER, f"is {NULL_FOLDER} cannot be a slice: in a table that is partitioned by it"),
        ("x" * 250, "needs a folder whose name has 256 bytes, and a file system takes 255"),
        ("ü" * 125, "needs a folder whose name has 256 bytes"),
        ("/" * 84, "needs a folder whose name has 258 bytes"),
    ],
)
def test_a_slice_that_no_folder_can_hold_is_refused(
    spark: SparkSession, name: str, sentence: str
) -> None:
    rows = spark.createDataFrame([(1, name), (2, "good")], "id int, part string")
    with pytest.raises(InputContractError, match=sentence):
        slicing.select(rows, "part", [name])
    if name:
        with pytest.raises(InputContractError, match=sentence):
            slicing.names(rows, "part")
    else:
        assert slicing.names(rows, "part") == ["good"]


def test_dates_before_and_after_those_of_python_pass_through_and_are_shown(
    spark: SparkSession, tmp_path: Path, job: Any
) -> None:
    table = str(tmp_path / "rows")
    days = ["+10000-01-01", "1500-02-28", "0001-01-01", "-0001-12-31"]
    made = [
        f"SELECT {n} AS id, DATE'{day}' AS day, TIMESTAMP'{day} 10:00:00' AS at, 1.0D AS x"
        for n, day in enumerate(days)
    ]
    rows = spark.sql(" UNION ALL ".join(made))
    rows.write.format("delta").save(table)
    keys = {"id_columns": ["day", "at"], "passthrough": "all"}
    planned = score.run(job(table, **keys, plan=True))
    shown = sorted((row["id"], row["day"], row["at"], row["slice"]) for row in planned["probe"])
    assert shown == [(n, day, f"{day} 10:00:00", "all") for n, day in enumerate(days)]
    config = job(table, **keys)
    score.run(config)
    output = spark.read.format("delta").load(config.output.address)
    texts = output.selectExpr("id", "string(day)", "string(at)").orderBy("id").collect()
    assert [tuple(row) for row in texts] == [row[:3] for row in shown]
    twice = rows.where("id = 0")
    twice.write.format("delta").mode("append").save(table)
    with pytest.raises(DuplicateKeys, match=r"such as \+10000-01-01"):
        score.run(config)
    with pytest.raises(InputContractError, match="is not a date of the years 1 to 9999"):
        slicing.names(rows, "day")
    assert slicing.names(rows.where("id IN (1, 2)"), "day") == ["0001-01-01", "1500-02-28"]
    old = slicing.select(spark.read.format("delta").load(table), "day", ["1500-02-28"])
    assert slicing.sizes(old) == {"1500-02-28": 1}


def test_a_table_may_be_named_with_its_catalog(spark: SparkSession, job: Any) -> None:
    spark.sql("CREATE SCHEMA IF NOT EXISTS lake")
    rows = spark.createDataFrame([(1, "a", 1.0)], "id int, part string, x double")
    spark.sql("DROP TABLE IF EXISTS lake.rows")
    rows.write.format("delta").saveAsTable("lake.rows")

    def run(**changes: Any) -> str:
        plain = {
            "input": {"table": "spark_catalog.lake.rows"},
            "output": {"table": "spark_catalog.lake.predictions"},
            "slice_by": "part",
            "slices": ["a"],
        }
        return str(score.run(job("", **plain | changes))["status"])

    assert run() == "scored"
    assert run(slices="due") == "unchanged"
    assert run(output={"table": "lake.predictions"}) == "unchanged"
    assert run(write_mode="merge", quarantine={"table": "spark_catalog.lake.aside"}) == "scored"
    assert spark.table("lake.predictions").count() == 1
    with pytest.raises(TableNotFound, match=r"there is no table at nowhere\.lake\.rows"):
        run(input={"table": "nowhere.lake.rows"})
    for name in ("nowhere.lake.predictions", "spark_catalog.nowhere.predictions"):
        with pytest.raises(TableNotMade, match=f"{name} cannot be created: "):
            run(output={"table": name})
    with pytest.raises(TableNotFound, match=r"DESCRIBE DETAIL spark_catalog\.lake\.pred"):
        explaining.explain("spark_catalog.lake.predictions", {"id": "1"})


def test_an_output_whose_columns_are_mapped_by_name_is_scored_into_and_explained(
    spark: SparkSession, tmp_path: Path, job: Any, register: Any
) -> None:
    register("odd", LinearRegression().fit(X, 3 * X["x"]), X)
    table = make_table(tmp_path / "rows", [(1, "a", 1.0)], "id int, part string, x double")
    config = {"slice_by": "part", "slices": ["a"]}
    score.run(job(table, **config))
    address = job(table).output.address
    spark.sql(f"CREATE TABLE mapped USING delta LOCATION '{address}'")
    mapped = "'delta.columnMapping.mode' = 'name', 'delta.minReaderVersion' = '2'"
    spark.sql(f"ALTER TABLE mapped SET TBLPROPERTIES ({mapped}, 'delta.minWriterVersion' = '5')")
    spark.sql("ALTER TABLE mapped ADD COLUMN note string")
    spark.sql("ALTER TABLE mapped DROP COLUMN note")
    assert score.run(job(table, **config))["status"] == "unchanged"
    assert score.run(job(table, **config, model="odd/2"))["status"] == "scored"
    (explained,) = explaining.explain(address, {"id": "1"})
    assert (explained["model_uri"], explained["row"]["prediction"]) == (
        "models:/odd/2",
        pytest.approx(3),
    )
    assert score.run(job(table, **config, write_mode="merge"))["status"] == "scored"
    assert read(spark, job(table), "id", "prediction") == [(1, 2.0)]
    due = config | {"slices": "due"}
    assert score.run(job(table, **due, write_mode="merge"))["status"] == "unchanged"


def test_a_row_is_not_denied_if_its_columns_have_other_names_in_the_files(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = str(tmp_path / "predictions")
    lineage = [f"'x' AS {name}" for name in COLUMNS]
    rows = spark.range(3).selectExpr("id", *lineage)
    rows.write.format("delta").option("delta.columnMapping.mode", "name").save(path)
    with pytest.raises(InputContractError, match=r"cannot be read without Spark.*other names"):
        explaining.explain(path, {"id": "1"})


def test_a_plan_is_valid_json_whatever_the_model_gives(
    tmp_path: Path, register: Any, job: Any
) -> None:
    class Endless(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> Any:  # noqa: ARG002
            return np.where(model_input["x"] > 1, np.nan, np.inf)

    register("endless", Endless(), X, np.array([1.0]))
    table = make_table(tmp_path / "rows", [(1, 1.0), (2, 2.0)], "id int, x double")
    for engine in ("auto", "spark_udf"):
        planned = score.run(job(table, model="endless/1", plan=True, engine=engine))
        told = json.loads(as_json(planned), parse_constant=pytest.fail)
        values = {row["id"]: row["prediction"] for row in told["probe"]}
        assert values[1] == "Infinity"
        assert values[2] in {None, "NaN"}  # Arrow takes pandas' NaN for a null


def test_params_and_model_config_may_be_lists_and_mappings_of_the_file(
    register: Any, tmp_path: Path
) -> None:
    from mlflow.models import infer_signature

    class Told(mlflow.pyfunc.PythonModel):
        """Gives what it is told, as texts."""

        def load_context(self, context: Any) -> None:
            self.config = context.model_config

        def predict(
            self,
            context: Any,  # noqa: ARG002
            model_input: pd.DataFrame,
            params: Any = None,
        ) -> list[str]:
            given = [params["weights"], params["shape"], self.config["layers"], self.config["opt"]]
            return [repr(given)] * len(model_input)

    params = {"weights": [1.0], "shape": {"depth": 1, "kinds": ["a"], "mean": 0.5}}
    register(
        "told",
        Told(),
        signature=infer_signature(X, np.array(["x"]), params=params),
        model_config={"layers": [8], "opt": {"rate": 0.1, "name": "adam", "decay": None}},
    )
    table = make_table(tmp_path / "rows", [(1, 1.0)], "id int, x double")
    file = tmp_path / "score.yaml"
    file.write_text(f"""
model: told/1
input: {{path: {table}}}
output: {{path: {tmp_path}/predictions}}
id_columns: [id]
pyfunc:
  params:
    weights: [1, 2.5]
    shape:
      depth: 3
      kinds: [1, no]
      mean: 1
  model_config:
    layers: [16, 32]
    opt: {{rate: 1, name: 2, decay: 0.5}}
""")

    def told(*overrides: str) -> Any:
        config = load(ScoreJob, file, overrides)
        score.run(config)
        return rows_of(config.output.address, "prediction")[0][0]

    shape = {"depth": 3, "kinds": ["1", "no"], "mean": 1.0}
    opt = {"rate": 1.0, "name": "2", "decay": 0.5}
    assert told() == repr([[1.0, 2.5], shape, [16, 32], opt])
    changed = told(
        "pyfunc.params.weights=[7]", "pyfunc.params.shape.depth=4", "pyfunc.model_config.layers=[]"
    )
    assert changed == repr([[7.0], {**shape, "depth": 4}, [], opt])
