"""Imports the modules of most jobs once, for all forks of the process that imports this."""

from __future__ import annotations

import importlib
from contextlib import suppress

_NAMES = (
    "deltalake",
    "git",  # MLflow asks it for the commit of the program
    "lakescore.job",
    "lakescore.lineage",
    "lakescore.loading",
    "lakescore.publishing",
    "lakescore.receipt",
    "lakescore.registry",
    "lakescore.scoring",
    "mlflow.pyfunc",
    "mlflow.sklearn",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.tracing.processor.base_mlflow",
    "pyarrow.pandas_compat",
    "skops.io",  # MLflow's format for models of scikit-learn
    "sklearn.ensemble",
    "sqlalchemy.dialects.sqlite",
)

for _name in _NAMES:
    with suppress(Exception):  # a job that needs the module reports the error
        importlib.import_module(_name)
