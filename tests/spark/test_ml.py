"""The transformer of Spark ML, as Fabric's documentation of PREDICT shows it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from builders.models import constant_model, delay_model, flights
from pyspark.errors import PySparkException
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.feature import SQLTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression

from lakescore.errors import ColumnsMissing, ConfigError, IntegrityError, LakescoreError
from lakescore.ml import InputColsIncomplete, InputColsUnfit, MLFlowTransformer
from lakescore.signature import ColumnsCollide, FeaturesMiscounted, TypesDiffer

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

FEATURES = ["dep_delay", "distance"]


@pytest.fixture(scope="module", autouse=True)
def versions(register: Any) -> None:
    """Version 1 of flight-delay is a fitted model, version 2 gives 7 for every row."""
    register("flight-delay")
    register("flight-delay", constant_model(7.0), flights()[FEATURES])
    mlflow.MlflowClient().set_registered_model_alias("flight-delay", "champion", "1")


@pytest.fixture
def test(spark: SparkSession) -> DataFrame:
    rows = [(n, float(n), 100.0 * n) for n in range(10)]
    return spark.createDataFrame(rows, "id int, dep_delay double, distance double")


def truth(*, swapped: bool = False) -> list[float]:
    """Return what version 1 gives for the ten rows, by pandas."""
    columns = [[float(n), 100.0 * n] for n in range(10)]
    rows = pd.DataFrame(columns, columns=FEATURES[::-1] if swapped else FEATURES)
    return list(delay_model().predict(rows[FEATURES]).tolist())


def predictions(scored: DataFrame, column: str = "predictions") -> list[float]:
    return [row[column] for row in scored.orderBy("id").collect()]


def transformer(**options: Any) -> MLFlowTransformer:
    named = {"inputCols": FEATURES, "modelName": "flight-delay", "modelVersion": 1}
    return MLFlowTransformer(**{**named, **options})


def test_the_snippet_of_fabric_gives_the_predictions_of_scikit_learn(
    spark: SparkSession,
) -> None:
    from mlflow.models import infer_signature
    from sklearn.datasets import load_diabetes

    data = load_diabetes(as_frame=True)
    fitted = LogisticRegression(max_iter=20).fit(data.data, data.target)
    mlflow.sklearn.log_model(
        fitted, name="diabetes-model", signature=infer_signature(data.data, data.target),
        registered_model_name="diabetes-model", pip_requirements=["scikit-learn"],
        serialization_format="cloudpickle",
    )  # fmt: skip
    test = spark.createDataFrame(data.frame.drop(["target"], axis=1))
    model = MLFlowTransformer(
        inputCols=test.columns,
        outputCol="predictions",
        modelName="diabetes-model",
        modelVersion=1,
    )
    scored = model.transform(test)
    assert scored.columns == [*test.columns, "predictions"]
    found = scored.toPandas().sort_values(list(data.data.columns)).reset_index(drop=True)
    rows = data.data.assign(predictions=fitted.predict(data.data))
    expected = rows.sort_values(list(data.data.columns)).reset_index(drop=True)
    assert found["predictions"].tolist() == expected["predictions"].tolist()


def test_it_is_pinned_when_it_is_made(test: DataFrame, capsys: Any) -> None:
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("flight-delay", "champion", "1")
    by_alias = transformer(modelVersion=None, alias="champion")
    said = capsys.readouterr().err
    assert "MLFlowTransformer: flight-delay@champion is models:/flight-delay/1 (sha256:" in said
    by_reference = MLFlowTransformer(inputCols=FEATURES, reference="flight-delay@champion")
    client.set_registered_model_alias("flight-delay", "champion", "2")
    for pinned in (by_alias, by_reference):
        assert predictions(pinned.transform(test)) == pytest.approx(truth())
        assert (pinned.getModelName(), pinned.getModelVersion()) == ("flight-delay", 1)
        assert pinned.getReference() == "flight-delay@champion"
    later = transformer(modelVersion=None, alias="champion")
    assert set(predictions(later.transform(test))) == {7.0}
    assert "number of the pinned version (current: 2)" in later.explainParams()


def test_it_is_saved_and_loaded_alone_and_in_a_pipeline(test: DataFrame, tmp_path: Path) -> None:
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("flight-delay", "champion", "1")
    pinned = transformer(modelVersion=None, alias="champion", outputCol="delay")
    pinned.save(str(tmp_path / "alone"))
    shifted = SQLTransformer(statement="SELECT *, delay + 1000 AS shifted FROM __THIS__")
    fitted = Pipeline(stages=[pinned, shifted]).fit(test)
    fitted.save(str(tmp_path / "pipeline"))
    client.set_registered_model_alias("flight-delay", "champion", "2")

    loaded = MLFlowTransformer.load(str(tmp_path / "alone"))
    assert predictions(loaded.transform(test), "delay") == pytest.approx(truth())
    assert loaded.uid == pinned.uid
    assert loaded.getModelDigest() == pinned.getModelDigest()
    again = PipelineModel.load(str(tmp_path / "pipeline")).transform(test)
    assert predictions(again, "shifted") == pytest.approx([value + 1000 for value in truth()])
    assert again.columns == [*test.columns, "delay", "shifted"]


def test_a_loaded_transformer_refuses_other_files(
    test: DataFrame, tmp_path: Path, spark: SparkSession
) -> None:
    pinned = transformer()
    pinned.save(str(tmp_path / "saved"))
    (part,) = (tmp_path / "saved" / "metadata").glob("part-*")
    saved = json.loads(part.read_text())
    saved["paramMap"]["modelVersion"] = 2  # as if the registry gave other files
    other = [json.dumps(saved)]
    spark.createDataFrame([(line,) for line in other], "value string").coalesce(1).write.text(
        str(tmp_path / "changed" / "metadata")
    )
    changed = MLFlowTransformer.load(str(tmp_path / "changed"))
    with pytest.raises(IntegrityError, match="models:/flight-delay/2 has files with the digest"):
        changed.transform(test)
    with pytest.raises(IntegrityError, match="was pinned to files with the digest"):
        pinned.transform(test, {pinned.modelVersion: 2})
    assert predictions(pinned.transform(test)) == pytest.approx(truth())
    renamed = pinned.transform(test, {pinned.outputCol: "other"})
    assert renamed.columns[-1] == "other"


def test_columns_are_bound_by_name_and_otherwise_in_the_order_of_the_signature(
    test: DataFrame, capsys: Any
) -> None:
    by_name = transformer(inputCols=["distance", "id", "dep_delay"])  # id is no feature
    assert predictions(by_name.transform(test)) == pytest.approx(truth())
    strangers = test.toDF("id", "x", "y")
    capsys.readouterr()
    by_order = transformer(inputCols=["x", "y"]).transform(strangers)
    assert predictions(by_order) == pytest.approx(truth())
    assert "x is dep_delay, y is distance" in capsys.readouterr().err
    swapped = transformer(inputCols=["y", "x"]).transform(strangers)
    assert predictions(swapped) != pytest.approx(truth())
    upper = test.toDF("id", "DEPDELAY", "DISTANCE")
    with pytest.raises(ColumnsMissing, match="dep_delay"):  # names, in another order, as they look
        transformer(inputCols=["DISTANCE", "DEPDELAY"]).transform(upper)


def test_columns_that_do_not_fit_are_one_line(test: DataFrame, spark: SparkSession) -> None:
    text = spark.createDataFrame([(1, "a", 2.0)], "id int, dep_delay string, distance double")
    wrong: list[tuple[DataFrame, dict[str, Any], type[LakescoreError], str]] = [
        (test, {"inputCols": ["dep_delay"]}, InputColsIncomplete, "also reads 'distance'"),
        (test, {"inputCols": ["id"]}, InputColsUnfit, "inputCols id do not fit models:/flight-de"),
        (test.drop("distance"), {}, ColumnsMissing, "the DataFrame lacks the columns 'distance'"),
        (test, {"outputCol": "id"}, ColumnsCollide, "'id' twice"),
        (text, {}, TypesDiffer, "dep_delay"),
        (flights(), {}, ConfigError, "takes a DataFrame of Spark"),  # type: ignore[list-item]
    ]
    for rows, options, kind, line in wrong:
        with pytest.raises(kind, match=line) as error:
            transformer(**options).transform(rows)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options",
    [
        {"modelVersion": None},  # neither a version nor an alias: nothing is guessed
        {"alias": "champion"},  # both
        {"reference": "flight-delay/1"},  # a name and a reference
        {"modelName": None},
        {"modelVersion": "1"},
        {"modelVersion": True},
        {"inputCols": []},
    ],
    ids=str,
)
def test_a_transformer_names_exactly_one_version(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="MLFlowTransformer: "):
        transformer(**options)


def test_a_transformer_without_a_version_says_so(test: DataFrame) -> None:
    with pytest.raises(ConfigError, match="names no version"):
        MLFlowTransformer().transform(test)


def test_a_version_without_names_takes_the_columns_in_their_order(
    test: DataFrame, register: Any
) -> None:
    array = flights()[FEATURES].to_numpy()
    register("unnamed", LinearRegression().fit(array, flights()["arr_delay"]), array)
    pinned = MLFlowTransformer(inputCols=FEATURES, modelName="unnamed", modelVersion=1)
    assert predictions(pinned.transform(test)) == pytest.approx(truth())
    with pytest.raises(FeaturesMiscounted):
        MLFlowTransformer(
            inputCols=["id", *FEATURES], modelName="unnamed", modelVersion=1
        ).transform(test)


def test_several_outputs_are_one_column_of_structs(test: DataFrame, register: Any) -> None:
    labels = flights()[["dep_delay"]].assign(twice=flights()["dep_delay"] * 2)
    fitted = LinearRegression().fit(flights()[FEATURES], labels)
    outputs = pd.DataFrame(fitted.predict(flights()[FEATURES]), columns=["once", "twice"])
    register("two", fitted, flights()[FEATURES], outputs)
    scored = transformer(modelName="two").transform(test)
    (first, *_) = scored.orderBy("id").collect()
    assert scored.columns == [*test.columns, "predictions"]
    expected = fitted.predict(pd.DataFrame([[0.0, 0.0]], columns=FEATURES))[0]
    assert list(first["predictions"]) == pytest.approx(expected.tolist())


def test_no_row_is_lost(spark: SparkSession, register: Any) -> None:
    rows = pd.DataFrame({"x": np.linspace(-1.0, 1.0, 300)})
    register("tumour", LogisticRegression().fit(rows, rows["x"] > 0), rows)
    values = [(n, None if n == 250 else float(x)) for n, x in enumerate(rows["x"])]
    frame = spark.createDataFrame(values, "id int, x double")
    pinned = MLFlowTransformer(inputCols=["x"], modelName="tumour", modelVersion=1)
    with pytest.raises(PySparkException, match="NaN"):
        pinned.transform(frame).collect()
    assert len(pinned.transform(frame.where("id <> 250")).collect()) == 299
