"""Measure where the driver, the log and the registry become the bottleneck.

Prints a table for docs/scale.md: what a plan, a run or a listing takes beside how many files,
commits, slices and versions there are. `measure_scale.py files slices` measures some of it.
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

import numpy as np
import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
ROWS_A_FILE = 20
MOST_LINKS = 60_000  # ext4 takes 65,000 of one file
Figure = tuple[str, str, float]
"""What was measured, of how many, and seconds."""


def main() -> None:
    """Measure what was asked for, in a home of its own."""
    asked = sys.argv[1:] or list(MEASURES)
    if unknown := set(asked) - set(MEASURES):
        sys.exit(f"there is no {', '.join(sorted(unknown))}; measures: {', '.join(MEASURES)}")
    table = Table("measured", "of", "s")
    with tempfile.TemporaryDirectory(prefix="lakescore-scale-") as folder:
        os.environ["LAKESCORE_HOME"] = folder
        register_a_tree(Path(folder))
        for name in asked:
            for figure in MEASURES[name](Path(folder)):
                table.add_row(figure[0], figure[1], f"{figure[2]:,.1f}")
                Console(stderr=True).print(*figure)
    Console().print(table)


def register_a_tree(home: Path) -> None:
    """Register `scale/1`, whose cost is nothing."""
    import mlflow  # noqa: PLC0415 - seconds
    from mlflow.models import infer_signature  # noqa: PLC0415
    from sklearn.tree import DecisionTreeRegressor  # noqa: PLC0415

    mlflow.set_tracking_uri(f"sqlite:///{home / 'mlflow.db'}")
    rows = pd.DataFrame({"x": [0.0, 1.0]})
    tree = DecisionTreeRegressor().fit(rows, [0.0, 1.0])
    with mlflow.start_run():
        logged = mlflow.sklearn.log_model(
            tree, name="model", signature=infer_signature(rows, tree.predict(rows)),
            pip_requirements=["scikit-learn"], serialization_format="cloudpickle",
        )  # fmt: skip
    mlflow.register_model(logged.model_uri, "scale")


def score(home: Path, table: str, *more: str) -> dict[str, float]:
    """Score a table in a process of its own; return the receipt's seconds."""
    job = {
        "model": "scale/1",
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
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])["seconds"]
    return seconds


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
        took = score(home, folder.name, "on_duplicate_key=keep")
        yield "a plan, of files", f"{count:,}", took["plan"]
        yield "a whole run, without the start", f"{count:,}", took["total"] - took["start"]
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
            said = {"commitInfo": {"operation": "nothing", "timestamp": number}}
            log.write_text(json.dumps(said))
            if number % 100 == 99:  # noqa: PLR2004 - the interval said above
                table.update_incremental()
                table.create_checkpoint()
        done = count
        took = score(home, folder.name, "plan=true")
        yield "a plan, of commits to the input", f"{count:,}", took["total"] - took["start"]


def slices(home: Path) -> Iterator[Figure]:
    """Score all days of a table, then ask which are due."""
    for count in (100, 1_000, 10_000):
        folder = home / "tables" / f"slices_{count}"
        write_deltalake(str(folder), rows_of(count * 100, count))
        for what in ("score all slices", "find that none is due"):
            took = score(home, folder.name, "slice_by=day", "slices=due")
            yield what, f"{count:,}", took["total"] - took["start"]


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
        for what, ask in asked.items():
            start = time.perf_counter()
            ask()
            yield what, f"{count:,}", time.perf_counter() - start


MEASURES: dict[str, Callable[[Path], Iterator[Figure]]] = {
    "files": files, "commits": commits, "slices": slices, "versions": versions,
}  # fmt: skip


if __name__ == "__main__":
    main()
