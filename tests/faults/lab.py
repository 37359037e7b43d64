"""A job to break, what came of it, and the tables read back afterwards."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import score
from builders.jobs import score_settings
from clusters import environment

from lakescore.config import ScoreJob
from lakescore.job import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nursery import Nursery, Process
    from pyspark.sql import DataFrame, SparkSession

ROOT = Path(__file__).parents[2]
SCHEMA = "id int, part string, x double"
ROWS = [
    (1, "a", 1.0),
    (2, "a", 2.0),
    (3, "a", 9.0),  # an order can be for the batch that holds it
    (4, "b", 4.0),
]
PATIENCE = 300.0  # seconds, for what takes few on a quiet machine

Row = tuple[int, str, int, float]


@dataclass(frozen=True)
class Orders:
    """What the workers of the model `obedient` are told, by files: its batches obey in turn."""

    folder: Path

    def give(self, order: str, *, where_x_is: float = 0.0) -> None:
        """Give an order to each worker whose batch holds an x that is as large.

        Args:
            order: `die`, `die-once`, `die-alone` and `die-alone-once` (the model's process, and
                not its worker), `hang` (until it is taken back), `hang-once` or `eat`.
            where_x_is: the smallest x that makes a batch obey.
        """
        (self.folder / order).write_text(str(where_x_is))

    def take_back(self) -> None:
        """Let every worker go on."""
        for order in self.folder.iterdir():
            order.unlink()

    def wait(self) -> None:
        """Wait until a worker hangs."""
        until((self.folder / "hanging").exists, "no worker came to hang")


@dataclass(frozen=True)
class Ended:
    """How a run of the job ended."""

    code: int
    receipt: dict[str, Any]

    @property
    def status(self) -> str:
        """What the receipt says."""
        return str(self.receipt["status"])

    @property
    def error(self) -> str:
        """The line that the receipt has too."""
        return str(self.receipt.get("error"))


@dataclass(frozen=True)
class Driver:
    """A run of the job in a process of its own."""

    process: Process
    receipt: Path

    def ended(self) -> Ended:
        """Wait for its end, and for that of all that it started: its JVM and workers."""
        code = self.process.ended(PATIENCE)
        receipt = json.loads(self.receipt.read_text()) if self.receipt.exists() else {}
        return Ended(code, receipt | {"stderr": self.process.errors})


@dataclass(frozen=True)
class Lab:
    """A table, the job that scores it by the model `obedient`, and what came of it."""

    spark: SparkSession
    orders: Orders
    registry: str
    nursery: Nursery
    place: Path
    """Properties of Spark for a JVM that soon ends."""
    folder: Path
    runner: str = "spark"
    """What runs the tasks."""
    numbers: Iterator[int] = field(default_factory=itertools.count)
    drivers: list[Process] = field(default_factory=list)
    """Those that were started."""

    @property
    def input(self) -> str:
        """The table that is scored."""
        return str(self.folder / "rows")

    @property
    def output(self) -> str:
        """The table of predictions."""
        return str(self.folder / "predictions")

    def write(
        self, rows: Sequence[Any] = ROWS, schema: str = SCHEMA, mode: str = "overwrite"
    ) -> None:
        """Write the input."""
        frame = self.spark.createDataFrame(list(rows), schema)
        writer = frame.write.format("delta").mode(mode).option("overwriteSchema", "true")
        writer.save(self.input)

    def plain(self, **changes: Any) -> dict[str, Any]:
        """Return the job as its file has it."""
        own = {"model": "obedient/1", "slice_by": "part", "slices": ["a", "b"]}
        return score_settings(self.folder, self.input, **own | {"runner": self.runner} | changes)

    def file(self, **changes: Any) -> tuple[Path, Path]:
        """Write the job's file; return it, and where its receipt will be."""
        number = next(self.numbers)
        receipt = self.folder / f"receipt-{number}.json"
        file = self.folder / f"score-{number}.yaml"
        file.write_text(json.dumps(self.plain(receipt=str(receipt), **changes)))
        return file, receipt

    def run(self, **changes: Any) -> Ended:
        """Run the job by its door, in this process."""
        file, receipt = self.file(**changes)
        with pytest.raises(SystemExit) as ended:
            main(ScoreJob, score.run, [str(file)])
        return Ended(int(ended.value.code or 0), json.loads(receipt.read_text()))

    def run_version(self, version: int) -> Ended:
        """Run the job with another version."""
        return self.run(model=f"obedient/{version}")

    def start(self, **changes: Any) -> Driver:
        """Start the job in a process of its own, as `python jobs/score.py`."""
        file, receipt = self.file(**changes)
        # A place of its own is one of Spark's alone.
        place = {"PLACE": str(self.place)} if changes.get("runner", self.runner) == "spark" else {}
        return Driver(self.python(ROOT / "jobs/score.py", file, **place), receipt)

    def python(self, *command: object, **variables: str) -> Process:
        """Start a script with the registry and a home of its own."""
        process = self.nursery.start(
            *command,
            environment=self.environment | variables,
            errors=self.folder / f"errors-{next(self.numbers)}",
            folder=ROOT,
        )
        self.drivers.append(process)
        return process

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a driver of its own."""
        own = {"LAKESCORE_HOME": str(self.folder), "MLFLOW_TRACKING_URI": self.registry}
        return environment() | own

    def frame(self, address: str = "") -> DataFrame | None:
        """Return a table as it is now, if it is there."""
        path = address or self.output
        if not any(Path(path, "_delta_log").glob("*.json")):
            return None
        return self.spark.read.format("delta").load(path)

    def rows(self, address: str = "") -> list[Row]:
        """Return all predictions: key, slice, version and value, each row that there is."""
        rows = self.frame(address)
        if rows is None:
            return []
        names = ["id", "slice", "model_version", "prediction"]
        return sorted((*row[:3], round(row[3], 6)) for row in rows.select(*names).collect())

    def quarantined(self) -> list[tuple[int, str, int]]:
        """Return all rows that were set aside: key, slice and version."""
        rows = self.frame(f"{self.output}_quarantine")
        names = ["id", "slice", "model_version"]
        return sorted(map(tuple, rows.select(*names).collect())) if rows is not None else []

    def commits(self, address: str = "") -> list[str]:
        """Return the files of the log, one a commit."""
        log = Path(address or self.output, "_delta_log")
        return sorted(path.name for path in log.glob("*.json"))


def scored(version: int, rows: Sequence[Any] = ROWS) -> list[Row]:
    """Return the predictions of *rows* by version 1, which doubles, or 2, which triples."""
    return sorted((key, part, version, (version + 1) * x) for key, part, x in rows)


def until(holds: Callable[[], object], complaint: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.005)
