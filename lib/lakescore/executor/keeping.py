"""Keeping: the objects that a worker process keeps from one task to the next.

Each task unpickles the package again, so the package's own modules keep nothing.
"""

from __future__ import annotations

import sys
import types
from typing import Any

_NAME = "_lakescore_kept"


def shelf() -> dict[str, Any]:
    """Return the objects that this process keeps, by name."""
    return vars(sys.modules.setdefault(_NAME, types.ModuleType(_NAME)))


def forget() -> None:
    """Drop all objects that the parent process of this fork kept."""
    sys.modules.pop(_NAME, None)


def is_used() -> bool:
    """Return whether this process has used a model."""
    return not {"models", "processes"}.isdisjoint(shelf())


def count(name: str, amount: float) -> None:
    """Add *amount* to the count *name* of this process."""
    shelf()[name] = counted(name) + amount


def counted(name: str) -> float:
    """Return the count *name*: loads, aligned rows, or CPU seconds of the models' processes."""
    value: float = shelf().get(name, 0)
    return value
