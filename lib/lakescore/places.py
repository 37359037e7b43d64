"""Places where jobs run: a place is a file of Spark's properties."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def read_properties(path: Path) -> dict[str, str]:
    """Read a file in Spark's properties format: `key value`, `#` comments."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (re.split(r"[\s=]+", line, maxsplit=1) for line in lines if line and line[0] != "#")
    return {key: value for key, value in pairs}  # noqa: C416 - each pair is a list
