"""Versions are scored by the Python and the libraries that they were trained with."""

from __future__ import annotations

import platform
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import compare
import mlflow
import pytest
import replay
import score
from builders import vintages
from builders.jobs import compare_job, replay_job, score_job
from builders.tables import rows_of
from builders.vintages import PLAIN, Trained, Vintage
from deltalake import write_deltalake

from lakescore.errors import LakescoreError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_USED = ("scikit-learn", "cloudpickle", "numpy", "pandas", "pyarrow")
TODAY = Vintage(
    platform.python_version(), tuple(f"{n}=={version(n)}" for n in _USED), "gradient boosting"
)
"""A model that the packages of this machine trained."""
HERE, OTHER = "3.11.7", "3.12.1"
VINTAGES = {
    # Its pickle names the module `_loss`, which later versions do not have.
    "boosting_of_1_5": Vintage(HERE, ("scikit-learn==1.5.2", *PLAIN), "gradient boosting"),
    "linear_of_1_6_on_3_12": Vintage(OTHER, ("scikit-learn==1.6.1", *PLAIN), "linear"),
    # Only MLflow can call it. It brings its own code, and each Python gives other values.
    "code_of_3_12": Vintage(OTHER, ("mlflow==3.17.2", *PLAIN), "code"),
    "xgboost_of_2": Vintage(
        "3.10.13", ("xgboost-cpu==2.1.4", "scikit-learn==1.5.2", *PLAIN), "xgboost"
    ),
}

SEGMENTS = ("boosting_of_1_5", "xgboost_of_2")
"""The names of models, which are the segments of rows too."""


