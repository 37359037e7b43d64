"""What a prediction looks like in the table: typed, named, and the same with both engines."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import score
from builders.jobs import score_job
from builders.models import scaling_model
from builders.tables import make_table, rows_of, types_of
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression, LogisticRegression

from lakescore.errors import ConfigError
from lakescore.loading import UnsupportedSignature
from lakescore.signature import ColumnsCollide

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import SparkSession

    from lakescore.config import ScoreJob

SCHEMA = "id int, taille double, note string"
ROWS = [(1, -3.0, "low"), (2, 0.1, "middle"), (3, 3.0, "high")]
X = pd.DataFrame({"height": [-2.0, -1.0, 1.0, 2.0]})
pytestmark = pytest.mark.usefixtures("spark")
ENGINES = pytest.mark.parametrize("engine", ["arrow", "spark_udf"])


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., ScoreJob]:
    table = make_table(tmp_path / "rows", ROWS, SCHEMA)
    return partial(score_job, tmp_path, table, columns={"height": "taille"})


@pytest.fixture(scope="module")
def classes(register: Any) -> Any:
    """Return a classifier whose labels cannot be names of columns."""
    fitted = LogisticRegression().fit(X, ["not so", "not so", "yes", "yes"])
    register("classes", fitted, X)
    return fitted


@ENGINES
def test_probabilities_are_one_named_column_a_class_and_the_threshold_decides(
    spark: SparkSession, classes: Any, job: Any, engine: str
) -> None:
    config = job(model="classes/1", prediction="proba", threshold=0.9, engine=engine)
    receipt = score.run(config)
    assert receipt["output"]["columns"] == ["p_not_so", "p_yes", "decision"]
    rows = spark.read.format("delta").load(config.output.address).orderBy("id")
    records = rows.select("p_not_so", "p_yes", "decision").collect()
    expected = classes.predict_proba(pd.DataFrame({"height": [row[1] for row in ROWS]}))
    assert np.allclose([[row[0], row[1]] for row in records], expected, rtol=1e-12)
    assert [row[2] for row in records] == ["not so", "not so", "yes"]  # 0.1 is too near the middle
    assert receipt["engine"]["name"] == engine


@pytest.mark.usefixtures("classes")
@ENGINES
def test_a_label_keeps_its_type_and_a_regressor_gives_a_number_and_not_a_list(
    register: Any, job: Any, engine: str, tmp_path: Path
) -> None:
    register("numbers", LogisticRegression().fit(X, [3, 3, 7, 7]), X)
    register("regressor", LinearRegression().fit(X, X["height"]), X)
    types = {}
    for name in ("classes", "numbers", "regressor"):
        config = job(model=f"{name}/1", engine=engine, output=tmp_path / name)
        score.run(config)
        types[name] = types_of(config.output.address)["prediction"]
    assert types == {"classes": "string", "numbers": "long", "regressor": "double"}


def test_a_threshold_on_one_score_gives_a_flag_and_on_several_is_refused(
    register: Any, job: Any
) -> None:
    register("flagged", LinearRegression().fit(X, X["height"]), X)
    config = job(model="flagged/1", threshold=0.5)
    score.run(config)
    assert rows_of(config.output.address, "id", "decision") == [(1, False), (2, False), (3, True)]
    register("three", LogisticRegression().fit(X, [1, 2, 3, 3]), X)
    with pytest.raises(ConfigError, match=r"threshold needs one score, but .* gives 3 classes"):
        score.run(job(model="three/1", prediction="proba", threshold=0.5))
    with pytest.raises(UnsupportedSignature, match="its LinearRegression has no predict_proba"):
        score.run(job(model="flagged/1", prediction="proba"))


@pytest.mark.parametrize(
    ("passthrough", "columns"),
    [
        ("none", []),
        ("keys", ["id"]),
        ("all", ["id", "taille", "note"]),
        (["note"], ["id", "note"]),
    ],
)
def test_what_is_written_beside_the_prediction_is_chosen(
    register: Any, job: Any, passthrough: Any, columns: list[str]
) -> None:
    register("beside", LinearRegression().fit(X, X["height"]), X)
    config = job(model="beside/1", passthrough=passthrough)
    score.run(config)
    assert list(types_of(config.output.address))[: len(columns) + 1] == [*columns, "prediction"]


def test_an_input_column_that_is_called_like_an_output_is_refused(
    register: Any, job: Any, tmp_path: Path
) -> None:
    register("collides", LinearRegression().fit(X, X["height"]), X)
    columns = "id int, taille double, prediction double"
    clash = make_table(tmp_path / "clash", [(1, 1.0, 0.5)], columns)
    with pytest.raises(ColumnsCollide, match="would have the columns 'prediction' twice"):
        score.run(job(model="collides/1", passthrough="all", input=clash))


@pytest.fixture(scope="module")
def scaled(register: Any) -> str:
    """Register a model that multiplies by a parameter and adds what its configuration says."""
    signature = infer_signature(X, np.array([1.0]), params={"factor": 1.0, "labels": ["a"]})
    model = scaling_model("height")
    register("scaled", model, signature=signature, model_config={"offset": 0})
    return "scaled/1"


@ENGINES
def test_params_and_model_config_reach_the_model_in_the_types_that_it_declares(
    scaled: str, job: Any, engine: str
) -> None:
    given = {"params": {"factor": "2.5"}, "model_config": {"offset": "10"}}
    config = job(model=scaled, pyfunc=given, engine=engine)
    receipt = score.run(config)
    expected = [(key, height * 2.5 + 10) for key, height, _ in ROWS]
    assert rows_of(config.output.address, "id", "prediction") == expected
    plain = job(model=scaled, engine=engine)
    assert score.run(plain)["slices"][0]["run_id"] != receipt["slices"][0]["run_id"]
    assert rows_of(plain.output.address, "id", "prediction") == [row[:2] for row in ROWS]


@pytest.mark.parametrize(
    ("pyfunc", "message"),
    [
        ({"params": {"facto": "2"}}, "know 'facto' \\(did you mean 'factor'\\?\\); it declares f"),
        (
            {"params": {"factor": "two"}},
            "factor=two does not fit the declaration of models:/scaled/1",
        ),
        ({"model_config": {"ofset": "1"}}, "know 'ofset' \\(did you mean 'offset'\\?\\)"),
        ({"model_config": {"offset": "1.5"}}, "offset=1.5 does not fit"),
    ],
)
def test_an_option_that_the_model_does_not_declare_is_refused(
    scaled: str, job: Any, pyfunc: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        score.run(job(model=scaled, pyfunc=pyfunc))
