"""Logs: read the log of a Delta table, and commit to it, with delta-rs and without Spark.

This package declines every table that delta-rs does not read or write exactly as Spark does; then
Spark reads or writes it.
"""

from lakescore.logs.creating import create
from lakescore.logs.errors import AnotherRunWon, NotEligible
from lakescore.logs.files import File, NewFile
from lakescore.logs.history import MADE, FileChange, changes, said
from lakescore.logs.log import Log
from lakescore.logs.protocol import STORED

__all__ = [
    "MADE",
    "STORED",
    "AnotherRunWon",
    "File",
    "FileChange",
    "Log",
    "NewFile",
    "NotEligible",
    "changes",
    "create",
    "said",
]
