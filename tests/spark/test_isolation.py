"""Isolation: what is labelled version 2 was computed by version 2 alone, whatever ran before it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import compare
import mlflow
import numpy as np
import pandas as pd
import pytest
import score
from builders.jobs import compare_job, score_job
from builders.tables import make_table, rows_of
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from lakescore import scoring, signature
from lakescore.comparing.errors import GateFailed
from lakescore.errors import ScoringFailed
from lakescore.loading import prepare
from lakescore.registry import resolve

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

X = pd.DataFrame({"x": [1.0, 2.0, 3.0]})
pytestmark = pytest.mark.usefixtures("spark")
ENGINES: tuple[Literal["arrow", "spark_udf"], ...] = ("arrow", "spark_udf")


def shaping() -> Any:
    """Return a model whose pickle holds its class, as if a notebook defined it."""

    class Shaped(mlflow.pyfunc.PythonModel):
        """Both versions ship a module with one name and different code."""

        def load_context(self, context: Any) -> None:  # noqa: ARG002
            import shop_features

            self.shape = shop_features.shape

        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            return self.shape(model_input["x"])

    return Shaped()


def leaking(factor: float, folder: str) -> Any:
    """Return a model that changes all that a process shares."""

    class Leaky(mlflow.pyfunc.PythonModel):
        """Change all that a process shares; predict -1 if another version changed it before."""

        def __init__(self, factor: float, folder: str) -> None:
            self.factor, self.folder = factor, folder

        def load_context(self, context: Any) -> None:  # noqa: ARG002
            import builtins
            import random
            import sys
            import warnings

            import matplotlib as mpl
            import sklearn

            self.met = [
                "LEAKY" in os.environ,
                os.getcwd() == self.folder,  # noqa: PTH109
                self.folder in sys.path,
                "leaky" in sys.modules,
                hasattr(builtins, "leaky"),
                any("leaky" in str(entry) for entry in warnings.filters),
                mpl.rcParams["figure.dpi"] == 77,
                sklearn.get_config()["assume_finite"],
                np.geterr()["divide"] == "raise",
                random.random() == random.Random(7).random(),  # noqa: S311
            ]
            os.environ["LEAKY"] = "1"
            os.chdir(self.folder)
            sys.path.append(self.folder)
            sys.modules["leaky"] = sys
            builtins.leaky = True  # type: ignore[attr-defined]
            warnings.filterwarnings("ignore", message="leaky")
            mpl.rcParams["figure.dpi"] = 77
            sklearn.set_config(assume_finite=True)
            np.seterr(divide="raise")
            random.seed(7)

        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            return model_input["x"] * (-1 if any(self.met) else self.factor)

    return Leaky(factor, folder)


@pytest.fixture(scope="module")
def shaped(register: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Register a version that doubles and one that triples, by modules of one name."""
    for factor in (2, 3):
        module = tmp_path_factory.mktemp("code") / "shop_features.py"
        module.write_text(f"def shape(x):\n    return {factor} * x\n")
        register("shaped", shaping(), X, np.array([1.0]), code_paths=[str(module)])
    return "shaped"


def planned(rows: DataFrame, engine: Any, *references: str) -> scoring.Plan:
    contracts = [signature.bind("rows", rows, prepare(resolve(name))) for name in references]
    return scoring.plan(engine, rows, contracts, keep=["x"])


def values(plan: scoring.Plan) -> list[tuple[float, ...]]:
    rows = scoring.side_by_side(plan).orderBy("x").collect()
    return [tuple(row)[:-1] for row in rows]


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame([(1.0,), (2.0,), (5.0,), (7.0,)], "x double").repartition(2)


@pytest.mark.parametrize("engine", ENGINES)
def test_versions_that_ship_a_module_of_one_name_are_each_scored_by_their_own(
    rows: DataFrame, shaped: str, engine: str
) -> None:
    first, second = f"{shaped}/1", f"{shaped}/2"
    expected = [(1.0, 2.0, 3.0), (2.0, 4.0, 6.0), (5.0, 10.0, 15.0), (7.0, 14.0, 21.0)]
    one_by_one = [values(planned(rows, engine, name)) for name in (first, second, first)]
    assert one_by_one[0] == [row[:2] for row in expected]
    # By the workers of the first version.
    assert one_by_one[1] == [(x, three) for x, _, three in expected]
    assert one_by_one[2] == one_by_one[0]
    assert values(planned(rows, engine, first, second)) == expected
    assert values(planned(rows, engine, second, first)) == [(x, c, b) for x, b, c in expected]


