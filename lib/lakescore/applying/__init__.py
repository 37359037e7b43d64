"""Applying: how a version scores a table: its job's file, lines of Python, and SQL, to copy.

Nothing is scored. A proposal binds the columns by `lakescore.signature`, as the job does.
"""

from lakescore.applying.errors import UNFIT, ColumnsOpen, JobFileExists, KeysOpen, NameNotRead
from lakescore.applying.proposal import Choices, Proposal, Request
from lakescore.applying.requesting import outline, request
from lakescore.applying.source import Keys, Source, read_source

__all__ = [
    "UNFIT",
    "Choices",
    "ColumnsOpen",
    "JobFileExists",
    "Keys",
    "KeysOpen",
    "NameNotRead",
    "Proposal",
    "Request",
    "Source",
    "outline",
    "read_source",
    "request",
]
