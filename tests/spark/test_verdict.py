"""The first sentence of a comparison, held against scikit-learn on pandas."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import compare
import mlflow
import numpy as np
import pandas as pd
import pytest
from builders.jobs import compare_job
from builders.tables import make_table
from sklearn import metrics
from sklearn.linear_model import LinearRegression, LogisticRegression

from lakescore.comparing.errors import GateFailed

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 1500
SENTENCE = re.compile(
    r"(?P<name>[\w-]+)/(?P<version>\d+) beats the champion \(version (?P<champion>\d+)\) by "
    r"(?P<gain>[\d.]+) (?P<metric>\w+) \((?P<low>[\d.]+) to (?P<high>[\d.]+)\): promote it\."
)


def refute(  # noqa: PLR0913, PLR0917 - what a sentence is about
    sentence: str,
    score: Callable[[pd.Series[Any], Any], float],
    labels: pd.Series[Any],
    predicted: dict[int, Any],
    champion: int,
    sign: int,
) -> list[str]:
    """Return what is wrong in a sentence, by values and bootstraps that are computed here."""
    said = SENTENCE.fullmatch(sentence)
    if not said:
        return ["it has another form"]
    values = {version: score(labels, column) for version, column in predicted.items()}
    best = max(values, key=lambda version: sign * values[version])
    gain = sign * (values[best] - values[champion])
    random, gains = np.random.default_rng(3), []
    for _ in range(150):
        drawn = random.integers(0, len(labels), len(labels))
        new, old = (
            score(labels.iloc[drawn], predicted[version][drawn]) for version in (best, champion)
        )
        gains.append(sign * (new - old))
    error, told = float(np.std(gains)), {key: float(said[key]) for key in ("gain", "low", "high")}
    claims = {
        "its version": int(said["version"]) == best,
        "its champion": int(said["champion"]) == champion,
        "its lead": told["gain"] == pytest.approx(gain, abs=0.06 * error),
        "its low end": told["low"] == pytest.approx(gain - 2.3 * error, abs=0.7 * error),
        "its high end": told["high"] == pytest.approx(gain + 2.3 * error, abs=0.7 * error),
        "that it is sure": gain - 2 * error > 0,
    }
    return [claim for claim, holds in claims.items() if not holds]


@pytest.fixture
def rows() -> pd.DataFrame:
    random = np.random.default_rng(11)
    x = random.uniform(0, 3, ROWS)
    table = pd.DataFrame({"id": range(ROWS), "x": x, "y": 2 * x + random.normal(0, 1, ROWS)})
    table["late"] = (table["y"] > 3).astype("int64")
    table.loc[::100, "y"] = np.nan  # labels that have not arrived
    return table


def save(rows: pd.DataFrame, path: Path) -> str:
    values = [
        (int(n), float(x), None if np.isnan(y) else float(y), int(late))
        for n, x, y, late in rows.itertuples(index=False)
    ]
    return make_table(path, values, "id bigint, x double, y double, late bigint")


def slope(factor: float) -> LinearRegression:
    x = pd.DataFrame({"x": [0.0, 1.0, 2.0]})
    return LinearRegression().fit(x, factor * x["x"])


def run(tmp_path: Path, table: str, name: str, label: str, rank_by: str, **more: Any) -> Any:
    versions = [f"{name}/{n}" for n in (1, 2, 3)]
    return compare.run(
        compare_job(
            tmp_path, table, versions=versions, label=label, rank_by=rank_by, id_columns=["id"],
            runner="local", **more,
        )
    )  # fmt: skip


def test_the_sentence_about_a_regression_is_that_of_scikit_learn(
    register: Any, rows: pd.DataFrame, tmp_path: Path
) -> None:
    models = [slope(factor) for factor in (1.9, 2.0, 2.4)]
    for n, model in enumerate(models):
        alias = {"alias": "champion"} if n == 2 else {}
        register("slopes", model, rows[["x"]].head(4), **alias)
    receipt = run(tmp_path, save(rows, tmp_path / "holdout"), "slopes", "y", "rmse")
    labelled = rows[rows["y"].notna()]
    facts: tuple[Any, ...] = (
        metrics.root_mean_squared_error, labelled["y"],
        {n: model.predict(labelled[["x"]]) for n, model in enumerate(models, 1)}, 3, -1,
    )  # fmt: skip
    sentence = receipt["verdict"]
    assert refute(sentence, *facts) == []
    assert receipt["decision"]["action"] == "promote"
    assert (receipt["rows"], receipt["rows_unlabelled"]) == (1485, 15)
    said = SENTENCE.fullmatch(sentence)
    assert said
    for wrong in (
        sentence.replace("slopes/2", "slopes/1"),
        sentence.replace("slopes/2", "slopes/3").replace("version 3", "version 2"),
        sentence.replace("(version 3)", "(version 1)"),
        sentence.replace("beats", "is worse than"),
        sentence.replace(f"by {said['gain']}", f"by -{said['gain']}"),
        sentence.replace(f"by {said['gain']}", f"by {float(said['gain']) * 1.1}"),
        sentence.replace(
            f"({said['low']} to {said['high']})", f"({said['high']} to {said['low']})"
        ),
        sentence.replace("champion", "challenger"),
    ):
        assert refute(wrong, *facts) != [], wrong


def test_the_sentence_about_classes_is_that_of_scikit_learn(
    register: Any, rows: pd.DataFrame, tmp_path: Path
) -> None:
    steps = pd.DataFrame({"x": np.linspace(0, 3, 60)})
    models = [
        LogisticRegression(C=100).fit(steps, (steps["x"] > threshold).astype("int64"))
        for threshold in (2.2, 0.9, 1.5)
    ]
    for n, model in enumerate(models):
        register("steps", model, steps, **({"alias": "champion"} if n == 0 else {}))
    best = metrics.accuracy_score(rows["late"], models[2].predict(rows[["x"]]))
    limits = {
        "accuracy": {"threshold": best, "min_absolute_change": 0.01, "min_relative_change": 0.02},
        "f1": {"threshold": 0.5},
    }
    gates = {
        "mode": "dry_run",
        "metrics": {name: {**limit, "greater_is_better": True} for name, limit in limits.items()},
    }
    table = save(rows, tmp_path / "holdout")
    gated = run(tmp_path, table, "steps", "late", "accuracy", gates=gates)
    checks = {(check["metric"], check["gate"]): check for check in gated["gates"]["checks"]}
    # Half of the holdouts give less than this value, so it is not sure that it is reached.
    assert not checks["accuracy", "threshold"]["passed"]
    assert re.match(
        r"accuracy must be at least 0\.\d+: it is", checks["accuracy", "threshold"]["sentence"]
    )
    assert checks["accuracy", "min_absolute_change"]["passed"]
    rise = checks["accuracy", "min_absolute_change"]["sentence"]
    assert rise.startswith("accuracy must rise by at least 0.01: it rises by 0.")
    share = checks["accuracy", "min_relative_change"]["sentence"]
    assert share.startswith("accuracy must rise by at least 2 %: it rises by ")
    assert checks["f1", "threshold"]["passed"]
    assert "but does not pass the gates: keep the champion" in gated["verdict"]
    receipt = run(tmp_path, table, "steps", "late", "accuracy")
    facts: tuple[Any, ...] = (
        metrics.accuracy_score, rows["late"],
        {n: model.predict(rows[["x"]]) for n, model in enumerate(models, 1)}, 1, 1,
    )  # fmt: skip
    assert refute(receipt["verdict"], *facts) == []
    assert refute(receipt["verdict"].replace("steps/3", "steps/2"), *facts) == ["its version"]


def test_a_gate_that_fails_and_a_difference_of_chance_keep_the_champion(
    register: Any, rows: pd.DataFrame, tmp_path: Path
) -> None:
    for n, factor in enumerate((2.0, 2.001, 2.4)):
        alias = {"alias": "champion"} if n == 2 else {}
        register("kept", slope(factor), rows[["x"]].head(4), **alias)
    table = save(rows, tmp_path / "holdout")
    strict = {"metrics": {"rmse": {"threshold": 0.1, "greater_is_better": False}}}
    with pytest.raises(GateFailed) as failed:
        run(tmp_path, table, "kept", "y", "rmse", gates=strict)
    receipt = failed.value.facts
    assert receipt["decision"]["action"] == "keep"
    assert ", but does not pass the gates: keep the champion (version 3)" in receipt["verdict"]
    page = Path(receipt["report"]["html"]).read_text(encoding="utf-8")
    assert f">{receipt['verdict']}</h1>" in page
    assert "promote it" not in page.partition("<script")[0]
    chance = run(tmp_path, table, "kept", "y", "rmse", baseline="kept/2")
    assert chance["verdict"].startswith("Keep the baseline (version 2) for now: kept/1 has 0.000")
    assert chance["decision"]["action"] == "keep"
    assert chance["decision"]["further"][-1] == "The champion is kept/3, and not the baseline."


def test_a_better_version_that_cannot_replace_the_champion_is_not_promoted(
    register: Any, rows: pd.DataFrame, tmp_path: Path
) -> None:
    class Positive(mlflow.pyfunc.PythonModel):
        """Refuses small numbers."""

        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series[Any]:  # noqa: ARG002
            if (model_input["x"] < 0.1).any():
                raise ValueError("too small")
            return 2 * model_input["x"]

    x = rows[["x"]].head(4)
    wide = pd.DataFrame({"x": [0.0, 1.0, 2.0], "late": [1, 0, 1]})
    register("replaced", slope(2.4), x, alias="champion")
    register("replaced", LinearRegression().fit(wide, 2 * wide["x"]), wide)
    register("replaced", Positive(), x, np.array([0.5]))
    table = save(rows, tmp_path / "holdout")
    for number, reason in (
        (2, "does not fit in its place (input 'late' is new and required)"),
        (3, r"could not score \d+ of 1,485 rows (replaced/1: 0)"),
    ):
        receipt = compare.run(
            compare_job(
                tmp_path, table, versions=[f"replaced/{number}"], label="y", rank_by="rmse",
                id_columns=["id"], runner="local",
            )
        )  # fmt: skip
        words = re.escape(reason).replace(r"\\d\+", r"\d+")
        assert re.fullmatch(
            rf"replaced/{number} beats the champion \(version 1\) by [\d.]+ rmse \(.*\), but "
            rf"{words}: keep the champion \(version 1\) for now\.",
            receipt["verdict"],
        )
        assert receipt["decision"]["action"] == "keep"
