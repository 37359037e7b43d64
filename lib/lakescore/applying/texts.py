"""Texts to copy: a job's file, lines of Python, and SQL.

Names of columns and tables are data of strangers, so each language gets them as its own quoted
values, and comments have only text in ASCII without breaks of lines.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from lakescore.tables.sql import literal, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WIDE = 10_000
"""So wide that YAML folds no text."""


def shown(text: str) -> str:
    """Return *text* in quotes, for a comment: in ASCII and without breaks of lines."""
    return json.dumps(text)


def job_file(job: Mapping[str, Any], notes: Sequence[str]) -> str:
    """Return the job's file with the keys of *job*, below *notes* as comments."""
    names = json.dumps(job, ensure_ascii=False)
    body = yaml.safe_dump(
        dict(job), sort_keys=False, width=_WIDE, allow_unicode=names.isprintable()
    )
    return _comment("#", notes) + body


def python(job: Mapping[str, Any], notes: Sequence[str]) -> str:
    """Return lines of Python that run the *job*, below *notes* as comments."""
    arguments = "".join(f"    {name}={value!r},\n" for name, value in job.items())
    return f"{_comment('#', notes)}import lakescore\n\nreceipt = lakescore.score(\n{arguments})\n"


def sql(
    version: str,
    address: str,
    keys: Sequence[str],
    sources: Mapping[str, str],
    notes: Sequence[str],
) -> str:
    """Return a query that predicts the rows of a table by the function PREDICT.

    Args:
        version: the version, as `name/3`.
        address: the path or URI of the table.
        keys: columns to show beside the prediction.
        sources: by feature, the table's column.
        notes: the comments above.
    """
    features = ", ".join(f"{quoted(name)} => {quoted(c)}" for name, c in sources.items())
    shown_keys = "".join(f"{quoted(name)}, " for name in keys)
    return (
        f"{_comment('--', notes)}"
        f"SELECT {shown_keys}PREDICT({literal(version)}, {features}) AS prediction\n"
        f"FROM delta.{quoted(address)}\n"
    )


def _comment(mark: str, notes: Sequence[str]) -> str:
    return "".join(f"{mark} {note}\n" for note in notes)
