"""Measure where the driver, the log and the registry become the bottleneck.

Prints a table for docs/scale.md: what a plan, a run or a listing takes beside how many files,
commits, slices and versions there are, and how much memory a large model takes.
`measure_scale.py files slices` measures some of it.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.tree import DecisionTreeRegressor

ROOT = Path(__file__).parents[1]
ROWS_A_FILE = 20
MOST_LINKS = 60_000  # ext4 takes 65,000 of one file
Figure = tuple[str, str, float]
"""What was measured, of how many, and the value: seconds, or as the text says."""


def main() -> None:
    """Measure what was asked for, in a home of its own."""
    asked = sys.argv[1:] or list(MEASURES)
    if unknown := set(asked) - set(MEASURES):
        sys.exit(f"there is no {', '.join(sorted(unknown))}; measures: {', '.join(MEASURES)}")
    table = Table("measured", "of", "value")
    with tempfile.TemporaryDirectory(prefix="lakescore-scale-") as folder:
        os.environ["LAKESCORE_HOME"] = folder
        rows = pd.DataFrame({"x": [0.0, 1.0]})
        register(Path(folder), "scale", DecisionTreeRegressor().fit(rows, [0.0, 1.0]), rows)
        for name in asked:
            for figure in MEASURES[name](Path(folder)):
                table.add_row(figure[0], figure[1], f"{figure[2]:,.1f}")
                Console(stderr=True).print(*figure)
    Console().print(table)


def register(home: Path, name: str, model: Any, rows: pd.DataFrame) -> None:  # noqa: ANN401
    """Register a fitted *model* as version 1 of *name*, with the signature of its *rows*."""
    import mlflow  # noqa: PLC0415 - seconds
    from mlflow.models import infer_signature  # noqa: PLC0415

    mlflow.set_tracking_uri(f"sqlite:///{home / 'mlflow.db'}")
    # MLflow's default experiment keeps its files where this program runs.
    mlflow.create_experiment(name, artifact_location=(home / "artifacts").as_uri())
    mlflow.set_experiment(name)
    with mlflow.start_run():
        logged = mlflow.sklearn.log_model(
            model, name="model", signature=infer_signature(rows, model.predict(rows)),
            pip_requirements=["scikit-learn"], serialization_format="cloudpickle",
        )  # fmt: skip
    mlflow.register_model(logged.model_uri, name)


def score(home: Path, table: str, *more: str, model: str = "scale/1") -> dict[str, Any]:
    """Score a table in a process of its own; return the receipt."""
    job = {
        "model": model,
        "input": {"path": f"tables/{table}"},
        "output": {"path": f"tables/{table}_scored"},
        "id_columns": ["id"],
    }
    file = home / f"{table}.json"
    file.write_text(json.dumps(job))
    command = [str(ROOT / "spark-submit.sh"), "score", str(file), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    receipt: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return receipt


def rows_of(count: int, slices: int = 1) -> pa.Table:
    """Return so many rows, spread over so many days."""
    days = np.datetime64("2000-01-01") + np.arange(count) % slices
    return pa.table({"id": np.arange(count), "x": np.arange(count) / count, "day": days})


def files(home: Path) -> Iterator[Figure]:
    """Score the same rows from one file and from many: a file is linked as often as need be."""
    for count in (1, 1_000, 10_000, 100_000):
        folder = home / "tables" / f"files_{count}"
        if count == 1:
            write_deltalake(str(folder), rows_of(100_000 * ROWS_A_FILE))
        else:
            link(folder, count)
        receipt = score(home, folder.name, "on_duplicate_key=keep")
        yield "a plan, of files", f"{count:,}", receipt["seconds"]["plan"]
        yield "a whole run, without the start", f"{count:,}", _without_start(receipt)
        shutil.rmtree(folder)


def link(folder: Path, count: int) -> None:
    """Make a table of *count* files, which are one."""
    write_deltalake(str(folder), rows_of(100_000 * ROWS_A_FILE // count))
    log = folder / "_delta_log" / f"{0:020}.json"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    (add,) = [line for line in lines if "add" in line]
    whole = folder / add["add"]["path"]
    added = []
    for number in range(count):
        name = f"{number:06}.parquet"
        if number % MOST_LINKS == 0:
            whole = shutil.copy(whole, folder / f"links-from-{name}")
        os.link(whole, folder / name)
        added.append(json.dumps({"add": add["add"] | {"path": name}}))
    others = [json.dumps(line) for line in lines if "add" not in line]
    log.write_text("\n".join(others + added) + "\n")


def commits(home: Path) -> Iterator[Figure]:
    """Plan a table whose log has many commits, with Delta's checkpoints every 100."""
    folder = home / "tables" / "commits"
    write_deltalake(str(folder), rows_of(1_000))
    done = 0
    for count in (100, 1_000, 10_000):
        table = DeltaTable(str(folder))
        for number in range(done, count):
            log = folder / "_delta_log" / f"{number + 1:020}.json"
            action = {"commitInfo": {"operation": "nothing", "timestamp": number}}
            log.write_text(json.dumps(action))
            if number % 100 == 99:  # noqa: PLR2004 - the interval of Delta's checkpoints
                table.update_incremental()
                table.create_checkpoint()
        done = count
        receipt = score(home, folder.name, "plan=true")
        yield "a plan, of commits to the input", f"{count:,}", _without_start(receipt)