def test_a_version_does_not_pass_its_gate_by_the_module_of_another(
    shaped: str, tmp_path: Path
) -> None:
    rows = [(float(n), 2.0 * n) for n in range(1, 201)]
    path = make_table(tmp_path / "holdout", rows, "x double, y double")
    gates = {"metrics": {"rmse": {"greater_is_better": False, "threshold": 1}}}
    job = compare_job(
        tmp_path,
        path,
        versions=[f"{shaped}/1", f"{shaped}/2"],
        baseline=f"{shaped}/1",
        label="y",
        rank_by="rmse",
        gates={**gates, "candidate": f"{shaped}/2"},
    )
    with pytest.raises(GateFailed) as raised:
        compare.run(job)
    assert raised.value.exit_code == 6
    ranking = rows_of(tmp_path / "ranking", "metric", "scope", "model_version", "value")
    values = {version: value for *kind, version, value in ranking if kind == ["rmse", "common"]}
    # The root of the mean of x squared, for x = 1 to 200: (n + 1)(2n + 1) / 6.
    expected = {1: 0.0, 2: (201 * 401 / 6) ** 0.5}
    assert values == pytest.approx(expected)


def test_a_run_labels_rows_with_the_version_that_computed_them_after_another_run(
    shaped: str, tmp_path: Path
) -> None:
    table = make_table(tmp_path / "rows", [(n, float(n)) for n in (1, 2, 3)], "id bigint, x double")
    for version, factor in ((1, 2.0), (2, 3.0)):
        receipt = score.run(score_job(tmp_path, table, model=f"{shaped}/{version}"))
        predictions = rows_of(tmp_path / "predictions", "id", "prediction", "model_version")
        ours = [row[:2] for row in predictions if row[2] == version]
        assert ours == [(n, n * factor) for n in (1, 2, 3)]
        assert list(receipt["engine"]["own_processes"]) == [f"models:/{shaped}/{version}"]


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_that_a_process_shares_goes_from_one_version_to_another(
    rows: DataFrame, register: Any, engine: str, tmp_path: Path
) -> None:
    name = f"leaky {engine}"
    for factor in (2.0, 3.0):
        folder = tmp_path / str(factor)
        folder.mkdir()
        register(name, leaking(factor, str(folder)), X, np.array([1.0]))
    expected = [(x, 2 * x, 3 * x) for x in (1.0, 2.0, 5.0, 7.0)]
    assert values(planned(rows, engine, f"{name}/1", f"{name}/2")) == expected
    assert "LEAKY" not in os.environ  # nor into the driver, which tried them first


def test_a_scikit_learn_model_with_a_function_of_its_own_has_its_own_process_too(
    rows: DataFrame, register: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubled(x: pd.DataFrame) -> pd.DataFrame:
        os.environ["DOUBLED"] = "1"
        return x * 2

    own = make_pipeline(FunctionTransformer(doubled), LinearRegression())
    known = make_pipeline(FunctionTransformer(np.log1p), LinearRegression())
    for model in (own, known):
        register("functions", model.fit(X, X["x"]), X)
    monkeypatch.delenv("DOUBLED")  # of the fit, here
    plans = [planned(rows, "arrow", f"functions/{n}") for n in (1, 2)]
    assert plans[0].isolated == {
        "models:/functions/1": "cloudpickle.cloudpickle._make_function in model.pkl"
    }
    assert plans[1].isolated == {}
    assert [plan.versions[0].mode for plan in plans] == ["block", "block"]
    predictions = dict(values(plans[0]))
    assert predictions == pytest.approx({1.0: 1.0, 2.0: 2.0, 5.0: 5.0, 7.0: 7.0})
    assert "DOUBLED" not in os.environ


@pytest.mark.parametrize(
    ("ending", "says"),
    [("exit", "ended with exit code 3"), ("kill", "was ended by SIGKILL")],
)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_whose_process_ends_is_an_error_that_says_how(
    rows: DataFrame, register: Any, engine: str, ending: str, says: str
) -> None:
    class Ending(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            if ending == "exit":
                os._exit(3)
            os.kill(os.getpid(), 9)
            return model_input["x"]

    name = f"ending by {ending} {engine}"
    register(name, Ending(), X, np.array([1.0]))
    with pytest.raises(ScoringFailed, match=says):
        planned(rows, engine, f"{name}/1")
