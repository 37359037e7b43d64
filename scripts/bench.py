"""The benchmark: what applying a model costs, by contender, against the limit, in one run.

Each contender reads the same Delta table of 20 doubles, predicts with the same registered linear
model, and writes key, prediction and lineage to a Delta table. Predictions must be equal before any
time counts. Rounds are interleaved and warm; CPU seconds are those of the whole process tree (JVM
and workers included). A line T = a + b n over the sizes gives the marginal cost b.
"""

import argparse
import json
import logging
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from rich.console import Console
from rich.table import Table

from lakescore import registry, scoring, signature, slicing
from lakescore.session import start

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "benchmark"
FEATURES = [f"x{n:02}" for n in range(20)]
NAME = "bench-linear"
FILES = 8
LINEAGE = {"model_name": NAME, "model_version": 1, "scoring_run_id": "bench"}

console = Console(highlight=False)


@dataclass(frozen=True)
class Setting:
    """What all contenders share."""

    spark: SparkSession
    model: registry.ModelVersion

    def read(self, path: str) -> DataFrame:
        """Read the input with Spark."""
        return self.spark.read.format("delta").load(path)

    def write(self, rows: DataFrame, path: str) -> None:
        """Write predictions with their lineage."""
        constants = {name: F.lit(value) for name, value in LINEAGE.items()}
        rows.withColumns(constants).write.format("delta").mode("overwrite").save(path)

    def estimator(self) -> Any:  # noqa: ANN401 - a scikit-learn model
        """Load the model itself."""
        import cloudpickle  # noqa: PLC0415 - runs in workers too

        with (self.model.artifacts / "model.pkl").open("rb") as file:
            return cloudpickle.load(file)

    def spark_udf(self) -> Column:
        """Return the prediction as MLflow's documentation makes it."""
        from mlflow.pyfunc import spark_udf  # noqa: PLC0415

        udf = spark_udf(self.spark, self.model.uri, result_type="double", env_manager="local")
        predicted: Column = udf(F.struct(*FEATURES))
        return predicted.alias("prediction")


@dataclass
class Contender:
    """One way to do the job."""

    name: str
    run: Callable[[Setting, str, str], None]
    """Takes the input's path and the output's."""
    predicts: bool = True
    seconds: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    """By number of rows: (CPU, wall) of each round that counts."""

    def cpu(self, rows: int) -> float:
        """Return the median of its CPU seconds."""
        return statistics.median(cpu for cpu, _ in self.seconds[rows])

    def line(self) -> tuple[float, float]:
        """Return a, in CPU seconds, and b, in CPU seconds a million rows."""
        sizes = sorted(self.seconds)
        slope, intercept = np.polyfit([n / 1e6 for n in sizes], [self.cpu(n) for n in sizes], 1)
        return float(intercept), float(slope)


