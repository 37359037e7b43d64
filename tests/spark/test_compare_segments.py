"""Families, with a version for each segment of the holdout, compared with each other."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import compare
import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from builders.jobs import compare_job
from builders.tables import make_table, rows_of
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss, root_mean_squared_error
from sklearn.tree import DecisionTreeClassifier

from lakescore.assignment import SegmentsUnfit, SegmentsUnresolved
from lakescore.comparing.errors import GateFailed, HoldoutEmpty
from lakescore.config import CompareJob
from lakescore.errors import ColumnsMissing, ConfigError, InputContractError
from lakescore.signature import OutputsDiffer

pytestmark = pytest.mark.usefixtures("runner")
Run = Callable[..., dict[str, Any]]
X = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0]})
SCHEMA = "id int, region string, x double, y double"
ROWS = [
    (1, "north", 1.0, 2.5),
    (2, "south", 1.0, 2.5),
    (3, "north", 2.0, 4.5),  # segments alternate, so a prediction at a wrong row shows
    (4, "south", 3.0, 9.5),
    (5, "west", 3.0, 6.0),
    (6, "north", 3.0, 5.0),
]
CHAMPIONS = {"north": 2, "south": 3, "west": 1}
CHALLENGERS = {"north": 1.5, "south": 3.5}  # west has none
CHAMPION, CHALLENGER = "rival-{region}@live", "rival-{region}@next"
_NUMBERS = itertools.count()


def family(name: str = CHAMPION, missing: Any = "fail", by: str = "region") -> dict[str, Any]:
    return {"by": by, "name": name, "missing": missing}


def line(slope: float) -> LinearRegression:
    return LinearRegression().fit(X, slope * X["x"])


@pytest.fixture(scope="module", autouse=True)
def models(register: Any) -> None:
    for region, slope in CHAMPIONS.items():
        register(f"rival-{region}", line(slope), X, alias="live")
    for region, slope in CHALLENGERS.items():
        register(f"rival-{region}", line(slope), X, alias="next")
    register("rival-all", line(2.2), X, alias="live")


@pytest.fixture
def name() -> str:
    """Return a name that no other test's models begin with."""
    return f"rival{next(_NUMBERS)}"


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    rows, schema = getattr(request, "param", (ROWS, SCHEMA))
    table = make_table(tmp_path / "holdout", rows, schema)

    def go(versions: list[Any], **more: Any) -> dict[str, Any]:
        own = {
            "versions": versions,
            "label": "y",
            "rank_by": "rmse",
            "id_columns": ["id"],
            "disagreements": {"path": str(tmp_path / "disagreements"), "rows": 1000},
            "quarantine": tmp_path / "quarantine",
        }
        return compare.run(compare_job(tmp_path, table, **own | more))

    return go


def document(report: dict[str, Any]) -> dict[str, Any]:
    page = Path(report["report"]["html"]).read_text(encoding="utf-8")
    begins = '<script type="application/json" id="report">'
    (text,) = re.findall(f"{begins}(.*?)</script>", page, re.DOTALL)
    data: dict[str, Any] = json.loads(text)
    return data


def on_pandas(slopes: dict[str, float], rows: Any = ROWS) -> pd.Series:
    frame = pd.DataFrame(rows, columns=["id", "region", "x", "y"])
    return frame["region"].map(slopes) * frame["x"]


def rmse(predicted: pd.Series, rows: Any = ROWS) -> float:
    labels = pd.Series([row[3] for row in rows])
    known = predicted.notna()
    return float(root_mean_squared_error(labels[known], predicted[known]))


def test_each_row_counts_with_the_version_that_its_segment_has_in_each_family(
    run: Run, tmp_path: Path
) -> None:
    report = run([family(), family(CHALLENGER, {"default": "rival-all@live"}), "rival-all@live"])
    challengers = {**CHALLENGERS, "west": 2.2}
    expected = {
        CHAMPION: on_pandas(CHAMPIONS),
        CHALLENGER: on_pandas(challengers),
        "models:/rival-all/1": on_pandas(dict.fromkeys(CHAMPIONS, 2.2)),
    }
    errors = {candidate["uri"]: candidate["metrics"]["rmse"] for candidate in report["ranking"]}
    assert errors == {uri: pytest.approx(rmse(values)) for uri, values in expected.items()}
    assert report["baseline"] == CHAMPION
    assert (report["rows"], report["rows_common"]) == (6, 6)

    columns = ["id", *[f"prediction_{uri.removeprefix('models:/')}" for uri in expected]]
    columns = [column.replace("/", "_").replace("{", "_").replace("}", "_") for column in columns]
    written = rows_of(str(tmp_path / "disagreements"), *columns)
    rows = zip([row[0] for row in ROWS], *expected.values(), strict=True)
    of_rows = {row[0]: pytest.approx(row[1:]) for row in rows}
    assert {row[0]: row[1:] for row in written} == of_rows


