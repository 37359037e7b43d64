"""Gates for every slice, held against scikit-learn on pandas and bounds computed with NumPy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import compare
import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from builders.jobs import compare_job
from builders.tables import make_table, rows_of
from scipy import stats
from sklearn import metrics
from sklearn.linear_model import LinearRegression, LogisticRegression

from lakescore import registry, session
from lakescore.comparing.errors import GateFailed
from lakescore.errors import ConfigError
from lakescore.executor.keys import row_hashes

if TYPE_CHECKING:
    from collections.abc import Callable

X = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0]})
REGIONS = {"north": 1500, "south": 400, "east": 600, "islands": 40, None: 150}
pytestmark = pytest.mark.usefixtures("spark")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Return rows whose slope is 2, except in the south."""
    random = np.random.default_rng(21)
    regions = np.repeat(np.array(list(REGIONS), dtype=object), list(REGIONS.values()))
    table = pd.DataFrame({"id": np.arange(len(regions)), "region": regions})
    table["x"] = random.uniform(0, 3, len(table))
    slope = np.where(table["region"] == "south", 1.5, 2.0)
    table["y"] = slope * table["x"] + random.normal(0, 0.3, len(table))
    table["half"] = np.where(table["id"] % 2 == 0, "even", "odd")
    table["late"] = (table["y"] > 3).astype("int64")
    return table.sample(frac=1, random_state=3, ignore_index=True)


