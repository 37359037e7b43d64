"""History: what the commits of a table say, and the files that they added or removed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lakescore.storage import Folder

MADE = {"lakescore": "made this table, for a run that has not published yet"}
"""The commit metadata of the commit that makes a table."""


@dataclass(frozen=True)
class FileChange:
    """A file of a table that was added or removed by a commit that changed rows."""

    version: int
    """The version of the commit."""
    name: str
    """The file's name without folders; no other file of the table has it."""
    added: bool
    partition: Mapping[str, str | None]
    """The partition values of all its rows, as texts, by the columns' names in the files."""
    size: int
    """The file's size in bytes."""


def said(text: str | None) -> dict[str, Any] | None:
    """Return the metadata in a commit's `userMetadata`; None if it is not a JSON object."""
    try:
        metadata = json.loads(text or "null")
    except ValueError:
        return None
    return metadata if isinstance(metadata, dict) else None


def has_published(history: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether one of all commits of a table without rows published anything.

    None did if lakescore made the table, and every later commit is a commit of lakescore without
    rows.
    """
    commits = sorted(history, key=lambda commit: int(commit["version"]))
    ours = [
        metadata
        for commit in commits
        if _row_count(commit) == "0" and (metadata := said(commit.get("userMetadata"))) is not None
    ]
    is_made = bool(ours) and MADE.items() <= ours[0].items()
    return len(ours) < len(commits) or not is_made or commits[0]["version"] != 0


def _row_count(commit: Mapping[str, Any]) -> str | None:
    metrics = commit.get("operationMetrics") or {}
    count = metrics.get("numOutputRows")
    return None if count is None else str(count)


def changes(place: Folder, after: int, last: int) -> list[FileChange] | None:
    """Return the files that were added or removed after the version *after*, up to *last*.

    The result is None if the log no longer has these commits as files of JSON.
    """
    file_changes = []
    for version in range(after + 1, last + 1):
        text = place.read(f"_delta_log/{version:020}.json")
        if text is None:
            return None
        for line in text.decode().splitlines():
            file_changes += list(_file_changes(version, json.loads(line)))
    return file_changes


def _file_changes(version: int, action: Mapping[str, Any]) -> Iterator[FileChange]:
    for kind in action.keys() & {"add", "remove"}:
        file = action[kind]
        if file.get("dataChange", True):
            name = unquote(file["path"]).rsplit("/", 1)[-1]
            partition, size = file.get("partitionValues") or {}, file.get("size") or 0
            yield FileChange(version, name, kind == "add", partition, size)
