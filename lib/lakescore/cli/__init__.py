"""Define the `lakescore` command, which works with model versions, and runs jobs.

Each command calls `lakescore.registry`. With `--json` it prints the facts of the result, otherwise
a table of 80 columns. The import of this package imports neither MLflow nor Rich.
"""

from lakescore.cli import (  # noqa: F401 - these modules add their commands
    applying,
    environments,
    explaining,
    jobs,
    moving,
    reading,
    reporting,
    running,
    serving,
    writing,
)
from lakescore.cli.app import app

__all__ = ["app"]
