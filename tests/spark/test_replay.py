"""Predictions afterwards: which run made one, and that a replay makes the same one again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import replay
import score
from builders.jobs import replay_job, score_job
from builders.tables import commits_of, make_table, rows_of
from deltalake import CommitProperties, DeltaTable
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from lakescore import explaining, replaying
from lakescore.cli import app
from lakescore.config import ReplayJob, ScoreJob
from lakescore.errors import ColumnsMissing, InputContractError
from lakescore.explaining import KeyUnreadable, RowNotFound
from lakescore.job import main
from lakescore.replaying import ReplayDiffers, RunNotOne, RunNotPublished
from lakescore.runner import RunnerRefused
from lakescore.slicing import SLICE
from lakescore.storage import TableNotFound

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

X = pd.DataFrame({"height": [-2.0, -1.0, 1.0, 2.0]})
pytestmark = pytest.mark.usefixtures("spark")
ROWS = [(1, "a", -3.0), (2, "a", 0.1), (3, "b", 3.0), (4, "b", None)]  # it takes no nulls


@pytest.fixture(scope="module", autouse=True)
def model(register: Any) -> None:
    register("tall", LogisticRegression().fit(X, ["no", "no", "yes", "yes"]), X)
    register("wide", LogisticRegression().fit(X, ["no", "yes", "yes", "yes"]), X)


def has_run(folder: Path) -> ScoreJob:
    """Return a job that has run, on a table that has changed since."""
    table = make_table(folder / "people", ROWS, "id int, part string, taille double")
    config = score_job(
        folder,
        table,
        model="tall/1",
        slice_by="part",
        slices=["a", "b"],
        columns={"height": "taille"},
        prediction="proba",
        threshold=0.9,
        max_errors=1,
    )
    score.run(config)
    DeltaTable(table).update({"taille": "0.0"})
    return config


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> ScoreJob:
    """Return a job that has run, whose tables no test may change."""
    return has_run(tmp_path_factory.mktemp("replayed"))


@pytest.fixture
def own_job(tmp_path: Path) -> ScoreJob:
    """Return a job that has run, whose tables are the test's own."""
    return has_run(tmp_path)


def run_of(config: ScoreJob, key: int, model: str = "tall") -> str:
    runs = rows_of(config.output.address, "id", "model_name", "scoring_run_id")
    return next(str(run) for *row, run in runs if row == [key, model])


@pytest.mark.parametrize("engine", ["auto", "spark_udf"])
def test_a_run_is_made_again_from_the_input_that_it_read(
    job: ScoreJob, engine: str, runner: str
) -> None:
    receipt = replay.run(replay_job(job, run_of(job, 1), engine=engine, tolerance=1e-12))
    assert receipt["status"] == "same"
    assert (receipt["rows"], receipt["same"], receipt["examples"]) == (2, 2, [])
    assert receipt["input"]["version"] == 0
    assert receipt["runner"]["name"] == ("spark" if engine == "spark_udf" else runner)


def test_a_row_that_was_set_aside_is_no_part_of_the_run(job: ScoreJob, runner: str) -> None:
    receipt = replay.run(replay_job(job, run_of(job, 3)))
    assert (receipt["rows"], receipt["same"]) == (1, 1)  # row 4 has a null, which fails again
    assert receipt["engine"]["rows_predicted"] == 2
    assert receipt["runner"]["name"] == runner


def test_what_others_published_beside_a_run_is_no_part_of_it(
    own_job: ScoreJob, runner: str
) -> None:
    """The table also holds a row of an earlier run in this slice, and rows of another model."""
    first = run_of(own_job, 1)
    DeltaTable(own_job.input.address).delete("id = 1")
    merging = own_job.model_copy(update={"write_mode": "merge", "slices": ["a"]})
    score.run(merging)
    score.run(own_job.model_copy(update={"model": "wide/1"}))
    second = run_of(own_job, 2, model="tall")
    assert run_of(own_job, 1, model="tall") == first != second
    receipt = replay.run(replay_job(own_job, second))
    assert (receipt["rows"], receipt["same"]) == (1, 1)
    assert replay.run(replay_job(own_job, first))["same"] == 2
    assert receipt["runner"]["name"] == runner


