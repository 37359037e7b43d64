"""Failures: which file of a table Spark could not read, and why."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from lakescore import executor
from lakescore.arrow import arrow_type, is_plain
from lakescore.errors import InputContractError
from lakescore.runner import FAILURES
from lakescore.storage import plain_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyspark.sql import DataFrame

    from lakescore.snapshots import Snapshot

_GONE = re.compile(
    r"FILE_NOT_EXIST\] .*? reading file (?P<file>.+?)\. File does not exist"
    r"|File (?P<of_3_5>[^\n]+) does not exist\s+It is possible the underlying files"
)
_UNREADABLE = re.compile(
    r"\[FAILED_READ_FILE[.\w]*\] [^\n]*? reading file (?P<file>.+?)\."
    r"\s+(?:(?P<why>[A-Z][^\n]*?)\.?\s+)?SQLSTATE"
    r"|(?:error while reading|cannot be converted in) file (?P<of_3_5>\S+)\."
    r"(?: (?P<why_of_3_5>Column: [^\n]*?)\.?\n)?"
)
_UNNAMED = re.compile(
    r": (java\.lang\.\w+(?:: [^\n]*)?)\n\s*at org\.apache\.parquet\."
    r"|SparkRuntimeException: (Found duplicate field[^\n]*)"
)
"""Errors of a Parquet reader for which Spark does not name the file."""
_MOST_SUSPECTS = 20
_CAUSE = re.compile(r"\nCaused by: (?:[\w.$]+: )?([^\n]*)")


class FilesGone(InputContractError):
    """Files that a version of a table needs do not exist any more."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"the file {path} does not exist any more, but the version of the table that the run "
            "reads needs it; probably VACUUM removed it; restore it, or read a newer version, and "
            "keep files longer (delta.deletedFileRetentionDuration)"
        )


class FileUnreadable(InputContractError):
    """Spark cannot read a file of a table."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"Spark cannot read {path}, a file of the table: {reason}; write its rows again in a "
            "format that Spark reads, with the types of the table, or restore the file"
        )


@contextmanager
def reading(snapshot: Snapshot) -> Iterator[None]:
    """Raise a one-line error if Spark cannot read a file of *snapshot* while the body runs.

    Raises:
        FilesGone, FileUnreadable: Spark cannot read a file.
    """
    try:
        yield
    except FAILURES as error:
        if (known := unread(error, lambda: snapshot.rows)) is not None:
            raise known from error
        raise


def unread(
    error: BaseException, read: Callable[[], DataFrame] | None = None
) -> FilesGone | FileUnreadable | None:
    """Return the lakescore error for an *error* of Spark that could not read a file of a table.

    Args:
        error: the error that Spark raised.
        read: returns the rows that Spark read, to find the file if Spark does not name it.
    """
    text = str(error)
    if (match := _GONE.search(text)) is not None:
        return FilesGone(match["file"] or match["of_3_5"])
    if (match := _UNREADABLE.search(text)) is not None:
        causes = [cause for cause in _CAUSE.findall(text[match.end() :]) if cause]
        why = match["why"] or match["why_of_3_5"]
        reason = why or (causes[-1] if causes else "Spark gives no reason")
        return FileUnreadable(unquote(match["file"] or match["of_3_5"]), reason)
    if (match := _UNNAMED.search(text)) is None:
        return None
    path, reason = _find_unreadable(read()) if read is not None else ("", "")
    return FileUnreadable(path or "one that it does not name", reason or match[1] or match[2])


def _find_unreadable(rows: DataFrame) -> tuple[str, str]:
    """Return the first file of *rows* that Spark cannot read, and how its types differ."""
    columns = [
        executor.Column(stored=f.name, partition=False, read=kind, give=kind, widens=False)
        for f in rows.schema
        if is_plain(f.dataType)
        for kind in [arrow_type(f.dataType)]
    ]
    tried = 0
    for uri in rows.inputFiles():
        path = unquote(urlsplit(uri).path)
        reason = executor.footer(path, columns)[1] if urlsplit(uri).scheme == "file" else None
        if reason and tried < _MOST_SUSPECTS:
            tried += 1
            file_rows = rows.sparkSession.read.schema(rows.schema).parquet(plain_path(path))
            try:
                file_rows.write.format("noop").mode("append").save()
            except FAILURES:
                return path, f"it {reason}"
    return "", ""
