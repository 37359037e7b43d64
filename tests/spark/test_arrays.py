"""Arrays: models of NumPy arrays read columns of arrays, and workers read nested columns."""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING, Any

import catboost
import lightgbm
import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import score
import xgboost
from builders.jobs import score_job
from builders.tables import make_table, rows_of
from delta.tables import DeltaTable
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from sklearn.linear_model import LinearRegression, LogisticRegression

from lakescore import executor, scanning, scoring, signature, slicing, tables
from lakescore.arrow import arrow_type, collected
from lakescore.engines.failures import ResultUnfit
from lakescore.errors import ScoringFailed
from lakescore.loading import UnsupportedSignature, prepare
from lakescore.logs import NotEligible
from lakescore.options import BindOptions, LoadOptions
from lakescore.registry import resolve
from lakescore.signature.errors import FeaturesMiscounted, TypesDiffer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pyspark.sql import SparkSession

    from lakescore.snapshots import Snapshot

COLUMNS = "id int, e array<float>, d array<double>, n array<bigint>, x double"
BIG = 2**53 + 1
"""A whole number that no double holds."""
ROWS: list[Any] = [
    (1, [0.5, 1.0, -2.0], [1.0, 2.0, 3.0], [1, 2], 1.0),
    (2, [4.0, 0.0, 8.0], [-1.0, 0.5, 2.5], [BIG, -4], 2.0),
    (3, [0.25, 2.0, 1.0], [0.0, 0.0, 1.0], [5, 6], -3.0),
    (4, [1.0, 1.0, 1.0], [9.0, -8.0, 7.0], [7, 8], 0.0),
]
BLOCK = np.array([row[2] for row in ROWS])
"""The values of `d`."""
FITTED = LinearRegression().fit(BLOCK, [1.0, 2.0, 4.0, 9.0])
TURNED = LinearRegression().fit(
    BLOCK, BLOCK @ np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [3.0, 0.0, 0.5]])
)
CLASSES = LogisticRegression().fit(BLOCK, ["low", "low", "high", "high"])
SCANS = pytest.mark.parametrize(
    ("engine", "scan"), [("arrow", "direct"), ("arrow", "spark"), ("spark_udf", "spark")]
)


def own(function: Callable[[Any], Any]) -> mlflow.pyfunc.PythonModel:
    class Own(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: Any) -> Any:  # noqa: ARG002
            return function(model_input)

    return Own()


def showing() -> Callable[[Any], list[str]]:
    """Return a function that shows the type, the shape and the values of each row.

    It is local, so that it is pickled by value.
    """

    def show(arrays: Any) -> list[str]:
        named = arrays if isinstance(arrays, dict) else {"": arrays}
        texts = [[f"{name}{a.dtype}{row.tolist()}" for row in a] for name, a in named.items()]
        return ["; ".join(row) for row in zip(*texts, strict=True)]

    return show


def scribbling() -> Callable[[Any], Any]:
    def scribble(block: Any) -> Any:
        block[:, 0] *= 2
        return block.sum(axis=1)

    return scribble


def spec(kind: str, *shape: int, name: str | None = None) -> TensorSpec:
    return TensorSpec(np.dtype(kind), (-1, *shape), name)


def of_arrays(inputs: Sequence[TensorSpec], output: TensorSpec) -> ModelSignature:
    return ModelSignature(Schema(list(inputs)), Schema([output]))


