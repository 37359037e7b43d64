"""The files of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakescore.errors import ConfigError
from lakescore.reporting.markdown import summary
from lakescore.reporting.rendering import page

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class ReportNotWritten(ConfigError):
    """The report cannot be written to its folder."""

    def __init__(self, folder: object, reason: str) -> None:
        super().__init__(f"cannot write the report to {folder}: {reason}; name another folder")


def write(document: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Write the page and the summary of a comparison, and return their paths.

    Args:
        document: the result of `comparing.document`.
        folder: the folder, which is created if it is missing. The comparison's run id names the
            files.

    Returns:
        `html` and `markdown`.

    Raises:
        ReportNotWritten: the folder cannot be written to.
    """
    name = f"compare-{document['run_id']}".replace(":", "-")
    return {
        "html": save(page(document), folder / f"{name}.html"),
        "markdown": save(summary(document), folder / f"{name}.md"),
    }


def save(text: str, file: Path) -> Path:
    """Write a text completely or not at all, create missing folders, and return the file's path.

    Raises:
        ReportNotWritten: the file cannot be written.
    """
    unfinished = file.with_name(f".{file.name}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(file)
    except OSError as error:
        raise ReportNotWritten(file.parent, error.strerror or str(error)) from error
    return file
