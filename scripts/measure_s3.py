"""Measure how a table on S3 is read, by workers and by Spark: seconds in turn, and requests.

Prints a table for docs/object-storage.md. The store is moto's server on loopback, so requests cost
little, and seconds are those of clients. `conf/spark/s3.lock` must have been fetched.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import numpy as np
import pandas as pd
import pyarrow as pa
from deltalake import write_deltalake
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from lakescore.scoring import Plan

ROOT = Path(__file__).parents[1]
FILES, ROWS_A_FILE, COLUMNS, ROUNDS = 8, 250_000, 20, 5
FEATURES = [f"x{n}" for n in range(COLUMNS)]
ADDRESS = "s3a://lake/measured"


def main() -> None:
    """Serve, or measure by a server of its own."""
    if sys.argv[1:2] == ["--serve"]:
        serve(int(sys.argv[2]), Path(sys.argv[3]))
        return
    with tempfile.TemporaryDirectory(prefix="lakescore-s3-") as folder, store(Path(folder)) as log:
        fill()
        register(Path(folder))
        show(measured(log))


def serve(port: int, log: Path) -> None:
    """Serve moto's S3, and write a line for each request."""
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415 - the server's own process
        DomainDispatcherApplication,
        create_backend_app,
    )
    from werkzeug.serving import run_simple  # noqa: PLC0415

    moto = DomainDispatcherApplication(create_backend_app)
    lines = log.open("a", buffering=1)

    def answer(request: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        lines.write(f"{request['REQUEST_METHOD']} {request['PATH_INFO']}\n")
        answer: Iterable[bytes] = moto(request, respond)
        return answer

    run_simple("127.0.0.1", port, answer, threaded=True)


@contextmanager
def store(folder: Path) -> Iterator[Path]:
    """Run the server; yield the file that its requests stand in."""
    import socket  # noqa: PLC0415 - here alone

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log, printed = folder / "requests", (folder / "server.log").open("w")
    command = [sys.executable, __file__, "--serve", str(port), str(log)]
    process = subprocess.Popen(command, stdout=printed, stderr=printed)  # noqa: S603 - ours
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true",
    }  # fmt: skip
    try:
        for _ in range(300):
            try:
                urlopen(f"http://127.0.0.1:{port}/moto-api", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield log
    finally:
        process.terminate()
        process.wait()


def fill() -> None:
    """Write the table: so many files, of one row group each."""
    import boto3  # noqa: PLC0415 - seconds

    boto3.client("s3").create_bucket(Bucket="lake")
    random = np.random.default_rng(0)
    for number in range(FILES):
        columns = {name: random.normal(size=ROWS_A_FILE) for name in FEATURES}
        start = number * ROWS_A_FILE
        rows = pa.table({"id": np.arange(start, start + ROWS_A_FILE), **columns})
        write_deltalake(ADDRESS, rows, mode="append")


def register(home: Path) -> None:
    """Register `measured/1`, whose cost is little."""
    import mlflow  # noqa: PLC0415 - seconds
    from mlflow.models import infer_signature  # noqa: PLC0415
    from sklearn.linear_model import LinearRegression  # noqa: PLC0415

    mlflow.set_tracking_uri(f"sqlite:///{home / 'mlflow.db'}")
    mlflow.create_experiment("measured", artifact_location=(home / "artifacts").as_uri())
    mlflow.set_experiment("measured")
    rows = pd.DataFrame(np.eye(COLUMNS), columns=FEATURES)
    line = LinearRegression().fit(rows, np.arange(COLUMNS, dtype=float))
    with mlflow.start_run():
        logged = mlflow.sklearn.log_model(
            line, name="model", signature=infer_signature(rows, line.predict(rows)),
            pip_requirements=["scikit-learn"], serialization_format="cloudpickle",
        )  # fmt: skip
    mlflow.register_model(logged.model_uri, "measured")


def measured(log: Path) -> dict[str, tuple[list[float], list[str]]]:
    """Read in both ways in turn; return the seconds of each, and the requests of one time."""
    from lakescore import session, signature, slicing, tables  # noqa: PLC0415 - they import Spark
    from lakescore.loading import prepare  # noqa: PLC0415
    from lakescore.registry import resolve  # noqa: PLC0415
    from lakescore.scoring import plan  # noqa: PLC0415

    spark = session.start("measure", properties=ROOT / "conf/spark/s3.conf")
    source = tables.snapshot(spark, ADDRESS)
    contract = signature.bind(ADDRESS, source, prepare(resolve("measured/1")), ["id"])
    selected = slicing.select(source, None, ["all"])
    plans = {
        "workers": plan("arrow", selected, [contract], ["id"], "direct"),
        "Spark": plan("arrow", selected, [contract], ["id"], "spark"),
    }
    measured: dict[str, tuple[list[float], list[str]]] = {}
    for number in range(ROUNDS + 1):  # the first warms up
        for name, planned in plans.items():
            before, start = len(log.read_text()), time.perf_counter()
            evaluate(planned)
            seconds = time.perf_counter() - start
            asked = log.read_text()[before:].splitlines()
            if number:
                measured.setdefault(name, ([], asked))[0].append(seconds)
    spark.stop()
    return measured


def evaluate(planned: "Plan") -> None:
    """Score all rows, and keep none."""
    from lakescore.scoring import score  # noqa: PLC0415 - see above

    score(planned).write.format("noop").mode("append").save()


def show(measured: dict[str, tuple[list[float], list[str]]]) -> None:
    """Print medians, and the requests for the files of data and for the log."""
    shown = Table("read by", "s", "times Spark's", "requests a file", "others")
    by_spark = statistics.median(measured["Spark"][0])
    for name, (seconds, asked) in measured.items():
        data = [line for line in asked if re.search(r"\.parquet$", line)]
        took = statistics.median(seconds)
        shown.add_row(
            name, f"{took:.2f}", f"{took / by_spark:.2f}", f"{len(data) / FILES:.1f}",
            str(len(asked) - len(data)),
        )  # fmt: skip
    Console().print(shown)


if __name__ == "__main__":
    main()
