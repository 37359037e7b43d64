"""One real registry for the session: MLflow's SQLite store, filled once, read by many tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from builders.models import (
    delay_model,
    flights,
    own_home,
    register,
    stored_artifacts,
    tracking_store,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient

Golden = Callable[[str, str], None]
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Registry:
    """The store, its client, and the folder that is LAKESCORE_HOME."""

    uri: str
    home: Path
    client: MlflowClient

    def files(self, name: str, version: int) -> Path:
        """Return the folder in which the store keeps the version's files."""
        return stored_artifacts(self.client, name, version)


@pytest.fixture
def golden() -> Golden:
    """Return a check that a text is exactly that of golden/NAME.txt.

    `UPDATE_GOLDEN=1 pytest` writes the files instead. The repository's folder reads REPOSITORY.
    """

    def check(name: str, text: str) -> None:
        file = Path(__file__).parent / "golden" / f"{name}.txt"
        text = text.replace(str(_ROOT), "REPOSITORY")
        if os.environ.get("UPDATE_GOLDEN"):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert text == file.read_text(encoding="utf-8")

    return check


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Yield a registry that holds these models; tests that change a version register their own.

    flight-delay: 1 ridge, 2 forest, 3 boosting (champion), 4 deleted, 5 a tie with 3 by rmse.
    crew@night: one version; its name holds an `@`. unsigned: logged without a signature.
    """
    import mlflow

    home = tmp_path_factory.mktemp("home")
    with own_home(home):
        uri = tracking_store(home)
        client = mlflow.MlflowClient()
        _fill(client)
        yield Registry(uri, home, client)


def _fill(client: MlflowClient) -> None:
    rows = [  # name of the run, params, metrics, tags
        ("ridge", {"alpha": 0.5}, {"rmse": 18.25, "mae": 12.0}, {"kind": "linear"}),
        ("forest", {"trees": 40}, {"rmse": 16.5, "mae": 11.0}, {"kind": "trees", "my key": "a b"}),
        ("boosting", {"trees": 100}, {"rmse": 15.75, "mae": 10.5}, {"kind": "trees"}),
        ("withdrawn", {}, {"rmse": 1.0}, {}),
        ("boosting again", {"trees": 100}, {"rmse": 15.75}, {"kind": "trees", "team": "ops"}),
    ]
    for run_name, params, metrics, tags in rows:
        register("flight-delay", run_name=run_name, params=params, metrics=metrics, tags=tags)
    client.delete_model_version("flight-delay", "4")
    client.set_registered_model_alias("flight-delay", "champion", "3")
    client.set_registered_model_alias("flight-delay", "stable", "3")
    client.set_registered_model_alias("flight-delay", "challenger", "2")
    crew, rows = delay_model(("dep_delay",)), flights()[["dep_delay"]]
    register("crew@night", crew, rows, run_name="crew", metrics={"rmse": 20.0})
    client.set_registered_model_alias("crew@night", "champion", "1")
    register("unsigned", run_name="no signature", signature=None)
