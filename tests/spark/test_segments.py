"""Each segment has its own model: one pass, one commit, and each row names its version."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import replay
import score
from builders.jobs import replay_job, score_job
from builders.tables import make_table, rows_of
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from mlflow.types.schema import Map
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from lakescore import explaining
from lakescore.assignment import SegmentsUnfit, SegmentsUnresolved
from lakescore.config import ScoreJob
from lakescore.engines.plan import EngineRefused
from lakescore.errors import InputContractError
from lakescore.publishing import TooManyErrors
from lakescore.registry.errors import QueryNotUnique
from lakescore.signature import OutputsDiffer

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

Job = Callable[..., ScoreJob]
pytestmark = pytest.mark.usefixtures("runner")
X = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0]})
FIRST, SECOND = dt.date(2013, 12, 1), dt.date(2013, 12, 2)
SCHEMA = "id int, day date, region string, x double"
ROWS = [
    (1, FIRST, "north", 1.0),
    (2, FIRST, "south", 1.0),
    (3, FIRST, "north", 2.0),
    (4, SECOND, "south", 3.0),
    (5, SECOND, "west", 3.0),  # has no model of its own
    (6, SECOND, None, 3.0),  # is of no segment
]
_NUMBERS = itertools.count()
FACTORS = {"north": 2, "south": 3, "all": 100}


def loud(number: float, bad: float) -> Any:
    """Return a model that fails at the number *bad*, and adds *number* to others."""

    class Model(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: pd.DataFrame) -> Any:  # noqa: ARG002
            if (model_input["x"] == bad).any():
                raise ValueError(f"{number} cannot bear {bad}")
            return model_input["x"] + number

    return Model()


@pytest.fixture
def family() -> str:
    """Return a name that no other test's models begin with."""
    return f"family{next(_NUMBERS)}"


@pytest.fixture(scope="module", autouse=True)
def models(register: Any) -> None:
    for region, factor in FACTORS.items():
        register(f"demand-{region}", LinearRegression().fit(X, factor * X["x"]), X, alias="live")


@pytest.fixture
def table(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return make_table(tmp_path / "input", getattr(request, "param", ROWS), SCHEMA)


@pytest.fixture
def job(table: str, tmp_path: Path) -> Job:
    def make(missing: Any = "skip", name: str = "demand-{region}@live", **changes: Any) -> ScoreJob:
        model = {"by": "region", "name": name, "missing": missing}
        days = {"slice_by": "day", "slices": ["2013-12-01", "2013-12-02"]}
        return score_job(tmp_path, table, **{"model": model, **days, **changes})

    return make


def written(config: ScoreJob, *columns: str) -> list[tuple[Any, ...]]:
    return rows_of(config.output.address, "id", *columns)


ALONE = [
    (1, 2.0, "models:/demand-north/1"),
    (2, 3.0, "models:/demand-south/1"),
    (3, 4.0, "models:/demand-north/1"),
    (4, 9.0, "models:/demand-south/1"),
]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scan": "spark"},
        {"write": "spark"},
        {"passthrough": "all"},
        {"passthrough": "none"},
        {"write_mode": "append"},
        {"commits": "slice"},
    ],
    ids=str,
)
def test_each_row_is_scored_by_the_version_of_its_segment_and_says_so(
    spark: SparkSession, job: Job, changes: dict[str, Any]
) -> None:
    config = job(**changes)
    report = score.run(config)
    rows = spark.read.format("delta").load(config.output.address)
    kept = {"all": ["id", "day", "region", "x"], "none": []}.get(str(config.passthrough), ["id"])
    assert rows.columns[: len(kept) + 1] == [*kept, "prediction"]
    records = rows.collect()
    given = {
        (
            round(row["prediction"], 9),
            row["model_uri"],
            row["model_reference"],
            row["model_version"],
        )
        for row in records
    }
    reference = "demand-{}@live".format
    assert given == {
        (value, uri, reference(uri.split("-")[1].split("/")[0]), 1) for _, value, uri in ALONE
    }
    if kept:
        alone = [(row["id"], round(row["prediction"], 9), row["model_uri"]) for row in records]
        assert sorted(alone) == ALONE
    assert {row["model_name"] for row in records} == {"demand-{region}"}
    assert (report["rows_in"], report["rows_scored"], report["rows_skipped"]) == (4, 4, 2)
    segments = {
        segment["segment"]: (segment["rows"], segment["uri"]) for segment in report["segments"]
    }
    assert segments == {
        None: (1, None),
        "north": (2, "models:/demand-north/1"),
        "south": (2, "models:/demand-south/1"),
        "west": (1, None),
    }
    assert report["model"]["versions"] == 2
    again = score.run(config)
    assert {part["status"] for part in again["slices"]} == {"unchanged"}


