"""The registry's behaviours on both kinds of store: embedded SQLite, and a server on PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from builders.models import EXPERIMENT, own_home, tracking_store
from stores import mlflow_server, postgresql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Store:
    """A store that is up: its URI, a client of MLflow's own, and the folder for what it logs."""

    kind: str
    uri: str
    client: MlflowClient
    folder: Path
    database: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it."""
        return os.environ | {"MLFLOW_TRACKING_URI": self.uri, "LAKESCORE_HOME": str(self.folder)}

    def requests(self) -> list[str]:
        """Return the requests that the server has answered so far, such as `POST /api/...`."""
        lines = (self.folder / "server.log").read_text().splitlines()
        return [line.split('"')[1].rpartition(" ")[0] for line in lines if ' - "' in line]

    def start(self, code: str) -> subprocess.Popen[str]:
        """Start Python with *code* in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", code],
            env=self.environment,
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


@pytest.fixture(scope="session", params=["sqlite", "server"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """Yield a store; it is the process's own until all tests on it are done."""
    import mlflow

    folder = tmp_path_factory.mktemp(request.param)
    with own_home(folder), ExitStack() as processes:
        if request.param == "sqlite":
            uri = database = tracking_store(folder)
        else:
            data = tmp_path_factory.mktemp("postgresql")
            database = processes.enter_context(postgresql(data))
            uri = processes.enter_context(mlflow_server(database, folder))
            mlflow.set_tracking_uri(uri)
            mlflow.set_experiment(EXPERIMENT)
        yield Store(request.param, uri, mlflow.MlflowClient(), folder, database)


@pytest.fixture
def name(store: Store, request: pytest.FixtureRequest) -> str:  # noqa: ARG001 - where it is a name
    """Return a registered model's name, in the store, that is this test's own."""
    return request.node.originalname.removeprefix("test_")[:60]
