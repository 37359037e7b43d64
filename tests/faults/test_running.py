"""Faults while a job runs: workers, the registry, artifacts, other runs and tables that change."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import mlflow
import pandas as pd
import pytest
import score
from builders.models import stored_artifacts
from faults.lab import ROWS, Lab, scored
from sklearn.linear_model import LinearRegression
from stores import mlflow_server

from lakescore import assignment, tables
from lakescore.registry import register as register_with_digest
from lakescore.tables import spark_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from faults.lab import Ended, Orders


def once(owner: Any, name: str, *, before: Any = None, after: Any = None) -> Any:
    """Let a fault happen at a moment: before or after the next call of *owner*'s *name*."""
    original = getattr(owner, name)
    patch = pytest.MonkeyPatch()

    def called(*args: Any, **more: Any) -> Any:
        patch.undo()
        if before is not None:
            before()
        result = original(*args, **more)
        if after is not None:
            after()
        return result

    patch.setattr(owner, name, called)
    return patch


@pytest.fixture(scope="module")
def standing(
    laboratory: Callable[[Path], Lab], obedient: Orders, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Lab, Ended]:
    """Return a table in which version 1 stands, written while a worker was killed."""
    lab = laboratory(tmp_path_factory.mktemp("standing"))
    obedient.give("die-once", where_x_is=9)
    return lab, lab.run()


@contextmanager
def unchanged(lab: Lab) -> Iterator[None]:
    """Hold that the rows and the log stay as they are."""
    before = lab.rows(), lab.commits()
    yield
    lab.orders.take_back()
    assert (lab.rows(), lab.commits()) == before


def test_a_worker_killed_in_a_batch_is_replaced_and_no_row_is_lost_or_doubled(
    standing: tuple[Lab, Ended],
) -> None:
    lab, ended = standing
    assert list(lab.orders.folder.iterdir()) == []  # the order was obeyed
    assert (ended.code, ended.status) == (0, "scored")
    assert lab.rows() == scored(1)
    assert len(lab.commits()) == 2  # the first one makes the table


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ("die", "Python worker exited"),
        ("die-alone", "the process of the model was ended by SIGKILL"),  # as the OOM killer does
    ],
)
def test_workers_killed_on_every_try_end_the_run_and_leave_the_table(
    standing: tuple[Lab, Ended], order: str, says: str
) -> None:
    lab, _ = standing
    with unchanged(lab):
        lab.orders.give(order)
        ended = lab.run(model="obedient/2")
    assert ended.code == 1
    assert f"models:/obedient/2 could not score all of a, b: {says}" in ended.error


def test_a_model_that_outgrows_its_memory_ends_the_run_and_leaves_the_table(
    standing: tuple[Lab, Ended],
) -> None:
    lab, _ = standing
    with unchanged(lab):
        lab.orders.give("eat")
        ended = lab.run(model="obedient/2")
    assert ended.code == 1
    assert "could not score all of a, b" in ended.error
    assert "MemoryError" in ended.error
    assert lab.quarantined() == []  # no row is to blame


def test_a_predict_that_hangs_is_killed_where_spark_is_told_to(standing: tuple[Lab, Ended]) -> None:
    lab, _ = standing
    settings = {
        "spark.sql.execution.pyspark.udf.idleTimeoutSeconds": "3",
        "spark.sql.execution.pyspark.udf.killOnIdleTimeout": "true",
    }
    for key, value in settings.items():
        lab.spark.conf.set(key, value)
    try:
        with unchanged(lab):
            lab.orders.give("hang")
            ended = lab.run(model="obedient/2")
    finally:
        for key in settings:
            lab.spark.conf.unset(key)
    assert ended.code == 1
    assert "could not score all of a, b" in ended.error


def test_ten_reruns_write_nothing(standing: tuple[Lab, Ended]) -> None:
    lab, first = standing
    with unchanged(lab):
        ends = [lab.run() for _ in range(10)]
    assert {(ended.code, ended.status) for ended in ends} == {(0, "unchanged")}
    ids = {entry["run_id"] for ended in [first, *ends] for entry in ended.receipt["slices"]}
    assert len(ids) == 2  # one a slice