def test_rows_are_merged_by_their_keys(spark: SparkSession, job: Job) -> None:
    config = job(write_mode="merge")
    score.run(config)
    merged = score.run(job(write_mode="merge", missing={"default": "demand-all@live"}))
    assert merged["rows_scored"] == 3  # the second day has a model for all its rows now
    predictions = spark.read.format("delta").load(config.output.address).select("id", "prediction")
    assert sorted((n, round(value, 9)) for n, value in predictions.collect()) == [
        (1, 2.0), (2, 3.0), (3, 4.0), (4, 9.0), (5, 300.0), (6, 300.0),
    ]  # fmt: skip


def test_a_default_scores_what_has_no_model_of_its_own(job: Job) -> None:
    config = job(missing={"default": "demand-all/1"})
    report = score.run(config)
    predictions = written(config, "prediction", "model_uri", "model_reference")
    assert [(n, round(value, 9), uri) for n, value, uri, _ in predictions] == [
        *ALONE,
        (5, 300.0, "models:/demand-all/1"),
        (6, 300.0, "models:/demand-all/1"),
    ]
    assert [row[3] for row in predictions[3:]] == [
        "demand-south@live",
        "demand-all/1",
        "demand-all/1",
    ]
    assert (report["rows_in"], report["rows_scored"], report["rows_skipped"]) == (6, 6, 0)


def test_all_segments_without_a_model_are_named_before_anything_is_scored(job: Job) -> None:
    with pytest.raises(SegmentsUnresolved) as refused:
        score.run(job(missing="fail"))
    sentence = (
        "no model for 2 of 4 segments by region: None, 'west'; for 'west': there is no registered "
    )
    assert str(refused.value).startswith(sentence)
    assert refused.value.facts == {"segments_without_model": [None, "west"]}
    one_alias = job(missing="fail", name="demand-{region}@best", slices=["2013-12-01"])
    with pytest.raises(SegmentsUnresolved, match=r"'north', 'south'; for 'north': .* has no alias"):
        score.run(one_alias)
    report = score.run(job(missing="fail", slices=["2013-12-01"]))  # has them all
    assert report["rows_scored"] == 3


def test_a_slice_is_scored_anew_where_the_version_of_one_of_its_segments_is_another(
    job: Job, register: Any, family: str
) -> None:
    for region in ("north", "south"):
        register(f"{family}-{region}", LinearRegression().fit(X, X["x"]), X, alias="live")
    config = job(name=family + "-{region}@live", slices="due")
    assert len(score.run(config)["slices"]) == 2
    register(f"{family}-north", LinearRegression().fit(X, 7 * X["x"]), X, alias="live")
    report = score.run(config)
    assert {part["slice"]: part["status"] for part in report["slices"]} == {
        "2013-12-01": "scored",
        "2013-12-02": "unchanged",  # has no row of the north
    }
    predictions = written(config, "prediction", "model_uri")
    assert [(n, round(value, 9), uri) for n, value, uri in predictions] == [
        (1, 7.0, f"models:/{family}-north/2"),
        (2, 1.0, f"models:/{family}-south/1"),
        (3, 14.0, f"models:/{family}-north/2"),
        (4, 3.0, f"models:/{family}-south/1"),
    ]
    register(f"{family}-west", LinearRegression().fit(X, 9 * X["x"]), X, alias="live")
    statuses = {part["slice"]: part["status"] for part in score.run(config)["slices"]}
    assert statuses == {"2013-12-01": "unchanged", "2013-12-02": "scored"}
    assert (5, 27.0) in [(n, round(v, 9)) for n, v in written(config, "prediction")]
    # Asked for alone, a slice has the same fingerprint as among others.
    alone = score.run(job(name=family + "-{region}@live", slices=["2013-12-01"]))
    assert [part["status"] for part in alone["slices"]] == ["unchanged"]


@pytest.mark.parametrize(
    ("table", "unfit"),
    [
        ([*ROWS, (7, FIRST, value, 1.0)], value)
        for value in [
            "", " north", "no/rth", "a@b", "../x", "x?where=1", "a:b", "{region}", "n%2f", "a\nb",
            "x" * 300,
        ]
    ],
    indirect=["table"],
)  # fmt: skip
def test_a_value_that_cannot_be_part_of_a_name_is_refused(job: Job, unfit: str) -> None:
    with pytest.raises(SegmentsUnfit, match=r"segments that cannot be a part") as refused:
        score.run(job())
    assert repr(unfit)[1:40] in str(refused.value).replace("\\\\", "\\") or not unfit.isprintable()


