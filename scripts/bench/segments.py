"""One model per segment: a thousand versions, and one version, score the same rows."""

import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import cloudpickle
import numpy as np
import pyarrow as pa
import yaml
from deltalake import DeltaTable, write_deltalake

from bench.starting import LARGE, ROOT, timed
from bench.workloads import KEY, NAME, NUMBERS, WORKLOADS

ONE, MANY = "one model", "one model per segment"
SEGMENTS = 1_000
_LINEAR = WORKLOADS["linear"]
_SEGMENT = "store"
_FILES = 8
_MEMORY = Path("/dev/shm")  # noqa: S108 - what is made there has a name of its own


def measure(folder: Path, rounds: int, *, quick: bool) -> dict[str, Any]:
    """Score the same rows with one model, and with one model per segment, *rounds* times in turn.

    Private copies of models lie in memory, for both: to make a file takes a millisecond on some
    disks, and a thousand models have five thousand.

    Returns:
        `segments`, `rows`, and by command the wall and the CPU seconds of each round.
    """
    segments = SEGMENTS // 10 if quick else SEGMENTS
    coefficients = _register(segments)
    table = _write(folder / "segments", segments)
    output = folder / "segmented"
    commands = {
        ONE: _command(folder, "one", f"{NAME}-linear/1", table, output),
        MANY: _command(
            folder,
            "many",
            {"by": _SEGMENT, "name": f"{NAME}-{{{_SEGMENT}}}@live"},
            table,
            output,
        ),
    }
    if _MEMORY.is_dir():
        os.environ["TMPDIR"] = str(_MEMORY)
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, words in commands.items():
            shutil.rmtree(output, ignore_errors=True)
            costs[name].append(timed(words))
    os.environ.pop("TMPDIR", None)
    _check_equal(table, output, coefficients)
    return {
        "segments": segments,
        "rows": LARGE,
        "commands": {
            name: dict(zip(("wall", "cpu"), zip(*pairs, strict=True), strict=True))
            for name, pairs in costs.items()
        },
    }


def _command(folder: Path, name: str, model: object, table: str, output: Path) -> list[str]:
    job = {
        "model": model,
        "input": {"path": table},
        "output": {"path": str(output)},
        "id_columns": [KEY],
        "experiment": NAME,
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(job))
    return [str(ROOT / "spark-submit.sh"), "score", str(file)]


def _register(segments: int) -> np.ndarray[Any, Any]:
    """Register so many linear models, and return their coefficients, the intercept last.

    Each has files of its own, made after those of the linear workload's: to log a thousand models
    takes minutes.
    """
    import mlflow  # noqa: PLC0415 - after LAKESCORE_HOME

    client = mlflow.MlflowClient()
    known = client.get_model_version(f"{NAME}-linear", "1")
    template = client.get_logged_model(str(known.source).rpartition("/")[2])
    files = Path(unquote(urlsplit(template.artifact_location).path))
    estimator = _LINEAR.estimator()
    drawn = np.random.default_rng(7).normal(size=(segments, len(NUMBERS) + 1))
    for number, values in enumerate(drawn):
        logged = client.create_logged_model(template.experiment_id, name="model")
        folder = Path(unquote(urlsplit(logged.artifact_location).path))
        shutil.copytree(files, folder, dirs_exist_ok=True)
        card = (files / "MLmodel").read_text()
        (folder / "MLmodel").write_text(card.replace(template.model_id, logged.model_id))
        estimator.coef_, estimator.intercept_ = values[:-1], float(values[-1])
        (folder / "model.pkl").write_bytes(cloudpickle.dumps(estimator))
        name = f"{NAME}-{number}"
        client.create_registered_model(name)
        client.create_model_version(name, f"models:/{logged.model_id}", model_id=logged.model_id)
        client.set_registered_model_alias(name, "live", "1")
    return drawn


def _write(path: Path, segments: int) -> str:
    """Write the rows, with segments drawn at random, and return the table's path."""
    random = np.random.default_rng(8)
    rows_a_file = LARGE // _FILES
    for n in range(_FILES):
        rows = _LINEAR.rows(rows_a_file, n)
        ids = pa.array(np.arange(n * rows_a_file, (n + 1) * rows_a_file), pa.int64())
        drawn = pa.array(random.integers(0, segments, rows_a_file))
        named = rows.add_column(0, KEY, ids).append_column(_SEGMENT, drawn)
        write_deltalake(str(path), named, mode="append")
    return str(path)


def _check_equal(table: str, output: Path, coefficients: np.ndarray[Any, Any]) -> None:
    """See that each row has what its own segment's coefficients give."""
    rows = DeltaTable(table).to_pandas().set_index(KEY)
    predictions = DeltaTable(str(output)).to_pandas().set_index(KEY).loc[rows.index]
    own = coefficients[rows[_SEGMENT]]
    expected = (rows[list(NUMBERS)].to_numpy() * own[:, :-1]).sum(axis=1) + own[:, -1]
    wrong = np.abs(predictions["prediction"] - expected) > 1e-9 * np.maximum(1, np.abs(expected))
    named = predictions["model_uri"] != [f"models:/{NAME}-{n}/1" for n in rows[_SEGMENT]]
    if len(predictions) != LARGE or wrong.any() or named.any():
        raise SystemExit(f"error: {wrong.sum()} predictions and {named.sum()} versions are wrong")
