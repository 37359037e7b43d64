"""The benchmark of comparing: what several versions of a linear model cost against one.

CPU seconds of the whole process tree, warm, rounds interleaved; a line T = a + b n over two sizes.
Writes docs/benchmark/compare.md.
"""

import logging
import os
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake
from pyspark.sql import SparkSession
from rich.console import Console

from lakescore import comparing, registry, scoring, signature
from lakescore.loading import prepare
from lakescore.options import BindOptions, CompareOptions
from lakescore.session import start

ROOT = Path(__file__).parents[1]
NAME = "bench-compare"
FEATURES = [f"x{n:02}" for n in range(20)]
FILES = 8
SIZES = (200_000, 1_000_000)
ROUNDS = 2
VERSIONS = (1, 2, 4, 8)

console = Console(highlight=False)


def main() -> None:
    """Run it and write the table."""
    folder = Path(tempfile.mkdtemp(prefix="lakescore-bench-"))
    os.environ["LAKESCORE_HOME"] = str(folder)
    seconds: dict[tuple[int, int], list[float]] = {}
    try:
        register()
        spark = start("lakescore bench", properties=ROOT / "conf" / "spark" / "local.conf")
        inputs = {rows: make_table(folder / f"input-{rows}", rows) for rows in SIZES}
        references = [f"{NAME}/{n}" for n in range(1, VERSIONS[-1] + 1)]
        for turn in range(ROUNDS + 1):
            for rows in SIZES:
                for versions in VERSIONS if turn % 2 else VERSIONS[::-1]:
                    before = cpu_of_tree()
                    compare(spark, references[:versions], inputs[rows])
                    if turn:  # the first round warms up
                        seconds.setdefault((versions, rows), []).append(cpu_of_tree() - before)
            console.print(f"bench: compare, round {turn} of {ROUNDS}")
        spark.stop()
    finally:
        shutil.rmtree(folder)
    write(seconds)


def compare(spark: SparkSession, references: list[str], source: str) -> None:
    """Compare as the job does, up to the ranking."""
    rows = spark.read.format("delta").load(source)
    labelled = comparing.select(rows, "y")
    candidates = comparing.pin_candidates(references).assign(source, labelled, "y")
    contracts = [
        signature.bind(source, rows, prepare(m), options=BindOptions(read=("y",)))
        for m in candidates.models.values()
    ]
    planned = scoring.plan("arrow", labelled, contracts, keep=[comparing.LABEL, "id"])
    options = CompareOptions(label="y", keys=("id",))
    with comparing.compare(planned, candidates, options) as comparison:
        console.print(comparing.decide(comparison, None).sentence, style="dim")


def register() -> None:
    """Register the versions, each fitted on rows of its own."""
    import mlflow  # noqa: PLC0415 - after LAKESCORE_HOME
    from mlflow.models import infer_signature  # noqa: PLC0415
    from sklearn.linear_model import LinearRegression  # noqa: PLC0415

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    registry.experiment(NAME)
    for seed in range(VERSIONS[-1]):
        rows = features(500, seed).to_pandas()
        noise = np.random.default_rng(seed).normal(size=len(rows))
        model = LinearRegression().fit(rows, rows.sum(axis=1) + noise)
        with mlflow.start_run():
            logged = mlflow.sklearn.log_model(
                model,
                name="model",
                signature=infer_signature(rows, model.predict(rows)),
                serialization_format="cloudpickle",
                pip_requirements=["scikit-learn"],
            )
        mlflow.register_model(logged.model_uri, NAME)


def make_table(path: Path, rows: int) -> str:
    """Write a Delta table of *rows* in several files: key, features, label."""
    rows_a_file = rows // FILES
    for n in range(FILES):
        table = features(rows_a_file, seed=100 + n)
        random = np.random.default_rng(n)
        label = np.sum([c.to_numpy() for c in table.columns], axis=0)
        label += random.normal(size=rows_a_file)
        ids = pa.array(np.arange(n * rows_a_file, (n + 1) * rows_a_file))
        table = table.append_column("y", pa.array(label)).add_column(0, "id", ids)
        write_deltalake(str(path), table, mode="append")
    return str(path)


def features(rows: int, seed: int) -> pa.Table:
    """Return random doubles, which do not compress."""
    random = np.random.default_rng(seed)
    return pa.table({name: random.normal(size=rows) for name in FEATURES})


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


def write(measured: dict[tuple[int, int], list[float]]) -> None:
    """Write the table."""
    small, large = SIZES
    cpu = {key: statistics.median(seconds) for key, seconds in measured.items()}
    slope = {k: (cpu[k, large] - cpu[k, small]) / (large - small) * 1e6 for k in VERSIONS}
    text = (
        "`python scripts/bench_compare.py`: a linear model of 20 doubles, all metrics of a "
        f"regression, 400 bootstraps; CPU seconds of all processes on "
        f"{os.cpu_count()} cores, median of {ROUNDS} warm rounds."
    )
    lines = [
        "# What comparing costs",
        "",
        text,
        "",
        f"| versions | {small:,} rows | {large:,} rows | a million rows more |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {k} | {cpu[k, small]:.1f} | {cpu[k, large]:.1f} | {slope[k]:.2f} |" for k in slope
    ]
    for k in VERSIONS[1:]:
        ratios = [cpu[k, rows] / cpu[1, rows] for rows in SIZES]
        lines += [f"| {k} / 1 | {ratios[0]:.2f} | {ratios[1]:.2f} | {slope[k] / slope[1]:.2f} |"]
    path = ROOT / "docs" / "benchmark" / "compare.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    console.print(path.read_text())


if __name__ == "__main__":
    main()
