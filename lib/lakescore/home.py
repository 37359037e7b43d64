"""Where lakescore keeps its data when nothing else is configured: one folder.

`LAKESCORE_HOME` names it, `./.lakescore` is the default. It holds the embedded MLflow store
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
    """Return the data folder as an absolute path; it need not exist."""
    return Path(os.environ.get("LAKESCORE_HOME") or ".lakescore").absolute()


def embedded_store() -> Path:
    """Return the SQLite file of the embedded MLflow store; it need not exist."""
    return home() / "mlflow.db"


@cache
def scratch() -> Path:
    """Return this process's own folder for private copies, which goes with the process."""
    folder = Path(tempfile.mkdtemp(prefix="lakescore-"))  # mode 0700
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
