"""What breaks where no Spark runs: workers of this machine, and the driver that forked them."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from faults.lab import Lab, scored, until

from lakescore import session, workers

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = [(n, "a", 1.0) for n in range(300)]  # more than the probe's rows
ROWS = [*MANY, (300, "a", 9.0)]  # an order can be for the batch of the last alone


@pytest.fixture
def local(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """Return the lab, in which jobs run without Spark, and whose workers obey."""
    monkeypatch.setenv("OBEY", "1")
    monkeypatch.setattr(session, "_is_running", lambda: False)  # the tests' own session
    monkeypatch.setattr(workers, "_pools", [])
    lab.write(ROWS)
    yield replace(lab, runner="local")
    for pool in workers._pools:  # noqa: SLF001 - those of this test
        pool.close()


def test_a_worker_killed_in_a_batch_is_replaced_and_no_row_is_lost_or_doubled(local: Lab) -> None:
    local.orders.give("die-once", where_x_is=9)
    ended = local.run(slices=["a"])
    assert list(local.orders.folder.iterdir()) == []  # the order was obeyed
    assert (ended.code, ended.status, ended.receipt["runner"]["name"]) == (0, "scored", "local")
    assert local.rows() == scored(1, ROWS)
    assert len(local.commits()) == 2  # the first one makes the table


def test_a_process_of_a_model_that_is_killed_in_a_batch_is_replaced(local: Lab) -> None:
    local.orders.give("die-alone-once", where_x_is=9)
    assert local.run(slices=["a"]).code == 0
    assert list(local.orders.folder.iterdir()) == []  # the order was obeyed
    assert local.rows() == scored(1, ROWS)


def test_a_worker_killed_while_it_tries_a_few_rows_is_replaced(local: Lab) -> None:
    local.orders.give("die-once")
    assert local.run(slices=["a"]).code == 0
    assert local.rows() == scored(1, ROWS)


@pytest.mark.parametrize(
    ("order", "x", "says"),
    [
        ("die", 9, "all of a: a worker was ended by SIGKILL, 4 times"),
        ("die", 0, "any row: a worker was ended by SIGKILL, 4 times"),
        ("die-alone", 9, "all of a: the process of the model was ended by SIGKILL"),
        ("eat", 9, "all of a: MemoryError"),
    ],
)
def test_workers_killed_on_every_try_end_the_run_and_leave_the_table(
    local: Lab, order: str, x: float, says: str
) -> None:
    local.orders.give(order, where_x_is=x)
    ended = local.run(slices=["a"])
    assert ended.code == 1
    assert f"models:/obedient/1 could not score {says}" in ended.error
    assert local.rows() == local.quarantined() == []
    local.orders.take_back()
    assert local.run(slices=["a"]).code == 0  # the same driver goes on
    assert local.rows() == scored(1, ROWS)


def test_what_needs_spark_is_refused_where_it_may_not_start(local: Lab) -> None:
    ended = local.run(slices=["a"], write="spark")
    assert ended.code == 2
    assert "runner local cannot be used: Spark writes the rows: write: spark" in ended.error
    assert local.rows() == []


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_driver_that_ends_takes_its_workers_with_it_and_publishes_nothing(
    local: Lab, ending: signal.Signals
) -> None:
    local.orders.give("hang", where_x_is=9)
    driver = local.start(slices=["a"])
    local.orders.wait()
    began = time.monotonic()
    driver.process.send_signal(ending)
    ended = driver.ended()  # of all that it started, too
    assert time.monotonic() - began < 30
    assert ended.code == (143 if ending == signal.SIGTERM else -ending)
    assert local.rows() == []
    local.orders.take_back()
    again = local.start(slices=["a"]).ended()
    assert (again.code, again.receipt["runner"]["name"]) == (0, "local")
    assert local.rows() == scored(1, ROWS)


def test_a_driver_killed_around_its_commit_leaves_all_or_nothing(local: Lab) -> None:
    driver = local.start(slices=["a"])
    until(lambda: len(local.commits()) > 0, "the table was not made")
    driver.process.kill()
    driver.ended()
    assert local.rows() in ([], scored(1, ROWS))
    assert local.start(slices=["a"]).ended().code == 0
    assert local.rows() == scored(1, ROWS)
