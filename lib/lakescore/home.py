"""The folder in which lakescore keeps its data unless the configuration names other places.

`LAKESCORE_HOME` names it; the default is `./.lakescore`. It holds the embedded MLflow store
(`mlflow.db`, `artifacts/`) and the tables whose paths are relative (`tables/`).
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path


def home() -> Path:
    """Return the data folder as an absolute path, whether or not it exists."""
    return Path(os.environ.get("LAKESCORE_HOME") or ".lakescore").absolute()


def embedded_store() -> Path:
    """Return the SQLite file of the embedded MLflow store, whether or not it exists."""
    return home() / "mlflow.db"


@cache
def scratch() -> Path:
    """Return the private folder of this process for copies, which is deleted when it ends."""
    folder = Path(tempfile.mkdtemp(prefix="lakescore-"))  # mode 0700
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
