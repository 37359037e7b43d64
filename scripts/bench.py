"""The benchmark: what applying a model costs, by contender, against the limit, in one run.

Each contender reads the same Delta table of 20 doubles, predicts with the same registered model,
and writes key, prediction and lineage to a Delta table. Predictions must be equal before any time
counts. Rounds are interleaved and warm; CPU seconds are those of the whole process tree (JVM and
workers included). A line T = a + b n over the sizes gives the marginal cost b.
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
from dataclasses import dataclass, field, replace
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
from lakescore.loading import prepare
from lakescore.session import start

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "benchmark"
FEATURES = [f"x{n:02}" for n in range(20)]
NAME = "bench"
FILES = 8
SMALL = 8_000
"""Rows of a table for which only the fixed cost counts."""
LINEAGE = {"model_name": NAME, "model_version": 1, "scoring_run_id": "bench"}

console = Console(highlight=False)


@dataclass(frozen=True)
class Setting:
    """What all contenders share."""

    spark: SparkSession
    models: list[registry.ModelVersion]

    @property
    def model(self) -> registry.ModelVersion:
        """The version that all contenders apply."""
        return self.models[0]

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

    def wall(self, rows: int) -> float:
        """Return the median of its wall seconds."""
        return statistics.median(wall for _, wall in self.seconds[rows])

    def line(self) -> tuple[float, float]:
        """Return a, in CPU seconds, and b, in CPU seconds a million rows."""
        sizes = sorted(size for size in self.seconds if size > SMALL)
        slope, intercept = np.polyfit([n / 1e6 for n in sizes], [self.cpu(n) for n in sizes], 1)
        return float(intercept), float(slope)


@dataclass(frozen=True)
class Workload:
    """A model, and how many rows it scores."""

    name: str
    make: Callable[[], Any]
    """Makes the estimator."""
    quick: tuple[int, ...]
    full: tuple[int, ...]
    contenders: tuple[str, ...]
    """Whose names begin so; all when none are given."""


def linear() -> Any:  # noqa: ANN401 - a scikit-learn model
    """Return what costs next to nothing, so that only what stands around it is measured."""
    from sklearn.linear_model import LinearRegression  # noqa: PLC0415

    return LinearRegression()


def forest() -> Any:  # noqa: ANN401 - a scikit-learn model
    """Return what costs much more than what stands around it; saved for all cores, as many are."""
    from sklearn.ensemble import RandomForestRegressor  # noqa: PLC0415

    return RandomForestRegressor(100, max_depth=12, n_jobs=-1, random_state=0)


WORKLOADS = (
    Workload(
        "linear", linear, (SMALL, 500_000, 2_000_000), (SMALL, 1_000_000, 3_000_000, 10_000_000), ()
    ),
    Workload(
        "forest",
        forest,
        (50_000, 250_000),
        (250_000, 1_000_000),
        ("spark_udf, pruned", "lakescore, arrow", "limit"),
    ),
)


def main() -> None:
    """Run it, and write the results; or hold the results that are there against the targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, two rounds")
    parser.add_argument(
        "--check", action="store_true", help="print the targets with what the last run measured"
    )
    asked = parser.parse_args()
    if asked.check:
        raise SystemExit(check_targets())
    rounds = 2 if asked.quick else 5
    folder = Path(tempfile.mkdtemp(prefix="lakescore-bench-"))
    os.environ["LAKESCORE_HOME"] = str(folder)
    load = os.getloadavg()[0]
    found: dict[str, Any] = {}
    try:
        for workload in WORKLOADS:
            register(workload)
        spark = start("lakescore bench", properties=ROOT / "conf" / "spark" / "local.conf")
        for workload in WORKLOADS:
            found[workload.name] = compete(workload, spark, folder, rounds, quick=asked.quick)
        spark.stop()
    finally:
        shutil.rmtree(folder)
    report(found, rounds, load)


