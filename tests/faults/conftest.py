"""Faults that really happen: a model that workers obey, and a job of one's own to break."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from clusters import PLAIN_WORKERS, QUICK, write_place
from faults.lab import ROOT, Lab, Orders
from nursery import Nursery
from nursery import nursery as started_nursery
from spark.conftest import empty_registry, register, registry, spark

from lakescore.places import read_properties

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyspark.sql import SparkSession

__all__ = ["empty_registry", "register", "registry", "spark"]  # the fixtures of tests/spark


@pytest.fixture(scope="module")
def obedient(  # noqa: C901 - the class comes along with the model, since it is a local one
    register: Any, tmp_path_factory: pytest.TempPathFactory
) -> Orders:
    """Version 1 doubles, version 2 triples, and both refuse a negative number."""
    folder = tmp_path_factory.mktemp("orders")

    class Obedient(mlflow.pyfunc.PythonModel):
        def __init__(self, factor: int) -> None:
            self.factor = factor

        def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
            import os

            # The driver tries rows first, and shall live; workers without Spark do so themselves.
            if {"SPARK_REUSE_WORKER", "OBEY"} & os.environ.keys():
                self.obey(float(model_input["x"].max()))
            if (model_input["x"] < 0).any():
                raise ValueError("a negative number")
            return self.factor * model_input["x"]

        def obey(self, largest: float) -> None:
            import os
            import resource
            import signal
            import time

            def told(order: str) -> bool:
                path = folder / order
                try:
                    meant = largest >= float(path.read_text())
                    if meant and order.endswith("once"):
                        path.unlink()
                except FileNotFoundError:  # never given, or another worker obeyed
                    return False
                return meant

            if told("die") or told("die-once"):
                starter = Path(f"/proc/{os.getppid()}/stat").read_text()
                os.kill(int(starter.split()[3]), signal.SIGKILL)  # the worker that started it
                time.sleep(600)  # it takes this process with it
            if told("die-alone") or told("die-alone-once"):
                os.kill(os.getpid(), signal.SIGKILL)
            if told("eat"):
                held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (held + 2**26, held + 2**26))
                np.ones(2**28)  # 2 GiB of numbers
            if told("hang-once"):
                time.sleep(600)
            while told("hang"):
                (folder / "hanging").touch()
                time.sleep(0.02)

    for factor in (2, 3):
        register("obedient", Obedient(factor), pd.DataFrame({"x": [1.0]}), np.array([1.0]))
    mlflow.MlflowClient().set_registered_model_alias("obedient", "champion", "1")
    return Orders(folder)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Yield what drivers are forked from: they cost no imports."""
    with (
        tempfile.TemporaryDirectory(prefix="lakescore-") as folder,
        started_nursery(Path(folder), "lakescore.preloading") as started,
    ):
        yield started


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the properties of a driver's own Spark, whose JVM lives for a few short queries."""
    # The model runs in processes of its own, one for each worker; they import what it needs.
    small = QUICK | PLAIN_WORKERS | {"spark.master": "local[1,4]"}
    properties = read_properties(ROOT / "conf/spark/local.conf") | small
    folder = tmp_path_factory.mktemp("place")
    shutil.copy(ROOT / "conf/spark/log4j2.properties", folder)
    return write_place(folder / "quick.conf", properties)


@pytest.fixture(scope="module")
def laboratory(
    spark: SparkSession, obedient: Orders, registry: str, nursery: Nursery, place: Path
) -> Callable[[Path], Lab]:
    """Return what makes a lab in a folder."""

    def make(folder: Path) -> Lab:
        made = Lab(spark, obedient, registry, nursery, place, folder)
        made.write()
        return made

    return make


@pytest.fixture
def lab(laboratory: Callable[[Path], Lab], obedient: Orders, tmp_path: Path) -> Iterator[Lab]:
    made = laboratory(tmp_path)
    yield made
    obedient.take_back()
    for driver in made.drivers:
        driver.kill()  # does nothing where it has ended