@pytest.mark.parametrize("write", ["direct", pytest.param("spark", marks=pytest.mark.wide)])
def test_the_same_run_twice_at_once_ends_well_twice_and_commits_once(lab: Lab, write: str) -> None:
    inner: list[Ended] = []
    once(tables.Transaction, "commit", before=lambda: inner.append(lab.run(write=write)))
    outer = lab.run(write=write)
    assert [(ended.code, ended.status) for ended in (*inner, outer)] == [
        (0, "scored"),
        (0, "unchanged"),  # it lost the race, looked again, and found its own rows
    ]
    assert lab.rows() == scored(1)
    assert len(lab.commits()) == 2


def test_of_two_versions_published_at_the_same_moment_one_wins_and_the_other_is_told(
    lab: Lab,
) -> None:
    together = threading.Barrier(2, timeout=300)
    commit = tables.Transaction.commit

    def at_once(written: tables.Transaction) -> int:
        together.wait()
        return commit(written)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(tables.Transaction, "commit", at_once)
        ends = dict(zip((1, 2), pool.map(lab.run_version, (1, 2)), strict=True))
    codes = {version: ended.code for version, ended in ends.items()}
    assert sorted(codes.values()) == [0, 7]
    (winner,) = [version for version, code in codes.items() if code == 0]
    assert lab.rows() == scored(winner)
    assert len(lab.commits()) == 2


def test_of_two_versions_that_sparks_writer_publishes_the_second_is_told(lab: Lab) -> None:
    inner: list[Ended] = []
    other = {"model": "obedient/2", "write": "spark"}
    once(tables.Transaction, "commit", before=lambda: inner.append(lab.run(**other)))
    outer = lab.run(write="spark")
    assert [ended.code for ended in (*inner, outer)] == [0, 7]
    assert lab.rows() == scored(2)
    assert not list(Path(lab.output).parent.glob("*_staged_*"))


def test_after_the_last_look_at_other_runs_sparks_writer_leaves_the_later_run_whole(
    lab: Lab,
) -> None:
    inner: list[Ended] = []
    other = {"model": "obedient/2", "write": "spark"}
    once(spark_writer, "overwrite", before=lambda: inner.append(lab.run(**other)))
    outer = lab.run(write="spark")
    assert [ended.code for ended in (*inner, outer)] == [0, 0]
    assert lab.rows() == scored(1)  # as if it had begun after the other one


@pytest.mark.parametrize("write", ["direct", pytest.param("spark", marks=pytest.mark.wide)])
def test_different_slices_at_once_are_both_published(lab: Lab, write: str) -> None:
    inner: list[Ended] = []
    other = {"slices": ["b"], "write": write}
    once(tables.Transaction, "commit", before=lambda: inner.append(lab.run(**other)))
    outer = lab.run(slices=["a"], write=write)
    assert [ended.code for ended in (*inner, outer)] == [0, 0]
    assert lab.rows() == scored(1)


@pytest.fixture
def lines(register: Any) -> str:
    """Version 1 doubles, version 2 triples; the first is the champion."""
    X = pd.DataFrame({"x": [0.0, 1.0, 2.0]})  # noqa: N806 - scikit-learn's name for it
    name = f"lines-{time.monotonic_ns()}"
    register(name, LinearRegression().fit(X, 2 * X["x"]), X, alias="champion")
    register(name, LinearRegression().fit(X, 3 * X["x"]), X)
    return name


def test_an_alias_moved_and_its_version_deleted_after_resolving_change_nothing(
    lab: Lab, lines: str
) -> None:
    client = mlflow.MlflowClient()
    stored = stored_artifacts(client, lines, 1)

    def fault() -> None:
        client.set_registered_model_alias(lines, "champion", "2")
        client.delete_model_version(lines, "1")
        shutil.rmtree(stored)

    once(assignment, "resolve", after=fault)
    ended = lab.run(model=f"{lines}@champion")
    assert ended.code == 0
    assert str(client.get_model_version_by_alias(lines, "champion").version) == "2"
    assert lab.rows() == scored(1)


