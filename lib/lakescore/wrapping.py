"""Wrapping: our own model holds a version, so that MLflow's spark_udf gives the same values.

MLflow's function makes texts of missing labels, takes the leftmost column that could be meant,
and rounds if it casts. So it gets a model with our loader. The loader applies the version, checks
the predictions against the signature with the code of the arrow engine, and gives columns that
MLflow cannot confuse. A version that brings its own code is applied in its own process, as in the
arrow engine.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pyspark.sql import functions as F  # noqa: N812 - its usual name
from pyspark.sql.types import (
    BooleanType,
    DataType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
)

from lakescore import executor
from lakescore.executor.wrapped import KEY
from lakescore.home import scratch

if TYPE_CHECKING:
    from pyspark.sql import Column

_SCALARS = (BooleanType, DoubleType, FloatType, IntegerType, LongType, StringType)
_FIELDS = {
    "uri", "key", "mode", "pickled", "library", "settings", "method", "features", "takes", "shapes",
    "outputs", "params", "names", "program",
}  # fmt: skip
"""The fields of a version that do not depend on the worker. Spark applies the rules for nulls."""
_ENVIRONMENT = ("conda.yaml", "python_env.yaml", "requirements.txt")
"""The files from which MLflow makes an environment for a model."""


def wrap(version: executor.Version) -> Path:
    """Return the folder of a model that applies *version* and returns the columns of `given`."""
    fields = {name: value for name, value in version.fields().items() if name in _FIELDS}
    # The key stands for files and options; features and outputs depend on the table.
    facts = [version.mode, version.method, version.features, version.takes, version.shapes]
    bound = json.dumps([*facts, str(version.outputs), version.names], default=str)
    digest = hashlib.sha256(f"{version.key} {version.folder} {bound}".encode()).hexdigest()
    folder = scratch() / digest[:32]
    if folder.is_dir():
        return folder
    making = Path(tempfile.mkdtemp(dir=scratch())) / "model"
    making.mkdir()
    source = Path(version.folder)
    shutil.copytree(source, making / "model", copy_function=_link)
    (making / "version.pkl").write_bytes(pickle.dumps(fields))
    code = making / "code" / executor.PACKAGE
    code.mkdir(parents=True)
    for name, text in executor.read_sources().items():
        (code / name).write_text(text, encoding="utf-8")
    for name in _ENVIRONMENT:
        if (source / name).is_file():
            shutil.copy(source / name, making / name)
    card = yaml.safe_load((source / "MLmodel").read_text(encoding="utf-8"))
    flavor = card["flavors"]["python_function"]
    loader = {
        "loader_module": f"{executor.PACKAGE}.wrapped",
        "code": "code",
        **{name: flavor[name] for name in ("env", "python_version") if name in flavor},
    }
    kept = {name: card[name] for name in ("mlflow_version", "model_uuid") if name in card}
    mlmodel = yaml.safe_dump({"flavors": {"python_function": loader}, **kept})
    (making / "MLmodel").write_text(mlmodel, encoding="utf-8")
    return making.rename(folder)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
    return target


def given(outputs: StructType) -> StructType:
    """Return the columns of a wrapped version: each of *outputs*, and whether it is null.

    MLflow's function casts values, and replaces nulls. A value that is not a number, boolean or
    text comes as JSON.
    """
    fields = []
    for n, output in enumerate(outputs):
        kind = output.dataType if isinstance(output.dataType, _SCALARS) else StringType()
        fields += [StructField(f"v{n}", kind), StructField(f"n{n}", BooleanType())]
    return StructType(fields)


def unwrapped(predicted: Column, outputs: StructType) -> Column:
    """Return *outputs*, or the only one of them, from a column with the fields of `given`."""
    return F.transform(
        F.array(predicted),  # so that Spark evaluates it once
        lambda row: _join_columns(
            [
                F.when(~row[f"n{n}"], _parse_value(row[f"v{n}"], output.dataType)).alias(
                    output.name
                )
                for n, output in enumerate(outputs)
            ]
        ),
    )[0]


def _join_columns(columns: list[Column]) -> Column:
    return columns[0] if len(columns) == 1 else F.struct(*columns)


def _parse_value(value: Column, kind: DataType) -> Column:
    if isinstance(kind, _SCALARS):
        return value
    schema = StructType([StructField(KEY, kind)])
    return F.from_json(value, schema, {"mode": "FAILFAST"})[KEY]