def compete(
    workload: Workload, spark: SparkSession, folder: Path, rounds: int, *, quick: bool
) -> dict[str, Any]:
    """Run all contenders of *workload* in turn and return what they took."""
    sizes = workload.quick if quick else workload.full
    inputs = {rows: make_table(folder / f"input-{rows}", rows) for rows in sizes}
    here = Setting(spark, [registry.resolve(f"{NAME}-{workload.name}/{n}") for n in (1, 2, 3, 4)])
    contenders = [
        each
        for each in all_contenders()
        if not workload.contenders or each.name.startswith(workload.contenders)
    ]
    check_equal(contenders, here, inputs[sizes[-2]], folder)
    loads = count_loads(here, inputs[sizes[-2]], str(folder / "output"))
    for turn in range(rounds):
        for rows in sizes:
            for contender in contenders if turn % 2 == 0 else reversed(contenders):
                measured = measure(contender, here, inputs[rows], str(folder / "output"))
                contender.seconds.setdefault(rows, []).append(measured)
            console.print(f"bench: {workload.name}, round {turn + 1} of {rounds}, {rows:,} rows")
    return {
        "sizes": sizes,
        "loads": loads,
        "contenders": {
            each.name: {
                "a": each.line()[0],
                "b": each.line()[1],
                "wall": {rows: each.wall(rows) for rows in sizes},
                "seconds": each.seconds,
            }
            for each in contenders
        },
    }


def register(workload: Workload) -> None:
    """Register four versions of the workload's model."""
    import mlflow  # noqa: PLC0415 - after LAKESCORE_HOME
    from mlflow.models import infer_signature  # noqa: PLC0415

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    registry.experiment(NAME)
    rows = features(10_000, seed=1).to_pandas()
    model = workload.make().fit(rows, rows.sum(axis=1))
    with mlflow.start_run():
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(rows, model.predict(rows)),
            serialization_format="cloudpickle",
            pip_requirements=["scikit-learn"],
        )
    for _ in range(4):
        mlflow.register_model(logged.model_uri, f"{NAME}-{workload.name}")


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
    contract = signature.agree(source, rows, prepare(here.model), keep=["id"])
    selection = slicing.select(rows, None, ["all"])
    planned = scoring.plan(engine, selection, [contract], keep=["id"], scan=scan)
    if engine == "arrow" and (planned.direct is None) != (scan == "spark"):
        raise SystemExit(f"error: the scan is not {scan}: {planned}")
    here.write(scoring.score(planned), target)


def side_by_side(here: Setting, source: str, target: str) -> None:
    """Score with four versions in one pass."""
    planned = plan_of(here, here.models, source)
    here.write(
        scoring.side_by_side(planned).withColumnRenamed(here.model.uri, "prediction"), target
    )


def plan_of(here: Setting, models: list[registry.ModelVersion], source: str) -> scoring.Plan:
    """Plan a direct scan, or end."""
    rows = here.read(source)
    contracts = [signature.agree(source, rows, prepare(model), keep=["id"]) for model in models]
    planned = scoring.plan("arrow", slicing.select(rows, None, ["all"]), contracts, keep=["id"])
    if planned.direct is None:
        raise SystemExit(f"error: the scan is not direct: {planned}")
    return planned


def count_loads(here: Setting, source: str, target: str) -> dict[str, int]:
    """Score with fresh versions, and return what workers loaded."""
    again = [
        replace(model, card=replace(model.card, digest=f"{model.digest}-{n}"))
        for n, model in enumerate(here.models)
    ]
    planned = plan_of(here, again, source)
    shutil.rmtree(target, ignore_errors=True)
    here.write(
        scoring.side_by_side(planned).withColumnRenamed(here.model.uri, "prediction"), target
    )
    facts = planned.facts()
    return {"versions": len(again), **{key: facts[key] for key in ("loads", "workers")}}


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
        Contender("lakescore, arrow, direct scan, 4 versions", side_by_side),
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


HEADER = ("contender", "fixed CPU-s", "CPU-s per 1M rows", "x limit", "wall s, most rows")