def test_a_run_of_several_commits_is_made_again_as_a_whole(
    job: ScoreJob, tmp_path: Path, runner: str
) -> None:
    output = {"path": str(tmp_path / "by slice")}
    changes = {"commits": "slice", "output": output, "run_id": "nightly"}
    own = ScoreJob.model_validate({**job.model_dump(mode="json", by_alias=True), **changes})
    score.run(own.model_copy(update={"input": job.input.model_copy(update={"version": 0})}))
    receipt = replay.run(replay_job(own, "nightly"))
    assert (receipt["rows"], receipt["same"]) == (3, 3)
    assert receipt["runner"]["name"] == runner


def test_rows_that_somebody_deleted_are_found(own_job: ScoreJob, runner: str) -> None:
    run = run_of(own_job, 1)
    says = saying(json.dumps(commits_of(own_job.output.address)[0]))
    DeltaTable(own_job.output.address).delete("id = 2", commit_properties=says)
    with pytest.raises(ReplayDiffers, match="1 only in the replay") as caught:
        replay.run(replay_job(own_job, run))
    (example,) = caught.value.facts["examples"]  # type: ignore[index]
    assert (example["key"], example["published"]) == ({"id": 2}, None)
    assert caught.value.facts["runner"]["name"] == runner  # type: ignore[index]


def test_a_replay_that_needs_spark_is_refused_where_it_may_not_start(job: ScoreJob) -> None:
    asked = replay_job(job, run_of(job, 1), engine="spark_udf", runner="local")
    with pytest.raises(RunnerRefused, match="engine spark_udf needs Spark"):
        replay.run(asked)


def saying(words: str) -> CommitProperties:
    """Return properties by which a commit says *words*, as lakescore's commits do."""
    return CommitProperties(custom_metadata={"userMetadata": words})


def test_a_value_that_somebody_changed_is_found(own_job: ScoreJob, runner: str) -> None:
    run = run_of(own_job, 1)
    says = saying(json.dumps(commits_of(own_job.output.address)[0]))
    table = DeltaTable(own_job.output.address)
    table.update({"p_yes": "p_yes + 0.25"}, predicate="id = 2", commit_properties=says)
    with pytest.raises(
        ReplayDiffers, match=r"from run .*: of 2 rows, 1 the same, 1 different"
    ) as raised:
        replay.run(replay_job(own_job, run))
    assert raised.value.exit_code == 4
    example = raised.value.facts["examples"][0]  # type: ignore[index]
    assert example["published"]["p_yes"] == pytest.approx(example["replayed"]["p_yes"] + 0.25)
    assert (example["key"], example["slice"]) == ({"id": 2}, "a")
    assert raised.value.facts["runner"]["name"] == runner  # type: ignore[index]


@pytest.mark.parametrize("whose", ["input", "output"])
def test_a_run_whose_files_were_vacuumed_is_told_in_one_line(own_job: ScoreJob, whose: str) -> None:
    run = run_of(own_job, 1)
    score.run(own_job.model_copy(update={"threshold": 0.5}))
    address = own_job.input.address if whose == "input" else own_job.output.address
    DeltaTable(address).vacuum(0, dry_run=False, enforce_retention_duration=False)
    with pytest.raises(SystemExit) as ended:
        main(ReplayJob, replay.run, [str(file_of(own_job, run))])
    assert ended.value.code == 5
    receipt = json.loads(file_of(own_job, run).with_suffix(".json").read_text())
    assert receipt["error"].startswith(f"the file file:{address}/")
    assert (
        "parquet does not exist any more, but the version of the table that the run reads"
        in receipt["error"]
    )


def file_of(config: ScoreJob, run: str) -> Path:
    file = Path(config.output.address).with_name("replay.yaml")
    output, receipt = {"path": config.output.address}, str(file.with_suffix(".json"))
    file.write_text(json.dumps({"output": output, "run": run, "receipt": receipt}))
    return file


