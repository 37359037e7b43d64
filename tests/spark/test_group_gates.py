"""Gates for rates of groups, held against fairlearn, and bounds computed with NumPy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import compare
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from builders.jobs import compare_job
from builders.tables import make_table
from fairlearn import metrics as fairness
from scipy import stats
from sklearn.linear_model import LinearRegression, LogisticRegression

from lakescore import session
from lakescore.comparing.errors import GateFailed
from lakescore.errors import ConfigError
from lakescore.executor.keys import row_hashes

if TYPE_CHECKING:
    from collections.abc import Callable

GROUPS = {"north": 900, "south": 700, "islands": 60}
pytestmark = pytest.mark.usefixtures("spark")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Return rows of which the south has larger numbers, so that more of them are chosen."""
    random = np.random.default_rng(8)
    groups = np.repeat(list(GROUPS), list(GROUPS.values()))
    table = pd.DataFrame({"id": np.arange(len(groups)), "region": groups})
    table["half"] = np.where(random.random(len(table)) < 0.5, "even", "odd")
    table["x"] = random.uniform(0, 3, len(table)) + 0.4 * (table["region"] == "south")
    table["late"] = (table["x"] + random.normal(0, 0.7, len(table)) > 1.5).astype("int64")
    table["word"] = np.where(table["late"] == 1, "late", "early")
    table["w"] = random.uniform(0.5, 2.0, len(table))
    return table.sample(frac=1, random_state=3, ignore_index=True)