def test_a_segment_is_a_slice_and_says_which_version_it_has(run: Run, tmp_path: Path) -> None:
    report = run([family(), family(CHALLENGER, "skip")])
    lines = rows_of(
        str(tmp_path / "ranking"),
        "model_name", "model_version", "model_uri", "metric", "slice", "scope", "rows", "value",
    )  # fmt: skip
    of_family = ("rival-{region}", None, CHAMPION, "rmse")
    north = rmse(on_pandas({"north": 2.0}))
    assert (*of_family, "region=north", "common", 3, pytest.approx(north)) in lines

    of_ranking = {candidate["uri"]: candidate for candidate in report["ranking"]}
    segments = of_ranking[CHALLENGER]["segments"]
    assert [(segment["segment"], segment["rows"], segment["uri"]) for segment in segments] == [
        ("north", 3, "models:/rival-north/2"),
        ("south", 2, "models:/rival-south/2"),
        ("west", 1, None),
    ]
    of_page = {version["uri"]: version for version in document(report)["versions"]}
    assert of_page[CHALLENGER]["segments"] == segments
    assert of_page[CHALLENGER]["version"] is None
    assert of_page[CHALLENGER]["segment_by"] == "region"


def test_rows_of_segments_without_a_version_count_as_not_scored(run: Run, tmp_path: Path) -> None:
    report = run([family(), family(CHALLENGER, "skip")])
    known = [row for row in ROWS if row[1] != "west"]
    values = {candidate["uri"]: candidate["metrics"]["rmse"] for candidate in report["ranking"]}
    assert values == {
        CHAMPION: pytest.approx(rmse(on_pandas(CHAMPIONS, known), known)),
        CHALLENGER: pytest.approx(rmse(on_pandas(CHALLENGERS, known), known)),
    }
    assert (report["rows"], report["rows_common"]) == (6, 5)
    failed = {candidate["uri"]: candidate["rows_failed"] for candidate in report["ranking"]}
    assert failed == {CHAMPION: 0, CHALLENGER: 1}
    assert rows_of(str(tmp_path / "quarantine"), "id", "model_uri", "error_type", "error") == [
        (5, CHALLENGER, "NoVersion", "the row's segment has no model")
    ]


def test_a_row_that_a_version_cannot_score_names_that_version(
    register: Any, run: Run, tmp_path: Path, name: str
) -> None:
    class Model(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: pd.DataFrame) -> Any:  # noqa: ARG002
            if (model_input["x"] == 2.0).any():
                raise ValueError("2 is too much")
            return model_input["x"]

    for region in ("north", "south", "west"):
        model = Model() if region == "north" else line(1)
        register(f"{name}-{region}", model, X, X["x"])
    template = f"{name}-{{region}}/latest"
    report = run([family(template), family(f"{name}-{{region}}/1"), f"{name}-north/1"])
    told = ("ValueError", f"models:/{name}-north/1: 2 is too much")
    written = rows_of(str(tmp_path / "quarantine"), "id", "model_uri", "error_type", "error")
    assert sorted(written) == [
        (3, f"models:/{name}-north/1", "ValueError", "2 is too much"),
        (3, f"{name}-{{region}}/1", *told),
        (3, template, *told),
    ]
    assert [candidate["rows_failed"] for candidate in report["ranking"]] == [1, 1, 1]


