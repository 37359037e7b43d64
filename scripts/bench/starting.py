"""Whole commands from a cold start: a small job, a million rows, and many models in one start.

Each is a process that a shell would start, with all that it starts itself.
"""

import contextlib
import ctypes
import io
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from bench.workloads import EVEN, KEY, NAME, WORKLOADS, Layout

ROOT = Path(__file__).parents[2]
SMALL, LARGE, MODELS = 1_000, 1_000_000, 100
PLAIN = "a plain program"
LOCAL, SPARK = "lakescore, runner local", "lakescore, runner spark"
LIMIT_OF_LARGE, LOCAL_OF_LARGE = "the limit, 1M rows", "lakescore, 1M rows"
MANY, MANY_BY_SPARK = "many models in one start", "many models in one session of Spark"
COMPARE = "compare, three versions on the demo's holdout"
_LINEAR = WORKLOADS["linear"]
_BE_THE_PARENT_OF_ORPHANS = 36  # prctl(2): PR_SET_CHILD_SUBREAPER
_PLAIN = """
import sys

import mlflow
from deltalake import DeltaTable

mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
rows = DeltaTable(sys.argv[3]).to_pandas()
print(len(model.predict(rows[[column.name for column in model.metadata.signature.inputs]])))
"""
_LIMIT = """
import sys

from bench.contenders import Setting, limit
from bench.workloads import WORKLOADS

limit(Setting(None, WORKLOADS["linear"], sys.argv[1], sys.argv[2]))
"""

console = Console(highlight=False)


def measure(folder: Path, rounds: int, *, quick: bool) -> dict[str, Any]:
    """Run all in turn, *rounds* times, in a home at *folder* that knows the linear workload.

    Returns:
        `models`, and by command the wall and the CPU seconds of each round; those of many models
        are seconds a model.
    """
    models = MODELS // 4 if quick else MODELS
    load = os.getloadavg()[0]
    commands = _commands(folder, models)
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, words in commands.items():
            shutil.rmtree(folder / "started", ignore_errors=True)
            costs[name].append(timed(words, models if "many" in name else 1))
        console.print("bench: a round of commands from a cold start")
    _check_equal(folder, models)
    return {
        "models": models,
        "load": [round(load, 2), round(os.getloadavg()[0], 2)],
        "commands": {
            name: dict(zip(("wall", "cpu"), zip(*pairs, strict=True), strict=True))
            for name, pairs in costs.items()
        },
    }


def _commands(folder: Path, models: int) -> dict[str, list[str]]:
    """Make the tables, the models and the jobs, and return the commands."""
    small = Layout(files=1).write(folder / "started-small", _LINEAR, SMALL)
    large = EVEN.write(folder / f"linear-{LARGE}-{EVEN.files}-{EVEN.unused}", _LINEAR, LARGE)
    output = folder / "started"
    job = {
        "model": f"{NAME}-linear/1",
        "input": {"path": small},
        "output": {"path": str(output / "one")},
        "id_columns": [KEY],
        "experiment": NAME,
    }
    (folder / "score.yaml").write_text(yaml.safe_dump(job))
    timed([sys.executable, str(ROOT / "scripts/demo.py"), "prepare"])
    names = _register(models)
    job = {
        "file": "score.yaml",
        "set": {"output.path": f"{output}/{{model}}"},
        "matrix": {"model": [f"{name}/1" for name in names]},
    }
    (folder / "jobs.yaml").write_text(yaml.safe_dump({"jobs": [job]}))
    score = [str(ROOT / "spark-submit.sh"), "score"]
    one, many = [*score, str(folder / "score.yaml")], [*score, str(folder / "jobs.yaml")]
    registry = f"sqlite:///{folder / 'mlflow.db'}"
    python = [sys.executable, "-c"]
    return {
        PLAIN: [*python, _PLAIN, registry, f"models:/{NAME}-linear/1", small],
        LOCAL: [*one, "runner=local"],
        SPARK: [*one, "runner=spark"],
        LIMIT_OF_LARGE: [*python, _LIMIT, large, str(output / "limit")],
        LOCAL_OF_LARGE: [*one, f"input.path={large}", f"output.path={output}/large"],
        COMPARE: [str(ROOT / "spark-submit.sh"), "compare", str(ROOT / "conf/compare.yaml")],
        MANY: many,
        MANY_BY_SPARK: [*many, "runner=spark"],
    }


def _register(models: int) -> list[str]:
    """Register the linear model under as many names."""
    import mlflow  # noqa: PLC0415 - after LAKESCORE_HOME

    known = mlflow.MlflowClient().get_model_version(f"{NAME}-linear", "1")
    names = [f"started-{number}" for number in range(models)]
    with contextlib.redirect_stderr(io.StringIO()):  # a line for each
        for name in names:
            mlflow.register_model(known.source, name)
    return names


def timed(command: Sequence[str], share: int = 1) -> tuple[float, float]:
    """Return the wall and the CPU seconds of *command* and of all that it starts, by *share*."""
    ctypes.CDLL(None).prctl(_BE_THE_PARENT_OF_ORPHANS, 1, 0, 0, 0)
    before, others = resource.getrusage(resource.RUSAGE_CHILDREN), _children()
    began = time.monotonic()
    variables = {"PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("scripts", "jobs"))}
    done = subprocess.run(  # noqa: S603 - one of the above
        command, check=False, capture_output=True, cwd=ROOT, env=os.environ | variables, text=True
    )
    wall = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"error: {command} failed: {done.stderr[-2000:]}")
    while orphans := _children() - others:
        os.waitpid(orphans.pop(), 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall / share, cpu / share


def _children() -> set[int]:
    """Return the ids of the child processes of all threads of this process."""
    lists = Path("/proc/self/task").glob("*/children")
    return {int(child) for path in lists for child in path.read_text().split()}


def _check_equal(folder: Path, models: int) -> None:
    """See that all models of the last command published what the estimator predicts."""
    from deltalake import DeltaTable  # noqa: PLC0415 - after the measuring

    rows = DeltaTable(str(folder / "started-small")).to_pyarrow_table()
    expected = dict(
        zip(
            rows.column(KEY).to_pylist(),
            _LINEAR.estimator().predict(_LINEAR.given(rows)),
            strict=True,
        )
    )
    paths = [path.parent for path in (folder / "started").glob("*/1/_delta_log")]
    for path in paths:
        rows = DeltaTable(str(path)).to_pandas()
        wrong = [
            key
            for key, value in zip(rows[KEY], rows["prediction"], strict=True)
            if abs(value - expected[key]) > _LINEAR.tolerance * max(1.0, abs(value))
        ]
        if wrong or len(rows) != SMALL:
            raise SystemExit(f"error: {path} does not hold what the model predicts: {wrong[:5]}")
    if len(paths) != models:
        raise SystemExit(f"error: {len(paths)} of {models} models have published")


def lines(measured: dict[str, Any]) -> list[list[str]]:
    """Return a line for each command of `measure`: the least of its rounds."""
    return [
        [name, f"{min(costs['wall']):.2f}", f"{min(costs['cpu']):.2f}"]
        for name, costs in measured["commands"].items()
    ]
