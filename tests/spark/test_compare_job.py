"""The compare job: every labelled row counts, and each metric is scikit-learn's."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import compare
import mlflow
import numpy as np
import pandas as pd
import pytest
from builders.jobs import compare_job
from builders.tables import make_table, rows_of
from deltalake import DeltaTable
from sklearn import metrics
from sklearn.linear_model import LinearRegression, LogisticRegression

from lakescore import comparing, registry, session
from lakescore.assignment import assign_all
from lakescore.comparing.errors import GateFailed, HoldoutEmpty, MetricUndefined
from lakescore.loading import OptionUnknown
from lakescore.registry.errors import AliasMoved
from lakescore.signature import FeaturesUnknown
from lakescore.slicing import NullsFound

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

X = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0]})
pytestmark = pytest.mark.usefixtures("spark")


@pytest.fixture(scope="module")
def holdout(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, pd.DataFrame]:
    random = np.random.default_rng(7)
    x = random.uniform(0, 3, 400)
    rows = pd.DataFrame({"x": x, "y": 2 * x + random.normal(0, 1, 400)})
    rows["is_high"] = (rows["y"] > 3).astype("int64")
    rows.loc[::50, "y"] = np.nan  # labels that have not arrived
    columns = "x double, y double, is_high bigint"
    values = [tuple(None if pd.isna(v) else v for v in row) for row in rows.to_numpy().tolist()]
    path = tmp_path_factory.mktemp("compared") / "holdout"
    return make_table(path, [(x, y, int(z)) for x, y, z in values], columns), rows


def run(tmp_path: Path, path: str, versions: Any, label: str, rank_by: str, **more: Any) -> Any:
    job = partial(compare_job, tmp_path, path, versions=versions, label=label, rank_by=rank_by)
    receipt = compare.run(job(**more))
    if "gates" not in more:  # gates may move an alias, which happens once
        more["output"] = tmp_path / "here/ranking"
        for name in ("disagreements", "quarantine"):
            if name in more:
                more[name] = more[name] | {"path": str(tmp_path / "here" / name)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(session, "_is_running", lambda: False)
            here = compare.run(job(**more))
        assert_same(receipt, here)
        if "id_columns" in more:
            assert here["verdict"] == receipt["verdict"]
    return receipt


def assert_same(receipt: Any, here: Any) -> None:
    """Compare Spark's report with that of this machine's workers.

    Without keys the bootstraps draw rows by their places, and these differ.
    """
    facts = ["status", "rows", "rows_common", "baseline", "holdout", "run_id"]
    assert {name: here[name] for name in facts} == {name: receipt[name] for name in facts}
    drawn = ("low", "high", "metrics")
    for one, other in zip(receipt["ranking"], here["ranking"], strict=True):
        assert {**other, **dict.fromkeys(drawn)} == {**one, **dict.fromkeys(drawn)}
        for name, value in one["metrics"].items():
            expected = value if value is None else pytest.approx(value, rel=1e-9)
            assert other["metrics"][name] == expected, name


def among(values: dict[str, float], expected: dict[str, float]) -> bool:
    """Tell whether *values* contains all of *expected*."""
    return {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-9)


def test_regression_metrics_are_those_of_scikit_learn_over_all_labelled_rows(
    spark: SparkSession, register: Any, holdout: tuple[str, pd.DataFrame], tmp_path: Path
) -> None:
    path, rows = holdout
    models = [LinearRegression().fit(X, slope * X["x"]) for slope in (1, 2, 3)]
    for model in models:
        register("slopes", model, X)
    versions = ["slopes/1", "slopes/2", "slopes/3", "slopes/latest"]
    receipt = run(tmp_path, path, versions, "y", "rmse")

    labelled = rows[rows["y"].notna()]
    assert receipt["rows"] == len(labelled) == 392
    assert len(receipt["ranking"]) == 3  # slopes/latest is slopes/3 again
    assert receipt["ranking"][0]["uri"] == "models:/slopes/2"
    for candidate in receipt["ranking"]:
        predicted = models[candidate["version"] - 1].predict(labelled[["x"]])
        expected = {
            "rmse": metrics.root_mean_squared_error(labelled["y"], predicted),
            "mae": metrics.mean_absolute_error(labelled["y"], predicted),
            "r2": metrics.r2_score(labelled["y"], predicted),
        }
        assert among(candidate["metrics"], expected)
    lines = spark.read.format("delta").load(str(tmp_path / "ranking"))
    once = lines.where("scope = 'common'")
    assert once.count() == 3 * 11
    assert once.where("rank = 1 AND metric = 'rmse'").head().model_version == 2
    assert receipt["engine"]["rows_predicted"] == 392  # once, however many metrics
    run(tmp_path, path, versions, "y", "rmse")
    assert rows_of(tmp_path / "ranking", "scope").count(("common",)) == 3 * 11


def test_metrics_of_labels_are_those_of_scikit_learn(
    register: Any, holdout: tuple[str, pd.DataFrame], tmp_path: Path
) -> None:
    path, rows = holdout
    models = [LogisticRegression(C=c).fit(X, [0, 0, 1, 1]) for c in (100.0, 0.01)]
    models.append(LogisticRegression().fit(X, [0, 1, 0, 1]))
    for model in models:
        register("labels", model, X)
    receipt = run(tmp_path, path, [f"labels/{n}" for n in (1, 2, 3)], "is_high", "f1")
    for candidate in receipt["ranking"]:
        predicted = models[candidate["version"] - 1].predict(rows[["x"]])
        expected = {
            "f1": metrics.f1_score(rows["is_high"], predicted),
            "accuracy": metrics.accuracy_score(rows["is_high"], predicted),
        }
        assert among(candidate["metrics"], expected)
    values = [candidate["metrics"]["f1"] for candidate in receipt["ranking"]]
    assert values == sorted(values, reverse=True)


def test_metrics_of_probabilities_are_those_of_scikit_learn_with_ties_and_certainty(
    register: Any, holdout: tuple[str, pd.DataFrame], tmp_path: Path
) -> None:
    class Probability(mlflow.pyfunc.PythonModel):
        """A step function: many ties, and probabilities 0 and 1 with infinite logarithms."""

        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            return (model_input["x"] / 3).round(1)

    path, rows = holdout
    register("steps", Probability(), X, np.array([0.5]))
    receipt = run(tmp_path, path, ["steps/1"], "is_high", "roc_auc")
    predicted = (rows["x"] / 3).round(1)
    expected = {
        "roc_auc": metrics.roc_auc_score(rows["is_high"], predicted),
        "log_loss": metrics.log_loss(rows["is_high"], predicted),
    }
    assert among(receipt["ranking"][0]["metrics"], expected)


def test_versions_that_predict_the_same_share_a_rank(
    register: Any, holdout: tuple[str, pd.DataFrame], tmp_path: Path
) -> None:
    for slope in (2, 2, 5):
        register("twins", LinearRegression().fit(X, slope * X["x"]), X)
    receipt = run(tmp_path, holdout[0], ["twins/3", "twins/1", "twins/2"], "y", "mae")
    assert [(candidate["rank"], candidate["version"]) for candidate in receipt["ranking"]] == [
        (1, 1),
        (1, 2),
        (3, 3),
    ]


def test_a_metric_that_has_no_meaning_for_a_prediction_is_refused(
    register: Any, holdout: tuple[str, pd.DataFrame], tmp_path: Path
) -> None:
    register("only labels", LogisticRegression().fit(X, [0, 0, 1, 1]), X)
    with pytest.raises(MetricUndefined, match="predicts labels"):
        run(tmp_path, holdout[0], ["only labels/1"], "is_high", "roc_auc")
    assert not (tmp_path / "ranking").exists()


@pytest.mark.parametrize(
    ("labels", "rank_by", "says"),
    [
        ([1, 1], "roc_auc", "2 labelled rows with 1 different labels"),  # no curve of one class
        ([0, 2], "f1", "2 labelled rows with 2 different labels"),  # which of them is positive?
    ],
)
def test_a_metric_without_a_value_is_refused(
    register: Any, tmp_path: Path,
    labels: list[int], rank_by: str, says: str,
) -> None:  # fmt: skip
    model = LogisticRegression().fit(X, [0, 0, 1, 1])
    outputs = np.array([0.5]) if rank_by == "roc_auc" else None
    version = register("two classes", model, X, outputs)
    rows = [(float(n), label) for n, label in enumerate(labels)]
    path = make_table(tmp_path / "odd", rows, "x double, y int")
    with pytest.raises(MetricUndefined, match=says):
        run(tmp_path, path, [f"two classes/{version}"], "y", rank_by)


def test_labels_of_several_classes_and_of_words_have_an_accuracy(
    register: Any, tmp_path: Path
) -> None:
    register("colours", LogisticRegression(C=1e6).fit(X, ["red", "green", "blue", "blue"]), X)
    rows = [(0.0, "red"), (3.0, "blue"), (0.0, "blue"), (1.0, None)]  # the last has no label yet
    path = make_table(tmp_path / "colours", rows, "x double, y string")
    receipt = run(tmp_path, path, ["colours/1"], "y", "accuracy")
    assert receipt["rows"] == 3
    assert receipt["ranking"][0]["metrics"]["accuracy"] == pytest.approx(2 / 3)


def test_a_label_that_is_not_a_number_is_no_label(register: Any, tmp_path: Path) -> None:
    version = register("nan labels", LinearRegression().fit(X, X["x"]), X)
    rows = [(1.0, 2.0), (2.0, float("nan")), (3.0, None)]
    path = make_table(tmp_path / "nan", rows, "x double, y double")
    receipt = run(tmp_path, path, [f"nan labels/{version}"], "y", "mae")
    scores = receipt["ranking"][0]["metrics"]
    assert (receipt["rows"], scores["mae"]) == (1, pytest.approx(1.0))
    assert scores["r2"] is None  # one row has no variance, and JSON no NaN


def test_r2_of_labels_that_are_all_equal_is_that_of_scikit_learn(
    register: Any, tmp_path: Path
) -> None:
    version = register("constant", LinearRegression().fit(X, X["x"]), X)
    path = make_table(tmp_path / "same", [(1.0, 2.0), (3.0, 2.0)], "x double, y double")
    receipt = run(tmp_path, path, [f"constant/{version}"], "y", "r2")
    assert receipt["ranking"][0]["metrics"]["r2"] == metrics.r2_score([2, 2], [1, 3]) == 0.0


def test_all_rows_count_and_not_the_first_ten_thousand(register: Any, tmp_path: Path) -> None:
    for slope in (1, 3):
        register("late truth", LinearRegression().fit(X, slope * X["x"]), X)
    x = np.linspace(0, 1, 10_000)
    rows = [(float(v), float(v)) for v in x]  # here the first version is right
    rows += [(100.0 + n, 3 * (100.0 + n)) for n in range(500)]  # and here, far out, the second
    path = make_table(tmp_path / "late", rows, "x double, y double")
    receipt = run(tmp_path, path, ["late truth/1", "late truth/2"], "y", "rmse")
    assert receipt["rows"] == 10_500
    assert [(candidate["version"], candidate["rank"]) for candidate in receipt["ranking"]] == [
        (2, 1),
        (1, 2),
    ]


@pytest.fixture(scope="module")
def crowned(register: Any) -> str:
    """Register a champion whose slope is off, a good version, and one as good by another input."""
    register("gated", LinearRegression().fit(X, 1.5 * X["x"]), X, alias="champion")
    register("gated", LinearRegression().fit(X, 2 * X["x"]), X)
    return "gated"


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> str:
    random = np.random.default_rng(1)
    x = random.uniform(0, 3, 600)
    y = 2 * x + random.normal(0, 0.5, 600)
    part = np.where(np.arange(600) < 590, "often", "seldom")
    rows = zip(range(600), x.tolist(), y.tolist(), part.tolist(), [1.0, 2.0] * 300, strict=True)
    path = tmp_path_factory.mktemp("compared") / "flights"
    return make_table(path, rows, "id int, x double, y double, part string, w double")


BETTER = {"rmse": {"min_absolute_change": 0.1, "greater_is_better": False}}


def test_a_query_is_held_against_the_champion_by_slices_weights_and_filter(
    spark: SparkSession, crowned: str, flights: str, tmp_path: Path
) -> None:
    query = {"name": crowned, "where": "version > 1", "limit": 5}
    receipt = run(
        tmp_path, flights, query, "y", "rmse", where="id >= 100", weight="w", id_columns=["id"],
        slices={"by": ["part"], "small": 50}, quarantine={"path": str(tmp_path / "bad")},
        disagreements={"path": str(tmp_path / "odd"), "rows": 3},
        custom_metrics={"gap": "numpy:subtract"},
    )  # fmt: skip
    assert receipt["baseline"] == "models:/gated/1"  # the query does not name it
    assert [candidate["version"] for candidate in receipt["ranking"]] == [2, 1]
    assert receipt["rows"] == 500
    rows = DeltaTable(flights).to_pandas().query("id >= 100")
    expected = metrics.root_mean_squared_error(rows["y"], 2 * rows["x"], sample_weight=rows["w"])
    scores = receipt["ranking"][0]["metrics"]
    assert scores["rmse"] == pytest.approx(expected, rel=1e-9)
    assert scores["gap"] == pytest.approx(-scores["bias"])

    lines = spark.read.format("delta").load(str(tmp_path / "ranking"))
    seldom = lines.where("slice = 'part=seldom' AND metric = 'mae' AND model_version = 2").head()
    inside = rows[rows["part"] == "seldom"]
    expected = metrics.mean_absolute_error(inside["y"], 2 * inside["x"], sample_weight=inside["w"])
    assert (seldom.value, seldom.rows) == (pytest.approx(expected, rel=1e-9), 10)
    assert seldom.low < seldom.value < seldom.high
    assert seldom.holdout_digest == receipt["holdout"]["digest"]

    odd = DeltaTable(tmp_path / "odd").to_pandas().sort_values("disagreement")
    most = rows.nlargest(3, "x")  # the slopes differ most where x is largest
    assert set(odd["id"]) == set(most["id"])
    first = odd.iloc[-1]
    assert first.disagreement == pytest.approx(0.5 * most["x"].max())
    assert first.x == most["x"].max()
    assert first.prediction_gated_2 - first.prediction_gated_1 == pytest.approx(first.disagreement)
    assert rows_of(tmp_path / "bad") == []

    document = embedded(receipt["report"]["html"])
    for version in document["versions"]:
        assert version["rows_per_second"] > 0
        assert version["size"] > 0
        bars = [bar for bar in document["histograms"] if bar["uri"] == version["uri"]]
        for kind in ("residual", "prediction"):
            counted = sum(bar["weight"] for bar in bars if bar["kind"] == kind)
            assert counted == pytest.approx(rows["w"].sum())
    small = {line["slice"]: line["small"] for line in document["metrics"] if line["slice_by"]}
    assert small == {"part=often": False, "part=seldom": True}


def _logged_digest(version: dict[str, Any], metric: str) -> str:
    logged = mlflow.MlflowClient().get_logged_model(version["logged_model_id"])
    return str(next(m.dataset_digest for m in reversed(logged.metrics) if m.key == metric))


def embedded(page: str) -> Any:
    text = Path(page).read_text(encoding="utf-8")
    start = text.index('id="report">') + len('id="report">')
    return json.loads(text[start : text.index("</script>", start)])


def test_a_gate_that_is_not_met_ends_with_exit_code_6_and_all_is_written(
    crowned: str, flights: str, tmp_path: Path
) -> None:
    gates = {
        "metrics": {"rmse": {"threshold": 0.4, "greater_is_better": False}},
        "on_pass": "promote",
    }
    with pytest.raises(
        GateFailed,
        match=r"models:/gated/2 .* rmse must be at most 0\.4: it is 0\.\d+ .*missed by 0\.1",
    ) as e:
        run(tmp_path, flights, [f"{crowned}/2"], "y", "rmse", gates=gates)
    assert e.value.exit_code == 6
    receipt = e.value.facts
    assert receipt["gates"]["checks"][0]["passed"] is False
    assert receipt["gates"]["checks"][1]["gate"] == "signature"
    assert Path(receipt["report"]["html"]).exists()
    assert rows_of(tmp_path / "ranking", "scope") != []
    assert registry.describe(f"{crowned}@champion").version == 1
    for mode in ("dry_run", "disabled"):
        receipt = run(
            tmp_path, flights, [f"{crowned}/2"], "y", "rmse", gates={**gates, "mode": mode}
        )
        assert (receipt["gates"] or {"passed": False})["passed"] is False


def test_what_passes_is_promoted_by_the_ledger_with_the_comparison_as_evidence(
    crowned: str, flights: str, tmp_path: Path
) -> None:
    gates = {"metrics": BETTER, "on_pass": "set alias challenger"}
    receipt = run(tmp_path, flights, [f"{crowned}/2"], "y", "rmse", gates=gates)
    assert receipt["moved"]["alias"] == "challenger"
    receipt = run(
        tmp_path, flights, [f"{crowned}/2"], "y", "rmse", gates={**gates, "on_pass": "promote"}
    )
    assert registry.describe(f"{crowned}@champion").version == 2
    (*_, move) = registry.history(crowned, alias="champion")
    assert move.evidence == receipt["tracking_run_id"]
    assert "rmse must fall by at least" in str(move.reason)

    client = mlflow.MlflowClient()
    logged = [
        {m.key: m for m in client.get_logged_model(candidate["logged_model_id"]).metrics}
        for candidate in receipt["ranking"]
    ]
    for kept, candidate in zip(logged, receipt["ranking"], strict=True):
        assert kept["rmse"].value == pytest.approx(candidate["metrics"]["rmse"])
        assert kept["rmse"].dataset_name == "flights@v0"
        assert kept["rmse"].dataset_digest == receipt["holdout"]["digest"]
        assert kept["rmse.low"].value < kept["rmse"].value < kept["rmse.high"].value


def test_a_version_that_asks_for_another_input_does_not_pass_the_gate_of_signatures(
    register: Any, flights: str, tmp_path: Path
) -> None:
    register("signed", LinearRegression().fit(X, 2 * X["x"]), X, alias="champion")
    wide = X.assign(w=[1.0, 2.0, 1.0, 2.0])
    register("signed", LinearRegression().fit(wide, 2 * X["x"]), wide)
    with pytest.raises(GateFailed, match="input 'w' is new and required") as refused:
        run(tmp_path, flights, ["signed/2"], "y", "rmse", gates={})
    assert refused.value.exit_code == 6
    run(tmp_path, flights, ["signed/2"], "y", "rmse", gates={"signature": "false"})


def test_a_champion_that_moved_while_versions_were_compared_is_not_replaced(register: Any) -> None:
    for slope in (1, 2, 3):
        register("moved", LinearRegression().fit(X, slope * X["x"]), X)
    registry.promote("moved/1", to="champion")
    pinned = [assign_all(registry.resolve(name)) for name in ("moved/2", "moved/1")]
    candidates = comparing.Candidates({family.uri: family for family in pinned}, "models:/moved/1")
    passed = comparing.GateResult(
        mode="enforce", candidate="models:/moved/2", baseline=candidates.baseline, checks=[],
        on_pass="promote",  # noqa: S106 - no password
    )  # fmt: skip
    registry.promote("moved/3", to="champion")
    with pytest.raises(AliasMoved) as refused:
        comparing.act_on_gates(passed, candidates, {})
    assert refused.value.exit_code == 7
    assert registry.describe("moved@champion").version == 3


def test_a_holdout_is_read_at_the_version_that_is_asked_for(register: Any, tmp_path: Path) -> None:
    version = register("of old", LinearRegression().fit(X, X["x"]), X)
    columns = "x double, y double"
    path = make_table(tmp_path / "versions", [(1.0, 2.0)], columns)
    make_table(path, [(1.0, 4.0)] * 2, columns, mode="overwrite")
    old = run(
        tmp_path, path, [f"of old/{version}"], "y", "mae", holdout={"path": path, "version": 0}
    )
    assert (old["rows"], old["ranking"][0]["metrics"]["mae"]) == (1, pytest.approx(1.0))
    new = run(tmp_path, path, [f"of old/{version}"], "y", "mae")
    assert (new["rows"], new["ranking"][0]["metrics"]["mae"]) == (2, pytest.approx(3.0))
    assert (old["holdout"]["version"], new["holdout"]["version"]) == (0, 1)
    assert old["holdout"]["digest"] != new["holdout"]["digest"]


def test_classifiers_are_compared_by_their_probabilities_and_named_classes(
    register: Any, tmp_path: Path
) -> None:
    classes = ["New York", "Newark"]  # a blank, which no column's name may hold
    models = [
        LogisticRegression(C=c).fit(X, [classes[n] for n in labels])
        for c, labels in ((1.0, (0, 0, 1, 1)), (0.1, (0, 1, 0, 1)))
    ]
    for model in models:
        register("cities", model, X)
    random = np.random.default_rng(2)
    x = random.uniform(0, 3, 200)
    y = np.where(x + random.normal(0, 1, 200) > 1.5, *reversed(classes))
    rows = list(zip(range(200), x.tolist(), y.tolist(), strict=True))
    path = make_table(tmp_path / "cities", rows, "id int, x double, y string")
    receipt = run(
        tmp_path,
        path,
        ["cities/1", "cities/2"],
        "y",
        "roc_auc",
        prediction="proba",
        id_columns=["id"],
    )
    for candidate in receipt["ranking"]:
        model = models[candidate["version"] - 1]
        p = model.predict_proba(pd.DataFrame({"x": x}))
        expected = {
            "roc_auc": metrics.roc_auc_score(y == classes[1], p[:, 1]),
            "log_loss": metrics.log_loss(y, p, labels=classes),
            "f1": metrics.f1_score(y, model.predict(pd.DataFrame({"x": x})), pos_label="Newark"),
        }
        assert among(candidate["metrics"], expected)
    document = embedded(receipt["report"]["html"])
    assert document["problem"]["positive_class"] == "Newark"
    assert {point["class"] for point in document["curves"]} == {"Newark"}
    for uri, model in zip(["models:/cities/1", "models:/cities/2"], models, strict=True):
        score = model.predict_proba(pd.DataFrame({"x": x}))[:, 1]
        points = [point for point in document["curves"] if point["uri"] == uri]
        assert len(points) > 5
        for point in points:
            decided = np.where(score >= point["threshold"], "Newark", "New York")
            recall = metrics.recall_score(y, decided, pos_label="Newark")
            precision = metrics.precision_score(y, decided, pos_label="Newark")
            assert (point["true_positive_rate"], point["recall"]) == pytest.approx((recall, recall))
            assert point["precision"] == pytest.approx(precision)
            wrong = 1 - metrics.recall_score(y, decided, pos_label="New York")
            assert point["false_positive_rate"] == pytest.approx(wrong)
    assert {cell["true"] for cell in document["confusion"]} == set(classes)


def test_rows_that_a_version_refuses_are_set_aside_and_the_others_are_compared(
    register: Any, tmp_path: Path
) -> None:
    class Root(mlflow.pyfunc.PythonModel):
        """Raises on a batch with a negative number, as strict models do."""

        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            if (model_input["x"] < 0).any():
                raise ValueError("a negative number has no root")
            return model_input["x"] ** 0.5

    register("strict", LinearRegression().fit(X, X["x"]), X)
    register("strict", Root(), X, np.array([0.5]))
    rows = [(1, 4.0, 2.0), (2, -1.0, 0.0), (3, 1.0, 1.0), (4, 9.0, 4.0)]  # the second has no root
    path = make_table(tmp_path / "strict", rows, "id int, x double, y double")
    receipt = run(
        tmp_path, path, ["strict/1", "strict/2"], "y", "mae", id_columns=["id"],
        quarantine={"path": str(tmp_path / "bad")},
    )  # fmt: skip
    by_version = {candidate["version"]: candidate for candidate in receipt["ranking"]}
    assert (receipt["rows"], receipt["rows_common"]) == (4, 3)
    assert [by_version[n]["rows_failed"] for n in (1, 2)] == [0, 1]
    assert by_version[1]["metrics"]["mae"] == pytest.approx((2 + 0 + 5) / 3)
    assert by_version[2]["metrics"]["mae"] == pytest.approx((0 + 0 + 1) / 3)
    facts = ("scope", "metric", "model_version", "rows", "value")
    ranking = rows_of(tmp_path / "ranking", *facts)
    (mae,) = [row[3:] for row in ranking if row[:3] == ("own", "mae", 1)]
    assert mae == (4, pytest.approx((2 + 1 + 0 + 5) / 4))
    (bad,) = rows_of(tmp_path / "bad", "id", "model_uri", "error_type", "error")
    assert bad[:3] == (2, "models:/strict/2", "ValueError")
    assert "no root" in bad[3]
    of_all = run(tmp_path, path, ["strict/1"], "y", "mae", id_columns=["id"])
    digests = [_logged_digest(report["ranking"][0], "mae") for report in (receipt, of_all)]
    assert of_all["holdout"]["digest"] == receipt["holdout"]["digest"] == digests[1]
    assert digests[0] != digests[1]  # metrics of three rows cannot be compared with those of four
    (strict,) = [v for v in embedded(receipt["report"]["html"])["versions"] if v["version"] == 2]
    assert strict["errors"] == {"ValueError": 1}


def test_inputs_and_options_of_models_are_those_that_the_score_job_has(
    register: Any, tmp_path: Path
) -> None:
    class Capped(mlflow.pyfunc.PythonModel):
        """Doubles a number, up to a parameter, with a bias of its configuration."""

        def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.Series:
            """Return a number a row."""
            bias = float(context.model_config.get("bias", 0.0))
            return (2 * model_input["x"]).clip(upper=(params or {"cap": 100.0})["cap"]) + bias

    signature = mlflow.models.infer_signature(X, np.array([0.5]), params={"cap": 100.0})
    register("capped", Capped(), signature=signature, model_config={"bias": 0.0})
    wide = pd.DataFrame({"x": [0.0, 1.0, 2.0], "z": [1.0, 0.0, 2.0]})
    register("capped wide", LinearRegression().fit(wide, wide["x"]), wide)
    rows = [(1, 1.0, 0.0, 2.5), (2, None, 0.0, 4.5), (3, 4.0, None, 5.5)]
    path = make_table(tmp_path / "named", rows, "id int, width double, z double, y double")
    asked = {
        "columns": {"x": "width"},  # a feature of both models
        "nulls": {"x": "quarantine", "z": "quarantine"},  # z is a feature of one model only
        "id_columns": ["id"],
        "quarantine": {"path": str(tmp_path / "bad")},
        "disagreements": {"path": str(tmp_path / "odd")},
    }
    receipt = run(tmp_path, path, ["capped/1", "capped wide/1"], "y", "mae", **asked)
    by_name = {candidate["name"]: candidate for candidate in receipt["ranking"]}
    assert (receipt["rows"], receipt["rows_common"]) == (3, 1)
    assert (by_name["capped"]["rows_failed"], by_name["capped wide"]["rows_failed"]) == (1, 2)
    assert by_name["capped"]["metrics"]["mae"] == pytest.approx(0.5)
    assert set(rows_of(tmp_path / "bad", "id", "model_uri", "error_type")) == {
        (2, "models:/capped/1", "NullInput"),
        (2, "models:/capped wide/1", "NullInput"),
        (3, "models:/capped wide/1", "NullInput"),
    }

    given = ("prediction_capped_1", "prediction_capped_wide_1")
    (odd,) = rows_of(tmp_path / "odd", "id", "width", "z", "disagreement", *given)
    assert odd == (1, 1.0, 0.0, pytest.approx(1.0), 2.0, pytest.approx(1.0))

    options = {"params": {"cap": "5.0"}, "model_config": {"bias": "0.25"}}
    with_options = run(tmp_path, path, ["capped/1"], "y", "mae", **{
        **asked, "nulls": {"x": "quarantine"}, "pyfunc": options,
    })  # fmt: skip
    mae = with_options["ranking"][0]["metrics"]["mae"]
    assert mae == pytest.approx((abs(2.25 - 2.5) + abs(5.25 - 5.5)) / 2)
    assert with_options["run_id"] != receipt["run_id"]

    with pytest.raises(NullsFound, match="'width' in 1 row") as refused:
        run(tmp_path, path, ["capped/1"], "y", "mae", **{**asked, "nulls": {"x": "fail"}})
    assert refused.value.exit_code == 5
    with pytest.raises(FeaturesUnknown, match=r"'xx'.*capped/1, models:/capped wide/1"):
        run(tmp_path, path, ["capped/1", "capped wide/1"], "y", "mae", columns={"xx": "width"})
    versions = ["capped/1", "capped wide/1"]
    with pytest.raises(OptionUnknown, match="capped wide/1"):
        run(tmp_path, path, versions, "y", "mae", columns={"x": "width"}, pyfunc=options)


def test_probabilities_that_versions_disagree_on_are_written_without_spark(
    spark: SparkSession, register: Any, tmp_path: Path
) -> None:
    x = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0]})
    models = [LogisticRegression().fit(x, y) for y in (["a", "a", "b", "b"], ["a", "b", "b", "b"])]
    for model in models:
        register("odds of two", model, x)
    rows = [(n, value, "a") for n, value in enumerate([0.0, 1.0, 5.0])]
    path = make_table(tmp_path / "classes", rows, "id int, x double, y string")
    odd = {"path": str(tmp_path / "odd"), "rows": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "_is_running", lambda: False)
        receipt = run(
            tmp_path, path, ["odds of two/1", "odds of two/2"], "y", "log_loss",
            prediction="proba", id_columns=["id"], disagreements=odd, runner="local",
        )  # fmt: skip
    assert receipt["runner"]["name"] == "local"
    chances = [model.predict_proba(pd.DataFrame({"x": [0.0, 1.0, 5.0]})) for model in models]
    gaps = abs(chances[0] - chances[1]).max(axis=1)
    (most,) = spark.read.format("delta").load(str(tmp_path / "odd")).collect()
    assert (most.id, most.disagreement) == (gaps.argmax(), pytest.approx(gaps.max()))
    for n, column in enumerate(["prediction_odds_of_two_1", "prediction_odds_of_two_2"]):
        assert [most[column][name] for name in ("p_a", "p_b")] == pytest.approx(chances[n][most.id])


@pytest.mark.parametrize(
    "rows", [[], [(1.0, None), (2.0, math.nan)]], ids=["no row", "no label that has arrived"]
)
def test_a_holdout_without_a_label_is_told_without_spark(
    spark: SparkSession,  # noqa: ARG001 - by which a condition is looked at
    register: Any,
    tmp_path: Path,
    rows: list[Any],
) -> None:
    register("early", LinearRegression().fit(X, X["x"]), X)
    path = make_table(tmp_path / "early", rows, "x double, y double")
    with pytest.raises(HoldoutEmpty, match="early has a label in 'y', so there is nothing to comp"):
        run(tmp_path, path, ["early/1"], "y", "rmse", runner="local")
    with pytest.raises(MetricUndefined, match="0 labelled rows"):  # Spark tells this, too
        run(tmp_path, path, ["early/1"], "y", "rmse", where="x > 0")
    assert not (tmp_path / "ranking").exists()