def slices(home: Path) -> Iterator[Figure]:
    """Score all days of a table, then ask which are due."""
    for count in (100, 1_000, 10_000):
        folder = home / "tables" / f"slices_{count}"
        write_deltalake(str(folder), rows_of(count * 100, count))
        for question in ("score all slices", "find that none is due"):
            receipt = score(home, folder.name, "slice_by=day", "slices=due")
            yield question, f"{count:,}", _without_start(receipt)


def versions(home: Path) -> Iterator[Figure]:
    """List and resolve in a registry of many versions, in SQLite."""
    import mlflow  # noqa: PLC0415

    from lakescore import registry  # noqa: PLC0415

    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    template = client.get_run(str(client.get_model_version("scale", "1").run_id))
    place = template.info.experiment_id
    client.create_registered_model("many")
    done = 0
    for count in (100, 1_000, 5_000):
        for number in range(done, count):
            run = client.create_run(place).info.run_id
            client.log_metric(run, "rmse", 1_000 - number / 10)
            logged = client.create_logged_model(place, name="model", source_run_id=run).model_id
            client.create_model_version(
                "many", f"models:/{logged}", run, {"team": "ops"}, model_id=logged
            )
        done = count
        asked: dict[str, Callable[[], object]] = {
            "list all versions": lambda: registry.versions("many"),
            "the best by a metric and a tag": lambda: registry.versions(
                "many", where="tags.team = 'ops'", order_by="metrics.rmse", limit=1
            ),
        }
        for question, ask in asked.items():
            start = time.perf_counter()
            ask()
            yield question, f"{count:,}", time.perf_counter() - start


def large(home: Path) -> Iterator[Figure]:
    """Score by a forest of gigabytes with two workers of Spark."""
    random = np.random.default_rng(0)
    rows = pd.DataFrame(random.normal(size=(200_000, 8)), columns=[f"c{n}" for n in range(8)])
    forest = ExtraTreesRegressor(64, random_state=0).fit(rows, random.normal(size=len(rows)))
    register(home, "large", forest, rows[:100])
    table = rows[:60_000].reset_index(names="id")
    write_deltalake(str(home / "tables/large"), table)
    receipt = score(home, "large", "runner=spark", model="large/1")
    engine, size = receipt["engine"], max(path.stat().st_size for path in home.rglob("*.pkl"))
    yield "GB of a forest's file", "one forest", size / 1e9
    yield "GB of memory", f"{engine['workers']} workers", engine["memory_bytes"] / 1e9
    yield "a whole run, without the start", "60,000 rows", _without_start(receipt)


def _without_start(receipt: dict[str, Any]) -> float:
    seconds: dict[str, float] = receipt["seconds"]
    return seconds["total"] - seconds["start"]


MEASURES: dict[str, Callable[[Path], Iterator[Figure]]] = {
    "files": files, "commits": commits, "slices": slices, "versions": versions,
    "large": large,
}  # fmt: skip


if __name__ == "__main__":
    main()