def test_an_artifact_that_changed_since_its_registration_is_not_loaded(
    standing: tuple[Lab, Ended], lines: str
) -> None:
    lab, _ = standing
    client = mlflow.MlflowClient()
    name = f"{lines}-noted"
    noted = register_with_digest(client.get_model_version(lines, "1").source, name)
    pickled = stored_artifacts(client, name, noted.version) / "model.pkl"
    good = pickled.read_bytes()
    with unchanged(lab):
        for bad in (good[:-10], good[:50] + bytes([good[50] ^ 1]) + good[51:]):  # cut; one bit
            pickled.write_bytes(bad)
            ended = lab.run(model=f"{name}/{noted.version}")
            assert ended.code == 4
            assert "differ from the registered files" in ended.error


def test_a_registry_that_hangs_after_resolving_costs_seconds_and_no_prediction(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, port = lab.registry, ""

    def tell(number: signal.Signals) -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            if b"--port\0" + port.encode() in path.read_bytes():
                os.kill(int(path.parent.name), number)

    with mlflow_server(uri, lab.folder) as server:
        port = str(urlsplit(server).port)
        mlflow.set_tracking_uri(server)
        try:
            with monkeypatch.context() as impatient:

                def hang() -> None:
                    tell(signal.SIGSTOP)
                    # It asks as often as ever, and waits for less than a minute and a half.
                    impatient.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
                    impatient.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")

                once(assignment, "resolve", after=hang)
                ended = lab.run()
            began = time.monotonic()
            again = lab.run()
            seconds = time.monotonic() - began
        finally:
            mlflow.set_tracking_uri(uri)
            tell(signal.SIGCONT)
    assert (ended.code, ended.receipt["tracking_run_id"]) == (0, None)
    assert lab.rows() == scored(1)
    assert again.code == 75
    assert seconds < 60


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a disk of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if (
        not shutil.which("mount")
        or subprocess.run(mount, check=False, capture_output=True).returncode
    ):
        pytest.skip("a small disk needs root, and mount to be permitted")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("write", ["direct", pytest.param("spark", marks=pytest.mark.wide)])
def test_a_full_disk_publishes_nothing_and_the_run_is_repeated_when_there_is_room(
    lab: Lab, disk: Path, write: str
) -> None:
    output = {"path": str(disk / "predictions")}
    filler = disk / "filler"

    def fill() -> None:
        filler.write_bytes(bytes(shutil.disk_usage(disk).free - 4096))

    # Room for the table, which is made first, and not for its rows.
    once(tables, "begin", after=fill)
    ended = lab.run(output=output, write=write)
    assert ended.code == 75
    assert "no space left on device" in ended.error
    filler.unlink()
    assert lab.rows(output["path"]) == []
    assert lab.run(output=output).code == 0
    assert lab.rows(output["path"]) == scored(1)


def test_an_input_that_changes_after_its_snapshot_is_scored_as_it_was(lab: Lab) -> None:
    def fault() -> None:
        lab.write([(*row, "more") for row in ROWS], "id int, part string, x double, note string")
        lab.write([row[:2] for row in ROWS], "id int, part string")
        lab.write([(*row[:2], str(row[2])) for row in ROWS], "id int, part string, x string")

    once(score.tables, "snapshot", after=fault)
    ended = lab.run()
    assert (ended.code, ended.receipt["input"]["version"]) == (0, 0)
    assert lab.rows() == scored(1)
    with unchanged(lab):
        late = lab.run()
    assert late.code == 5
    assert "'x' is string, not double" in late.error


def test_an_output_that_changes_during_the_run_is_never_written_askew(lab: Lab) -> None:
    def change(*, add: str = "", drop: str = "") -> Callable[[], None]:
        def fault() -> None:
            rows = lab.frame()
            assert rows is not None
            changed = rows.withColumn(add, rows["id"].cast("string")) if add else rows.drop(drop)
            place = (
                changed.write.format("delta").mode("overwrite").option("overwriteSchema", "true")
            )
            place.partitionBy("model_name", "slice").save(lab.output)

        return fault

    once(tables.Transaction, "commit", before=change(add="note"))
    ended = lab.run()
    assert ended.code == 7  # whatever changed the table came first
    assert lab.rows() == []
    ended = lab.run()  # a column that predictions lack is null there
    assert ended.code == 0
    assert lab.rows() == scored(1)
    once(tables, "begin", before=change(drop="prediction"))
    ended = lab.run(model="obedient/2")
    assert ended.code == 5
    rows = lab.frame()
    assert rows is not None
    assert "prediction" not in rows.columns
    assert {row.model_version for row in rows.collect()} == {1}
