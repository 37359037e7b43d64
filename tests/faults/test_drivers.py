"""Drivers that end in the middle: killed, told to stop, out of time; and a cluster's executors."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from faults.lab import ROOT, ROWS, Driver, Lab, scored, until

if TYPE_CHECKING:
    from collections.abc import Callable

    Moment = Callable[[Lab, int], bool]
    """Tells of a lab whose tables had so many commits whether the moment has come."""

RUNNERS = {"append": "local", "merge": "spark"}
"""What drivers of a process of their own need: to start Spark takes half a minute."""
WITH_A_BAD_ROW = [*ROWS, (5, "b", -1.0)]


def written(lab: Lab, before: int) -> bool:  # noqa: ARG001 - a moment
    """Tell whether workers wrote a file that no commit has: the quarantine's comes first."""
    commits = "".join(path.read_text() for path in Path(lab.output).glob("_delta_log/*.json"))
    return any(path.name not in commits for path in Path(lab.output).rglob("*.parquet"))


def quarantined_but_not_published(lab: Lab, before: int) -> bool:
    return len(lab.commits(f"{lab.output}_quarantine")) > before


def committing(lab: Lab, before: int) -> bool:
    """Tell whether the commit is being written, or has been: which of both is a matter of luck."""
    log = Path(lab.output, "_delta_log")
    return log.is_dir() and any(f"{before:05}.json" in path.name for path in log.iterdir())


def committed(lab: Lab, before: int) -> bool:
    return len(lab.commits()) > before


@pytest.mark.parametrize(
    ("moment", "published", "write"),
    [
        (written, [False], "direct"),
        pytest.param(quarantined_but_not_published, [False], "spark", marks=pytest.mark.wide),
        (committing, [False, True], "direct"),
        (committing, [False, True], "spark"),
        (committed, [True], "direct"),  # and neither the receipt nor the run in MLflow is written
        pytest.param(committed, [True], "spark", marks=pytest.mark.wide),
    ],
    ids=[
        f"{moment} the commit, write: {write}"
        for moment in ("before", "during", "after")
        for write in ("direct", "spark")
    ],
)
def test_a_driver_killed_leaves_all_or_nothing_and_its_rerun_makes_it_whole(
    lab: Lab, moment: Moment, published: list[bool], write: str
) -> None:
    lab.write(WITH_A_BAD_ROW)
    runner = "local" if write == "direct" else "spark"
    driver = lab.start(max_errors=1, write=write, runner=runner)
    until(lambda: moment(lab, 1), "the moment did not come")  # the first commit makes the table
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


@pytest.mark.parametrize(
    ("mode", "moment", "published"),
    [
        ("append", written, [False]),
        pytest.param("merge", quarantined_but_not_published, [False], marks=pytest.mark.wide),
        *[(mode, committing, [False, True]) for mode in ("append", "merge")],
        ("append", committed, [True]),
        pytest.param("merge", committed, [True], marks=pytest.mark.wide),
    ],
    ids=[
        f"{moment} the commit, {mode}"
        for moment in ("before", "during", "after")
        for mode in ("append", "merge")
    ],
)
def test_a_driver_killed_as_it_appends_or_merges_loses_no_row_and_its_rerun_doubles_none(
    lab: Lab, mode: str, moment: Moment, published: list[bool]
) -> None:
    lab.write(WITH_A_BAD_ROW)
    how = {"max_errors": 1, "write_mode": mode}
    assert lab.run(**how).code == 0
    earlier = scored(1)
    whole = scored(2) if mode == "merge" else sorted([*earlier, *scored(2)])
    driver = lab.start(model="obedient/2", runner=RUNNERS[mode], **how)
    until(lambda: moment(lab, 2), "the moment did not come")
    driver.process.kill()
    assert driver.ended().code == -signal.SIGKILL
    seen = lab.rows()
    assert seen in [whole if made else earlier for made in published]
    for status in ("unchanged" if seen == whole else "scored", "unchanged"):
        again = lab.run(model="obedient/2", **how)
        assert (again.code, again.status) == (0, status)
        assert lab.rows() == whole
    assert lab.quarantined() == [(5, "b", 2)]
    assert len(lab.commits()) == 3


@pytest.mark.parametrize("others", [1, 2], ids=["the same run", "two versions"])
def test_two_drivers_that_make_the_same_new_table_at_once_end_well_or_are_told(
    lab: Lab, others: int
) -> None:
    drivers = {}
    for version, mine, other in ((1, "one", "other"), (others, "other", "one")):
        file, receipt = lab.file(model=f"obedient/{version}", runner="local")
        meet = (ROOT / "tests/faults/meeting.py", lab.folder / mine, lab.folder / other, file)
        process = lab.python(*meet, PYTHONPATH=str(ROOT / "jobs"))
        drivers[mine] = (version, Driver(process, receipt))
    ends = [(version, driver.ended()) for version, driver in drivers.values()]
    codes = [ended.code for _, ended in ends]
    assert sorted(codes) == [0, 0] or (others != 1 and sorted(codes) == [0, 7]), ends
    assert (lab.folder / "one").exists()
    assert (lab.folder / "other").exists()
    assert lab.rows() in [scored(version) for version, ended in ends if ended.code == 0]


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
    assert ended.error.startswith("stopped by SIGTERM")
    assert ended.receipt["stderr"].splitlines()[-1] == f"error: {ended.error}"
    assert lab.rows() == []


def test_a_run_that_takes_too_long_is_ended_whatever_it_waits_for(lab: Lab) -> None:
    lab.orders.give("hang")
    driver = lab.start(timeout_seconds=30)
    ended = driver.ended()
    assert (ended.code, ended.receipt["exit_code"]) == (75, 75)
    assert "took longer than timeout_seconds: 30" in ended.error
    assert lab.rows() == []
