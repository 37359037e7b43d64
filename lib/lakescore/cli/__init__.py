"""The `lakescore` command: everything that one does with model versions, without Spark.

Each command is a call of `lakescore.registry`; with `--json` it prints the facts of what comes
back, else a table of 80 columns. Importing it imports neither MLflow nor Rich.
"""

from lakescore.cli import (  # noqa: F401 - they add their commands
    explaining,
    jobs,
    moving,
    reading,
    reporting,
    serving,
    writing,
)
from lakescore.cli.app import app

__all__ = ["app"]
