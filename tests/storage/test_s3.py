"""Tables and artifacts on S3, as moto's server speaks it: `./scripts/test.sh --s3 tests/storage`.

Jobs run as commands: Hadoop's client must be there when a JVM starts.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders.models import register, tracking_store
from clusters import LOCAL, SMALL, finish, write_place
from deltalake import DeltaTable, write_deltalake
from stores import free_port, s3

from lakescore.logs import AnotherRunWon, Log, NewFile
from lakescore.places import read_properties

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sklearn.tree import DecisionTreeRegressor

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf/spark"
FEATURES = ["a", "b"]
DAYS = ("2013-12-01", "2013-12-02")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    output: str
    errors: str

    @property
    def error(self) -> str:
        """The only line about its failure."""
        (line,) = [text for text in self.errors.splitlines() if text.startswith("error: ")]
        return line

    @property
    def receipt(self) -> dict[str, Any]:
        """What a job reported."""
        assert self.code == 0, self.errors
        receipt: dict[str, Any] = json.loads(self.output.splitlines()[-1])
        return receipt


@dataclass(frozen=True)
class Lake:
    """A bucket with a table, the models of its rows, and where jobs run."""

    home: Path
    place: Path
    variables: dict[str, str]
    """The environment by which all clients of S3 find the store."""
    rows: pd.DataFrame
    models: list[DecisionTreeRegressor]

    def changed(self, **variables: str) -> Lake:
        """Return the lake as others see it whose environment is another."""
        return dataclasses.replace(self, variables=self.variables | variables)

    def submit(self, job: str, **settings: Any) -> Ended:
        """Run a job with *settings* as its file, and wait for its end."""
        file = self.home / f"{job}-{uuid4()}.json"  # JSON is YAML
        file.write_text(json.dumps(settings))
        return self._run(ROOT / "spark-submit.sh", job, file)

    def score(self, **settings: Any) -> Ended:
        """Run the job that scores the bucket's table."""
        usual = {
            "model": "trips/1", "input": {"path": "s3a://lake/tables/trips"},
            "output": {"path": "s3a://lake/tables/predictions"},
            "slice_by": "day", "slices": list(DAYS),
            "id_columns": ["id"], "nulls": {"a": "quarantine"}, "max_errors": 1,
        }  # fmt: skip
        return self.submit("score", **usual | settings)

    def explain(self, *words: str) -> Ended:
        """Run `lakescore explain`."""
        return self._run(Path(sys.executable).with_name("lakescore"), "explain", *words)

    def _run(self, *words: str | Path) -> Ended:
        own = {"LAKESCORE_HOME": str(self.home), "PLACE": str(self.place)}
        variables = {"SPARK_LOCAL_IP": "127.0.0.1"} | own | self.variables
        done = finish(*words, variables=variables, folder=self.home)
        return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def lake(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lake]:
    """Yield a bucket `lake` that holds a table, and the artifacts of two versions."""
    if not request.config.getoption("--s3"):
        pytest.skip("give --s3: it fetches Hadoop's client of S3")
    import boto3

    subprocess.run([Path(sys.executable).with_name("lakescore"), "setup", "s3"], check=True)
    folder = tmp_path_factory.mktemp("s3")
    properties = read_properties(CONF / "s3.conf") | SMALL | LOCAL
    place = write_place(folder / "place.conf", properties)
    with s3(folder) as endpoint, pytest.MonkeyPatch.context() as patch:
        variables = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }
        for name, value in variables.items():
            patch.setenv(name, value)
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="lake")
        rows = _trips()
        for part in (rows[:500], rows[500:]):
            write_deltalake("s3a://lake/tables/trips", part, mode="append")
        yield Lake(folder, place, variables, rows, _registered(folder, rows))


def _trips() -> pd.DataFrame:
    random = np.random.default_rng(7)
    rows = pd.DataFrame({"id": range(1_000), "day": [DAYS[n % 2] for n in range(1_000)]})
    for name in FEATURES:
        rows[name] = random.normal(size=1_000)
    rows["label"] = 3 * rows["a"] - rows["b"] + random.normal(size=1_000)
    rows["a"] = rows["a"].astype(object).where(rows["id"] != 7, None).astype("Float64")
    return rows


def _registered(folder: Path, rows: pd.DataFrame) -> list[DecisionTreeRegressor]:
    """Register two trees as `trips`, whose artifacts lie in the bucket; return them.

    The first is `nearby` too, with artifacts in *folder*.
    """
    import mlflow
    from sklearn.tree import DecisionTreeRegressor

    whole = rows[rows["id"] != 7].astype({"a": float})
    before = mlflow.get_tracking_uri()
    try:
        tracking_store(folder, "models", "lakescore", artifacts="s3://lake/artifacts")
        mlflow.create_experiment("nearby", artifact_location=(folder / "nearby").as_uri())
        trees = [
            DecisionTreeRegressor(max_depth=depth).fit(whole[FEATURES], whole["label"])
            for depth in (5, 2)
        ]
        for name, tree in (("trips", trees[0]), ("trips", trees[1]), ("nearby", trees[0])):
            mlflow.set_experiment("nearby" if name == "nearby" else "models")
            register(name, tree, whole[FEATURES])
    finally:
        mlflow.set_tracking_uri(before)
    return trees