NUMBER, TEXT = spec("float64"), spec("str")
NAMED = [spec("float64", 3, name="d"), spec("int64", 2, name="n"), spec("float64", name="x")]
MODELS: dict[str, tuple[Any, ModelSignature, str, list[Any]]] = {
    "a number of an array": (
        FITTED, of_arrays([spec("float64", 3)], NUMBER), "d", FITTED.predict(BLOCK).tolist()
    ),
    "a number of an array of floats": (
        FITTED, of_arrays([spec("float64", 3)], NUMBER), "e",
        FITTED.predict(np.array([row[1] for row in ROWS])).tolist(),
    ),
    "an array of an array": (
        TURNED, of_arrays([spec("float64", 3)], spec("float64", 3)), "d",
        TURNED.predict(BLOCK).tolist(),
    ),
    "a text of an array": (
        CLASSES, of_arrays([spec("float64", 3)], TEXT), "d", CLASSES.predict(BLOCK).tolist()
    ),
    "an array of floats as it is": (
        own(showing()), of_arrays([spec("float32", 3)], TEXT), "e",
        [f"float32{row[1]}" for row in ROWS],
    ),
    "an array of whole numbers as it is": (
        own(showing()), of_arrays([spec("int64", 2)], TEXT), "n", [f"int64{row[3]}" for row in ROWS]
    ),
    "a model that changes its array": (
        own(scribbling()), of_arrays([spec("float64", 3)], NUMBER), "d",
        [2 * a + b + c for _, _, (a, b, c), _, _ in ROWS],
    ),
    "arrays with names": (
        own(showing()), of_arrays(NAMED, TEXT), "",
        [f"dfloat64{d}; nint64{n}; xfloat64{x}" for _, _, d, n, x in ROWS],
    ),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def models(register: Any) -> None:
    for name, (model, signed, _, _) in MODELS.items():
        register(name, model, signature=signed)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_table(tmp_path_factory.mktemp("arrays") / "rows", ROWS, COLUMNS)


def planned(
    rows: Snapshot, name: str, engine: Any, scan: Any = "direct", **options: Any
) -> scoring.Plan:
    loadable = prepare(resolve(f"{name}/1"), options=LoadOptions(**options))
    features = tuple(filter(None, [MODELS[name][2] if name in MODELS else "d"]))
    contract = signature.bind("rows", rows, loadable, options=BindOptions(features=features))
    return scoring.plan(engine, slicing.select(rows, None, ["all"]), [contract], ["id"], scan)


@SCANS
@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_arrays_gives_what_it_gives_for_numpy(
    spark: SparkSession, path: str, name: str, engine: str, scan: str
) -> None:
    plan = planned(tables.snapshot(spark, path), name, engine, scan)
    given = [row["prediction"] for row in scoring.score(plan).orderBy("id").collect()]
    expected = MODELS[name][3]
    if isinstance(expected[0], str):
        assert given == expected
    else:
        assert np.array(given) == pytest.approx(np.array(expected), rel=1e-12)


def test_a_column_of_arrays_goes_to_scikit_learn_as_one_block(
    spark: SparkSession, path: str
) -> None:
    plan = planned(tables.snapshot(spark, path), "an array of an array", "auto")
    assert (plan.facts()["modes"], plan.facts()["scan"]) == (["block"], "direct")


def test_a_classifier_of_arrays_gives_probabilities(spark: SparkSession, path: str) -> None:
    for engine in ("auto", "spark_udf"):
        plan = planned(tables.snapshot(spark, path), "a text of an array", engine, output="proba")
        given = [list(row)[1:] for row in scoring.score(plan).orderBy("id").collect()]
        assert np.array(given) == pytest.approx(CLASSES.predict_proba(BLOCK), rel=1e-12)


SMALL = {"n_estimators": 5, "random_state": 0}


@pytest.mark.parametrize(
    ("library", "classifier"),
    [
        ("lightgbm", lightgbm.LGBMClassifier(**SMALL, min_child_samples=1, verbose=-1)),
        ("xgboost", xgboost.XGBClassifier(**SMALL)),
        ("catboost", catboost.CatBoostClassifier(5, verbose=0, allow_writing_files=False)),
    ],
)
def test_a_boosting_library_gets_a_column_of_arrays_as_one_block(
    spark: SparkSession, path: str, library: str, classifier: Any
) -> None:
    fitted = classifier.fit(BLOCK, [0, 1, 0, 1])
    signed = of_arrays([spec("float64", 3)], spec("int64"))
    log = importlib.import_module(f"mlflow.{library}").log_model
    log(fitted, name="model", signature=signed, registered_model_name=f"array {library}")
    rows = tables.snapshot(spark, path)
    plan = planned(rows, f"array {library}", "auto")
    assert plan.facts()["modes"] == ["block"]
    given = [row["prediction"] for row in scoring.score(plan).orderBy("id").collect()]
    assert given == fitted.predict(BLOCK).tolist()
    for engine in ("auto", "spark_udf"):
        plan = planned(rows, f"array {library}", engine, output="proba")
        given = [list(row)[1:] for row in scoring.score(plan).orderBy("id").collect()]
        assert np.array(given) == pytest.approx(fitted.predict_proba(BLOCK), rel=1e-6)


BAD_ROWS: list[Any] = [
    (1, [1.0, 2.0, 3.0], [1, 2], 1.0),
    (2, None, [1, 2], 1.0),  # no array
    (3, [1.0, 2.0], [1, 2], 1.0),  # too few values
    (4, [1.0, 2.0, 3.0, 4.0], [1, 2], 1.0),  # too many
    (5, [1.0, None, 3.0], [1, 2], 1.0),  # NumPy has NaN for a missing number
    (6, [1.0, 2.0, 3.0], [BIG, None], 1.0),  # and nothing for a missing whole number
    (7, [], [1, 2], 1.0),
    (8, [1.0, 2.0, 3.0], [BIG, 2], 1.0),
]


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> str:
    columns = "id int, d array<double>, n array<bigint>, x double"
    return make_table(tmp_path_factory.mktemp("arrays") / "bad", BAD_ROWS, columns)


@pytest.mark.parametrize("scan", ["direct", "spark"])
def test_a_row_whose_array_does_not_fit_is_set_apart_and_says_why(
    spark: SparkSession, bad: str, scan: str
) -> None:
    plan = planned(tables.snapshot(spark, bad), "arrays with names", "arrow", scan)
    by_id = {row["id"]: row for row in scoring.side_by_side(plan).collect()}
    why = {n: row[scoring.ERRORS] and row[scoring.ERRORS][0]["message"] for n, row in by_id.items()}
    assert why == {
        1: None,
        2: "d is null",
        3: "an array in 'd' has 2 values, but the model takes 3",
        4: "an array in 'd' has 4 values, but the model takes 3",
        5: None,
        6: "the integer column 'n' holds nulls",
        7: "an array in 'd' has 0 values, but the model takes 3",
        8: None,
    }
    assert [by_id[n][1] for n in (1, 5, 8)] == [
        "dfloat64[1.0, 2.0, 3.0]; nint64[1, 2]; xfloat641.0",
        "dfloat64[1.0, nan, 3.0]; nint64[1, 2]; xfloat641.0",
        f"dfloat64[1.0, 2.0, 3.0]; nint64[{BIG}, 2]; xfloat641.0",
    ]


def test_mlflows_function_ends_the_run_at_an_array_that_does_not_fit(
    spark: SparkSession, bad: str
) -> None:
    with pytest.raises(ScoringFailed, match="an array in 'd' is missing"):
        planned(tables.snapshot(spark, bad), "arrays with names", "spark_udf")


def test_an_array_of_another_width_than_the_signature_says_is_refused(
    spark: SparkSession, path: str, register: Any
) -> None:
    signed = of_arrays([spec("float64", 3)], spec("float64", 2))
    register("an array of another width", TURNED, signature=signed)
    with pytest.raises(ResultUnfit, match="gave 3 values in an array; its signature has 2"):
        planned(tables.snapshot(spark, path), "an array of another width", "auto")


def test_a_column_that_cannot_be_the_array_is_refused(spark: SparkSession, path: str) -> None:
    rows = tables.snapshot(spark, path)
    loadable = prepare(resolve("a number of an array/1"))
    for features, error, message in (
        ((), UnsupportedSignature, r"or one column of arrays: features: \[COLUMN\]"),
        (("x",), FeaturesMiscounted, r"features lists x \(1 in all\), but .* takes 3"),
        (("d", "e"), FeaturesMiscounted, r"features lists d, e \(2 in all\), but .* takes 3"),
        (("n",), TypesDiffer, "'n' is array<bigint>, not array<double>"),
    ):
        with pytest.raises(error, match=message):
            signature.bind("rows", rows, loadable, options=BindOptions(features=features))


def test_a_job_scores_embeddings_without_spark(path: str, tmp_path: Path, runner: str) -> None:
    make = partial(score_job, tmp_path, path, model="an array of an array/1", features=["d"])
    receipt = score.run(make(runner="auto"))
    assert (receipt["runner"]["name"], receipt["output"]["write"]) == (runner, "direct")
    published = [value for _, value in rows_of(receipt["output"]["table"], "id", "prediction")]
    assert np.array(published) == pytest.approx(TURNED.predict(BLOCK), rel=1e-12)


def test_wide_rows_are_read_in_smaller_batches(tmp_path: Path) -> None:
    rows = 50_000
    wide = pa.array(np.zeros((rows, 400), np.float32).tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": range(rows), "v": wide}), tmp_path / "wide.parquet")

    def column(name: str, kind: pa.DataType) -> executor.Column:
        return executor.Column(stored=name, partition=False, read=kind, give=kind, widens=False)

    ids, arrays = column("id", pa.int64()), column("v", wide.type)
    for columns, at_once in (([ids], 131_072), ([ids, arrays], 4_000_000 // 401)):
        groups, problem = executor.footer(str(tmp_path / "wide.parquet"), columns)
        assert (problem, [tuple(group) for group in groups]) == (None, [(rows, at_once)])


NESTED = """
SELECT id, array(CAST(id AS FLOAT), NULL) AS v,
       IF(id % 3 = 0, NULL, named_struct('a', id, 'b', named_struct('c', array(id, id + 1)))) AS s,
       map(CAST(id AS STRING), DATE '2024-02-29', 'z', NULL) AS m
FROM range(0, 9, 1, 2)
"""


def read_both(spark: SparkSession, address: str) -> tuple[list[str], list[str]]:
    """Return the rows of the nested columns as workers read them, and as Spark does."""
    rows = tables.snapshot(spark, address)
    selection = slicing.select(rows, None, ["all"])
    features = [field for field in rows.schema if field.name != "id"]
    here = scanning.first(selection, [rows.schema["id"], *features], 100)
    whole = rows.rows.select("id", *[field.name for field in features])
    there = collected(whole).rename_columns(here.column_names)
    texts = []
    for table in (here, there):
        kinds = [arrow_type(field.dataType) for field in [rows.schema["id"], *features]]
        cast = pa.table(
            [c.cast(kind) for c, kind in zip(table.columns, kinds, strict=True)],
            names=table.column_names,
        )
        texts.append(sorted(map(repr, cast.to_pylist())))
    return texts[0], texts[1]


def test_nested_columns_are_read_as_spark_reads_them(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "nested")
    writer = spark.sql(NESTED).write.format("delta")
    writer.option("delta.enableDeletionVectors", "true").save(path)
    DeltaTable.forPath(spark, path).delete("id IN (0, 8)")
    here, there = read_both(spark, path)
    assert len(here) == 7
    assert here == there


def test_nested_fields_that_only_the_log_explains_are_left_to_spark(
    spark: SparkSession, tmp_path: Path
) -> None:
    added, mapped = str(tmp_path / "added"), str(tmp_path / "mapped")
    spark.sql(NESTED).write.format("delta").save(added)
    more = "SELECT 9L AS id, named_struct('a', 9L, 'b', named_struct('c', array(1L)), 'd', 1) AS s"
    spark.sql(more).write.format("delta").mode("append").option("mergeSchema", "true").save(added)
    with pytest.raises(NotEligible, match="a file of the table holds 's' as"):
        read_both(spark, added)
    # A renamed field keeps its old name in the files.
    writer = spark.sql(NESTED).write.format("delta")
    writer.option("delta.columnMapping.mode", "name").save(mapped)
    with pytest.raises(NotEligible, match="column 's' is struct"):
        read_both(spark, mapped)


def test_nested_numbers_that_were_widened_are_read_in_the_type_of_now(
    spark: SparkSession, tmp_path: Path
) -> None:
    if spark.version < "4":
        pytest.skip("Delta 3.3 widens no numbers in arrays")
    path = str(tmp_path / "widened")
    narrow = spark.sql("SELECT id, array(CAST(id AS INT), NULL) AS v FROM range(3)")
    narrow.write.format("delta").option("delta.enableTypeWidening", "true").save(path)
    wide = spark.sql(f"SELECT 3L AS id, array({BIG}L) AS v")
    appended = wide.write.format("delta").mode("append").option("mergeSchema", "true")
    appended.save(path)
    here, there = read_both(spark, path)
    assert here == there
    assert any(str(BIG) in row for row in here)
