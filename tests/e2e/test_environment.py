"""A version that asks for other libraries than this machine has, with wheels as published."""

from __future__ import annotations

import json
import pickle
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from builders.models import delay_model, flights, own_home, tracking_store
from typer.testing import CliRunner

from lakescore import registry
from lakescore.cli import app

if TYPE_CHECKING:
    from collections.abc import Iterator

PINS = ("scikit-learn==1.5.2", "numpy==2.1.2", "pandas==2.2.3", "cloudpickle==3.0.0")
TRAIN = """
import site, sys
site.addsitedir("packages")
import cloudpickle, pandas, pyarrow
from sklearn.ensemble import GradientBoostingRegressor
rows = pandas.read_json(sys.argv[1])
inputs = rows[["dep_delay", "distance"]]
model = GradientBoostingRegressor(n_estimators=2, max_depth=2, random_state=1)
model.fit(inputs, rows["arr_delay"])
with open(sys.argv[2], "wb") as file:
    cloudpickle.dump(model, file)
print([round(value, 6) for value in model.predict(inputs).tolist()])
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the data folder of a registry that has one version, `delay/1`."""
    import mlflow
    from mlflow.models import infer_signature

    monkeypatch.delenv("LAKESCORE_TRUST", raising=False)
    inputs = flights()[["dep_delay", "distance"]]
    with own_home(tmp_path):
        tracking_store(tmp_path)
        mlflow.sklearn.save_model(
            delay_model(),
            tmp_path / "model",
            signature=infer_signature(inputs, delay_model().predict(inputs)),
            pip_requirements=[],
        )
        (tmp_path / "model" / "requirements.txt").write_text("\n".join(PINS))
        registry.register(str(tmp_path / "model"), "delay")
        yield tmp_path


def environment(*words: str) -> dict[str, Any]:
    said = CliRunner().invoke(app, ["environment", "delay/1", *words, "--json"])
    assert said.exit_code == 0, said.output
    return dict(json.loads(said.stdout))


def test_the_libraries_of_a_version_calculate_in_its_own_environment(home: Path) -> None:
    shown = environment()
    assert (shown["auto"], shown["environment"]) == ("own", None)
    assert "scikit-learn==1.5.2" in shown["reason"]
    made = environment("--build")["environment"]
    assert {f"{name}=={at}" for name, at in made["packages"].items()} >= set(PINS)
    folder = Path(made["folder"])
    python = json.loads((folder / "environment.json").read_text())["python"]
    (home / "rows.json").write_text(flights().to_json())
    command = [python, "-I", "-S", "-c", TRAIN, home / "rows.json", home / "model.pkl"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout) == [
        *(13.82275, 8.19875, 13.82275, 13.82275),
        *(13.82275, 25.48875, 13.82275, 8.19875),
    ], done.stderr
    with pytest.raises(ModuleNotFoundError), (home / "model.pkl").open("rb") as file:
        pickle.load(file)  # noqa: S301 - the test's own model
    assert environment()["environment"] == made  # the caches that Python wrote are no change