@pytest.fixture(scope="module")
def scored(lake: Lake) -> dict[str, Any]:
    """Score the table; return the receipt."""
    return lake.score().receipt


def test_each_row_is_scored_once_into_a_table_on_s3(lake: Lake, scored: dict[str, Any]) -> None:
    assert (scored["rows_in"], scored["rows_scored"], scored["rows_quarantined"]) == (1000, 999, 1)
    rows = DeltaTable("s3a://lake/tables/predictions").to_pandas().set_index("id").sort_index()
    whole = lake.rows[lake.rows["id"] != 7].astype({"a": float})
    assert rows["prediction"].tolist() == lake.models[0].predict(whole[FEATURES]).tolist()
    assert rows.index.tolist() == whole["id"].tolist()
    assert rows["slice"].tolist() == whole["day"].tolist()
    aside = DeltaTable("s3a://lake/tables/predictions_quarantine").to_pandas()
    assert aside["id"].tolist() == [7]


def test_workers_read_and_write_there(scored: dict[str, Any]) -> None:
    engine, output = scored["engine"], scored["output"]
    assert (engine["name"], engine["scan"], output["write"]) == ("arrow", "direct", "direct")
    assert engine["rows_predicted"] == 1000


def test_spark_reads_and_writes_the_same_there(lake: Lake) -> None:
    output = {"path": "s3a://lake/tables/by_spark"}
    done = lake.score(output=output, scan="spark", write="spark")
    assert (done.receipt["engine"]["scan"], done.receipt["output"]["write"]) == ("spark", "spark")
    assert "secret" not in done.errors + done.output
    rows, expected = (
        DeltaTable(f"s3a://lake/tables/{name}").to_pandas().set_index("id").sort_index()
        for name in ("by_spark", "predictions")
    )
    assert rows.drop(columns="scored_at").equals(expected.drop(columns="scored_at"))
    import boto3

    listed = boto3.client("s3").list_objects_v2(Bucket="lake", Prefix="tables/by_spark_staged")
    assert listed["KeyCount"] == 0


def test_a_spark_without_a_client_of_s3_does_as_well(lake: Lake, scored: dict[str, Any]) -> None:
    properties = read_properties(CONF / "local.conf") | SMALL | LOCAL
    bare = dataclasses.replace(lake, place=write_place(lake.home / "bare.conf", properties))
    receipt = bare.score(output={"path": "s3a://lake/tables/bare"}).receipt
    assert (receipt["engine"]["scan"], receipt["output"]["write"]) == ("direct", "direct")
    assert receipt["rows_scored"] == scored["rows_scored"]
    asked = bare.score(output={"path": "s3a://lake/tables/asked"}, write="spark")
    assert (asked.code, "hadoop-aws" in asked.error) == (2, True)


def test_a_rerun_finds_there_what_was_published(lake: Lake, scored: dict[str, Any]) -> None:
    again = lake.score().receipt
    assert (again["status"], "engine" in again) == ("unchanged", False)
    assert again["rows_in"] == scored["rows_in"]


def test_a_prediction_there_is_explained_without_spark(lake: Lake, scored: dict[str, Any]) -> None:
    done = lake.explain("s3a://lake/tables/predictions", "--key", "id=8", "--json")
    (explained,) = json.loads(done.output)
    assert explained["model_uri"] == "models:/trips/1"
    assert explained["model_digest"] == scored["model"]["digest"]
    (aside,) = json.loads(
        lake.explain("s3a://lake/tables/predictions", "--key", "id=7", "--json").output
    )
    assert (aside["status"], aside["row"]["id"]) == ("quarantined", 7)


def test_versions_are_compared_on_a_holdout_there(lake: Lake) -> None:
    report = lake.submit(
        "compare",
        versions=["trips/1", "trips/2"],
        holdout={"path": "s3a://lake/tables/trips"},
        label="label",
        rank_by="rmse",
        where="a is not null",
        output={"path": "s3a://lake/tables/ranking"},
    ).receipt
    whole = lake.rows[lake.rows["id"] != 7].astype({"a": float})
    errors = [whole["label"] - model.predict(whole[FEATURES]) for model in lake.models]
    assert [entry["uri"] for entry in report["ranking"]] == ["models:/trips/1", "models:/trips/2"]
    for entry, error in zip(report["ranking"], errors, strict=True):
        assert entry["metrics"]["rmse"] == pytest.approx((error**2).mean() ** 0.5, rel=1e-12)
    assert len(DeltaTable("s3a://lake/tables/ranking").to_pandas()) > 0


