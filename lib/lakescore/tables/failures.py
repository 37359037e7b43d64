"""Failures: the errors of Spark, Delta and stores become one-line errors of lakescore."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyspark.errors import AnalysisException

from lakescore import executor
from lakescore.filing import FilesUnwritten
from lakescore.logs import AnotherRunWon
from lakescore.runner import FAILURES
from lakescore.storage import FolderRefused, StorageFull, explain_error
from lakescore.tables.errors import SchemaDrift, TableAppendOnly

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakescore.errors import LakescoreError

_CONFLICT = re.compile(
    r"\[DELTA_(?:CONCURRENT_\w+|METADATA_CHANGED|PROTOCOL_CHANGED)[\].]"
    r"|\b(?:ConcurrentAppend|ConcurrentDelete\w+|ConcurrentTransaction|ConcurrentWrite"
    r"|MetadataChanged|ProtocolChanged)Exception\b"
)
"""Delta's errors for another commit that came first."""
_RULE = re.compile(
    r"\[DELTA_(?:VIOLATE_CONSTRAINT_WITH_VALUES|NOT_NULL_CONSTRAINT_VIOLATED"
    r"|EXCEED_CHAR_VARCHAR_LIMIT)\] (.+?)(?=\s*(?:\n\s*at |\n\n|\Z))"
    r"|\[(?:NOT_NULL_ASSERT_VIOLATION|EXCEED_LIMIT_LENGTH)\] ([^\n]+?)(?= SQLSTATE|\n|\Z)"
    r"|NullPointerException: (Null value appeared in non-nullable field[^\n]*)",  # Spark 3.5
    re.DOTALL,
)
"""Errors for a row that breaks a rule of the table.

Delta names the rule after the failed operation, or before a trace. Spark names it for a MERGE, but
without the column.
"""
_REFUSED = re.compile(
    r"\[DELTA_CANNOT_CREATE_LOG_PATH\] [^\n]+"
    r"|(?:Permission denied|Operation not permitted|Read-only file system)"
)
_MISPLACED = re.compile(rf"\b{executor.Misplaced.__name__}: (.+)")
_UNWRITTEN = re.compile(rf"\b{executor.Unwritten.__name__}: (.+)")
_NO_SPACE = "No space left on device"


@contextmanager
def explain_errors(address: str, what: str) -> Iterator[None]:
    """Turn errors of a write of *what* to the table at *address* into one-line errors."""
    try:
        yield
    except Exception as error:
        known = _table_error(error, address, what)
        if known is None:
            raise
        raise known from error


@contextmanager
def explain_storage_errors(address: str) -> Iterator[None]:
    """Turn errors of the object store of the table at *address* into one-line errors."""
    try:
        yield
    except FAILURES as error:
        if (known := explain_error(error, address)) is not None:
            raise known from error
        raise


def is_conflict(error: Exception) -> bool:
    """Return whether *error* is Delta's error for another commit that came first."""
    return _CONFLICT.search(f"{type(error).__name__} {error}") is not None


def _table_error(error: Exception, address: str, what: str) -> LakescoreError | None:
    """Return the lakescore error for an *error* of Delta or Spark in a write to the table."""
    if isinstance(error, FAILURES):
        return _spark_error(error, address, what) or _storage_error(error, address)
    if isinstance(error, OSError) or type(error).__module__.startswith("_internal"):
        return _storage_error(error, address)
    return None


def _spark_error(  # noqa: PLR0911 - a case a line
    error: Exception, address: str, what: str
) -> LakescoreError | None:
    text = str(error)
    if (misplaced := _MISPLACED.search(text)) is not None:
        return SchemaDrift(address, misplaced[1])
    if _NO_SPACE not in text and (unwritten := _UNWRITTEN.search(text)) is not None:
        return FilesUnwritten(address, unwritten[1])
    if is_conflict(error):
        return AnotherRunWon(address, what)
    if (rule := _RULE.search(text)) is not None:
        return SchemaDrift(address, " ".join((rule[1] or rule[2] or rule[3]).split()).rstrip(".: "))
    if "[DELTA_CANNOT_MODIFY_APPEND_ONLY]" in text:
        return TableAppendOnly(address, default=False)
    if isinstance(error, AnalysisException):
        if "already exists" in text:
            return AnotherRunWon(address, what)
        return SchemaDrift(address, text.strip().splitlines()[0])
    return None


def _storage_error(error: Exception, address: str) -> LakescoreError | None:
    text = str(error)
    if _NO_SPACE in text:
        return StorageFull(address)
    if (known := explain_error(error, address)) is not None:
        return known
    # In a Python trace, the refused folder can be one that the model uses.
    refused = None if "Traceback (most recent call last)" in text else _REFUSED.search(text)
    return FolderRefused(address, refused[0]) if refused else None
