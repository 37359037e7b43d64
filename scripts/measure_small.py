"""Time a small score job from a cold start: a plain program, the local runner, Spark.

    LAKESCORE_HOME=... .venv/bin/python scripts/measure_small.py [ROUNDS]

Each scores one day of the demo's departures with the champion, in turn, in processes of their own;
the demo must have run under LAKESCORE_HOME. CPU seconds are those of all processes that were
started.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lakescore.home import home

ROOT = Path(__file__).parents[1]
_BE_THE_PARENT_OF_ORPHANS = 36  # prctl(2): PR_SET_CHILD_SUBREAPER
DAY = "2013-12-05"
PLAIN = f"""
import datetime
import sys

import mlflow
from deltalake import DeltaTable

mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/flight-delay@champion")
day = [("date", "=", datetime.date.fromisoformat("{DAY}"))]
rows = DeltaTable(sys.argv[2]).to_pandas(filters=day)
names = [column.name for column in model.metadata.signature.inputs]
print(len(model.predict(rows[names])))
"""


def timed(command: list[str]) -> tuple[float, float]:
    """Return the wall and the CPU seconds of *command* and of all that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)  # noqa: S603 - as given below
    wall = time.monotonic() - began
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(rounds: int) -> None:
    """Print the fastest of *rounds* of each."""
    ctypes.CDLL(None).prctl(_BE_THE_PARENT_OF_ORPHANS, 1, 0, 0, 0)
    python = str(ROOT / ".venv/bin/python")
    table, registry = home() / "tables" / "departures", f"sqlite:///{home() / 'mlflow.db'}"
    output = Path(tempfile.mkdtemp()) / "predictions"
    job = [str(ROOT / "spark-submit.sh"), "score", "conf/score.yaml", f"slices={DAY}"]
    job += [f"output.path={output}", f"trust={home() / 'trust.yaml'}"]
    commands = {
        "a plain program": [python, "-c", PLAIN, registry, str(table)],
        "runner: local": [*job, "runner=local"],
        "runner: spark": [*job, "runner=spark"],
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            shutil.rmtree(output, ignore_errors=True)
            found[name].append(timed(command))
    shutil.rmtree(output.parent, ignore_errors=True)
    plain = [min(each) for each in zip(*found["a plain program"], strict=True)]
    print("| | wall seconds | of the plain program's | CPU seconds | of the plain program's |")
    print("|---|---|---|---|---|")
    for name, each in found.items():
        wall, cpu = (min(values) for values in zip(*each, strict=True))
        ratios = f"{wall / plain[0]:.2f}", f"{cpu / plain[1]:.2f}"
        print(f"| {name} | {wall:.1f} | {ratios[0]} | {cpu:.1f} | {ratios[1]} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
