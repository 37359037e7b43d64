"""A job ends when it is stopped, and when its time is over, whatever it waits for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
JOB = """
import sys
import time

from lakescore.config import ScoreJob
from lakescore.job import main


def run(todo):
    print("running", flush=True)
    time.sleep(600)


main(ScoreJob, run)
"""


def start(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    """Start a job that sleeps, and wait until it does."""
    command = [sys.executable, "-c", JOB, str(ROOT / "conf/score.yaml")]
    process = subprocess.Popen(
        [*command, f"receipt={folder}/receipt.json", *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    return process


def ending(process: subprocess.Popen[str], folder: Path) -> tuple[int, str, str]:
    """Return its exit code, and code and message of its error; the last line has the message."""
    _, errors = process.communicate(timeout=300)
    receipt = json.loads((folder / "receipt.json").read_text())
    assert (receipt["status"], receipt["exit_code"]) == ("failed", process.returncode)
    assert errors.splitlines()[-1] == f"error: {receipt['error']}"
    return process.returncode, receipt["code"], receipt["error"]


def test_a_job_that_is_told_to_stop_says_so_and_ends(tmp_path: Path) -> None:
    process = start(tmp_path)
    process.send_signal(signal.SIGTERM)
    exit_code, code, error = ending(process, tmp_path)
    assert (exit_code, code) == (143, "stopped")
    assert error.startswith("stopped by SIGTERM: ")


def test_a_job_that_takes_too_long_says_so_and_ends(tmp_path: Path) -> None:
    process = start(tmp_path, "timeout_seconds=0.5", "runner=spark")
    exit_code, code, error = ending(process, tmp_path)
    assert (exit_code, code) == (75, "timed_out")
    assert error.startswith("the run took longer than timeout_seconds: 0.5, ")


LIST = """
import time
from pathlib import Path

from lakescore import tables
from lakescore.config import ScoreJob
from lakescore.job import main


def run(todo):
    Path(__file__).with_name("begun").touch()
    return {}


def snapshot(*_):
    print("running", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    tables.snapshot = snapshot
    main(ScoreJob, run)
"""
"""A command of several jobs that waits for the table that they share."""


def test_jobs_that_are_told_to_stop_while_a_table_does_not_answer_are_not_begun(
    tmp_path: Path,
) -> None:
    plain = {"model": "a/1", "input": {"path": str(tmp_path / "in")}, "id_columns": ["id"]}
    for name in ("one", "other"):
        own = plain | {"output": {"path": str(tmp_path / name)}}
        (tmp_path / f"{name}.yaml").write_text(json.dumps(own))
    (tmp_path / "job.py").write_text(LIST)
    process = subprocess.Popen(
        [sys.executable, *[str(tmp_path / name) for name in ("job.py", "one.yaml", "other.yaml")]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=60)
    summary = json.loads(out.splitlines()[-1])
    assert (process.returncode, summary["exit_code"]) == (75, 75), errors
    assert [(job["code"], job["error"]) for job in summary["jobs"]] == [
        ("not_run", "the job was not started; run the command again")
    ] * 2
    assert not (tmp_path / "begun").exists()