def main() -> None:
    """Run it, and write results.json and results.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two sizes, two rounds: five minutes")
    quick = parser.parse_args().quick
    sizes = [500_000, 2_000_000] if quick else [1_000_000, 3_000_000, 10_000_000]
    rounds = 2 if quick else 5
    folder = Path(tempfile.mkdtemp(prefix="lakescore-bench-"))
    os.environ["LAKESCORE_HOME"] = str(folder)
    load = os.getloadavg()[0]
    try:
        register()
        spark = start("lakescore bench", properties=ROOT / "conf" / "spark" / "local.conf")
        inputs = {rows: make_table(folder / f"input-{rows}", rows) for rows in sizes}
        here = Setting(spark, registry.resolve(f"{NAME}/1"))
        contenders = all_contenders()
        check_equal(contenders, here, inputs[sizes[0]], folder)
        for turn in range(rounds):
            for rows in sizes:
                for contender in contenders if turn % 2 == 0 else reversed(contenders):
                    measured = measure(contender, here, inputs[rows], str(folder / "output"))
                    contender.seconds.setdefault(rows, []).append(measured)
                console.print(f"bench: round {turn + 1} of {rounds}, {rows:,} rows")
        spark.stop()
    finally:
        shutil.rmtree(folder)
    report(contenders, sizes, rounds, load)


def register() -> None:
    """Register the model."""
    import mlflow  # noqa: PLC0415 - after LAKESCORE_HOME
    from mlflow.models import infer_signature  # noqa: PLC0415
    from sklearn.linear_model import LinearRegression  # noqa: PLC0415

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    registry.experiment(NAME)
    rows = features(10_000, seed=1).to_pandas()
    model = LinearRegression().fit(rows, rows.sum(axis=1))
    with mlflow.start_run():
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(rows, model.predict(rows)),
            serialization_format="cloudpickle",
            pip_requirements=["scikit-learn"],
        )
    mlflow.register_model(logged.model_uri, NAME)


def features(rows: int, seed: int) -> pa.Table:
    """Return random doubles, which do not compress."""
    random = np.random.default_rng(seed)
    return pa.table({name: random.normal(size=rows) for name in FEATURES})


def make_table(path: Path, rows: int) -> str:
    """Write a Delta table of *rows* in eight files."""
    each = rows // FILES
    for n in range(FILES):
        ids = pa.array(np.arange(n * each, (n + 1) * each), pa.int64())
        write_deltalake(str(path), features(each, seed=n).add_column(0, "id", ids), mode="append")
    return str(path)


def as_in_the_docs(here: Setting, source: str, target: str) -> None:
    """Keep all columns, and let MLflow do the rest."""
    here.write(here.read(source).select("*", here.spark_udf()), target)


def pruned(here: Setting, source: str, target: str) -> None:
    """Keep the key alone."""
    here.write(here.read(source).select("id", here.spark_udf()), target)


def ours(
    engine: scoring.EngineName, scan: scoring.ScanName, here: Setting, source: str, target: str
) -> None:
    """Score as a job does."""
    rows = here.read(source)
    contract = signature.agree(source, rows, here.model, keep=["id"])
    selection = slicing.select(rows, None, ["all"])
    models = [(here.model, contract)]
    planned = scoring.plan(engine, selection, models, keep=["id"], scan=scan)
    if engine == "arrow" and (planned.direct is None) != (scan == "spark"):
        raise SystemExit(f"error: the scan is not {scan}: {planned}")
    here.write(scoring.score(planned), target)


def by_hand(here: Setting, source: str, target: str) -> None:
    """Do with mapInArrow what this model needs, and no more."""
    path, width = str(here.model.artifacts / "model.pkl"), len(FEATURES)

    def predict(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import cloudpickle  # noqa: PLC0415 - runs in workers

        with Path(path).open("rb") as file:
            estimator = cloudpickle.load(file)
        for batch in batches:
            block = np.empty((batch.num_rows, width), order="F")
            for n in range(width):
                block[:, n] = batch.column(n + 1).to_numpy(zero_copy_only=False)
            predicted = pa.array(estimator.predict(block))
            yield pa.RecordBatch.from_arrays(
                [batch.column(0), predicted], names=["id", "prediction"]
            )

    rows = here.read(source).select("id", *FEATURES)
    here.write(rows.mapInArrow(predict, "id long, prediction double"), target)


def no_model(here: Setting, source: str, target: str) -> None:
    """Add the columns up in SQL: what Spark costs around any model."""
    total = sum((F.col(name) for name in FEATURES), F.lit(0.0)).alias("prediction")
    here.write(here.read(source).select("id", total), target)


def limit(here: Setting, source: str, target: str) -> None:
    """Read, predict and commit with nothing in between, in one thread."""
    estimator, parts = here.estimator(), []
    for path in DeltaTable(source).file_uris():
        rows = pq.read_table(path, columns=["id", *FEATURES], use_threads=False)
        block = np.empty((rows.num_rows, len(FEATURES)), order="F")
        for n, name in enumerate(FEATURES):
            block[:, n] = rows.column(name).to_numpy()
        parts.append(pa.table({"id": rows.column("id"), "prediction": estimator.predict(block)}))
    whole = pa.concat_tables(parts)
    for name, value in LINEAGE.items():
        whole = whole.append_column(name, pa.repeat(pa.scalar(value), whole.num_rows))
    write_deltalake(target, whole, mode="overwrite")


def all_contenders() -> list[Contender]:
    """Return the contenders; the limit comes last."""
    return [
        Contender("spark_udf, MLflow's docs", as_in_the_docs),
        Contender("spark_udf, pruned columns", pruned),
        Contender("lakescore, spark_udf", partial(ours, "spark_udf", "spark")),
        Contender("lakescore, arrow, Spark scan", partial(ours, "arrow", "spark")),
        Contender("lakescore, arrow, direct scan", partial(ours, "arrow", "direct")),
        Contender("mapInArrow by hand", by_hand),
        Contender("Spark with no model", no_model, predicts=False),
        Contender("limit", limit),
    ]


def check_equal(contenders: list[Contender], here: Setting, source: str, folder: Path) -> None:
    """Run all of them once, as warm-up, and hold their predictions against the limit's."""
    found = {}
    for contender in contenders:
        target = str(folder / "equal")
        shutil.rmtree(target, ignore_errors=True)
        contender.run(here, source, target)
        if contender.predicts:
            rows = DeltaTable(target).to_pandas(columns=["id", "prediction"])
            found[contender.name] = rows.sort_values("id").reset_index(drop=True)
    expected = found[contenders[-1].name]
    for name, rows in found.items():
        same = rows["id"].equals(expected["id"]) and np.allclose(
            rows["prediction"], expected["prediction"], rtol=1e-12, atol=1e-12
        )
        if not same:
            raise SystemExit(f"error: the predictions of {name!r} differ from the limit's")
    console.print(f"bench: {len(found)} contenders predict the same")