def test_two_drivers_that_commit_at_once_lose_no_row(lake: Lake) -> None:
    output = {"path": "s3a://lake/tables/raced"}
    lake.score(output=output, slices=[DAYS[0]]).receipt  # noqa: B018 - it went well
    (lake.home / "meet").write_text("/tables/raced")
    runs = [("trips/1", DAYS[1]), ("trips/2", DAYS[0])]  # slices that are not each other's
    with ThreadPoolExecutor() as pool:
        submitted = [
            pool.submit(lake.score, model=model, slices=[day], output=output) for model, day in runs
        ]
        ended = [job.result() for job in submitted]
    assert not (lake.home / "meet").exists()  # they met
    assert [job.code for job in ended] == [0, 0], [job.errors for job in ended]
    rows = DeltaTable("s3a://lake/tables/raced").to_pandas()
    assert rows.groupby("slice")["model_version"].agg(
        ["min", "max", "count"]
    ).to_numpy().tolist() == [
        [2, 2, 500],
        [1, 1, 499],
    ]


@pytest.mark.usefixtures("lake")
def test_of_writers_of_one_slice_at_once_one_wins_in_each_of_twenty_rounds() -> None:
    address = "s3a://lake/tables/rounds"
    schema = pa.schema([("writer", pa.int64()), ("slice", pa.string())])
    DeltaTable.create(address, schema=schema, partition_by=["slice"])
    for number in range(20):
        together = threading.Barrier(2, timeout=60)

        def wins(writer: int, number: int = number, together: Any = together) -> bool:
            log = Log(address)
            name, rows = f"{number}-{writer}.parquet", pa.table({"writer": [writer] * 3})
            pq.write_table(rows, f"{log.folder.path}/{name}", filesystem=log.folder.store.system)
            size = log.folder.store.size(f"{log.folder.path}/{name}")
            assert size is not None
            file = NewFile(name, {"slice": "a"}, 3, size, '{"numRecords":3}')
            together.wait()
            try:
                log.commit([file], {"slice": ["a"]}, append=False, metadata="{}", what="a")
            except AnotherRunWon:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            won = [n for n, done in enumerate(pool.map(wins, range(2))) if done]
        assert len(won) == 1
        assert DeltaTable(address).to_pandas()["writer"].tolist() == won * 3


def test_a_bucket_that_is_not_there_is_named(lake: Lake) -> None:
    done = lake.score(input={"path": "s3a://pond/trips"})
    assert done.code == 5
    assert done.error == (
        "error: there is no bucket 'pond', which s3a://pond/trips needs; create it, or check the "
        "job's path and the store's endpoint"
    )
    done = lake.explain("s3a://pond/trips", "--key", "id=8")
    assert (done.code, "there is no bucket 'pond'" in done.error) == (5, True)


@contextmanager
def _asking_who(endpoint: str) -> Iterator[None]:
    """Have the store check who asks for anything; nobody is known to it."""

    def tell(requests_before: str) -> None:
        url, data = f"{endpoint}/moto-api/reset-auth", requests_before.encode()
        plain = urllib.request.Request(url, data, {"Content-Type": "text/plain"})  # noqa: S310
        urllib.request.urlopen(plain, timeout=60).close()  # noqa: S310 - our own server

    tell("0")
    try:
        yield
    finally:
        tell("inf")


def test_credentials_that_are_refused_end_in_one_line_without_them(
    lake: Lake, scored: dict[str, Any]
) -> None:
    assert scored
    with _asking_who(lake.variables["AWS_ENDPOINT_URL"]):
        of_table = lake.score(model="nearby/1")
        of_model = lake.score(model="trips/1")
        of_row = lake.explain("s3a://lake/tables/predictions", "--key", "id=8")
    assert (of_table.code, of_model.code, of_row.code) == (2, 2, 2)
    assert "the object store refuses s3a://lake/tables/trips (" in of_table.error
    assert "the object store refuses the artifacts of models:/trips/1 (" in of_model.error
    assert "the object store refuses s3a://lake/tables/predictions (" in of_row.error
    assert "secret" not in of_table.errors + of_model.errors + of_row.errors


def test_a_store_that_is_away_ends_the_run_in_bounded_time(lake: Lake) -> None:
    away = lake.changed(AWS_ENDPOINT_URL=f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    of_table = away.score(model="nearby/1")
    seconds = time.monotonic() - began
    of_model = away.score(model="trips/1")
    of_row = away.explain("s3a://lake/tables/predictions", "--key", "id=8")
    for done in (of_table, of_model, of_row):
        assert (done.code, " does not answer (" in done.error) == (75, True)
    assert seconds < 150  # most of it is Spark's start


def test_without_hadoops_client_spark_cannot_read_and_one_line_says_what_to_fetch(
    lake: Lake, tmp_path: Path
) -> None:
    lines = read_properties(lake.place)
    lines = {key: value for key, value in lines.items() if "s3a" not in key}
    bare = dataclasses.replace(lake, place=write_place(tmp_path / "bare.conf", lines))
    assert bare.score(model="nearby/1").code == 0  # workers read and write without it
    done = bare.score(model="nearby/1", scan="spark", output={"path": "s3a://lake/tables/bare"})
    assert (done.code, "lakescore setup s3" in done.error) == (2, True)
