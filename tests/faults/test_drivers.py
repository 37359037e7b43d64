"""Drivers that end in the middle: killed, told to stop, out of time; and a cluster's executors."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from faults.lab import ROOT, ROWS, Driver, Lab, scored, until

from lakescore.places import read_properties

if TYPE_CHECKING:
    from collections.abc import Callable

WITH_A_BAD_ROW = [*ROWS, (5, "b", -1.0)]


def quarantined_but_not_published(lab: Lab) -> bool:
    return len(lab.commits(f"{lab.output}_quarantine")) == 2


def committing(lab: Lab) -> bool:
    """Tell whether the commit is being written, or has been: which of both is a matter of luck."""
    log = Path(lab.output, "_delta_log")
    return log.is_dir() and any("00001.json" in path.name for path in log.iterdir())


def committed(lab: Lab) -> bool:
    return len(lab.commits()) == 2


@pytest.mark.parametrize(
    ("moment", "published"),
    [
        (quarantined_but_not_published, [False]),
        (committing, [False, True]),
        (committed, [True]),  # and neither the receipt nor the run in MLflow is written
    ],
    ids=["before the commit", "during the commit", "after the commit"],
)
def test_a_driver_killed_leaves_all_or_nothing_and_its_rerun_makes_it_whole(
    lab: Lab, moment: Callable[[Lab], bool], published: list[bool]
) -> None:
    lab.write(WITH_A_BAD_ROW)
    driver = lab.start(max_errors=1)
    until(lambda: moment(lab), "the moment did not come")
    driver.process.kill()
    ended = driver.ended()
    assert ended.code == -signal.SIGKILL
    assert "exit_code" not in ended.receipt
    seen = lab.rows()
    assert seen in [scored(1) if whole else [] for whole in published]
    again = lab.run(max_errors=1)
    assert (again.code, again.status) == (0, "unchanged" if seen else "scored")
    assert lab.rows() == scored(1)
    assert lab.quarantined() == [(5, "b", 1)]
    assert len(lab.commits()) == 2


def test_a_driver_told_to_stop_ends_in_seconds_with_a_receipt_and_publishes_nothing(
    lab: Lab,
) -> None:
    lab.orders.give("hang")
    driver = lab.start()
    lab.orders.wait()
    began = time.monotonic()
    driver.process.terminate()
    ended = driver.ended()
    assert time.monotonic() - began < 30
    assert (ended.code, ended.receipt["exit_code"]) == (143, 143)
    assert ended.error.startswith("told to stop (SIGTERM)")
    assert ended.receipt["said"].splitlines()[-1] == f"error: {ended.error}"
    assert lab.rows() == []


def test_a_run_that_takes_too_long_is_ended_whatever_it_waits_for(lab: Lab) -> None:
    lab.orders.give("hang")
    driver = lab.start(timeout_seconds=30)
    ended = driver.ended()
    assert (ended.code, ended.receipt["exit_code"]) == (75, 75)
    assert "took longer than timeout_seconds: 30" in ended.error
    assert lab.rows() == []


CLUSTER = """
import sys
from pathlib import Path

import score
from lakescore import session
from lakescore.config import ScoreJob
from lakescore.job import main

session.start("faults", properties=Path(sys.argv[1]))
for file in sys.argv[2:]:
    try:
        main(ScoreJob, score.run, [file])
    except SystemExit as ended:
        print("exit code", ended.code, flush=True)
"""


def test_a_lost_executor_and_a_task_that_runs_twice_double_no_row(lab: Lab) -> None:
    settings = read_properties(ROOT / "conf/spark/local.conf") | {
        "spark.master": "local-cluster[2,1,1024]",
        "spark.executor.memory": "1g",
        "spark.sql.shuffle.partitions": "2",
        "spark.speculation": "true",
        "spark.speculation.quantile": "0.5",  # of the two tasks, when one has ended
        "spark.speculation.interval": "100ms",
        "spark.speculation.minTaskRuntime": "100ms",
    }
    place = lab.folder / "cluster.conf"
    place.write_text("\n".join(f"{key} {value}" for key, value in settings.items()))
    log4j = (ROOT / "conf/spark/log4j2.properties").read_text()
    (lab.folder / "log4j2.properties").write_text(log4j)
    files, receipts = zip(
        *[lab.file(model=f"obedient/{version}") for version in (1, 2)], strict=True
    )
    lab.orders.give("hang-once", where_x_is=9)  # the first try of one task never ends
    process = lab.python("-c", CLUSTER, place, *files, PYTHONPATH=str(ROOT / "jobs"))
    driver = Driver(process, lab.folder, receipts[1])
    until(receipts[0].exists, "the speculative try did not end")
    assert json.loads(receipts[0].read_text())["status"] == "scored"
    assert lab.rows() == scored(1)

    lab.orders.give("hang")
    lab.orders.wait()
    executor = next(pid for pid in driver.left() if b"ExecutorBackend" in command(pid))
    os.kill(executor, signal.SIGKILL)
    lab.orders.take_back()
    ended = driver.ended()
    assert ended.status == "scored", ended.receipt["said"]
    assert lab.rows() == scored(2)
    assert len(lab.commits()) == 3


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it ended meanwhile
        return b""
