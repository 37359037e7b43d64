"""A job ends when it is told to, and when its time is over, whatever it waits for."""

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


def ending(process: subprocess.Popen[str], folder: Path) -> tuple[int, str]:
    """Return its exit code and its error, which the receipt and the last line have."""
    _, said = process.communicate(timeout=300)
    receipt = json.loads((folder / "receipt.json").read_text())
    assert (receipt["status"], receipt["exit_code"]) == ("failed", process.returncode)
    assert said.splitlines()[-1] == f"error: {receipt['error']}"
    return process.returncode, receipt["error"]


def test_a_job_that_is_told_to_stop_says_so_and_ends(tmp_path: Path) -> None:
    process = start(tmp_path)
    process.send_signal(signal.SIGTERM)
    code, error = ending(process, tmp_path)
    assert code == 143
    assert error.startswith("told to stop (SIGTERM): ")


def test_a_job_that_takes_too_long_says_so_and_ends(tmp_path: Path) -> None:
    code, error = ending(start(tmp_path, "timeout_seconds=0.5", "runner=spark"), tmp_path)
    assert code == 75
    assert error.startswith("the run took longer than timeout_seconds: 0.5, ")
