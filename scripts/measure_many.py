"""Time many small models in one start: without Spark, in one session of it, and a program each.

    .venv/bin/python scripts/measure_many.py [MODELS]

Each scores the same 1,000 rows of ten doubles with a linear model of its own. Memory is that of all
processes of the command, shared pages counted once (PSS), at its highest in the first and in the
second half of the time.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import yaml
from deltalake import write_deltalake
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

ROOT = Path(__file__).parents[1]
PROGRAMS = 5
PLAIN = """
import sys

import mlflow
from deltalake import DeltaTable

mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
rows = DeltaTable(sys.argv[3]).to_pandas()
print(len(model.predict(rows[[column.name for column in model.metadata.signature.inputs]])))
"""


def make(home: Path, models: int) -> str:
    """Make a registry of *models*, a table and a list of jobs in *home*; return the registry."""
    uri = f"sqlite:///{home / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    for name in ("models", "lakescore"):
        mlflow.create_experiment(name, artifact_location=(home / "artifacts" / name).as_uri())
    mlflow.set_experiment("models")
    random = np.random.default_rng(0)
    rows = pd.DataFrame(random.normal(size=(1000, 10)), columns=[f"x{n}" for n in range(10)])
    for number in range(models):
        model = LinearRegression().fit(rows, rows @ random.normal(size=10))
        mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(rows, model.predict(rows)),
            registered_model_name=f"model-{number}",
        )
    rows.insert(0, "id", range(1000))
    write_deltalake(str(home / "tables" / "rows"), rows)
    job = {"model": "model-0/1", "input": {"path": "tables/rows"}, "id_columns": ["id"]}
    job["output"] = {"path": "tables/predictions"}
    (home / "score.yaml").write_text(yaml.safe_dump(job))
    entry = {
        "file": "score.yaml",
        "set": {"output.path": "tables/predictions/{model}"},
        "matrix": {"model": [f"model-{number}/1" for number in range(models)]},
    }
    (home / "jobs.yaml").write_text(yaml.safe_dump({"jobs": [entry]}))
    return uri


def measured(home: Path, *words: str) -> tuple[dict[str, Any], float, list[float]]:
    """Run the list of jobs; return its summary, its seconds, and its memory in GB over time."""
    shutil.rmtree(home / "tables" / "predictions", ignore_errors=True)
    began = time.monotonic()
    with (home / "told").open("w+") as told:
        process = subprocess.Popen(  # noqa: S603 - our own
            [ROOT / "spark-submit.sh", "score", home / "jobs.yaml", *words],
            env=os.environ | {"LAKESCORE_HOME": str(home)},
            stdout=told,
            stderr=subprocess.DEVNULL,
        )
        memory = []
        while process.poll() is None:
            memory.append(sum(_held(pid) for pid in _below(process.pid)) / 1e6)
            time.sleep(0.5)
        told.seek(0)
        summary = json.loads(told.readlines()[-1])
    if summary["exit_code"]:
        raise SystemExit(f"{summary['failed']} jobs failed: {summary['jobs'][0]}")
    return summary, time.monotonic() - began, memory


def _below(pid: int) -> list[int]:
    try:
        tasks = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has ended
        return []
    return [pid, *(deep for task in tasks for child in task.split() for deep in _below(int(child)))]


def _held(pid: int) -> int:
    """Return the kilobytes that a process holds, its part of shared ones."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def main(models: int) -> None:
    """Print what *models* cost in one start, and in a program each."""
    home = Path(tempfile.mkdtemp())
    try:
        registry = make(home, models)
        print("| | seconds a model | GB, first half | GB, second half |\n|---|---|---|---|")
        for name, words in {"without Spark": (), "in one session": ("runner=spark",)}.items():
            _, seconds, memory = measured(home, *words)
            half = len(memory) // 2
            peaks = f"{max(memory[:half]):.1f} | {max(memory[half:]):.1f}"
            print(f"| {models} models {name} | {seconds / models:.2f} | {peaks} |")
        began = time.monotonic()
        for number in range(PROGRAMS):
            given = [registry, f"models:/model-{number}/1", str(home / "tables" / "rows")]
            subprocess.run([sys.executable, "-c", PLAIN, *given], check=True, capture_output=True)  # noqa: S603
        print(f"| a plain program each | {(time.monotonic() - began) / PROGRAMS:.2f} | | |")
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
