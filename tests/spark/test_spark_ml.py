"""Pipelines of Spark ML: Spark applies them, each prediction stays with its row, none is lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import compare
import numpy as np
import pytest
import replay
import score
from builders.jobs import compare_job, replay_job, score_job
from builders.tables import commits_of, make_table, rows_of, types_of
from deltalake import DeltaTable
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import SparkMLVector
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.clustering import KMeans
from pyspark.ml.feature import (
    Bucketizer,
    IndexToString,
    RFormula,
    SQLTransformer,
    StringIndexer,
    VectorAssembler,
)
from pyspark.ml.regression import DecisionTreeRegressor, LinearRegression
from pyspark.sql import functions as F  # noqa: N812 - its usual name

from lakescore import applying, loading, registry, scoring, signature
from lakescore.engines.failures import FeaturesLeftOut, ResultUnfit
from lakescore.engines.plan import EngineRefused
from lakescore.engines.rowwise import PipelineUnfit
from lakescore.engines.spark_ml import RowsDropped
from lakescore.errors import ScoringFailed
from lakescore.loading import UnsupportedSignature
from lakescore.options import LoadOptions
from lakescore.replaying import ReplayDiffers
from lakescore.runner import RunnerRefused
from lakescore.slicing import NullsFound

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame, SparkSession

KINDS = ["a", "b", "c"]
COLUMNS = "id int, x double, y double, kind string, label double"
ROWS = 300
Log = Callable[..., "PipelineModel"]


def trained(n: int) -> tuple[int, float, float, str, float]:
    x, y = float(n % 17) - 5, float(n % 5)
    return n, x, y, KINDS[n % 3], 2 * x - y + n % 3 + (n % 7) / 10


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame([trained(n) for n in range(ROWS)], COLUMNS).localCheckpoint()


@pytest.fixture(scope="module")
def log(register: Any, rows: DataFrame) -> Log:
    """Fit stages, register the pipeline under a name, and return it.

    The signature is inferred from the columns *takes*, and the pipeline's columns *gives*.
    """

    def fitted(
        name: str,
        /,
        *stages: Any,
        takes: str = "x y kind",
        gives: str = "prediction",
        **options: Any,
    ) -> PipelineModel:
        pipeline: PipelineModel = Pipeline(stages=list(stages)).fit(rows)
        if "signature" not in options:
            inputs = rows.select(*takes.split())
            outputs = pipeline.transform(inputs).select(*gives.split())
            options["signature"] = infer_signature(inputs, outputs)
        register(name, pipeline, **{"pip_requirements": ["pyspark"]} | options)
        return pipeline

    return fitted


@pytest.fixture(scope="module")
def linear(log: Log) -> PipelineModel:
    """Register `linear/1`, and return it: a linear model of two numbers and an indexed text."""
    return log("linear", *linear_stages())


def linear_stages() -> list[Any]:
    indexer = StringIndexer(inputCol="kind", outputCol="kind_ix")
    return [indexer, features("x", "y", "kind_ix"), LinearRegression()]


def features(*columns: str, **options: Any) -> VectorAssembler:
    return VectorAssembler(inputCols=list(columns), outputCol="features", **options)


def by_hand(model: Any, *columns: Any) -> Any:
    """Return the predictions of a linear model, which NumPy makes from its weights."""
    return np.column_stack(columns).astype(float) @ model.coefficients.toArray() + model.intercept


def expected(linear: PipelineModel, x: Any, y: Any, kind: Any) -> Any:
    """Return the predictions of `linear/1`, which NumPy makes from its weights."""
    indexer, _, model = linear.stages
    return by_hand(model, x, y, [indexer.labels.index(text) for text in kind])


def outputs_of(*types: tuple[str, str | None]) -> ModelSignature:
    """Return a signature of x and y with outputs of these types and names."""
    inputs = Schema([ColSpec("double", "x"), ColSpec("double", "y")])
    return ModelSignature(inputs, Schema([ColSpec(kind, name) for kind, name in types]))


def planned(rows: DataFrame, uri: str, engine: Any = "auto", **options: Any) -> scoring.Plan:
    loadable = loading.prepare(registry.resolve(uri), None, LoadOptions(**options))
    return scoring.plan(engine, rows, [signature.bind("rows", rows, loadable)], ["id"])


def scored(rows: DataFrame, uri: str, **options: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in scoring.score(planned(rows, uri, **options)).sort("id").collect()]


# --- score jobs ------------------------------------------------------------------------------


@pytest.mark.usefixtures("linear")
def test_mlmodel_alone_proposes_what_the_whole_version_does(tmp_path: Path) -> None:
    path = make_table(tmp_path / "rows", [], "id int, X double, y float, kind string")
    whole, alone = (
        of("linear/1", path, "lake/p").propose(applying.Choices(id_columns=("id",)))
        for of in (applying.request, applying.outline)
    )
    assert whole.job_file is not None
    assert alone.facts() == whole.facts()


def test_a_job_publishes_what_the_weights_say_beside_columns_named_like_the_pipelines(
    linear: PipelineModel, tmp_path: Path, runner: str
) -> None:
    # `features` and `kind_ix` are columns that the pipeline adds; the table has its own.
    columns = "id int, features string, kind_ix bigint, rawPrediction double, x double, y int"
    columns = f"{columns}, kind string"
    own = [(n, f"f{n}", -n, 0.5, *trained(n)[1:2], n % 5, trained(n)[3]) for n in range(ROWS)]
    table = make_table(tmp_path / "rows", own, columns)
    keys = ["id", "features", "kind_ix"]
    config = score_job(
        tmp_path, table, model="linear/1", id_columns=keys, passthrough=["rawPrediction"]
    )
    receipt = score.run(config)

    assert (receipt["status"], receipt["rows_scored"]) == ("scored", ROWS)
    reason = "models:/linear/1 is a pipeline of Spark ML, which only Spark itself applies"
    assert receipt["engine"] == {"name": "spark_ml", "reason": reason}
    if runner == "local":
        assert receipt["runner"] == {"name": "spark", "reason": reason}
    found = rows_of(config.output.address, *keys, "rawPrediction", "prediction")
    assert [row[:4] for row in found] == [row[:4] for row in own]
    values = expected(linear, *zip(*[row[4:] for row in own], strict=True))
    np.testing.assert_allclose([row[4] for row in found], values, rtol=1e-12)

    lineage = set(rows_of(config.output.address, "model_uri", "model_version", "input_version"))
    assert lineage == {("models:/linear/1", 1, 0)}
    digest = registry.resolve("linear/1").digest
    assert receipt["model"]["digest"] == digest
    assert digest in str(commits_of(config.output.address)[0])
    assert score.run(config)["status"] == "unchanged"


def test_a_plan_shows_the_engine_and_rows_and_publishes_nothing(
    linear: PipelineModel, tmp_path: Path
) -> None:
    table = make_table(tmp_path / "rows", [trained(n) for n in range(5)], COLUMNS)
    config = score_job(tmp_path, table, model="linear/1", plan=True)
    receipt = score.run(config)
    assert receipt["engine"]["name"] == "spark_ml"
    assert (receipt["would"]["rows"], receipt["would"]["batches"]) == (5, 0)
    assert {feature["null"] for feature in receipt["features"]} == {"model"}
    shown = sorted((row["id"], row["prediction"]) for row in receipt["probe"])
    values = expected(linear, *zip(*[trained(n)[1:4] for n in range(5)], strict=True))
    np.testing.assert_allclose([value for _, value in shown], values, rtol=1e-12)
    assert not (tmp_path / "predictions").exists()


@pytest.mark.usefixtures("linear")
def test_the_local_runner_refuses_a_pipeline_in_one_line(tmp_path: Path) -> None:
    table = make_table(tmp_path / "rows", [trained(0)], COLUMNS)
    with pytest.raises(RunnerRefused) as refused:
        score.run(score_job(tmp_path, table, model="linear/1", runner="local"))
    assert str(refused.value) == (
        "runner local cannot be used: models:/linear/1 is a pipeline of Spark ML, which only Spark "
        "itself applies; give runner=auto, which then starts Spark"
    )


@pytest.mark.usefixtures("linear")
def test_a_replay_gives_the_same_values(tmp_path: Path) -> None:
    table = make_table(tmp_path / "rows", [trained(n) for n in range(20)], COLUMNS)
    config = score_job(tmp_path, table, model="linear/1")
    run = score.run(config)["slices"][0]["run_id"]
    receipt = replay.run(replay_job(config, run))
    assert (receipt["status"], receipt["same"], receipt["rows"]) == ("same", 20, 20)
    assert receipt["engine"]["name"] == "spark_ml"


def test_a_comparison_ranks_pipelines_by_the_errors_that_their_weights_make(
    log: Log, linear: PipelineModel, tmp_path: Path
) -> None:
    shallow = log("shallow", features("x"), LinearRegression(), takes="x y")
    data = [trained(n) for n in range(ROWS)]
    table = make_table(tmp_path / "rows", data, COLUMNS)
    versions = ["linear/1", "shallow/1"]
    config = compare_job(tmp_path, table, label="label", versions=versions, baseline="shallow/1")
    receipt = compare.run(config)
    assert receipt["engine"]["name"] == "spark_ml"
    assert receipt["rows"] == receipt["rows_common"] == ROWS
    _, x, y, kind, label = (np.array(column) for column in zip(*data, strict=True))
    values = {
        "models:/linear/1": expected(linear, x, y, kind),
        "models:/shallow/1": by_hand(shallow.stages[-1], x),
    }
    measured = {entry["uri"]: entry["metrics"]["rmse"] for entry in receipt["ranking"]}
    for uri, predicted in values.items():
        rmse = float(np.sqrt(np.mean((predicted - label) ** 2)))
        assert measured[uri] == pytest.approx(rmse, rel=1e-9), uri
    assert [entry["uri"] for entry in receipt["ranking"]] == list(values)


@pytest.mark.usefixtures("linear")
def test_pipelines_and_other_models_are_not_applied_in_one_pass(
    register: Any, tmp_path: Path
) -> None:
    register("beside linear")
    data = [(n, float(n), 700.0, *trained(n)[1:]) for n in range(9)]
    columns = (
        "id int, dep_delay double, distance double, x double, y double, kind string, label double"
    )
    table = make_table(tmp_path / "rows", data, columns)
    versions = ["linear/1", "beside linear/1"]
    config = compare_job(tmp_path, table, label="label", versions=versions, baseline=versions[0])
    with pytest.raises(EngineRefused) as refused:
        compare.run(config)
    assert str(refused.value) == (
        "engine spark_ml cannot be used: it applies pipelines of Spark ML, and not models:/beside "
        "linear/1; apply pipelines in another job"
    )


def test_a_model_per_segment_cannot_be_a_pipeline(log: Log, tmp_path: Path) -> None:
    log("linear-b", *linear_stages())
    log("linear-a", *linear_stages())
    table = make_table(tmp_path / "rows", [trained(0), trained(1)], COLUMNS)
    with pytest.raises(EngineRefused) as refused:
        score.run(score_job(tmp_path, table, model={"by": "kind", "name": "linear-{kind}/1"}))
    assert str(refused.value) == (
        "engine spark_ml cannot be used: it cannot apply one model per segment; score each segment "
        "with its own job"
    )


@pytest.mark.usefixtures("linear")
@pytest.mark.parametrize("engine", ["arrow", "spark_udf"])
def test_other_engines_are_refused_for_a_pipeline(rows: DataFrame, engine: str) -> None:
    with pytest.raises(EngineRefused) as refused:
        planned(rows, "linear/1", engine)
    assert str(refused.value) == (
        f"engine {engine} cannot be used: models:/linear/1 is a pipeline of Spark ML, which only "
        "Spark itself applies; give engine=auto or spark_ml"
    )


def test_the_engine_is_refused_for_other_models(spark: SparkSession, register: Any) -> None:
    register("no pipeline")
    flights = spark.createDataFrame([(1, 2.0, 3.0)], "id int, dep_delay double, distance double")
    with pytest.raises(EngineRefused) as refused:
        planned(flights, "no pipeline/1", "spark_ml")
    assert str(refused.value) == (
        "engine spark_ml cannot be used: it applies pipelines of Spark ML, and not models:/no "
        "pipeline/1; give engine=auto"
    )


# --- rows: none is lost, none is added, each keeps its prediction ----------------------------


def select(statement: str) -> SQLTransformer:
    return SQLTransformer(statement=f"SELECT {statement}")


@pytest.fixture(scope="module")
def dropping(log: Log) -> dict[str, PipelineModel]:
    """Register pipelines that drop rows, each in its own way."""
    skip = {"handleInvalid": "skip"}
    splits = [float("-inf"), 0.0, float("inf")]
    buckets = Bucketizer(inputCol="x", outputCol="x_ix", splits=splits, **skip)
    indexer = StringIndexer(inputCol="kind", outputCol="kind_ix", **skip)
    stages: dict[str, list[Any]] = {
        "drops nulls": [features("x", "y", **skip), LinearRegression()],
        "drops labels": [indexer, features("x", "kind_ix"), LinearRegression()],
        "drops buckets": [buckets, features("x_ix", handleInvalid="keep"), DecisionTreeRegressor()],
        "drops by formula": [RFormula(formula="label ~ x + kind", **skip), LinearRegression()],
    }
    return {name: log(name, *parts) for name, parts in stages.items()}


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("drops nulls", (77, None, 1.0, "a")),  # the assembler's missing number
        ("drops labels", (77, 1.0, 1.0, "new")),  # a label that the indexer has not seen
        ("drops buckets", (77, None, 1.0, "a")),  # with handleInvalid: error, it would pass
        ("drops by formula", (77, 1.0, 1.0, None)),  # in a stage of a stage
    ],
)
def test_a_pipeline_scores_all_rows_or_says_which_row_it_drops(
    spark: SparkSession,
    dropping: dict[str, PipelineModel],
    tmp_path: Path,
    name: str,
    lost: tuple[Any, ...],
) -> None:
    kept = [trained(n)[:4] for n in range(40)]
    columns = "id int, x double, y double, kind string"
    table = make_table(tmp_path / "rows", kept, columns)
    config = score_job(tmp_path, table, model=f"{name}/1")
    receipt = score.run(config)
    assert receipt["rows_scored"] == len(kept)
    noted = f"itself applies; all 40 rows pass the filters of models:/{name}/1"
    assert receipt["engine"]["reason"].endswith(noted)
    # The fitted pipeline itself, in a plain query without lakescore.
    plain = dropping[name].transform(spark.createDataFrame(kept, columns))
    published = rows_of(config.output.address, "id", "prediction")
    assert published == sorted(map(tuple, plain.select("id", "prediction").collect()))

    make_table(tmp_path / "rows", [lost], columns, mode="append")
    with pytest.raises(RowsDropped) as dropped:
        score.run(config)
    assert str(dropped.value) == (
        f"the pipeline of models:/{name}/1 drops 1 of 41 rows, such as the row with id=77, so they "
        "would have no prediction; remove these rows from the table, or log the pipeline with "
        "handleInvalid='keep' in its stages"
    )
    assert rows_of(config.output.address, "id", "prediction") == published


@pytest.mark.usefixtures("linear", "dropping")
def test_a_comparison_and_a_plan_of_a_pipeline_that_drops_a_row_are_refused(
    tmp_path: Path,
) -> None:
    data = [*[trained(n) for n in range(20)], (77, None, 1.0, "a", 3.0)]
    table = make_table(tmp_path / "rows", data, COLUMNS)
    versions = ["linear/1", "drops nulls/1"]
    config = compare_job(tmp_path, table, label="label", versions=versions, baseline=versions[0])
    with pytest.raises(RowsDropped, match="drops nulls/1 drops 1 of 21 rows, such as the row"):
        compare.run(config)
    with pytest.raises(RowsDropped, match="drops nulls/1 drops 1 of 21 rows, such as the row"):
        score.run(score_job(tmp_path, table, model="drops nulls/1", plan=True))


@pytest.mark.parametrize(
    ("name", "statement", "step"),
    [
        ("twice", "*, explode(array(1, 2)) AS e FROM __THIS__", "Generate"),
        # Drops a row and doubles another, so their number stays.
        ("joined", "a.* FROM __THIS__ a JOIN (SELECT x FROM __THIS__) b ON a.x = b.x", "Join"),
        ("both", "* FROM __THIS__ UNION ALL SELECT * FROM __THIS__", "Union"),
        ("first", "* FROM __THIS__ LIMIT 3", "GlobalLimit"),
        ("filtered", "* FROM __THIS__ WHERE y < 7", "Filter (y < cast(7 as double))"),
        ("at random", "* FROM __THIS__ WHERE rand(1) < 2", "Filter (rand(1)"),
        ("two lines", r"*, 'a\n+- Project' AS t FROM __THIS__ WHERE y < 7", "Filter (y < "),
        ("distinct", "DISTINCT * FROM __THIS__", "Distinct"),
        ("sampled", "* FROM __THIS__ TABLESAMPLE (50 PERCENT)", "Sample"),
        # One row for each row, but values of other rows.
        ("window", "*, avg(y) OVER () AS e FROM __THIS__", "Window"),
        ("subquery", "*, (SELECT max(y) FROM __THIS__) AS e FROM __THIS__", "Aggregate"),
    ],
)
def test_a_step_that_does_more_than_compute_columns_is_refused(
    rows: DataFrame, log: Log, name: str, statement: str, step: str
) -> None:
    log(f"step {name}", select(statement), features("x"), LinearRegression(), takes="x y")
    with pytest.raises(PipelineUnfit) as unfit:
        planned(rows, f"step {name}/1")
    start = f"models:/step {name}/1 does not give one prediction for each row: Spark's plan of its"
    line = str(unfit.value)
    assert line.startswith(f"{start} pipeline has the step ")
    assert step in line.removeprefix(start).partition(";")[0]


def test_a_text_in_a_pipeline_cannot_cut_off_sparks_plan(rows: DataFrame, log: Log) -> None:
    text = r"'\n+- Range\n\n== Optimized Logical Plan ==\n'"
    cutting = select(f"*, {text} AS t FROM __THIS__ WHERE y < 7")
    log("cutting", cutting, features("x"), LinearRegression(), takes="x y")
    with pytest.raises(PipelineUnfit, match="does not end at the given rows"):
        planned(rows, "cutting/1")


def test_a_pipeline_that_leaves_out_the_keys_is_refused(rows: DataFrame, log: Log) -> None:
    only = select("x, y, label FROM __THIS__")
    log("no keys", only, features("x"), LinearRegression(), takes="x y label")
    with pytest.raises(PipelineUnfit, match="leaves out columns that it does not need, and with"):
        planned(rows, "no keys/1")


def test_rows_that_a_pipeline_sorts_keep_their_predictions(
    spark: SparkSession, log: Log, tmp_path: Path
) -> None:
    sorting = select("*, x * y AS xy FROM __THIS__ ORDER BY xy DESC, x")
    pipeline = log("sorting", sorting, features("x", "xy"), LinearRegression(), takes="x y")
    data = [(n, float(n * 37 % 101), float(n % 7), f"part {n % 4}") for n in range(1000)]
    columns = "id int, x double, y double, part string"
    shuffled = spark.createDataFrame(data, columns).repartition(7)
    shuffled.write.format("delta").save(str(tmp_path / "rows"))
    slices = {"slice_by": "part", "slices": [f"part {n}" for n in range(4)]}
    config = score_job(tmp_path, tmp_path / "rows", model="sorting/1", **slices)
    score.run(config)
    n, x, y, part = (np.array(column) for column in zip(*data, strict=True))
    found = rows_of(config.output.address, "id", "slice", "prediction")
    assert [row[:2] for row in found] == list(zip(n.tolist(), part.tolist(), strict=True))
    values = by_hand(pipeline.stages[-1], x, x * y)
    np.testing.assert_allclose([row[2] for row in found], values, rtol=1e-9, atol=1e-9)


def test_random_values_of_a_pipeline_are_drawn_once_for_each_row(log: Log, tmp_path: Path) -> None:
    noisy = select("*, rand() AS noise FROM __THIS__")
    stages = [noisy, features("x", "noise"), LinearRegression()]
    pipeline = log("noisy", *stages, takes="x y", gives="noise prediction")
    table = make_table(tmp_path / "rows", [trained(n) for n in range(50)], COLUMNS)
    config = score_job(tmp_path, table, model="noisy/1")
    run = score.run(config)["slices"][0]["run_id"]
    found = rows_of(config.output.address, "id", "noise", "prediction")
    x = [trained(key)[1] for key, *_ in found]
    noise, values = ([row[n] for row in found] for n in (1, 2))
    assert len(set(noise)) == len(noise) == 50
    np.testing.assert_allclose(values, by_hand(pipeline.stages[-1], x, noise), rtol=1e-12)
    with pytest.raises(ReplayDiffers, match="0 the same, 50 different"):
        replay.run(replay_job(config, run))


@pytest.mark.usefixtures("linear")
def test_a_row_that_fails_in_spark_ends_the_run_in_one_line(tmp_path: Path) -> None:
    data = [trained(0), (1, None, 1.0, "a", 0.0), (2, 1.0, 1.0, "new", 0.0)]
    for row, reason in (
        (data[1], 'Encountered null while assembling a row with handleInvalid = "error". '),
        (data[2], "Unseen label: new. To handle unseen labels, set Param handleInvalid to keep"),
    ):
        table = make_table(tmp_path / "rows", [data[0], row], COLUMNS, mode="overwrite")
        config = score_job(tmp_path, table, model="linear/1", max_errors=5)
        with pytest.raises(ScoringFailed) as failed:
            score.run(config)
        line = str(failed.value)
        assert line.startswith(f"models:/linear/1 could not score all of all: {reason}")
        assert "\n" not in line
        assert not DeltaTable(config.output.address).to_pyarrow_table().num_rows


@pytest.mark.usefixtures("linear")
def test_rules_for_nulls_are_sparks_own_or_are_checked_before(tmp_path: Path) -> None:
    table = make_table(tmp_path / "rows", [trained(0), (1, None, 1.0, "a", 0.0)], COLUMNS)
    for rule in ("quarantine", "null"):
        with pytest.raises(EngineRefused) as refused:
            score.run(score_job(tmp_path, table, model="linear/1", nulls={"x": rule}))
        assert str(refused.value) == (
            "engine spark_ml cannot be used: it passes every row to the model, but nulls asks for "
            f"x: {rule}; use model or fail"
        )
    with pytest.raises(NullsFound):
        score.run(score_job(tmp_path, table, model="linear/1", nulls={"x": "fail"}))


def test_a_null_in_a_whole_number_goes_to_the_pipeline(spark: SparkSession, log: Log) -> None:
    taking = outputs_of(("double", "prediction"))
    taking.inputs = Schema([ColSpec("long", "x")])
    tree = log(
        "whole", features("x", handleInvalid="keep"), DecisionTreeRegressor(), signature=taking
    )
    table = spark.createDataFrame([(1, 3), (2, None)], "id int, x int")
    nothing = spark.createDataFrame([(3.0,), (float("nan"),)], "x double")
    values = [row[0] for row in tree.transform(nothing).select("prediction").collect()]
    assert scored(table, "whole/1") == [(1, values[0]), (2, values[1])]


# --- results: the outputs of the signature, in its types --------------------------------------


def test_nan_is_published_as_null(spark: SparkSession, log: Log) -> None:
    model = log("nan", features("x", handleInvalid="keep"), LinearRegression(), takes="x").stages[1]
    table = spark.createDataFrame([(1, 2.0), (2, None), (3, float("inf"))], "id int, x double")
    assert scored(table, "nan/1") == [
        (1, pytest.approx(float(by_hand(model, [2.0])[0]))),
        (2, None),
        (3, float("inf")),
    ]


@pytest.fixture(scope="module")
def classifier(log: Log) -> PipelineModel:
    """Register classifiers of the three kinds: indices, labels, and both with probabilities."""
    indexer = StringIndexer(inputCol="kind", outputCol="kind_ix", stringOrderType="alphabetDesc")
    logistic = LogisticRegression(labelCol="kind_ix", regParam=0.1)
    texts = IndexToString(inputCol="prediction", outputCol="label_text", labels=KINDS[::-1])
    stages = [indexer, features("x", "y"), logistic, texts]
    log("indices", *stages, takes="x y")
    log("probabilities", *stages, takes="x y", gives="probability prediction")
    return log("texts", *stages, takes="x y", gives="label_text")


def chances(classifier: PipelineModel, data: Any) -> Any:
    """Return the probabilities of a classifier, which NumPy makes from its weights."""
    model = classifier.stages[2]
    scores = np.array(data) @ model.coefficientMatrix.toArray().T + model.interceptVector.toArray()
    parts = np.exp(scores - scores.max(axis=1, keepdims=True))
    return parts / parts.sum(axis=1, keepdims=True)


def test_a_classifier_gives_what_its_signature_names(
    spark: SparkSession, classifier: PipelineModel, tmp_path: Path
) -> None:
    data = [(1, -5.0, 4.0), (2, 11.0, 0.0), (3, 2.0, 2.0)]
    table = spark.createDataFrame(data, "id int, x double, y double")
    probabilities = chances(classifier, [row[1:] for row in data])
    best = probabilities.argmax(axis=1)
    assert scored(table, "indices/1") == [(n + 1, float(ix)) for n, ix in enumerate(best)]
    # KINDS in descending order: index 0 is c.
    assert scored(table, "texts/1") == [(n + 1, KINDS[::-1][ix]) for n, ix in enumerate(best)]
    both = scored(table, "probabilities/1")
    np.testing.assert_allclose([row[1] for row in both], probabilities, rtol=1e-9)
    assert [row[2] for row in both] == best.tolist()

    path = make_table(tmp_path / "rows", data, "id int, x double, y double")
    config = score_job(tmp_path, path, model="probabilities/1")
    score.run(config)
    assert types_of(config.output.address)["prediction"] == "double"
    published = rows_of(config.output.address, "id", "probability", "prediction")
    np.testing.assert_allclose([row[1] for row in published], probabilities, rtol=1e-9)


def test_an_array_has_the_width_that_the_signature_says(
    spark: SparkSession, log: Log, classifier: PipelineModel
) -> None:
    table = spark.createDataFrame([(1, -5.0, 4.0)], "id int, x double, y double")
    inputs = Schema([ColSpec("double", "x"), ColSpec("double", "y")])
    for width in (2, 3):
        output = Schema([TensorSpec(np.dtype("float64"), (-1, width), "probability")])
        indexer = StringIndexer(
            inputCol="kind", outputCol="kind_ix", stringOrderType="alphabetDesc"
        )
        logistic = LogisticRegression(labelCol="kind_ix", regParam=0.1)
        signed = ModelSignature(inputs, output)
        log(f"wide {width}", indexer, features("x", "y"), logistic, signature=signed)
    ((_, probabilities),) = scored(table, "wide 3/1")
    np.testing.assert_allclose(probabilities, chances(classifier, [(-5.0, 4.0)])[0], rtol=1e-9)
    plan = planned(table, "wide 2/1")
    problem = "the model gave 3 values in an array; its signature has 2"
    with pytest.raises(ResultUnfit, match=problem), scoring.evaluated(plan, ["all"]):
        scoring.score(plan).collect()


def test_probabilities_have_the_labels_that_the_pipeline_itself_indexed(
    spark: SparkSession, classifier: PipelineModel
) -> None:
    table = spark.createDataFrame([(1, -5.0, 4.0), (2, 11.0, 0.0)], "id int, x double, y double")
    plan = planned(table, "indices/1", output="proba")
    assert plan.contract.written == ("p_c", "p_b", "p_a")
    rows = scoring.score(plan).sort("id").collect()
    wanted = chances(classifier, [(-5.0, 4.0), (11.0, 0.0)])
    np.testing.assert_allclose([tuple(row)[1:] for row in rows], wanted, rtol=1e-9)


def test_probabilities_of_plain_labels_are_named_by_index_and_can_decide(
    log: Log, tmp_path: Path
) -> None:
    flag = select("*, CAST(x > 3 AS DOUBLE) AS flag FROM __THIS__")
    stages = [flag, features("x", "y"), LogisticRegression(labelCol="flag", regParam=0.1)]
    model = log("flags", *stages, takes="x y").stages[2]
    table = make_table(tmp_path / "rows", [trained(n) for n in range(60)], COLUMNS)
    config = score_job(tmp_path, table, model="flags/1", prediction="proba", threshold=0.8)
    score.run(config)
    found = rows_of(config.output.address, "id", "p_0", "p_1", "decision")
    x, y = ([trained(n)[place] for n in range(60)] for place in (1, 2))
    second = 1 / (1 + np.exp(-by_hand(model, x, y)))
    np.testing.assert_allclose([row[1:3] for row in found], np.stack([1 - second, second], 1))
    assert [row[3] for row in found] == (second >= 0.8).astype(int).tolist()


def test_a_comparison_of_probabilities_knows_the_labels(
    classifier: PipelineModel, log: Log, tmp_path: Path
) -> None:
    indexer = StringIndexer(inputCol="kind", outputCol="kind_ix")  # in another order
    stages = [indexer, features("x"), LogisticRegression(labelCol="kind_ix", regParam=0.1)]
    log("other order", *stages, takes="x y")
    data = [trained(n) for n in range(ROWS)]
    table = make_table(tmp_path / "rows", data, COLUMNS)
    versions = ["indices/1", "other order/1"]
    options = {"versions": versions, "baseline": versions[1], "prediction": "proba"}
    receipt = compare.run(compare_job(tmp_path, table, label="kind", **options))
    assert receipt["rank_by"] == "log_loss"
    metrics = {entry["uri"]: entry["metrics"] for entry in receipt["ranking"]}
    of_label = [KINDS[::-1].index(row[3]) for row in data]
    likelihoods = chances(classifier, [row[1:3] for row in data])[range(ROWS), of_label]
    expected_loss = float(-np.log(likelihoods).mean())
    assert metrics["models:/indices/1"]["log_loss"] == pytest.approx(expected_loss, rel=1e-9)


@pytest.mark.usefixtures("linear")
def test_probabilities_without_certain_labels_are_refused(rows: DataFrame, log: Log) -> None:
    indexer = StringIndexer(inputCol="kind", outputCol="kind_ix")
    other = IndexToString(inputCol="prediction", outputCol="text", labels=["u", "v", "w"])
    stages = [indexer, features("x"), LogisticRegression(labelCol="kind_ix", maxIter=3), other]
    log("contradicting", *stages, takes="x")
    with pytest.raises(UnsupportedSignature) as refused:
        planned(rows, "contradicting/1", output="proba")
    assert str(refused.value) == (
        "models:/contradicting/1 cannot score a table: nothing shows for certain which labels its "
        "3 classes have; leave out prediction: proba"
    )
    with pytest.raises(UnsupportedSignature, match="has 0 stages with probabilities, not one"):
        planned(rows, "linear/1", output="proba")


def test_an_output_named_like_an_input_is_the_prediction_and_not_the_input(
    rows: DataFrame, log: Log
) -> None:
    signed = infer_signature(rows.select("x", "label"), rows.select("label"))
    model = log("echo", features("x"), LinearRegression(), signature=signed).stages[1]
    few = rows.where("id < 5")
    values = by_hand(model, [trained(n)[1] for n in range(5)])
    assert scored(few, "echo/1") == [(n, pytest.approx(value)) for n, value in enumerate(values)]


def test_clusters_are_whole_numbers(rows: DataFrame, log: Log) -> None:
    model = log("clusters", features("x", "y"), KMeans(k=3, seed=1), takes="x y").stages[1]
    centers = np.array(model.clusterCenters())
    points = np.array([trained(n)[1:3] for n in range(ROWS)])
    nearest = ((points[:, None] - centers[None]) ** 2).sum(axis=2).argmin(axis=1)
    assert scored(rows, "clusters/1") == list(enumerate(nearest.tolist()))


@pytest.mark.parametrize(
    ("name", "sql", "kind", "value"),
    [
        ("whole", "x", "long", 3),  # a double that is whole
        ("part", "x / 2", "long", "the signature says long and the model gives 1.5"),
        ("large", "x * 1e19", "long", "the signature says long and the model gives 3.0E19"),
        ("edge", "pow(2, 63) + x", "long", "long and the model gives 9.223372036854776E18"),
        ("wide", "x * 1e9", "integer", "the signature says integer and the model gives 3.0E9"),
        ("narrow", "x / 3", "float", 1.0),
        ("beyond", "x * 1e300", "float", "the signature says float and the model gives 3.0E300"),
        ("exact", "CAST(x AS BIGINT)", "double", 3.0),
        ("inexact", "CAST(x AS BIGINT) + 9007199254740992", "double", "gives 9007199254740995"),
        ("nothing", "CAST(NULL AS DOUBLE)", "long", None),
        ("text", "concat('t', kind)", "string", "ta"),
        ("flag", "x > 1", "boolean", True),
    ],
)
def test_a_value_fits_the_type_of_the_signature_or_is_an_error(  # noqa: PLR0913, PLR0917 - a row's cells
    spark: SparkSession, log: Log, name: str, sql: str, kind: str, value: Any
) -> None:
    signed = outputs_of((kind, "result"))
    signed.inputs = Schema([ColSpec("double", "x"), ColSpec("string", "kind")])
    log(f"fits {name}", select(f"*, {sql} AS result FROM __THIS__"), signature=signed)
    table = spark.createDataFrame([(1, 3.0, "a")], "id int, x double, kind string")
    plan = planned(table, f"fits {name}/1")
    if not isinstance(value, str) or value == "ta":
        assert scoring.score(plan).collect() == [(1, value)]
        return
    with pytest.raises(ResultUnfit) as unfit, scoring.evaluated(plan, ["all"]):
        scoring.score(plan).collect()
    assert value in str(unfit.value)
    assert "infer_signature(X, model.transform(X).select('prediction'))" in str(unfit.value)


@pytest.mark.parametrize(
    ("name", "outputs", "problem"),
    [
        (
            "text",
            [("string", "prediction")],
            "says string and the pipeline's 'prediction' is double",
        ),
        ("vector", [("double", "features")], "says double and the pipeline's 'features' is vector"),
        (
            "other",
            [("double", "prediction"), ("double", "cost")],
            "gives the columns x, y, features, prediction, and no cost",
        ),
        (
            "unnamed",
            [("double", None), ("double", None)],
            "signature has outputs without names, and a pipeline",
        ),
    ],
)
def test_outputs_that_the_pipeline_does_not_give_are_refused(
    rows: DataFrame, log: Log, name: str, outputs: Any, problem: str
) -> None:
    signed = outputs_of(*outputs)
    log(f"gives {name}", features("x", "y"), LinearRegression(), signature=signed)
    with pytest.raises(ResultUnfit) as unfit:
        planned(rows, f"gives {name}/1")
    assert problem in str(unfit.value)


def test_a_signature_without_names_means_the_prediction_or_the_last_output(
    rows: DataFrame, log: Log
) -> None:
    signed = outputs_of(("double", None))
    model = log("unnamed one", features("x"), LinearRegression(), signature=signed).stages[1]
    assert scored(rows.where("id = 3"), "unnamed one/1") == [
        (3, pytest.approx(float(by_hand(model, [trained(3)[1]])[0])))
    ]
    splits = [float("-inf"), 0.0, float("inf")]
    log("bucket", Bucketizer(inputCol="x", outputCol="sign", splits=splits), signature=signed)
    assert scored(rows.where("id IN (0, 9)"), "bucket/1") == [(0, 0.0), (9, 1.0)]  # x: -5, 4


# --- features ------------------------------------------------------------------------------


def test_a_vector_is_made_of_a_list_of_numbers(
    spark: SparkSession, rows: DataFrame, register: Any
) -> None:
    model = LinearRegression().fit(features("x", "y").transform(rows))
    vectors = Schema([ColSpec(SparkMLVector(), "features")])
    signed = ModelSignature(vectors, Schema([ColSpec("double", "prediction")]))
    register("vectors", model, signature=signed, pip_requirements=["pyspark"])
    table = spark.createDataFrame(
        [(1, [3.0, 1.0]), (2, [-2.0, 0.5])], "id int, features array<float>"
    )
    values = by_hand(model, [3.0, -2.0], [1.0, 0.5])
    assert scored(table, "vectors/1") == [(n + 1, pytest.approx(v)) for n, v in enumerate(values)]
    holes = spark.createDataFrame([(1, [3.0, None])], "id int, features array<double>")
    plan = planned(holes, "vectors/1")
    with (
        pytest.raises(ScoringFailed, match=r"(?i)null value appeared"),
        scoring.evaluated(plan, ["all"]),
    ):
        scoring.score(plan).collect()


def test_an_optional_feature_that_the_table_lacks_is_named(rows: DataFrame, log: Log) -> None:
    signed = outputs_of(("double", "prediction"))
    signed.inputs = Schema([ColSpec("double", "x"), ColSpec("double", "y", required=False)])
    log("optional", features("x", "y"), LinearRegression(), signature=signed)
    with pytest.raises(FeaturesLeftOut) as failed:
        planned(rows.drop("y"), "optional/1")
    assert re.search("No such struct field `y`|y does not exist", str(failed.value))  # 4.0, 3.5
    assert "the table lacks its optional features 'y'" in str(failed.value)


def test_a_feature_named_like_a_column_that_the_pipeline_adds_is_one_line(
    rows: DataFrame, log: Log
) -> None:
    signed = outputs_of(("double", "prediction"))
    signed.inputs = Schema([ColSpec("double", "x"), ColSpec("double", "features")])
    log("occupied", features("x"), LinearRegression(), signature=signed)
    with pytest.raises(ScoringFailed) as failed:
        planned(rows.withColumn("features", F.lit(1.0)), "occupied/1")
    assert "any row: Output column features already exists" in str(failed.value)
    assert "\n" not in str(failed.value)


# --- versions that Spark cannot apply as asked -------------------------------------------------


def test_code_that_is_not_sparks_is_refused_before_anything_is_loaded(
    rows: DataFrame, log: Log, tmp_path: Path
) -> None:
    code = tmp_path / "helper.py"
    code.write_text("raise RuntimeError('imported')")
    log("with code", features("x"), LinearRegression(), takes="x", code_paths=[str(code)])
    with pytest.raises(UnsupportedSignature) as refused:
        planned(rows, "with code/1")
    assert str(refused.value) == (
        "models:/with code/1 cannot score a table: its pipeline needs code that is not Spark's "
        "(code: code), and Spark would run it in the driver, beside other versions; log a pipeline "
        "of Spark's stages"
    )


def test_options_of_python_are_refused(rows: DataFrame, log: Log) -> None:
    signed = outputs_of(("double", "prediction"))
    signed.params = ParamSchema([ParamSpec("factor", "double", 1.0)])
    log("with params", features("x", "y"), LinearRegression(), signature=signed)
    with pytest.raises(UnsupportedSignature, match="Spark passes no pyfunc"):
        planned(rows, "with params/1", params={"factor": "2"})
    with pytest.raises(EngineRefused) as refused:
        planned(rows, "with params/1", env_manager="virtualenv")
    assert str(refused.value) == (
        "engine spark_ml cannot be used: env_manager virtualenv installs packages of Python, which "
        "it does not use; leave env_manager out"
    )


def test_a_pipeline_in_a_folder_with_an_unusual_name_is_loaded(rows: DataFrame, log: Log) -> None:
    options = {"artifact_path": "my [model] 50% {v1}"}
    model = log("unusual", features("x"), LinearRegression(), takes="x", **options).stages[1]
    assert scored(rows.where("id = 0"), "unusual/1") == [
        (0, pytest.approx(float(by_hand(model, [-5.0])[0])))
    ]