def test_rows_that_share_a_key_are_told_apart_by_their_predictions(spark: SparkSession) -> None:
    rows = spark.createDataFrame(
        [(1, 2.0, "a"), (1, 4.0, "a")], f"id int, p double, {SLICE} string"
    )
    turned = rows.orderBy(F.desc("p"))
    outcome = replaying.reconcile(rows, turned, keys=["id"], columns=["p"], tolerance=0.0)
    assert (outcome["rows"], outcome["same"]) == (2, 2)


def test_a_commit_of_somebody_else_is_passed_over(own_job: ScoreJob) -> None:
    run = run_of(own_job, 1)
    for text in ("cleaned by ops", "[1]"):
        table = DeltaTable(own_job.output.address)
        words = saying(text)
        table.update({"model_reference": "'x'"}, predicate="id = 3", commit_properties=words)
    assert replay.run(replay_job(own_job, run, tolerance=1e-12))["status"] == "same"


def test_a_run_that_the_table_does_not_know_is_told(job: ScoreJob) -> None:
    with pytest.raises(RunNotPublished, match="belongs to run nobody; look for a scoring_run_id"):
        replay.run(replay_job(job, "nobody"))


def test_a_row_is_explained_by_its_key_with_the_settings_of_its_run(job: ScoreJob) -> None:
    (explained,) = explaining.explain(job.output.address, {"id": "2"})
    assert explained["status"] == "published"
    assert list(explained["row"]) == ["id", "p_no", "p_yes", "decision"]
    assert (explained["model_uri"], explained["model_reference"]) == ("models:/tall/1", "tall/1")
    assert (explained["input_version"], explained["slice"]) == (0, "a")
    assert explained["scoring_run_id"] == run_of(job, 2)
    assert explained["committed_in"] == 1
    assert explained["settings"]["threshold"] == 0.9
    assert explained["model_digest"].startswith("sha256:")


def test_a_row_that_failed_is_explained_by_its_error(job: ScoreJob) -> None:
    (explained,) = explaining.explain(job.output.address, {"id": "4"})
    assert explained["status"] == "quarantined"
    assert explained["row"]["error_type"] == "ValueError"
    assert "contains NaN" in explained["row"]["error_message"]


def test_the_command_prints_what_is_known_as_a_table_or_as_json(job: ScoreJob) -> None:
    table = CliRunner().invoke(app, ["explain", job.output.address, "--key", "id=2"])
    assert table.exit_code == 0, table.output
    assert "models:/tall/1" in table.output
    plain = CliRunner().invoke(app, ["explain", job.output.address, "--key", "id=2", "--json"])
    assert json.loads(plain.stdout)[0]["row"]["id"] == 2


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ({"id": "99"}, RowNotFound),
        ({"id": "two"}, KeyUnreadable),
        ({"idd": "2"}, ColumnsMissing),
    ],
)
def test_a_key_that_names_no_row_is_told(
    job: ScoreJob, key: dict[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        explaining.explain(job.output.address, key)


def test_a_table_that_is_not_one_of_predictions_is_told(job: ScoreJob, tmp_path: Path) -> None:
    with pytest.raises(TableNotFound):
        explaining.explain(str(tmp_path / "nowhere"), {"id": "1"})
    with pytest.raises(InputContractError, match="is not a table of predictions"):
        explaining.explain(job.input.address, {"id": "1"})


def test_a_run_id_that_two_models_share_is_refused_whoever_reads(
    own_job: ScoreJob, runner: str
) -> None:
    """Half of its rows would be compared with the predictions of the other model, or not at all."""
    for model in ("tall/1", "wide/1"):
        score.run(own_job.model_copy(update={"model": model, "run_id": "nightly"}))
    with pytest.raises(RunNotOne, match="scored a of tall, b of tall with other inputs"):
        replay.run(replay_job(own_job, "nightly", runner="auto" if runner == "local" else "spark"))
