"""A large model is loaded once a machine, whatever the number of workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import compare
import numpy as np
import pandas as pd
import pytest
import score
from builders.jobs import compare_job, score_job
from builders.tables import make_table, rows_of
from builders.waiting import renew_workers
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

from lakescore import runner as running
from lakescore.loading import prepare, preparing
from lakescore.registry import resolve

if TYPE_CHECKING:
    from pathlib import Path

Job = Callable[..., dict[str, Any]]
pytestmark = pytest.mark.usefixtures("runner")
X = pd.DataFrame({"x": np.arange(200.0), "y": np.arange(200.0) % 7})
TARGET = X["x"] * 2 + X["y"]
ROWS = [(n, float(n), float(n % 7), 2.0 * n + n % 7) for n in range(200)]
BALLAST = 100 * 2**20
"""The bytes of a model that is large, and predicts at once."""


@pytest.fixture
def table(tmp_path: Path) -> str:
    """Return a table of four files, so that two workers have tasks."""
    for n in range(4):
        part = ROWS[n * 50 : n * 50 + 50]
        columns = "id int, x double, y double, label double"
        make_table(tmp_path / "input", part, columns, mode="append" if n else "error")
    return str(tmp_path / "input")


@pytest.fixture(autouse=True)
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use two new workers, even for a few rows."""
    monkeypatch.setattr(running, "_SECONDS_TO_SHARE", -1.0)
    renew_workers()


@pytest.fixture
def is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers share every model."""
    monkeypatch.setattr(preparing, "_SHARED_FROM", 1)


@pytest.fixture
def scored(tmp_path: Path, table: str) -> Job:
    """Score the table by a model; return what the receipt says of the engine."""

    def run(model: str, **settings: Any) -> dict[str, Any]:
        report = score.run(score_job(tmp_path, table, model=model, **settings))
        assert report["rows_scored"] == len(ROWS)
        engine: dict[str, Any] = report["engine"]
        return engine

    return run


def predictions(folder: Path) -> list[float]:
    return [value for _, value in rows_of(folder, "id", "prediction")]


def with_ballast(size: int) -> LinearRegression:
    """Return a fitted model that holds *size* more bytes than it needs."""
    model = LinearRegression().fit(X, TARGET)
    model.ballast_ = np.random.default_rng(0).bytes(size)
    return model


@pytest.mark.usefixtures("is_large")
def test_two_workers_share_a_model_and_predict_as_it_does(
    scored: Job, register: Any, tmp_path: Path
) -> None:
    forest = RandomForestRegressor(20, random_state=1).fit(X, TARGET)
    register("large-forest", forest, X, TARGET)
    engine = scored("large-forest/1")
    assert engine["workers"] == 2
    assert engine["loads"] == 0  # the probe's process came first, and told its own load
    assert predictions(tmp_path / "predictions") == list(forest.predict(X))
    assert engine["modes"] == ["block"]


@pytest.mark.parametrize("runner", ["local"], indirect=True)  # Spark's workers keep older models
def test_a_machine_needs_the_memory_of_one_model_for_two_workers(
    scored: Job, register: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = {}
    models = {"large-light": with_ballast(1), "large-heavy": with_ballast(BALLAST)}
    for name, model in models.items():
        register(name, model, X, TARGET)
    for share_from in (1, 2**40):
        monkeypatch.setattr(preparing, "_SHARED_FROM", share_from)
        memory = []
        for name, model in models.items():
            renew_workers()
            output = tmp_path / f"{name} {share_from}"
            engine = scored(f"{name}/1", output=str(output))
            assert engine["workers"] == 2
            assert predictions(output) == list(model.predict(X))
            memory.append(engine["memory_bytes"])
        added[share_from] = memory[1] - memory[0]
    assert added[1] < 1.4 * BALLAST
    assert added[2**40] > 1.7 * BALLAST


@pytest.mark.usefixtures("is_large")
def test_large_versions_in_one_pass_are_each_their_own(
    register: Any, table: str, tmp_path: Path
) -> None:
    for seed in (0, 5):
        register("large-pair", LinearRegression().fit(X, TARGET + seed), X, TARGET)
    job = compare_job(tmp_path, table, versions=["large-pair/1", "large-pair/2"], label="label")
    ranking = compare.run(job)["ranking"]
    assert [(entry["version"], entry["metrics"]["rmse"]) for entry in ranking] == [
        (1, pytest.approx(0.0, abs=1e-9)),
        (2, pytest.approx(5.0)),
    ]


@pytest.mark.usefixtures("is_large")
def test_a_bad_row_of_a_large_model_is_set_aside(register: Any, tmp_path: Path) -> None:
    register("large-strict", LinearRegression().fit(X, TARGET), X, TARGET)
    rows = [(1, 1.0, 1.0), (2, None, 1.0), (3, 3.0, 3.0)]  # scikit-learn refuses NaN
    bad = make_table(tmp_path / "bad", rows, "id int, x double, y double")
    config = score_job(tmp_path, bad, model="large-strict/1", max_errors=1)
    report = score.run(config)
    assert (report["rows_scored"], report["rows_quarantined"]) == (2, 1)
    assert rows_of(config.quarantine_address, "id") == [(2,)]
    assert predictions(tmp_path / "predictions") == [pytest.approx(3.0), pytest.approx(9.0)]


@pytest.mark.usefixtures("is_large")
def test_a_model_that_could_start_threads_when_it_is_loaded_is_not_shared(register: Any) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    register("large-boosted", lightgbm.LGBMRegressor(n_estimators=2).fit(X, TARGET), X, TARGET)
    register("large-plain", LinearRegression().fit(X, TARGET), X, TARGET)
    assert prepare(resolve("large-plain/1")).is_shared
    assert not prepare(resolve("large-boosted/1")).is_shared  # scikit-learn's flavour, pickled


def test_a_model_of_usual_size_is_not_shared(register: Any) -> None:
    register("large-not", LinearRegression().fit(X, TARGET), X, TARGET)
    assert not prepare(resolve("large-not/1")).is_shared