def test_an_error_is_that_of_the_version_of_the_rows_own_segment(
    register: Any, run: Run, tmp_path: Path, name: str
) -> None:
    class Model(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def __init__(self, region: str) -> None:
            self.region = region

        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:  # noqa: ARG002
            if (model_input["x"] == 1.0).any():
                raise ValueError(f"{self.region} fails")
            return model_input["x"]

    class Silent(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:  # noqa: ARG002
            return model_input["x"].where(model_input["x"] != 3.0)

    register(f"{name}-north", Model("north"), X, X["x"])
    register(f"{name}-south", Model("south"), X, X["x"])
    register(f"{name}-west", Silent(), X, X["x"])
    template = f"{name}-{{region}}/1"
    run([f"{name}-north/1", family(template)])
    written = rows_of(str(tmp_path / "quarantine"), "id", "model_uri", "error_type", "error")
    assert sorted(written) == [
        (1, f"models:/{name}-north/1", "ValueError", "north fails"),
        (1, template, "ValueError", f"models:/{name}-north/1: north fails"),
        (2, f"models:/{name}-north/1", "ValueError", "north fails"),
        (2, template, "ValueError", f"models:/{name}-south/1: south fails"),
        (5, template, "NoPrediction", "the model gave no value"),
    ]


def test_a_version_of_several_families_is_loaded_once(run: Run) -> None:
    same = "rival-{region}/1"
    report = run([family(), family(same), "rival-north/1"])
    assert report["engine"]["loads"] <= 3 * report["engine"]["workers"]
    assert {candidate["rank"] for candidate in report["ranking"] if "{" in candidate["uri"]} == {1}


def test_all_segments_without_a_model_are_named_before_anything_is_scored(
    run: Run, tmp_path: Path
) -> None:
    with pytest.raises(SegmentsUnresolved, match="no model for 1 of 3 segments by region: 'west'"):
        run([family(), family(CHALLENGER)])
    assert not (tmp_path / "ranking").exists()


LABELS = [
    (1, "north", 1.0, 2.5),
    (2, "east", 1.0, None),  # has no model, and no label
    (3, "east", 1.0, math.nan),
    (4, "north", 3.0, 6.5),
]


@pytest.mark.parametrize("run", [(LABELS, SCHEMA)], indirect=True)
def test_segments_are_those_of_rows_that_count(run: Run) -> None:
    report = run([family()])
    assert [segment["segment"] for segment in report["ranking"][0]["segments"]] == ["north"]
    assert report["rows"] == 2


def test_segments_are_those_that_a_filter_leaves(run: Run) -> None:
    report = run([family(), family(CHALLENGER)], where="region in ('north', 'south')")
    sizes = [(segment["segment"], segment["rows"]) for segment in report["ranking"][0]["segments"]]
    assert sizes == [("north", 3), ("south", 2)]


@pytest.mark.parametrize("run", [([(1, "north", 1.0, None)], SCHEMA)], indirect=True)
def test_a_holdout_without_labels_has_no_segments(run: Run) -> None:
    with pytest.raises(HoldoutEmpty, match="has a label in 'y'"):
        run([family()])
    with pytest.raises(HoldoutEmpty, match=r"where x > 5 has a label in 'y'.* or another filter"):
        run([family()], where="x > 5")


def test_the_names_of_families_are_baseline_and_candidate(run: Run) -> None:
    gates = {
        "candidate": CHAMPION,
        "signature": False,
        "metrics": {"rmse": {"threshold": 100, "greater_is_better": False}},
    }
    report = run(["rival-all@live", family()], baseline="rival-all/1", gates=gates)
    assert report["baseline"] == "models:/rival-all/1"
    assert report["gates"]["candidate"] == CHAMPION
    swapped = run([family(), "rival-all/1"], baseline=CHAMPION)
    assert swapped["baseline"] == CHAMPION


def test_a_gate_holds_signatures_segment_by_segment(register: Any, run: Run, name: str) -> None:
    wide = X.assign(z=1.0)
    for region in ("north", "south", "west"):
        register(f"{name}-{region}", line(1), X, alias="live")
        features = wide if region == "south" else X
        model = LinearRegression().fit(features, X["x"])
        register(f"{name}-{region}", model, features, alias="next")
    old, new = f"{name}-{{region}}@live", f"{name}-{{region}}@next"
    with pytest.raises(GateFailed, match=r"'z' is new and required \(segments 'south'\)"):
        run([family(old), family(new)], gates={}, columns={"z": "x"})
    same = run([family(old), family(f"{name}-{{region}}/1")], gates={})
    assert same["gates"]["passed"]
    with pytest.raises(GateFailed, match=r"there is no model \(segments 'west'\)"):
        run([family(), family(CHALLENGER, "skip")], gates={})


def test_a_gate_sees_missing_models_where_two_columns_tell_segments(
    register: Any, tmp_path: Path, name: str
) -> None:
    rows = [(n, "a" if n % 2 else "b", n % 3, 1.0 * n, 2.0 * n) for n in range(12)]
    table = make_table(tmp_path / "two", rows, "id int, region string, k int, x double, y double")
    for own in ("a", "b", "0"):
        register(f"{name}-{own}", line(1), X)
    by_region = family(f"{name}-{{region}}/1")
    versions = [by_region, family(f"{name}-{{k}}/1", "skip", "k")]
    with pytest.raises(GateFailed, match=r"there is no model \(segments k '1', k '2'\)"):
        compare.run(compare_job(tmp_path, table, versions=versions, label="y", gates={}))


def test_metrics_over_other_rows_have_another_digest(register: Any, run: Run, name: str) -> None:
    register(f"{name}-m", line(1), X)
    versions = [f"{name}-m/1", family(f"{name}-m@{{region}}", "skip")]
    digests = []
    for region in ("north", "south"):
        mlflow.MlflowClient().set_registered_model_alias(f"{name}-m", region, "1")
        report = run(versions)
        mlflow.MlflowClient().delete_registered_model_alias(f"{name}-m", region)
        model_id = next(
            candidate["logged_model_id"]
            for candidate in report["ranking"]
            if "version" in candidate
        )
        logged = mlflow.MlflowClient().get_logged_model(model_id)
        digests.append({metric.dataset_digest for metric in logged.metrics} - set(*digests))
    assert [len(digest) for digest in digests] == [1, 1]


def test_probabilities_of_families_equal_those_on_pandas(
    register: Any, tmp_path: Path, name: str
) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"id": range(200), "x": rng.normal(size=200)})
    frame["region"] = np.where(frame["id"] % 3 == 0, "north", "south")
    frame["y"] = np.where(frame["x"] + rng.normal(size=200) > 0, "late", "on time")
    features, models = frame[["x"]], {}
    for region, strength in (("north", 1.0), ("south", 0.01)):
        models[region] = LogisticRegression(C=strength).fit(features, frame["y"])
        register(f"{name}-{region}", models[region], features)
    register(f"{name}-flat", DummyClassifier(strategy="prior").fit(features, frame["y"]), features)
    rows = list(frame[["id", "region", "x", "y"]].itertuples(index=False, name=None))
    table = make_table(tmp_path / "labels", rows, "id int, region string, x double, y string")
    versions = [family(f"{name}-{{region}}/1"), f"{name}-flat/1"]
    job = compare_job(tmp_path, table, versions=versions, label="y", prediction="proba")
    report = compare.run(job)
    given = np.where(
        (frame["region"] == "north").to_numpy()[:, None],
        models["north"].predict_proba(features),
        models["south"].predict_proba(features),
    )
    losses = {candidate["uri"]: candidate["metrics"]["log_loss"] for candidate in report["ranking"]}
    assert losses[f"{name}-{{region}}/1"] == pytest.approx(log_loss(frame["y"], given), rel=1e-9)
    assert len(losses) == 2