@pytest.fixture(scope="module")
def trained(
    registry: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[str, Trained]:
    """Train and register the models."""
    mlflow.set_tracking_uri(registry)
    models = {}
    for name, vintage in {**VINTAGES, "today": TODAY}.items():
        models[name] = vintages.train(tmp_path_factory.mktemp("trained") / name, vintage)
        client = mlflow.MlflowClient()
        client.create_registered_model(name)
        client.create_model_version(name, models[name].folder.as_uri())
        client.set_registered_model_alias(name, "champion", "1")
    return models


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "rows"
    rows = vintages.rows()
    rows["kind"] = [SEGMENTS[n % 2] for n in rows["id"]]
    write_deltalake(path, rows)
    return path


def predicted(folder: Path) -> list[float]:
    return [value for _, value in rows_of(folder, "id", "prediction")]


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize("name", VINTAGES)
def test_predictions_are_those_of_the_environment_in_which_the_model_was_trained(
    trained: Mapping[str, Trained], table: Path, tmp_path: Path, name: str
) -> None:
    report = score.run(score_job(tmp_path, table, model=f"{name}/1"))
    expected = trained[name].expected.tolist()
    assert predicted(tmp_path / "predictions") == pytest.approx(expected, rel=1e-12)
    used = report["engine"]["environments"][f"models:/{name}/1"]
    assert (used["name"], used["python"]) == ("own", trained[name].python)
    assert BECAUSE_OF[name] in used["reason"]
    assert HERE_SAYS[name] in used["here"]


BECAUSE_OF = {
    "boosting_of_1_5": "scikit-learn==1.5.2",
    "linear_of_1_6_on_3_12": "python==3.12.1",
    "code_of_3_12": "python==3.12.1",
    "xgboost_of_2": "xgboost-cpu==2.1.4",
}
HERE_SAYS = {
    "boosting_of_1_5": "cannot apply it: \"No module named '_loss'\"",
    "linear_of_1_6_on_3_12": 'cannot apply it: "it cannot be loaded',
    "code_of_3_12": "predict something else for",
    "xgboost_of_2": (
        "predict the same for 200 rows" if find_spec("xgboost") else "No module named 'xgboost'"
    ),
}
"""What the probe says of the packages installed here."""


def test_a_model_of_today_needs_no_environment_and_gets_one_if_the_job_asks_for_it(
    trained: Mapping[str, Trained], table: Path, tmp_path: Path
) -> None:
    shared = score.run(score_job(tmp_path / "auto", table, model="today/1"))
    own = score.run(score_job(tmp_path / "own", table, model="today/1", environment="own"))
    assert "environments" not in shared["engine"]
    used = own["engine"]["environments"]["models:/today/1"]
    assert (used["name"], used["reason"]) == ("own", "asked for")
    for folder in ("auto", "own"):
        assert predicted(tmp_path / folder / "predictions") == trained["today"].expected.tolist()


@pytest.mark.usefixtures("trained")
def test_the_packages_of_this_machine_cannot_load_it(table: Path, tmp_path: Path) -> None:
    job = score_job(tmp_path, table, model="boosting_of_1_5/1", environment="shared")
    with pytest.raises(LakescoreError, match="_loss"):
        score.run(job)


@pytest.mark.usefixtures("trained")
def test_the_packages_of_this_machine_predict_something_else(
    trained: Mapping[str, Trained], table: Path, tmp_path: Path
) -> None:
    shared = score_job(tmp_path / "shared", table, model="code_of_3_12/1", environment="shared")
    own = score_job(tmp_path / "own", table, model="code_of_3_12/1")
    assert "environments" not in score.run(shared)["engine"]
    score.run(own)
    values = predicted(tmp_path / "own/predictions")
    assert values == trained["code_of_3_12"].expected.tolist()
    assert values != predicted(tmp_path / "shared/predictions")


@pytest.mark.usefixtures("runner")
def test_one_pass_compares_versions_of_several_environments(
    trained: Mapping[str, Trained], table: Path, tmp_path: Path
) -> None:
    names = ["boosting_of_1_5", "xgboost_of_2", "code_of_3_12"]
    versions = [f"{name}/1" for name in names]
    report = compare.run(
        compare_job(tmp_path, table, versions=versions, label="label", id_columns=["id"])
    )
    label = vintages.rows()["label"].to_numpy()
    for entry in report["ranking"]:
        name = entry["uri"].split("/")[1]
        rmse = ((label - trained[name].expected) ** 2).mean() ** 0.5
        assert entry["metrics"]["rmse"] == pytest.approx(rmse, rel=1e-12)
    assert report["engine"]["rows_predicted"] == len(label)


def test_the_model_of_a_segment_runs_in_its_own_environment(
    trained: Mapping[str, Trained], table: Path, tmp_path: Path
) -> None:
    model = {"by": "kind", "name": "{kind}@champion"}
    report = score.run(score_job(tmp_path, table, model=model))
    expected = [trained[SEGMENTS[n % 2]].expected[n] for n in range(vintages.ROWS)]
    assert predicted(tmp_path / "predictions") == pytest.approx(expected, rel=1e-12)
    environments = report["engine"]["environments"]
    assert {uri: used["name"] for uri, used in environments.items()} == {
        f"models:/{name}/1": "own" for name in SEGMENTS
    }


def test_a_replay_uses_the_same_environment(
    trained: Mapping[str, Trained],  # noqa: ARG001 - it is registered
    table: Path,
    tmp_path: Path,
) -> None:
    job = score_job(tmp_path, table, model="boosting_of_1_5/1")
    run = score.run(job)["slices"][0]["run_id"]
    report = replay.run(replay_job(job, run))
    assert (report["rows"], report["same"]) == (vintages.ROWS, vintages.ROWS)


@pytest.mark.parametrize(
    "does",
    [
        "os._exit(7)",
        "os.kill(os.getpid(), 9)",
        "if not os.fork(): os._exit(0)",
        "raise ValueError('this batch alone fails')",
    ],
)
def test_a_model_that_fails_once_in_its_environment_loses_no_row(
    trained: Mapping[str, Trained],
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    does: str,
) -> None:
    """Both runners ask the process in the same way: `executor.delegating`."""
    order, publish = trained["code_of_3_12"].order, score.publish

    def publish_later(*given: Any) -> Any:  # the probe is done
        order.write_text(does)
        return publish(*given)

    monkeypatch.setattr(score, "publish", publish_later)
    report = score.run(score_job(tmp_path, table, model="code_of_3_12/1"))
    assert not order.exists()
    assert report["rows_scored"] == vintages.ROWS
    assert predicted(tmp_path / "predictions") == trained["code_of_3_12"].expected.tolist()