def test_a_segment_may_be_an_alias_and_an_integer(
    job: Job, register: Any, family: str, table: str
) -> None:
    versions = [register(family, LinearRegression().fit(X, n * X["x"]), X) for n in (4, 5)]
    for alias, version in zip(("s-1", "s-2"), versions, strict=True):
        mlflow.MlflowClient().set_registered_model_alias(family, alias, str(version))
    rows = [(1, 1, 1.0), (2, 2, 1.0)]
    make_table(table, rows, "id int, store bigint, x double", mode="overwrite")
    config = job(
        model={"by": "store", "name": family + "@s-{store}"}, slice_by=None, slices=None,
        missing="fail",
    )  # fmt: skip
    score.run(config)
    predictions = written(config, "prediction", "model_version", "model_name")
    assert [(n, round(v, 9), *more) for n, v, *more in predictions] == [
        (1, 4.0, 1, family),
        (2, 5.0, 2, family),
    ]


def test_a_row_that_cannot_be_scored_is_set_aside_with_the_version_that_failed(
    job: Job, register: Any, family: str, tmp_path: Path
) -> None:
    register(f"{family}-north", loud(10, bad=1.0), X, X["x"], alias="live")
    register(f"{family}-south", loud(20, bad=3.0), X, X["x"], alias="live")
    with pytest.raises(TooManyErrors, match=r"10 cannot bear 1\.0"):
        score.run(job(name=family + "-{region}@live"))
    config = job(name=family + "-{region}@live", max_errors=2)
    report = score.run(config)
    assert (report["rows_scored"], report["rows_quarantined"]) == (2, 2)
    # A row is shown to its own model alone: the north bears a 3, and the south a 1.
    assert written(config, "prediction") == [(2, 21.0), (3, 12.0)]
    what = ("id", "model_uri", "model_version", "error_message", "model_name")
    assert rows_of(config.quarantine_address, *what) == [
        (1, f"models:/{family}-north/1", 1, "10 cannot bear 1.0", family + "-{region}"),
        (4, f"models:/{family}-south/1", 1, "20 cannot bear 3.0", family + "-{region}"),
    ]
    whole = job(
        name=family + "-{region}@live",
        max_errors=2,
        quarantine_columns="all",
        run_id="whole",
        quarantine=tmp_path / "whole",
    )
    score.run(whole)
    assert rows_of(whole.quarantine_address, "id", "region", "model_uri") == [
        (1, "north", f"models:/{family}-north/1"),
        (4, "south", f"models:/{family}-south/1"),
    ]


def test_models_of_all_kinds_give_what_each_predicts_on_pandas(
    job: Job, register: Any, family: str, table: str
) -> None:
    """Only the first model of a kind is probed, so the others must really be of its kind."""
    draw = np.random.default_rng(5)
    regions = [f"r{n}" for n in range(9)]
    frame = pd.DataFrame(
        {
            "id": range(600),
            "region": draw.choice(regions, 600),
            "a": draw.normal(size=600),
            "b": draw.normal(size=600),
        }
    )
    y = frame["a"] * 3 - frame["b"]
    kinds: list[tuple[Any, list[str]]] = [
        (LinearRegression(), ["a", "b"]),
        (DecisionTreeRegressor(random_state=0), ["a", "b"]),
        # Takes columns by their names, which a block of numbers does not have.
        (make_pipeline(ColumnTransformer([("s", StandardScaler(), ["b"])]), LinearRegression()),
         ["a", "b"]),
        (LinearRegression(), ["b", "a"]),
        (LinearRegression(), ["b"]),
    ]  # fmt: skip
    expected = pd.Series(np.nan, index=frame.index)
    for n, region in enumerate(regions):
        model, features = kinds[n % len(kinds)]
        inputs = frame[features]
        model.fit(inputs, y * (n + 1))
        # What an older library may have left in a model: the columns in another order.
        register(f"{family}-{region}", model, inputs, alias="live")
        own = frame["region"] == region
        expected[own] = model.predict(inputs[own])
    columns = "id bigint, region string, a double, b double"
    make_table(table, [], columns, mode="overwrite")
    for part in np.array_split(np.arange(600), 3):  # three files
        rows = frame.iloc[part].itertuples(index=False, name=None)
        make_table(table, rows, columns, mode="append")
    config = job(name=family + "-{region}@live", missing="fail", slice_by=None, slices=None)
    report = score.run(config)
    assert report["engine"]["name"] == "arrow"
    predictions = dict(written(config, "prediction"))
    assert [predictions[n] for n in frame["id"]] == pytest.approx(expected.tolist(), rel=1e-9)
    assert report["engine"]["loads"] <= 9 * max(1, report["engine"]["workers"]) + 9