@pytest.fixture(scope="module")
def holdout(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> str:
    values = [
        (int(r.id), r.region, float(r.x), float(r.y), str(r.half), int(r.late))
        for r in rows.itertuples()
    ]
    columns = "id bigint, region string, x double, y double, half string, late bigint"
    return make_table(tmp_path_factory.mktemp("sliced") / "holdout", values, columns)


@pytest.fixture(scope="module")
def slopes(register: Any) -> dict[int, LinearRegression]:
    """Register a champion with the slope 1.7, and versions with the slopes 2 and 1.9."""
    models = {
        n: LinearRegression().fit(X, slope * X["x"]) for n, slope in enumerate((1.7, 2, 1.9), 1)
    }
    for n, model in models.items():
        register("sliced", model, X, **({"alias": "champion"} if n == 1 else {}))
    return models


@pytest.fixture
def run(holdout: str, tmp_path: Path, slopes: Any) -> Callable[..., Any]:  # noqa: ARG001
    def go(gates: dict[str, Any], **more: Any) -> Any:
        asked = {
            "versions": ["sliced/2"], "label": "y", "rank_by": "rmse", "id_columns": ["id"],
            "slices": {"by": ["region"]}, "gates": gates, "runner": "local",
        }  # fmt: skip
        return compare.run(compare_job(tmp_path, holdout, **(asked | more)))

    return go


def check_of(receipt: Any, gate: str = "max_loss", metric: str = "rmse") -> Any:
    checks = receipt["gates"]["checks"]
    return next(check for check in checks if (check["gate"], check["metric"]) == (gate, metric))


def by_slice(check: Any) -> dict[str, Any]:
    return {found["slice"]: found for found in check["slices"]}


def inside(rows: pd.DataFrame, region: str | None) -> pd.DataFrame:
    return rows[rows["region"].isna() if region is None else rows["region"] == region]


def text(region: str | None) -> str:
    return "region is null" if region is None else f"region={region}"


def test_a_slice_that_is_worse_blocks_a_version_that_is_better_on_the_whole(
    run: Callable[..., Any], rows: pd.DataFrame, slopes: Any, tmp_path: Path
) -> None:
    gates = {"slices": {"rmse": {"max_loss": 0.1}}, "on_pass": "promote"}
    with pytest.raises(GateFailed, match="in 1 of 5 slices it does: region=south by 0") as failed:
        run(gates)
    assert failed.value.exit_code == 6
    receipt = failed.value.facts
    assert registry.describe("sliced@champion").version == 1
    best = receipt["ranking"][0]
    assert (best["version"], best["rank"]) == (2, 1)
    check = check_of(receipt)
    assert (check["asked"], check["passed"]) == (0.1, False)
    for region, size in REGIONS.items():
        part, found = inside(rows, region), by_slice(check)[text(region)]
        new, old = (
            metrics.root_mean_squared_error(part["y"], slopes[n].predict(part[["x"]]))
            for n in (2, 1)
        )
        assert found["loss"] == pytest.approx(new - old, rel=1e-9)
        assert found["rows"] == size == len(part)
        expected = "worse" if region == "south" else "not known" if size < 100 else "safe"
        assert found["verdict"] == expected
    assert by_slice(check)["region=islands"]["low"] is None
    assert receipt["decision"]["action"] == "keep"
    assert (
        "does not pass the gates (it is worse in region=south): keep the champion (version 1)"
        in receipt["verdict"]
    )
    page = Path(receipt["report"]["html"]).read_text(encoding="utf-8").partition("<script")[0]
    summary = Path(receipt["report"]["markdown"]).read_text(encoding="utf-8")
    for shown in (page, summary):
        assert "promote it" not in shown
        assert "1 is not known because of few rows" in shown
        assert "region=south" in shown
    assert rows_of(tmp_path / "ranking", "scope") != []


def test_bounds_of_all_slices_and_metrics_are_those_of_numpy(
    run: Callable[..., Any], rows: pd.DataFrame, slopes: Any
) -> None:
    gates = {
        "mode": "dry_run", "candidate": "sliced/2",
        "slices": {"rmse": {"max_loss": 0.1}, "mae": {"max_relative_loss": 0.5}},
    }  # fmt: skip
    receipt = run(
        gates, bootstraps=200, seed=4, confidence=0.9, slices={"by": ["region", "half"]},
        versions=["sliced/2", "sliced/3"],
    )  # fmt: skip
    keys = pa.RecordBatch.from_arrays([pa.array(rows["id"])], names=["0"])
    bucket = (row_hashes(keys) % np.uint64(1024)).astype(int)
    drawn = np.random.RandomState(4).poisson(1.0, (1024, 200))[bucket].T
    parts = {f"region={name}": rows["region"] == name for name in ("north", "south", "east")}
    parts |= {"region is null": rows["region"].isna()}
    parts |= {f"half={name}": rows["half"] == name for name in ("even", "odd")}
    losses: dict[tuple[str, str], Any] = {}
    for name, mask in parts.items():
        y, x, weights = rows["y"][mask], rows[["x"]][mask], drawn[:, mask]
        for metric, score in (
            ("rmse", metrics.root_mean_squared_error), ("mae", metrics.mean_absolute_error),
        ):  # fmt: skip
            values = [
                [score(y, slopes[n].predict(x), sample_weight=w) for w in [None, *weights]]
                for n in (2, 1)
            ]
            losses[name, metric] = np.subtract(*values)
    table = np.array(list(losses.values()))[:, 1:]
    errors = table.std(axis=1, ddof=1)
    apart = (table - table.mean(axis=1, keepdims=True)) / errors[:, None]
    farthest = np.sort(np.concatenate([apart.max(axis=0), -apart.min(axis=0)]))
    rank = 0.9 * 401  # of 400, counted from 1
    lower, share = farthest[int(rank) - 1], rank % 1
    width = lower + share * (farthest[int(rank)] - lower)
    tail = stats.t.sf(width * math.sqrt(198 / (199 - width**2)), 198)
    for (name, metric), error in zip(losses, errors, strict=True):
        groups = 1024 * (1 - math.exp(-int(parts[name].sum()) / 1024))
        freedom = 1 / (1 / 199 + 1 / (groups - 1))
        reach = error * math.sqrt(groups / (groups - 1)) * stats.t.isf(tail, freedom)
        gate = "max_loss" if metric == "rmse" else "max_relative_loss"
        found, value = by_slice(check_of(receipt, gate, metric))[name], losses[name, metric][0]
        expected = (value, value - reach, value + reach)
        assert (found["loss"], found["low"], found["high"]) == pytest.approx(expected, rel=1e-7)


def test_both_runners_give_the_same_checks(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    gates = {
        "mode": "dry_run",
        "slices": {"rmse": {"max_loss": 0.1}, "median_absolute_error": {"max_relative_loss": 0.2}},
    }
    by_spark = run(gates, runner="spark")
    monkeypatch.setattr(session, "_is_running", lambda: False)
    here = run(gates)
    assert (by_spark["runner"]["name"], here["runner"]["name"]) == ("spark", "local")
    assert by_spark["run_id"] == here["run_id"]
    assert len(check_of(here)["slices"]) == 5
    for one, other in zip(by_spark["gates"]["checks"], here["gates"]["checks"], strict=True):
        assert one["sentence"] == other["sentence"]
        for found, again in zip(one.get("slices", ()), other.get("slices", ()), strict=True):
            approximately = {
                name: pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
                for name, value in found.items()
            }
            assert again == approximately


def test_slices_that_are_not_known_pass_unless_the_job_says_that_they_fail(
    run: Callable[..., Any],
) -> None:
    asked = {"slices": {"rmse": {"max_loss": 1.0}}, "on_pass": "set alias next"}
    receipt = run(asked)
    check = check_of(receipt)
    assert check["passed"]
    assert "it is safe in 4 of 5 slices; 1 is not known" in check["sentence"]
    assert receipt["moved"]["alias"] == "next"
    with pytest.raises(GateFailed, match=r"1 is not known .*, and unknown_slices is fail"):
        run(asked | {"unknown_slices": "fail"})
    assert run(asked | {"unknown_slices": "fail"}, slices={"by": ["region"], "small": 20})["moved"]


def test_a_gate_that_sees_no_slice_does_not_pass(run: Callable[..., Any]) -> None:
    with pytest.raises(GateFailed, match=r"5 of 5 slices are not known .* so nobody knows"):
        run({"slices": {"rmse": {"max_loss": 9}}}, slices={"by": ["region"], "small": 2000})


def test_a_slice_that_the_candidate_cannot_score_is_worse(
    register: Any, run: Callable[..., Any]
) -> None:
    class Low(mlflow.pyfunc.PythonModel):
        """Refuses large numbers, of which all slices have some."""

        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series[Any]:  # noqa: ARG002
            if (model_input["x"] > 2.99).any():
                raise ValueError("too large")
            return 2 * model_input["x"]

    register("unscored", Low(), X.head(2), np.array([0.5]))
    versions = ["unscored/1", "sliced/2"]
    gates = {"mode": "dry_run", "candidate": "unscored/1", "slices": {"rmse": {"max_loss": 9}}}
    check = check_of(run(gates, versions=versions, baseline="sliced/2"))
    north = by_slice(check)["region=north"]
    assert (north["verdict"], north["unscored"]) == ("worse", 1500 - north["rows"])
    assert f"could not score {north['unscored']} rows of the slice" in check["sentence"]
    turned = {**gates, "candidate": "sliced/2"}
    back = check_of(run(turned, versions=versions, baseline="unscored/1"))
    assert back["passed"]


def test_shares_of_rows_are_protected_too(
    register: Any, run: Callable[..., Any], rows: pd.DataFrame
) -> None:
    steps = pd.DataFrame({"x": np.linspace(0, 3, 60)})
    models = [
        LogisticRegression(C=100).fit(steps, (steps["x"] > at).astype("int64"))
        for at in (1.5, 1.5, 2.0)
    ]
    for model in models:
        register("lateness", model, steps)
    gates = {
        "mode": "dry_run", "candidate": "lateness/2",
        "slices": {"accuracy": {"max_loss": 0.02}, "recall": {"max_loss": 0.02}},
    }  # fmt: skip
    asked = {"label": "late", "rank_by": "accuracy", "baseline": "lateness/1"}
    same = run(gates, versions=["lateness/1", "lateness/2"], **asked)
    found = by_slice(check_of(same, metric="accuracy"))
    assert found["region=north"]["verdict"] == "safe"  # 1,500 rows, none decided differently
    assert found["region is null"]["verdict"] == "not known"  # 150 rows: 3 % may be
    recall = check_of(same, metric="recall")
    assert {part["verdict"] for part in recall["slices"]} == {"not known"}
    assert not recall["passed"]
    worse = run(
        {**gates, "candidate": "lateness/3"}, versions=["lateness/1", "lateness/3"], **asked
    )
    part = inside(rows, "north")
    new, old = (metrics.recall_score(part["late"], models[n].predict(part[["x"]])) for n in (2, 0))
    north = by_slice(check_of(worse, metric="recall"))["region=north"]
    assert north["loss"] == pytest.approx(old - new, rel=1e-9)
    assert north["verdict"] == "worse"


def test_a_metric_that_slices_do_not_have_is_refused(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"there is no metric 'log_loss'.*; there are: rmse") as e:
        run({"slices": {"log_loss": {"max_loss": 1}}})
    assert e.value.exit_code == 2
    assert not (tmp_path / "ranking").exists()