@pytest.fixture(scope="module")
def holdout(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> str:
    values = [
        (int(r.id), str(r.region), str(r.half), float(r.x), int(r.late), str(r.word), float(r.w))
        for r in rows.itertuples()
    ]
    columns = "id bigint, region string, half string, x double, late bigint, word string, w double"
    return make_table(tmp_path_factory.mktemp("grouped") / "holdout", values, columns)


@pytest.fixture(scope="module")
def models(register: Any) -> list[LogisticRegression]:
    steps = pd.DataFrame({"x": np.linspace(0, 3, 60)})
    fitted = [
        LogisticRegression(C=100).fit(steps, (steps["x"] > at).astype("int64")) for at in (1.4, 1.5)
    ]
    for n, model in enumerate(fitted):
        register("fair", model, steps, **({"alias": "champion"} if n == 0 else {}))
    words = LogisticRegression(C=100).fit(steps, np.where(steps["x"] > 1.5, "late", "early"))
    for _ in range(2):
        register("fair words", words, steps)
        register("fair numbers", LinearRegression().fit(steps, steps["x"]), steps)
    return fitted


@pytest.fixture
def run(holdout: str, tmp_path: Path, models: Any) -> Callable[..., Any]:  # noqa: ARG001
    def go(groups: dict[str, Any], mode: str = "dry_run", **more: Any) -> Any:
        gates = {"mode": mode, "candidate": "fair/2", "groups": {"by": ["region"], **groups}}
        asked = {
            "versions": ["fair/2"], "label": "late", "rank_by": "accuracy", "id_columns": ["id"],
            "slices": {"by": ["region", "half"]}, "gates": gates, "runner": "local",
        }  # fmt: skip
        return compare.run(compare_job(tmp_path, holdout, **(asked | more)))

    return go


def checks_of(receipt: Any) -> dict[tuple[str, str], Any]:
    return {
        (check["metric"], check["groups"]["by"]): check
        for check in receipt["gates"]["checks"]
        if check["gate"] == "max_difference"
    }


RATES = {
    "selection_rate": (fairness.selection_rate, fairness.demographic_parity_difference),
    "true_positive_rate": (fairness.true_positive_rate, fairness.equal_opportunity_difference),
    "false_positive_rate": (fairness.false_positive_rate, None),
}


@pytest.mark.parametrize("weight", [None, "w"])
def test_rates_and_their_differences_are_those_of_fairlearn(
    run: Callable[..., Any], rows: pd.DataFrame, models: Any, weight: str | None
) -> None:
    asked = {name: {"max_difference": 0.5} for name in RATES}
    receipt = run({"by": ["region", "half"], **asked}, weight=weight)
    predicted = models[1].predict(rows[["x"]])
    for (rate, by), check in checks_of(receipt).items():
        function, difference = RATES[rate]
        weights = {} if weight is None else {"sample_weight": rows[weight]}
        expected = fairness.MetricFrame(
            metrics=function, y_true=rows["late"], y_pred=predicted, sensitive_features=rows[by],
            sample_params=weights,
        )  # fmt: skip
        found = {group["group"]: group["rate"] for group in check["groups"]["groups"]}
        by_group = expected.by_group.to_dict()
        assert found == pytest.approx({f"{by}={name}": v for name, v in by_group.items()}, rel=1e-9)
        assert check["found"] == pytest.approx(expected.difference(), rel=1e-9)
        if difference is not None:
            whole = difference(rows["late"], predicted, sensitive_features=rows[by], **weights)
            assert check["found"] == pytest.approx(whole, rel=1e-9)
    assert len(checks_of(receipt)) == 6


def test_bounds_of_all_pairs_and_rates_are_those_of_numpy(
    run: Callable[..., Any], rows: pd.DataFrame, models: Any
) -> None:
    asked = {
        "selection_rate": {"max_difference": 0.01},
        "false_positive_rate": {"max_difference": 0.2},
    }
    receipt = run({"by": ["region", "half"], **asked}, bootstraps=200, seed=4)
    keys = pa.RecordBatch.from_arrays([pa.array(rows["id"])], names=["0"])
    bucket = (row_hashes(keys) % np.uint64(1024)).astype(int)
    drawn = np.random.RandomState(4).poisson(1.0, (1024, 200))[bucket].T
    predicted = models[1].predict(rows[["x"]])
    pairs = {}
    for by, one, other in (("region", "south", "north"), ("half", "odd", "even")):
        for rate, among in (
            ("selection_rate", rows["late"] >= 0),
            ("false_positive_rate", rows["late"] == 0),
        ):
            values, counts = [], []
            for name in (one, other):
                mask = ((rows[by] == name) & among).to_numpy()
                weights = np.vstack([np.ones(len(rows)), drawn])[:, mask]
                values.append(weights @ predicted[mask] / weights.sum(axis=1))
                counts.append(int(mask.sum()))
            pairs[by, rate] = (values[0] - values[1], min(counts))
    table = np.array([vector for vector, _ in pairs.values()])[:, 1:]
    errors = table.std(axis=1, ddof=1)
    farthest = np.sort(
        np.abs((table - table.mean(axis=1, keepdims=True)) / errors[:, None]).max(axis=0)
    )
    both = np.repeat(farthest, 2)  # of each pair, both directions
    rank = 0.95 * 401
    width = both[int(rank) - 1] + rank % 1 * (both[int(rank)] - both[int(rank) - 1])
    tail = stats.t.sf(width * math.sqrt(198 / (199 - width**2)), 198)
    for ((by, rate), (vector, count)), error in zip(pairs.items(), errors, strict=True):
        groups = 1024 * (1 - math.exp(-count / 1024))
        freedom = 1 / (1 / 199 + 1 / (groups - 1))
        reach = error * math.sqrt(groups / (groups - 1)) * stats.t.isf(tail, freedom)
        check = checks_of(receipt)[rate, by]
        gap = abs(vector[0])
        limit = check["asked"]
        reached = (
            "worse" if gap - reach > limit else "safe" if gap + reach <= limit else "not known"
        )
        if by == "region" and reached == "safe":
            reached = "not known"  # because of the islands
        assert check["groups"]["verdict"] == reached
        assert check["groups"]["low"] == pytest.approx(gap - reach, rel=1e-7)
        assert check["groups"]["high"] == pytest.approx(gap + reach, rel=1e-7)


def test_groups_that_differ_block_a_version_and_say_so(run: Callable[..., Any]) -> None:
    with pytest.raises(GateFailed, match=r"it is 0\.\d+ in region=south and 0\.\d+ in") as failed:
        run({"selection_rate": {"max_difference": 0.02}}, mode="enforce")
    assert failed.value.exit_code == 6
    receipt = failed.value.facts
    (check,) = checks_of(receipt).values()
    assert (check["passed"], check["groups"]["verdict"]) == (False, "worse")
    small = next(one for one in check["groups"]["groups"] if one["group"] == "region=islands")
    assert small["reason"] == "fewer than 100 rows count"
    assert "1 group of few rows cannot be compared" in check["sentence"]
    assert receipt["decision"]["action"] != "promote"
    page = Path(receipt["report"]["html"]).read_text(encoding="utf-8").partition("<script")[0]
    summary = Path(receipt["report"]["markdown"]).read_text(encoding="utf-8")
    for shown in (page, summary):
        assert "1 group of few rows cannot be compared" in shown


def test_both_runners_compare_the_same_rates(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = {
        "selection_rate": {"max_difference": 0.3},
        "true_positive_rate": {"max_difference": 0.3},
    }
    by_spark = run(groups, runner="spark")
    monkeypatch.setattr(session, "_is_running", lambda: False)
    here = run(groups)
    assert by_spark["run_id"] == here["run_id"]
    for key, check in checks_of(here).items():
        assert check["sentence"] == checks_of(by_spark)[key]["sentence"]
        assert check["groups"]["high"] == pytest.approx(checks_of(by_spark)[key]["groups"]["high"])


def test_words_need_a_positive_class_and_numbers_have_no_rates(
    run: Callable[..., Any], rows: pd.DataFrame
) -> None:
    gates = {
        "mode": "dry_run",
        "groups": {"by": ["half"], "selection_rate": {"max_difference": 0.1}},
    }  # fmt: skip
    words = {"versions": ["fair words/1", "fair words/2"], "label": "word", "gates": gates}
    with pytest.raises(ConfigError, match="set positive_class") as refused:
        run({}, **words)
    assert refused.value.exit_code == 2
    (check,) = checks_of(run({}, positive_class="late", **words)).values()
    chosen = (rows["x"] > 1.5).groupby(rows["half"]).mean()
    assert check["found"] == pytest.approx(chosen.max() - chosen.min(), abs=0.02)
    with pytest.raises(ConfigError, match="set positive_class"):
        run(
            {}, versions=["fair numbers/1", "fair numbers/2"], label="x", rank_by="rmse",
            gates=gates,
        )  # fmt: skip