def test_models_that_give_other_columns_cannot_write_one_table(
    job: Job, register: Any, family: str
) -> None:
    register(f"{family}-north", LinearRegression().fit(X, X["x"]), X, alias="live")
    register(f"{family}-south", loud(1, bad=9.0), X, np.array([1, 2, 3, 4]), alias="live")
    with pytest.raises(OutputsDiffer, match=r"-north/1 gives prediction double, but .*bigint"):
        score.run(job(name=family + "-{region}@live"))


def test_a_dry_run_writes_nothing_and_shows_which_version_would_score_a_row(
    job: Job, tmp_path: Path
) -> None:
    report = score.run(job(plan=True))
    assert not (tmp_path / "predictions").exists()
    assert report["would"]["load"] == "2 versions for 4 segments by region"
    shown = {(row["id"], row["model_uri"]) for row in report["probe"]}
    assert shown == {(n, uri) for n, _, uri in ALONE}


def test_a_slice_of_which_no_row_has_a_model_is_left_as_it_was(
    job: Job, register: Any, family: str
) -> None:
    for region in ("north", "south"):
        register(f"{family}-{region}", LinearRegression().fit(X, X["x"]), X, alias="live")
    config = job(name=family + "-{region}@live")
    score.run(config)
    before = written(config, "prediction", "model_uri")
    mlflow.MlflowClient().delete_registered_model_alias(f"{family}-south", "live")
    report = score.run(job(name=family + "-{region}@live", slices="due"))
    statuses = {part["slice"]: part["status"] for part in report["slices"]}
    assert statuses == {"2013-12-01": "scored", "2013-12-02": "skipped"}
    assert report["rows_skipped"] == 4
    after = written(config, "prediction", "model_uri")
    assert after == [row for row in before if row[0] != 2]  # the south's of the first day


def test_where_no_segment_has_a_model_nothing_is_skipped(job: Job, tmp_path: Path) -> None:
    with pytest.raises(SegmentsUnresolved, match="no model for 4 of 4 segments by region"):
        score.run(job(name="nothing-{region}@live"))
    assert not (tmp_path / "predictions").exists()


def test_a_query_that_several_versions_answer_is_no_missing_model(
    job: Job, register: Any, family: str
) -> None:
    for _ in range(2):
        register(f"{family}-north", LinearRegression().fit(X, X["x"]), X)
    register(f"{family}-south", LinearRegression().fit(X, X["x"]), X)
    with pytest.raises(QueryNotUnique, match="matches versions 1, 2"):
        score.run(job(name=family + "-{region}?where=version >= 1"))


def test_forward_only_scores_a_slice_whose_segments_have_other_models_at_last(
    job: Job, register: Any, family: str, table: str
) -> None:
    rows = [(1, FIRST, "a", 1.0), (2, FIRST, "b", 1.0)]
    make_table(table, rows, SCHEMA, mode="overwrite")
    client = mlflow.MlflowClient()
    register(f"{family}-a", LinearRegression().fit(X, 5 * X["x"]), X, alias="live")
    config = job(name=family + "-{region}@live", slices="due", on_new_version="forward_only")
    score.run(config)
    assert [n for n, _ in written(config, "prediction")] == [1]
    client.delete_registered_model_alias(f"{family}-a", "live")
    register(f"{family}-b", LinearRegression().fit(X, 6 * X["x"]), X, alias="live")
    score.run(config)  # as many rows have a model as before
    assert [(n, round(v, 9)) for n, v in written(config, "prediction")] == [(2, 6.0)]
    register(f"{family}-b", LinearRegression().fit(X, 7 * X["x"]), X, alias="live")
    assert {part["status"] for part in score.run(config)["slices"]} == {"unchanged"}