def measure(contender: Contender, here: Setting, source: str, target: str) -> tuple[float, float]:
    """Return (CPU, wall) seconds of one run."""
    shutil.rmtree(target, ignore_errors=True)
    cpu, wall = cpu_of_tree(), time.perf_counter()
    contender.run(here, source, target)
    return cpu_of_tree() - cpu, time.perf_counter() - wall


def cpu_of_tree() -> float:
    """Return the CPU seconds of this process, its descendants, and those that they waited for."""
    stats = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:  # it ended
            continue
        fields = text.rpartition(")")[2].split()
        stats[int(path.parent.name)] = (int(fields[1]), sum(map(int, fields[11:15])))
    ticks, queue = 0, [os.getpid()]
    while queue:
        pid = queue.pop()
        ticks += stats.get(pid, (0, 0))[1]
        queue += [child for child, (parent, _) in stats.items() if parent == pid]
    return ticks / os.sysconf("SC_CLK_TCK")


def report(contenders: list[Contender], sizes: list[int], rounds: int, load: float) -> None:
    """Write results.json and results.md, and show the table."""
    limit = contenders[-1].line()[1]
    machine = {
        "cpus": os.cpu_count(),
        "processor": platform.machine(),
        "load_before": round(load, 2),
        "python": platform.python_version(),
        **{name: version(name) for name in ("pyspark", "delta-spark", "mlflow", "scikit-learn")},
    }
    results: dict[str, Any] = {
        "machine": machine,
        "sizes": sizes,
        "rounds": rounds,
        "contenders": [],
    }
    header = [
        "contender",
        "fixed CPU-s",
        "CPU-s per 1M rows",
        "x limit",
        f"wall s at {sizes[-1]:,}",
    ]
    lines = []
    for contender in contenders:
        a, b = contender.line()
        wall = statistics.median(wall for _, wall in contender.seconds[sizes[-1]])
        lines.append([contender.name, f"{a:.1f}", f"{b:.2f}", f"{b / limit:.1f}", f"{wall:.1f}"])
        results["contenders"].append(
            {"name": contender.name, "a": a, "b": b, "seconds": contender.seconds}
        )
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    table = Table(*header)
    for line in lines:
        table.add_row(*line)
    console.print(table)
    markdown = [
        "| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *lines]
    ]
    facts = ", ".join(f"{name} {value}" for name, value in machine.items())
    (RESULTS / "results.md").write_text("\n".join([*markdown, "", facts, ""]))


if __name__ == "__main__":
    main()
