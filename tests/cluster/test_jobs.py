"""The same job files in local mode, on a cluster and by Spark Connect: the same tables."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from builders import vintages
from builders.models import scaling_model
from builders.vintages import PLAIN, Trained, Vintage
from clusters import Cluster, wait_for
from deltalake import DeltaTable, write_deltalake
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Place

ROWS = 2_000
FILES = 4
DAYS = ("2013-12-01", "2013-12-02")
FEATURES = ["a", "b"]


@pytest.fixture(scope="module")
def trips(home: Path) -> pd.DataFrame:
    """Write a table of four files, and return its rows."""
    random = np.random.default_rng(7)
    rows = pd.DataFrame(
        {
            "id": np.arange(ROWS),
            "day": [DAYS[n % 2] for n in range(ROWS)],
            "segment": [f"v-{1 + n % 3}" for n in range(ROWS)],
            "a": random.normal(size=ROWS),
            "b": random.normal(size=ROWS),
        }
    )
    rows["label"] = 3 * rows["a"] - rows["b"] + random.normal(size=ROWS)
    for start in range(0, ROWS, ROWS // FILES):
        part = rows[start : start + ROWS // FILES]
        write_deltalake(str(home / "tables/trips"), part, mode="append")
    return rows


@pytest.fixture(scope="module")
def models(register: Callable[..., Any], trips: pd.DataFrame) -> list[Any]:
    """Register versions 1 to 3: a tree, whose values are exact, a linear model, another tree."""
    kinds = (
        DecisionTreeRegressor(max_depth=5),
        LinearRegression(),
        DecisionTreeRegressor(max_depth=4),
    )
    fitted = [kind.fit(trips[FEATURES], trips["label"]) for kind in kinds]
    for number, model in enumerate(fitted, 1):
        register("trips", model, trips[FEATURES], alias=f"v-{number}")
    return fitted


@pytest.fixture(scope="module")
def large(register: Callable[..., Any], trips: pd.DataFrame) -> LinearRegression:
    """Register a model whose file is large, though the model predicts at once."""
    model = LinearRegression().fit(trips[FEATURES], trips["label"])
    model.ballast_ = bytes(300 * 2**20)
    register("large", model, trips[FEATURES])
    return model


@pytest.fixture(scope="module")
def older(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Register a model that another Python and another scikit-learn trained, and write its rows."""
    vintage = Vintage("3.12.1", ("scikit-learn==1.5.2", *PLAIN), "gradient boosting")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKESCORE_HOME", str(home))  # so that jobs find its environment
        trained = vintages.train(tmp_path_factory.mktemp("trained") / "older", vintage)
    mlflow.set_tracking_uri(f"sqlite:///{home / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    client.create_registered_model("older")
    client.create_model_version("older", trained.folder.as_uri())
    write_deltalake(str(home / "tables/older_rows"), vintages.rows())
    return trained


def scoring_into(output: str, model: str = "trips/1", **more: Any) -> dict[str, Any]:
    return {
        "model": model,
        "input": {"path": "tables/trips"},
        "output": {"path": f"tables/{output}"},
        "id_columns": ["id"],
        "slice_by": "day",
        "slices": "2013-12-01..2013-12-02",
        **more,
    }


def table(home: Path, name: str) -> pd.DataFrame:
    return DeltaTable(str(home / "tables" / name)).to_pandas()


@dataclass(frozen=True)
class Scored:
    """A job that ran in one start with others: its receipt, and its lines."""

    receipt: dict[str, Any]
    lines: list[dict[str, Any]]


@pytest.fixture(scope="module")
def scored(
    place: Place,
    models: list[Any],  # noqa: ARG001 - they are registered
    large: LinearRegression,  # noqa: ARG001
    older: Trained,  # noqa: ARG001
    scaled: str,
) -> dict[str, Scored]:
    """Run score jobs in one start, each into a table that is called by the place and its name."""
    pyfunc = {"params": {"factor": 2.5}, "model_config": {"offset": 10}}
    asked: dict[str, dict[str, Any]] = {
        f"{engine}_{scan}": {"engine": engine, "scan": scan, "model": f"trips/{version}"}
        for engine, scan, version in ENGINES
    }
    asked |= {
        f"scaled_{engine}": {"engine": engine, "model": scaled, "pyfunc": pyfunc}
        for engine in ("arrow", "spark_udf")
    }
    asked["large"] = {"model": "large/1"}
    rows = {"input": {"path": "tables/older_rows"}, "slice_by": None, "slices": None}
    asked["older"] = {"model": "older/1", **rows}
    asked["by_segment"] = {"model": {"by": "segment", "name": "trips@{segment}"}}
    files = []
    for name, settings in asked.items():
        file = place.write("score", **scoring_into(f"{place.kind}_{name}", **settings))
        files.append(file.rename(place.home / f"{name}.yaml"))
    job = place.submit("score", *files)
    *receipts, summary = job.receipts()
    assert (summary["exit_code"], summary["failed"], len(receipts)) == (0, 0, len(asked))
    return {
        receipt["name"]: Scored(
            receipt,
            [line for line in job.lines if line["context"].get("name") == receipt["name"]],
        )
        for receipt in receipts
    }


# Arrow's jobs share workers: with a version each, every worker loads one for every job.
ENGINES = [("arrow", "direct", 1), ("arrow", "spark", 3), ("spark_udf", "spark", 1)]


@pytest.mark.parametrize(("engine", "scan", "version"), ENGINES)
def test_scores_are_the_same_in_all_places(  # noqa: PLR0913, PLR0917 - two are a row's cells
    place: Place,
    scored: dict[str, Scored],
    trips: pd.DataFrame,
    models: list[Any],
    home: Path,
    engine: str,
    scan: str,
    version: int,
) -> None:
    output = f"{place.kind}_{engine}_{scan}"
    job = scored[f"{engine}_{scan}"]
    receipt = job.receipt
    assert (receipt["status"], receipt["rows_scored"]) == ("scored", ROWS)
    done = receipt["engine"]
    assert (done["name"], done.get("scan", "spark")) == (engine, scan)
    if engine == "arrow":
        assert (done["rows_predicted"], done["workers"]) == (ROWS, 2)  # one for each core
        assert done["loads"] == done["workers"]
    rows = table(home, output).sort_values("id", ignore_index=True)
    assert rows["id"].tolist() == trips["id"].tolist()
    assert rows["slice"].tolist() == trips["day"].tolist()
    assert set(rows["model_uri"]) == {f"models:/trips/{version}"}
    assert rows["prediction"].tolist() == models[version - 1].predict(trips[FEATURES]).tolist()

    runs = dict(zip(rows["slice"], rows["scoring_run_id"], strict=True))
    assert all(line["context"]["job"] == "score" for line in job.lines)
    known = [line for line in job.lines if "runs" in line["context"]]
    assert [line["context"]["runs"] for line in known] == [runs] * len(known)
    slices = [line["context"] for line in known if "slice" in line["context"]]
    assert {line["slice"]: line["run_id"] for line in slices} == runs
    assert {line["model"] for line in slices} == {f"models:/trips/{version}"}


def test_a_large_model_is_loaded_once_for_all_workers_of_a_machine(
    place: Place,
    scored: dict[str, Scored],
    trips: pd.DataFrame,
    large: LinearRegression,
    home: Path,
) -> None:
    engine = scored["large"].receipt["engine"]
    assert engine["workers"] == 2
    assert engine["loads"] <= 1  # none if the driver, which is on this machine, was the first
    rows = table(home, f"{place.kind}_large").sort_values("id")
    assert rows["prediction"].tolist() == large.predict(trips[FEATURES]).tolist()


def test_executors_without_its_packages_apply_a_model_by_the_python_that_trained_it(
    place: Place, scored: dict[str, Scored], older: Trained, home: Path
) -> None:
    used = scored["older"].receipt["engine"]["environments"]["models:/older/1"]
    assert (used["name"], used["python"], used["here"]) == (
        "own", older.python,
        "the packages installed here cannot apply it: \"No module named '_loss'\"",
    )  # fmt: skip
    rows = table(home, f"{place.kind}_older").sort_values("id")
    assert rows["prediction"].tolist() == older.expected.tolist()


@pytest.mark.wide(place="connect")
def test_a_replay_makes_the_same_predictions(place: Place, scored: dict[str, Scored]) -> None:
    run = scored["arrow_direct"].receipt["slices"][0]["run_id"]
    replayed = place.run("replay", output={"path": f"tables/{place.kind}_arrow_direct"}, run=run)
    assert (replayed["rows"], replayed["same"]) == (ROWS // 2, ROWS // 2)


@pytest.mark.wide(place="connect")
def test_rankings_are_the_same_in_all_places(
    place: Place, trips: pd.DataFrame, models: list[Any]
) -> None:
    receipt = place.run(
        "compare",
        versions=["trips/1", "trips/2", {"by": "segment", "name": "trips@{segment}"}],
        holdout={"path": "tables/trips"},
        label="label",
        rank_by="rmse",
        output={"path": f"tables/{place.kind}_ranking"},
    )
    errors = [trips["label"] - model.predict(trips[FEATURES]) for model in models[:2]]
    expected = {f"models:/trips/{n + 1}": (e**2).mean() ** 0.5 for n, e in enumerate(errors)}
    of_segments = np.choose(
        trips["id"] % 3, [trips["label"] - model.predict(trips[FEATURES]) for model in models]
    )
    expected["trips@{segment}"] = (of_segments**2).mean() ** 0.5
    ranking = receipt["ranking"]
    assert [entry["uri"] for entry in ranking] == sorted(expected, key=expected.__getitem__)
    for entry in ranking:
        assert entry["metrics"]["rmse"] == pytest.approx(expected[entry["uri"]], rel=1e-12)


@pytest.fixture(scope="module")
def scaled(register: Callable[..., int]) -> str:
    """Register a model that multiplies by a parameter and adds what its configuration says."""
    example = pd.DataFrame({"a": [1.0]})
    signature = mlflow.models.infer_signature(example, np.array([1.0]), params={"factor": 1.0})
    model = scaling_model("a")
    register("scaled on a cluster", model, signature=signature, model_config={"offset": 0})
    return "scaled on a cluster/1"


@pytest.mark.parametrize("engine", ["arrow", "spark_udf"])
def test_params_and_model_config_reach_the_model_in_all_places(
    place: Place, scored: dict[str, Scored], trips: pd.DataFrame, home: Path, engine: str
) -> None:
    output = f"scaled_{engine}"
    assert scored[output].receipt["engine"]["name"] == engine
    predictions = table(home, f"{place.kind}_{output}").sort_values("id")["prediction"]
    assert predictions.tolist() == (trips["a"] * 2.5 + 10).tolist()


def test_each_segment_is_scored_by_its_own_version_in_all_places(
    place: Place, scored: dict[str, Scored], trips: pd.DataFrame, models: list[Any], home: Path
) -> None:
    receipt = scored["by_segment"].receipt
    assert {segment["segment"]: segment["uri"] for segment in receipt["segments"]} == {
        f"v-{n}": f"models:/trips/{n}" for n in (1, 2, 3)
    }
    rows = table(home, f"{place.kind}_by_segment").sort_values("id", ignore_index=True)
    assert rows["model_version"].tolist() == [1 + n % 3 for n in trips["id"]]
    for n, model in enumerate(models):
        own = trips["id"] % 3 == n
        expected = model.predict(trips.loc[own, FEATURES])
        assert rows.loc[own, "prediction"].tolist() == pytest.approx(expected, rel=1e-12)


@dataclass(frozen=True)
class Stage:
    """Where the workers of a model that waits meet the test: files in a folder."""

    folder: Path

    def workers(self) -> dict[int, bool]:
        """Return the process ids of the workers that predict; whether each can import lakescore."""
        notes = [json.loads(path.read_text()) for path in self.folder.glob("worker-*")]
        return {note["pid"]: note["lakescore"] for note in notes}

    def go(self) -> None:
        """Let the workers end their predictions."""
        (self.folder / "go").touch()


@pytest.fixture
def waiting(register: Callable[..., Any], trips: pd.DataFrame, tmp_path: Path) -> Stage:
    """Register a model that doubles `a`, and whose workers wait for a sign before they do."""
    folder = str(tmp_path)

    class Waiting(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            import importlib.util
            import os
            import time
            from pathlib import Path

            if "SPARK_REUSE_WORKER" in os.environ:  # and not in the driver
                packed = importlib.util.find_spec("lakescore") is not None
                note = Path(folder, f".{os.getpid()}")
                note.write_text(f'{{"pid": {os.getpid()}, "lakescore": {str(packed).lower()}}}')
                note.rename(Path(folder, f"worker-{os.getpid()}"))
                deadline = time.monotonic() + 600
                while not Path(folder, "go").exists() and time.monotonic() < deadline:
                    time.sleep(0.05)
            return 2 * model_input["a"]

    register("waiting", Waiting(), trips[FEATURES], 2 * trips["a"])
    return Stage(tmp_path)


@pytest.fixture
def unlucky(register: Callable[..., Any], trips: pd.DataFrame, tmp_path: Path) -> None:
    """Register a model whose first prediction in a worker fails, and whose second hangs."""
    folder = str(tmp_path)

    class Unlucky(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            import os
            import time
            from pathlib import Path

            if "SPARK_REUSE_WORKER" in os.environ:
                for name in ("failed", "hung"):
                    try:
                        Path(folder, name).touch(exist_ok=False)
                    except FileExistsError:
                        continue
                    if name == "failed":
                        raise RuntimeError("a cosmic ray")
                    time.sleep(600)
            return 2 * model_input["a"]

    register("unlucky", Unlucky(), trips[FEATURES], 2 * trips["a"])


def holds_each_row_doubled(home: Path, name: str, trips: pd.DataFrame) -> bool:
    rows = table(home, name).sort_values("id", ignore_index=True)
    same = rows["prediction"].tolist() == (2 * trips["a"]).tolist()
    return bool(rows["id"].tolist() == trips["id"].tolist() and same)


@pytest.mark.usefixtures("cluster", "unlucky")
def test_a_failed_task_is_tried_again_and_one_that_hangs_is_overtaken(
    place: Place, trips: pd.DataFrame, home: Path, tmp_path: Path
) -> None:
    receipt = place.run("score", **scoring_into("unlucky", "unlucky/latest"))
    assert {path.name for path in tmp_path.iterdir()} == {"failed", "hung"}
    assert receipt["seconds"]["total"] < 600  # what it hangs
    assert receipt["engine"]["rows_predicted"] == ROWS
    assert holds_each_row_doubled(home, "unlucky", trips)


def test_an_executor_that_dies_changes_nothing(
    place: Place, cluster: Cluster, waiting: Stage, trips: pd.DataFrame, home: Path
) -> None:
    job = place.start("score", **scoring_into("executor_died", "waiting/latest"))
    wait_for(lambda: len(waiting.workers()) == 2, "a task in each of two executors")
    assert set(waiting.workers().values()) == {False}  # none could import lakescore
    (executor,) = cluster.workers[0].executors
    os.kill(executor, signal.SIGKILL)
    wait_for(lambda: len(waiting.workers()) > 2, "the task in a new executor")
    assert executor not in cluster.workers[0].executors
    waiting.go()
    assert job.receipt()["rows_scored"] == ROWS
    assert holds_each_row_doubled(home, "executor_died", trips)


def test_a_worker_machine_that_is_replaced_changes_nothing(
    place: Place, cluster: Cluster, waiting: Stage, trips: pd.DataFrame, home: Path
) -> None:
    job = place.start("score", **scoring_into("worker_died", "waiting/latest"))
    wait_for(lambda: len(waiting.workers()) == 2, "a task in each of two executors")
    host = cluster.workers[0].host
    cluster.kill(cluster.workers[0])
    cluster.add_worker(host)
    wait_for(lambda: len(waiting.workers()) > 2, "the task in the new worker's executor")
    waiting.go()
    assert job.receipt()["rows_scored"] == ROWS
    assert holds_each_row_doubled(home, "worker_died", trips)