def test_a_probe_whose_rows_all_fail_proves_nothing(
    job: Job, register: Any, family: str, table: str
) -> None:
    """Of the first 4,000 rows one is of the north, and its model takes no null."""
    inputs = pd.DataFrame({"a": [0.0, 1.0, 2.0], "b": [1.0, 2.0, 4.0]})
    by_name = make_pipeline(ColumnTransformer([("s", StandardScaler(), ["b"])]), LinearRegression())
    register(f"{family}-north", by_name.fit(inputs, inputs["b"]), inputs, alias="live")
    ours = [(0, "north", 1.0, None), *[(n, "north", 1.0, float(n)) for n in range(5000, 5050)]]
    others = [(n, "west", 1.0, 1.0) for n in range(1, 5000)]
    columns = "id int, region string, a double, b double"
    make_table(table, sorted([*ours, *others]), columns, mode="overwrite")
    config = job(name=family + "-{region}@live", max_errors=1, slice_by=None, slices=None)
    report = score.run(config)
    assert (report["rows_scored"], report["rows_quarantined"]) == (50, 1)
    predictions = written(config, "prediction")
    assert predictions == [(n, pytest.approx(float(n))) for n in range(5000, 5050)]


def test_segments_that_share_a_version_are_set_aside_under_their_own_reference(
    job: Job, register: Any, family: str
) -> None:
    version = register(family, loud(1, bad=1.0), X, X["x"])
    for alias in ("north", "south"):
        mlflow.MlflowClient().set_registered_model_alias(family, alias, str(version))
    config = job(name=family + "@{region}", max_errors=2)
    score.run(config)
    assert rows_of(config.quarantine_address, "id", "model_reference") == [
        (1, f"{family}@north"),
        (2, f"{family}@south"),
    ]


def test_what_only_another_engine_takes_is_refused(
    job: Job, register: Any, family: str, table: str
) -> None:
    signature = ModelSignature(Schema([ColSpec(Map("datetime"), "x")]), Schema([ColSpec("double")]))
    register(f"{family}-north", loud(1, bad=9.0), signature=signature, alias="live")
    rows = [(1, "north", {"opened": dt.datetime(2013, 12, 1, tzinfo=dt.UTC)})]
    make_table(table, rows, "id int, region string, x map<string,timestamp>", mode="overwrite")
    with pytest.raises(EngineRefused, match="does not take the columns x"):
        score.run(job(name=family + "-{region}@live", slice_by=None, slices=None))


def test_a_segment_is_named_by_a_text_or_an_integer(job: Job) -> None:
    with pytest.raises(InputContractError, match="'x' is double; a segment is named by a text"):
        score.run(job(model={"by": "x", "name": "demand-{x}@live"}))
    with pytest.raises(InputContractError, match=r"lacks .*zone"):
        score.run(job(model={"by": "zone", "name": "demand-{zone}@live"}))


def test_the_commit_says_which_version_each_segment_had(job: Job, tmp_path: Path) -> None:
    score.run(job())
    log = tmp_path / "predictions/_delta_log"
    lines = [line for file in log.glob("*.json") for line in file.read_text().splitlines()]
    told = [json.loads(line).get("commitInfo", {}).get("userMetadata", "") for line in lines]
    (stamped,) = [text for text in told if "segments" in text]
    facts = json.loads(stamped)
    assert facts["segment_by"] == "region"
    assert sorted(((name, uri) for name, uri, _ in facts["segments"]), key=str) == [
        ("north", "models:/demand-north/1"),
        ("south", "models:/demand-south/1"),
        ("west", None),  # its row was left out
        (None, None),
    ]


def test_a_run_is_replayed_with_the_version_that_each_segment_had(
    job: Job, register: Any, family: str
) -> None:
    for region, factor in FACTORS.items():
        model = LinearRegression().fit(X, factor * X["x"])
        register(f"{family}-{region}", model, X, alias="live")
    config = job(name=family + "-{region}@live", commits="slice", run_id="nightly")
    score.run(config)
    register(f"{family}-north", LinearRegression().fit(X, 9 * X["x"]), X, alias="live")
    report = replay.run(replay_job(config, "nightly"))
    assert (report["same"], report["rows"], report["model"]["versions"]) == (4, 4, 2)


def test_a_row_is_explained_with_the_digest_of_the_version_that_scored_it(job: Job) -> None:
    config = job()
    report = score.run(config)
    digests = {segment["segment"]: segment["digest"] for segment in report["segments"]}
    for key, region in (("1", "north"), ("2", "south")):
        (row,) = explaining.explain(config.output.address, {"id": key})
        assert row["model_uri"] == f"models:/demand-{region}/1"
        assert row["model_digest"] == digests[region]
