"""Wrapping: a version in a model of our own, so that MLflow's spark_udf answers as the others do.

MLflow's function makes texts of missing labels, takes the leftmost column that could be meant,
and rounds where it casts. So it is handed a model whose loader is ours: it applies the version,
holds what comes against the signature by the very code of the arrow engine, and gives columns that
MLflow cannot take for others. A version that brings code of its own is applied in a process of its
own, as there.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
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

_PACKAGE = "lakescore_executor"
_SCALARS = (BooleanType, DoubleType, FloatType, IntegerType, LongType, StringType)
_ENVIRONMENT = ("conda.yaml", "python_env.yaml", "requirements.txt")
"""The files by which MLflow makes an environment for a model."""


def wrap(version: executor.Version) -> Path:
    """Return the folder of a model that applies *version* and gives the columns of `given`."""
    facts = {
        "uri": version.uri,
        "key": version.key,
        "mode": version.mode,
        "pickled": version.pickled,
        "features": version.features,
        "outputs": version.outputs.serialize().to_pybytes(),
        "params": version.params,
        "names": version.names,
        "program": version.program,
    }
    # The key tells files and options; what is bound to a table comes from features and outputs.
    bound = json.dumps([version.features, str(version.outputs), version.names], default=str)
    digest = hashlib.sha256(f"{version.key} {version.folder} {bound}".encode()).hexdigest()
    folder = scratch() / digest[:32]
    if folder.is_dir():
        return folder
    making = Path(tempfile.mkdtemp(dir=scratch())) / "model"
    making.mkdir()
    source = Path(version.folder)
    shutil.copytree(source, making / "model", copy_function=_linked)
    (making / "version.pkl").write_bytes(pickle.dumps(facts))
    code = making / "code" / _PACKAGE
    code.mkdir(parents=True)
    for module in resources.files(executor).iterdir():  # of a zip, perhaps
        if module.name.endswith(".py"):
            (code / module.name).write_bytes(module.read_bytes())
    for name in _ENVIRONMENT:
        if (source / name).is_file():
            shutil.copy(source / name, making / name)
    card = yaml.safe_load((source / "MLmodel").read_text(encoding="utf-8"))
    own = card["flavors"]["python_function"]
    loader = {
        "loader_module": f"{_PACKAGE}.wrapped",
        "code": "code",
        **{name: own[name] for name in ("env", "python_version") if name in own},
    }
    kept = {name: card[name] for name in ("mlflow_version", "model_uuid") if name in card}
    mlmodel = yaml.safe_dump({"flavors": {"python_function": loader}, **kept})
    (making / "MLmodel").write_text(mlmodel, encoding="utf-8")
    return making.rename(folder)


def _linked(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
    return target


def given(outputs: StructType) -> StructType:
    """Return what a wrapped version gives for *outputs*: a value and whether it is null, each.

    MLflow's function casts values, and makes something of nulls. What is no number, boolean or text
    comes as JSON.
    """
    fields = []
    for n, output in enumerate(outputs):
        kind = output.dataType if isinstance(output.dataType, _SCALARS) else StringType()
        fields += [StructField(f"v{n}", kind), StructField(f"n{n}", BooleanType())]
    return StructType(fields)


def unwrapped(predicted: Column, outputs: StructType) -> Column:
    """Return *outputs*, or the only one of them, of a column that holds what `given` says."""
    return F.transform(
        F.array(predicted),  # so that Spark evaluates it once
        lambda row: _only(
            [
                F.when(~row[f"n{n}"], _value(row[f"v{n}"], output.dataType)).alias(output.name)
                for n, output in enumerate(outputs)
            ]
        ),
    )[0]


def _only(columns: list[Column]) -> Column:
    return columns[0] if len(columns) == 1 else F.struct(*columns)


def _value(value: Column, kind: DataType) -> Column:
    if isinstance(kind, _SCALARS):
        return value
    schema = StructType([StructField(KEY, kind)])
    return F.from_json(value, schema, {"mode": "FAILFAST"})[KEY]