def report(found: dict[str, Any], rounds: int, load: float) -> None:
    """Write results.json, results.md and the plots, and show the tables."""
    machine = {
        "cpus": os.cpu_count(),
        "processor": platform.machine(),
        "load_before": round(load, 2),
        "rounds": rounds,
        "python": platform.python_version(),
        **{name: version(name) for name in ("pyspark", "delta-spark", "mlflow", "scikit-learn")},
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    results = {"machine": machine, "workloads": found}
    (RESULTS / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    markdown = []
    for name, workload in found.items():
        sizes = workload["sizes"]
        lines = rows_of(workload)
        table = Table(*HEADER, title=name)
        for line in lines:
            table.add_row(*line)
        console.print(table)
        title = f"## {name}: {sizes[-2]:,} to {sizes[-1]:,} rows"
        body = ["| " + " | ".join(cells) + " |" for cells in (HEADER, ["---"] * 5, *lines)]
        markdown += [title, "", *body, "", f"![CPU seconds by contender]({name}.svg)", ""]
        draw(name, workload)
    facts = ", ".join(f"{name} {value}" for name, value in machine.items())
    (RESULTS / "results.md").write_text("\n".join([*markdown, facts, ""]))


def rows_of(workload: dict[str, Any]) -> list[list[str]]:
    """Return a line of the table for each contender."""
    limit, most = workload["contenders"]["limit"]["b"], workload["sizes"][-1]
    return [
        [
            name,
            f"{each['a']:.1f}",
            f"{each['b']:.2f}",
            f"{each['b'] / limit:.1f}",
            f"{each['wall'][most]:.1f}",
        ]
        for name, each in workload["contenders"].items()
    ]


def draw(name: str, workload: dict[str, Any]) -> None:
    """Draw the marginal cost of each contender."""
    import matplotlib as mpl  # noqa: PLC0415 - after the measuring

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = NAME  # the same figures, the same file
    from matplotlib import pyplot as plt  # noqa: PLC0415

    names = list(workload["contenders"])[::-1]
    costs = [workload["contenders"][each]["b"] for each in names]
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(names) + 1.1))
    colours = ["tab:blue" if each.startswith("lakescore") else "tab:gray" for each in names]
    axes.bar_label(axes.barh(names, costs, color=colours), fmt="%.2f", padding=3)
    axes.set_xlabel(f"CPU seconds per million rows more ({name})")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1)
    figure.tight_layout()
    figure.savefig(RESULTS / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def check_targets() -> int:
    """Print each target with what the last run measured; return 1 where one is missed."""
    results = json.loads((RESULTS / "results.json").read_text())["workloads"]
    lin, trees = results["linear"], results["forest"]
    b = {name: each["b"] for name, each in lin["contenders"].items()}
    wall = {name: each["wall"] for name, each in lin["contenders"].items()}
    cpu = {
        name: statistics.median(c for c, _ in each["seconds"][str(lin["sizes"][-1])])
        for name, each in lin["contenders"].items()
    }
    dear = {name: each["b"] for name, each in trees["contenders"].items()}
    direct, scanned = "lakescore, arrow, direct scan", "lakescore, arrow, Spark scan"
    docs, pruned = "spark_udf, MLflow's docs", "spark_udf, pruned columns"
    loads = lin["loads"]
    small = str(SMALL)
    targets: list[tuple[str, float | None, str, float]] = [
        ("linear, direct scan / limit", b[direct] / b["limit"], "<=", 1.5),
        ("linear, pruned spark_udf / direct scan", b[pruned] / b[direct], ">=", 12),
        (
            "linear, direct scan / Spark with no model",
            b[direct] / b["Spark with no model"],
            "<=",
            1,
        ),
        ("linear, pruned spark_udf / Spark scan", b[pruned] / b[scanned], ">=", 3),
        ("linear, spark_udf of the docs / direct scan", b[docs] / b[direct], ">=", 15),
        (
            "linear, Spark scan / mapInArrow by hand",
            b[scanned] / b["mapInArrow by hand"],
            "<=",
            1.05,
        ),
        ("forest, rate of direct scan / limit", dear["limit"] / dear[direct], ">=", 0.95),
        ("linear, T(K=4) / T(1)", cpu[f"{direct}, 4 versions"] / cpu[direct], "<=", 1.3),
        (
            "loads a worker and version",
            loads["loads"] / loads["workers"] / loads["versions"],
            "<=",
            1,
        ),
        (
            "small table, s over the bare Spark write",
            wall[direct][small] - wall["Spark with no model"][small],
            "<=",
            2,
        ),
        ("forest, efficiency from one core to two", None, ">=", 0.92),
        ("flights, pruned spark_udf / ours", None, ">=", 1.5),
    ]
    table = Table("quantity", "measured", "to reach", "")
    missed = 0
    for quantity, value, sign, bound in targets:
        good = value is not None and (value <= bound if sign == "<=" else value >= bound)
        missed += not good
        shown = "not measured" if value is None else f"{value:.2f}"
        table.add_row(quantity, shown, f"{sign} {bound:g}", "reached" if good else "missed")
    console.print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    main()
