"""Isolation: what is labelled version 2 was computed by version 2 alone, whatever ran before it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from lakescore import scoring, signature
from lakescore.errors import ScoringFailed
from lakescore.loading import prepare
from lakescore.registry import resolve

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

Engine = Literal["arrow", "spark_udf"]
X = pd.DataFrame({"x": [1.0, 2.0, 3.0]})
FACTORS = {1: 2.0, 2: 3.0}
"""What each version multiplies by."""


class Shaped(mlflow.pyfunc.PythonModel):
    """Both versions ship a module of one name."""

    def load_context(self, context: Any) -> None:  # noqa: ARG002
        import shop_features

        self.shape = shop_features.shape

    def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
        return self.shape(model_input["x"])


class Leaky(mlflow.pyfunc.PythonModel):
    """Leave in the process what a second version would meet there, and read what is met."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def load_context(self, context: Any) -> None:  # noqa: ARG002
        import sys
        import warnings

        import joblib
        import matplotlib as mpl

        self.met = (
            os.environ.get("LEAKY_FACTOR"),
            os.path.basename(os.getcwd()) == "leaky",  # noqa: PTH109, PTH119
            "/leaky" in sys.path,
            any("leaky" in str(one) for one in warnings.filters),
            mpl.rcParams["figure.dpi"] == 77,
            joblib.parallel.DEFAULT_BACKEND,
        )
        os.environ["LEAKY_FACTOR"] = "1"
        os.makedirs("/tmp/leaky", exist_ok=True)  # noqa: PTH103, S108
        os.chdir("/tmp/leaky")  # noqa: S108
        sys.path.append("/leaky")
        warnings.filterwarnings("ignore", message="leaky")
        mpl.rcParams["figure.dpi"] = 77
        np.random.seed(1)  # noqa: NPY002

    def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:  # noqa: ARG002
        clean = self.met[:5] == (None, False, False, False, False)
        return model_input["x"] * self.factor if clean else model_input["x"] * -1
