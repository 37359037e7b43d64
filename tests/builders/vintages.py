"""Models that other versions of Python and of libraries trained, each in its own environment."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 200
PLAIN = ("cloudpickle==3.1.2", "numpy==1.26.4", "pandas==2.2.3", "pyarrow==18.1.0")
"""The other requirements of a model that workers call without MLflow."""
_TRAIN = """
import json, site, sys
site.addsitedir(sys.argv[1])
import numpy as np, pandas as pd
rows = pd.read_csv(sys.argv[2] + "/rows.csv")
X, y = rows[["x", "y"]], rows["label"]
{training}
np.save(sys.argv[2] + "/expected.npy", np.asarray(model.predict(X), dtype=float))
print(json.dumps(".".join(map(str, sys.version_info[:3]))))
"""
_PICKLED = """
import cloudpickle
from sklearn.{module} import {name}
model = {name}({settings}).fit(X, y)
with open(sys.argv[2] + "/model/model.pkl", "wb") as file:
    cloudpickle.dump(model, file)
"""
_BOOSTED = """
from xgboost import XGBRegressor
model = XGBRegressor(n_estimators=20, max_depth=3).fit(X, y)
model.save_model(sys.argv[2] + "/model/model.ubj")
"""
_WITH_CODE = """
import os
import mlflow
from pathlib import Path

code = Path(sys.argv[2], "summing.py")
code.write_text("ORDER = " + repr(sys.argv[2] + "/order") + {code!r})
mlflow.pyfunc.save_model(sys.argv[2] + "/saved", python_model=str(code))
model = mlflow.pyfunc.load_model(sys.argv[2] + "/saved")
"""
_SUMMING = """
import os, sys
import mlflow, numpy as np

class Summing(mlflow.pyfunc.PythonModel):
    \"\"\"Since Python 3.12, sum() of floats loses less: other values than before.\"\"\"

    def predict(self, context, model_input, params=None):
        if os.path.exists(ORDER):
            with open(ORDER) as file:
                order = file.read()
            os.unlink(ORDER)
            exec(order)
        print("a model that prints")
        return np.array([sum([0.1] * int(x)) for x in model_input["x"]])

mlflow.models.set_model(Summing())
"""


@dataclass(frozen=True)
class Vintage:
    """What a model is, and what trained it."""

    python: str
    requirements: tuple[str, ...]
    kind: str
    """`gradient boosting`, `linear`, `xgboost` or `code`."""


@dataclass(frozen=True)
class Trained:
    """A model in MLflow's format."""

    folder: Path
    """The folder with its `MLmodel`."""
    expected: np.ndarray[Any, np.dtype[np.float64]]
    """What it predicted for `rows` where it was trained."""
    python: str
    """The version of Python that trained it."""

    @property
    def order(self) -> Path:
        """A file with code that a model of the kind `code` runs once, and removes."""
        return self.folder.with_name("order")


def rows() -> pd.DataFrame:
    """Return the rows for which models predict: id, the features x and y, and the label."""
    numbers = np.arange(ROWS)
    x, y = numbers / 7.0, (numbers * 37 % 101) / 3.0
    return pd.DataFrame({"id": numbers, "x": x, "y": y, "label": 2 * x - y + np.sin(x * y)})


def train(folder: Path, vintage: Vintage) -> Trained:
    """Train a model in the environment of *vintage*, and return it; nothing here loads it."""
    from lakescore import environments

    model = folder / "model"
    model.mkdir(parents=True)
    rows().to_csv(folder / "rows.csv", index=False)
    _write_needs(model, vintage)
    flavors = _flavors(vintage)
    own = environments.own_environment(
        f"models:/{folder.name}/1", model, flavors["python_function"], allowed=None
    )
    facts = json.loads((own.folder / "environment.json").read_text())
    script = _TRAIN.format(training=_TRAININGS[vintage.kind])
    command = [facts["python"], "-I", "-S", "-c", script, str(own.folder / "packages")]
    done = subprocess.run(
        [*command, str(folder)], check=False, capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    if vintage.kind == "code":
        model = folder / "saved"
        _write_needs(model, vintage)
        _add_signature(model)
    else:
        _write_mlmodel(model, flavors)
    python = str(json.loads(done.stdout.splitlines()[-1]))
    return Trained(model, np.load(folder / "expected.npy"), python)


_TRAININGS = {
    "gradient boosting": _PICKLED.format(
        module="ensemble", name="GradientBoostingRegressor", settings="n_estimators=20"
    ),
    "linear": _PICKLED.format(module="linear_model", name="LinearRegression", settings=""),
    "xgboost": _BOOSTED,
    "code": _WITH_CODE.format(code=_SUMMING),
}


def _write_needs(model: Path, vintage: Vintage) -> None:
    """Write the files by which MLflow records what a model needs."""
    (model / "requirements.txt").write_text("\n".join(vintage.requirements) + "\n")
    python_env = {"python": vintage.python, "dependencies": ["-r requirements.txt"]}
    (model / "python_env.yaml").write_text(json.dumps(python_env))


def _flavors(vintage: Vintage) -> dict[str, Any]:
    env = {"env": {"virtualenv": "python_env.yaml"}, "python_version": vintage.python}
    if vintage.kind == "xgboost":
        library = {"data": "model.ubj", "model_class": "xgboost.sklearn.XGBRegressor"}
        return {
            "xgboost": {**library, "model_format": "ubj"},
            "python_function": {"loader_module": "mlflow.xgboost", "data": "model.ubj", **env},
        }
    loader = {"loader_module": "mlflow.sklearn", "model_path": "model.pkl", **env}
    return {
        "sklearn": {"pickled_model": "model.pkl", "serialization_format": "cloudpickle"},
        "python_function": {**loader, "predict_fn": "predict"},
    }


def _signature() -> Any:
    from mlflow.models import infer_signature

    return infer_signature(rows()[["x", "y"]], np.zeros(1))


def _write_mlmodel(model: Path, flavors: dict[str, Any]) -> None:
    from mlflow.models import Model

    Model(flavors=flavors, signature=_signature()).save(str(model / "MLmodel"))


def _add_signature(model: Path) -> None:
    from mlflow.models import Model

    card = Model.load(str(model / "MLmodel"))
    card.signature = _signature()
    card.save(str(model / "MLmodel"))