def test_versions_of_a_family_must_give_the_same(register: Any, run: Run, name: str) -> None:
    labels = ["a", "b", "a", "b"]
    register(f"{name}-north", LogisticRegression().fit(X, labels), X)
    for region in ("south", "west"):
        register(f"{name}-{region}", line(1), X)
    with pytest.raises(OutputsDiffer, match=r"all segments must give the same columns"):
        run([family(f"{name}-{{region}}/1")])


@pytest.mark.parametrize(
    ("versions", "error"),
    [
        ([family(by="area", name="rival-{area}@live")], ColumnsMissing),
        ([family(by="x", name="rival-{x}@live")], InputContractError),
    ],
)
def test_a_column_that_cannot_tell_segments_is_refused(
    run: Run, versions: list[Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        run(versions)


@pytest.mark.parametrize("run", [([(1, "a/b", 1.0, 2.0)], SCHEMA)], indirect=True)
def test_a_value_that_cannot_be_part_of_a_name_is_refused(run: Run) -> None:
    with pytest.raises(SegmentsUnfit, match="'a/b'"):
        run([family()])


CLASSES = [(n, str(n % 150), 1.0 * (n % 4), f"class {n % 40}") for n in range(600)]


@pytest.mark.parametrize(
    "run", [(CLASSES, "id int, region string, x double, y string")], indirect=True
)
def test_segments_are_no_slices_where_classes_are_too_many_for_that(
    register: Any, run: Run, name: str
) -> None:
    labels = [f"class {n}" for n in range(4)]
    register(f"{name}-all", DecisionTreeClassifier().fit(X, labels), X)
    report = run([family(f"{name}-{{region}}/1", {"default": f"{name}-all/1"})], rank_by="accuracy")
    expected = sum(label == f"class {int(x)}" for _, _, x, label in CLASSES) / len(CLASSES)
    assert report["ranking"][0]["metrics"]["accuracy"] == pytest.approx(expected)


NULLS = [(1, None, 1.0, 2.0), (2, "null", 1.0, 3.0)]


@pytest.mark.parametrize("run", [(NULLS, SCHEMA)], indirect=True)
def test_rows_without_a_segment_are_another_slice_than_the_text_null(
    run: Run, tmp_path: Path
) -> None:
    run([family(missing={"default": "rival-all@live"})])
    slices = {row[0] for row in rows_of(str(tmp_path / "ranking"), "slice")}
    assert slices == {"all", "region is null", "region=null"}


MANY = [(n, str(n), float(n), 2.0 * n) for n in range(250)]


@pytest.mark.parametrize("run", [(MANY, SCHEMA)], indirect=True)
def test_more_segments_than_slices_are_compared_all_the_same(run: Run, tmp_path: Path) -> None:
    report = run([family(missing={"default": "rival-all@live"})])
    assert report["ranking"][0]["metrics"]["rmse"] == pytest.approx(
        float(np.sqrt(np.mean([(0.2 * n) ** 2 for n in range(250)])))
    )
    slices = {row[0] for row in rows_of(str(tmp_path / "ranking"), "slice")}
    assert slices == {"all"}


def test_the_file_that_repeats_a_comparison_names_the_families(run: Run) -> None:
    first = run([family(), family(CHALLENGER, "skip"), "rival-all@live"])
    again = yaml.safe_load(document(first)["repeat"][0]["command"])
    second = compare.run(CompareJob.model_validate(again))
    of_first, of_second = (
        {
            candidate["uri"]: (candidate["rank"], candidate["metrics"]["rmse"])
            for candidate in report["ranking"]
        }
        for report in (first, second)
    )
    assert of_second == {
        uri: (rank, pytest.approx(value, rel=1e-12)) for uri, (rank, value) in of_first.items()
    }


def test_another_version_of_one_segment_is_another_run(register: Any, run: Run, name: str) -> None:
    for region in ("north", "south", "west"):
        register(f"{name}-{region}", line(1), X)
    versions = [family(f"{name}-{{region}}/latest")]
    before = run(versions)["run_id"]
    assert run(versions)["run_id"] == before
    register(f"{name}-south", line(1.1), X)
    assert run(versions)["run_id"] != before


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"engine": "spark_udf"}, "one model per segment needs engine: arrow or auto"),
        ({"gates": {"on_pass": "promote"}}, "gates.on_pass: it moves one alias"),
        ({"env_manager": "uv"}, "one model per segment needs env_manager: local"),
    ],
)
def test_what_a_family_cannot_do_is_refused(run: Run, changes: Any, complaint: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=complaint):
        run([family()], **changes)


def test_a_family_that_stands_twice_differently_is_refused(run: Run) -> None:
    for other in (CHAMPION, f"models:/{CHAMPION}"):
        with pytest.raises(ValueError, match=r"rival-\{region\}@live occurs twice"):
            run([family(), family(other, "skip")])


def test_a_family_has_one_name_however_it_is_spelled(run: Run) -> None:
    report = run(["rival-all/1", family(f"models:/{CHAMPION}")], baseline=CHAMPION)
    assert report["baseline"] == CHAMPION
    assert len(report["ranking"]) == 2
